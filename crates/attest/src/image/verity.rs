//! The dm-verity root hash and hash device of a model package (spec 6.7), computed while the data streams by.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// Bytes of a data block and of a hash block.
pub const BLOCK_LEN: usize = 4_096;
/// Salt of every model's tree.
pub const SALT: [u8; 17] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x10, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e,
    0x1f,
];
/// UUID of every model's tree.
pub const MODEL_UUID: [u8; 16] = [
    0x64, 0x5a, 0xc3, 0x1f, 0x76, 0x10, 0x42, 0xe1, 0x84, 0x34, 0x9d, 0x73, 0x36, 0x99, 0xea, 0xc0,
];

/// Takes data as it comes and hashes it; memory does not grow with the data unless the hash device is asked for.
#[derive(Debug, Default)]
pub struct Verity {
    block: Vec<u8>,
    blocks: u64,
    levels: Vec<Level>,
    keep: bool,
}

#[derive(Debug, Default)]
struct Level {
    /// Digests that do not fill a block yet.
    open: Vec<u8>,
    /// How many digests came so far.
    count: u64,
    /// Full blocks, if they are kept.
    done: Vec<u8>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerityTree {
    /// The root hash.
    pub root: [u8; 32],
    /// Blocks of data.
    pub data_blocks: u64,
    /// Superblock and levels, if they were asked for.
    pub hash_device: Option<Vec<u8>>,
}

impl Verity {
    /// Only the root hash.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The hash device as well, in memory: a 128th of the data.
    #[must_use]
    pub fn with_hash_device() -> Self {
        Verity {
            keep: true,
            ..Self::default()
        }
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.blocks * BLOCK_LEN as u64 + self.block.len() as u64
    }

    /// Whether nothing was taken yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds zeros as a model package ends: at least one, at most a block.
    pub fn pad(&mut self) {
        let zeros = BLOCK_LEN - self.block.len();
        self.take(&[0; BLOCK_LEN][..zeros]);
    }

    fn take(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(BLOCK_LEN - self.block.len()));
            self.block.extend_from_slice(now);
            data = later;
            if self.block.len() == BLOCK_LEN {
                let digest = salted(&self.block);
                self.block.clear();
                self.blocks += 1;
                self.push(0, digest);
            }
        }
    }

    fn push(&mut self, level: usize, digest: [u8; 32]) {
        if self.levels.len() == level {
            self.levels.push(Level::default());
        }
        let this = &mut self.levels[level];
        this.open.extend_from_slice(&digest);
        this.count += 1;
        if this.open.len() == BLOCK_LEN {
            let digest = salted(&this.open);
            if self.keep {
                this.done.extend_from_slice(&this.open);
            }
            this.open.clear();
            self.push(level + 1, digest);
        }
    }

    /// The tree over everything taken, which must be whole blocks and at least one.
    pub fn finish(mut self) -> io::Result<VerityTree> {
        if !self.block.is_empty() || self.blocks == 0 {
            let what = format!(
                "{} bytes are no whole number of {BLOCK_LEN}-byte blocks",
                self.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let mut level = 0;
        // The level with a single digest is the root; what is open below it is filled up with zeros.
        while self.levels[level].count > 1 {
            let this = &mut self.levels[level];
            if !this.open.is_empty() {
                this.open.resize(BLOCK_LEN, 0);
                let digest = salted(&this.open);
                let block = std::mem::take(&mut this.open);
                if self.keep {
                    this.done.extend_from_slice(&block);
                }
                self.push(level + 1, digest);
            }
            level += 1;
        }
        let mut root = [0; 32];
        root.copy_from_slice(&self.levels[level].open[..32]);
        let hash_device = self.keep.then(|| {
            let mut device = superblock(self.blocks);
            for level in self.levels[..level].iter().rev() {
                device.extend_from_slice(&level.done);
            }
            device
        });
        Ok(VerityTree {
            root,
            data_blocks: self.blocks,
            hash_device,
        })
    }
}

impl Write for Verity {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.take(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn salted(block: &[u8]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(SALT).chain_update(block);
    hash.finalize().into()
}

/// The first block of a hash device.
fn superblock(data_blocks: u64) -> Vec<u8> {
    let mut out = vec![0; BLOCK_LEN];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"verity\0\0");
    put(8, &1u32.to_le_bytes());
    put(12, &1u32.to_le_bytes());
    put(16, &MODEL_UUID);
    put(32, b"sha256");
    put(64, &(BLOCK_LEN as u32).to_le_bytes());
    put(68, &(BLOCK_LEN as u32).to_le_bytes());
    put(72, &data_blocks.to_le_bytes());
    put(80, &(SALT.len() as u16).to_le_bytes());
    put(88, &SALT);
    out
}
