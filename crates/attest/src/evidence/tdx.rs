//! Is a TDX quote genuine, and what does it say?
//!
//! The chain of proof: Intel's root → platform certificate (in the quote) → quoting enclave → attestation key → the
//! quote; and Intel's root → the TCB info and the enclave's identity, which say how well patched all of that is. The
//! arithmetic is `dcap-qvl`'s; the root, the clock and the collateral are arguments, and our own policy stands behind
//! it ([`super::tdx_policy`]).

use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::policy::{PckCertFlag, QuoteClaims, QuotePolicy};
use dcap_qvl::verify::QuoteVerifier;
use rustls::pki_types::SignatureVerificationAlgorithm;
use sha2::{Digest, Sha256, Sha384};
use x509_parser::pem::Pem;

use super::algorithms;
use super::chain::{self, ChainError};
use super::collateral::{Supply, TdxCollateral};
use super::lists::Bytes;
use crate::quote::{self, MAX_QUOTE_LEN, QuoteBody, QuoteError, TdBody};
use crate::time::{Moment, moment};

/// SHA-256 of the certificate "Intel SGX Root CA" in DER (valid to 2049-12-31).
pub const INTEL_ROOT_SHA256: [u8; 32] = [
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35,
    0x0e, 0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
];
/// Most certificates looked at in a chain; Intel's have two or three.
const MAX_CHAIN: usize = 6;
/// Type of certification data that carries the platform's chain.
pub(super) const PCK_CHAIN: u16 = 5;
/// Type of certification data that carries the quoting enclave's report.
const QE_REPORT: u16 = 6;

/// Which certificate is the root of trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TdxRoot {
    sha256: [u8; 32],
}

impl TdxError {
    /// Whether another try may succeed without anybody changing a configuration: collateral is on its way.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            TdxError::NoCollateral { supply, .. } | TdxError::CollateralEnded { supply, .. } => {
                supply.is_transient()
            }
            _ => false,
        }
    }
}

impl TdxRoot {
    /// Intel's.
    pub const INTEL: TdxRoot = TdxRoot {
        sha256: INTEL_ROOT_SHA256,
    };

    /// Another one, by the SHA-256 of its certificate. For tests with a software TEE; whoever knows its key can claim
    /// to be any machine.
    #[must_use]
    pub fn pinned(sha256: [u8; 32]) -> Self {
        TdxRoot { sha256 }
    }

    pub(crate) fn is(&self, fingerprint: &[u8; 32]) -> bool {
        self.sha256 == *fingerprint
    }
}

/// How Intel rates a platform. "Revoked" is missing: it cannot be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TcbStatus {
    /// Everything known is patched.
    UpToDate,
    /// The software inside must have mitigations that cannot be seen from outside.
    #[serde(rename = "SWHardeningNeeded")]
    SwHardeningNeeded,
    /// Patched, but not configured as advised.
    ConfigurationNeeded,
    /// Both of the above.
    #[serde(rename = "ConfigurationAndSWHardeningNeeded")]
    ConfigurationAndSwHardeningNeeded,
    /// A published weakness is not patched.
    OutOfDate,
    /// That, and not configured as advised.
    OutOfDateConfigurationNeeded,
    /// The platform is patched, but this domain was started before.
    #[serde(rename = "TDRelaunchAdvised")]
    TdRelaunchAdvised,
    /// That, and not configured as advised.
    #[serde(rename = "TDRelaunchAdvisedConfigurationNeeded")]
    TdRelaunchAdvisedConfigurationNeeded,
}

impl std::fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TcbStatus::UpToDate => "UpToDate",
            TcbStatus::SwHardeningNeeded => "SWHardeningNeeded",
            TcbStatus::ConfigurationNeeded => "ConfigurationNeeded",
            TcbStatus::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            TcbStatus::OutOfDate => "OutOfDate",
            TcbStatus::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            TcbStatus::TdRelaunchAdvised => "TDRelaunchAdvised",
            TcbStatus::TdRelaunchAdvisedConfigurationNeeded => {
                "TDRelaunchAdvisedConfigurationNeeded"
            }
        })
    }
}

/// What a verified quote says, and what Intel says about the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxClaims {
    /// The signed body.
    pub body: TdBody,
    /// Rating of platform, module and quoting enclave together.
    pub tcb_status: TcbStatus,
    /// Published weaknesses that are open on the platform, like `INTEL-SA-01036`.
    pub advisory_ids: Vec<String>,
    /// Edition of Intel's ratings; grows with every disclosure.
    pub evaluation_number: u32,
    /// Date of the platform's patch level, Unix seconds.
    pub tcb_date: u64,
    /// Platform family.
    pub fmspc: Bytes<6>,
    /// Identity of the processor package.
    pub ppid: Bytes<16>,
    /// The platform can be extended with packages.
    pub dynamic_platform: bool,
    /// Intel keeps the platform's root keys.
    pub cached_keys: bool,
    /// Hyper-threads share a core.
    pub smt: bool,
    /// SHA-384 of the root's public key: the collateral root hash of spec 4.2.
    pub root_hash: [u8; 48],
    /// When the last part of the collateral was issued, Unix seconds.
    pub collateral_issued: u64,
    /// When the first part of the collateral ends to be valid, Unix seconds.
    pub collateral_expires: u64,
}

/// Why a quote is not accepted as genuine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TdxError {
    /// Not a quote.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// Too long.
    #[error("the quote has {found} bytes, more than the limit of {MAX_QUOTE_LEN}")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// An enclave's quote.
    #[error("this is an SGX quote, a TDX quote is required")]
    Sgx,
    /// Bytes after the signature that nobody signed.
    #[error("{found} bytes other than zero padding follow the quote's signature")]
    Trailing {
        /// How many.
        found: usize,
    },
    /// No chain of certificates in the quote.
    #[error("the platform's certificate chain in the quote cannot be used: {0}")]
    NoChain(&'static str),
    /// The collateral's chain does not end in the pinned root.
    #[error(
        "the collateral is not signed under the expected root certificate (SHA-256 {})",
        hex::encode(expected)
    )]
    Root {
        /// The pinned root.
        expected: [u8; 32],
    },
    /// No collateral for the platform.
    #[error(
        "no collateral is loaded for platform family {fmspc} ({}): {supply}",
        issuer.as_deref().unwrap_or("unknown issuer")
    )]
    NoCollateral {
        /// Platform family.
        fmspc: Bytes<6>,
        /// Who issued the platform's certificate.
        issuer: Option<String>,
        /// What is being done about it.
        supply: Supply,
    },
    /// The collateral for the platform has ended, and there is no newer.
    #[error(
        "{reason}; the collateral for platform family {fmspc} ended at {ended}, and there is no newer: {supply}"
    )]
    CollateralEnded {
        /// Platform family.
        fmspc: Bytes<6>,
        /// When its first part ended.
        ended: Moment,
        /// What verification says.
        reason: String,
        /// What is being done about it.
        supply: Supply,
    },
    /// The clock is behind the collateral: a host that sets it back could bring expired ratings to life.
    #[error(
        "it cannot be {now}: part of the collateral was issued at {issued}. Is the clock wrong?"
    )]
    Clock {
        /// Our clock.
        now: Moment,
        /// Issue date of the newest part.
        issued: Moment,
    },
    /// Some signature, date, revocation or rating is not right.
    #[error("the quote does not verify: {0}")]
    Verification(String),
}

/// What a quote says about the platform before anything is verified: enough to find its collateral.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// Family.
    pub fmspc: Bytes<6>,
    /// Common name of the authority that issued its certificate.
    pub issuer: Option<String>,
}

/// Verifies a quote at the time `now` (Unix seconds).
///
/// `service_td` accepts a domain bound to a service domain; the policy has to look at which one.
pub fn verify(
    bytes: &[u8],
    collateral: &TdxCollateral,
    now: u64,
    root: TdxRoot,
    service_td: bool,
) -> Result<TdxClaims, TdxError> {
    let body = unverified_body(bytes)?;
    let root_der = root_certificate(collateral, root)?;
    let chain = certificates(pck_chain(
        signature_data(bytes, quote::parse(bytes)?.signed_len)?.0,
    )?);
    // The verifier builds its own path to the root; a copy in the quote that is something else has no business there.
    if chain.len() != 3 || chain[2] != root_der {
        return Err(TdxError::NoChain(
            "three certificates are expected, the last being the root",
        ));
    }
    // The library's own policy only supplies the clock here: every judgement of the claims is ours.
    let claims = QuoteVerifier::<Backend>::new_with_config(root_der)
        .allow_service_td(service_td)
        .verify_with_policy(
            bytes,
            collateral.parts(),
            now,
            &QuotePolicy::claims_only(now),
        )
        .map_err(|error| TdxError::Verification(format!("{error:#}")))?;
    let claims = convert(body, claims)?;
    if claims.collateral_issued > now {
        return Err(TdxError::Clock {
            now: moment(now),
            issued: moment(claims.collateral_issued),
        });
    }
    Ok(claims)
}

/// The body of a TDX quote whose outer form is right: a length within bounds, nothing but zeros after the signature.
pub fn unverified_body(bytes: &[u8]) -> Result<TdBody, TdxError> {
    if bytes.len() > MAX_QUOTE_LEN {
        return Err(TdxError::TooLong { found: bytes.len() });
    }
    let quote = quote::parse(bytes)?;
    let QuoteBody::Tdx(body) = quote.body else {
        return Err(TdxError::Sgx);
    };
    let (signature, rest) = signature_data(bytes, quote.signed_len)?;
    pck_chain(signature)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(TdxError::Trailing { found: rest.len() });
    }
    Ok(*body)
}

/// What the quote says about its platform.
pub fn platform(bytes: &[u8]) -> Result<Platform, TdxError> {
    unverified_body(bytes)?;
    let quote = quote::parse(bytes)?;
    let (signature, _) = signature_data(bytes, quote.signed_len)?;
    let leaf = certificates(pck_chain(signature)?).into_iter().next();
    let leaf = leaf.ok_or(TdxError::NoChain("it holds no certificate"))?;
    let extension = dcap_qvl::intel::parse_pck_extension_with::<Backend>(&leaf)
        .map_err(|error| TdxError::Verification(format!("{error:#}")))?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&leaf)
        .map_err(|_| TdxError::NoChain("its first certificate cannot be read"))?;
    let issuer = certificate.issuer().iter_common_name().next();
    Ok(Platform {
        fmspc: Bytes(extension.fmspc),
        issuer: issuer
            .and_then(|name| name.as_str().ok())
            .map(str::to_owned),
    })
}

/// Checks that the platform's certificate was issued under the root, at any time and whether revoked or not. Enough to
/// know that the platform exists and its collateral is worth fetching, and not more.
pub fn genuine_platform(bytes: &[u8], root: TdxRoot) -> Result<Platform, TdxError> {
    const PLATFORM: &str = "the platform's certificate";
    const AUTHORITY: &str = "the platforms' authority";
    const ROOT: &str = "Intel's root certificate";
    let platform = platform(bytes)?;
    let (signature, _) = signature_data(bytes, quote::parse(bytes)?.signed_len)?;
    let ders = certificates(pck_chain(signature)?);
    let [leaf, authority, anchor] = &ders[..] else {
        return Err(TdxError::NoChain(
            "three certificates are expected, the last being the root",
        ));
    };
    let check = || -> Result<(), ChainError> {
        let found = chain::fingerprint(anchor);
        if !root.is(&found) {
            return Err(ChainError::Root { which: ROOT, found });
        }
        let (leaf, authority) = (
            chain::parse(PLATFORM, leaf)?,
            chain::parse(AUTHORITY, authority)?,
        );
        let anchor = chain::parse(ROOT, anchor)?;
        let algorithm = algorithms::ecdsa_p256_sha256();
        chain::issued_once((AUTHORITY, &authority), (ROOT, &anchor), algorithm)?;
        chain::issued_once((PLATFORM, &leaf), (AUTHORITY, &authority), algorithm)
    };
    check().map_err(|error| TdxError::Verification(error.to_string()))?;
    Ok(platform)
}

/// The signature data and what follows it.
pub(super) fn signature_data(bytes: &[u8], signed: usize) -> Result<(&[u8], &[u8]), TdxError> {
    let truncated = |expected| QuoteError::Truncated {
        field: "signature data",
        expected,
        found: bytes.len(),
    };
    let (length, rest) = bytes
        .get(signed..)
        .and_then(|rest| rest.split_first_chunk::<4>())
        .ok_or_else(|| truncated(signed + 4))?;
    let length = u32::from_le_bytes(*length) as usize;
    rest.split_at_checked(length)
        .ok_or_else(|| truncated((signed + 4).saturating_add(length)).into())
}

/// The platform's chain inside the signature data (spec 9.2).
fn pck_chain(signature: &[u8]) -> Result<&[u8], TdxError> {
    let outer = certification(signature.get(128..), QE_REPORT)?;
    let inner = outer
        .get(384 + 64..)
        .and_then(|rest| rest.split_first_chunk::<2>());
    let (auth_length, rest) = inner.ok_or(TdxError::NoChain("its enclave report is cut off"))?;
    certification(
        rest.get(usize::from(u16::from_le_bytes(*auth_length))..),
        PCK_CHAIN,
    )
}

pub(super) fn certification(bytes: Option<&[u8]>, expected: u16) -> Result<&[u8], TdxError> {
    let cut = TdxError::NoChain("its certification data is cut off");
    let Some((head, rest)) = bytes.and_then(|bytes| bytes.split_first_chunk::<6>()) else {
        return Err(cut);
    };
    if u16::from_le_bytes([head[0], head[1]]) != expected {
        return Err(TdxError::NoChain("its certification data has another type"));
    }
    let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
    // Lengths are not signed, so they have to fit exactly: no byte of a quote can change without being noticed.
    if rest.len() > length {
        return Err(TdxError::NoChain("bytes follow its certification data"));
    }
    rest.get(..length).ok_or(cut)
}

/// The certificate with the pinned hash, out of the chains that come with the collateral.
pub(super) fn root_certificate(
    collateral: &TdxCollateral,
    root: TdxRoot,
) -> Result<Vec<u8>, TdxError> {
    let parts = collateral.parts();
    [
        &parts.tcb_info_issuer_chain,
        &parts.qe_identity_issuer_chain,
        &parts.pck_crl_issuer_chain,
    ]
    .into_iter()
    .flat_map(|chain| certificates(chain.as_bytes()))
    .find(|der| Sha256::digest(der)[..] == root.sha256)
    .ok_or(TdxError::Root {
        expected: root.sha256,
    })
}

/// The first certificates of a PEM text; anything that is not PEM ends the list.
pub(crate) fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    Pem::iter_from_buffer(pem)
        .take(MAX_CHAIN)
        .map_while(Result::ok)
        .map(|pem| pem.contents)
        .collect()
}

/// The library's rating in our words; a revoked platform has none.
pub(super) fn status(theirs: dcap_qvl::TcbStatus) -> Result<TcbStatus, TdxError> {
    use dcap_qvl::TcbStatus as Theirs;
    Ok(match theirs {
        Theirs::UpToDate => TcbStatus::UpToDate,
        Theirs::SWHardeningNeeded => TcbStatus::SwHardeningNeeded,
        Theirs::ConfigurationNeeded => TcbStatus::ConfigurationNeeded,
        Theirs::ConfigurationAndSWHardeningNeeded => TcbStatus::ConfigurationAndSwHardeningNeeded,
        Theirs::OutOfDate => TcbStatus::OutOfDate,
        Theirs::OutOfDateConfigurationNeeded => TcbStatus::OutOfDateConfigurationNeeded,
        Theirs::TDRelaunchAdvised => TcbStatus::TdRelaunchAdvised,
        Theirs::TDRelaunchAdvisedConfigurationNeeded => {
            TcbStatus::TdRelaunchAdvisedConfigurationNeeded
        }
        Theirs::Revoked => {
            return Err(TdxError::Verification("the platform is revoked".to_owned()));
        }
    })
}

fn convert(body: TdBody, claims: QuoteClaims) -> Result<TdxClaims, TdxError> {
    let unexpected = |what: &str| TdxError::Verification(what.to_owned());
    let tcb_status = status(claims.tcb.status)?;
    // The rating of a restarted module and that of the launch can name different weaknesses; a person wants them all.
    let mut advisory_ids = claims.tcb.advisory_ids;
    let levels = [
        Some(&claims.platform.tcb_level),
        claims.platform.current_tcb_level.as_ref(),
    ];
    for id in levels
        .into_iter()
        .flatten()
        .flat_map(|level| &level.advisory_ids)
    {
        if !advisory_ids.contains(id) {
            advisory_ids.push(id.clone());
        }
    }
    let pck = &claims.platform.pck;
    Ok(TdxClaims {
        body,
        tcb_status,
        advisory_ids,
        evaluation_number: claims.tcb.eval_data_number,
        tcb_date: claims.platform.tcb_date_tag,
        fmspc: Bytes(pck.fmspc),
        ppid: Bytes(
            <[u8; 16]>::try_from(&pck.ppid[..])
                .map_err(|_| unexpected("the platform's PPID has not 16 bytes"))?,
        ),
        dynamic_platform: pck.dynamic_platform == PckCertFlag::True,
        cached_keys: pck.cached_keys == PckCertFlag::True,
        smt: pck.smt_enabled == PckCertFlag::True,
        root_hash: <[u8; 48]>::try_from(&claims.platform.root_key_id[..])
            .map_err(|_| unexpected("the root's key hash has not 48 bytes"))?,
        collateral_issued: claims.latest_issue_date,
        collateral_expires: claims.earliest_expiration_date,
    })
}

/// The library with its parsers and our signatures and hashes.
pub(super) struct Backend;

impl Config for Backend {
    type X509 = dcap_qvl::x509::X509CertBackend;
    type SigEncoder = dcap_qvl::signature::DerSigEncoder;
    type Crypto = Backend;
}

impl CryptoProvider for Backend {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        algorithms::ecdsa_p256_sha256()
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        Sha384::digest(data).into()
    }
}
