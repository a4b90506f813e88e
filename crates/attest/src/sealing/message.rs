//! The two messages of the sealing protocol and their frame (spec 7.1).

use std::io::{self, Read, Write};

use cocoon_tl::{Reader, TlError, write_bytes};

use super::derive::{ENCRYPTED_LEN, PUBLIC_LEN};
use super::report::{ReportError, TdReport};
use crate::keys::{KeyName, KeyNameError};
use crate::quote::MAX_QUOTE_LEN;

/// Largest payload of a frame.
pub const MAX_PAYLOAD: usize = 16_536;
const GET_PERSISTENT_KEY: u32 = 0x317a_821c;
const PERSISTENT_KEY: u32 = 0x163a_179a;

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not the message expected.
    #[error("the sealing message begins with {found:#010x}, expected {expected:#010x}")]
    Constructor {
        /// Expected.
        expected: u32,
        /// Found.
        found: u32,
    },
    /// Not TL.
    #[error("the sealing message cannot be read: {0}")]
    Tl(#[from] TlError),
    /// A field of another size.
    #[error("{field} of the sealing message has {found} bytes, expected {expected}")]
    Size {
        /// Which.
        field: &'static str,
        /// Expected.
        expected: usize,
        /// Found.
        found: usize,
    },
    /// The report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The name.
    #[error(transparent)]
    Name(#[from] KeyNameError),
}

/// Domain → helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetPersistentKey {
    /// Report with the hash of the public key.
    pub report: TdReport,
    /// P-256 point of this exchange, X and Y little-endian.
    pub public_key: [u8; PUBLIC_LEN],
    /// Which key.
    pub name: KeyName,
}

/// Helper → domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistentKey {
    /// Quote of the helper with the hashes of both keys.
    pub sgx_quote: Vec<u8>,
    /// The helper's point of this exchange and 32 encrypted bytes.
    pub encrypted: [u8; ENCRYPTED_LEN],
}

impl GetPersistentKey {
    /// The payload of a frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = GET_PERSISTENT_KEY.to_le_bytes().to_vec();
        write_bytes(self.report.as_bytes(), &mut out);
        write_bytes(&self.public_key, &mut out);
        write_bytes(self.name.as_bytes(), &mut out);
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = begin(payload, GET_PERSISTENT_KEY)?;
        let report = TdReport::parse(reader.bytes()?)?;
        let public_key = sized("public_key", reader.bytes()?)?;
        let name = KeyName::new(reader.bytes()?)?;
        reader.finish()?;
        Ok(GetPersistentKey {
            report,
            public_key,
            name,
        })
    }
}

impl PersistentKey {
    /// The payload of a frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = PERSISTENT_KEY.to_le_bytes().to_vec();
        write_bytes(&self.sgx_quote, &mut out);
        write_bytes(&self.encrypted, &mut out);
        out
    }

    /// Reads a payload. The quote is bounded, not looked at.
    pub fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = begin(payload, PERSISTENT_KEY)?;
        let quote = reader.bytes()?;
        if quote.len() > MAX_QUOTE_LEN {
            return Err(MessageError::Size {
                field: "sgx_quote",
                expected: MAX_QUOTE_LEN,
                found: quote.len(),
            });
        }
        let encrypted = sized("encrypted_secret", reader.bytes()?)?;
        reader.finish()?;
        Ok(PersistentKey {
            sgx_quote: quote.to_vec(),
            encrypted,
        })
    }
}

fn begin(payload: &[u8], expected: u32) -> Result<Reader<'_>, MessageError> {
    let mut reader = Reader::new(payload);
    match reader.u32()? {
        found if found == expected => Ok(reader),
        found => Err(MessageError::Constructor { expected, found }),
    }
}

fn sized<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], MessageError> {
    bytes.try_into().map_err(|_| MessageError::Size {
        field,
        expected: N,
        found: bytes.len(),
    })
}

/// Writes one frame.
pub fn write_frame(to: &mut (impl Write + ?Sized), payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok();
    let length = length
        .filter(|n| *n as usize <= MAX_PAYLOAD)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a sealing message has at most {MAX_PAYLOAD} bytes"),
            )
        })?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(payload)?;
    to.flush()
}

/// Reads one frame; the length is checked before anything is reserved for it.
pub fn read_frame(from: &mut (impl Read + ?Sized)) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_PAYLOAD {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the helper announces {length} bytes, at most {MAX_PAYLOAD} are read"),
        ));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok(payload)
}
