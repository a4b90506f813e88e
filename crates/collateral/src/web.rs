//! One GET over HTTP or HTTPS, with limits on everything and no redirects.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// Bytes of an answer's head: issuer chains come in headers and have some 6 kB.
const MAX_HEAD: usize = 64 << 10;
/// Headers of an answer.
const MAX_HEADERS: usize = 100;
/// Bytes of a file with authorities.
const MAX_AUTHORITIES_LEN: u64 = 4 << 20;

/// Deadlines of one request.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Name, TCP and TLS together.
    pub connect: Duration,
    /// Everything.
    pub total: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            connect: Duration::from_secs(10),
            total: Duration::from_secs(30),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// Not an address.
    #[error("the address cannot be used")]
    Address,
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// No connection in time.
    #[error("no connection within {} s", .0.as_secs())]
    ConnectTimeout(Duration),
    /// No web roots.
    #[error("no certificate authorities are known: {0}")]
    NoRoots(String),
    /// The server is not who it should be.
    #[error("TLS: {0}")]
    Tls(String),
    /// The answer broke off or is no HTTP.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// The answer did not end in time.
    #[error("no whole answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Too much.
    #[error("the answer has more than {0} bytes, which is the limit")]
    TooLarge(usize),
}

impl WebError {
    /// Whether another try may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            WebError::Connect(_)
                | WebError::ConnectTimeout(_)
                | WebError::Broken(_)
                | WebError::Timeout(_)
        )
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Vec<u8>,
}

/// Where trust in web servers comes from.
enum Roots {
    /// The machine's list of authorities, read at the first use.
    Native,
    /// These.
    Given(RootCertStore),
}

/// Sends requests. Each has a connection of its own: there are a few in a day.
pub struct Web {
    roots: Roots,
    tls: OnceLock<Result<TlsConnector, WebError>>,
    deadlines: Deadlines,
}

impl Web {
    /// Trusts the authorities that the machine trusts.
    #[must_use]
    pub fn native(deadlines: Deadlines) -> Self {
        Self::with(Roots::Native, deadlines)
    }

    /// Trusts exactly these authorities.
    #[must_use]
    pub fn trusting(roots: RootCertStore, deadlines: Deadlines) -> Self {
        Self::with(Roots::Given(roots), deadlines)
    }

    /// Trusts the authorities of a PEM file, such as the certificate of one's own PCCS.
    pub fn trusting_file(path: &Path, deadlines: Deadlines) -> Result<Self, String> {
        let named = |reason: String| format!("{}: {reason}", path.display());
        let length = std::fs::metadata(path).map_err(|e| named(e.to_string()))?;
        if length.len() > MAX_AUTHORITIES_LEN {
            return Err(named(format!("over {MAX_AUTHORITIES_LEN} bytes")));
        }
        let text = std::fs::read(path).map_err(|e| named(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|e| named(e.to_string()))?;
            roots.add(certificate).map_err(|e| named(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(named("no certificate in PEM is in it".to_owned()));
        }
        Ok(Self::trusting(roots, deadlines))
    }

    fn with(roots: Roots, deadlines: Deadlines) -> Self {
        Web {
            roots,
            tls: OnceLock::new(),
            deadlines,
        }
    }

    /// Asks for `url` and reads at most `limit` bytes. Any status is an answer.
    pub async fn get(
        &self,
        url: &str,
        secret: Option<&SecretHeader>,
        limit: usize,
    ) -> Result<Answer, WebError> {
        let uri: Uri = url.parse().map_err(|_| WebError::Address)?;
        let exchange = async {
            let connecting = tokio::time::timeout(self.deadlines.connect, self.connect(&uri));
            match connecting
                .await
                .map_err(|_| WebError::ConnectTimeout(self.deadlines.connect))??
            {
                Line::Plain(stream) => exchange(stream, &uri, secret, limit).await,
                Line::Tls(stream) => exchange(*stream, &uri, secret, limit).await,
            }
        };
        tokio::time::timeout(self.deadlines.total, exchange)
            .await
            .map_err(|_| WebError::Timeout(self.deadlines.total))?
    }

    async fn connect(&self, uri: &Uri) -> Result<Line, WebError> {
        let host = uri.host().ok_or(WebError::Address)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(WebError::Address),
        };
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| WebError::Connect(error.to_string()))?;
        if !is_tls {
            return Ok(Line::Plain(stream));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| WebError::Address)?;
        let tls = self.tls()?.connect(name, stream).await.map_err(|error| {
            // A refused certificate stays refused; a cut connection may come back.
            match error
                .get_ref()
                .and_then(|e| e.downcast_ref::<rustls::Error>())
            {
                Some(error) => WebError::Tls(error.to_string()),
                None => WebError::Connect(error.to_string()),
            }
        })?;
        Ok(Line::Tls(Box::new(tls)))
    }

    fn tls(&self) -> Result<TlsConnector, WebError> {
        let make = || {
            let roots = match &self.roots {
                Roots::Given(roots) => roots.clone(),
                Roots::Native => native_roots()?,
            };
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| WebError::Tls(error.to_string()))?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Ok(TlsConnector::from(Arc::new(config)))
        };
        self.tls.get_or_init(make).clone()
    }
}

/// The machine's own list; damaged entries are passed over, an empty list is an error.
fn native_roots() -> Result<RootCertStore, WebError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        let why = why.unwrap_or_else(|| "the machine has no list of them".to_owned());
        return Err(WebError::NoRoots(format!(
            "{why}; install ca-certificates, or name a file (ca_file)"
        )));
    }
    Ok(roots)
}

enum Line {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// A header whose value nobody may see.
pub struct SecretHeader {
    name: HeaderName,
    value: HeaderValue,
}

impl SecretHeader {
    /// Takes a name and a value, which is trimmed.
    pub fn new(name: &str, value: Zeroizing<String>) -> Result<Self, &'static str> {
        let name = name.parse().map_err(|_| "the header's name is none")?;
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| "the key has characters that no header may have")?;
        if value.is_empty() {
            return Err("the key is empty");
        }
        value.set_sensitive(true);
        Ok(SecretHeader { name, value })
    }
}

async fn exchange<S>(
    stream: S,
    uri: &Uri,
    secret: Option<&SecretHeader>,
    limit: usize,
) -> Result<Answer, WebError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: &dyn std::error::Error| {
        let inner = error.source().map(|inner| format!(": {inner}"));
        WebError::Broken(format!("{error}{}", inner.unwrap_or_default()))
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let authority = uri.authority().ok_or(WebError::Address)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path)
        .header("host", authority.as_str())
        .header("user-agent", "cocoon")
        .header("connection", "close");
    if let Some(SecretHeader { name, value }) = secret {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|_| WebError::Address)?;
    // The connection moves only while it is polled beside the request, so both end together.
    let ask = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                WebError::TooLarge(limit)
            } else {
                broken(error.as_ref())
            }
        })?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes().to_vec(),
        })
    };
    let run = async {
        // Its errors show up at the request.
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = ask => answer,
        never = run => never,
    }
}
