//! The frame by which a router tells the application behind it who the remote peer is (spec 1.2 and 4.6).
//!
//! It comes first on the stream and only in the direction towards the application, on a connection that never
//! leaves the machine. Whoever can write to that connection can claim anything: the frame proves nothing by itself.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cocoon_tl::{Reader, TlError, write_bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::measurements::{Measurements, SGX_LEN, SgxMeasurements, TDX_LEN, TdxMeasurements};
use crate::session::PeerIdentity;

/// Longest body of a frame (the reference's limit; ours have about 600 bytes).
pub const MAX_FRAME_LEN: usize = 16_536;
/// How long a reader waits for the frame: the router sends it after its proof of work and handshake are done.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(60);

const KIND_TDX: u32 = 0;
const KIND_SGX: u32 = 1;

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is over the limit: most likely the router sends no frames and this is something else.
    #[error(
        "attestation frame of {found} bytes, at most {MAX_FRAME_LEN} are allowed: does the router send peer information?"
    )]
    TooLong {
        /// Length declared.
        found: usize,
    },
    /// The body is not what the specification says.
    #[error("malformed attestation frame: {0}")]
    Malformed(#[from] TlError),
    /// A kind of evidence that does not exist.
    #[error("attestation frame with evidence of kind {0} (0 is TDX, 1 is SGX)")]
    UnknownKind(u32),
    /// The key has another length.
    #[error("attestation frame with a public key of {found} bytes, 32 expected")]
    KeyLength {
        /// Bytes found.
        found: usize,
    },
    /// An address that is not text.
    #[error("attestation frame with an address that is not text")]
    BadAddress,
    /// The stream ended first. A router closes like this when the remote peer is refused.
    #[error("the stream ended inside the attestation frame")]
    Closed,
    /// Nothing came in time.
    #[error("no attestation frame within {} s", FRAME_TIMEOUT.as_secs())]
    Timeout,
    /// The transport failed.
    #[error("i/o error at the attestation frame: {0}")]
    Io(#[from] io::Error),
}

/// One end of a connection as the router writes it: text and port, neither of which anybody depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Address without brackets; `0.0.0.0` if unset.
    pub ip: String,
    /// Port, signed on the wire.
    pub port: i32,
}

impl Endpoint {
    /// What stands for an unknown address.
    #[must_use]
    pub fn unset() -> Self {
        Endpoint {
            ip: "0.0.0.0".to_owned(),
            port: 0,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Endpoint {
            ip: address.ip().to_string(),
            port: i32::from(address.port()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ip.escape_debug(), self.port)
    }
}

/// What the frame says of the remote peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// What was measured, if the router's policy asked.
    pub attestation: Option<Measurements>,
    /// Hash of the root that vouches for the quote, or zeros.
    pub collateral_root_hash: [u8; 48],
    /// Ed25519 key of the peer's certificate.
    pub public_key: [u8; 32],
    /// Inbound: the remote client. Outbound: the local application.
    pub source: Endpoint,
    /// Inbound: the local application. Outbound: the remote server.
    pub destination: Endpoint,
}

impl PeerInfo {
    /// What a router of ours says of a peer.
    #[must_use]
    pub fn new(peer: &PeerIdentity, source: Endpoint, destination: Endpoint) -> Self {
        PeerInfo {
            attestation: peer.attestation.clone(),
            collateral_root_hash: peer.collateral_root_hash,
            public_key: peer.public_key,
            source,
            destination,
        }
    }

    /// The image hash that the root contract must list; zero without attestation.
    #[must_use]
    pub fn image_hash(&self) -> [u8; 32] {
        self.attestation
            .as_ref()
            .map_or([0; 32], Measurements::image_hash)
    }

    /// Length and body as they go over the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        let int = |out: &mut Vec<u8>, value: i32| out.extend_from_slice(&value.to_le_bytes());
        match &self.attestation {
            None => int(&mut out, 0),
            Some(Measurements::Tdx(tdx)) => {
                out.extend_from_slice(&[1, 0, 0, 0]);
                out.extend_from_slice(&KIND_TDX.to_le_bytes());
                out.extend_from_slice(&tdx.to_bytes());
            }
            Some(Measurements::Sgx(sgx)) => {
                out.extend_from_slice(&[1, 0, 0, 0]);
                out.extend_from_slice(&KIND_SGX.to_le_bytes());
                out.extend_from_slice(&sgx.to_bytes());
            }
        }
        out.extend_from_slice(&self.collateral_root_hash);
        write_bytes(&self.public_key, &mut out);
        for end in [&self.source, &self.destination] {
            write_bytes(end.ip.as_bytes(), &mut out);
            int(&mut out, end.port);
        }
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }

    /// Reads a body, which must be consumed exactly.
    pub fn decode_body(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let attestation = if reader.u32()? == 0 {
            None
        } else {
            Some(match reader.u32()? {
                KIND_TDX => {
                    let bytes = reader.array::<TDX_LEN>()?;
                    Measurements::Tdx(Box::new(TdxMeasurements::from_bytes(&bytes)))
                }
                KIND_SGX => {
                    let bytes = reader.array::<SGX_LEN>()?;
                    Measurements::Sgx(SgxMeasurements::from_bytes(&bytes))
                }
                other => return Err(FrameError::UnknownKind(other)),
            })
        };
        let collateral_root_hash = reader.array()?;
        let key = reader.bytes()?;
        let public_key = key
            .try_into()
            .map_err(|_| FrameError::KeyLength { found: key.len() })?;
        let source = endpoint(&mut reader)?;
        let destination = endpoint(&mut reader)?;
        reader.finish()?;
        Ok(PeerInfo {
            attestation,
            collateral_root_hash,
            public_key,
            source,
            destination,
        })
    }
}

fn endpoint(reader: &mut Reader<'_>) -> Result<Endpoint, FrameError> {
    let ip = reader.bytes()?.to_vec();
    let ip = String::from_utf8(ip).map_err(|_| FrameError::BadAddress)?;
    let port = i32::from_le_bytes(reader.array()?);
    Ok(Endpoint { ip, port })
}

/// Reads one frame, length and body, within [`FRAME_TIMEOUT`]. Bytes after it stay in the stream.
pub async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Result<PeerInfo, FrameError> {
    let read = async {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        let found = u32::from_le_bytes(length) as usize;
        if found > MAX_FRAME_LEN {
            return Err(FrameError::TooLong { found });
        }
        let mut body = vec![0; found];
        stream.read_exact(&mut body).await?;
        PeerInfo::decode_body(&body)
    };
    match tokio::time::timeout(FRAME_TIMEOUT, read).await {
        Err(_) => Err(FrameError::Timeout),
        Ok(Err(FrameError::Io(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(FrameError::Closed)
        }
        Ok(other) => other,
    }
}

/// Writes one frame and flushes it.
pub async fn write_frame<S: AsyncWrite + Unpin>(
    stream: &mut S,
    info: &PeerInfo,
) -> Result<(), FrameError> {
    let bytes = info.encode();
    if bytes.len() - 4 > MAX_FRAME_LEN {
        let found = bytes.len() - 4;
        return Err(FrameError::TooLong { found });
    }
    let write = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    match tokio::time::timeout(FRAME_TIMEOUT, write).await {
        Err(_) => Err(FrameError::Timeout),
        Ok(result) => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_length_over_the_limit_is_refused_before_reading() {
        let length = (MAX_FRAME_LEN as u32 + 1).to_le_bytes();
        let error = read_frame(&mut &length[..]).await.unwrap_err();
        assert!(
            matches!(error, FrameError::TooLong { found: 16_537 }),
            "{error}"
        );
        let error = read_frame(&mut &[0x38, 0x40, 0, 0][..]).await.unwrap_err(); // hex of the spec's decimal, misread
        assert!(matches!(error, FrameError::Closed), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_router_times_out() {
        let (mut ours, _theirs) = tokio::io::duplex(8);
        let error = read_frame(&mut ours).await.unwrap_err();
        assert!(matches!(error, FrameError::Timeout), "{error}");
    }

    #[tokio::test]
    async fn bytes_after_the_frame_stay_in_the_stream() {
        let info = PeerInfo {
            attestation: None,
            collateral_root_hash: [0; 48],
            public_key: [7; 32],
            source: Endpoint::unset(),
            destination: "[::1]:9".parse::<SocketAddr>().unwrap().into(),
        };
        let mut wire = Vec::new();
        write_frame(&mut wire, &info).await.unwrap();
        wire.extend_from_slice(b"next");
        let mut stream = &wire[..];
        assert_eq!(read_frame(&mut stream).await.unwrap(), info);
        assert_eq!(stream, b"next");
    }
}
