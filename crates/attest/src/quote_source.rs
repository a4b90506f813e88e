//! Where the quote in our own certificate comes from (spec 1.4).
//!
//! A [`QuoteSource`] turns the hash of a fresh key into evidence; [`crate::TlsIdentity::attested`] puts both into a
//! certificate. The genuine source needs a TDX guest; [`TdxGuest`] finds out what of it is missing.

use std::io;
use std::path::{Path, PathBuf};

/// Makes quotes on this machine.
pub trait QuoteSource: Send + Sync {
    /// A quote that carries these 64 bytes (see [`crate::profile::report_data`]). May block for a second.
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, QuoteSourceError>;
}

/// Why there is no quote.
#[derive(Debug, thiserror::Error)]
pub enum QuoteSourceError {
    /// The processor is no TDX guest's.
    #[error(
        "this machine is no TDX guest ({} does not list the processor flag tdx_guest): run it inside a TDX virtual machine, or use the certificate mode none", cpuinfo.display()
    )]
    NotAGuest {
        /// Where it was looked up.
        cpuinfo: PathBuf,
    },
    /// The kernel offers no quotes.
    #[error(
        "the kernel of this TDX guest offers no quotes ({} is missing): it needs Linux 6.7 or later with CONFIG_TSM_REPORTS and the module tdx_guest, and configfs mounted at /sys/kernel/config", directory.display()
    )]
    NoConfigfs {
        /// Where the kernel would offer them.
        directory: PathBuf,
    },
    /// Everything is there but the code.
    #[error(
        "this build cannot take quotes from {} yet: make the certificate with the guest image's own tool and name it with --cert", directory.display()
    )]
    NotInThisBuild {
        /// Where the kernel offers them.
        directory: PathBuf,
    },
    /// The system refused.
    #[error("cannot take a quote: {0}")]
    Io(#[from] io::Error),
}

/// Fake quotes, which anybody can make: tests and development only, see [`crate::guard_network`].
#[derive(Debug, Clone, Copy, Default)]
pub struct FakeQuotes;

impl QuoteSource for FakeQuotes {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, QuoteSourceError> {
        Ok(report_data.to_vec())
    }
}

/// The TDX guest that this process runs in, through the kernel's configfs interface.
///
/// This build only says what is missing; it takes no quotes yet.
#[derive(Debug, Clone)]
pub struct TdxGuest {
    cpuinfo: PathBuf,
    reports: PathBuf,
}

impl Default for TdxGuest {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl TdxGuest {
    /// A guest whose `/proc` and `/sys` lie under another root, for tests.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        TdxGuest {
            cpuinfo: root.join("proc/cpuinfo"),
            reports: root.join("sys/kernel/config/tsm/report"),
        }
    }
}

impl QuoteSource for TdxGuest {
    fn quote(&self, _report_data: &[u8; 64]) -> Result<Vec<u8>, QuoteSourceError> {
        let flags = std::fs::read_to_string(&self.cpuinfo).unwrap_or_default();
        let is_guest = flags
            .lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|flag| flag == "tdx_guest"));
        if !is_guest {
            return Err(QuoteSourceError::NotAGuest {
                cpuinfo: self.cpuinfo.clone(),
            });
        }
        let directory = self.reports.clone();
        Err(if directory.is_dir() {
            QuoteSourceError::NotInThisBuild { directory }
        } else {
            QuoteSourceError::NoConfigfs { directory }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let guest = TdxGuest::at(dir.path());
        let refused = || guest.quote(&[0; 64]).unwrap_err();
        assert!(matches!(refused(), QuoteSourceError::NotAGuest { .. }));
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        let cpuinfo = dir.path().join("proc/cpuinfo");
        std::fs::write(&cpuinfo, "model name: tdx_guest\nflags\t\t: fpu vme\n").unwrap();
        assert!(matches!(refused(), QuoteSourceError::NotAGuest { .. }));
        std::fs::write(&cpuinfo, "flags\t\t: fpu tdx_guest vme\n").unwrap();
        assert!(refused().to_string().contains("CONFIG_TSM_REPORTS"));
        std::fs::create_dir_all(dir.path().join("sys/kernel/config/tsm/report")).unwrap();
        assert!(matches!(refused(), QuoteSourceError::NotInThisBuild { .. }));
    }
}
