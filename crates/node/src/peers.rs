//! The links runtime: sockets, RA-TLS and wire connections on one side, [`LinkEvent`]s and [`LinkEffect`]s on the other.
//!
//! Every role's driver owns one [`Peers`]. Connections come from [`Peers::listen`] or [`Peers::dial`]; whatever
//! happens on them arrives in one queue, tagged with the port it belongs to.

mod doors;
mod identity;
mod judge;
pub mod loopback;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cocoon_attest::ClaimsProfile;
use cocoon_attest::gate::{Gate, GateLimits, Permit, Setup, site};
use cocoon_wire::QueryFailure;
use cocoon_wire::driver::{self, ConnConfig, PeerEvent, PeerHandle, Role};
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

pub use self::doors::{Door, DoorError, Trusted, Way};
pub use self::identity::{ATTESTED_AGE, IdentityCell};
pub use self::judge::{Judge, REJUDGE_EVERY};
use crate::link::{AskError, LinkEffect, LinkEvent, LinkId, PeerInfo};
use crate::metrics::{Direction, DoorCounts, Verdict};

/// Who may come in. A handshake costs a few signatures and up to some 100 KiB; when there are more than 256 at once the
/// oldest makes room, so that silent strangers push out one another. A site (an IPv4 address, a /64 of IPv6) gets a
/// quarter of either: the workers behind one router of a data centre.
pub const LIMITS: GateLimits = GateLimits {
    connections: 4_096,
    setups: 256,
    connections_per_address: 1_024,
    setups_per_address: 64,
};
/// First and last pause between attempts (protocol.md appendix A), each with half of itself as jitter either way, so that
/// the peers of a proxy that comes back do not come back at the same moment.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// A connection that lived this long was a success: the next attempt comes after the first pause.
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
    gate: Arc<Gate>,
    doors: DoorCounts,
}

/// How to be a server.
pub struct ListenConfig {
    /// Tag of the events.
    pub port: usize,
    /// How peers come in.
    pub door: Door,
    /// Claims of direct links; `None` makes and wants none.
    pub claims: Option<Arc<ClaimsProfile>>,
}

/// How to be a client.
pub struct DialConfig {
    /// Tag of the events.
    pub port: usize,
    /// How servers are reached.
    pub way: Way,
    /// Claims of direct links; `None` makes and wants none.
    pub claims: Option<Arc<ClaimsProfile>>,
    /// Connections to keep.
    pub connections: usize,
}

impl Peers {
    /// A runtime without links, and the queue of their events.
    pub fn new() -> (Self, mpsc::Receiver<Tagged>) {
        Self::with_limits(LIMITS)
    }

    /// The same with other limits.
    pub fn with_limits(limits: GateLimits) -> (Self, mpsc::Receiver<Tagged>) {
        let (events, queue) = mpsc::channel(1024);
        let inner = Inner {
            links: Mutex::new(HashMap::new()),
            next: AtomicU64::new(1),
            events,
            gate: Gate::new(limits),
            doors: DoorCounts::default(),
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

    /// How attempts to set up connections ended.
    pub fn doors(&self) -> &DoorCounts {
        &self.inner.doors
    }

    fn counted<T>(
        &self,
        direction: Direction,
        address: SocketAddr,
        result: Result<(T, PeerInfo), DoorError>,
    ) -> Result<(T, PeerInfo), DoorError> {
        let verdict = match &result {
            Ok((_, peer)) if peer.fake => Verdict::AcceptedFake,
            Ok(_) => Verdict::Accepted,
            Err(e) => e.verdict(),
        };
        self.inner.doors.count(direction, verdict);
        let address = Some(address);
        result.map(|(stream, peer)| (stream, PeerInfo { address, ..peer }))
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

    /// Bytes that wait to be sent on a link; none where it is gone.
    pub fn waiting(&self, link: LinkId) -> usize {
        let handle = self.with(|l| l.get(&link).map(|(_, handle)| handle.clone()));
        handle.map_or(0, |h| h.outbound())
    }

    /// Closes every link.
    pub fn close_all(&self, reason: &str) {
        for (_, handle) in self.with(|l| l.values().cloned().collect::<Vec<_>>()) {
            handle.close_after_flush(reason);
        }
    }

    /// Runs the protocol on a trusted stream until it ends, or until the peer is refused, if somebody judges it.
    pub async fn run<S>(
        &self,
        stream: S,
        role: Role,
        port: usize,
        peer: PeerInfo,
        judge: Option<Judge>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let link = LinkId(self.inner.next.fetch_add(1, Ordering::Relaxed));
        let (handle, mut events) = driver::spawn(stream, role, ConnConfig::default());
        self.with(|l| l.insert(link, (port, handle.clone())));
        let refusal = async {
            match judge {
                Some(judge) => judge.refusal().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(refusal);
        let mut is_refused = false;
        loop {
            let event = tokio::select! {
                biased;
                why = &mut refusal, if !is_refused => {
                    warn!("{link}: the peer is refused now: {why}");
                    // At once: what was to be sent does not go to it.
                    handle.close(&format!("the peer is refused now: {why}"));
                    is_refused = true;
                    continue;
                }
                event = events.recv() => event,
            };
            let Some(event) = event else { break };
            if is_refused && !matches!(event, PeerEvent::Closed { .. }) {
                continue;
            }
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
        let cfg = Arc::new(cfg);
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(x) => x,
                Err(e) => {
                    warn!("accepting failed: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Behind a router everybody comes from this machine.
            let stranger = cfg.door.is_direct().then(|| site(from.ip()));
            let setup = match self.inner.gate.admit(stranger) {
                Ok(setup) => setup,
                Err(full) => {
                    debug!("{from}: refused: {full}");
                    continue;
                }
            };
            let (peers, cfg) = (self.clone(), cfg.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let opened = peers.welcome(stream, &cfg, setup).await;
                match peers.counted(Direction::Inbound, from, opened) {
                    Ok(((stream, _permit), peer)) => {
                        peers
                            .run_trusted(stream, Role::Acceptor, cfg.port, peer)
                            .await;
                    }
                    Err(e) => info!("{from}: refused: {e}"),
                }
            });
        }
    }

    /// From a connection to a trusted stream, unless younger ones need the room.
    async fn welcome(
        &self,
        stream: TcpStream,
        cfg: &ListenConfig,
        setup: Setup,
    ) -> Result<((Trusted, Permit), PeerInfo), DoorError> {
        let (stream, peer) = tokio::select! {
            opened = cfg.door.open(stream, cfg.claims.as_deref()) => opened?,
            () = setup.evicted() => return Err(DoorError::Evicted),
        };
        Ok(((stream, setup.establish()?), peer))
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
        let gone = cfg.way.go(target, cfg.claims.as_deref()).await;
        let (stream, peer) = self.counted(Direction::Outbound, target, gone)?;
        self.run_trusted(stream, Role::Dialler, cfg.port, peer)
            .await;
        Ok(())
    }

    async fn run_trusted(&self, stream: Trusted, role: Role, port: usize, peer: PeerInfo) {
        match stream {
            Trusted::Tls(tls, judge) => self.run(*tls, role, port, peer, Some(*judge)).await,
            // A router judges its living peers itself, and cuts them off.
            Trusted::Plain(tcp) => self.run(tcp, role, port, peer, None).await,
        }
    }
}
