//! The links runtime: sockets, RA-TLS and wire connections on one side, [`LinkEvent`]s and [`LinkEffect`]s on the other.
//!
//! Every role's driver owns one [`Peers`]. Connections come from [`Peers::listen`] or [`Peers::dial`]; whatever
//! happens on them arrives in one queue, tagged with the port it belongs to.

mod doors;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cocoon_attest::identity::CertificateMode;
use cocoon_attest::{TlsIdentity, unix_now};
use cocoon_wire::QueryFailure;
use cocoon_wire::driver::{self, ConnConfig, PeerEvent, PeerHandle, Role};
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, info, warn};

pub use self::doors::{Door, DoorError, Trusted, Way};
use crate::link::{AskError, LinkEffect, LinkEvent, LinkId, PeerInfo};

/// Handshakes at a time on one port: each may cost a few signatures and some memory.
pub const MAX_HANDSHAKES: usize = 256;
/// Links of one node at a time.
pub const MAX_LINKS: usize = 4096;
/// First and last pause between attempts (protocol.md appendix A).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// A connection that lived this long was a success: the next attempt starts without a pause.
const GOOD_LIFE: Duration = Duration::from_secs(10);
/// Pause after an accept error, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// An event together with the port (0, 1, ...) its link belongs to.
pub type Tagged = (usize, LinkEvent);

/// All links of a node.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    links: Mutex<HashMap<LinkId, (usize, PeerHandle)>>,
    next: AtomicU64,
    events: mpsc::Sender<Tagged>,
}

/// A TLS identity that renews itself before its certificate ends.
#[derive(Clone)]
pub struct IdentityCell {
    current: Arc<Mutex<TlsIdentity>>,
    mode: CertificateMode,
}

impl IdentityCell {
    /// Starts with an identity; later ones are of the same kind.
    pub fn new(identity: TlsIdentity) -> Self {
        /// Body of the OID 1.3.6.1.4.1.12345.1, the quote extension.
        const QUOTE_OID: [u8; 8] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0xe0, 0x39, 0x01];
        let quoted = identity
            .certificate_der()
            .windows(QUOTE_OID.len())
            .any(|w| w == QUOTE_OID);
        let mode = if quoted {
            CertificateMode::FakeTdx
        } else {
            CertificateMode::None
        };
        IdentityCell {
            current: Arc::new(Mutex::new(identity)),
            mode,
        }
    }

    /// The identity to use now.
    pub fn get(&self) -> TlsIdentity {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = unix_now();
        if current.needs_renewal(now) {
            match TlsIdentity::generate(self.mode, now) {
                Ok(fresh) => *current = fresh,
                Err(e) => warn!("the TLS identity could not be renewed: {e}"),
            }
        }
        current.clone()
    }
}

/// How to be a server.
pub struct ListenConfig {
    /// Tag of the events.
    pub port: usize,
    /// How peers come in.
    pub door: Door,
}

/// How to be a client.
pub struct DialConfig {
    /// Tag of the events.
    pub port: usize,
    /// How servers are reached.
    pub way: Way,
    /// Connections to keep.
    pub connections: usize,
}

impl Peers {
    /// A runtime without links, and the queue of their events.
    pub fn new() -> (Self, mpsc::Receiver<Tagged>) {
        let (events, queue) = mpsc::channel(1024);
        let inner = Inner {
            links: Mutex::new(HashMap::new()),
            next: AtomicU64::new(1),
            events,
        };
        (
            Peers {
                inner: Arc::new(inner),
            },
            queue,
        )
    }

    fn with<R>(&self, f: impl FnOnce(&mut HashMap<LinkId, (usize, PeerHandle)>) -> R) -> R {
        f(&mut self
            .inner
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// Open links.
    pub fn count(&self) -> usize {
        self.with(|l| l.len())
    }

    /// Carries out an effect.
    pub fn apply(&self, effect: LinkEffect) {
        let find = |link: LinkId| self.with(|l| l.get(&link).cloned());
        match effect {
            LinkEffect::Send { link, data } => {
                if let Some((_, handle)) = find(link)
                    && let Err(e) = handle.send_packet(data)
                {
                    debug!("{link}: not sent: {e}");
                }
            }
            LinkEffect::Ask {
                link,
                ticket,
                data,
                timeout_ms,
            } => {
                let Some((port, handle)) = find(link) else {
                    return;
                };
                let query = handle.query(data, Duration::from_millis(timeout_ms));
                let events = self.inner.events.clone();
                tokio::spawn(async move {
                    let result = query.await.map_err(|e| match e {
                        QueryFailure::Remote { code, message } => {
                            AskError::Remote { code, message }
                        }
                        QueryFailure::Timeout => AskError::Timeout,
                        _ => AskError::Closed,
                    });
                    let _ = events
                        .send((
                            port,
                            LinkEvent::Answer {
                                link,
                                ticket,
                                result,
                            },
                        ))
                        .await;
                });
            }
            LinkEffect::Reply { link, id, result } => {
                if let Some((_, handle)) = find(link) {
                    handle.answer(id, result);
                }
            }
            LinkEffect::Close { link, reason } => {
                if let Some((_, handle)) = find(link) {
                    info!("{link}: closing: {reason}");
                    handle.close_after_flush(&reason);
                }
            }
        }
    }

    /// Closes every link.
    pub fn close_all(&self, reason: &str) {
        for (_, handle) in self.with(|l| l.values().cloned().collect::<Vec<_>>()) {
            handle.close_after_flush(reason);
        }
    }

    /// Runs the protocol on a trusted stream until it ends.
    pub async fn run<S>(&self, stream: S, role: Role, port: usize, peer: PeerInfo)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let link = LinkId(self.inner.next.fetch_add(1, Ordering::Relaxed));
        let (handle, mut events) = driver::spawn(stream, role, ConnConfig::default());
        self.with(|l| l.insert(link, (port, handle)));
        while let Some(event) = events.recv().await {
            let event = match event {
                PeerEvent::Ready => LinkEvent::Up {
                    link,
                    peer: peer.clone(),
                },
                PeerEvent::Packet(data) => LinkEvent::Packet { link, data },
                PeerEvent::Query { id, data } => LinkEvent::Query { link, id, data },
                PeerEvent::Closed { reason } => {
                    info!("{link}: closed: {reason}");
                    self.with(|l| l.remove(&link));
                    let _ = self
                        .inner
                        .events
                        .send((port, LinkEvent::Down { link, reason }))
                        .await;
                    return;
                }
            };
            if self.inner.events.send((port, event)).await.is_err() {
                break;
            }
        }
        self.with(|l| l.remove(&link));
    }

    /// Accepts peers on a port until the task is aborted.
    pub async fn listen(self, listener: TcpListener, cfg: ListenConfig) {
        let slots = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let cfg = Arc::new(cfg);
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let (stream, from) = match listener.accept().await {
                Ok(x) => x,
                Err(e) => {
                    warn!("accepting failed: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if self.count() >= MAX_LINKS {
                debug!("{from}: refused, {MAX_LINKS} links are open");
                continue;
            }
            let (peers, cfg) = (self.clone(), cfg.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                match cfg.door.open(stream).await {
                    Ok((stream, peer)) => {
                        drop(slot);
                        peers
                            .run_trusted(stream, Role::Acceptor, cfg.port, peer)
                            .await;
                    }
                    Err(e) => info!("{from}: refused: {e}"),
                }
            });
        }
    }

    /// Keeps connections to targets, chosen at random among those not in use, until the task is aborted.
    pub async fn dial(self, mut targets: watch::Receiver<Vec<SocketAddr>>, cfg: DialConfig) {
        let cfg = Arc::new(cfg);
        let used: Arc<Mutex<HashSet<SocketAddr>>> = Arc::default();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..cfg.connections {
            let (peers, targets, cfg, used) =
                (self.clone(), targets.clone(), cfg.clone(), used.clone());
            tasks.spawn(async move { peers.keep_one(targets, cfg, used).await });
        }
        // Nothing to dial to is not an end: the list may grow.
        while targets.changed().await.is_ok() {}
        std::future::pending::<()>().await;
    }

    async fn keep_one(
        &self,
        targets: watch::Receiver<Vec<SocketAddr>>,
        cfg: Arc<DialConfig>,
        used: Arc<Mutex<HashSet<SocketAddr>>>,
    ) {
        let lock = || used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pause = BACKOFF.0;
        loop {
            let target = {
                let mut used = lock();
                let free: Vec<SocketAddr> = targets
                    .borrow()
                    .iter()
                    .filter(|t| !used.contains(t))
                    .copied()
                    .collect();
                let pick = free.choose(&mut rand::rng()).copied();
                if let Some(t) = pick {
                    used.insert(t);
                }
                pick
            };
            if let Some(target) = target {
                let begun = Instant::now();
                if let Err(e) = self.dial_one(target, &cfg).await {
                    info!("{target}: {e}");
                }
                lock().remove(&target);
                if begun.elapsed() >= GOOD_LIFE {
                    pause = BACKOFF.0;
                }
            }
            let jitter = rand::rng().random_range(0.5..1.5);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    async fn dial_one(&self, target: SocketAddr, cfg: &DialConfig) -> Result<(), DoorError> {
        let (stream, peer) = cfg.way.go(target).await?;
        self.run_trusted(stream, Role::Dialler, cfg.port, peer)
            .await;
        Ok(())
    }

    async fn run_trusted(&self, stream: Trusted, role: Role, port: usize, peer: PeerInfo) {
        match stream {
            Trusted::Tls(tls) => self.run(*tls, role, port, peer).await,
            Trusted::Plain(tcp) => self.run(tcp, role, port, peer).await,
        }
    }
}
