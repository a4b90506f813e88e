//! What Intel publishes about its platforms, as needed to judge a quote: two revocation lists, the TCB info of the
//! platform's family (FMSPC) and the identity of its quoting enclave, each with the certificates that sign it.
//!
//! Nothing in it has to be trusted by where it comes from: every part is signed and is checked at each verification.
//! It is loaded ahead of time and shared; a handshake never fetches.

mod edition;
mod store;

use dcap_qvl::QuoteCollateralV3;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::algorithms::{ecdsa_der, ecdsa_p256_sha256};
use super::chain::{self, ChainError};
use super::lists::Bytes;
use super::tdx::{self, Platform, TdxRoot};
use crate::time::Moment;

pub use edition::{CrlEdition, Edition, SignedEdition};
pub use store::{CollateralSource, CollateralStore, MAX_FAMILIES, Supply, Trouble};

/// Largest collateral read: the revocation list of Intel's platforms has some hundred kilobytes and grows.
pub const MAX_COLLATERAL_LEN: usize = 8 << 20;

/// Why collateral cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CollateralError {
    /// Too large.
    #[error("collateral of {found} bytes is over the limit of {MAX_COLLATERAL_LEN}")]
    TooLarge {
        /// Bytes found.
        found: usize,
    },
    /// A part does not have its form.
    #[error("collateral: {part} cannot be read: {reason}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read.
    #[error("cannot read collateral from {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An older edition than the one that is held already.
    #[error(
        "collateral for platform family {fmspc}: {part} is older ({found}) than what is held ({held}); keeping the newer"
    )]
    Older {
        /// Platform family.
        fmspc: Bytes<6>,
        /// Which part goes back.
        part: &'static str,
        /// Edition offered.
        found: String,
        /// Edition held.
        held: String,
    },
    /// Collateral of something else than TDX.
    #[error("collateral: expected {expected}, found {found}")]
    NotTdx {
        /// What a TDX quote needs.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Not of now.
    #[error(
        "collateral for platform family {fmspc} is good from {issued} to {expires}, and it is {now}"
    )]
    NotOfNow {
        /// Platform family.
        fmspc: Bytes<6>,
        /// When its newest part was issued.
        issued: Moment,
        /// When its first part ends.
        expires: Moment,
        /// Our clock.
        now: Moment,
    },
    /// Not signed by Intel.
    #[error("collateral for platform family {fmspc} is not genuine: {reason}")]
    NotGenuine {
        /// Platform family it claims to be about.
        fmspc: Bytes<6>,
        /// What is wrong.
        reason: ChainError,
    },
    /// More families than are kept.
    #[error("collateral for more than {MAX_FAMILIES} platform families is not kept")]
    TooMany,
}

/// Answers of Intel's service or a PCCS, as they came.
#[derive(Debug, Clone, Copy)]
pub struct ServiceAnswers<'a> {
    /// Body of `/rootcacrl`: DER.
    pub root_ca_crl: &'a [u8],
    /// Body of `/pckcrl?encoding=der`: DER.
    pub pck_crl: &'a [u8],
    /// Header `SGX-PCK-CRL-Issuer-Chain`, percent-encoded PEM.
    pub pck_crl_issuer_chain: &'a str,
    /// Body of `/tcb`: JSON with the signed text inside.
    pub tcb_info: &'a str,
    /// Header `TCB-Info-Issuer-Chain`, percent-encoded PEM.
    pub tcb_info_issuer_chain: &'a str,
    /// Body of `/qe/identity`: JSON with the signed text inside.
    pub qe_identity: &'a str,
    /// Header `SGX-Enclave-Identity-Issuer-Chain`, percent-encoded PEM.
    pub qe_identity_issuer_chain: &'a str,
}

/// The collateral of one platform family.
#[derive(Clone)]
pub struct TdxCollateral {
    inner: QuoteCollateralV3,
    hash: [u8; 32],
    fmspc: Bytes<6>,
}

/// The common file form: one JSON object, signed texts as strings, lists and signatures in hexadecimal.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
    /// Some tools add the platform's own chain. It is not used: the chain inside the quote is the one to verify.
    #[serde(default, rename = "pck_certificate_chain", skip_serializing)]
    _pck_certificate_chain: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedTcbInfo<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    text: &'a RawValue,
    signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedIdentity<'a> {
    #[serde(borrow, rename = "enclaveIdentity")]
    text: &'a RawValue,
    signature: String,
}

/// The few fields of the signed text that say what it is about. The verifier reads all of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    fmspc: Bytes<6>,
}

impl TdxCollateral {
    /// Reads the common file form (`tcb_info`, `tcb_info_signature`, `root_ca_crl`, …).
    pub fn from_json(text: &str) -> Result<Self, CollateralError> {
        limit(text.len())?;
        let bundle: Bundle = serde_json::from_str(text).map_err(|e| malformed("file", &e))?;
        Self::new(QuoteCollateralV3 {
            pck_crl_issuer_chain: bundle.pck_crl_issuer_chain,
            root_ca_crl: unhex("root_ca_crl", &bundle.root_ca_crl)?,
            pck_crl: unhex("pck_crl", &bundle.pck_crl)?,
            tcb_info_issuer_chain: bundle.tcb_info_issuer_chain,
            tcb_info: bundle.tcb_info,
            tcb_info_signature: unhex("tcb_info_signature", &bundle.tcb_info_signature)?,
            qe_identity_issuer_chain: bundle.qe_identity_issuer_chain,
            qe_identity: bundle.qe_identity,
            qe_identity_signature: unhex("qe_identity_signature", &bundle.qe_identity_signature)?,
            pck_certificate_chain: None,
        })
    }

    /// Takes the answers of the service apart. The signatures cover the exact text of the inner object, which is kept
    /// as it came.
    pub fn from_service(answers: &ServiceAnswers<'_>) -> Result<Self, CollateralError> {
        let size = answers.root_ca_crl.len()
            + answers.pck_crl.len()
            + answers.tcb_info.len()
            + answers.qe_identity.len();
        limit(size)?;
        let tcb: SignedTcbInfo<'_> =
            serde_json::from_str(answers.tcb_info).map_err(|e| malformed("tcb_info", &e))?;
        let qe: SignedIdentity<'_> =
            serde_json::from_str(answers.qe_identity).map_err(|e| malformed("qe_identity", &e))?;
        Self::new(QuoteCollateralV3 {
            pck_crl_issuer_chain: unescape("pck_crl_issuer_chain", answers.pck_crl_issuer_chain)?,
            root_ca_crl: answers.root_ca_crl.to_vec(),
            pck_crl: answers.pck_crl.to_vec(),
            tcb_info_issuer_chain: unescape(
                "tcb_info_issuer_chain",
                answers.tcb_info_issuer_chain,
            )?,
            tcb_info: tcb.text.get().to_owned(),
            tcb_info_signature: unhex("tcb_info signature", &tcb.signature)?,
            qe_identity_issuer_chain: unescape(
                "qe_identity_issuer_chain",
                answers.qe_identity_issuer_chain,
            )?,
            qe_identity: qe.text.get().to_owned(),
            qe_identity_signature: unhex("qe_identity signature", &qe.signature)?,
            pck_certificate_chain: None,
        })
    }

    fn new(inner: QuoteCollateralV3) -> Result<Self, CollateralError> {
        let subject: Subject =
            serde_json::from_str(&inner.tcb_info).map_err(|e| malformed("tcb_info", &e))?;
        let mut hash = Sha256::new();
        for part in [
            inner.pck_crl_issuer_chain.as_bytes(),
            &inner.root_ca_crl,
            &inner.pck_crl,
            inner.tcb_info_issuer_chain.as_bytes(),
            inner.tcb_info.as_bytes(),
            &inner.tcb_info_signature,
            inner.qe_identity_issuer_chain.as_bytes(),
            inner.qe_identity.as_bytes(),
            &inner.qe_identity_signature,
        ] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Ok(TdxCollateral {
            hash: hash.finalize().into(),
            fmspc: subject.fmspc,
            inner,
        })
    }

    /// The platform family it claims to be about; unverified until a quote is verified with it.
    #[must_use]
    pub fn fmspc(&self) -> Bytes<6> {
        self.fmspc
    }

    /// Which platforms it claims to be about.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            fmspc: self.fmspc,
            issuer: issuer_name(&self.inner.pck_crl_issuer_chain),
        }
    }

    /// Which editions its parts are, and how long all of it counts.
    pub fn edition(&self) -> Result<Edition, CollateralError> {
        Edition::read(&self.inner)
    }

    /// The common file form, which [`Self::from_json`] reads.
    #[must_use]
    pub fn to_json(&self) -> String {
        let parts = &self.inner;
        let bundle = Bundle {
            pck_crl_issuer_chain: parts.pck_crl_issuer_chain.clone(),
            root_ca_crl: hex::encode(&parts.root_ca_crl),
            pck_crl: hex::encode(&parts.pck_crl),
            tcb_info_issuer_chain: parts.tcb_info_issuer_chain.clone(),
            tcb_info: parts.tcb_info.clone(),
            tcb_info_signature: hex::encode(&parts.tcb_info_signature),
            qe_identity_issuer_chain: parts.qe_identity_issuer_chain.clone(),
            qe_identity: parts.qe_identity.clone(),
            qe_identity_signature: hex::encode(&parts.qe_identity_signature),
            _pck_certificate_chain: None,
        };
        // Texts alone, so it cannot fail; nothing reads an empty file as collateral.
        serde_json::to_string_pretty(&bundle).unwrap_or_default()
    }

    /// Whether it is about platforms of family `fmspc` with certificates issued under the common name `issuer`.
    #[must_use]
    pub fn is_for(&self, fmspc: Bytes<6>, issuer: Option<&str>) -> bool {
        self.fmspc == fmspc && issuer_name(&self.inner.pck_crl_issuer_chain).as_deref() == issuer
    }

    /// Checks every signature in it up to the root, at any time: dates and revocations count when a quote is verified.
    pub fn verify_signatures(&self, root: TdxRoot) -> Result<(), ChainError> {
        let parts = &self.inner;
        let algorithm = ecdsa_p256_sha256();
        let texts: [(&'static str, &str, &str, &[u8]); 2] = [
            (
                "the TCB info",
                &parts.tcb_info_issuer_chain,
                &parts.tcb_info,
                &parts.tcb_info_signature,
            ),
            (
                "the identity of the quoting enclave",
                &parts.qe_identity_issuer_chain,
                &parts.qe_identity,
                &parts.qe_identity_signature,
            ),
        ];
        for (which, chain, text, signature) in texts {
            let [signer, anchor] = pair(chain)?;
            let (signer, anchor) = under(&signer, &anchor, root)?;
            chain::issued_once((SIGNER, &signer), (ROOT, &anchor), algorithm)?;
            let (r, s) = signature.split_at(signature.len() / 2);
            let der = ecdsa_der(r, s);
            chain::signed((which, text.as_bytes()), (SIGNER, &signer), &der, algorithm)?;
        }
        let [authority, anchor] = pair(&parts.pck_crl_issuer_chain)?;
        let (authority, anchor) = under(&authority, &anchor, root)?;
        chain::issued_once((AUTHORITY, &authority), (ROOT, &anchor), algorithm)?;
        for (which, der, by) in [
            (
                "the platforms' revocation list",
                &parts.pck_crl,
                (AUTHORITY, &authority),
            ),
            (
                "the root's revocation list",
                &parts.root_ca_crl,
                (ROOT, &anchor),
            ),
        ] {
            let malformed = |reason: String| ChainError::Malformed { which, reason };
            let (_, list) = CertificateRevocationList::from_der(der)
                .map_err(|error| malformed(error.to_string()))?;
            let signature = &list.signature_value.data;
            chain::signed(
                (which, list.tbs_cert_list.as_ref()),
                by,
                signature,
                algorithm,
            )?;
        }
        Ok(())
    }

    /// A name for exactly these bytes.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    pub(crate) fn parts(&self) -> &QuoteCollateralV3 {
        &self.inner
    }
}

impl std::fmt::Debug for TdxCollateral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TdxCollateral")
            .field("fmspc", &self.fmspc)
            .field("hash", &hex::encode(self.hash))
            .finish_non_exhaustive()
    }
}

const ROOT: &str = "Intel's root certificate";
const SIGNER: &str = "Intel's signing certificate";
const AUTHORITY: &str = "the platforms' authority";

/// The two certificates of a chain in the collateral.
fn pair(chain: &str) -> Result<[Vec<u8>; 2], ChainError> {
    let ders = tdx::certificates(chain.as_bytes());
    ders.try_into().map_err(|_| ChainError::Malformed {
        which: "a chain of the collateral",
        reason: "a certificate and the root are expected".to_owned(),
    })
}

fn under<'a>(
    first: &'a [u8],
    anchor: &'a [u8],
    root: TdxRoot,
) -> Result<(X509Certificate<'a>, X509Certificate<'a>), ChainError> {
    let found = chain::fingerprint(anchor);
    if !root.is(&found) {
        return Err(ChainError::Root { which: ROOT, found });
    }
    Ok((chain::parse(SIGNER, first)?, chain::parse(ROOT, anchor)?))
}

/// Common name of the first certificate of a chain.
fn issuer_name(chain: &str) -> Option<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let mut names = certificate.subject().iter_common_name();
    names.next()?.as_str().ok().map(str::to_owned)
}

fn limit(found: usize) -> Result<(), CollateralError> {
    if found > MAX_COLLATERAL_LEN {
        return Err(CollateralError::TooLarge { found });
    }
    Ok(())
}

fn malformed(part: &'static str, reason: &dyn std::fmt::Display) -> CollateralError {
    CollateralError::Malformed {
        part,
        reason: reason.to_string(),
    }
}

fn unhex(part: &'static str, text: &str) -> Result<Vec<u8>, CollateralError> {
    hex::decode(text).map_err(|e| malformed(part, &e))
}

/// Undoes percent-encoding, which the service uses to put PEM into a header.
fn unescape(part: &'static str, text: &str) -> Result<String, CollateralError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let digits = tail
            .get(..2)
            .ok_or_else(|| malformed(part, &"it ends after a %"))?;
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).map_err(|e| malformed(part, &e))?;
        out.push(byte[0]);
        rest = &tail[2..];
    }
    String::from_utf8(out).map_err(|e| malformed(part, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding() {
        assert_eq!(unescape("x", "a%20b%0A").unwrap(), "a b\n");
        for bad in ["%", "%4", "%zz", "%ff"] {
            unescape("x", bad).unwrap_err();
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        for text in ["", "{}", "[]", "{\"tcb_info\": 5}"] {
            TdxCollateral::from_json(text).unwrap_err();
        }
    }
}
