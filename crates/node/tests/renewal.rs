//! Certificates that are made again while links live: the links go on, new ones see the new key.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cocoon_attest::identity::CertificateMode;
use cocoon_attest::profile::OID_QUOTE;
use cocoon_attest::quote_source::FakeQuotes;
use cocoon_attest::{Policy, PolicyRules, QuoteSource, QuoteSourceError, TlsIdentity, unix_now};
use cocoon_node::link::{LinkEffect, LinkEvent, LinkId, PeerInfo};
use cocoon_node::peers::{
    ATTESTED_AGE, DialConfig, Door, IdentityCell, ListenConfig, Peers, Tagged, Way,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

const PATIENCE: Duration = Duration::from_secs(60);

fn policy() -> Policy {
    Policy::FakeTdx(PolicyRules::default())
}

async fn next(queue: &mut mpsc::Receiver<Tagged>) -> LinkEvent {
    let wait = tokio::time::timeout(PATIENCE, queue.recv());
    wait.await.unwrap().unwrap().1
}

async fn up(queue: &mut mpsc::Receiver<Tagged>) -> (LinkId, PeerInfo) {
    match next(queue).await {
        LinkEvent::Up { link, peer, .. } => (link, peer),
        other => panic!("{other:?}"),
    }
}

/// Dials with an identity of its own until the returned sender is dropped.
fn dial(
    to: SocketAddr,
    identity: IdentityCell,
) -> (
    Peers,
    mpsc::Receiver<Tagged>,
    watch::Sender<Vec<SocketAddr>>,
) {
    let (peers, queue) = Peers::new();
    let (targets, list) = watch::channel(vec![to]);
    let way = Way::Direct {
        identity,
        policy: policy(),
        max_pow: 28,
    };
    let config = DialConfig {
        claims: None,
        port: 0,
        way,
        connections: 1,
    };
    tokio::spawn(peers.clone().dial(list, config));
    (peers, queue, targets)
}

async fn carries(from: &Peers, link: LinkId, queue: &mut mpsc::Receiver<Tagged>, word: &[u8]) {
    from.apply(LinkEffect::Send {
        link,
        data: word.to_vec(),
    });
    match next(queue).await {
        LinkEvent::Packet { data, .. } => assert_eq!(data, word),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_renewal_drops_no_link() {
    // Certificates that were made more than an hour ago.
    let old = unix_now() - ATTESTED_AGE - 60;
    let attested = || IdentityCell::attested(Arc::new(FakeQuotes), old).unwrap();
    let (server, caller) = (attested(), attested());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (acceptor, mut accepted) = Peers::new();
    let door = Door::Direct {
        identity: server.clone(),
        policy: policy(),
        pow_difficulty: 4,
    };
    tokio::spawn(acceptor.clone().listen(
        listener,
        ListenConfig {
            port: 0,
            door,
            claims: None,
        },
    ));
    let (first, mut events, _open) = dial(at, caller.clone());
    let (link, peer) = up(&mut events).await;
    let (_, seen) = up(&mut accepted).await;
    assert_eq!(peer.public_key, server.get().public_key());
    assert_eq!(seen.public_key, caller.get().public_key());

    // Both sides get new keys; the link knows nothing of it.
    for cell in [&server, &caller] {
        assert!(cell.renew_if_due(unix_now()).unwrap());
    }
    assert_ne!(server.get().public_key(), peer.public_key);
    carries(&first, link, &mut accepted, b"goes").await;

    let (_second, mut others, _also_open) = dial(at, caller.clone());
    let (_, peer) = up(&mut others).await;
    let (_, seen) = up(&mut accepted).await;
    assert_eq!(peer.public_key, server.get().public_key());
    assert_eq!(seen.public_key, caller.get().public_key());
    carries(&first, link, &mut accepted, b"on..").await;
}

#[derive(Default)]
struct Machine {
    gone: AtomicBool,
    asked: AtomicUsize,
}

impl QuoteSource for Machine {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, QuoteSourceError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.gone.load(Ordering::SeqCst) {
            return Err(io::Error::other("the quoting service is gone").into());
        }
        Ok(report_data.to_vec())
    }
}

#[test]
fn an_attested_identity_is_renewed_before_it_ends() {
    let machine = Arc::new(Machine::default());
    let cell = IdentityCell::attested(machine.clone(), unix_now()).unwrap();
    let first = cell.get();
    let now = unix_now();
    // Nobody waits for hardware: reading the identity asks for nothing.
    assert_eq!(cell.get().public_key(), first.public_key());
    assert!(!cell.renew_if_due(now + ATTESTED_AGE - 60).unwrap());
    assert_eq!(machine.asked.load(Ordering::SeqCst), 1);
    assert!(cell.renew_if_due(now + ATTESTED_AGE + 1).unwrap());
    let second = cell.get();
    assert_ne!(second.public_key(), first.public_key(), "a fresh key too");
    assert!(second.not_after().0 >= first.not_after().0 + ATTESTED_AGE as i64);
    // Without quotes the old one stays in use, and a later try succeeds.
    machine.gone.store(true, Ordering::SeqCst);
    let late = now + 3 * ATTESTED_AGE;
    let error = cell.renew_if_due(late).unwrap_err().to_string();
    assert!(error.contains("the quoting service is gone"), "{error}");
    assert_eq!(cell.get().public_key(), second.public_key());
    machine.gone.store(false, Ordering::SeqCst);
    assert!(cell.renew_if_due(late).unwrap());
    assert_ne!(cell.get().public_key(), second.public_key());
}

/// What renews holds nothing: with the last copy the source is free again.
#[test]
fn nothing_is_renewed_for_nobody() {
    let machine = Arc::new(Machine::default());
    let cell = IdentityCell::attested(machine.clone(), unix_now()).unwrap();
    let copy = cell.clone();
    drop(cell);
    assert_eq!(Arc::strong_count(&machine), 2);
    drop(copy);
    assert_eq!(Arc::strong_count(&machine), 1);
}

#[test]
fn plain_and_fake_ones_are_renewed_when_they_are_used() {
    for mode in [CertificateMode::None, CertificateMode::FakeTdx] {
        // Made so long ago that less than the reserve is left.
        let old = TlsIdentity::generate(mode, unix_now() - 20 * 3_600).unwrap();
        let cell = IdentityCell::new(old.clone());
        let fresh = cell.get();
        assert_ne!(fresh.public_key(), old.public_key());
        assert_eq!(cell.get().public_key(), fresh.public_key());
        let quoted = |identity: &TlsIdentity| {
            let der = identity.certificate_der();
            der.windows(8).any(|w| w == OID_QUOTE)
        };
        assert_eq!(quoted(&fresh), mode == CertificateMode::FakeTdx);
    }
}
