//! The fields of an SEV-SNP report as they lie in its 1,184 bytes. Nothing here verifies anything.

use std::fmt;

use super::lists::Bytes;
use super::snp::{Generation, SigningKey, SnpError};

/// Size of a report.
pub const REPORT_LEN: usize = 0x4a0;
/// Signature algorithm 1: ECDSA P-384 with SHA-384.
const ALGORITHM_P384: u32 = 1;

/// Patch levels of the parts of a platform, each a security version number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TcbVersion {
    /// Mutable boot code, Turin only.
    pub fmc: u8,
    /// Boot loader of the security processor.
    pub bootloader: u8,
    /// Its operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode of all cores.
    pub microcode: u8,
}

impl TcbVersion {
    pub(super) fn read(bytes: [u8; 8], generation: Generation) -> Self {
        let [a, b, c, d, _, _, g, h] = bytes;
        if generation == Generation::Turin {
            TcbVersion {
                fmc: a,
                bootloader: b,
                tee: c,
                snp: d,
                microcode: h,
            }
        } else {
            TcbVersion {
                fmc: 0,
                bootloader: a,
                tee: b,
                snp: g,
                microcode: h,
            }
        }
    }

    /// Whether every part is at least as new.
    #[must_use]
    pub fn at_least(&self, least: &TcbVersion) -> bool {
        self.fmc >= least.fmc
            && self.bootloader >= least.bootloader
            && self.tee >= least.tee
            && self.snp >= least.snp
            && self.microcode >= least.microcode
    }
}

impl fmt::Display for TcbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fmc {}, bootloader {}, tee {}, snp {}, microcode {}",
            self.fmc, self.bootloader, self.tee, self.snp, self.microcode
        )
    }
}

/// The fields of a report, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpReport {
    /// 2, 3, 4 or 5.
    pub version: u32,
    /// Security version of the guest, chosen by its owner.
    pub guest_svn: u32,
    /// What the host may do with the guest.
    pub policy: u64,
    /// Chosen by the owner.
    pub family_id: Bytes<16>,
    /// Chosen by the owner.
    pub image_id: Bytes<16>,
    /// Privilege level that asked for the report; 0 is the highest.
    pub vmpl: u32,
    /// Facts about the platform.
    pub platform_info: u64,
    /// Signing key and its masking.
    pub key_info: u32,
    /// Chosen by the guest.
    pub report_data: Bytes<64>,
    /// Initial contents of the guest.
    pub measurement: Bytes<48>,
    /// Chosen by the host at launch.
    pub host_data: Bytes<32>,
    /// Key that signed the identity block.
    pub id_key_digest: Bytes<48>,
    /// Key that signed that key.
    pub author_key_digest: Bytes<48>,
    /// Processor family and model, in reports from version 3 on.
    pub cpu: Option<(u8, u8)>,
    /// Identity of the chip; zero if masked.
    pub chip_id: Bytes<64>,
    pub(super) current_tcb: [u8; 8],
    pub(super) reported_tcb: [u8; 8],
    pub(super) committed_tcb: [u8; 8],
    pub(super) launch_tcb: [u8; 8],
}

impl SnpReport {
    /// Reads a report. Nothing is verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, SnpError> {
        let bytes: &[u8; REPORT_LEN] = bytes
            .try_into()
            .map_err(|_| SnpError::Length(bytes.len()))?;
        let version = u32_at(bytes, 0);
        if !(2..=5).contains(&version) {
            return Err(SnpError::Version(version));
        }
        let algorithm = u32_at(bytes, 0x34);
        if algorithm != ALGORITHM_P384 {
            return Err(SnpError::Algorithm(algorithm));
        }
        Ok(SnpReport {
            version,
            guest_svn: u32_at(bytes, 0x04),
            policy: u64::from_le_bytes(array(bytes, 0x08)),
            family_id: Bytes(array(bytes, 0x10)),
            image_id: Bytes(array(bytes, 0x20)),
            vmpl: u32_at(bytes, 0x30),
            current_tcb: array(bytes, 0x38),
            platform_info: u64::from_le_bytes(array(bytes, 0x40)),
            key_info: u32_at(bytes, 0x48),
            report_data: Bytes(array(bytes, 0x50)),
            measurement: Bytes(array(bytes, 0x90)),
            host_data: Bytes(array(bytes, 0xc0)),
            id_key_digest: Bytes(array(bytes, 0xe0)),
            author_key_digest: Bytes(array(bytes, 0x110)),
            reported_tcb: array(bytes, 0x180),
            cpu: (version >= 3).then(|| (bytes[0x188], bytes[0x189])),
            chip_id: Bytes(array(bytes, 0x1a0)),
            committed_tcb: array(bytes, 0x1e0),
            launch_tcb: array(bytes, 0x1f0),
        })
    }

    /// The patch level for which the signing key was made, as this generation writes it.
    #[must_use]
    pub fn reported_tcb(&self, generation: Generation) -> TcbVersion {
        TcbVersion::read(self.reported_tcb, generation)
    }

    /// Which key signed it.
    pub fn signing_key(&self) -> Result<SigningKey, SnpError> {
        match (self.key_info >> 2) & 0b111 {
            0 => Ok(SigningKey::Vcek),
            1 => Ok(SigningKey::Vlek),
            other => Err(SnpError::Key(other)),
        }
    }
}

fn array<const N: usize>(bytes: &[u8; REPORT_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u32_at(bytes: &[u8; REPORT_LEN], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}
