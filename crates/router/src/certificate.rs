//! Our own certificate: made in memory and renewed there, or read from files and read again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use cocoon_attest::identity::file_names;
use cocoon_attest::quote_source::{FakeQuotes, QuoteSource, TdxGuest};
use cocoon_attest::{IdentityError, TlsIdentity};
use serde::{Deserialize, Serialize};

/// What a certificate made in memory carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateMode {
    /// Nothing but the key: clients, which nobody attests.
    None,
    /// A fake quote: test networks only.
    FakeTdx,
    /// A quote of the TDX guest that the router runs in.
    Tdx,
}

impl CertificateMode {
    /// The name in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CertificateMode::None => "none",
            CertificateMode::FakeTdx => "fake_tdx",
            CertificateMode::Tdx => "tdx",
        }
    }
}

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// `<base>_cert.pem` and `<base>_key.pem`, which somebody else renews.
    Files(PathBuf),
    /// Made here; the key never leaves the process.
    Memory(CertificateMode),
    /// Made here, with quotes of another source than the mode `tdx` knows.
    Attested(SharedQuotes),
}

/// A source of quotes as a part of comparable settings: equal only to itself.
#[derive(Clone)]
pub struct SharedQuotes(pub Arc<dyn QuoteSource>);

impl fmt::Debug for SharedQuotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("quotes")
    }
}

impl PartialEq for SharedQuotes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedQuotes {}

/// What a look at the source changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Nothing; it still holds.
    Unchanged,
    /// A new certificate is in use for new connections; living ones keep theirs.
    Replaced,
}

/// The certificate in use.
pub struct Certificate {
    source: CertificateSource,
    current: RwLock<Current>,
}

struct Current {
    identity: TlsIdentity,
    /// When the files were written last; none in memory.
    stamp: Option<Stamp>,
}

type Stamp = (SystemTime, SystemTime);

impl Certificate {
    /// Makes or reads the first certificate. Blocks on files or on the hardware.
    pub fn open(source: CertificateSource, now: u64) -> Result<Self, IdentityError> {
        let current = RwLock::new(source.load(now)?);
        Ok(Certificate { source, current })
    }

    /// The certificate for a new connection.
    #[must_use]
    pub fn get(&self) -> TlsIdentity {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.identity.clone()
    }

    /// Looks whether it is time for another certificate. On an error the old one stays in use, and the next call
    /// tries again. Blocks like [`Self::open`].
    pub fn refresh(&self, now: u64) -> Result<Refresh, IdentityError> {
        let due = match &self.source {
            CertificateSource::Memory(_) | CertificateSource::Attested(_) => {
                self.get().needs_renewal(now)
            }
            // Files that vanish for a moment while they are replaced are no news.
            CertificateSource::Files(base) => stamp(base).is_some_and(|now| {
                let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
                current.stamp != Some(now)
            }),
        };
        if !due {
            return Ok(Refresh::Unchanged);
        }
        let fresh = self.source.load(now)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(Refresh::Replaced)
    }
}

impl CertificateSource {
    fn load(&self, now: u64) -> Result<Current, IdentityError> {
        let in_memory = |identity| Current {
            identity,
            stamp: None,
        };
        let attested = |quotes: &dyn QuoteSource| TlsIdentity::attested(quotes, now);
        Ok(match self {
            CertificateSource::Files(base) => {
                // Taken first: if the files change while they are read, the next look sees another time.
                let stamp = stamp(base);
                let identity = TlsIdentity::load(base)?;
                Current { identity, stamp }
            }
            CertificateSource::Memory(CertificateMode::None) => in_memory(TlsIdentity::generate(
                cocoon_attest::CertificateMode::None,
                now,
            )?),
            CertificateSource::Memory(CertificateMode::FakeTdx) => {
                in_memory(attested(&FakeQuotes)?)
            }
            CertificateSource::Memory(CertificateMode::Tdx) => {
                in_memory(attested(&TdxGuest::default())?)
            }
            CertificateSource::Attested(quotes) => in_memory(attested(&*quotes.0)?),
        })
    }
}

fn stamp(base: &Path) -> Option<Stamp> {
    let (certificate, key) = file_names(base);
    let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    Some((modified(&certificate)?, modified(&key)?))
}
