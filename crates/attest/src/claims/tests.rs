//! Claims on whole connections: honest peers, peers that know nothing of claims, and peers that lie.

mod gpu;

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::exchange::{kind, receive, send};
use super::statement::{PaymentKey, Session, Side};
use super::*;
use crate::session::{accept_with_claims, connect_with_claims};
use crate::stream::TlsStream;
use crate::tls::{self, Verdict};
use crate::{
    AttestError, CertificateMode, PeerIdentity, Policy, Stage, TlsIdentity, pow, unix_now,
};

const NETWORK: Network = Network {
    global_id: -3,
    is_test: true,
};
const ROOT: RootContract = RootContract {
    workchain: 0,
    hash: [9; 32],
};

fn identity() -> TlsIdentity {
    TlsIdentity::generate(CertificateMode::None, unix_now()).unwrap()
}

fn payment_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn profile(role: Role, peer: Role) -> ClaimsProfile {
    ClaimsProfile {
        own: OwnClaims {
            role,
            network: NETWORK,
            root: ROOT,
            protocol: ProtocolRange { min: 0, max: 3 },
            encryption: None,
            payment_key: (role == Role::Proxy).then(|| Arc::new(payment_key())),
            gpu: None,
        },
        expected: Expected {
            roles: vec![peer],
            network: NETWORK,
            root: ROOT,
            gpu: None,
        },
        require: false,
    }
}

fn worker() -> ClaimsProfile {
    profile(Role::Worker, Role::Proxy)
}

fn proxy() -> ClaimsProfile {
    profile(Role::Proxy, Role::Worker)
}

type Outcome = Result<(TlsStream<DuplexStream>, PeerIdentity), AttestError>;

async fn meet(
    client: Option<&ClaimsProfile>,
    server: Option<&ClaimsProfile>,
) -> (Outcome, Outcome) {
    let (near, far) = duplex(16 * 1024);
    let (ours, theirs) = (identity(), identity());
    tokio::join!(
        connect_with_claims(near, &ours, &Policy::Any, 28, client),
        accept_with_claims(far, &theirs, &Policy::Any, 0, server)
    )
}

fn claims_error<T>(outcome: Result<T, AttestError>) -> ClaimsError {
    match outcome {
        Err(AttestError::Claims(error)) => error,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[tokio::test]
async fn both_sides_know_what_the_other_has_signed() {
    let sealing = hybrid_kem::SecretKey::generate().unwrap();
    let mut worker = worker();
    worker.own.encryption = Some(sealing.public().clone());
    worker.require = true;
    let (client, server) = meet(Some(&worker), Some(&proxy())).await;
    let (mut client, seen_proxy) = client.unwrap();
    let (mut server, seen_worker) = server.unwrap();
    let (seen_proxy, seen_worker) = (seen_proxy.claims.unwrap(), seen_worker.claims.unwrap());
    assert_eq!(
        (seen_proxy.role, seen_worker.role),
        (Role::Proxy, Role::Worker)
    );
    assert_eq!((seen_worker.network, seen_worker.root), (NETWORK, ROOT));
    assert_eq!(seen_worker.protocol, ProtocolRange { min: 0, max: 3 });
    assert!(seen_worker.time.abs_diff(unix_now()) <= MAX_SKEW_SECONDS);
    let payment = payment_key().verifying_key().to_bytes();
    assert_eq!(seen_proxy.payment_key, Some(payment));
    assert_eq!(
        (seen_worker.payment_key, seen_proxy.encryption.as_ref()),
        (None, None)
    );
    // The key in the claims is one that only the worker opens.
    let (sealed, secret) = seen_worker
        .encryption
        .as_ref()
        .unwrap()
        .encapsulate()
        .unwrap();
    assert_eq!(sealing.decapsulate(&sealed).unwrap(), secret);
    // What follows belongs to the application, to the byte.
    client.write_all(b"first").await.unwrap();
    client.flush().await.unwrap();
    let mut five = [0; 5];
    server.read_exact(&mut five).await.unwrap();
    assert_eq!(&five, b"first");
}

#[tokio::test]
async fn whoever_knows_no_claims_never_sees_a_byte_of_them() {
    for (client, server) in [(Some(worker()), None), (None, Some(proxy())), (None, None)] {
        let (client, server) = meet(client.as_ref(), server.as_ref()).await;
        let ((mut client, a), (mut server, b)) = (client.unwrap(), server.unwrap());
        assert_eq!((a.claims, b.claims), (None, None));
        server.write_all(b"application").await.unwrap();
        server.flush().await.unwrap();
        let mut got = [0; 11];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"application");
    }
}

#[tokio::test]
async fn claims_can_be_required() {
    let mut strict = proxy();
    strict.require = true;
    let (client, server) = meet(None, Some(&strict)).await;
    assert_eq!(claims_error(server), ClaimsError::Missing);
    assert_eq!(client.unwrap().0.read(&mut [0; 8]).await.unwrap(), 0);
    let mut strict = worker();
    strict.require = true;
    let (client, _) = meet(Some(&strict), None).await;
    assert_eq!(claims_error(client), ClaimsError::Missing);
}

/// The refused side reads why, in words.
#[tokio::test]
async fn role_network_root_and_versions_have_to_agree() {
    type Edit = fn(&mut ClaimsProfile);
    let cases: [(Edit, &str); 4] = [
        (
            |p| p.own.role = Role::Client,
            "the peer is a client, expected here: worker",
        ),
        (
            |p| p.own.network.global_id = -239,
            "the peer is in the test network on TON -239, we are in the test network on TON -3",
        ),
        (
            |p| p.own.network.is_test = false,
            "we are in the test network on TON -3",
        ),
        (|p| p.own.root.hash[31] = 1, "we follow 0:0909"),
    ];
    for (edit, words) in cases {
        let mut liar = worker();
        edit(&mut liar);
        let (client, server) = meet(Some(&liar), Some(&proxy())).await;
        let why = claims_error(server).to_string();
        assert!(why.contains(words), "{why}");
        let told = claims_error(client);
        assert!(
            matches!(&told, ClaimsError::RefusedByPeer(told) if why.starts_with(told.as_str())),
            "{told}"
        );
    }
    let later = ProtocolRange { min: 4, max: 9 };
    assert_eq!(
        verdict_on_statement(|s| s.protocol = later).await,
        ClaimsError::Protocol {
            expected: ProtocolRange { min: 0, max: 3 },
            found: later
        }
    );
}

/// A peer whose TLS is honest and whose claims are what a test makes of them.
struct Liar {
    stream: TlsStream<DuplexStream>,
    identity: TlsIdentity,
    peer_key: [u8; 32],
}

impl Liar {
    async fn dial(mut stream: DuplexStream) -> Self {
        let mut challenge = [0; pow::CHALLENGE_LEN];
        stream.read_exact(&mut challenge).await.unwrap();
        stream.write_all(&pow::response_to_bytes(0)).await.unwrap();
        let (identity, verdict) = (identity(), Verdict::default());
        let config = tls::client_config(&identity, &Policy::Any, verdict.clone(), &[ALPN]).unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = TlsStream::new(tls.await.unwrap().into());
        Self::over(stream, identity, &verdict)
    }

    async fn accept(mut stream: DuplexStream) -> Self {
        let challenge = pow::Challenge::random(0).unwrap();
        stream.write_all(&challenge.to_bytes()).await.unwrap();
        let mut response = [0; pow::RESPONSE_LEN];
        stream.read_exact(&mut response).await.unwrap();
        let (identity, verdict) = (identity(), Verdict::default());
        let config = tls::server_config(&identity, &Policy::Any, verdict.clone(), &[ALPN]).unwrap();
        let tls = TlsAcceptor::from(Arc::new(config)).accept(stream);
        let stream = TlsStream::new(tls.await.unwrap().into());
        Self::over(stream, identity, &verdict)
    }

    fn over(stream: TlsStream<DuplexStream>, identity: TlsIdentity, verdict: &Verdict) -> Self {
        let peer = verdict.get().unwrap().as_ref().unwrap();
        Liar {
            stream,
            identity,
            peer_key: peer.public_key,
        }
    }

    /// Sends a challenge and gets one: the nonce that our statement has to answer.
    async fn challenges(&mut self, own: [u8; 32]) -> [u8; 32] {
        let body = [&[0][..], &own].concat();
        send(&mut self.stream, kind::CHALLENGE, &body)
            .await
            .unwrap();
        let theirs = receive(&mut self.stream, kind::CHALLENGE, 33)
            .await
            .unwrap();
        theirs[1..].try_into().unwrap()
    }

    /// An honest statement of a worker that dials.
    fn statement(&self, nonce: [u8; 32]) -> Statement {
        Statement {
            session: Session {
                side: Side::Dialler,
                key: self.identity.public_key(),
                peer_key: self.peer_key,
                binding: self.stream.exporter(EXPORTER_LABEL).unwrap(),
                nonce,
            },
            time: unix_now(),
            role: Role::Worker,
            network: NETWORK,
            root: ROOT,
            protocol: ProtocolRange { min: 0, max: 3 },
            encryption: None,
            payment_key: None,
            gpu_digest: None,
        }
    }

    async fn says(&mut self, bytes: &[u8]) {
        // The other side may have hung up already.
        let _ = send(&mut self.stream, kind::STATEMENT, bytes).await;
    }
}

/// The verdict of a proxy on what `lie` says to it.
async fn verdict_on<F: AsyncFnOnce(&mut Liar)>(lie: F) -> Result<PeerIdentity, AttestError> {
    let (near, far) = duplex(16 * 1024);
    let (ours, profile) = (identity(), proxy());
    let work = async {
        let mut liar = Liar::dial(near).await;
        lie(&mut liar).await;
        // Stays until it is heard, and then hangs up.
        let _ = send(&mut liar.stream, kind::ACCEPTED, &[]).await;
        let _ = liar.stream.read_to_end(&mut Vec::new()).await;
    };
    let judged = async {
        let done = accept_with_claims(far, &ours, &Policy::Any, 0, Some(&profile)).await;
        done.map(|(_, peer)| peer)
    };
    tokio::join!(work, judged).1
}

/// The verdict on an otherwise honest statement with one thing changed.
async fn verdict_on_statement(edit: impl FnOnce(&mut Statement)) -> ClaimsError {
    claims_error(
        verdict_on(async |liar| {
            let nonce = liar.challenges([5; 32]).await;
            let mut statement = liar.statement(nonce);
            edit(&mut statement);
            liar.says(&statement.sign(liar.identity.signing_key()))
                .await;
        })
        .await,
    )
}

#[tokio::test]
async fn the_honest_hand_made_statement_is_accepted() {
    let peer = verdict_on(async |liar| {
        let nonce = liar.challenges([5; 32]).await;
        let statement = liar.statement(nonce).sign(liar.identity.signing_key());
        liar.says(&statement).await;
    })
    .await;
    assert_eq!(peer.unwrap().claims.unwrap().role, Role::Worker);
}

#[tokio::test]
async fn another_connections_words_are_refused() {
    assert_eq!(
        verdict_on_statement(|s| s.session.binding[0] ^= 1).await,
        ClaimsError::Binding
    );
    assert_eq!(
        verdict_on_statement(|s| s.session.nonce[0] ^= 1).await,
        ClaimsError::Nonce
    );
    assert_eq!(
        verdict_on_statement(|s| s.session.peer_key[0] ^= 1).await,
        ClaimsError::Audience
    );
    assert_eq!(
        verdict_on_statement(|s| s.session.side = Side::Acceptor).await,
        ClaimsError::Side {
            expected: Side::Dialler,
            found: Side::Acceptor
        }
    );
    // Somebody else's statement, rightly signed by him.
    let other = SigningKey::from_bytes(&[77; 32]);
    let refused = claims_error(
        verdict_on(async |liar| {
            let nonce = liar.challenges([5; 32]).await;
            let mut statement = liar.statement(nonce);
            statement.session.key = other.verifying_key().to_bytes();
            liar.says(&statement.sign(&other)).await;
        })
        .await,
    );
    assert!(matches!(refused, ClaimsError::Key { .. }), "{refused}");
}

/// The same key, the same peer: still the words of one connection are worth nothing on the next.
#[tokio::test]
async fn a_replay_on_a_second_connection_is_refused() {
    let recorded = Mutex::new(None);
    let first = verdict_on(async |liar| {
        let nonce = liar.challenges([5; 32]).await;
        let statement = liar.statement(nonce).sign(liar.identity.signing_key());
        liar.says(&statement).await;
        *recorded.lock().unwrap() = Some((liar.identity.clone(), statement));
    })
    .await;
    first.unwrap();
    let (identity, statement) = recorded.into_inner().unwrap().unwrap();
    // The replaying side may even hold the key; all it has is the old statement.
    let (near, far) = duplex(16 * 1024);
    let (ours, profile) = (self::identity(), proxy());
    let replay = async {
        let mut stream = near;
        let mut challenge = [0; pow::CHALLENGE_LEN];
        stream.read_exact(&mut challenge).await.unwrap();
        stream.write_all(&pow::response_to_bytes(0)).await.unwrap();
        let config =
            tls::client_config(&identity, &Policy::Any, Verdict::default(), &[ALPN]).unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let mut stream = tls.await.unwrap();
        send(&mut stream, kind::CHALLENGE, &[0; 33]).await.unwrap();
        receive(&mut stream, kind::CHALLENGE, 33).await.unwrap();
        let _ = send(&mut stream, kind::STATEMENT, &statement).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let judged = accept_with_claims(far, &ours, &Policy::Any, 0, Some(&profile));
    let ((), judged) = tokio::join!(replay, judged);
    // It was said to another key, on another connection, in answer to another nonce; the first of these is named.
    assert_eq!(claims_error(judged), ClaimsError::Audience);
}

#[tokio::test]
async fn our_own_words_sent_back_are_refused() {
    let refused = verdict_on(async |liar| {
        liar.challenges([5; 32]).await;
        let ours = receive(&mut liar.stream, kind::STATEMENT, 8_192)
            .await
            .unwrap();
        liar.says(&ours).await;
    });
    assert_eq!(claims_error(refused.await), ClaimsError::Reflected);
    // Our challenge sent back, to have us answer it ourselves.
    let refused = verdict_on(async |liar| {
        let theirs = receive(&mut liar.stream, kind::CHALLENGE, 33)
            .await
            .unwrap();
        send(&mut liar.stream, kind::CHALLENGE, &theirs)
            .await
            .unwrap();
    });
    assert_eq!(
        claims_error(refused.await),
        ClaimsError::Challenge("repeats ours")
    );
}

#[tokio::test]
async fn a_clock_may_be_two_minutes_wrong_and_no_more() {
    for (offset, fine) in [(-100, true), (100, true), (-150, false), (150, false)] {
        let verdict = verdict_on(async |liar| {
            let nonce = liar.challenges([5; 32]).await;
            let mut statement = liar.statement(nonce);
            statement.time = statement.time.checked_add_signed(offset).unwrap();
            liar.says(&statement.sign(liar.identity.signing_key()))
                .await;
        })
        .await;
        match fine {
            true => drop(verdict.unwrap()),
            false => assert!(matches!(claims_error(verdict), ClaimsError::Time { .. })),
        }
    }
}

#[tokio::test]
async fn an_altered_byte_is_refused() {
    for at in [0, 2, 100, 220, 292] {
        let refused = verdict_on(async |liar| {
            let nonce = liar.challenges([5; 32]).await;
            let mut bytes = liar.statement(nonce).sign(liar.identity.signing_key());
            bytes[at] ^= 0x10;
            liar.says(&bytes).await;
        });
        let refused = claims_error(refused.await);
        assert!(
            matches!(refused, ClaimsError::Statement(_)),
            "{at}: {refused}"
        );
    }
}

#[tokio::test]
async fn only_a_proxy_has_a_payment_key_and_it_proves_it() {
    let prove = |s: &mut Statement| {
        s.payment_key = Some(PaymentKey::prove(&payment_key(), &s.session));
    };
    assert_eq!(
        verdict_on_statement(prove).await,
        ClaimsError::PaymentKey {
            role: Role::Worker,
            present: true
        }
    );
    // Towards a worker: a proxy without, and one with the key of somebody else.
    for (own_key, forged) in [(None, false), (Some(payment_key()), true)] {
        let (near, far) = duplex(16 * 1024);
        let (ours, profile) = (identity(), worker());
        let lie = async {
            let mut liar = Liar::accept(far).await;
            let nonce = liar.challenges([5; 32]).await;
            let mut statement = liar.statement(nonce);
            (statement.session.side, statement.role) = (Side::Acceptor, Role::Proxy);
            statement.payment_key = own_key.map(|key| {
                let mut elsewhere = statement.session;
                elsewhere.binding[0] ^= 1;
                PaymentKey::prove(&key, &elsewhere)
            });
            liar.says(&statement.sign(liar.identity.signing_key()))
                .await;
            let _ = liar.stream.read_to_end(&mut Vec::new()).await;
        };
        let judged = connect_with_claims(near, &ours, &Policy::Any, 28, Some(&profile));
        let ((), judged) = tokio::join!(lie, judged);
        let refused = claims_error(judged);
        match forged {
            true => assert!(
                matches!(refused, ClaimsError::PaymentKeyProof(_)),
                "{refused}"
            ),
            false => assert_eq!(
                refused,
                ClaimsError::PaymentKey {
                    role: Role::Proxy,
                    present: false
                }
            ),
        }
    }
}

#[tokio::test]
async fn messages_that_are_wrong_or_too_long_are_refused_before_they_are_read() {
    async fn raw(bytes: Vec<u8>) -> ClaimsError {
        claims_error(
            verdict_on(async |liar| {
                liar.stream.write_all(&bytes).await.unwrap();
                liar.stream.flush().await.unwrap();
            })
            .await,
        )
    }
    let message =
        |kind: u8, length: u32, body: &[u8]| [&[kind][..], &length.to_le_bytes(), body].concat();
    assert_eq!(
        raw(message(kind::STATEMENT, 0, &[])).await,
        ClaimsError::Message {
            expected: kind::CHALLENGE,
            found: kind::STATEMENT
        }
    );
    assert_eq!(
        raw(message(kind::CHALLENGE, 34, &[])).await,
        ClaimsError::MessageLength {
            kind: kind::CHALLENGE,
            found: 34,
            limit: 33
        }
    );
    assert_eq!(
        raw(message(kind::CHALLENGE, 5, &[0; 5])).await,
        ClaimsError::Challenge("has a wrong length")
    );
    assert_eq!(
        raw(message(kind::CHALLENGE, 33, &[2; 33])).await,
        ClaimsError::Challenge("asks for something unknown here")
    );
    let challenge = message(kind::CHALLENGE, 33, &[0; 33]);
    let endless = message(kind::STATEMENT, u32::MAX, &[]);
    assert_eq!(
        raw([&challenge[..], &endless].concat()).await,
        ClaimsError::MessageLength {
            kind: kind::STATEMENT,
            found: u32::MAX as usize,
            limit: 8_192
        }
    );
    let rude = message(kind::REFUSED, 8, b"no\x1b[2J!\n");
    assert_eq!(
        raw(rude).await,
        ClaimsError::RefusedByPeer("no[2J!".to_owned())
    );
    assert!(matches!(
        raw(message(kind::REFUSED, 257, &[])).await,
        ClaimsError::MessageLength { limit: 256, .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_given_up() {
    let refused = verdict_on(async |_| {}).await.unwrap_err();
    // The verdict it sends too early is out of turn; one that sends nothing is waited for.
    assert!(matches!(
        refused,
        AttestError::Claims(ClaimsError::Message { .. })
    ));
    let (near, far) = duplex(16 * 1024);
    let (ours, profile) = (identity(), proxy());
    let silent = async {
        let _liar = Liar::dial(near).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = silent => unreachable!(),
        judged = accept_with_claims(far, &ours, &Policy::Any, 0, Some(&profile)) => {
            let error = judged.map(drop).unwrap_err();
            assert!(
                matches!(error, AttestError::Timeout { stage: Stage::Claims, limit } if limit == CLAIMS_TIMEOUT),
                "{error}"
            );
        }
    }
}
