//! The few operations on files through which a kernel is asked, and the real kernel behind them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Errors that the kernel answers with, as Linux numbers them.
pub(super) mod errno {
    pub const EIO: i32 = 5;
    pub const ENXIO: i32 = 6;
    pub const EBUSY: i32 = 16;
    pub const ENODEV: i32 = 19;
    pub const EFBIG: i32 = 27;
    pub const EOPNOTSUPP: i32 = 95;
    pub const ETIMEDOUT: i32 = 110;
}

/// A kernel, asked by the files of `/proc`, `/sys` and configfs. Paths are relative to the root directory.
///
/// Every operation is one try: an interrupted one is reported as [`io::ErrorKind::Interrupted`], so that whoever asks
/// decides how often to ask again.
pub trait Kernel: Send + Sync {
    /// The content of a file, refused beyond `limit` bytes.
    fn read(&self, path: &str, limit: usize) -> io::Result<Vec<u8>>;
    /// Hands bytes to a file that exists, in a single write.
    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes a directory.
    fn make_directory(&self, path: &str) -> io::Result<()>;
    /// Removes a directory of the kernel's, whose files go with it.
    fn remove_directory(&self, path: &str) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Whether something is there.
    fn exists(&self, path: &str) -> bool;
    /// The path as a person finds it.
    fn place(&self, path: &str) -> PathBuf;
}

/// The kernel this process runs on, or a tree that was recorded from another.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl System {
    /// The kernel whose files lie under this root.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        System {
            root: root.to_owned(),
        }
    }
}

impl Kernel for System {
    fn read(&self, path: &str, limit: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.place(path))?;
        let mut out = Vec::new();
        // Sysfs files show a size of a page whatever they hold, and `read_to_end` would hide interruptions.
        let mut piece = [0; 16 * 1024];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(out),
                n if out.len() + n > limit => {
                    let what = format!("it has more than {limit} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                n => out.extend_from_slice(&piece[..n]),
            }
        }
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.place(path))?;
        match file.write(bytes)? {
            n if n == bytes.len() => Ok(()),
            n => {
                let what = format!("the kernel took {n} of {} bytes", bytes.len());
                Err(io::Error::new(io::ErrorKind::WriteZero, what))
            }
        }
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        fs::create_dir(self.place(path))
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.place(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(self.place(path))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>()?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &str) -> bool {
        self.place(path).exists()
    }

    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}
