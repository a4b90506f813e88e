//! Signed claims between our own nodes: what a certificate of the profile has no room for.
//!
//! A certificate proves a key and an image, at some time within a day. It says nothing about *this* connection, nor
//! about role, network or root contract. Two nodes of ours therefore exchange [`Statement`]s right after the handshake
//! and before the first byte of the application. Each is signed with the attested TLS key and names the exporter value of
//! this very connection (RFC 8446, 7.5), a nonce of the other side, the time, role, network, root contract and protocol
//! versions, the key that bodies are sealed to, a digest of GPU evidence made for this nonce, and for a proxy the proof
//! that it holds the key that signs its payments.
//!
//! Both sides ask for it by ALPN ([`ALPN`]), which no reference node uses: its TLS library ignores an offer and never
//! makes one, and the handshake's own signature covers the choice. So a reference node never sees a byte of this.
//!
//! * [`statement`]: the encoding, strict in both directions;
//! * [`judge`]: what a statement must say, without any I/O;
//! * [`exchange`]: the messages on a stream;
//! * [`gpu`]: GPU evidence that goes with a statement.

pub mod exchange;
pub mod gpu;
pub mod judge;
pub mod statement;

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::SigningKey;

pub use exchange::CLAIMS_TIMEOUT;
pub use gpu::{GpuDemand, GpuDevice, GpuSource, GpuSourceError, HostGpus};
pub use judge::{ClaimsError, MAX_SKEW_SECONDS};
pub use statement::{Network, ProtocolRange, Role, RootContract, Statement, StatementError};

use crate::evidence::gpu::GpuClaims;
use crate::hybrid_kem;

/// What both sides offer in the handshake when they speak claims. A later edition is another name.
pub const ALPN: &[u8] = b"cocoon-claims/1";
/// Label of the exporter, of ours alone.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Cocoon-Claims-1";

/// What we say about ourselves, apart from what belongs to one connection.
#[derive(Clone)]
pub struct OwnClaims {
    /// What we are on this port.
    pub role: Role,
    /// Our TON network.
    pub network: Network,
    /// Our root contract.
    pub root: RootContract,
    /// Protocol versions of the node that we speak.
    pub protocol: ProtocolRange,
    /// The key that bodies for us are sealed to.
    pub encryption: Option<hybrid_kem::PublicKey>,
    /// The key that signs payments; proxies have one and nobody else.
    pub payment_key: Option<Arc<SigningKey>>,
    /// Makes evidence of our GPUs.
    pub gpu: Option<Arc<dyn GpuSource>>,
}

impl fmt::Debug for OwnClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnClaims")
            .field("role", &self.role)
            .field("network", &self.network)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// What the other side has to say.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Roles that may be on the other end of this port.
    pub roles: Vec<Role>,
    /// The network it must be in.
    pub network: Network,
    /// The root contract it must follow.
    pub root: RootContract,
    /// What its GPUs must prove; `None` asks for no evidence.
    pub gpu: Option<GpuDemand>,
}

/// Everything that a connection needs to exchange claims.
#[derive(Debug, Clone)]
pub struct ClaimsProfile {
    /// Of ourselves.
    pub own: OwnClaims,
    /// Of the other side.
    pub expected: Expected,
    /// Refuse peers that do not speak claims, such as the reference. Whoever does speak them is always judged.
    pub require: bool,
}

/// What the peer of a connection has said and proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedClaims {
    /// Its clock, Unix seconds.
    pub time: u64,
    /// What it is.
    pub role: Role,
    /// Its network.
    pub network: Network,
    /// Its root contract.
    pub root: RootContract,
    /// Protocol versions it speaks.
    pub protocol: ProtocolRange,
    /// The key that bodies for it are sealed to.
    pub encryption: Option<hybrid_kem::PublicKey>,
    /// The key that signs its payments, which it proved to hold.
    pub payment_key: Option<[u8; 32]>,
    /// Its GPUs, judged by the [`GpuDemand`]; empty where none was made.
    pub gpus: Vec<GpuClaims>,
    /// SHA-256 of the GPU evidence.
    pub gpu_digest: Option<[u8; 32]>,
}

#[cfg(test)]
mod tests;
