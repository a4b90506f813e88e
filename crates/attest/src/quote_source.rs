//! Where the quote in our own certificate comes from (spec 1.4).
//!
//! A [`QuoteSource`] turns the hash of a fresh key into evidence; [`crate::TlsIdentity::attested`] puts both into a
//! certificate. The genuine source is [`TdxGuest`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::guest::host::{CPUINFO, is_tdx_guest};
use crate::guest::{GuestError, Kernel, Provider, Reports, System};

/// Makes quotes on this machine.
pub trait QuoteSource: Send + Sync {
    /// A quote that carries these 64 bytes (see [`crate::profile::report_data`]). May block for a second.
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, QuoteSourceError>;
}

/// Why there is no quote.
#[derive(Debug, thiserror::Error)]
pub enum QuoteSourceError {
    /// The guest's side of this machine.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// Another source's system refused.
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

/// The TDX guest that this process runs in, through the kernel's configfs interface ([`crate::guest`]).
#[derive(Clone)]
pub struct TdxGuest {
    kernel: Arc<dyn Kernel>,
    reports: Reports,
}

impl Default for TdxGuest {
    fn default() -> Self {
        Self::on(Arc::new(System::default()))
    }
}

impl TdxGuest {
    /// A guest whose `/proc` and `/sys` lie under another root, for recorded trees.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self::on(Arc::new(System::at(root)))
    }

    /// A guest with this kernel.
    #[must_use]
    pub fn on(kernel: Arc<dyn Kernel>) -> Self {
        TdxGuest {
            reports: Reports::new(kernel.clone()),
            kernel,
        }
    }
}

impl QuoteSource for TdxGuest {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, QuoteSourceError> {
        if !is_tdx_guest(&*self.kernel) {
            return Err(GuestError::NotAGuest {
                wanted: "TDX",
                flag: "tdx_guest",
                cpuinfo: self.kernel.place(CPUINFO),
            }
            .into());
        }
        let report = self.reports.report(report_data, Some(Provider::Tdx))?;
        Ok(report.evidence)
    }
}
