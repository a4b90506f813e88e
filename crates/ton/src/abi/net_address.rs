//! Network addresses in the registry: one text for workers and clients (contracts.md, section 6.2).

use std::fmt;
use std::net::SocketAddrV4;

use super::codec::{Field, Reader, Writer};
use super::error::AbiError;

/// Bytes that fit when a proxy is registered. The length field could say 127, but one cell must hold
/// the message; an update holds four bytes less.
pub const MAX_TEXT_BYTES: usize = 114;

/// The text under which a proxy can be reached, as it is on chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetAddress {
    bytes: Vec<u8>,
}

/// Where workers and clients reach a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProxyEndpoints {
    /// For workers.
    pub for_workers: SocketAddrV4,
    /// For clients.
    pub for_clients: SocketAddrV4,
}

/// Why a net address text names no endpoints. Nodes skip such an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetAddressError {
    /// Not UTF-8.
    #[error("the net address is not text")]
    NotText,
    /// Not one or two words.
    #[error("the net address {text:?} should be \"ip:port\" or \"ip:port ip:port\"")]
    Shape {
        /// The whole text.
        text: String,
    },
    /// A word that is no IPv4 socket address.
    #[error(
        "{part:?} in the net address is not an IPv4 address with a port, like 203.0.113.5:9002"
    )]
    Endpoint {
        /// The offending part.
        part: String,
    },
}

impl NetAddress {
    /// Takes a text as it is; only its length is checked.
    pub fn new(text: &str) -> Result<Self, AbiError> {
        check_length(text.as_bytes())?;
        Ok(Self {
            bytes: text.as_bytes().to_vec(),
        })
    }

    /// The text of two endpoints; one if both are the same.
    pub fn from_endpoints(endpoints: &ProxyEndpoints) -> Self {
        let text = if endpoints.for_workers == endpoints.for_clients {
            endpoints.for_workers.to_string()
        } else {
            format!("{} {}", endpoints.for_workers, endpoints.for_clients)
        };
        Self {
            bytes: text.into_bytes(),
        }
    }

    /// The text, if it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// The bytes on chain.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the endpoints: the first word is for workers, the second for clients; one word serves both.
    pub fn endpoints(&self) -> Result<ProxyEndpoints, NetAddressError> {
        let text = self.text().ok_or(NetAddressError::NotText)?;
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let shape = || NetAddressError::Shape {
            text: text.to_owned(),
        };
        let first = words.next().ok_or_else(shape)?;
        let second = words.next().unwrap_or(first);
        if words.next().is_some() {
            return Err(shape());
        }
        Ok(ProxyEndpoints {
            for_workers: endpoint(first)?,
            for_clients: endpoint(second)?,
        })
    }
}

fn endpoint(part: &str) -> Result<SocketAddrV4, NetAddressError> {
    match part.parse::<SocketAddrV4>() {
        Ok(endpoint) if endpoint.port() != 0 => Ok(endpoint),
        _ => Err(NetAddressError::Endpoint {
            part: part.to_owned(),
        }),
    }
}

fn check_length(bytes: &[u8]) -> Result<(), AbiError> {
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(AbiError::TextTooLong {
            field: "net address",
            found: bytes.len(),
            limit: MAX_TEXT_BYTES,
        });
    }
    Ok(())
}

impl Field for NetAddress {
    fn put(&self, writer: &mut Writer, _: &'static str) {
        writer.bit(false);
        writer.uint(self.bytes.len() as u64, 7);
        writer.raw(&self.bytes);
    }

    fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError> {
        if reader.bit(field)? {
            return Err(AbiError::Value {
                field,
                found: 1,
                expected: "the type bit 0 (inline text)",
            });
        }
        let length = reader.uint(field, 7)? as usize;
        let mut bytes = vec![0u8; length];
        reader.raw(field, &mut bytes)?;
        Ok(Self { bytes })
    }
}

impl fmt::Display for NetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes))
    }
}

impl fmt::Debug for NetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.bytes))
    }
}
