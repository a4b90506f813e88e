//! Reading and judging a peer's certificate (spec 2.3), with our stronger rules (2.5).
//!
//! What the reference accepts and we refuse, each of which no honest reference peer produces:
//! * a wrong self-signature;
//! * validity longer than [`MAX_VALIDITY_SECONDS`]: the certificate is self-signed, so only a cap limits how long a
//!   stolen key works;
//! * an extension that occurs twice, a claims extension that is not the certified key, a quote without claims;
//! * critical extensions that OpenSSL understands but this profile has no use for (name constraints and the like);
//! * X.509 version 2, unique identifiers.
//!
//! What is accepted although a strict path validator would not: version 1 with extensions, raw extension values,
//! `CA:TRUE`, missing standard extensions, and extra certificates after the leaf (ignored).

use ed25519_dalek::{Signature, VerifyingKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::Oid;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::AlgorithmIdentifier;

use crate::der::{bit_string, element, tag};
use crate::profile::{
    OID_AUTHORITY_KEY_ID, OID_BASIC_CONSTRAINTS, OID_CLAIMS, OID_ED25519, OID_EXT_KEY_USAGE,
    OID_KEY_USAGE, OID_QUOTE, OID_SUBJECT_ALT_NAME, OID_SUBJECT_KEY_ID, SERVER_NAME,
};
use crate::quote::MAX_QUOTE_LEN;
use crate::time::{DAY, Moment};

/// Largest certificate looked at: the largest quote and room for everything else.
pub const MAX_CERTIFICATE_LEN: usize = MAX_QUOTE_LEN + 8_192;
/// Longest accepted validity. Reference certificates last exactly a day; the hour is for generators that backdate.
pub const MAX_VALIDITY_SECONDS: i64 = DAY as i64 + 3_600;
/// How far in the future notBefore may lie: the reference's own generator allows its caller that much clock error.
pub const MAX_CLOCK_SKEW_SECONDS: i64 = 60;
/// More extensions than this are not worth reading; the profile has seven.
pub const MAX_EXTENSIONS: usize = 32;

/// Who shows the certificate; servers need a name and the purpose serverAuth, clients the purpose clientAuth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presenter {
    /// The side that was dialled.
    Server,
    /// The side that dialled.
    Client,
}

/// Why a certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// More bytes than any certificate of the profile has.
    #[error("it has {found} bytes, more than the limit of {MAX_CERTIFICATE_LEN}")]
    TooLarge {
        /// Size of the certificate.
        found: usize,
    },
    /// Not DER, or not X.509.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    /// Neither version 1 nor 3.
    #[error("X.509 version {0} is not used by Cocoon (1 and 3 are)")]
    Version(u32),
    /// Signed with another algorithm.
    #[error("it is signed with algorithm {0}, Ed25519 (1.3.101.112) expected")]
    SignatureAlgorithm(String),
    /// Another kind of key.
    #[error("it certifies a key of algorithm {0}, Ed25519 (1.3.101.112) expected")]
    KeyAlgorithm(String),
    /// A key of the wrong length or no point of the curve.
    #[error("its Ed25519 key is not a valid point of 32 bytes")]
    BadKey,
    /// Not self-issued.
    #[error("it is issued by \"{issuer}\" for \"{subject}\", a self-signed certificate expected")]
    NotSelfIssued {
        /// Issuer name.
        issuer: String,
        /// Subject name.
        subject: String,
    },
    /// The authority key identifier names another key.
    #[error("its authorityKeyIdentifier does not name its own key")]
    AuthorityKey,
    /// The self-signature is wrong.
    #[error("its self-signature is wrong")]
    SelfSignature,
    /// notBefore is in the future.
    #[error("certificate not valid before {not_before}, and it is {now}: is a clock wrong?")]
    NotYetValid {
        /// Start of validity.
        not_before: Moment,
        /// Our clock.
        now: Moment,
    },
    /// notAfter has passed.
    #[error("certificate expired at {not_after}, and it is {now}")]
    Expired {
        /// End of validity.
        not_after: Moment,
        /// Our clock.
        now: Moment,
    },
    /// Valid for too long.
    #[error("it is valid for {found} s, at most {MAX_VALIDITY_SECONDS} s are accepted")]
    ValidityTooLong {
        /// Length of validity.
        found: i64,
    },
    /// extKeyUsage without the purpose that is needed.
    #[error("its extKeyUsage lacks {0}")]
    Purpose(&'static str),
    /// keyUsage without digitalSignature.
    #[error("its keyUsage lacks digitalSignature")]
    KeyUsage,
    /// A server under another name.
    #[error("it is not for the server name {SERVER_NAME} (its names: {found})")]
    Name {
        /// Names found.
        found: String,
    },
    /// An extension occurs twice.
    #[error("extension {0} occurs twice")]
    DuplicateExtension(String),
    /// A critical extension that we do not know.
    #[error("critical extension {0} is not known")]
    UnknownCritical(String),
    /// Too many extensions.
    #[error("it has {found} extensions, more than the limit of {MAX_EXTENSIONS}")]
    TooManyExtensions {
        /// Number of extensions.
        found: usize,
    },
    /// The quote is too large.
    #[error("its quote has {found} bytes, more than the limit of {MAX_QUOTE_LEN}")]
    QuoteTooLarge {
        /// Size of the quote.
        found: usize,
    },
    /// The claims extension is not the certified key.
    #[error("its claims extension does not hold the key it certifies")]
    ClaimsMismatch,
    /// A quote without claims.
    #[error("it has a quote but no claims extension")]
    ClaimsMissing,
}

/// What a certificate says, after every check of the certificate itself. The quote is not looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCertificate {
    /// The peer's Ed25519 key.
    pub public_key: [u8; 32],
    /// The raw quote, if the certificate carries one.
    pub quote: Option<Vec<u8>>,
    /// Start of validity.
    pub not_before: Moment,
    /// End of validity.
    pub not_after: Moment,
}

/// Judges a leaf certificate at the Unix time `now`. Certificates after the leaf are the caller's to ignore.
pub fn verify(
    der: &[u8],
    presenter: Presenter,
    now: u64,
) -> Result<VerifiedCertificate, CertificateError> {
    let cert = parse(der)?;
    check_version(&cert)?;
    let public_key = check_algorithms(&cert)?;
    check_self_issued(&cert)?;
    let extensions = Extensions::collect(&cert)?;
    extensions.check_authority_key(&cert)?;
    check_signature(&cert, &public_key, der)?;
    let (not_before, not_after) = check_time(&cert, now)?;
    extensions.check_purpose(presenter)?;
    if presenter == Presenter::Server {
        extensions.check_name(&cert)?;
    }
    let quote = extensions.evidence(&public_key)?;
    Ok(VerifiedCertificate {
        public_key,
        quote,
        not_before,
        not_after,
    })
}

/// The certified Ed25519 key, without judging anything else: for certificates that were verified before.
pub(crate) fn public_key(der: &[u8]) -> Result<[u8; 32], CertificateError> {
    check_algorithms(&parse(der)?)
}

/// The SubjectPublicKeyInfo element of a certificate.
pub(crate) fn spki(der: &[u8]) -> Result<Vec<u8>, CertificateError> {
    Ok(parse(der)?.tbs_certificate.subject_pki.raw.to_vec())
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    if der.len() > MAX_CERTIFICATE_LEN {
        return Err(CertificateError::TooLarge { found: der.len() });
    }
    let (rest, cert) = X509Certificate::from_der(der)
        .map_err(|error| CertificateError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        let what = format!("{} bytes follow the certificate", rest.len());
        return Err(CertificateError::Malformed(what));
    }
    Ok(cert)
}

fn check_version(cert: &X509Certificate<'_>) -> Result<(), CertificateError> {
    let tbs = &cert.tbs_certificate;
    match tbs.version.0 {
        0 | 2 => {}
        other => return Err(CertificateError::Version(other.saturating_add(1))),
    }
    if tbs.issuer_uid.is_some() || tbs.subject_uid.is_some() {
        let what = "unique identifiers are not part of the profile".to_owned();
        return Err(CertificateError::Malformed(what));
    }
    Ok(())
}

fn check_algorithms(cert: &X509Certificate<'_>) -> Result<[u8; 32], CertificateError> {
    let tbs = &cert.tbs_certificate;
    // The key first: for an ECDSA or RSA certificate that is the more helpful thing to say.
    let key = &tbs.subject_pki;
    if !is_ed25519(&key.algorithm) {
        return Err(CertificateError::KeyAlgorithm(
            key.algorithm.algorithm.to_id_string(),
        ));
    }
    for algorithm in [&tbs.signature, &cert.signature_algorithm] {
        if !is_ed25519(algorithm) {
            return Err(CertificateError::SignatureAlgorithm(
                algorithm.algorithm.to_id_string(),
            ));
        }
    }
    if key.subject_public_key.unused_bits != 0 {
        return Err(CertificateError::BadKey);
    }
    <[u8; 32]>::try_from(&*key.subject_public_key.data).map_err(|_| CertificateError::BadKey)
}

fn is_ed25519(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    algorithm.algorithm.as_bytes() == OID_ED25519 && algorithm.parameters.is_none()
}

fn check_self_issued(cert: &X509Certificate<'_>) -> Result<(), CertificateError> {
    let tbs = &cert.tbs_certificate;
    if tbs.issuer.as_raw() == tbs.subject.as_raw() {
        return Ok(());
    }
    Err(CertificateError::NotSelfIssued {
        issuer: printable(&tbs.issuer.to_string()),
        subject: printable(&tbs.subject.to_string()),
    })
}

fn check_signature(
    cert: &X509Certificate<'_>,
    key: &[u8; 32],
    der: &[u8],
) -> Result<(), CertificateError> {
    let tbs = cert.tbs_certificate.as_ref();
    let signature = &cert.signature_value.data;
    // The wrapping around the signed part is signed by nobody and the parser reads it generously; only the one right
    // encoding passes, so that a certificate has one form.
    let algorithm = element(tag::SEQUENCE, &[&element(tag::OID, &[OID_ED25519])]);
    let canonical = element(tag::SEQUENCE, &[tbs, &algorithm, &bit_string(signature)]);
    if canonical != der {
        let what = "its outermost layer is not encoded in DER".to_owned();
        return Err(CertificateError::Malformed(what));
    }
    // The strict check also refuses keys of small order, for which anybody can sign.
    let key = VerifyingKey::from_bytes(key).map_err(|_| CertificateError::BadKey)?;
    Signature::from_slice(signature)
        .and_then(|signature| key.verify_strict(tbs, &signature))
        .map_err(|_| CertificateError::SelfSignature)
}

fn check_time(cert: &X509Certificate<'_>, now: u64) -> Result<(Moment, Moment), CertificateError> {
    let validity = &cert.tbs_certificate.validity;
    let not_before = Moment(validity.not_before.timestamp());
    let not_after = Moment(validity.not_after.timestamp());
    let now = Moment(i64::try_from(now).unwrap_or(i64::MAX));
    if now > not_after {
        return Err(CertificateError::Expired { not_after, now });
    }
    if now.0 < not_before.0.saturating_sub(MAX_CLOCK_SKEW_SECONDS) {
        return Err(CertificateError::NotYetValid { not_before, now });
    }
    let found = not_after.0.saturating_sub(not_before.0);
    if found > MAX_VALIDITY_SECONDS {
        return Err(CertificateError::ValidityTooLong { found });
    }
    Ok((not_before, not_after))
}

/// Text of a peer for an error message: no control characters, no novels.
fn printable(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_control());
    kept.take(200).collect()
}

/// The extensions of a certificate, each at most once, all critical ones known.
struct Extensions<'a, 'b> {
    list: &'b [X509Extension<'a>],
}

impl<'a, 'b> Extensions<'a, 'b> {
    fn collect(cert: &'b X509Certificate<'a>) -> Result<Self, CertificateError> {
        const KNOWN: [&[u8]; 8] = [
            OID_QUOTE,
            OID_CLAIMS,
            OID_BASIC_CONSTRAINTS,
            OID_KEY_USAGE,
            OID_EXT_KEY_USAGE,
            OID_SUBJECT_KEY_ID,
            OID_AUTHORITY_KEY_ID,
            OID_SUBJECT_ALT_NAME,
        ];
        let list = cert.extensions();
        if list.len() > MAX_EXTENSIONS {
            return Err(CertificateError::TooManyExtensions { found: list.len() });
        }
        for (at, extension) in list.iter().enumerate() {
            if list[..at].iter().any(|e| e.oid == extension.oid) {
                return Err(CertificateError::DuplicateExtension(id(&extension.oid)));
            }
            let known = KNOWN.contains(&extension.oid.as_bytes());
            if extension.critical && !known {
                return Err(CertificateError::UnknownCritical(id(&extension.oid)));
            }
            if known
                && matches!(
                    extension.parsed_extension(),
                    ParsedExtension::ParseError { .. }
                )
            {
                let what = format!("extension {} is malformed", id(&extension.oid));
                return Err(CertificateError::Malformed(what));
            }
        }
        Ok(Extensions { list })
    }

    fn get(&self, oid: &[u8]) -> Option<&'b X509Extension<'a>> {
        self.list.iter().find(|e| e.oid.as_bytes() == oid)
    }

    fn parsed(&self, oid: &[u8]) -> Option<&'b ParsedExtension<'a>> {
        self.get(oid).map(X509Extension::parsed_extension)
    }

    /// An authorityKeyIdentifier must name the certificate's own key and serial, as OpenSSL demands.
    fn check_authority_key(&self, cert: &X509Certificate<'_>) -> Result<(), CertificateError> {
        let Some(ParsedExtension::AuthorityKeyIdentifier(authority)) =
            self.parsed(OID_AUTHORITY_KEY_ID)
        else {
            return Ok(());
        };
        if let (Some(named), Some(ParsedExtension::SubjectKeyIdentifier(own))) =
            (&authority.key_identifier, self.parsed(OID_SUBJECT_KEY_ID))
            && named.0 != own.0
        {
            return Err(CertificateError::AuthorityKey);
        }
        match authority.authority_cert_serial {
            Some(serial) if serial != cert.tbs_certificate.raw_serial() => {
                Err(CertificateError::AuthorityKey)
            }
            _ => Ok(()),
        }
    }

    fn check_purpose(&self, presenter: Presenter) -> Result<(), CertificateError> {
        if let Some(ParsedExtension::ExtendedKeyUsage(usage)) = self.parsed(OID_EXT_KEY_USAGE) {
            match presenter {
                Presenter::Server if !usage.server_auth => {
                    return Err(CertificateError::Purpose("serverAuth"));
                }
                Presenter::Client if !usage.client_auth => {
                    return Err(CertificateError::Purpose("clientAuth"));
                }
                _ => {}
            }
        }
        match self.parsed(OID_KEY_USAGE) {
            Some(ParsedExtension::KeyUsage(usage)) if !usage.digital_signature() => {
                Err(CertificateError::KeyUsage)
            }
            _ => Ok(()),
        }
    }

    /// The constant name must match a *dNSName*, or the common name where there is no dNSName at all.
    fn check_name(&self, cert: &X509Certificate<'_>) -> Result<(), CertificateError> {
        let mut names: Vec<&str> = Vec::new();
        if let Some(ParsedExtension::SubjectAlternativeName(san)) =
            self.parsed(OID_SUBJECT_ALT_NAME)
        {
            names.extend(san.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(*name),
                _ => None,
            }));
        }
        if names.is_empty() {
            let subject = &cert.tbs_certificate.subject;
            names.extend(subject.iter_common_name().filter_map(|cn| cn.as_str().ok()));
        }
        if names.contains(&SERVER_NAME) {
            return Ok(());
        }
        Err(CertificateError::Name {
            found: printable(&names.join(", ")),
        })
    }

    /// The quote, and the claims that must go with it.
    fn evidence(&self, public_key: &[u8; 32]) -> Result<Option<Vec<u8>>, CertificateError> {
        let claims = self.get(OID_CLAIMS).map(|e| e.value);
        if claims.is_some_and(|claims| claims != public_key) {
            return Err(CertificateError::ClaimsMismatch);
        }
        let Some(quote) = self.get(OID_QUOTE) else {
            return Ok(None);
        };
        if quote.value.len() > MAX_QUOTE_LEN {
            let found = quote.value.len();
            return Err(CertificateError::QuoteTooLarge { found });
        }
        if claims.is_none() {
            return Err(CertificateError::ClaimsMissing);
        }
        Ok(Some(quote.value.to_vec()))
    }
}

/// Dotted form of an object identifier; a peer can send a long one.
fn id(oid: &Oid<'_>) -> String {
    printable(&oid.to_id_string())
}
