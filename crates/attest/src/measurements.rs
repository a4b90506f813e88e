//! What a quote says was measured, and the image hash made from it.

use std::fmt;

use sha2::{Digest, Sha256};

/// A 48-byte measurement register (SHA-384).
pub type Register = [u8; 48];

/// Bytes of TDX measurements on the wire: eight registers and the report data.
pub const TDX_LEN: usize = 8 * 48 + 64;
/// Bytes of a TD report.
pub const TD_REPORT_LEN: usize = 1_024;
/// Bytes of SGX measurements on the wire.
pub const SGX_LEN: usize = 32 + 64;

/// Measurements of an attested peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measurements {
    /// An Intel TDX trust domain (a fake one has all registers zero).
    Tdx(Box<TdxMeasurements>),
    /// An Intel SGX enclave; never accepted from a TLS peer, but a frame can carry it.
    Sgx(SgxMeasurements),
}

/// Registers of a trust domain.
#[derive(Clone, PartialEq, Eq)]
pub struct TdxMeasurements {
    /// Hash of the initial contents of the domain.
    pub mr_td: Register,
    /// Configuration identity given at launch.
    pub mr_config_id: Register,
    /// Owner identity.
    pub mr_owner: Register,
    /// Owner-defined configuration.
    pub mr_owner_config: Register,
    /// Run-time registers, extended while the domain boots and runs.
    pub rtmr: [Register; 4],
    /// 64 bytes chosen by the domain: SHA-512 of its TLS key.
    pub report_data: [u8; 64],
}

/// Identity of an enclave.
#[derive(Clone, PartialEq, Eq)]
pub struct SgxMeasurements {
    /// Hash of the enclave's contents.
    pub mr_enclave: [u8; 32],
    /// 64 bytes chosen by the enclave.
    pub report_data: [u8; 64],
}

impl Measurements {
    /// SHA-256 of the measurements with the report data replaced by zeros: what the root contract lists.
    #[must_use]
    pub fn image_hash(&self) -> [u8; 32] {
        match self {
            Measurements::Tdx(tdx) => tdx.image_hash(),
            Measurements::Sgx(sgx) => sgx.image_hash(),
        }
    }

    /// The 64 bytes the measured side chose.
    #[must_use]
    pub fn report_data(&self) -> &[u8; 64] {
        match self {
            Measurements::Tdx(tdx) => &tdx.report_data,
            Measurements::Sgx(sgx) => &sgx.report_data,
        }
    }
}

impl TdxMeasurements {
    /// A trust domain with every register zero: what a fake quote stands for.
    #[must_use]
    pub fn fake(report_data: [u8; 64]) -> Self {
        TdxMeasurements {
            mr_td: [0; 48],
            mr_config_id: [0; 48],
            mr_owner: [0; 48],
            mr_owner_config: [0; 48],
            rtmr: [[0; 48]; 4],
            report_data,
        }
    }

    /// The 448 bytes in their wire order. The same order serves the frame, the image hash and the quote body.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; TDX_LEN] {
        let mut out = [0; TDX_LEN];
        let registers = [
            &self.mr_td,
            &self.mr_config_id,
            &self.mr_owner,
            &self.mr_owner_config,
        ];
        let registers = registers.into_iter().chain(&self.rtmr);
        for (slot, register) in out.chunks_exact_mut(48).zip(registers) {
            slot.copy_from_slice(register);
        }
        out[TDX_LEN - 64..].copy_from_slice(&self.report_data);
        out
    }

    /// Reads the 448 bytes of [`Self::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; TDX_LEN]) -> Self {
        let register = |index: usize| {
            let mut out = [0; 48];
            out.copy_from_slice(&bytes[index * 48..][..48]);
            out
        };
        let mut report_data = [0; 64];
        report_data.copy_from_slice(&bytes[TDX_LEN - 64..]);
        TdxMeasurements {
            mr_td: register(0),
            mr_config_id: register(1),
            mr_owner: register(2),
            mr_owner_config: register(3),
            rtmr: [register(4), register(5), register(6), register(7)],
            report_data,
        }
    }

    /// Reads a TD report, which the processor makes and nobody outside it can check (spec 9.5). `None` if it is none.
    #[must_use]
    pub fn from_td_report(report: &[u8]) -> Option<Self> {
        let report: &[u8; TD_REPORT_LEN] = report.try_into().ok()?;
        let [kind, subtype, version, reserved] = [report[0], report[1], report[2], report[3]];
        if (kind, subtype, reserved) != (0x81, 0, 0) || version > 1 {
            return None;
        }
        let mut bytes = [0; TDX_LEN];
        let (registers, data) = bytes.split_at_mut(TDX_LEN - 64);
        registers.copy_from_slice(&report[528..912]);
        data.copy_from_slice(&report[128..192]);
        Some(Self::from_bytes(&bytes))
    }

    /// See [`Measurements::image_hash`].
    #[must_use]
    pub fn image_hash(&self) -> [u8; 32] {
        let mut preimage = self.to_bytes();
        preimage[TDX_LEN - 64..].fill(0);
        Sha256::digest(preimage).into()
    }
}

impl SgxMeasurements {
    /// The 96 bytes in their wire order.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SGX_LEN] {
        let mut out = [0; SGX_LEN];
        out[..32].copy_from_slice(&self.mr_enclave);
        out[32..].copy_from_slice(&self.report_data);
        out
    }

    /// Reads the 96 bytes of [`Self::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SGX_LEN]) -> Self {
        let mut out = SgxMeasurements {
            mr_enclave: [0; 32],
            report_data: [0; 64],
        };
        out.mr_enclave.copy_from_slice(&bytes[..32]);
        out.report_data.copy_from_slice(&bytes[32..]);
        out
    }

    /// See [`Measurements::image_hash`].
    #[must_use]
    pub fn image_hash(&self) -> [u8; 32] {
        let mut preimage = self.to_bytes();
        preimage[32..].fill(0);
        Sha256::digest(preimage).into()
    }
}

impl fmt::Debug for TdxMeasurements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TdxMeasurements")
            .field("mr_td", &hex::encode(self.mr_td))
            .field("rtmr", &self.rtmr.map(hex::encode))
            .field("image_hash", &hex::encode(self.image_hash()))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SgxMeasurements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SgxMeasurements")
            .field("mr_enclave", &hex::encode(self.mr_enclave))
            .finish_non_exhaustive()
    }
}

/// The hash by which the root contract lists a model: SHA-256 of `<name>@<commit>:<verity root hash>` as ASCII.
#[must_use]
pub fn model_hash(model: &str) -> [u8; 32] {
    Sha256::digest(model.as_bytes()).into()
}
