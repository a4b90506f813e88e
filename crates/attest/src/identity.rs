//! Our own side of TLS: an Ed25519 key and a certificate for it, made here or read from the reference's files.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use rand::TryRngCore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::certificate::{self, CertificateError};
use crate::profile::{CertificateParams, VALIDITY_SECONDS, report_data};
use crate::quote::MAX_QUOTE_LEN;
use crate::quote_source::{QuoteSource, QuoteSourceError};
use crate::time::Moment;

/// PKCS#8 v1 wrapping of an Ed25519 seed: everything before the 32 bytes.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// No certificate or key file is larger; the largest quote makes a PEM of about 56 kB.
const MAX_FILE_LEN: u64 = 128 * 1024;
/// A certificate is replaced when less than this of its life is left: a few reconnects and clock errors fit in.
pub const RENEW_BEFORE_SECONDS: u64 = 6 * 3_600;

/// What a generated certificate carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateMode {
    /// No quote: clients, and peers of the policy `any`.
    None,
    /// A fake quote: tests and development only, see [`crate::guard_network`].
    FakeTdx,
}

/// Why an identity could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system's random number source failed.
    #[error("the system gave no random numbers for a key: {0}")]
    NoRandomness(String),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// "read" or "write".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text holds no PEM block of the expected kind.
    #[error("no PEM block \"{expected}\" found: {reason}")]
    Pem {
        /// Label expected.
        expected: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// The private key is not an unencrypted PKCS#8 Ed25519 key.
    #[error(
        "the private key is no unencrypted PKCS#8 Ed25519 key (`openssl genpkey -algorithm ed25519` makes one)"
    )]
    Key,
    /// The certificate cannot be read.
    #[error("the certificate cannot be used: {0}")]
    Certificate(#[from] CertificateError),
    /// Certificate and key do not belong together.
    #[error("the certificate is for the key {certified}, the private key belongs to {found}")]
    KeyMismatch {
        /// Key in the certificate.
        certified: String,
        /// Key of the private key.
        found: String,
    },
    /// There is no quote for the key.
    #[error("no quote for our certificate: {0}")]
    Quote(#[from] QuoteSourceError),
    /// The TLS library does not take the key.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A TLS key and its certificate. Cloning is cheap; printing shows only public parts.
#[derive(Clone)]
pub struct TlsIdentity {
    inner: Arc<Inner>,
}

struct Inner {
    key: SigningKey,
    certificate: CertificateDer<'static>,
    not_before: Moment,
    not_after: Moment,
    certified: Arc<CertifiedKey>,
}

impl TlsIdentity {
    /// A fresh key with a certificate valid for a day from `now` (Unix seconds).
    pub fn generate(mode: CertificateMode, now: u64) -> Result<Self, IdentityError> {
        let (seed, serial) = random()?;
        Self::from_seed(&seed, serial, mode, now)
    }

    /// A fresh key that never leaves this process, with a certificate that carries a quote for it.
    ///
    /// Asking hardware for a quote blocks for up to a second: call this on a thread that may.
    pub fn attested(source: &dyn QuoteSource, now: u64) -> Result<Self, IdentityError> {
        let (seed, serial) = random()?;
        let key = SigningKey::from_bytes(&seed);
        let quote = source.quote(&report_data(key.verifying_key().as_bytes()))?;
        if quote.len() > MAX_QUOTE_LEN {
            let found = quote.len();
            return Err(CertificateError::QuoteTooLarge { found }.into());
        }
        Self::with_quote(key, serial, Some(&quote), now)
    }

    /// A certificate for a given key; the same arguments give the same bytes.
    pub fn from_seed(
        seed: &[u8; 32],
        serial: [u8; 16],
        mode: CertificateMode,
        now: u64,
    ) -> Result<Self, IdentityError> {
        let key = SigningKey::from_bytes(seed);
        let fake = report_data(key.verifying_key().as_bytes());
        let quote = (mode == CertificateMode::FakeTdx).then_some(&fake[..]);
        Self::with_quote(key, serial, quote, now)
    }

    fn with_quote(
        key: SigningKey,
        serial: [u8; 16],
        quote: Option<&[u8]>,
        now: u64,
    ) -> Result<Self, IdentityError> {
        let der = CertificateParams {
            key: &key,
            serial,
            not_before: now,
            validity: VALIDITY_SECONDS,
            quote,
        }
        .to_der();
        Self::from_parts(key, der)
    }

    /// Joins a key and a certificate in DER, which must belong together. Whether peers will accept the certificate
    /// is not judged, so that tests can present bad ones.
    pub fn from_parts(key: SigningKey, certificate: Vec<u8>) -> Result<Self, IdentityError> {
        let certified = certificate::public_key(&certificate)?;
        let own = key.verifying_key().to_bytes();
        if certified != own {
            return Err(IdentityError::KeyMismatch {
                certified: hex::encode(certified),
                found: hex::encode(own),
            });
        }
        let (not_before, not_after) = {
            let parsed = certificate::parse(&certificate)?;
            let validity = parsed.validity();
            (
                Moment(validity.not_before.timestamp()),
                Moment(validity.not_after.timestamp()),
            )
        };
        let certificate = CertificateDer::from(certificate);
        let pkcs8 = pkcs8(&key);
        // The TLS library keeps its own copy; ours is erased.
        let tls_key = PrivatePkcs8KeyDer::from(&pkcs8[..]);
        let tls_key = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(&tls_key)?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate.clone()], tls_key));
        Ok(TlsIdentity {
            inner: Arc::new(Inner {
                key,
                certificate,
                not_before,
                not_after,
                certified,
            }),
        })
    }

    /// Reads a certificate and an unencrypted PKCS#8 key, both PEM.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| pem_error("CERTIFICATE", &error))?;
        Self::from_parts(key_from_pem(key)?, certificate.to_vec())
    }

    /// Reads `<base>_cert.pem` and `<base>_key.pem`, the names the reference's tool uses.
    pub fn load(base: &Path) -> Result<Self, IdentityError> {
        let (cert_path, key_path) = file_names(base);
        let certificate = read_file(&cert_path)?;
        let key = read_file(&key_path)?;
        Self::from_pem(&certificate, &key)
    }

    /// Writes `<base>_cert.pem` (mode 0644) and `<base>_key.pem` (mode 0600), each atomically, replacing older ones.
    pub fn save(&self, base: &Path) -> Result<(), IdentityError> {
        let (cert_path, key_path) = file_names(base);
        write_file(&key_path, &self.key_pem(), 0o600)?;
        write_file(&cert_path, &self.certificate_pem(), 0o644)
    }

    /// The certificate in DER.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.inner.certificate
    }

    /// The certificate in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.inner.certificate).to_string()
    }

    /// The private key in PEM; erased from memory when dropped.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        pem("PRIVATE KEY", &pkcs8(&self.inner.key)[..])
    }

    /// The public key, by which peers know us.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.inner.key.verifying_key().to_bytes()
    }

    /// Start of the certificate's validity.
    #[must_use]
    pub fn not_before(&self) -> Moment {
        self.inner.not_before
    }

    /// End of the certificate's validity.
    #[must_use]
    pub fn not_after(&self) -> Moment {
        self.inner.not_after
    }

    /// Whether it is time for a new certificate; the reference never renews and locks itself out after a day.
    #[must_use]
    pub fn needs_renewal(&self, now: u64) -> bool {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        now.saturating_add(RENEW_BEFORE_SECONDS as i64) > self.inner.not_after.0
    }

    /// Signs claims; TLS has its own copy.
    pub(crate) fn signing_key(&self) -> &SigningKey {
        &self.inner.key
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        self.inner.certified.clone()
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("public_key", &hex::encode(self.public_key()))
            .field("not_after", &self.inner.not_after)
            .finish_non_exhaustive()
    }
}

/// A seed and a serial number.
fn random() -> Result<(Zeroizing<[u8; 32]>, [u8; 16]), IdentityError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    let mut serial = [0u8; 16];
    for bytes in [&mut seed[..], &mut serial[..]] {
        rand::rngs::OsRng
            .try_fill_bytes(bytes)
            .map_err(|error| IdentityError::NoRandomness(error.to_string()))?;
    }
    Ok((seed, serial))
}

/// The names of the two files of a base name: certificate and key.
#[must_use]
pub fn file_names(base: &Path) -> (PathBuf, PathBuf) {
    let with = |suffix: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    (with("_cert.pem"), with("_key.pem"))
}

fn pkcs8(key: &SigningKey) -> Zeroizing<[u8; 48]> {
    let mut out = Zeroizing::new([0; 48]);
    out[..16].copy_from_slice(&PKCS8_PREFIX);
    out[16..].copy_from_slice(key.as_bytes());
    out
}

fn key_from_pem(text: &str) -> Result<SigningKey, IdentityError> {
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| pem_error("PRIVATE KEY", &error))?;
    let seed = der
        .secret_der()
        .strip_prefix(&PKCS8_PREFIX)
        .and_then(|seed| <&[u8; 32]>::try_from(seed).ok())
        .map(SigningKey::from_bytes);
    seed.ok_or(IdentityError::Key)
}

fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    // All room at once, so that growing leaves no copies of a key behind.
    let mut out = Zeroizing::new(String::with_capacity(body.len() * 66 / 64 + 100));
    out.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = &body[..];
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = next;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn pem_error(expected: &'static str, error: &dyn fmt::Display) -> IdentityError {
    IdentityError::Pem {
        expected,
        reason: error.to_string(),
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, IdentityError> {
    let wrap = |source| IdentityError::File {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let length = fs::metadata(path).map_err(wrap)?.len();
    if length > MAX_FILE_LEN {
        let what = format!("{length} bytes are too many for a key or certificate");
        return Err(wrap(io::Error::new(io::ErrorKind::InvalidData, what)));
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(wrap)
}

fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{:016x}.new", rand::random::<u64>()));
    let temporary = PathBuf::from(temporary);
    let write = || {
        // create_new: never through a link somebody left in the way.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        IdentityError::File {
            action: "write",
            path: path.to_owned(),
            source,
        }
    })
}
