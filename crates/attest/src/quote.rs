//! The header and body of an Intel quote, read far enough to say what is claimed. Nothing here verifies a quote.

use crate::measurements::{SGX_LEN, SgxMeasurements, TDX_LEN, TdxMeasurements};

/// Largest quote a certificate may carry (the reference's limit; real ones have about 5 kB).
pub const MAX_QUOTE_LEN: usize = 32_768;

const HEADER_LEN: usize = 48;
const SGX_BODY_LEN: usize = 384;
const TEE_SGX: u32 = 0;
const TEE_TDX: u32 = 0x81;
/// Where MRTD, the first of the registers that follow each other to the end of REPORTDATA, stands in a TD body.
const MEASUREMENTS_AT: usize = 136;

/// Why bytes are not a quote we can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// The bytes end before the field named.
    #[error(
        "the quote ends after {found} bytes, inside its {field} (at least {expected} are needed)"
    )]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Bytes needed.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// Not version 3, 4 or 5.
    #[error("quote version {0} is not known (3, 4 and 5 are)")]
    Version(u16),
    /// Neither SGX nor TDX.
    #[error("quote for trusted environment type {0:#x} is not known (0 is SGX, 0x81 is TDX)")]
    TeeType(u32),
    /// A version 5 body of an unknown type.
    #[error("quote body type {0} is not known (1 to 4 are)")]
    BodyType(u16),
    /// A version 5 body whose declared size is not that of its type.
    #[error("quote body of type {body_type} declares {found} bytes, {expected} expected")]
    BodySize {
        /// Declared type.
        body_type: u16,
        /// Size of that type.
        expected: u32,
        /// Declared size.
        found: u32,
    },
}

/// What a quote is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuoteBody {
    /// A trust domain.
    Tdx(Box<TdBody>),
    /// An enclave.
    Sgx(SgxMeasurements),
}

/// The claims of a trust domain's quote, unverified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdBody {
    /// Security version numbers of the TDX module.
    pub tee_tcb_svn: [u8; 16],
    /// Measurement of the TDX module.
    pub mr_seam: [u8; 48],
    /// Signer of the TDX module; zero for Intel's.
    pub mr_signer_seam: [u8; 48],
    /// Attributes of the TDX module.
    pub seam_attributes: u64,
    /// Attributes of the domain; bit 0 is DEBUG.
    pub td_attributes: u64,
    /// Extended features the domain may use.
    pub xfam: u64,
    /// The registers that make the image hash.
    pub measurements: TdxMeasurements,
    /// Measurement of a bound service domain (TDX 1.5 bodies).
    pub mr_service_td: Option<[u8; 48]>,
    /// Measurement of the service domain bound at present, which may have replaced the first one (extended bodies).
    pub current_service_td: Option<[u8; 48]>,
}

/// A quote as far as it is read here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// 3, 4 or 5.
    pub version: u16,
    /// What it is about.
    pub body: QuoteBody,
    /// How many bytes the signature covers: header, body descriptor and body.
    pub signed_len: usize,
}

/// Reads the header and body; the signature data that follows is not looked at.
///
/// Body type 4 (TDX 1.5 extended, 885 bytes) is read although the reference refuses it: newer platforms emit it.
pub fn parse(bytes: &[u8]) -> Result<Quote, QuoteError> {
    let header = take(bytes, 0, HEADER_LEN, "header")?;
    let version = u16::from_le_bytes([header[0], header[1]]);
    let tee_type = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let (start, length, is_sgx) = match (version, tee_type) {
        (3 | 4, TEE_SGX) => (HEADER_LEN, SGX_BODY_LEN, true),
        (4, TEE_TDX) => (HEADER_LEN, 584, false),
        (5, _) => {
            let d = take(bytes, HEADER_LEN, 6, "body descriptor")?;
            let body_type = u16::from_le_bytes([d[0], d[1]]);
            let found = u32::from_le_bytes([d[2], d[3], d[4], d[5]]);
            let expected: u32 = match body_type {
                1 => SGX_BODY_LEN as u32,
                2 => 584,
                3 => 648,
                4 => 885,
                other => return Err(QuoteError::BodyType(other)),
            };
            if found != expected {
                return Err(QuoteError::BodySize {
                    body_type,
                    expected,
                    found,
                });
            }
            let expected_tee = if body_type == 1 { TEE_SGX } else { TEE_TDX };
            if tee_type != expected_tee {
                return Err(QuoteError::TeeType(tee_type));
            }
            (HEADER_LEN + 6, expected as usize, body_type == 1)
        }
        (3 | 4, other) => return Err(QuoteError::TeeType(other)),
        (other, _) => return Err(QuoteError::Version(other)),
    };
    let body = take(bytes, start, length, "body")?;
    let body = if is_sgx {
        let mut measurements = [0; SGX_LEN];
        measurements[..32].copy_from_slice(&body[64..96]);
        measurements[32..].copy_from_slice(&body[320..384]);
        QuoteBody::Sgx(SgxMeasurements::from_bytes(&measurements))
    } else {
        QuoteBody::Tdx(Box::new(td_body(body)))
    };
    Ok(Quote {
        version,
        body,
        signed_len: start + length,
    })
}

/// `body` has at least 584 bytes.
fn td_body(body: &[u8]) -> TdBody {
    TdBody {
        tee_tcb_svn: array(body, 0),
        mr_seam: array(body, 16),
        mr_signer_seam: array(body, 64),
        seam_attributes: u64::from_le_bytes(array(body, 112)),
        td_attributes: u64::from_le_bytes(array(body, 120)),
        xfam: u64::from_le_bytes(array(body, 128)),
        measurements: TdxMeasurements::from_bytes(&array::<TDX_LEN>(body, MEASUREMENTS_AT)),
        mr_service_td: (body.len() >= 648).then(|| array(body, 600)),
        current_service_td: (body.len() >= 885).then(|| array(body, 829)),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn take<'a>(
    bytes: &'a [u8],
    start: usize,
    length: usize,
    field: &'static str,
) -> Result<&'a [u8], QuoteError> {
    bytes
        .get(start..start + length)
        .ok_or(QuoteError::Truncated {
            field,
            expected: start + length,
            found: bytes.len(),
        })
}
