//! What all connections of a port share, and what becomes of one after its set-up.

use std::net::SocketAddr;
use std::sync::Arc;

use cocoon_attest::frame::{Endpoint, PeerInfo};
use cocoon_attest::gate::{Full, Gate, Permit};
use cocoon_attest::{AttestError, PeerIdentity, TlsStream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use crate::certificate::Certificate;
use crate::dial::DialError;
use crate::limits::Limits;
use crate::metrics::{Counters, Gauge, add, count};
use crate::policies::{Policies, PolicyBook};
use crate::relay::{End, Ended, Side, relay};
use crate::settings::Port;
use crate::socks5::DialogueError;

/// What the whole router shares.
pub(crate) struct Shared {
    pub gate: Arc<Gate>,
    pub policies: PolicyBook,
    pub certificate: Certificate,
    pub limits: Limits,
    /// When the router ends: nothing new is accepted from then on, and what lives at the given moment is closed.
    pub stop: watch::Sender<Option<Instant>>,
}

/// What the connections of a port share.
pub(crate) struct PortContext {
    pub port: Port,
    /// Where it listens.
    pub listen: SocketAddr,
    pub counters: Counters,
    pub shared: Arc<Shared>,
}

/// Why a set-up failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Dialogue(#[from] DialogueError),
    #[error("the SOCKS5 dialogue was not complete within {} s", .0.as_secs())]
    DialogueTimeout(std::time::Duration),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Attest(#[from] AttestError),
    #[error("policy {0:?} was removed")]
    NoPolicy(String),
    #[error("the application went away: {0}")]
    Application(std::io::Error),
    #[error("the application closed before its peer was connected")]
    Abandoned,
    #[error("younger connections needed the room")]
    Evicted,
    #[error("the router is stopping")]
    Stopping,
    #[error(transparent)]
    Full(#[from] Full),
}

/// A connection that may carry bytes.
pub(crate) struct Established {
    pub app: TcpStream,
    pub peer_stream: TlsStream<TcpStream>,
    pub peer: PeerIdentity,
    /// Name of the policy that accepted the peer.
    pub policy: String,
    /// Notices policies that were replaced since that one was looked up.
    pub changes: watch::Receiver<Arc<Policies>>,
    /// Bytes of the application that were read before.
    pub early: Vec<u8>,
    /// Counts it as open.
    pub permit: Permit,
}

impl PortContext {
    /// What the application reads before the first byte of the peer.
    pub fn frame(
        &self,
        peer: &PeerIdentity,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Vec<u8> {
        if !self.port.serialize_info {
            return Vec::new();
        }
        PeerInfo::new(peer, Endpoint::from(source), Endpoint::from(destination)).encode()
    }

    pub fn failed(&self, from: SocketAddr, error: &SetupError) {
        let counters = &self.counters;
        let is_stranger = matches!(self.port.kind, crate::settings::PortKind::Reverse { .. });
        count(match error {
            SetupError::Dialogue(_) | SetupError::DialogueTimeout(_) => &counters.failed_dialogue,
            SetupError::Dial(_) => &counters.failed_dial,
            SetupError::Attest(error) => failure_counter(counters, error),
            SetupError::NoPolicy(_) => &counters.refused_peers,
            SetupError::Application(_) | SetupError::Abandoned | SetupError::Stopping => {
                &counters.abandoned
            }
            SetupError::Evicted => &counters.setups_evicted,
            SetupError::Full(_) => &counters.refused_full,
        });
        let port = self.listen.port();
        let own_trouble = matches!(error, SetupError::Dial(_));
        // Strangers can cause these as fast as they like, so they must not fill a log at its usual level.
        if is_stranger && !own_trouble {
            debug!(port, %from, "refused: {error}");
        } else {
            info!(port, %from, "not connected: {error}");
        }
    }

    /// Carries the bytes of a connection until its end.
    pub async fn carry(&self, from: SocketAddr, connection: Established) {
        let Established {
            mut app,
            mut peer_stream,
            peer,
            policy,
            changes,
            early,
            permit: _permit,
        } = connection;
        let counters = &self.counters;
        count(&counters.established);
        let _active = Gauge::raise(&counters.active);
        let port = self.listen.port();
        debug!(port, %from, image = image(&peer), "connected");
        let interrupt = self.shared.interrupt(&policy, &peer, changes);
        let limits = &self.shared.limits;
        let ended = relay(&mut app, &mut peer_stream, early, interrupt, limits).await;
        self.count_end(&ended, peer_stream.truncated());
        let Ended {
            end,
            to_peer,
            to_application,
        } = ended;
        match end {
            End::Expelled(why) => info!(port, %from, "closed, the peer is refused now: {why}"),
            End::Broken(side, error) => {
                debug!(port, %from, to_peer, to_application, "the {side} broke: {error}")
            }
            End::Closed(side) => debug!(port, %from, to_peer, to_application, "the {side} closed"),
            End::Idle => debug!(port, %from, to_peer, to_application, "closed, nothing moved"),
            End::Stopped => {
                debug!(port, %from, to_peer, to_application, "closed, the router stops")
            }
        }
    }

    fn count_end(&self, ended: &Ended, truncated: bool) {
        let counters = &self.counters;
        add(&counters.bytes_to_peers, ended.to_peer);
        add(&counters.bytes_to_applications, ended.to_application);
        if truncated && matches!(ended.end, End::Closed(Side::Peer)) {
            count(&counters.truncated);
        }
        count(match &ended.end {
            End::Closed(Side::Application) => &counters.ended_by_application,
            End::Closed(Side::Peer) => &counters.ended_by_peer,
            End::Broken(..) => &counters.broken,
            End::Idle => &counters.closed_idle,
            End::Expelled(_) => &counters.expelled,
            End::Stopped => &counters.stopped,
        });
    }
}

impl Shared {
    /// Whether the end of the router was ordered.
    pub fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Resolves when the end of the router is ordered.
    pub async fn stopping(&self) {
        // The sender lives as long as `self`.
        let _ = self.stop.subscribe().wait_for(Option::is_some).await;
    }

    /// Resolves at the moment when living connections are closed.
    async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        loop {
            let at = *stop.borrow_and_update();
            let moment = async {
                match at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = moment => return,
                changed = stop.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Resolves when a living connection has to be closed whatever its two sides do.
    async fn interrupt(
        &self,
        policy: &str,
        peer: &PeerIdentity,
        mut changes: watch::Receiver<Arc<Policies>>,
    ) -> End {
        let recheck = async {
            // New collateral and new demands on evidence are changes of the policy, too.
            let subscribe = || self.policies.get(policy).and_then(|p| p.changes());
            let mut evidence = subscribe();
            loop {
                let judged_by = async {
                    match &mut evidence {
                        Some(evidence) => evidence.changed().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return End::Stopped },
                    () = judged_by => {}
                    () = sleep(self.limits.recheck) => {}
                }
                evidence = subscribe();
                if let Err(why) = self.policies.recheck(policy, peer) {
                    return End::Expelled(why);
                }
            }
        };
        tokio::select! {
            end = recheck => end,
            () = self.stopped() => End::Stopped,
        }
    }
}

/// Writes what the application gets first, within the limit for applications.
pub(crate) async fn announce(
    app: &mut TcpStream,
    bytes: &[u8],
    limits: &Limits,
) -> Result<(), SetupError> {
    if bytes.is_empty() {
        return Ok(());
    }
    tokio::time::timeout(limits.dialogue, app.write_all(bytes))
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(SetupError::Application)
}

fn failure_counter<'a>(
    counters: &'a Counters,
    error: &AttestError,
) -> &'a std::sync::atomic::AtomicU64 {
    use cocoon_attest::Stage;
    match error {
        AttestError::Pow(_) => &counters.failed_proof_of_work,
        AttestError::Certificate(_) | AttestError::Policy(_) | AttestError::NoClientCertificate => {
            &counters.refused_peers
        }
        AttestError::Timeout { stage, .. }
        | AttestError::Closed { stage }
        | AttestError::Io { stage, .. }
            if *stage != Stage::TlsHandshake =>
        {
            &counters.failed_proof_of_work
        }
        _ => &counters.failed_tls,
    }
}

/// For the log: enough of the image hash to tell images apart.
fn image(peer: &PeerIdentity) -> String {
    match &peer.attestation {
        None => "none".to_owned(),
        Some(_) => peer.image_hash[..8]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect(),
    }
}
