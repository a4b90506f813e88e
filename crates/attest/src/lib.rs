//! Who is on the other end: RA-TLS certificates, proof of work, policies, the attestation frame.
//!
//! A connection between two Cocoon nodes starts with a proof of work ([`pow`]), then mutual TLS 1.3 in which both
//! sides show a self-signed Ed25519 certificate ([`identity`]) that may carry a quote, then the verdict of a
//! [`Policy`] on what the certificate says. [`connect`] and [`accept`] do all of it on any stream:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use cocoon_attest::{CertificateMode, Policy, TlsIdentity, connect, pow};
//! let identity = TlsIdentity::generate(CertificateMode::None, cocoon_attest::unix_now())?;
//! let tcp = tokio::net::TcpStream::connect("192.0.2.7:11001").await?;
//! let (stream, peer) = connect(tcp, &identity, &Policy::Any, pow::MAX_CLIENT_DIFFICULTY).await?;
//! println!("talking to image {}", hex::encode(peer.image_hash));
//! # let _ = stream; Ok(()) }
//! ```
//!
//! The policy decides inside the TLS verifier, so no byte of an application reaches a refused peer, and the
//! [`PeerIdentity`] is given out only after the handshake is complete: a certificate that somebody replays without
//! its key is never attributed to its owner. (A TLS 1.3 client finishes its handshake before the server has looked
//! at the client's certificate, so a refusal by the server shows up at the client's first read.)
//!
//! [`connect_with_claims`] and [`accept_with_claims`] also exchange signed [`claims`] with peers of our own kind before
//! they give out the identity.
//!
//! Verification is stricter than the reference's where that costs no interoperability; see [`certificate`].
//! The wire formats are those of `spec/attestation.md` sections 1 to 4 and `spec/protocol.md` 1.1 and 1.2.

mod der;
mod error;
mod preamble;
mod stream;
mod tls;

pub mod certificate;
pub mod claims;
pub mod evidence;
pub mod frame;
pub mod gate;
pub mod guest;
pub mod hybrid_kem;
pub mod identity;
pub mod image;
pub mod keys;
pub mod measurements;
pub mod policy;
pub mod policy_config;
pub mod pow;
pub mod profile;
pub mod quote;
pub mod quote_source;
pub mod sealing;
pub mod session;
pub mod socks5;
pub mod time;

#[cfg(test)]
mod acceptance_tests;

pub use certificate::CertificateError;
pub use claims::{ClaimsProfile, VerifiedClaims};
pub use error::{AttestError, Stage};
pub use identity::{CertificateMode, IdentityError, TlsIdentity};
pub use keys::{KeyName, KeySource, SecretKey};
pub use measurements::Measurements;
pub use policy::{Policy, PolicyRefusal, PolicyRules, guard_network};
pub use quote_source::{QuoteSource, QuoteSourceError};
pub use session::{PeerIdentity, accept, accept_with_claims, connect, connect_with_claims};
pub use stream::TlsStream;
pub use time::unix_now;
