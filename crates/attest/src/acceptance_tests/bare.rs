//! A TLS library that presents any chain and takes any, to be judged by ours.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncReadExt, DuplexStream};

use crate::TlsIdentity;

#[derive(Debug, Clone)]
pub struct Bare {
    presented: Arc<CertifiedKey>,
}

impl Bare {
    /// Presents `chain`, or nothing if it is empty, and signs with the key of `identity`.
    pub fn new(chain: Vec<Vec<u8>>, identity: &TlsIdentity) -> Self {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let key = identity.certified_key().key.clone();
        Bare {
            presented: Arc::new(CertifiedKey::new(chain, key)),
        }
    }

    /// Dials; the alert that came, if one did.
    pub async fn connect(self, stream: DuplexStream) -> Option<String> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.clone()))
            .with_client_cert_resolver(Arc::new(self));
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        match connector.connect(name, stream).await {
            // The server judges after the client's side of the handshake is complete.
            Ok(mut tls) => alert(tls.read_u8().await.err()),
            Err(error) => alert(Some(error)),
        }
    }

    /// Is dialled; the alert that came, if one did.
    pub async fn accept(self, stream: DuplexStream) -> Option<String> {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(self.clone()))
            .with_cert_resolver(Arc::new(self));
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        alert(acceptor.accept(stream).await.err())
    }
}

/// The name of the alert as the specification writes it.
fn alert(error: Option<io::Error>) -> Option<String> {
    let error = error?;
    let inner = error.get_ref()?.downcast_ref::<Error>()?;
    let Error::AlertReceived(alert) = inner else {
        return Some(format!("{inner:?}"));
    };
    Some(
        match alert {
            rustls::AlertDescription::UnknownCA => "unknown_ca",
            rustls::AlertDescription::BadCertificate => "bad_certificate",
            rustls::AlertDescription::UnsupportedCertificate => "unsupported_certificate",
            rustls::AlertDescription::CertificateExpired => "certificate_expired",
            rustls::AlertDescription::CertificateRequired => "certificate_required",
            rustls::AlertDescription::DecryptError => "decrypt_error",
            other => return Some(format!("{other:?}")),
        }
        .to_owned(),
    )
}

impl rustls::client::ResolvesClientCert for Bare {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        (!self.presented.cert.is_empty()).then(|| self.presented.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for Bare {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.presented.clone())
    }
}

macro_rules! anything {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            unreachable!("TLS 1.3 only")
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
    anything!();
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
    anything!();
}
