//! Why a connection could not be trusted, said for the person who reads it.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::certificate::CertificateError;
use crate::claims::ClaimsError;
use crate::policy::PolicyRefusal;
use crate::pow::PowError;

/// The steps of setting up a connection, each with its own time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The server's 24 bytes.
    PowChallenge,
    /// The client's search.
    PowSolve,
    /// The client's 12 bytes.
    PowResponse,
    /// Mutual TLS.
    TlsHandshake,
    /// Signed claims, between our own nodes.
    Claims,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::PowChallenge => "exchanging the proof-of-work challenge",
            Stage::PowSolve => "searching for a proof of work",
            Stage::PowResponse => "exchanging the proof-of-work response",
            Stage::TlsHandshake => "doing the TLS handshake",
            Stage::Claims => "exchanging signed claims",
        })
    }
}

/// Why [`crate::connect`] or [`crate::accept`] failed.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// A stage took longer than its limit.
    #[error("no progress within {} s while {stage}", limit.as_secs())]
    Timeout {
        /// What was going on.
        stage: Stage,
        /// The limit.
        limit: Duration,
    },
    /// The peer closed the connection. A reference node refuses a certificate exactly like this, without an alert.
    #[error("the peer closed the connection while {stage}{}", closed_hint(*stage))]
    Closed {
        /// What was going on.
        stage: Stage,
    },
    /// The transport failed.
    #[error("i/o error while {stage}: {source}")]
    Io {
        /// What was going on.
        stage: Stage,
        /// What the system said.
        source: io::Error,
    },
    /// The proof of work failed.
    #[error(transparent)]
    Pow(#[from] PowError),
    /// We refuse the peer's certificate.
    #[error("the peer's certificate is refused: {0}")]
    Certificate(#[from] CertificateError),
    /// The peer's certificate is sound, but our policy refuses it.
    #[error("the peer is refused: {0}")]
    Policy(#[from] PolicyRefusal),
    /// The peer's signed claims are refused, or it refuses ours.
    #[error("the peer's claims: {0}")]
    Claims(#[from] ClaimsError),
    /// A client without a certificate.
    #[error("the peer presented no client certificate, and every Cocoon connection needs one")]
    NoClientCertificate,
    /// The peer sent a TLS alert; it refused us or our offer.
    #[error("the peer refused the TLS handshake with the alert {alert}")]
    RefusedByPeer {
        /// Name of the alert.
        alert: String,
    },
    /// The TLS library failed in another way.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

fn closed_hint(stage: Stage) -> &'static str {
    match stage {
        Stage::PowResponse => " (a server closes like this when it rejects a proof of work)",
        Stage::TlsHandshake => {
            " (a reference node closes like this when it refuses our certificate)"
        }
        Stage::PowChallenge | Stage::PowSolve | Stage::Claims => "",
    }
}

impl AttestError {
    /// Whether the same attempt may succeed later without anybody changing a configuration or a certificate.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            AttestError::Timeout { .. } | AttestError::Closed { .. } | AttestError::Io { .. } => {
                true
            }
            // Collateral that is being fetched.
            AttestError::Policy(PolicyRefusal::Evidence(verdict)) => verdict.is_transient(),
            _ => false,
        }
    }
}
