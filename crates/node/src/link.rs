//! What a role's core sees of its connections: events in, effects out, no sockets.

use std::fmt;
use std::sync::Arc;

use cocoon_attest::VerifiedClaims;

/// One connection of a node, unique for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {}", self.0)
    }
}

/// The attested identity of the peer behind a link, decided before the link came up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerInfo {
    /// Ed25519 key of the peer's certificate.
    pub public_key: [u8; 32],
    /// Image hash of attestation.md 4.4; 32 zero bytes without attestation.
    pub image_hash: [u8; 32],
    /// Where the peer is, as far as this node knows: the dialled address, or the other end of the connection.
    pub address: Option<std::net::SocketAddr>,
    /// The evidence is a fake quote, good for local networks only.
    pub fake: bool,
    /// What the peer signed for this very connection; only of our own nodes that are linked directly.
    pub claims: Option<Arc<VerifiedClaims>>,
}

/// Why a query of ours got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// The peer answered with `tcp.queryError`.
    Remote {
        /// Code of protocol.md 1.8.
        code: i32,
        /// Text of the peer.
        message: String,
    },
    /// No answer in time.
    Timeout,
    /// The connection ended first.
    Closed,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Remote { code, message } => {
                write!(f, "the peer refused: {message} (code {code})")
            }
            AskError::Timeout => f.write_str("the peer did not answer in time"),
            AskError::Closed => f.write_str("the connection ended before the answer"),
        }
    }
}

/// Something that happened on a connection.
#[derive(Clone, Debug)]
pub enum LinkEvent {
    /// The transport handshake of protocol.md 1.4 is complete.
    Up {
        /// The new link.
        link: LinkId,
        /// Who is on the other end.
        peer: PeerInfo,
    },
    /// A one-way application object.
    Packet {
        /// Where it came in.
        link: LinkId,
        /// Boxed TL object.
        data: Vec<u8>,
    },
    /// A request of the peer that wants a [`LinkEffect::Reply`].
    Query {
        /// Where it came in.
        link: LinkId,
        /// The peer's query id.
        id: i64,
        /// Boxed TL function.
        data: Vec<u8>,
    },
    /// The answer to a [`LinkEffect::Ask`].
    Answer {
        /// Where it was asked.
        link: LinkId,
        /// Ticket given with the question.
        ticket: u64,
        /// Boxed TL result, or why there is none.
        result: Result<Vec<u8>, AskError>,
    },
    /// The connection ended.
    Down {
        /// The link that is gone.
        link: LinkId,
        /// For the log.
        reason: String,
    },
}

/// Something a core wants done on a connection.
#[derive(Clone, Debug)]
pub enum LinkEffect {
    /// Send a one-way object.
    Send {
        /// Where to.
        link: LinkId,
        /// Boxed TL object.
        data: Vec<u8>,
    },
    /// Ask the peer; the outcome comes back as [`LinkEvent::Answer`].
    Ask {
        /// Whom.
        link: LinkId,
        /// Chosen by the core to recognise the answer.
        ticket: u64,
        /// Boxed TL function.
        data: Vec<u8>,
        /// How long to wait.
        timeout_ms: u64,
    },
    /// Answer a query of the peer.
    Reply {
        /// Whom.
        link: LinkId,
        /// The peer's query id.
        id: i64,
        /// Boxed result, or code and text of a `tcp.queryError`.
        result: Result<Vec<u8>, (i32, String)>,
    },
    /// End the connection once what was sent before is written.
    Close {
        /// Which.
        link: LinkId,
        /// For the log of this side; the wire carries no reason.
        reason: String,
    },
}
