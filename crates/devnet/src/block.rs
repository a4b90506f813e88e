//! Blocks: a header with the money figures and the list of transactions, each sealed by a hash over the one before.

use cocoon_ton::Address;
use sha2::{Digest, Sha256};

/// Where all coins are, in nanoTON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Supply {
    /// On accounts.
    pub accounts: u128,
    /// In messages on their way, with the forward fees they still carry.
    pub in_queues: u128,
    /// Taken as fees since the genesis.
    pub burned_fees: u128,
    /// Made by the genesis.
    pub genesis: u128,
}

impl Supply {
    /// Accounts, messages and burned fees together; `None` if the sum does not fit.
    pub fn total(&self) -> Option<u128> {
        self.accounts
            .checked_add(self.in_queues)?
            .checked_add(self.burned_fees)
    }

    /// Whether no coin appeared or vanished.
    pub fn is_conserved(&self) -> bool {
        self.total() == Some(self.genesis)
    }
}

/// A transaction as a block lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockTransaction {
    /// Whose.
    pub account: Address,
    /// Logical time.
    pub lt: u64,
    /// Hash of the transaction cell.
    pub hash: [u8; 32],
}

/// One block of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Number, 0 for the genesis.
    pub seqno: u32,
    /// Hash of the block before, zeros for the genesis.
    pub prev_hash: [u8; 32],
    /// Unix time in seconds, never smaller than that of the block before.
    pub utime: u32,
    /// First logical time.
    pub start_lt: u64,
    /// Logical time after everything in the block.
    pub end_lt: u64,
    /// Where all coins are after the block.
    pub supply: Supply,
    /// Transactions in the order of execution.
    pub transactions: Vec<BlockTransaction>,
}

/// Separates block hashes from every other SHA-256 in the system.
const HASH_DOMAIN: &[u8] = b"cocoon devnet block 1\n";
const HEADER_LEN: usize = 4 + 32 + 4 + 8 + 8 + 4 * 16 + 4;
const TRANSACTION_LEN: usize = 33 + 8 + 32;

/// Why stored bytes are not a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Too short or too long.
    #[error("a block record has {found} bytes, expected {expected}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// The seal does not match.
    #[error("the hash of block {0} does not match its contents")]
    Hash(u32),
}

impl Block {
    /// Hash of the block: SHA-256 of the domain and the encoding.
    pub fn hash(&self) -> [u8; 32] {
        seal(&self.encode_unsealed())
    }

    /// Random seed of the block: known only from the block before on, and the same on every replay.
    pub fn rand_seed(prev_hash: &[u8; 32], seqno: u32, utime: u32) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"cocoon devnet seed 1\n");
        hasher.update(prev_hash);
        hasher.update(seqno.to_be_bytes());
        hasher.update(utime.to_be_bytes());
        hasher.finalize().into()
    }

    /// The stored form: the encoding and its hash.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.encode_unsealed();
        let hash = seal(&out);
        out.extend_from_slice(&hash);
        out
    }

    fn encode_unsealed(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(HEADER_LEN + self.transactions.len() * TRANSACTION_LEN + 32);
        out.extend_from_slice(&self.seqno.to_be_bytes());
        out.extend_from_slice(&self.prev_hash);
        out.extend_from_slice(&self.utime.to_be_bytes());
        out.extend_from_slice(&self.start_lt.to_be_bytes());
        out.extend_from_slice(&self.end_lt.to_be_bytes());
        for amount in [
            self.supply.accounts,
            self.supply.in_queues,
            self.supply.burned_fees,
            self.supply.genesis,
        ] {
            out.extend_from_slice(&amount.to_be_bytes());
        }
        // A block holds far fewer transactions than a u32 can count (see the limits of the producer).
        out.extend_from_slice(&(self.transactions.len() as u32).to_be_bytes());
        for transaction in &self.transactions {
            out.extend_from_slice(&address_key(&transaction.account));
            out.extend_from_slice(&transaction.lt.to_be_bytes());
            out.extend_from_slice(&transaction.hash);
        }
        out
    }

    /// Reads and checks the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let mut reader = Reader(bytes);
        let too_short = || BlockError::Length {
            found: bytes.len(),
            expected: HEADER_LEN + 32,
        };
        let block = (|| {
            let mut block = Self {
                seqno: u32::from_be_bytes(reader.take()?),
                prev_hash: reader.take()?,
                utime: u32::from_be_bytes(reader.take()?),
                start_lt: u64::from_be_bytes(reader.take()?),
                end_lt: u64::from_be_bytes(reader.take()?),
                supply: Supply {
                    accounts: u128::from_be_bytes(reader.take()?),
                    in_queues: u128::from_be_bytes(reader.take()?),
                    burned_fees: u128::from_be_bytes(reader.take()?),
                    genesis: u128::from_be_bytes(reader.take()?),
                },
                transactions: Vec::new(),
            };
            let count = u32::from_be_bytes(reader.take()?) as usize;
            for _ in 0..count {
                block.transactions.push(BlockTransaction {
                    account: address_from_key(&reader.take()?),
                    lt: u64::from_be_bytes(reader.take()?),
                    hash: reader.take()?,
                });
            }
            Some(block)
        })()
        .ok_or_else(too_short)?;
        let expected = HEADER_LEN + block.transactions.len() * TRANSACTION_LEN + 32;
        if bytes.len() != expected {
            return Err(BlockError::Length {
                found: bytes.len(),
                expected,
            });
        }
        let (body, hash) = bytes.split_at(expected - 32);
        if seal(body) != hash {
            return Err(BlockError::Hash(block.seqno));
        }
        Ok(block)
    }
}

fn seal(encoding: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(HASH_DOMAIN);
    hasher.update(encoding);
    hasher.finalize().into()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }
}

/// An address as 33 bytes that sort by workchain and hash.
pub(crate) fn address_key(address: &Address) -> [u8; 33] {
    let mut key = [0; 33];
    key[0] = (address.workchain as u8) ^ 0x80;
    key[1..].copy_from_slice(&address.hash);
    key
}

pub(crate) fn address_from_key(key: &[u8; 33]) -> Address {
    let mut hash = [0; 32];
    hash.copy_from_slice(&key[1..]);
    Address {
        workchain: (key[0] ^ 0x80) as i8,
        hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Block {
        Block {
            seqno: 7,
            prev_hash: [1; 32],
            utime: 1_780_000_000,
            start_lt: 1_000_000,
            end_lt: 1_000_005,
            supply: Supply {
                accounts: 90,
                in_queues: 5,
                burned_fees: 5,
                genesis: 100,
            },
            transactions: vec![BlockTransaction {
                account: Address {
                    workchain: -1,
                    hash: [2; 32],
                },
                lt: 1_000_001,
                hash: [3; 32],
            }],
        }
    }

    #[test]
    fn survives_encoding() {
        let block = block();
        assert_eq!(Block::decode(&block.encode()), Ok(block.clone()));
        assert!(block.supply.is_conserved());
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let encoded = block().encode();
        for index in 0..encoded.len() {
            let mut changed = encoded.clone();
            changed[index] ^= 1;
            assert!(Block::decode(&changed).is_err(), "byte {index}");
        }
        for length in 0..encoded.len() {
            assert!(Block::decode(&encoded[..length]).is_err());
        }
    }
}
