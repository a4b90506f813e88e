//! The domain's side: asks a helper, judges its evidence, opens the key (spec 7.3, done as rows G39 to G44 demand).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::derive::{self, DeriveError, ExchangeKey};
use super::message::{self, GetPersistentKey, MessageError, PersistentKey};
use super::report::{ReportError, TdReport};
use crate::evidence::collateral::TdxCollateral;
use crate::evidence::sgx::{self, HelperPolicy, HelperRefusal, SgxError};
use crate::evidence::tdx::TdxRoot;
use crate::keys::{KeyError, KeyFuture, KeyName, KeySource, SecretKey};
use crate::time::unix_now;

/// The reference's host and port (spec 7.1).
pub const DEFAULT_HELPER: HelperAddress = HelperAddress::Vsock {
    cid: 2,
    port: 12_345,
};
/// For each step of talking to a helper. It derives a key and gets a quote, which takes about a second.
const STEP: Duration = Duration::from_secs(30);
/// For all of it.
const TOTAL: Duration = Duration::from_secs(90);

/// Why there is no sealed key. The texts hold no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// The helper cannot be reached, or broke off. The reference's closes without a word on any error.
    #[error("the sealing helper at {helper} does not answer: {source}")]
    Io {
        /// Where.
        helper: String,
        /// What the system said.
        source: io::Error,
    },
    /// No report.
    #[error("this machine makes no TD report: {0}")]
    NoReport(String),
    /// A report that cannot be used.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A report that is not about this exchange.
    #[error("the TD report does not carry what was asked for")]
    ReportData,
    /// A version that the helper would refuse (G43).
    #[error(
        "this domain's report has version 1 (a service domain is bound), which the reference's helper refuses: use a helper that takes it and say so"
    )]
    ReportVersion,
    /// An answer that cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Evidence that is not genuine.
    #[error("the sealing helper's quote is refused: {0}")]
    Evidence(#[from] SgxError),
    /// A genuine enclave that is not our helper.
    #[error("the sealing helper is refused: {0}")]
    Refused(#[from] HelperRefusal),
    /// Arithmetic.
    #[error("the sealed key cannot be opened: {0}")]
    Derive(#[from] DeriveError),
    /// A key that everybody knows (G35).
    #[error(
        "the key is the public constant of debug images: it protects nothing outside a test network"
    )]
    DebugKey,
}

/// Makes reports of this domain.
pub trait ReportSource: Send + Sync {
    /// A report that carries these 64 bytes.
    fn report(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, SealingError>;
}

/// Where a helper listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelperAddress {
    /// On the host of a virtual machine.
    Vsock {
        /// Context; 2 is the host.
        cid: u32,
        /// Port.
        port: u32,
    },
    /// On this machine.
    Unix(PathBuf),
}

impl std::fmt::Display for HelperAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HelperAddress::Vsock { cid, port } => write!(f, "vsock {cid}:{port}"),
            HelperAddress::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Both directions of a connection.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl HelperAddress {
    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            HelperAddress::Vsock { cid, port } => {
                let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
                socket.connect_timeout(&SockAddr::vsock(*cid, *port), STEP)?;
                socket.set_read_timeout(Some(STEP))?;
                socket.set_write_timeout(Some(STEP))?;
                Ok(Box::new(socket))
            }
            HelperAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(STEP))?;
                stream.set_write_timeout(Some(STEP))?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Asks helpers and judges them. Everything that decides is an argument here, nothing has a way around it.
pub struct SealingClient {
    /// Makes reports of this domain.
    pub reports: Arc<dyn ReportSource>,
    /// Intel's ratings of this platform for SGX.
    pub collateral: Arc<TdxCollateral>,
    /// Whose signatures count.
    pub root: TdxRoot,
    /// What the helper must be.
    pub policy: HelperPolicy,
    /// The helper takes reports of domains with a service domain.
    pub service_domains: bool,
    /// A test network: the public constant of debug images is taken for a key.
    pub is_test: bool,
}

impl SealingClient {
    /// One request and one response on a fresh connection, at the time `now` (Unix seconds).
    pub fn key_over(
        &self,
        stream: &mut (impl Read + Write + ?Sized),
        helper: &str,
        name: &KeyName,
        now: u64,
    ) -> Result<SecretKey, SealingError> {
        let io = |source| SealingError::Io {
            helper: helper.to_owned(),
            source,
        };
        let exchange = ExchangeKey::generate()?;
        let wanted = derive::request_report_data(exchange.public());
        let report = TdReport::parse(&self.reports.report(&wanted)?)?;
        if report.report_data() != wanted {
            return Err(SealingError::ReportData);
        }
        if report.version() != 0 && !self.service_domains {
            return Err(SealingError::ReportVersion);
        }
        let request = GetPersistentKey {
            report,
            public_key: *exchange.public(),
            name: name.clone(),
        };
        message::write_frame(stream, &request.encode()).map_err(io)?;
        let answer = PersistentKey::decode(&message::read_frame(stream).map_err(io)?)?;
        self.open(&exchange, &answer, now)
    }

    /// Judges the helper's evidence, then opens the key.
    pub fn open(
        &self,
        exchange: &ExchangeKey,
        answer: &PersistentKey,
        now: u64,
    ) -> Result<SecretKey, SealingError> {
        let claims = sgx::verify(&answer.sgx_quote, &self.collateral, now, self.root)?;
        let about = derive::answer_report_data(exchange.public(), &answer.encrypted);
        self.policy.judge(&claims, &about)?;
        let key = exchange.open(&answer.encrypted)?;
        if super::is_public_constant(&key) && !self.is_test {
            return Err(SealingError::DebugKey);
        }
        Ok(key)
    }
}

/// A helper as a [`KeySource`].
#[derive(Clone)]
pub struct SealedKeys {
    /// Judges.
    pub client: Arc<SealingClient>,
    /// Where the helper is.
    pub helper: HelperAddress,
}

impl KeySource for SealedKeys {
    fn key<'a>(&'a self, name: &'a KeyName) -> KeyFuture<'a> {
        let (client, helper, name) = (self.client.clone(), self.helper.clone(), name.clone());
        Box::pin(async move {
            let place = helper.to_string();
            let lost = |helper: String, text: &str| SealingError::Io {
                helper,
                source: io::Error::new(io::ErrorKind::TimedOut, text.to_owned()),
            };
            let ask = tokio::task::spawn_blocking({
                let place = place.clone();
                move || {
                    let mut stream = helper.connect().map_err(|source| SealingError::Io {
                        helper: place.clone(),
                        source,
                    })?;
                    client.key_over(&mut *stream, &place, &name, unix_now())
                }
            });
            match tokio::time::timeout(TOTAL, ask).await {
                Ok(Ok(result)) => result.map_err(KeyError::from),
                Ok(Err(_)) => Err(lost(place, "the request broke off").into()),
                Err(_) => Err(lost(place, "no answer in time").into()),
            }
        })
    }
}
