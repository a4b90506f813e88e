//! The whole way from a byte stream to a trusted one: proof of work, TLS, policy.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::claims::exchange::{ExchangeError, Line, exchange};
use crate::claims::statement::Side;
use crate::claims::{self, ClaimsError, ClaimsProfile, VerifiedClaims};
use crate::error::{AttestError, Stage};
use crate::identity::TlsIdentity;
use crate::measurements::Measurements;
use crate::policy::{Evidence, Policy, PolicyRefusal};
use crate::preamble;
use crate::stream::TlsStream;
use crate::tls::{self, Verdict};

/// The handshake is two round trips and a few signatures; a peer that needs longer is not serving anybody.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Who the peer of a completed connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Ed25519 key of its certificate; the handshake proved that it holds the private half.
    pub public_key: [u8; 32],
    /// What was measured, under a policy that asks for it.
    pub attestation: Option<Measurements>,
    /// Hash of the root that vouches for the quote; zero for none and for a fake.
    pub collateral_root_hash: [u8; 48],
    /// Image hash of the measurements; zero without any.
    pub image_hash: [u8; 32],
    /// The measurements are fake and prove nothing.
    pub fake: bool,
    /// What it said and proved beyond its certificate, if it speaks claims.
    pub claims: Option<Arc<VerifiedClaims>>,
    /// The quote that was judged, to judge it again.
    quote: Option<KeptQuote>,
}

/// A quote that its connection keeps. A real one has 5 kB, of which an error message shows the length.
#[derive(Clone, PartialEq, Eq)]
struct KeptQuote(Arc<[u8]>);

impl fmt::Debug for KeptQuote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl PeerIdentity {
    pub(crate) fn new(public_key: [u8; 32], evidence: Evidence, quote: Option<Vec<u8>>) -> Self {
        // A policy that looks at no quote does not make us keep what strangers send.
        let quote = quote.filter(|_| evidence.measurements.is_some());
        let image_hash = evidence
            .measurements
            .as_ref()
            .map_or([0; 32], Measurements::image_hash);
        PeerIdentity {
            public_key,
            attestation: evidence.measurements,
            collateral_root_hash: evidence.collateral_root_hash,
            image_hash,
            fake: evidence.fake,
            claims: None,
            quote: quote.map(|quote| KeptQuote(quote.into())),
        }
    }

    /// Judges the peer of a living connection again: the policy's lists may have changed since the handshake, and
    /// what vouches for a quote ends. Whoever refuses it now has to close the connection.
    ///
    /// A peer that was let in by [`Policy::Any`] kept no quote, so a policy that demands one refuses it and it has to
    /// connect again.
    pub fn recheck(&self, policy: &Policy) -> Result<(), PolicyRefusal> {
        let quote = self.quote.as_ref().map(|quote| &*quote.0);
        policy.evaluate(quote, &self.public_key).map(drop)
    }
}

/// Makes a trusted connection over a stream that was just dialled.
///
/// Solves proofs of work up to `max_difficulty` ([`crate::pow::MAX_CLIENT_DIFFICULTY`] by default). Every stage has a
/// time limit; dropping the future stops everything, the search for a proof of work included.
///
/// When this returns, the server has proved who it is, but need not have judged *our* certificate yet; a refusal
/// shows up at the first read.
pub async fn connect<S>(
    stream: S,
    identity: &TlsIdentity,
    policy: &Policy,
    max_difficulty: u8,
) -> Result<(TlsStream<S>, PeerIdentity), AttestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    connect_with_claims(stream, identity, policy, max_difficulty, None).await
}

/// [`connect`], and then the exchange of signed claims with a peer that speaks them too.
///
/// Here the peer has judged our certificate and our claims when this returns, if claims were exchanged: they stand in
/// [`PeerIdentity::claims`]. With `require` a peer that speaks none is refused.
pub async fn connect_with_claims<S>(
    mut stream: S,
    identity: &TlsIdentity,
    policy: &Policy,
    max_difficulty: u8,
    claims: Option<&ClaimsProfile>,
) -> Result<(TlsStream<S>, PeerIdentity), AttestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    preamble::answer(&mut stream, max_difficulty).await?;
    let verdict = Verdict::default();
    let config = tls::client_config(identity, policy, verdict.clone(), protocols(claims))?;
    // Only a placeholder: it is not sent, and the verifier knows the one name it expects.
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into());
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let (tls, peer) = finish(handshake, &verdict).await?;
    let stream = TlsStream::new(tls.into());
    claimed(stream, peer, Side::Dialler, identity, claims).await
}

/// Makes a trusted connection over a stream that was just accepted.
///
/// Asks for a proof of work of `difficulty` ([`crate::pow::DEFAULT_DIFFICULTY`] by default, 64 at most) and requires a
/// client certificate. Every stage has a time limit, but their number at a time is the caller's to bound.
pub async fn accept<S>(
    stream: S,
    identity: &TlsIdentity,
    policy: &Policy,
    difficulty: u8,
) -> Result<(TlsStream<S>, PeerIdentity), AttestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    accept_with_claims(stream, identity, policy, difficulty, None).await
}

/// [`accept`], and then the exchange of signed claims; see [`connect_with_claims`].
pub async fn accept_with_claims<S>(
    mut stream: S,
    identity: &TlsIdentity,
    policy: &Policy,
    difficulty: u8,
    claims: Option<&ClaimsProfile>,
) -> Result<(TlsStream<S>, PeerIdentity), AttestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    preamble::demand(&mut stream, difficulty).await?;
    let verdict = Verdict::default();
    let config = tls::server_config(identity, policy, verdict.clone(), protocols(claims))?;
    let handshake = TlsAcceptor::from(Arc::new(config)).accept(stream);
    let (tls, peer) = finish(handshake, &verdict).await?;
    let stream = TlsStream::new(tls.into());
    claimed(stream, peer, Side::Acceptor, identity, claims).await
}

/// Runs a handshake to its end and hands out the verifier's verdict, or the most telling error.
async fn finish<T>(
    handshake: impl Future<Output = io::Result<T>>,
    verdict: &Verdict,
) -> Result<(T, PeerIdentity), AttestError> {
    let stage = Stage::TlsHandshake;
    let done = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(|_| AttestError::Timeout {
            stage,
            limit: HANDSHAKE_TIMEOUT,
        })?;
    let judged = verdict.get().cloned();
    match (done, judged) {
        (_, Some(Err(refusal))) => Err(refusal.into()),
        (Ok(tls), Some(Ok(peer))) => Ok((tls, peer)),
        (Ok(_), None) => {
            let what = "the handshake ended without a look at the peer's certificate".to_owned();
            Err(AttestError::Tls(rustls::Error::General(what)))
        }
        (Err(error), _) => Err(explain(error)),
    }
}

fn protocols(claims: Option<&ClaimsProfile>) -> &'static [&'static [u8]] {
    if claims.is_some() {
        &[claims::ALPN]
    } else {
        &[]
    }
}

/// The last part of a set-up: claims, if both sides speak them.
async fn claimed<S>(
    mut stream: TlsStream<S>,
    mut peer: PeerIdentity,
    side: Side,
    identity: &TlsIdentity,
    claims: Option<&ClaimsProfile>,
) -> Result<(TlsStream<S>, PeerIdentity), AttestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(profile) = claims else {
        return Ok((stream, peer));
    };
    if !stream.speaks(claims::ALPN) {
        return if profile.require {
            Err(ClaimsError::Missing.into())
        } else {
            Ok((stream, peer))
        };
    }
    let stage = Stage::Claims;
    let line = Line {
        side,
        key: identity.signing_key(),
        peer_key: peer.public_key,
        binding: stream.exporter(claims::EXPORTER_LABEL)?,
    };
    let limit = claims::CLAIMS_TIMEOUT;
    let exchange = exchange(&mut stream, &line, profile, crate::unix_now);
    let done = tokio::time::timeout(limit, exchange)
        .await
        .map_err(|_| AttestError::Timeout { stage, limit })?;
    peer.claims = Some(Arc::new(done.map_err(|error| match error {
        ExchangeError::Claims(error) => AttestError::Claims(error),
        ExchangeError::Io(error) => ended(stage, error),
    })?));
    Ok((stream, peer))
}

/// A transport that failed, or that was closed.
fn ended(stage: Stage, source: io::Error) -> AttestError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => AttestError::Closed { stage },
        _ => AttestError::Io { stage, source },
    }
}

fn explain(error: io::Error) -> AttestError {
    let stage = Stage::TlsHandshake;
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return AttestError::Closed { stage };
    }
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::NoCertificatesPresented) => AttestError::NoClientCertificate,
        Some(rustls::Error::AlertReceived(alert)) => AttestError::RefusedByPeer {
            alert: format!("{alert:?}"),
        },
        Some(other) => AttestError::Tls(other.clone()),
        None => AttestError::Io {
            stage,
            source: error,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CertificateMode;
    use crate::policy::PolicyRules;
    use crate::quote_source::FakeQuotes;

    #[tokio::test]
    async fn a_peer_is_judged_again_by_what_it_showed() {
        let now = crate::unix_now();
        let attested = TlsIdentity::attested(&FakeQuotes, now).unwrap();
        let plain = TlsIdentity::generate(CertificateMode::None, now).unwrap();
        let fake = Policy::FakeTdx(PolicyRules::default());
        let meet = async |policy: &Policy| {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let (client, server) = tokio::join!(
                connect(ours, &attested, &Policy::Any, 0),
                accept(theirs, &plain, policy, 0)
            );
            client.unwrap();
            server.unwrap().1
        };
        let peer = meet(&fake).await;
        assert!(peer.fake);
        peer.recheck(&fake).unwrap();
        peer.recheck(&Policy::Any).unwrap();
        let stricter = |edit: fn(&mut PolicyRules)| {
            let mut rules = PolicyRules::default();
            edit(&mut rules);
            peer.recheck(&Policy::FakeTdx(rules)).unwrap_err()
        };
        assert!(matches!(
            stricter(|rules| rules.allowed_image_hashes = vec![[0; 32]]),
            PolicyRefusal::ImageHash { .. }
        ));
        assert!(matches!(
            stricter(|rules| rules.allowed_collateral_root_hashes = vec![[1; 48]]),
            PolicyRefusal::CollateralRoot { .. }
        ));
        // Whoever was let in without a look at its quote has to come again.
        let unseen = meet(&Policy::Any).await;
        assert!(matches!(
            unseen.recheck(&fake),
            Err(PolicyRefusal::QuoteRequired { .. })
        ));
        unseen.recheck(&Policy::Any).unwrap();
    }
}
