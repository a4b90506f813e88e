//! X.509 as AMD and NVIDIA use it: short chains of fixed length to a pinned root, one signature algorithm each.

use rustls::pki_types::SignatureVerificationAlgorithm;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::time::{Moment, moment};

/// Largest certificate looked at; AMD's RSA ones have some 1,700 bytes.
pub const MAX_CERTIFICATE_LEN: usize = 8_192;

/// Why a chain does not prove anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Not a certificate of the expected form.
    #[error("{which} cannot be read: {reason}")]
    Malformed {
        /// Which certificate.
        which: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Not the pinned root.
    #[error(
        "{which} is not the root that is trusted (SHA-256 {})",
        hex::encode(found)
    )]
    Root {
        /// Which certificate.
        which: &'static str,
        /// Its hash.
        found: [u8; 32],
    },
    /// Issued by somebody else.
    #[error("{which} is issued by \"{found}\", the next certificate is \"{expected}\"")]
    Issuer {
        /// Which certificate.
        which: &'static str,
        /// Subject of the next one.
        expected: String,
        /// Its issuer.
        found: String,
    },
    /// A wrong signature.
    #[error("{which} is not signed by {by}")]
    Signature {
        /// What is signed.
        which: &'static str,
        /// By whom.
        by: &'static str,
    },
    /// Expired or not yet valid.
    #[error("{which} is valid from {from} to {to}, and it is {now}")]
    Validity {
        /// Which certificate.
        which: &'static str,
        /// Start.
        from: Moment,
        /// End.
        to: Moment,
        /// Our clock.
        now: Moment,
    },
    /// An issuer that is no authority.
    #[error("{which} issues certificates although it is not marked as an authority")]
    NotAuthority {
        /// Which certificate.
        which: &'static str,
    },
    /// Taken back by its issuer.
    #[error("{which} was revoked by its issuer")]
    Revoked {
        /// Which certificate.
        which: &'static str,
    },
    /// A revocation list that is not of now.
    #[error("the revocation list for {which} is not of now: {reason}")]
    ListExpired {
        /// Which certificate it is for.
        which: &'static str,
        /// Its dates.
        reason: String,
    },
    /// A wrong extension.
    #[error("{which}: {reason}")]
    Extension {
        /// Which certificate.
        which: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Reads exactly one certificate.
pub fn parse<'a>(which: &'static str, der: &'a [u8]) -> Result<X509Certificate<'a>, ChainError> {
    let malformed = |reason: &str| ChainError::Malformed {
        which,
        reason: reason.to_owned(),
    };
    if der.len() > MAX_CERTIFICATE_LEN {
        return Err(malformed("it is too large"));
    }
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| malformed(&error.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed("bytes follow it"));
    }
    if !same_algorithm(der, certificate.tbs_certificate.as_ref()) {
        return Err(malformed("it names two signature algorithms"));
    }
    if certificate.signature_value.unused_bits != 0 {
        return Err(malformed("its signature has a broken length"));
    }
    Ok(certificate)
}

/// Whether the algorithm outside the signed part is, byte for byte, one that stands inside it. (The parser compares
/// meanings and overlooks some bits.)
fn same_algorithm(der: &[u8], signed: &[u8]) -> bool {
    let start = signed.as_ptr() as usize - der.as_ptr() as usize;
    let outside = der.get(start + signed.len()..).unwrap_or_default();
    let algorithm = match outside {
        [0x30, length, ..] if *length < 0x80 => outside.get(..2 + usize::from(*length)),
        _ => None,
    };
    algorithm.is_some_and(|algorithm| signed.windows(algorithm.len()).any(|w| w == algorithm))
}

/// SHA-256 of a certificate, by which roots are pinned.
#[must_use]
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// Checks that `child` was issued by `issuer`, and that both are valid at `now`.
pub fn issued(
    child: (&'static str, &X509Certificate<'_>),
    issuer: (&'static str, &X509Certificate<'_>),
    algorithm: &dyn SignatureVerificationAlgorithm,
    now: u64,
) -> Result<(), ChainError> {
    for (which, certificate) in [child, issuer] {
        valid(which, certificate, now)?;
    }
    issued_once(child, issuer, algorithm)
}

/// Checks that `child` was issued by `issuer`, whenever that was.
pub fn issued_once(
    child: (&'static str, &X509Certificate<'_>),
    issuer: (&'static str, &X509Certificate<'_>),
    algorithm: &dyn SignatureVerificationAlgorithm,
) -> Result<(), ChainError> {
    let (which, certificate) = child;
    let (by, authority) = issuer;
    if certificate.issuer().as_raw() != authority.subject().as_raw() {
        return Err(ChainError::Issuer {
            which,
            expected: authority.subject().to_string(),
            found: certificate.issuer().to_string(),
        });
    }
    if !authority.is_ca() {
        return Err(ChainError::NotAuthority { which: by });
    }
    let message: &[u8] = certificate.tbs_certificate.as_ref();
    let signature = &certificate.signature_value.data;
    signed((which, message), issuer, signature, algorithm)
}

/// Checks a signature by the key of a certificate.
pub fn signed(
    what: (&'static str, &[u8]),
    by: (&'static str, &X509Certificate<'_>),
    signature: &[u8],
    algorithm: &dyn SignatureVerificationAlgorithm,
) -> Result<(), ChainError> {
    let ((which, message), (by, signer)) = (what, by);
    let key = &signer.public_key().subject_public_key.data;
    algorithm
        .verify_signature(key, message, signature)
        .map_err(|_| ChainError::Signature { which, by })
}

/// Whether a revocation list (DER) is one of this authority's.
#[must_use]
pub fn is_list_of(list: &[u8], authority: &X509Certificate<'_>) -> bool {
    CertificateRevocationList::from_der(list)
        .is_ok_and(|(_, list)| list.issuer().as_raw() == authority.subject().as_raw())
}

/// Checks that the issuer's list, current at `now`, does not name the certificate. A list without an end is refused:
/// whoever hands it out could keep showing it for ever.
pub fn not_revoked(
    child: (&'static str, &X509Certificate<'_>),
    issuer: (&'static str, &X509Certificate<'_>),
    list: &[u8],
    algorithm: &dyn SignatureVerificationAlgorithm,
    now: u64,
) -> Result<(), ChainError> {
    let which = child.0;
    let malformed = |reason: &str| ChainError::Malformed {
        which: "a revocation list",
        reason: reason.to_owned(),
    };
    let (rest, list) =
        CertificateRevocationList::from_der(list).map_err(|error| malformed(&error.to_string()))?;
    if !rest.is_empty() || list.issuer().as_raw() != issuer.1.subject().as_raw() {
        return Err(malformed("it is another authority's, or bytes follow it"));
    }
    let signature = &list.signature_value.data;
    let message = ("a revocation list", list.tbs_cert_list.as_ref());
    signed(message, issuer, signature, algorithm)?;
    let from = Moment(list.last_update().timestamp());
    let to = list.next_update().map(|time| Moment(time.timestamp()));
    let at = moment(now);
    if at < from || to.is_none_or(|to| at > to) {
        let end = to.map_or_else(|| "no end".to_owned(), |to| to.to_string());
        let reason = format!("from {from} to {end}, and it is {at}");
        return Err(ChainError::ListExpired { which, reason });
    }
    let serial = child.1.raw_serial();
    if list
        .iter_revoked_certificates()
        .any(|entry| entry.raw_serial() == serial)
    {
        return Err(ChainError::Revoked { which });
    }
    Ok(())
}

/// Checks the dates of one certificate.
pub fn valid(
    which: &'static str,
    certificate: &X509Certificate<'_>,
    now: u64,
) -> Result<(), ChainError> {
    let validity = certificate.validity();
    let (from, to) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let at = moment(now);
    if at < Moment(from) || at > Moment(to) {
        return Err(ChainError::Validity {
            which,
            from: Moment(from),
            to: Moment(to),
            now: at,
        });
    }
    Ok(())
}

/// The value of the only extension `oid`.
pub fn extension<'a>(
    which: &'static str,
    certificate: &X509Certificate<'a>,
    oid: &Oid<'_>,
) -> Result<Option<&'a [u8]>, ChainError> {
    let mut found = certificate.extensions().iter().filter(|e| e.oid == *oid);
    let first = found.next().map(|extension| extension.value);
    if found.next().is_some() {
        return Err(ChainError::Extension {
            which,
            reason: format!("extension {oid} occurs twice"),
        });
    }
    Ok(first)
}

/// The first common name of a subject, empty if there is none.
#[must_use]
pub fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> &'a str {
    let name = certificate.subject().iter_common_name().next();
    name.and_then(|name| name.as_str().ok()).unwrap_or_default()
}
