//! Quotes and reports through configfs-tsm, the interface of Linux 6.7 and later.
//!
//! A request is a directory made under `/sys/kernel/config/tsm/report`: 64 bytes go into its `inblob`, the evidence
//! comes out of its `outblob`. Three traps are dealt with here. `generation` counts the writes to a request, and an
//! answer whose count is not ours is somebody else's. Configfs reports no error when a provider refuses an `inblob`, so
//! a write that leaves `generation` as it was had no effect. And the evidence itself must carry what was asked for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::GuestError;
use super::host::kernel_release;
use super::kernel::{Kernel, errno};
use crate::evidence::snp_report::{REPORT_LEN, SnpReport};
use crate::quote::{self, QuoteBody};

/// Where requests are made.
pub const REPORTS: &str = "sys/kernel/config/tsm/report";
/// Where configfs is mounted.
pub const CONFIGFS: &str = "sys/kernel/config";
/// Largest evidence and largest supplement read; quotes have some 5 kB, a certificate table some 10.
pub const MAX_BLOB_LEN: usize = 128 * 1024;
/// Times a busy machine is asked. With the pauses between them they outlast the half minute after which a kernel gives
/// up a quote that the host never finished.
pub const TRIES: usize = 12;
/// First and last pause between tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
/// Names that are tried for an entry; they are random, so a second try is already a wonder.
const NAMES: usize = 8;
/// Attributes of text are short.
const MAX_TEXT: usize = 4_096;

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// A TDX guest: `outblob` is a quote.
    Tdx,
    /// An SEV-SNP guest: `outblob` is a report, `auxblob` the host's table of certificates.
    Snp,
}

impl Provider {
    /// The kernel's name for it.
    #[must_use]
    pub fn kernel_name(self) -> &'static str {
        match self {
            Provider::Tdx => "tdx_guest",
            Provider::Snp => "sev_guest",
        }
    }

    /// The module that brings it.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Provider::Tdx => "tdx_guest",
            Provider::Snp => "sev-guest",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Provider::Tdx, Provider::Snp]
            .into_iter()
            .find(|p| p.kernel_name() == name)
    }
}

/// Evidence fresh from the hardware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who signed.
    pub provider: Provider,
    /// Quote or report, as the wire carries it.
    pub evidence: Vec<u8>,
    /// SEV-SNP: the host's certificates (a table of GUIDs); empty if there are none.
    pub auxiliary: Vec<u8>,
}

/// Makes requests. Cheap to clone.
#[derive(Clone)]
pub struct Reports {
    kernel: Arc<dyn Kernel>,
    pause: (Duration, Duration),
    level: Option<u8>,
}

/// What one try led to.
enum Failure {
    Busy(io::Error),
    Conflict,
    Final(GuestError),
}

impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        Failure::Final(error)
    }
}

impl Reports {
    /// Requests to this kernel.
    #[must_use]
    pub fn new(kernel: Arc<dyn Kernel>) -> Self {
        Reports {
            kernel,
            pause: PAUSE,
            level: None,
        }
    }

    /// The same with other pauses between tries, for tests.
    #[must_use]
    pub fn with_pause(mut self, pause: Duration) -> Self {
        self.pause = (pause, pause);
        self
    }

    /// The same at a privilege level (VMPL) of SEV-SNP, 0 to 3. A TDX guest has none.
    #[must_use]
    pub fn at_level(mut self, level: u8) -> Self {
        self.level = Some(level);
        self
    }

    /// Evidence that carries these 64 bytes, from whoever signs here, or from `wanted` only.
    ///
    /// Blocks for up to a second, and for up to a minute while the machine is busy.
    pub fn report(&self, data: &[u8; 64], wanted: Option<Provider>) -> Result<Report, GuestError> {
        let entry = self.make_entry(wanted)?;
        let mut pause = self.pause.0;
        let mut last = None;
        for _ in 0..TRIES {
            match entry.ask(data, wanted, self.level) {
                Ok(report) => return Ok(report),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Conflict) => last = None,
                Err(Failure::Busy(source)) => {
                    last = Some(source);
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(self.pause.1);
                }
            }
        }
        let tries = TRIES;
        Err(match last {
            Some(source) => GuestError::Busy { tries, source },
            None => GuestError::Conflict {
                tries,
                entry: self.kernel.place(&entry.path),
            },
        })
    }

    fn make_entry(&self, wanted: Option<Provider>) -> Result<Entry<'_>, GuestError> {
        let kernel = &*self.kernel;
        for _ in 0..NAMES {
            let name = format!(
                "cocoon-{}-{:016x}",
                std::process::id(),
                rand::random::<u64>()
            );
            let path = format!("{REPORTS}/{name}");
            match kernel.make_directory(&path) {
                Ok(()) => return Ok(Entry { kernel, path }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let missing = [CONFIGFS, REPORTS].into_iter().find(|p| !kernel.exists(p));
                    return Err(GuestError::NoReports {
                        directory: kernel.place(missing.unwrap_or(REPORTS)),
                        kernel: kernel_release(kernel),
                        module: wanted.unwrap_or(Provider::Tdx).module(),
                    });
                }
                Err(e) if e.raw_os_error() == Some(errno::ENXIO) => {
                    return Err(GuestError::NoProvider);
                }
                Err(e) => {
                    return Err(GuestError::io(
                        "make a request in",
                        kernel.place(REPORTS),
                        e,
                    ));
                }
            }
        }
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        let place = kernel.place(REPORTS);
        Err(GuestError::io("make a request in", place, taken))
    }
}

/// A request; it goes away with this value.
struct Entry<'a> {
    kernel: &'a dyn Kernel,
    path: String,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // An entry that stays behind costs some memory of the kernel and nothing else.
        let _ = self.kernel.remove_directory(&self.path);
    }
}

impl Entry<'_> {
    fn ask(
        &self,
        data: &[u8; 64],
        wanted: Option<Provider>,
        level: Option<u8>,
    ) -> Result<Report, Failure> {
        let name = self.text("provider")?;
        let provider = Provider::of(&name).filter(|p| wanted.is_none_or(|w| w == *p));
        let provider = provider.ok_or_else(|| GuestError::OtherProvider {
            wanted: wanted.map_or("tdx_guest or sev_guest", Provider::kernel_name),
            found: name,
        })?;
        let before = self.generation()?;
        let mut writes = 1;
        if let Some(level) = level {
            self.write("privlevel", level.to_string().as_bytes())?;
            writes += 1;
        }
        self.write("inblob", data)?;
        let ours = before.wrapping_add(writes);
        match self.generation()? {
            now if now == ours => {}
            now if now == before => {
                let entry = self.kernel.place(&self.path);
                return Err(GuestError::Ignored { entry }.into());
            }
            _ => return Err(Failure::Conflict),
        }
        let evidence = self.blob("outblob")?;
        let auxiliary = match provider {
            Provider::Tdx => Vec::new(),
            Provider::Snp => self.optional("auxblob")?,
        };
        if self.generation()? != ours {
            return Err(Failure::Conflict);
        }
        if carried(provider, &evidence)? != *data {
            return Err(GuestError::WrongAnswer.into());
        }
        Ok(Report {
            provider,
            evidence,
            auxiliary,
        })
    }

    fn generation(&self) -> Result<u64, Failure> {
        let text = self.text("generation")?;
        let parsed = text.parse();
        Ok(parsed.map_err(|_| GuestError::Malformed {
            what: "generation",
            reason: format!("{text:?} is no number"),
        })?)
    }

    fn text(&self, attribute: &str) -> Result<String, Failure> {
        let bytes = self.attempt("read", attribute, |path| self.kernel.read(path, MAX_TEXT))?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    fn write(&self, attribute: &str, bytes: &[u8]) -> Result<(), Failure> {
        self.attempt("write", attribute, |path| self.kernel.write(path, bytes))
    }

    fn blob(&self, attribute: &str) -> Result<Vec<u8>, Failure> {
        self.attempt("read", attribute, |path| {
            self.kernel.read(path, MAX_BLOB_LEN)
        })
    }

    /// Empty where the kernel does not show the attribute.
    fn optional(&self, attribute: &str) -> Result<Vec<u8>, Failure> {
        if self.kernel.exists(&format!("{}/{attribute}", self.path)) {
            self.blob(attribute)
        } else {
            Ok(Vec::new())
        }
    }

    fn attempt<T>(
        &self,
        action: &'static str,
        attribute: &str,
        run: impl FnOnce(&str) -> io::Result<T>,
    ) -> Result<T, Failure> {
        let path = format!("{}/{attribute}", self.path);
        run(&path).map_err(|source| {
            if source.kind() == io::ErrorKind::Interrupted {
                return Failure::Busy(source);
            }
            match source.raw_os_error() {
                Some(errno::EBUSY) => Failure::Busy(source),
                Some(errno::ENXIO | errno::ENODEV) => GuestError::NoProvider.into(),
                Some(errno::EFBIG) => GuestError::TooLarge.into(),
                Some(errno::EIO | errno::ETIMEDOUT | errno::EOPNOTSUPP)
                    if attribute == "outblob" =>
                {
                    GuestError::QuotingService { source }.into()
                }
                _ => GuestError::io(action, self.kernel.place(&path), source).into(),
            }
        })
    }
}

/// The 64 bytes that evidence carries. Nothing is verified: that is for whoever gets it.
fn carried(provider: Provider, evidence: &[u8]) -> Result<[u8; 64], GuestError> {
    let malformed = |what, reason: String| GuestError::Malformed { what, reason };
    match provider {
        Provider::Tdx => match quote::parse(evidence) {
            Ok(quote) => match quote.body {
                QuoteBody::Tdx(body) => Ok(body.measurements.report_data),
                QuoteBody::Sgx(_) => Err(malformed("quote", "it is an enclave's".to_owned())),
            },
            Err(e) => Err(malformed("quote", e.to_string())),
        },
        Provider::Snp => {
            let report = evidence.get(..REPORT_LEN).unwrap_or(evidence);
            SnpReport::parse(report)
                .map(|report| report.report_data.0)
                .map_err(|e| malformed("report", e.to_string()))
        }
    }
}
