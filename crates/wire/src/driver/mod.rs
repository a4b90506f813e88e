//! A connection on a tokio stream: one task a connection around [`Conn`].
//!
//! The task reads only while the events it has read fit into the event queue, so a slow consumer makes the
//! peer's TCP window close instead of our memory grow. Writes are coalesced: everything that was queued while
//! a write was under way goes out together, and the stream is flushed when nothing waits.

mod inbox;
mod task;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cocoon_tl::{Boxed, to_boxed};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::conn::{Conn, MAX_OUTBOUND, Outcome};
use crate::{CloseReason, QueryFailure, SendError};

pub use crate::conn::Role;

/// Events that may wait for the consumer: enough for a burst of small messages.
pub const EVENT_QUEUE: usize = 256;
/// Bytes of events that may wait for the consumer: two messages of the largest size.
pub const MAX_INBOUND: usize = 2 * crate::frame::MAX_PAYLOAD;

/// Limits of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnConfig {
    /// Bytes that may wait for a slow peer before the connection is closed.
    pub max_outbound: usize,
    /// Bytes of events that may wait for a slow consumer before reading stops.
    pub max_inbound: usize,
    /// Events that may wait for a slow consumer before reading stops.
    pub event_queue: usize,
}

impl Default for ConnConfig {
    fn default() -> Self {
        Self {
            max_outbound: MAX_OUTBOUND,
            max_inbound: MAX_INBOUND,
            event_queue: EVENT_QUEUE,
        }
    }
}

/// What a peer did.
#[derive(Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// The transport handshake is complete.
    Ready,
    /// A one-way message: a boxed application object.
    Packet(Vec<u8>),
    /// A query, to be answered with [`PeerHandle::answer`].
    Query {
        /// Names the query in the answer.
        id: i64,
        /// A boxed function.
        data: Vec<u8>,
    },
    /// The connection ended. Always the last event.
    Closed {
        /// Why, for a human.
        reason: String,
    },
}

/// Shows constructors and sizes but no contents, which may be confidential.
impl std::fmt::Debug for PeerEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::msg::catalogue::describe;
        match self {
            Self::Ready => f.write_str("Ready"),
            Self::Packet(data) => write!(f, "Packet({}, {} bytes)", describe(data), data.len()),
            Self::Query { id, data } => {
                write!(f, "Query({id}, {}, {} bytes)", describe(data), data.len())
            }
            Self::Closed { reason } => write!(f, "Closed({reason:?})"),
        }
    }
}

/// A way to a peer; all clones mean the same connection. Dropping them all does not close it: dropping the
/// event receiver does.
#[derive(Clone)]
pub struct PeerHandle {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<Locked>,
    start: Instant,
    /// There are bytes to write.
    output: Notify,
    /// There may be an earlier deadline.
    timer: Notify,
    /// The connection may be closed.
    closing: Notify,
}

struct Locked {
    conn: Conn,
    waiting: HashMap<i64, oneshot::Sender<Result<Vec<u8>, QueryFailure>>>,
}

/// Runs a connection on `stream`. Must be called inside a tokio runtime.
///
/// Any attestation frame must have been read from the stream before.
pub fn spawn<S>(stream: S, role: Role, cfg: ConnConfig) -> (PeerHandle, mpsc::Receiver<PeerEvent>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let start = Instant::now();
    let mut conn = Conn::new(role, rand::random(), Duration::ZERO);
    conn.set_max_outbound(cfg.max_outbound);
    let shared = Arc::new(Shared {
        state: Mutex::new(Locked {
            conn,
            waiting: HashMap::new(),
        }),
        start,
        output: Notify::new(),
        timer: Notify::new(),
        closing: Notify::new(),
    });
    // The queue must have room for `Closed` and one event, whatever was configured.
    let (events, receiver) = mpsc::channel(cfg.event_queue.max(2));
    let inbox = inbox::Inbox::new(events, cfg.max_inbound);
    tokio::spawn(task::run(stream, shared.clone(), inbox));
    (PeerHandle { shared }, receiver)
}

impl PeerHandle {
    /// Sends a one-way message: a boxed object. Before the handshake is complete it waits.
    ///
    /// If more than the limit waits for a peer that does not read, the connection closes.
    pub fn send_packet(&self, data: Vec<u8>) -> Result<(), SendError> {
        self.shared.with(|locked, _| locked.conn.send_packet(data))
    }

    /// [`PeerHandle::send_packet`] of a typed message.
    pub fn send<T: Boxed>(&self, message: &T) -> Result<(), SendError> {
        self.send_packet(to_boxed(message))
    }

    /// Sends a query, a boxed function, at once, and waits for its answer. Dropping the future forgets the query.
    ///
    /// The answer can overtake packets that were received before it and that the consumer has not taken yet.
    pub fn query(
        &self,
        data: Vec<u8>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, QueryFailure>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        let sent = self.shared.with(|locked, now| {
            let mut id = rand::random();
            while locked.conn.is_open(id) {
                id = rand::random();
            }
            locked.conn.query(now, id, data, timeout)?;
            locked.waiting.insert(id, sender);
            Ok(id)
        });
        let pending = sent.map(|id| PendingQuery {
            shared: self.shared.clone(),
            id,
            receiver,
        });
        async move {
            match pending {
                Ok(mut pending) => (&mut pending.receiver)
                    .await
                    .unwrap_or(Err(QueryFailure::Closed)),
                Err(SendError::TooLarge { size }) => Err(QueryFailure::TooLarge { size }),
                Err(_) => Err(QueryFailure::Closed),
            }
        }
    }

    /// Answers a query of the peer with a boxed object or with a code and a text.
    pub fn answer(&self, query_id: i64, result: Result<Vec<u8>, (i32, String)>) {
        self.shared
            .with(|locked, _| locked.conn.answer(query_id, result));
    }

    /// Closes at once; what waits to be sent is dropped.
    pub fn close(&self, reason: &str) {
        self.shared
            .with(|locked, _| locked.conn.close(CloseReason::Local(reason.to_owned())));
    }

    /// Closes after everything that waits was sent, or after a few seconds if the peer does not take it.
    pub fn close_after_flush(&self, reason: &str) {
        self.shared
            .with(|locked, now| locked.conn.close_after_flush(now, reason));
    }

    /// Whether the connection ended.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().conn.closed().is_some()
    }

    /// Why the connection ended, if it did.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.lock().conn.closed().cloned()
    }

    /// Bytes that wait to be sent.
    pub fn outbound(&self) -> usize {
        self.shared.lock().conn.outbound()
    }
}

impl std::fmt::Debug for PeerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let locked = self.shared.lock();
        f.debug_struct("PeerHandle")
            .field("role", &locked.conn.role())
            .field("ready", &locked.conn.is_ready())
            .field("closed", &locked.conn.closed())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// A panic inside the lock cannot leave the state machine half changed in a way that matters more than
    /// failing everybody else too.
    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Does something with the connection, hands out results and wakes the task where needed.
    fn with<R>(&self, action: impl FnOnce(&mut Locked, Duration) -> R) -> R {
        let now = self.now();
        let mut locked = self.lock();
        let deadline = locked.conn.next_deadline();
        let result = action(&mut locked, now);
        while let Some(Outcome { id, result }) = locked.conn.poll_outcome() {
            if let Some(waiter) = locked.waiting.remove(&id) {
                // The asker may be gone.
                let _ = waiter.send(result);
            }
        }
        let closed = locked.conn.closed().is_some();
        let has_output = locked.conn.has_output();
        let earlier = match (locked.conn.next_deadline(), deadline) {
            (Some(new), Some(old)) => new < old,
            (new, old) => new != old,
        };
        drop(locked);
        if closed {
            self.closing.notify_one();
        }
        if has_output {
            self.output.notify_one();
        }
        if earlier {
            self.timer.notify_one();
        }
        result
    }
}

/// A query that is forgotten when its asker goes away.
struct PendingQuery {
    shared: Arc<Shared>,
    id: i64,
    receiver: oneshot::Receiver<Result<Vec<u8>, QueryFailure>>,
}

impl Drop for PendingQuery {
    fn drop(&mut self) {
        self.receiver.close();
        let mut locked = self.shared.lock();
        // Only if it is still ours: after an answer the id may already belong to another query.
        if locked
            .waiting
            .get(&self.id)
            .is_some_and(oneshot::Sender::is_closed)
        {
            locked.waiting.remove(&self.id);
            locked.conn.forget_query(self.id);
        }
    }
}
