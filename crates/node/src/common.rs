//! What all drivers share: poll intervals, errors of starting a node, and the blocking writer of a store.

use std::time::Duration;

use cocoon_ton::chain::ChainError;
use tokio::sync::mpsc;

use crate::store::{Change, RoleStore, StoreError};

/// How often a node looks at the chain and at its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The root contract.
    pub root_poll: Duration,
    /// Own contracts and their transactions.
    pub account_poll: Duration,
    /// The core's tick.
    pub tick: Duration,
}

impl Default for Timing {
    /// The reference's intervals (protocol.md 10).
    fn default() -> Self {
        Timing {
            root_poll: Duration::from_secs(30),
            account_poll: Duration::from_secs(5),
            tick: Duration::from_millis(100),
        }
    }
}

impl Timing {
    /// For a chain in the same process, where looking costs nothing.
    pub fn local() -> Self {
        Timing {
            root_poll: Duration::from_millis(500),
            account_poll: Duration::from_millis(150),
            tick: Duration::from_millis(50),
        }
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The chain.
    #[error("the chain cannot be read: {0}")]
    Chain(#[from] ChainError),
    /// The root contract.
    #[error("the root contract {address} cannot be used: {reason}")]
    Root {
        /// Where it should be.
        address: String,
        /// What was found.
        reason: String,
    },
    /// The store on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Configuration that contradicts itself, the root contract or the network.
    #[error("{0}")]
    Config(String),
    /// Not ready in time.
    #[error("{0}")]
    Timeout(String),
    /// The node stopped while starting.
    #[error("the node stopped while starting: {0}")]
    Stopped(String),
}

/// Batches to be written, by number.
pub type SaveQueue = mpsc::UnboundedSender<(u64, Vec<Change>)>;
/// Numbers of batches that are durable.
pub type SaveReports = mpsc::UnboundedReceiver<Result<u64, StoreError>>;

/// Writes batches one after the other on a thread of its own and reports each when it is durable.
///
/// Dropping the sender ends the thread once everything is written. A failed write is reported as `Err` and ends it:
/// a node that cannot save must stop.
pub fn spawn_writer(store: RoleStore) -> (SaveQueue, SaveReports) {
    let (jobs, mut queue) = mpsc::unbounded_channel::<(u64, Vec<Change>)>();
    let (done, reports) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Some((number, batch)) = queue.blocking_recv() {
            let result = store.write(&batch).map(|()| number);
            let failed = result.is_err();
            if done.send(result).is_err() || failed {
                return;
            }
        }
    });
    (jobs, reports)
}

/// A listener for HTTP whose connections send small pieces at once: a token must not wait for the next one, nor for
/// an acknowledgement.
pub fn no_delay(
    listener: tokio::net::TcpListener,
) -> impl axum::serve::Listener<Io = tokio::net::TcpStream, Addr = std::net::SocketAddr> {
    use axum::serve::ListenerExt;
    listener.tap_io(|stream| {
        // Refused only by sockets that are already gone.
        let _ = stream.set_nodelay(true);
    })
}

/// Milliseconds since 1970 that never go back within one process.
pub struct Clock {
    origin_ms: u64,
    start: std::time::Instant,
}

impl Default for Clock {
    fn default() -> Self {
        let origin = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Clock {
            origin_ms: origin.as_millis() as u64,
            start: std::time::Instant::now(),
        }
    }
}

impl Clock {
    /// Now.
    pub fn now_ms(&self) -> u64 {
        self.origin_ms + self.start.elapsed().as_millis() as u64
    }
}
