//! A client whose key exchange can be chosen: rustls with our certificate and our judgement of the server's, and the
//! proof of work on the spot, so that no other thread is waited for.

use std::sync::Arc;

use cocoon_attest::certificate::{self, Presenter};
use cocoon_attest::pow::{self, Challenge};
use cocoon_attest::{Policy, TlsIdentity, unix_now};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, SupportedKxGroup, aws_lc_rs, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// DER before an Ed25519 key.
const ED25519: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

#[derive(Debug)]
struct Verifier {
    policy: Policy,
    provider: Arc<CryptoProvider>,
}

fn refused(reason: impl std::fmt::Display) -> Error {
    Error::General(reason.to_string())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        der: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = certificate::verify(der, Presenter::Server, unix_now()).map_err(refused)?;
        self.policy
            .evaluate(shown.quote.as_deref(), &shown.public_key)
            .map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused("TLS 1.2 is not spoken"))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let shown = certificate::verify(der, Presenter::Server, unix_now()).map_err(refused)?;
        let mut key = ED25519.to_vec();
        key.extend(shown.public_key);
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(key),
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Shows our certificate whatever it is asked for.
#[derive(Debug)]
struct Own(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Own {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Like `cocoon_attest::connect`, with one key exchange.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    identity: &TlsIdentity,
    policy: &Policy,
    exchange: &'static dyn SupportedKxGroup,
) -> Result<TlsStream<S>, super::Failure> {
    let mut challenge = [0; pow::CHALLENGE_LEN];
    stream.read_exact(&mut challenge).await?;
    let nonce = Challenge::from_bytes(&challenge)?.solve(pow::MAX_CLIENT_DIFFICULTY, || false)?;
    stream.write_all(&pow::response_to_bytes(nonce)).await?;
    let provider = Arc::new(CryptoProvider {
        kx_groups: vec![exchange],
        ..aws_lc_rs::default_provider()
    });
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes())?;
    let own = rustls::sign::CertifiedKey::new(
        vec![CertificateDer::from(identity.certificate_der().to_vec())],
        aws_lc_rs::sign::any_eddsa_type(&match key {
            PrivateKeyDer::Pkcs8(key) => key,
            _ => return Err("the key is no PKCS #8".into()),
        })?,
    );
    let verifier = Verifier {
        policy: policy.clone(),
        provider: provider.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(Own(Arc::new(own))));
    config.enable_sni = false;
    config.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from("127.0.0.1")?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}
