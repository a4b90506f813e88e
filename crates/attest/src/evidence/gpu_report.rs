//! The fields of an NVIDIA GPU's report: an SPDM request, its response, and the vendor's fields inside. Nothing here
//! verifies anything.

use std::collections::BTreeMap;
use std::fmt;

use super::gpu::GpuError;
use super::lists::Bytes;

/// Largest report read; real ones have some 4 kB.
pub const MAX_REPORT_LEN: usize = 16_384;
const REQUEST_LEN: usize = 37;
/// Most fields of opaque data; there are less than 40 kinds.
const MAX_FIELDS: usize = 64;
/// Status byte "disabled" of several fields.
const DISABLED: u8 = 0x55;
pub(super) const SIGNATURE_LEN: usize = 96;
/// Measurements are SHA-384 hashes.
pub(super) const DIGEST_LEN: usize = 48;

/// How a GPU takes part in confidential computing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Alone, everything that leaves it is encrypted.
    Single,
    /// With others, over encrypted links.
    MultiEncrypted,
    /// With others, over links in clear ("protected PCIe"): whoever can touch the links can read them.
    ProtectedPcie,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Single => "single",
            Mode::MultiEncrypted => "multi_encrypted",
            Mode::ProtectedPcie => "protected_pcie",
        })
    }
}

/// The fields of a report, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuReport {
    /// Nonce of the request, chosen by whoever asked.
    pub nonce: Bytes<32>,
    /// Measurements by index, from 1.
    pub measurements: BTreeMap<u8, Bytes<DIGEST_LEN>>,
    /// Version of the driver, like `550.90.07`.
    pub driver_version: String,
    /// Version of the firmware, like `96.00.9F.00.01`.
    pub vbios_version: String,
    /// Mode; reports of older drivers do not say it and are of single GPUs.
    pub mode: Mode,
    /// The first video decoder is on, so that its measurement counts.
    pub decoder_enabled: bool,
    /// Measurement of the first firmware, which the chain certifies as well; missing in reports of older drivers.
    pub fwid: Option<Bytes<DIGEST_LEN>>,
    /// How many bytes the GPU signed.
    pub(super) signed: usize,
}

impl GpuReport {
    /// Reads a report. Nothing is verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, GpuError> {
        use GpuError::Malformed;
        if bytes.len() > MAX_REPORT_LEN {
            return Err(Malformed("it is too long"));
        }
        let mut reader = Reader { rest: bytes };
        let request: [u8; REQUEST_LEN] = reader.array()?;
        // Version 1.1, GET_MEASUREMENTS, with a signature, all measurements, from certificate slot 0.
        if request[..4] != [0x11, 0xe0, 0x01, 0xff] || request[REQUEST_LEN - 1] != 0 {
            return Err(Malformed(
                "it does not start with a request for all measurements",
            ));
        }
        let [version, code, _, _, blocks, l0, l1, l2] = reader.array::<8>()?;
        if (version, code) != (0x11, 0x60) {
            return Err(Malformed("it holds no response of measurements"));
        }
        let record = reader.take(u32::from_le_bytes([l0, l1, l2, 0]) as usize)?;
        let measurements = measurements(record, blocks)?;
        let _responder_nonce: [u8; 32] = reader.array()?;
        let length = u16::from_le_bytes(reader.array()?);
        let fields = fields(reader.take(usize::from(length))?)?;
        let signed = bytes.len() - reader.rest.len();
        reader.take(SIGNATURE_LEN)?;
        // Drivers hand out a buffer that may be longer than the report.
        if reader.rest.iter().any(|byte| *byte != 0) {
            return Err(Malformed("bytes follow its signature"));
        }
        let mut nonce = [0; 32];
        nonce.copy_from_slice(&request[4..36]);
        let required = |id: u16, what| fields.get(&id).copied().ok_or(Malformed(what));
        Ok(GpuReport {
            nonce: Bytes(nonce),
            measurements,
            driver_version: text(required(
                field::DRIVER_VERSION,
                "it names no driver version",
            )?)?,
            vbios_version: vbios(required(
                field::VBIOS_VERSION,
                "it names no firmware version",
            )?)?,
            mode: mode(&fields)?,
            decoder_enabled: required(field::NVDEC0_STATUS, "it names no decoder status")?
                != [DISABLED],
            fwid: match fields.get(&field::FWID) {
                None => None,
                Some(value) => {
                    Some(Bytes((*value).try_into().map_err(|_| {
                        Malformed("its firmware's digest has a wrong length")
                    })?))
                }
            },
            signed,
        })
    }
}

/// Kinds of opaque fields that are read here.
mod field {
    pub const DRIVER_VERSION: u16 = 3;
    pub const VBIOS_VERSION: u16 = 6;
    pub const NVDEC0_STATUS: u16 = 11;
    pub const FWID: u16 = 20;
    pub const PROTECTED_PCIE_STATUS: u16 = 21;
    pub const FEATURE_FLAG: u16 = 36;
}

fn mode(fields: &BTreeMap<u16, &[u8]>) -> Result<Mode, GpuError> {
    let unknown = GpuError::Malformed("its confidential computing mode is not known");
    let protected = match fields.get(&field::PROTECTED_PCIE_STATUS) {
        None | Some([DISABLED]) => false,
        Some([0xaa]) => true,
        Some(_) => return Err(unknown),
    };
    match fields.get(&field::FEATURE_FLAG) {
        None | Some([0] | [0, 0]) if protected => Ok(Mode::ProtectedPcie),
        None | Some([0] | [0, 0]) => Ok(Mode::Single),
        Some([1] | [1, 0]) if !protected => Ok(Mode::MultiEncrypted),
        Some([2] | [2, 0]) => Ok(Mode::ProtectedPcie),
        Some(_) => Err(unknown),
    }
}

/// The blocks of a measurement record, each in DMTF form with a SHA-384 digest.
fn measurements(record: &[u8], blocks: u8) -> Result<BTreeMap<u8, Bytes<DIGEST_LEN>>, GpuError> {
    use GpuError::Malformed;
    let mut reader = Reader { rest: record };
    let mut out = BTreeMap::new();
    for _ in 0..blocks {
        let [index, specification, s0, s1] = reader.array::<4>()?;
        let [_kind, v0, v1] = reader.array::<3>()?;
        let (size, value_size) = (u16::from_le_bytes([s0, s1]), u16::from_le_bytes([v0, v1]));
        if specification != 1 || usize::from(value_size) != DIGEST_LEN || size != value_size + 3 {
            return Err(Malformed("a measurement has another form"));
        }
        if out.insert(index, Bytes(reader.array()?)).is_some() {
            return Err(Malformed("a measurement occurs twice"));
        }
    }
    if !reader.rest.is_empty() {
        return Err(Malformed("it has more measurements than it says"));
    }
    Ok(out)
}

fn fields(opaque: &[u8]) -> Result<BTreeMap<u16, &[u8]>, GpuError> {
    use GpuError::Malformed;
    let mut reader = Reader { rest: opaque };
    let mut out = BTreeMap::new();
    while !reader.rest.is_empty() {
        let id = u16::from_le_bytes(reader.array()?);
        let length = u16::from_le_bytes(reader.array()?);
        if out.insert(id, reader.take(usize::from(length))?).is_some() {
            return Err(Malformed("an opaque field occurs twice"));
        }
        if out.len() > MAX_FIELDS {
            return Err(Malformed("it has too many opaque fields"));
        }
    }
    Ok(out)
}

/// Text with a zero at its end.
fn text(value: &[u8]) -> Result<String, GpuError> {
    let bad = GpuError::Malformed("a version is not printable text");
    let text = value.strip_suffix(&[0]).unwrap_or(value);
    if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
        return Err(bad);
    }
    String::from_utf8(text.to_vec()).map_err(|_| bad)
}

/// `96.00.9F.00.01`: four bytes backwards, then the fifth.
fn vbios(value: &[u8]) -> Result<String, GpuError> {
    match value {
        [d, c, b, a, e, 0, 0, 0] => Ok(format!("{a:02X}.{b:02X}.{c:02X}.{d:02X}.{e:02X}")),
        _ => Err(GpuError::Malformed("its firmware version has another form")),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], GpuError> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(GpuError::Malformed("it is cut off"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GpuError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }
}
