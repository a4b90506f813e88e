//! How a connection becomes a trusted stream: RA-TLS in this process, or a router of the same machine that has done
//! it and says in a frame who the peer is (protocol.md 1.1 and 1.2).

use std::net::SocketAddr;
use std::time::Duration;

use cocoon_attest::claims::ClaimsError;
use cocoon_attest::frame::{self, FrameError};
use cocoon_attest::gate::Full;
use cocoon_attest::measurements::TdxMeasurements;
use cocoon_attest::socks5::{self, Socks5Error};
use cocoon_attest::{
    AttestError, ClaimsProfile, Measurements, PeerIdentity, Policy, TlsStream, accept_with_claims,
    connect_with_claims,
};
use tokio::net::TcpStream;

use super::IdentityCell;
use super::judge::Judge;
use super::loopback::{LoopbackError, check_user};
use crate::link::PeerInfo;
use crate::metrics::Verdict;

/// A TCP connect that takes longer will not be a good connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How peers come in at a port.
#[derive(Clone)]
pub enum Door {
    /// They dial this port: proof of work, RA-TLS and policy happen here.
    Direct {
        /// Own certificate.
        identity: IdentityCell,
        /// What peers must prove.
        policy: Policy,
        /// Proof of work asked of peers.
        pow_difficulty: u8,
    },
    /// A router passes them on and says in a frame who they are. Whoever reaches the port may claim anything, so it
    /// must be on loopback.
    Router {
        /// Take peers whose evidence is fake: on test networks only.
        allow_fake: bool,
        /// The user id that the router runs as; others are refused. `None` takes everybody who reaches the port.
        user: Option<u32>,
    },
}

/// How servers are reached.
#[derive(Clone)]
pub enum Way {
    /// Dialled from here: proof of work, RA-TLS and policy happen here.
    Direct {
        /// Own certificate.
        identity: IdentityCell,
        /// What the server must prove.
        policy: Policy,
        /// Highest proof of work that is solved.
        max_pow: u8,
    },
    /// Through the SOCKS5 port of a router, which does all that and says in a frame who the server is.
    Router {
        /// `host:port` of the router.
        router: String,
        /// Take servers whose evidence is fake: on test networks only.
        allow_fake: bool,
        /// The user id that the router runs as, on this machine; `None` believes whoever listens there.
        user: Option<u32>,
    },
}

/// Why there is no trusted stream.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No TCP connection.
    #[error("no TCP connection to {target}: {reason}")]
    Connect {
        /// Who was dialled: the peer, or the router.
        target: String,
        /// What happened.
        reason: String,
    },
    /// Proof of work, TLS or policy.
    #[error(transparent)]
    Attest(#[from] AttestError),
    /// The dialogue with the router.
    #[error("through the router {router}: {error}")]
    Router {
        /// Its address.
        router: String,
        /// What happened.
        error: Socks5Error,
    },
    /// The router's frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The registry names an address that routers cannot reach.
    #[error("{0} is not an IPv4 address: routers reach nothing else")]
    NotIpv4(SocketAddr),
    /// Not the router's user.
    #[error(transparent)]
    Loopback(#[from] LoopbackError),
    /// A flood of set-ups.
    #[error("younger connections needed the room")]
    Evicted,
    /// Too many connections.
    #[error(transparent)]
    Full(#[from] Full),
    /// Fake evidence where it counts.
    #[error("the peer's evidence is fake, which only a test network accepts")]
    Fake,
}

impl DoorError {
    /// For the counters of verdicts.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            DoorError::Connect { .. } | DoorError::NotIpv4(_) => Verdict::Unreachable,
            DoorError::Evicted | DoorError::Full(_) => Verdict::Unreachable,
            DoorError::Router { .. } | DoorError::Frame(_) | DoorError::Loopback(_) => {
                Verdict::Router
            }
            DoorError::Fake => Verdict::Refused,
            DoorError::Attest(e) => match e {
                AttestError::Timeout { .. }
                | AttestError::Closed { .. }
                | AttestError::Io { .. } => Verdict::Unreachable,
                AttestError::Pow(_) => Verdict::ProofOfWork,
                AttestError::RefusedByPeer { .. }
                | AttestError::Claims(ClaimsError::RefusedByPeer(_)) => Verdict::RefusedByPeer,
                _ => Verdict::Refused,
            },
        }
    }
}

/// A stream on which the protocol may run.
pub enum Trusted {
    /// RA-TLS of this process, with who judges the peer again.
    Tls(Box<TlsStream<TcpStream>>, Box<Judge>),
    /// Plain, from a router of this machine.
    Plain(TcpStream),
}

impl Door {
    /// See [`Way::policies`].
    pub fn policies(&self) -> Vec<&Policy> {
        match self {
            Door::Direct { policy, .. } => vec![policy],
            Door::Router { .. } => Vec::new(),
        }
    }

    /// Whether TLS ends in this process.
    pub fn is_direct(&self) -> bool {
        matches!(self, Door::Direct { .. })
    }

    /// Turns a connection that was just accepted into a trusted stream. Claims are exchanged on direct links.
    pub async fn open(
        &self,
        mut stream: TcpStream,
        claims: Option<&ClaimsProfile>,
    ) -> Result<(Trusted, PeerInfo), DoorError> {
        match self {
            Door::Direct {
                identity,
                policy,
                pow_difficulty,
            } => {
                let (tls, peer) =
                    accept_with_claims(stream, &identity.get(), policy, *pow_difficulty, claims)
                        .await?;
                let judge = Judge::new(&peer, policy);
                Ok((Trusted::Tls(Box::new(tls), Box::new(judge)), of_tls(peer)))
            }
            Door::Router { allow_fake, user } => {
                if let Some(user) = user {
                    check_user(&stream, *user).await?;
                }
                let peer = of_frame(frame::read_frame(&mut stream).await?, *allow_fake)?;
                Ok((Trusted::Plain(stream), peer))
            }
        }
    }
}

impl Way {
    /// The policy, for the guard against fake evidence on real networks; a router's is its own affair.
    pub fn policies(&self) -> Vec<&Policy> {
        match self {
            Way::Direct { policy, .. } => vec![policy],
            Way::Router { .. } => Vec::new(),
        }
    }

    /// Whether TLS ends in this process.
    pub fn is_direct(&self) -> bool {
        matches!(self, Way::Direct { .. })
    }

    /// Dials a server. Claims are exchanged on direct links.
    pub async fn go(
        &self,
        target: SocketAddr,
        claims: Option<&ClaimsProfile>,
    ) -> Result<(Trusted, PeerInfo), DoorError> {
        match self {
            Way::Direct {
                identity,
                policy,
                max_pow,
            } => {
                let stream = connect(&target.to_string()).await?;
                let (tls, peer) =
                    connect_with_claims(stream, &identity.get(), policy, *max_pow, claims).await?;
                let judge = Judge::new(&peer, policy);
                Ok((Trusted::Tls(Box::new(tls), Box::new(judge)), of_tls(peer)))
            }
            Way::Router {
                router,
                allow_fake,
                user,
            } => {
                let SocketAddr::V4(target) = target else {
                    return Err(DoorError::NotIpv4(target));
                };
                let mut stream = connect(router).await?;
                if let Some(user) = user {
                    check_user(&stream, *user).await?;
                }
                socks5::connect(&mut stream, target, None)
                    .await
                    .map_err(|error| DoorError::Router {
                        router: router.clone(),
                        error,
                    })?;
                let peer = of_frame(frame::read_frame(&mut stream).await?, *allow_fake)?;
                Ok((Trusted::Plain(stream), peer))
            }
        }
    }
}

async fn connect(target: &str) -> Result<TcpStream, DoorError> {
    let failed = |reason: String| DoorError::Connect {
        target: target.to_owned(),
        reason,
    };
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target))
        .await
        .map_err(|_| failed(format!("nothing within {} s", CONNECT_TIMEOUT.as_secs())))?
        .map_err(|e| failed(e.to_string()))?;
    // Refused only by sockets that are already gone.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn of_tls(peer: PeerIdentity) -> PeerInfo {
    PeerInfo {
        public_key: peer.public_key,
        image_hash: peer.image_hash,
        address: None,
        fake: peer.fake,
        claims: peer.claims,
    }
}

/// The frame does not say whether evidence is fake, but a fake one has no measurements, which no real machine shows.
fn of_frame(frame: frame::PeerInfo, allow_fake: bool) -> Result<PeerInfo, DoorError> {
    let fake = match &frame.attestation {
        Some(Measurements::Tdx(tdx)) => {
            frame.image_hash() == TdxMeasurements::fake(tdx.report_data).image_hash()
        }
        Some(Measurements::Sgx(_)) | None => false,
    };
    if fake && !allow_fake {
        return Err(DoorError::Fake);
    }
    Ok(PeerInfo {
        public_key: frame.public_key,
        image_hash: frame.image_hash(),
        address: None,
        fake,
        claims: None,
    })
}
