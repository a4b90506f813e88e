//! Both sides over loopback TCP: what is accepted, what is refused, and how it is said.

use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::certificate::CertificateError;
use cocoon_attest::policy::PolicyRefusal;
use cocoon_attest::pow::{self, Challenge, PowError};
use cocoon_attest::profile::{CertificateParams, report_data};
use cocoon_attest::{
    AttestError, CertificateMode, PeerIdentity, Policy, PolicyRules, Stage, TlsIdentity, TlsStream,
    accept, connect, unix_now,
};
use ed25519_dalek::SigningKey;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const EASY: u8 = 8;
type Outcome = Result<(TlsStream<TcpStream>, PeerIdentity), AttestError>;

fn identity(mode: CertificateMode) -> TlsIdentity {
    TlsIdentity::generate(mode, unix_now()).unwrap()
}

fn plain() -> TlsIdentity {
    identity(CertificateMode::None)
}

fn fake() -> TlsIdentity {
    identity(CertificateMode::FakeTdx)
}

fn fake_policy() -> Policy {
    Policy::FakeTdx(PolicyRules::default())
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

/// Client and server outcomes.
async fn meet(
    (client_id, client_policy): (&TlsIdentity, &Policy),
    (server_id, server_policy): (&TlsIdentity, &Policy),
) -> (Outcome, Outcome) {
    let (c, s) = tcp_pair().await;
    tokio::join!(
        connect(c, client_id, client_policy, 28),
        accept(s, server_id, server_policy, EASY)
    )
}

fn failed(outcome: Outcome) -> AttestError {
    match outcome {
        Ok((_, peer)) => panic!("accepted {peer:?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn both_modes_and_both_policies() {
    for (client_id, server_id, client_policy, server_policy) in [
        (plain(), plain(), Policy::Any, Policy::Any),
        (fake(), fake(), fake_policy(), fake_policy()),
        (plain(), fake(), fake_policy(), Policy::Any),
        (fake(), plain(), Policy::Any, fake_policy()),
        (fake(), fake(), Policy::Any, Policy::Any),
    ] {
        let (client, server) =
            meet((&client_id, &client_policy), (&server_id, &server_policy)).await;
        let (mut client, seen_by_client) = client.unwrap();
        let (mut server, seen_by_server) = server.unwrap();
        // X25519MLKEM768: who records this today reads it neither with a quantum computer nor without.
        assert_eq!(client.key_exchange(), Some(0x11ec));
        assert_eq!(server.key_exchange(), Some(0x11ec));
        for (seen, peer, policy) in [
            (seen_by_client, &server_id, &client_policy),
            (seen_by_server, &client_id, &server_policy),
        ] {
            assert_eq!(seen.public_key, peer.public_key());
            assert_eq!(seen.fake, policy.is_fake());
            assert_eq!(seen.attestation.is_some(), policy.is_fake());
            assert_eq!(seen.image_hash == [0; 32], !policy.is_fake());
        }
        client.write_all(b"question").await.unwrap();
        client.flush().await.unwrap();
        let mut got = [0; 8];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"question");
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"answer");
        assert!(!client.truncated(), "a close_notify was sent");
    }
}

#[tokio::test]
async fn large_data_goes_both_ways() {
    let (client, server) = meet((&plain(), &Policy::Any), (&plain(), &Policy::Any)).await;
    let (client, server) = (client.unwrap().0, server.unwrap().0);
    let data: Vec<u8> = (0..2_000_000u32).map(|i| i as u8).collect();
    let work = [client, server].map(|stream| {
        let data = data.clone();
        async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let send = async {
                write.write_all(&data).await.unwrap();
                write.flush().await.unwrap();
            };
            let mut got = vec![0; data.len()];
            let (_, result) = tokio::join!(send, read.read_exact(&mut got));
            result.unwrap();
            assert!(got == data);
        }
    });
    let [a, b] = work;
    tokio::join!(a, b);
}

#[tokio::test]
async fn a_policy_that_needs_a_quote_refuses_a_plain_certificate() {
    let (client, _) = meet((&plain(), &fake_policy()), (&plain(), &Policy::Any)).await;
    let error = failed(client);
    assert_eq!(
        error.to_string(),
        "the peer is refused: policy fake_tdx requires a quote, and its certificate has none"
    );
    assert!(!error.is_retryable());

    // The client has finished before the server judges it, and learns of the refusal at its first read.
    let (client, server) = meet((&plain(), &Policy::Any), (&plain(), &fake_policy())).await;
    assert!(matches!(
        failed(server),
        AttestError::Policy(PolicyRefusal::QuoteRequired { policy: "fake_tdx" })
    ));
    let (mut client, _) = client.unwrap();
    client.read_u8().await.unwrap_err();
}

#[tokio::test]
async fn the_real_policy_refuses_everything_without_a_verifier() {
    let tdx = Policy::Tdx(PolicyRules::default());
    let (client, _) = meet((&plain(), &tdx), (&fake(), &Policy::Any)).await;
    assert!(matches!(
        failed(client),
        AttestError::Policy(PolicyRefusal::BadQuote(_))
    ));
    // A quote of the right shape for the right key: version 4, TDX, report data in place.
    let key = SigningKey::from_bytes(&[4; 32]);
    let mut quote = vec![0; 700];
    (quote[0], quote[4]) = (4, 0x81);
    quote[568..632].copy_from_slice(&report_data(key.verifying_key().as_bytes()));
    let der = CertificateParams {
        key: &key,
        serial: [1; 16],
        not_before: unix_now(),
        validity: 3_600,
        quote: Some(&quote),
    }
    .to_der();
    let shaped = TlsIdentity::from_parts(key, der).unwrap();
    let (client, _) = meet((&plain(), &tdx), (&shaped, &Policy::Any)).await;
    let text = failed(client).to_string();
    assert!(
        text.contains("no verifier for TDX quotes is set up"),
        "{text}"
    );
}

#[tokio::test]
async fn image_hashes_are_compared() {
    let rules = |hash| PolicyRules {
        allowed_image_hashes: vec![hash],
        ..PolicyRules::default()
    };
    let mut hash = [0; 32];
    hex::decode_to_slice(
        "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61",
        &mut hash,
    )
    .unwrap();
    let right = Policy::FakeTdx(rules(hash));
    let (client, _) = meet((&plain(), &right), (&fake(), &Policy::Any)).await;
    assert_eq!(client.unwrap().1.image_hash, hash);
    let wrong = Policy::FakeTdx(rules([1; 32]));
    let (client, _) = meet((&plain(), &wrong), (&fake(), &Policy::Any)).await;
    assert!(matches!(
        failed(client),
        AttestError::Policy(PolicyRefusal::ImageHash { found }) if found == hash
    ));
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_both_sides() {
    let old = TlsIdentity::generate(CertificateMode::None, unix_now() - 100_000).unwrap();
    assert!(old.needs_renewal(unix_now()));
    let (client, server) = meet((&plain(), &Policy::Any), (&old, &Policy::Any)).await;
    let error = failed(client);
    assert!(
        error.to_string().contains("certificate expired at "),
        "{error}"
    );
    let error = failed(server);
    assert!(
        matches!(&error, AttestError::RefusedByPeer { alert } if alert == "CertificateExpired"),
        "{error}"
    );
    let (_, server) = meet((&old, &Policy::Any), (&plain(), &Policy::Any)).await;
    assert!(matches!(
        failed(server),
        AttestError::Certificate(CertificateError::Expired { .. })
    ));
}

/// Does the client's part of the proof of work by hand.
async fn solve(stream: &mut TcpStream) {
    let mut bytes = [0; pow::CHALLENGE_LEN];
    stream.read_exact(&mut bytes).await.unwrap();
    let nonce = Challenge::from_bytes(&bytes)
        .unwrap()
        .solve(28, || false)
        .unwrap();
    stream
        .write_all(&pow::response_to_bytes(nonce))
        .await
        .unwrap();
}

/// A rustls verifier that takes anything, for playing bad peers.
#[derive(Debug)]
struct TakeAll;

impl rustls::client::danger::ServerCertVerifier for TakeAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }
}

#[derive(Debug)]
struct Present(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Present {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for Present {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// The certificate of `victim` with the key of `thief`.
fn stolen(victim: &TlsIdentity, thief: &TlsIdentity) -> Present {
    use rustls::pki_types::pem::PemObject;
    let key = PrivatePkcs8KeyDer::from_pem_slice(thief.key_pem().as_bytes()).unwrap();
    let key = aws_lc_rs::sign::any_eddsa_type(&key).unwrap();
    let cert = CertificateDer::from(victim.certificate_der().to_vec());
    Present(Arc::new(CertifiedKey::new(vec![cert], key)))
}

/// A rustls client with the given certificate, or none.
async fn bad_client(mut tcp: TcpStream, present: Option<Present>) {
    solve(&mut tcp).await;
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakeAll));
    let config = match present {
        Some(present) => config.with_client_cert_resolver(Arc::new(present)),
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    if let Ok(mut tls) = connector.connect(name, tcp).await {
        let _ = tls.read_u8().await;
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let (c, s) = tcp_pair().await;
    let id = plain();
    let (outcome, ()) = tokio::join!(accept(s, &id, &Policy::Any, EASY), bad_client(c, None));
    let error = failed(outcome);
    assert!(
        error
            .to_string()
            .starts_with("the peer presented no client certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stolen_certificate_without_its_key_gets_nowhere() {
    let (victim, thief) = (fake(), plain());
    let (c, s) = tcp_pair().await;
    let id = plain();
    let policy = fake_policy();
    let (outcome, ()) = tokio::join!(
        accept(s, &id, &policy, EASY),
        bad_client(c, Some(stolen(&victim, &thief)))
    );
    let error = failed(outcome);
    assert!(matches!(error, AttestError::Tls(_)), "{error}");

    let (c, mut s) = tcp_pair().await;
    let server = async {
        s.write_all(
            &Challenge {
                difficulty: 0,
                salt: [0; 16],
            }
            .to_bytes(),
        )
        .await
        .unwrap();
        s.read_exact(&mut [0; pow::RESPONSE_LEN]).await.unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(stolen(&victim, &thief)));
        let _ = tokio_rustls::TlsAcceptor::from(Arc::new(config))
            .accept(s)
            .await;
    };
    let (outcome, ()) = tokio::join!(connect(c, &id, &policy, 28), server);
    let error = failed(outcome);
    assert!(matches!(error, AttestError::Tls(_)), "{error}");
}

#[tokio::test]
async fn wrong_work_closes_without_a_word() {
    let (mut c, s) = tcp_pair().await;
    let client = async {
        let mut bytes = [0; pow::CHALLENGE_LEN];
        c.read_exact(&mut bytes).await.unwrap();
        let challenge = Challenge::from_bytes(&bytes).unwrap();
        let wrong = (0..).find(|n| challenge.verify(*n).is_err()).unwrap();
        c.write_all(&pow::response_to_bytes(wrong)).await.unwrap();
        let mut rest = Vec::new();
        let _ = c.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    };
    let id = plain();
    // The server's future owns the socket and must end for the client to see the close.
    let server = async { failed(accept(s, &id, &Policy::Any, 12).await) };
    let (error, ()) = tokio::join!(server, client);
    assert!(
        matches!(
            error,
            AttestError::Pow(PowError::NotEnoughWork { required: 12, .. })
        ),
        "{error}"
    );
}

#[tokio::test]
async fn strangers_are_recognised() {
    let id = plain();
    // An HTTP client at our server.
    let (mut c, s) = tcp_pair().await;
    c.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = failed(accept(s, &id, &Policy::Any, EASY).await);
    assert!(
        matches!(error, AttestError::Pow(PowError::NotAResponse { .. })),
        "{error}"
    );
    // An SMTP server at our client.
    let (c, mut s) = tcp_pair().await;
    s.write_all(b"220 mail.example.org ESMTP ready\r\n")
        .await
        .unwrap();
    let error = failed(connect(c, &id, &Policy::Any, 28).await);
    assert!(
        matches!(error, AttestError::Pow(PowError::NotAChallenge { .. })),
        "{error}"
    );
    // A greedy server: refused at once, without an answer.
    let (c, mut s) = tcp_pair().await;
    s.write_all(&Challenge::random(29).unwrap().to_bytes())
        .await
        .unwrap();
    let error = failed(connect(c, &id, &Policy::Any, 28).await);
    assert_eq!(
        error.to_string(),
        "the server asks for proof-of-work difficulty 29, more than the maximum of 28"
    );
    let mut rest = Vec::new();
    s.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn every_early_end_names_its_stage() {
    let id = plain();
    let closed = |error: AttestError, expected: Stage| {
        assert!(
            matches!(error, AttestError::Closed { stage } if stage == expected),
            "{expected:?}: {error}"
        );
        assert!(error.is_retryable());
    };
    let (c, s) = tcp_pair().await;
    drop(s);
    closed(
        failed(connect(c, &id, &Policy::Any, 28).await),
        Stage::PowChallenge,
    );

    let (mut c, s) = tcp_pair().await;
    c.write_all(&[0x19, 0x73]).await.unwrap();
    c.shutdown().await.unwrap();
    closed(
        failed(accept(s, &id, &Policy::Any, EASY).await),
        Stage::PowResponse,
    );

    // A handshake that ends after the proof of work, and one that ends inside the ClientHello.
    for hello in [&[][..], &[0x16, 3, 1, 0x01, 0x00, 1, 0, 0]] {
        let (mut c, s) = tcp_pair().await;
        let client = async {
            solve(&mut c).await;
            c.write_all(hello).await.unwrap();
            c.shutdown().await.unwrap();
        };
        let (outcome, ()) = tokio::join!(accept(s, &id, &Policy::Any, EASY), client);
        closed(failed(outcome), Stage::TlsHandshake);
    }
}

#[tokio::test]
async fn bytes_that_are_not_tls_end_the_handshake() {
    let (mut c, s) = tcp_pair().await;
    let id = plain();
    let client = async {
        solve(&mut c).await;
        c.write_all(b"this is surely no TLS record at all")
            .await
            .unwrap();
    };
    let (outcome, ()) = tokio::join!(accept(s, &id, &Policy::Any, EASY), client);
    assert!(matches!(failed(outcome), AttestError::Tls(_)));
}

/// A peer that goes silent in the handshake; virtual time, so the limit passes at once.
#[tokio::test(start_paused = true)]
async fn a_silent_handshake_times_out() {
    let (mut c, s) = tokio::io::duplex(4_096);
    let id = plain();
    let client = async {
        let mut bytes = [0; pow::CHALLENGE_LEN];
        c.read_exact(&mut bytes).await.unwrap();
        let nonce = Challenge::from_bytes(&bytes)
            .unwrap()
            .solve(28, || false)
            .unwrap();
        c.write_all(&pow::response_to_bytes(nonce)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    };
    tokio::select! {
        outcome = accept(s, &id, &Policy::Any, EASY) => {
            let Err(error) = outcome else { panic!("accepted") };
            assert_eq!(error.to_string(), "no progress within 15 s while doing the TLS handshake");
        }
        () = client => panic!("no time limit"),
    }
}

#[tokio::test]
async fn an_end_without_close_notify_is_an_ordinary_end() {
    let (client, server) = meet((&plain(), &Policy::Any), (&plain(), &Policy::Any)).await;
    let (mut client, _) = client.unwrap();
    let (mut server, _) = server.unwrap();
    server.write_all(b"last words").await.unwrap();
    server.flush().await.unwrap();
    drop(server); // TCP closes, TLS says nothing: what the reference does
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last words");
    assert!(client.truncated());
}

#[test]
fn files_keep_the_key_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("node");
    let id = fake();
    id.save(&base).unwrap();
    id.save(&base).unwrap(); // replacing is fine
    let key_file = dir.path().join("node_key.pem");
    let mode = std::fs::metadata(&key_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = TlsIdentity::load(&base).unwrap();
    assert_eq!(again.certificate_der(), id.certificate_der());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "no temporary files stay"
    );
    // The key of another certificate.
    std::fs::write(&key_file, plain().key_pem().as_bytes()).unwrap();
    let error = TlsIdentity::load(&base).unwrap_err().to_string();
    assert!(error.contains("the private key belongs to"), "{error}");
    let error = TlsIdentity::load(&dir.path().join("absent"))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot read /"), "{error}");
    // Nothing printed shows the secret.
    let shown = format!("{id:?}");
    let secret = &id.key_pem()[30..70];
    assert!(!shown.contains(secret) && shown.contains("public_key"));
}

#[test]
fn a_fake_policy_never_meets_money() {
    use cocoon_attest::guard_network;
    let real = Policy::Tdx(PolicyRules::default());
    for policy in [&real, &Policy::Any] {
        for (mainnet, test_root) in [(true, true), (true, false), (false, true), (false, false)] {
            guard_network(policy, mainnet, test_root).unwrap();
        }
    }
    guard_network(&fake_policy(), false, true).unwrap();
    for (mainnet, test_root) in [(true, true), (true, false), (false, false)] {
        guard_network(&fake_policy(), mainnet, test_root).unwrap_err();
    }
}
