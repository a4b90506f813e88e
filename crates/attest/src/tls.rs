//! rustls set up for Cocoon: TLS 1.3, two cipher suites, Ed25519, mutual certificates judged by our own rules.
//!
//! Everything is built anew for each connection: the verifier holds that connection's verdict.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError as TlsCertificateError, ClientConfig, DigitallySignedStruct,
    DistinguishedName, Error, PeerMisbehaved, ServerConfig, SignatureScheme,
};

use crate::certificate::{self, CertificateError, Presenter};
use crate::error::AttestError;
use crate::identity::TlsIdentity;
use crate::policy::{Policy, PolicyRefusal};
use crate::session::PeerIdentity;

/// Why the verifier refused.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    Certificate(CertificateError),
    Policy(PolicyRefusal),
}

impl From<Refusal> for AttestError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Certificate(error) => error.into(),
            Refusal::Policy(refusal) => refusal.into(),
        }
    }
}

/// Where the verifier leaves its verdict. It is read after the handshake: only then does the peer have proved that
/// it holds the key of the certificate.
pub(crate) type Verdict = Arc<OnceLock<Result<PeerIdentity, Refusal>>>;

/// Configuration of the dialling side.
pub(crate) fn client_config(
    identity: &TlsIdentity,
    policy: &Policy,
    verdict: Verdict,
    protocols: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let verifier = Verifier::new(policy, Presenter::Server, verdict);
    let mut config = ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous() // "dangerous" is rustls's word for verifiers other than WebPKI
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(OwnCertificate(identity.certified_key())));
    config.enable_sni = false;
    config.alpn_protocols = owned(protocols);
    // Never, whichever features other crates turn on: a small message must not become a large certificate.
    config.cert_compressors = Vec::new();
    config.cert_decompressors = Vec::new();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Configuration of the accepting side.
pub(crate) fn server_config(
    identity: &TlsIdentity,
    policy: &Policy,
    verdict: Verdict,
    protocols: &[&[u8]],
) -> Result<ServerConfig, Error> {
    let verifier = Verifier::new(policy, Presenter::Client, verdict);
    let mut config = ServerConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(OwnCertificate(identity.certified_key())));
    config.alpn_protocols = owned(protocols);
    config.cert_compressors = Vec::new();
    config.cert_decompressors = Vec::new();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn owned(protocols: &[&[u8]]) -> Vec<Vec<u8>> {
    protocols.iter().map(|name| name.to_vec()).collect()
}

/// The two AES-GCM suites in the reference's order, and the post-quantum hybrid with x25519 behind it.
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::{cipher_suite, kx_group};
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
            ],
            kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
            ..aws_lc_rs::default_provider()
        })
    });
    provider.clone()
}

/// Always our one certificate. The library's own resolvers first parse the certificate and refuse its critical
/// extensions.
#[derive(Debug)]
struct OwnCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(
        &self,
        _root_hints: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Judges the peer of one connection.
#[derive(Debug)]
struct Verifier {
    policy: Policy,
    presenter: Presenter,
    verdict: Verdict,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(policy: &Policy, presenter: Presenter, verdict: Verdict) -> Self {
        Verifier {
            policy: policy.clone(),
            presenter,
            verdict,
            provider: provider(),
        }
    }

    /// Certificates after the leaf are ignored, as the reference does.
    fn judge(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let result = decide(leaf, self.presenter, &self.policy, now.as_secs());
        let answer = result.as_ref().map(|_| ()).map_err(to_tls);
        match self.verdict.set(result) {
            Ok(()) => answer,
            // Once per connection: no renegotiation and no post-handshake authentication in this profile.
            Err(_) => Err(Error::General("a second certificate was presented".into())),
        }
    }

    fn check_possession(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let spki = certificate::spki(cert)
            .map_err(|_| Error::InvalidCertificate(TlsCertificateError::BadEncoding))?;
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(spki),
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }
}

fn decide(
    leaf: &[u8],
    presenter: Presenter,
    policy: &Policy,
    now: u64,
) -> Result<PeerIdentity, Refusal> {
    let cert = certificate::verify(leaf, presenter, now).map_err(Refusal::Certificate)?;
    let evidence = policy
        .evaluate(cert.quote.as_deref(), &cert.public_key)
        .map_err(Refusal::Policy)?;
    Ok(PeerIdentity::new(cert.public_key, evidence, cert.quote))
}

/// The library's nearest error, which chooses the alert. The details stay on our side.
fn to_tls(refusal: &Refusal) -> Error {
    Error::InvalidCertificate(match refusal {
        Refusal::Certificate(error) => match error {
            CertificateError::Expired { .. } => TlsCertificateError::Expired,
            CertificateError::NotYetValid { .. } => TlsCertificateError::NotValidYet,
            CertificateError::Purpose(_) | CertificateError::KeyUsage => {
                TlsCertificateError::InvalidPurpose
            }
            CertificateError::Name { .. } => TlsCertificateError::NotValidForName,
            CertificateError::UnknownCritical(_) => TlsCertificateError::UnhandledCriticalExtension,
            CertificateError::SelfSignature => TlsCertificateError::BadSignature,
            CertificateError::NotSelfIssued { .. }
            | CertificateError::AuthorityKey
            | CertificateError::KeyAlgorithm(_)
            | CertificateError::SignatureAlgorithm(_) => TlsCertificateError::UnknownIssuer,
            _ => TlsCertificateError::BadEncoding,
        },
        Refusal::Policy(_) => TlsCertificateError::ApplicationVerificationFailure,
    })
}

/// The part of the library's two verifier traits that is the same on both sides: TLS 1.3 and Ed25519 only.
macro_rules! signature_checks {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("TLS 1.2 is never negotiated".into()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.check_possession(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    };
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, now)?;
        Ok(ServerCertVerified::assertion())
    }

    signature_checks!();
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, now)?;
        Ok(ClientCertVerified::assertion())
    }

    signature_checks!();
}
