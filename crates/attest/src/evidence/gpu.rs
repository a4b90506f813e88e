//! Is an NVIDIA GPU's report genuine, and what does it say? Hopper and Blackwell in confidential computing mode.
//!
//! A report is an SPDM 1.1 measurement request and its response, as the driver hands them out. The GPU signs both, so
//! the request's nonce binds a report to the moment or to the key for which it was asked. The chain of proof: NVIDIA's
//! device root → model → provisioning → this GPU → its firmware's key → the report.

use std::fmt;

use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::asn1_rs::oid;

use super::algorithms::{ecdsa_der, ecdsa_p384_sha384};
use super::chain::{self, ChainError};
use super::gpu_report::{DIGEST_LEN, SIGNATURE_LEN};
pub use super::gpu_report::{GpuReport, MAX_REPORT_LEN, Mode};
use super::lists::Bytes;

/// SHA-256 of the certificate "NVIDIA Device Identity CA" in DER.
pub const NVIDIA_ROOT_SHA256: [u8; 32] = [
    0x10, 0x2b, 0xf6, 0x59, 0xd5, 0x41, 0x96, 0x14, 0xc9, 0xd8, 0xe6, 0xae, 0xce, 0xbc, 0x80, 0x45,
    0x4e, 0xb2, 0x6b, 0x1d, 0xf6, 0xa7, 0x69, 0xac, 0x72, 0x0b, 0x9a, 0x69, 0x0b, 0x16, 0x7b, 0x48,
];
/// Largest chain read, PEM; real ones have some 5 kB.
pub const MAX_CHAIN_LEN: usize = 32_768;
/// Certificates of a GPU's chain.
const CHAIN: usize = 5;

/// Which certificate is the root of trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuRoot {
    sha256: [u8; 32],
}

impl GpuRoot {
    /// NVIDIA's.
    pub const NVIDIA: GpuRoot = GpuRoot {
        sha256: NVIDIA_ROOT_SHA256,
    };

    /// Another one, by the SHA-256 of its certificate, for tests with a software GPU.
    #[must_use]
    pub fn pinned(sha256: [u8; 32]) -> Self {
        GpuRoot { sha256 }
    }
}

/// GPU generations with confidential computing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// GH100: H100, H200.
    Hopper,
    /// GB100 and its kin: B100, B200.
    Blackwell,
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Architecture::Hopper => "hopper",
            Architecture::Blackwell => "blackwell",
        })
    }
}

/// A verified report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuClaims {
    /// Its fields.
    pub report: GpuReport,
    /// Generation.
    pub architecture: Architecture,
    /// Model as its certificate names it, like `GH100 A01 GSP BROM`.
    pub model: String,
    /// Both authorities' revocation lists were there, and nothing of the chain is on them.
    pub revocation_checked: bool,
    /// Serial number of the GPU's own certificate, hexadecimal: the name of this one piece.
    pub device: String,
}

/// Why a report is not accepted as genuine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// It cannot be read.
    #[error("the GPU report cannot be read: {0}")]
    Malformed(&'static str),
    /// The chain has another number of certificates.
    #[error("a GPU's chain has {CHAIN} certificates, this has {0}")]
    ChainLength(usize),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The report's signature.
    #[error("the report is not signed by the GPU's key")]
    Signature,
    /// A model of unknown kind.
    #[error("\"{0}\" is no known generation of GPUs (GH… and GB… are)")]
    Model(String),
    /// Report and certificate name different firmware.
    #[error("the report is of firmware {report}, the certificate of {certificate}")]
    Firmware {
        /// In the report.
        report: Bytes<DIGEST_LEN>,
        /// In the certificate.
        certificate: Bytes<DIGEST_LEN>,
    },
}

/// The nonce that binds a GPU's report to a TLS key: nobody can show the report of another machine's GPU.
#[must_use]
pub fn nonce_for_key(public_key: &[u8; 32]) -> Bytes<32> {
    let mut hash = Sha256::new();
    hash.update(b"cocoon gpu evidence 1\0");
    hash.update(public_key);
    Bytes(hash.finalize().into())
}

const NAMES: [&str; CHAIN] = [
    "the certificate of the GPU's firmware",
    "the GPU's certificate",
    "NVIDIA's provisioning certificate",
    "NVIDIA's model certificate",
    "NVIDIA's root certificate",
];

/// Verifies a report with its chain (PEM, leaf first) at the time `now` (Unix seconds). `lists` are revocation lists of
/// the chain's authorities, in DER; those of others are passed over.
pub fn verify(
    bytes: &[u8],
    pem: &[u8],
    lists: &[Vec<u8>],
    now: u64,
    root: GpuRoot,
) -> Result<GpuClaims, GpuError> {
    let report = GpuReport::parse(bytes)?;
    if pem.len() > MAX_CHAIN_LEN {
        return Err(GpuError::Malformed("its chain is too long"));
    }
    let ders = super::tdx::certificates(pem);
    let ders: [Vec<u8>; CHAIN] = ders
        .try_into()
        .map_err(|ders: Vec<_>| GpuError::ChainLength(ders.len()))?;
    let found = chain::fingerprint(&ders[CHAIN - 1]);
    if found != root.sha256 {
        return Err(ChainError::Root {
            which: NAMES[CHAIN - 1],
            found,
        }
        .into());
    }
    let mut certificates = Vec::with_capacity(CHAIN);
    for (name, der) in NAMES.iter().zip(&ders) {
        certificates.push((*name, chain::parse(name, der)?));
    }
    for pair in certificates.windows(2) {
        let [(child, certificate), (by, issuer)] = pair else {
            continue;
        };
        chain::issued((child, certificate), (by, issuer), ecdsa_p384_sha384(), now)?;
    }
    let revocation_checked = check_lists(&certificates, lists, now)?;
    let leaf = &certificates[0].1;
    let device = &certificates[1].1;
    let (signed, signature) = bytes.split_at(report.signed);
    let (r, s) = signature[..SIGNATURE_LEN].split_at(SIGNATURE_LEN / 2);
    ecdsa_p384_sha384()
        .verify_signature(
            &leaf.public_key().subject_public_key.data,
            signed,
            &ecdsa_der(r, s),
        )
        .map_err(|_| GpuError::Signature)?;
    let certified = certified_firmware(leaf)?;
    if let Some(measured) = report.fwid
        && measured != certified
    {
        return Err(GpuError::Firmware {
            report: measured,
            certificate: certified,
        });
    }
    let model = chain::common_name(device).to_owned();
    let architecture = match model.get(..2) {
        Some("GH") => Architecture::Hopper,
        Some("GB") => Architecture::Blackwell,
        _ => return Err(GpuError::Model(model)),
    };
    Ok(GpuClaims {
        architecture,
        model,
        revocation_checked,
        device: hex::encode(device.raw_serial()),
        report,
    })
}

/// NVIDIA publishes a list of its root (for models) and one of each model (for provisioning).
fn check_lists(
    certificates: &[(&'static str, X509Certificate<'_>)],
    lists: &[Vec<u8>],
    now: u64,
) -> Result<bool, GpuError> {
    let mut checked = 0;
    for pair in certificates[2..].windows(2) {
        let [(child, certificate), (by, issuer)] = pair else {
            continue;
        };
        let (child, issuer) = ((*child, certificate), (*by, issuer));
        let mut found = false;
        for list in lists
            .iter()
            .filter(|list| chain::is_list_of(list, issuer.1))
        {
            chain::not_revoked(child, issuer, list, ecdsa_p384_sha384(), now)?;
            found = true;
        }
        checked += usize::from(found);
    }
    Ok(checked == certificates.len() - 3)
}

/// The firmware's measurement in the leaf. Hopper has it in one DICE extension (composite device identity), Blackwell
/// in another (TCB info), which also says whether the firmware runs for debugging.
fn certified_firmware(leaf: &X509Certificate<'_>) -> Result<Bytes<DIGEST_LEN>, GpuError> {
    let bad = |reason: &str| {
        GpuError::from(ChainError::Extension {
            which: NAMES[0],
            reason: reason.to_owned(),
        })
    };
    let composite = chain::extension(NAMES[0], leaf, &oid!(2.23.133.5.4.1))?;
    let tcb_info = chain::extension(NAMES[0], leaf, &oid!(2.23.133.5.4.1.1))?;
    let value = match (composite, tcb_info) {
        (Some(value), None) => value,
        (None, Some(value)) => {
            let flags = dice_flags(value).ok_or_else(|| bad("its DICE flags cannot be read"))?;
            if flags & DICE_UNSAFE != 0 {
                return Err(bad(
                    "its firmware is not secure, in recovery or open for debugging",
                ));
            }
            value
        }
        _ => return Err(bad("it does not say which firmware it is for")),
    };
    let digests: Vec<[u8; DIGEST_LEN]> = (0..value.len())
        .filter_map(|at| value[at..].strip_prefix(&SHA384_DIGEST)?.first_chunk())
        .copied()
        .collect();
    // Blackwell has room for a second one, which is empty.
    match &digests[..] {
        [only] => Ok(Bytes(*only)),
        [first, second] if *second == [0; DIGEST_LEN] => Ok(Bytes(*first)),
        _ => Err(bad("it does not name exactly one firmware")),
    }
}

/// OBJECT IDENTIFIER sha384, OCTET STRING of 48 bytes: how DICE writes a digest.
const SHA384_DIGEST: [u8; 13] = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2, 4, 0x30];
/// DICE flags notSecure (bit 1), recovery (2) and debug (3), counted from the highest.
const DICE_UNSAFE: u32 = 0b0111 << 28;

/// The flags of a TCB info: context tag 7, a BIT STRING of 32 bits. Without flags nothing is claimed to be safe.
fn dice_flags(info: &[u8]) -> Option<u32> {
    let (tag, mut rest, _) = element(info)?;
    if tag != 0x30 {
        return None;
    }
    while !rest.is_empty() {
        let (tag, value, after) = element(rest)?;
        if tag == 0x87 {
            return match value {
                [0, flags @ ..] => Some(u32::from_be_bytes(flags.try_into().ok()?)),
                _ => None,
            };
        }
        rest = after;
    }
    None
}

/// One DER element of less than 256 bytes: tag, value, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, length, rest) = match bytes {
        [tag, 0x81, length, rest @ ..] => (*tag, *length, rest),
        [tag, length @ 0..=0x7f, rest @ ..] => (*tag, *length, rest),
        _ => return None,
    };
    let (value, after) = rest.split_at_checked(usize::from(length))?;
    Some((tag, value, after))
}
