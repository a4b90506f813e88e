//! The imitation of a kernel as the guest's side asks it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_attest::guest::Kernel;
use cocoon_softtee::SoftKernel;

/// A kernel in memory.
#[derive(Clone)]
pub struct Soft(pub Arc<SoftKernel>);

impl Kernel for Soft {
    fn read(&self, path: &str, limit: usize) -> io::Result<Vec<u8>> {
        let bytes = self.0.read(path)?;
        assert!(bytes.len() <= limit, "{path}: {} bytes", bytes.len());
        Ok(bytes)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.write(path, bytes)
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        self.0.make_directory(path)
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.0.remove_directory(path)
    }

    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &str) -> bool {
        self.0.exists(path)
    }

    fn place(&self, path: &str) -> PathBuf {
        Path::new("/").join(path)
    }
}
