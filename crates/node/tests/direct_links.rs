//! Who gets in at a node's ports, who is kept out, and what the cores hear of them.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::claims::{
    ClaimsProfile, Expected, Network, OwnClaims, ProtocolRange, Role as ClaimedRole, RootContract,
};
use cocoon_attest::frame::{self, Endpoint};
use cocoon_attest::gate::GateLimits;
use cocoon_attest::identity::CertificateMode;
use cocoon_attest::{Policy, PolicyRules, TlsIdentity, pow, unix_now};
use cocoon_node::link::{LinkEffect, LinkEvent};
use cocoon_node::peers::{
    DialConfig, Door, DoorError, IdentityCell, LIMITS, ListenConfig, Peers, Tagged, Way,
};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

const PATIENCE: Duration = Duration::from_secs(30);

async fn next(queue: &mut mpsc::Receiver<Tagged>) -> LinkEvent {
    let event = tokio::time::timeout(PATIENCE, queue.recv()).await;
    event.expect("nothing happens").unwrap().1
}

fn identity() -> IdentityCell {
    IdentityCell::new(TlsIdentity::generate(CertificateMode::FakeTdx, unix_now()).unwrap())
}

fn fakes() -> Policy {
    Policy::FakeTdx(PolicyRules::default())
}

fn profile(role: ClaimedRole, peer: ClaimedRole, require: bool) -> Arc<ClaimsProfile> {
    let network = Network {
        global_id: -3,
        is_test: true,
    };
    let root = RootContract {
        workchain: 0,
        hash: [1; 32],
    };
    Arc::new(ClaimsProfile {
        own: OwnClaims {
            role,
            network,
            root,
            protocol: ProtocolRange { min: 0, max: 3 },
            encryption: None,
            payment_key: None,
            gpu: None,
        },
        expected: Expected {
            roles: vec![peer],
            network,
            root,
            gpu: None,
        },
        require,
    })
}

struct Server {
    peers: Peers,
    events: mpsc::Receiver<Tagged>,
    address: SocketAddr,
}

async fn server(limits: GateLimits, claims: Option<Arc<ClaimsProfile>>) -> Server {
    let (peers, events) = Peers::with_limits(limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::Direct {
        identity: identity(),
        policy: fakes(),
        pow_difficulty: 2,
    };
    let cfg = ListenConfig {
        port: 0,
        door,
        claims,
    };
    tokio::spawn(peers.clone().listen(listener, cfg));
    Server {
        peers,
        events,
        address,
    }
}

fn way() -> Way {
    Way::Direct {
        identity: identity(),
        policy: fakes(),
        max_pow: 28,
    }
}

/// A dialler that keeps one link.
fn dial(to: SocketAddr, claims: Option<Arc<ClaimsProfile>>) -> (Peers, mpsc::Receiver<Tagged>) {
    let (peers, events) = Peers::new();
    let (targets, receiver) = watch::channel(vec![to]);
    let cfg = DialConfig {
        port: 0,
        way: way(),
        claims,
        connections: 1,
    };
    let running = peers.clone();
    tokio::spawn(async move {
        running.dial(receiver, cfg).await;
        drop(targets);
    });
    (peers, events)
}

#[tokio::test]
async fn the_core_hears_of_a_peer_with_what_it_signed() {
    let mut server = server(
        LIMITS,
        Some(profile(ClaimedRole::Client, ClaimedRole::Worker, true)),
    )
    .await;
    let own = profile(ClaimedRole::Worker, ClaimedRole::Client, true);
    let (_dialler, mut heard) = dial(server.address, Some(own));
    for (queue, role) in [
        (&mut heard, ClaimedRole::Client),
        (&mut server.events, ClaimedRole::Worker),
    ] {
        let LinkEvent::Up { peer, .. } = next(queue).await else {
            panic!("no link");
        };
        assert_eq!(peer.claims.unwrap().role, role);
    }
}

/// A peer that makes no claims, and one that makes the wrong ones: neither is heard of.
#[tokio::test]
async fn the_core_never_hears_of_a_peer_that_is_refused() {
    let required = profile(ClaimedRole::Client, ClaimedRole::Worker, true);
    let mut server = server(LIMITS, Some(required)).await;
    let wrong = profile(ClaimedRole::KeyManager, ClaimedRole::Client, false);
    for claims in [None, Some(wrong)] {
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let Way::Direct {
            identity, policy, ..
        } = way()
        else {
            unreachable!("made above");
        };
        let claims = claims.as_deref();
        let done =
            cocoon_attest::connect_with_claims(tcp, &identity.get(), &policy, 28, claims).await;
        match done {
            // Refused after the handshake, so the stream ends.
            Ok((mut stream, _)) => {
                let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await;
                assert!(matches!(end.unwrap(), Ok(0) | Err(_)));
            }
            Err(error) => assert!(error.to_string().contains("claims"), "{error}"),
        }
    }
    // The next one that is heard of is the good one.
    let own = profile(ClaimedRole::Worker, ClaimedRole::Client, true);
    let (_dialler, _heard) = dial(server.address, Some(own));
    let LinkEvent::Up { peer, .. } = next(&mut server.events).await else {
        panic!("no link");
    };
    assert_eq!(peer.claims.unwrap().role, ClaimedRole::Worker);
    assert_eq!(server.peers.count(), 1);
}

async fn ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    // A reset is an end too.
    drop(end.expect("the connection stays open"));
}

/// Strangers that take a challenge and fall silent make room for a good peer, oldest first.
#[tokio::test]
async fn silent_strangers_do_not_keep_good_peers_out() {
    let limits = GateLimits {
        setups: 8,
        setups_per_address: 1_000,
        ..LIMITS
    };
    let mut server = server(limits, None).await;
    let mut silent = Vec::new();
    for _ in 0..30 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let mut challenge = [0; pow::CHALLENGE_LEN];
        stream.read_exact(&mut challenge).await.unwrap();
        silent.push(stream);
    }
    let (_dialler, _heard) = dial(server.address, None);
    assert!(matches!(
        next(&mut server.events).await,
        LinkEvent::Up { .. }
    ));
    for stream in &mut silent[..22] {
        ended(stream).await;
    }
}

#[tokio::test]
async fn one_site_has_its_share_of_set_ups_and_links() {
    let limits = GateLimits {
        setups_per_address: 3,
        connections_per_address: 1,
        ..LIMITS
    };
    let mut server = server(limits, None).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.read_u8().await.unwrap();
        waiting.push(stream);
    }
    let mut fourth = TcpStream::connect(server.address).await.unwrap();
    ended(&mut fourth).await;
    drop(waiting);
    // Room comes back: the dialler tries until it has it.
    let (dialler, mut heard) = dial(server.address, None);
    assert!(matches!(
        next(&mut server.events).await,
        LinkEvent::Up { .. }
    ));
    let mut second = TcpStream::connect(server.address).await.unwrap();
    ended(&mut second).await;
    let LinkEvent::Up { link, .. } = next(&mut heard).await else {
        panic!("no link");
    };
    dialler.apply(LinkEffect::Close {
        link,
        reason: "test".to_owned(),
    });
    assert!(matches!(
        next(&mut server.events).await,
        LinkEvent::Down { .. }
    ));
    // And is there for the next link.
    assert!(matches!(
        next(&mut server.events).await,
        LinkEvent::Up { .. }
    ));
}

/// A process of another user that reaches the port, and another user's listener in the router's place.
#[tokio::test]
async fn only_the_routers_user_is_believed() {
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    let info = frame::PeerInfo {
        attestation: None,
        collateral_root_hash: [0; 48],
        public_key: [1; 32],
        source: Endpoint::unset(),
        destination: Endpoint::unset(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for (user, fine) in [(own, true), (own + 1, false)] {
        let mut dialled = TcpStream::connect(address).await.unwrap();
        let accepted = listener.accept().await.unwrap().0;
        frame::write_frame(&mut dialled, &info).await.unwrap();
        let door = Door::Router {
            allow_fake: false,
            user: Some(user),
        };
        match door.open(accepted, None).await {
            Ok((_, peer)) => assert!(fine && peer.public_key == [1; 32]),
            Err(error) => assert!(!fine && error.to_string().contains("router_uid"), "{error}"),
        }
    }
    let way = Way::Router {
        router: address.to_string(),
        allow_fake: false,
        user: Some(own + 1),
    };
    let error = way.go("192.0.2.1:1".parse().unwrap(), None).await;
    let error = error.err().unwrap();
    assert!(matches!(error, DoorError::Loopback(_)), "{error}");
}
