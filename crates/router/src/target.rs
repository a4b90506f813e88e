//! Where a connection goes: an address or a name, and a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest name of the domain name system.
pub const MAX_NAME_LEN: usize = 253;
/// Longest label of such a name.
const MAX_LABEL_LEN: usize = 63;

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// By address.
    Ip(IpAddr),
    /// By name, which is looked up anew for each connection.
    Name(String),
}

/// A port of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The machine.
    pub host: Host,
    /// The port; never 0.
    pub port: u16,
}

/// Why a text names no machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No text at all.
    #[error("the host is empty")]
    Empty,
    /// A name of too many bytes.
    #[error("a host name has at most {MAX_NAME_LEN} bytes, this one has {found}")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Other characters than a name has, or labels of the wrong length.
    #[error(
        "a host is an IPv4 address, an IPv6 address in brackets, or a name of letters, digits, '-', '_' and '.'"
    )]
    NotAName,
    /// Port 0 cannot be connected to.
    #[error("a port is a number from 1 to 65535")]
    Port,
}

impl Host {
    /// Reads an address (IPv6 with or without brackets) or a name.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.is_empty() {
            return Err(TargetError::Empty);
        }
        if let Ok(v4) = text.parse::<Ipv4Addr>() {
            return Ok(Host::Ip(v4.into()));
        }
        let inner = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(v6) = inner.parse::<Ipv6Addr>() {
            return Ok(Host::Ip(v6.into()));
        }
        if text.len() > MAX_NAME_LEN {
            return Err(TargetError::TooLong { found: text.len() });
        }
        let fine = |label: &str| {
            !label.is_empty()
                && label.len() <= MAX_LABEL_LEN
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // The final dot of a complete name is allowed.
        if text.strip_suffix('.').unwrap_or(text).split('.').all(fine) {
            Ok(Host::Name(text.to_owned()))
        } else {
            Err(TargetError::NotAName)
        }
    }
}

impl Target {
    /// A port of a host given as text.
    pub fn new(host: &str, port: u16) -> Result<Self, TargetError> {
        if port == 0 {
            return Err(TargetError::Port);
        }
        let host = Host::parse(host)?;
        Ok(Target { host, port })
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Target {
            host: Host::Ip(address.ip()),
            port: address.port(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}
