//! Is an AMD SEV-SNP report genuine, and what does it say?
//!
//! The chain of proof: AMD's root of a processor generation (ARK) → its signing key for chip keys (ASK) or for keys of
//! cloud providers (ASVK) → the key of this chip at this patch level (VCEK) or of this provider (VLEK) → the report.
//! Layouts are those of AMD's "SEV Secure Nested Paging Firmware ABI" (document 56860), reports 2, 3 and 5, and of its
//! "VCEK certificate and KDS interface" (document 57230).

use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{Oid, asn1_rs::oid};

use super::algorithms::{ecdsa_der, ecdsa_p384_sha384, rsa_pss_sha384};
use super::chain::{self, ChainError};
pub use super::snp_report::{REPORT_LEN, SnpReport, TcbVersion};

/// How much of it is signed.
pub const SIGNED_LEN: usize = 0x2a0;
/// Bytes of one half of a signature in a report, little-endian.
const HALF_LEN: usize = 72;
/// Bytes of it that a P-384 signature uses.
const SCALAR_LEN: usize = 48;

/// Processor generations with SEV-SNP; each has its own root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Generation {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004 and 8004.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Generation::Milan => "Milan",
            Generation::Genoa => "Genoa",
            Generation::Turin => "Turin",
        })
    }
}

impl Generation {
    /// The generation of a processor with these CPUID values.
    #[must_use]
    pub fn of_cpu(family: u8, model: u8) -> Option<Self> {
        [Generation::Milan, Generation::Genoa, Generation::Turin]
            .into_iter()
            .find(|generation| generation.has_cpu(family, model))
    }

    /// How many bytes of the chip's name are used; the rest of the field is zero.
    #[must_use]
    pub fn chip_id_len(self) -> usize {
        if self == Generation::Turin { 8 } else { 64 }
    }

    /// Whether a processor with these CPUID values belongs to the generation.
    fn has_cpu(self, family: u8, model: u8) -> bool {
        match self {
            Generation::Milan => family == 0x19 && model <= 0x0f,
            Generation::Genoa => family == 0x19 && matches!(model, 0x10..=0x1f | 0xa0..=0xaf),
            Generation::Turin => family == 0x1a && model <= 0x1f,
        }
    }
}

/// Which key signed a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SigningKey {
    /// Of the chip, which it names.
    Vcek,
    /// Of a cloud provider, all of whose chips look the same.
    Vlek,
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SigningKey::Vcek => "vcek",
            SigningKey::Vlek => "vlek",
        })
    }
}

/// Roots of trust by generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpRoots(Vec<(Generation, [u8; 32])>);

/// SHA-256 of AMD's root certificates (DER), published at AMD's key distribution service.
const AMD_ROOTS: [(Generation, [u8; 32]); 3] = [
    (
        Generation::Milan,
        [
            0x69, 0xd0, 0x63, 0xb4, 0x53, 0x44, 0xd2, 0x6a, 0x2e, 0x94, 0xe1, 0xf4, 0x21, 0x0d,
            0xe4, 0x9e, 0xf5, 0x55, 0x30, 0x82, 0x87, 0xd4, 0xc1, 0x74, 0x44, 0x5c, 0x95, 0x63,
            0x9a, 0x54, 0x0b, 0xcd,
        ],
    ),
    (
        Generation::Genoa,
        [
            0x4c, 0x65, 0x98, 0xd1, 0x9c, 0x18, 0x71, 0x9c, 0x5d, 0xfd, 0x4a, 0x7d, 0x33, 0x5f,
            0x67, 0x4e, 0x5b, 0xfe, 0x1d, 0x8f, 0x80, 0x0c, 0xea, 0x2c, 0xf2, 0x70, 0xc1, 0x0d,
            0x10, 0x3d, 0xb2, 0xf1,
        ],
    ),
    (
        Generation::Turin,
        [
            0x1f, 0x08, 0x41, 0x61, 0xa4, 0x4b, 0xb6, 0xd9, 0x37, 0x78, 0xa9, 0x04, 0x87, 0x7d,
            0x48, 0x19, 0xca, 0xfa, 0x5d, 0x05, 0xef, 0x41, 0x93, 0xb2, 0xde, 0xd9, 0xdd, 0x9c,
            0x73, 0xdd, 0x3f, 0x6a,
        ],
    ),
];

impl SnpRoots {
    /// AMD's.
    #[must_use]
    pub fn amd() -> Self {
        SnpRoots(AMD_ROOTS.to_vec())
    }

    /// Another one, by the SHA-256 of its certificate, for tests with a software TEE.
    #[must_use]
    pub fn pinned(generation: Generation, sha256: [u8; 32]) -> Self {
        SnpRoots(vec![(generation, sha256)])
    }
}

/// Certificates that come with a report, in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpChain {
    /// Root of the generation.
    pub ark: Vec<u8>,
    /// Signing key of the generation, for VCEK or for VLEK.
    pub ask: Vec<u8>,
    /// VCEK or VLEK.
    pub vek: Vec<u8>,
    /// The root's revocation list, if there is one.
    pub crl: Option<Vec<u8>>,
}

impl SnpChain {
    /// Puts a chain together from the PEM text of AMD's service (intermediate and root, in any order, several
    /// intermediates allowed) and the chip's or provider's certificate in DER.
    pub fn from_service(pem: &str, vek: &[u8]) -> Result<Self, ChainError> {
        let leaf = chain::parse(VEK, vek)?;
        let missing = |reason: &str| ChainError::Malformed {
            which: "the certificate chain",
            reason: reason.to_owned(),
        };
        let all = super::tdx::certificates(pem.as_bytes());
        let named = |wanted: &x509_parser::x509::X509Name<'_>| {
            all.iter().find(|der| {
                chain::parse(ASK, der).is_ok_and(|c| c.subject().as_raw() == wanted.as_raw())
            })
        };
        let ask =
            named(leaf.issuer()).ok_or_else(|| missing("the issuer of the key is not in it"))?;
        let parsed = chain::parse(ASK, ask)?;
        let ark = named(parsed.issuer()).ok_or_else(|| missing("the root is not in it"))?;
        Ok(SnpChain {
            ark: ark.clone(),
            ask: ask.clone(),
            vek: vek.to_vec(),
            crl: None,
        })
    }
}

/// A verified report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpClaims {
    /// Its fields.
    pub report: SnpReport,
    /// Generation whose root vouches for it.
    pub generation: Generation,
    /// Kind of key that signed it.
    pub key: SigningKey,
    /// Patch level for which the key was made.
    pub reported_tcb: TcbVersion,
    /// Patch level at which the guest was launched.
    pub launch_tcb: TcbVersion,
    /// Patch level below which the platform cannot go back.
    pub committed_tcb: TcbVersion,
    /// Patch level at present.
    pub current_tcb: TcbVersion,
    /// Provider, for a VLEK.
    pub provider: Option<String>,
    /// The root's revocation list was there, and the intermediate is not on it.
    pub revocation_checked: bool,
}

/// Why a report is not accepted as genuine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnpError {
    /// Wrong size.
    #[error("an SNP report has {REPORT_LEN} bytes, this has {0}")]
    Length(usize),
    /// Unknown version.
    #[error("report version {0} is not known (2 to 5 are)")]
    Version(u32),
    /// Unknown signature algorithm.
    #[error("signature algorithm {0} is not known (1 is)")]
    Algorithm(u32),
    /// A signing key that proves nothing.
    #[error("the report is signed with key kind {0} (0 is VCEK, 1 is VLEK, 7 is none)")]
    Key(u32),
    /// Bytes that must be zero.
    #[error("reserved bytes of the signature are not zero")]
    Reserved,
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The report's signature.
    #[error(
        "the report is not signed by its key: it was changed, or the key belongs to another chip or patch level"
    )]
    Signature,
    /// Certificate and report contradict each other.
    #[error("{what}: the certificate says {certificate}, the report says {report}")]
    Mismatch {
        /// What.
        what: &'static str,
        /// In the certificate.
        certificate: String,
        /// In the report.
        report: String,
    },
}

const ARK: &str = "AMD's root certificate (ARK)";
const ASK: &str = "AMD's intermediate certificate (ASK or ASVK)";
const VEK: &str = "the certificate of the report's key (VCEK or VLEK)";

/// Verifies a report at the time `now` (Unix seconds).
pub fn verify(
    bytes: &[u8],
    certificates: &SnpChain,
    now: u64,
    roots: &SnpRoots,
) -> Result<SnpClaims, SnpError> {
    let report = SnpReport::parse(bytes)?;
    let key = report.signing_key()?;
    let generation = verify_chain(certificates, now, roots)?;
    let ask = chain::parse(ASK, &certificates.ask)?;
    let vek = chain::parse(VEK, &certificates.vek)?;
    let expected_name = match key {
        SigningKey::Vcek => "SEV-VCEK",
        SigningKey::Vlek => "SEV-VLEK",
    };
    agree("kind of key", chain::common_name(&vek), expected_name)?;
    let expected_issuer = match key {
        SigningKey::Vcek => format!("SEV-{generation}"),
        SigningKey::Vlek => format!("SEV-VLEK-{generation}"),
    };
    agree(
        "issuer of the key",
        chain::common_name(&ask),
        &expected_issuer,
    )?;
    verify_signature(bytes, &vek)?;
    if let Some((family, model)) = report.cpu
        && !generation.has_cpu(family, model)
    {
        return Err(SnpError::Mismatch {
            what: "processor",
            certificate: generation.to_string(),
            report: format!("family {family:#x}, model {model:#x}"),
        });
    }
    let reported_tcb = TcbVersion::read(report.reported_tcb, generation);
    let certified_tcb = certified_tcb(&vek, generation)?;
    agree(
        "patch level",
        &certified_tcb.to_string(),
        &reported_tcb.to_string(),
    )?;
    let provider = certified_identity(&vek, key, generation, &report)?;
    Ok(SnpClaims {
        generation,
        key,
        reported_tcb,
        launch_tcb: TcbVersion::read(report.launch_tcb, generation),
        committed_tcb: TcbVersion::read(report.committed_tcb, generation),
        current_tcb: TcbVersion::read(report.current_tcb, generation),
        provider,
        revocation_checked: certificates.crl.is_some(),
        report,
    })
}

/// Verifies the certificates alone, and the revocation list if there is one. Says whose root vouches for them.
pub fn verify_chain(
    certificates: &SnpChain,
    now: u64,
    roots: &SnpRoots,
) -> Result<Generation, SnpError> {
    let found = chain::fingerprint(&certificates.ark);
    let generation = roots
        .0
        .iter()
        .find(|(_, pinned)| *pinned == found)
        .map(|(generation, _)| *generation)
        .ok_or(ChainError::Root { which: ARK, found })?;
    let ark = chain::parse(ARK, &certificates.ark)?;
    let ask = chain::parse(ASK, &certificates.ask)?;
    let vek = chain::parse(VEK, &certificates.vek)?;
    chain::issued((ASK, &ask), (ARK, &ark), rsa_pss_sha384(), now)?;
    chain::issued((VEK, &vek), (ASK, &ask), rsa_pss_sha384(), now)?;
    if let Some(list) = &certificates.crl {
        chain::not_revoked((ASK, &ask), (ARK, &ark), list, rsa_pss_sha384(), now)?;
    }
    Ok(generation)
}

fn verify_signature(bytes: &[u8], vek: &X509Certificate<'_>) -> Result<(), SnpError> {
    let (signed, signature) = bytes
        .split_at_checked(SIGNED_LEN)
        .ok_or(SnpError::Length(bytes.len()))?;
    let half = |at: usize| {
        signature
            .get(at..at + HALF_LEN)
            .ok_or(SnpError::Length(bytes.len()))
    };
    let (r, s) = (half(0)?, half(HALF_LEN)?);
    // Nobody signs these; whoever changes them makes a second report out of one.
    let unused = [
        &r[SCALAR_LEN..],
        &s[SCALAR_LEN..],
        &signature[2 * HALF_LEN..],
    ];
    if unused
        .iter()
        .any(|bytes| bytes.iter().any(|byte| *byte != 0))
    {
        return Err(SnpError::Reserved);
    }
    let big_endian =
        |half: &[u8]| -> Vec<u8> { half[..SCALAR_LEN].iter().rev().copied().collect() };
    let signature = ecdsa_der(&big_endian(r), &big_endian(s));
    ecdsa_p384_sha384()
        .verify_signature(
            &vek.public_key().subject_public_key.data,
            signed,
            &signature,
        )
        .map_err(|_| SnpError::Signature)
}

/// The patch level in the key's certificate, one extension for each part.
fn certified_tcb(
    vek: &X509Certificate<'_>,
    generation: Generation,
) -> Result<TcbVersion, SnpError> {
    let part = |oid: Oid<'_>| -> Result<u8, SnpError> {
        let value = chain::extension(VEK, vek, &oid)?;
        match value {
            // A small INTEGER; the zero keeps a number above 127 positive.
            Some([2, 1, value]) | Some([2, 2, 0, value]) => Ok(*value),
            _ => Err(bad_extension(format!("extension {oid} is no small number")).into()),
        }
    };
    Ok(TcbVersion {
        fmc: if generation == Generation::Turin {
            part(oid!(1.3.6.1.4.1.3704.1.3.9))?
        } else {
            0
        },
        bootloader: part(oid!(1.3.6.1.4.1.3704.1.3.1))?,
        tee: part(oid!(1.3.6.1.4.1.3704.1.3.2))?,
        snp: part(oid!(1.3.6.1.4.1.3704.1.3.3))?,
        microcode: part(oid!(1.3.6.1.4.1.3704.1.3.8))?,
    })
}

/// The chip of a VCEK must be that of the report; a VLEK names the provider instead.
fn certified_identity(
    vek: &X509Certificate<'_>,
    key: SigningKey,
    generation: Generation,
    report: &SnpReport,
) -> Result<Option<String>, SnpError> {
    if key == SigningKey::Vlek {
        let value = chain::extension(VEK, vek, &oid!(1.3.6.1.4.1.3704.1.5))?;
        // An IA5String of less than 128 bytes.
        return match value {
            Some([0x16, length, text @ ..]) if usize::from(*length) == text.len() => {
                Ok(Some(String::from_utf8_lossy(text).into_owned()))
            }
            _ => Err(bad_extension("it names no provider".to_owned()).into()),
        };
    }
    let (name, rest) = report.chip_id.0.split_at(generation.chip_id_len());
    let certified = chain::extension(VEK, vek, &oid!(1.3.6.1.4.1.3704.1.4))?;
    let certified = certified.ok_or_else(|| bad_extension("it names no chip".to_owned()))?;
    if report.key_info & 0b10 != 0 || report.chip_id.is_zero() {
        return Err(SnpError::Mismatch {
            what: "chip",
            certificate: hex::encode(certified),
            report: "masked by the host".to_owned(),
        });
    }
    agree("chip", &hex::encode(certified), &hex::encode(name))?;
    agree(
        "rest of the chip's name",
        &hex::encode(vec![0; rest.len()]),
        &hex::encode(rest),
    )?;
    Ok(None)
}

fn agree(what: &'static str, certificate: &str, report: &str) -> Result<(), SnpError> {
    if certificate == report {
        return Ok(());
    }
    Err(SnpError::Mismatch {
        what,
        certificate: certificate.to_owned(),
        report: report.to_owned(),
    })
}

fn bad_extension(reason: String) -> ChainError {
    ChainError::Extension { which: VEK, reason }
}
