//! Peers that make a handshake long, large or slow, and what is never offered to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cocoon_attest::session::HANDSHAKE_TIMEOUT;
use cocoon_attest::{
    AttestError, CertificateMode, Policy, Stage, TlsIdentity, accept, connect, pow, unix_now,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::compress::{
    CertCompressor, CertDecompressor, CompressionFailed, CompressionLevel, DecompressionFailed,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateCompressionAlgorithm, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn identity() -> TlsIdentity {
    TlsIdentity::generate(CertificateMode::None, unix_now()).unwrap()
}

async fn solve(stream: &mut DuplexStream) {
    let mut bytes = [0; pow::CHALLENGE_LEN];
    stream.read_exact(&mut bytes).await.unwrap();
    let challenge = pow::Challenge::from_bytes(&bytes).unwrap();
    let nonce = challenge.solve(28, || false).unwrap();
    stream
        .write_all(&pow::response_to_bytes(nonce))
        .await
        .unwrap();
}

async fn ask(stream: &mut DuplexStream) {
    let challenge = pow::Challenge::random(0).unwrap();
    stream.write_all(&challenge.to_bytes()).await.unwrap();
    stream
        .read_exact(&mut [0; pow::RESPONSE_LEN])
        .await
        .unwrap();
}

/// Extensions and groups of a ClientHello, from its first record.
async fn client_hello(stream: &mut DuplexStream) -> (Vec<u16>, Vec<u16>) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], 22, "a handshake record");
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut body).await.unwrap();
    let number = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    // Type, length, version, random; then session id, suites and compression methods, each with its length.
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(body[at]);
    at += 2 + number(at);
    at += 1 + usize::from(body[at]);
    let end = at + 2 + number(at);
    at += 2;
    let (mut kinds, mut groups) = (Vec::new(), Vec::new());
    while at < end {
        let (kind, length) = (number(at), number(at + 2));
        kinds.push(kind as u16);
        if kind == 10 {
            groups = (at + 6..at + 4 + length)
                .step_by(2)
                .map(|at| number(at) as u16)
                .collect();
        }
        at += 4 + length;
    }
    (kinds, groups)
}

#[tokio::test]
async fn the_first_message_offers_what_the_profile_has_and_no_more() {
    let (near, mut far) = duplex(64 * 1024);
    let ours = identity();
    let look = async {
        ask(&mut far).await;
        let hello = client_hello(&mut far).await;
        drop(far);
        hello
    };
    let (result, (kinds, groups)) = tokio::join!(connect(near, &ours, &Policy::Any, 28), look);
    assert!(result.is_err());
    assert_eq!(groups, [0x11ec, 0x001d], "the hybrid group first");
    for (kind, name) in [
        (0, "server_name"),
        (16, "application_layer_protocol_negotiation"),
        (27, "compress_certificate"),
        (41, "pre_shared_key"),
        (42, "early_data"),
    ] {
        assert!(!kinds.contains(&kind), "{name} is offered");
    }
}

/// Would compress and decompress, and notices being asked to.
#[derive(Debug)]
struct Spy(AtomicBool);

static SPY: Spy = Spy(AtomicBool::new(false));

impl CertCompressor for Spy {
    fn compress(&self, _: Vec<u8>, _: CompressionLevel) -> Result<Vec<u8>, CompressionFailed> {
        self.0.store(true, Ordering::Relaxed);
        Err(CompressionFailed)
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        CertificateCompressionAlgorithm::Zlib
    }
}

impl CertDecompressor for Spy {
    fn decompress(&self, _: &[u8], _: &mut [u8]) -> Result<(), DecompressionFailed> {
        self.0.store(true, Ordering::Relaxed);
        Err(DecompressionFailed)
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        CertificateCompressionAlgorithm::Zlib
    }
}

/// Another TLS library's side: takes every certificate, presents what it was given.
#[derive(Debug)]
struct Bare(Arc<CertifiedKey>);

impl Bare {
    /// The identity's certificate and `extra` copies behind it.
    fn new(identity: &TlsIdentity, extra: usize) -> Arc<Self> {
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let leaf = CertificateDer::from(identity.certificate_der().to_vec());
        Arc::new(Bare(Arc::new(CertifiedKey::new(
            vec![leaf; 1 + extra],
            key,
        ))))
    }

    fn client(self: Arc<Self>) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_client_cert_resolver(self)
    }

    fn server(self: Arc<Self>) -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(self.clone())
            .with_cert_resolver(self)
    }
}

macro_rules! takes_everything {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    };
}

impl ServerCertVerifier for Bare {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    takes_everything!();
}

impl ClientCertVerifier for Bare {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    takes_everything!();
}

impl rustls::client::ResolvesClientCert for Bare {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for Bare {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Our verdict on a bare client and on a bare server, each prepared by `edit`.
async fn verdicts(extra: usize, spy: bool) -> [Result<[u8; 32], AttestError>; 2] {
    let (ours, theirs) = (identity(), identity());
    let (near, mut far) = duplex(256 * 1024);
    let client = async {
        solve(&mut far).await;
        let mut config = Bare::new(&theirs, extra).client();
        if spy {
            config.cert_compressors = vec![&SPY];
            config.cert_decompressors = vec![&SPY];
        }
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        if let Ok(mut tls) = connector.connect(name, far).await {
            let _ = tls.read_u8().await;
        }
    };
    let as_server = async {
        let done = accept(near, &ours, &Policy::Any, 0).await;
        done.map(|(_, peer)| peer.public_key)
    };
    let (as_server, ()) = tokio::join!(as_server, client);
    let (near, mut far) = duplex(256 * 1024);
    let server = async {
        ask(&mut far).await;
        let mut config = Bare::new(&theirs, extra).server();
        if spy {
            config.cert_compressors = vec![&SPY];
            config.cert_decompressors = vec![&SPY];
        }
        let _ = tokio_rustls::TlsAcceptor::from(Arc::new(config))
            .accept(far)
            .await;
    };
    let as_client = async {
        let done = connect(near, &ours, &Policy::Any, 28).await;
        done.map(|(_, peer)| peer.public_key)
    };
    let (as_client, ()) = tokio::join!(as_client, server);
    for key in [&as_server, &as_client].into_iter().flatten() {
        assert_eq!(*key, theirs.public_key());
    }
    [as_server, as_client]
}

/// A compressed certificate could be a thousand times larger than what is read; nobody is asked for one.
#[tokio::test]
async fn compressed_certificates_are_neither_sent_nor_read() {
    for verdict in verdicts(0, true).await {
        verdict.unwrap();
    }
    assert!(!SPY.0.load(Ordering::Relaxed));
}

/// Certificates behind the leaf are ignored up to the largest handshake message, 64 KiB, and refused beyond.
#[tokio::test]
async fn an_endless_chain_is_refused() {
    let length = identity().certificate_der().len() + 5;
    for verdict in verdicts(60_000 / length, false).await {
        verdict.unwrap();
    }
    for verdict in verdicts(66_000 / length + 1, false).await {
        let error = verdict.unwrap_err();
        assert!(matches!(error, AttestError::Tls(_)), "{error}");
    }
}

/// The limit is on the whole handshake, so that a byte now and then does not keep it alive.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_trickles_has_an_end() {
    let (near, mut far) = duplex(64 * 1024);
    let ours = identity();
    let trickle = async {
        solve(&mut far).await;
        // The head of a record of 512 bytes that never comes to its end.
        far.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            if far.write_all(&[1]).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = trickle => unreachable!(),
        outcome = accept(near, &ours, &Policy::Any, 0) => {
            let error = outcome.map(drop).unwrap_err();
            assert!(
                matches!(error, AttestError::Timeout { stage: Stage::TlsHandshake, limit } if limit == HANDSHAKE_TIMEOUT),
                "{error}"
            );
        }
    }
}
