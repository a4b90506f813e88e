//! HTTPS: whom the client believes.

use std::sync::Arc;
use std::time::Duration;

use cocoon_collateral::web::{Web, WebError};
use cocoon_softtee::SoftWeb;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::pcs::{Reply, Server, deadlines};

/// A server over TLS whose certificate is for `name`; its port.
async fn server(web: &SoftWeb) -> u16 {
    let plain = Server::start().await;
    plain.set("/x", vec![Reply::of("hello")]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(web.certificate_der())],
            PrivatePkcs8KeyDer::from(web.key_pkcs8()).into(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(plain.clone().serve(stream));
            }
        }
    });
    port
}

#[tokio::test]
async fn a_server_needs_a_certificate_of_an_authority_that_is_trusted() {
    let now = cocoon_attest::unix_now();
    let (good, wrong_name) = (SoftWeb::new("localhost", now), SoftWeb::new("example", now));
    let old = SoftWeb::new("localhost", now - 4_000 * 86_400);
    let trusting = |web: &SoftWeb| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(web.root_der())).unwrap();
        Web::trusting(roots, deadlines(Duration::from_secs(60)))
    };
    let get = async |web: &Web, server_of: &SoftWeb| {
        let url = format!("https://localhost:{}/x", server(server_of).await);
        web.get(&url, None, 100).await
    };
    let answer = get(&trusting(&good), &good).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    for (client, of) in [
        (&wrong_name, &wrong_name),
        (&wrong_name, &good),
        (&old, &old),
    ] {
        let error = get(&trusting(client), of).await.unwrap_err();
        assert!(matches!(error, WebError::Tls(_)), "{error}");
        assert!(!error.is_retryable());
    }
    // The machine's authorities do not know ours, whether it has any or not.
    let error = get(&Web::native(deadlines(Duration::from_secs(60))), &good).await;
    assert!(matches!(
        error,
        Err(WebError::Tls(_) | WebError::NoRoots(_))
    ));
}

#[tokio::test]
async fn authorities_come_from_a_file() {
    let web = SoftWeb::new("localhost", cocoon_attest::unix_now());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let limits = deadlines(Duration::from_secs(60));
    for bad in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(&path, bad).unwrap();
        let Err(error) = Web::trusting_file(&path, limits) else {
            panic!("{bad:?} was taken");
        };
        assert!(error.contains("ca.pem"), "{error}");
    }
    std::fs::write(&path, web.root_pem()).unwrap();
    let client = Web::trusting_file(&path, limits).unwrap();
    let url = format!("https://localhost:{}/x", server(&web).await);
    assert_eq!(client.get(&url, None, 100).await.unwrap().status, 200);
}
