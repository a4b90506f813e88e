//! How sending, asking and whole connections end.

use std::time::Duration;

use cocoon_tl::TlError;
use thiserror::Error;

use crate::frame::{FrameError, MAX_PAYLOAD};

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CloseReason {
    /// The peer closed the stream, in whatever way: there is no closing message in this protocol.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(String),
    /// Nothing was received for too long.
    #[error("nothing was received for {} s", .0.as_secs())]
    Silence(Duration),
    /// The peer broke the framing.
    #[error("protocol violation by the peer: {0}")]
    Frame(#[from] FrameError),
    /// A frame holds no transport object.
    #[error("protocol violation by the peer: frame {seqno} does not parse: {error}")]
    Unparsable {
        /// Number of the frame.
        seqno: i32,
        /// Why.
        error: TlError,
    },
    /// The first frame is not the handshake.
    #[error("protocol violation by the peer: first frame is {found}, expected {expected}")]
    NoHandshake {
        /// What the role requires.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// The peer does not read what it is sent.
    #[error("the peer reads too slowly: more than {limit} bytes wait to be sent")]
    Overflow {
        /// The limit on waiting bytes.
        limit: usize,
    },
    /// The remaining bytes could not be sent in time after a decision to close.
    #[error("{0} (the peer did not take the last bytes)")]
    FlushTimeout(String),
    /// This side decided so.
    #[error("{0}")]
    Local(String),
    /// The receiver of events was dropped.
    #[error("nobody listens to this connection any more")]
    Abandoned,
}

/// Why something could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// The connection is closed or closing.
    #[error("the connection is closed: {0}")]
    Closed(String),
    /// The message does not fit into a frame. Nothing was sent; the connection goes on.
    #[error("a frame payload of {size} bytes exceeds the limit of {MAX_PAYLOAD} bytes")]
    TooLarge {
        /// The size the frame payload would have.
        size: usize,
    },
    /// A query with this id is open. Cannot happen through the driver.
    #[error("query id {0} is in use")]
    DuplicateQueryId(i64),
}

/// Why a query has no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueryFailure {
    /// The peer answered with an error.
    #[error("the peer answered with error {code}: {message}")]
    Remote {
        /// See [`codes`](crate::codes).
        code: i32,
        /// For a human.
        message: String,
    },
    /// No answer came in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection ended, or was closed before.
    #[error("the connection closed before an answer came")]
    Closed,
    /// The query does not fit into a frame; it was not sent.
    #[error("a frame payload of {size} bytes exceeds the limit of {MAX_PAYLOAD} bytes")]
    TooLarge {
        /// The size the frame payload would have.
        size: usize,
    },
}
