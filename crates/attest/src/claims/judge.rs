//! What a statement must say to be believed, without any I/O.

use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};

use super::gpu::{self, GpuFailure};
use super::statement::{
    Network, ProtocolRange, Role, RootContract, Session, Side, Statement, StatementError,
};
use super::{Expected, VerifiedClaims};

/// How far the clocks of two nodes may differ. The nonce already proves that a statement is new; the time tells a node
/// whose clock was set back, for example to use evidence that has ended.
pub const MAX_SKEW_SECONDS: u64 = 120;
/// Longest reason that is sent and read when claims are refused.
pub const MAX_REASON_LEN: usize = 256;

/// Why a peer's claims are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// It does not speak claims, and the configuration requires them.
    #[error(
        "the peer makes no signed claims, and this node requires them (require_claims): the reference and routers make none"
    )]
    Missing,
    /// A message of another kind than the one that is due.
    #[error("message {found} of the claims came, {expected} was due")]
    Message {
        /// Number of the message that was due.
        expected: u8,
        /// Number of the message that came.
        found: u8,
    },
    /// A message that is too long, or of a wrong length.
    #[error("message {kind} of the claims has {found} bytes, at most {limit} are possible")]
    MessageLength {
        /// Number of the message.
        kind: u8,
        /// Its length.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A challenge that asks for something unknown, or that repeats ours.
    #[error("the peer's challenge {0}")]
    Challenge(&'static str),
    /// The statement cannot be read.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Our own words.
    #[error("the statement is one of our own, sent back")]
    Reflected,
    /// Another key than the certificate's.
    #[error("the statement is of key {found}, the certificate of {expected}")]
    Key {
        /// Key of the certificate.
        expected: String,
        /// Key of the statement.
        found: String,
    },
    /// Of the other end.
    #[error("the statement speaks for the {found}, the peer is the {expected}")]
    Side {
        /// What the peer is.
        expected: Side,
        /// What it says.
        found: Side,
    },
    /// Said to somebody else.
    #[error("the statement was made for another key than ours")]
    Audience,
    /// Said on another connection.
    #[error("the statement belongs to another TLS connection")]
    Binding,
    /// Said in answer to another challenge.
    #[error("the statement does not answer our challenge")]
    Nonce,
    /// A clock is wrong.
    #[error(
        "the statement is of {found}, our clock says {now}: at most {MAX_SKEW_SECONDS} s apart are accepted"
    )]
    Time {
        /// The peer's time, Unix seconds.
        found: u64,
        /// Ours.
        now: u64,
    },
    /// Not who should be here.
    #[error("the peer is a {found}, expected here: {expected}")]
    Role {
        /// Who should.
        expected: String,
        /// Who is.
        found: Role,
    },
    /// Another TON network.
    #[error("the peer is in {found}, we are in {expected}")]
    Network {
        /// Ours.
        expected: Network,
        /// Its.
        found: Network,
    },
    /// Another root contract.
    #[error("the peer follows the root contract {found}, we follow {expected}")]
    Root {
        /// Ours.
        expected: RootContract,
        /// Its.
        found: RootContract,
    },
    /// No protocol version in common.
    #[error("the peer speaks protocol versions {} to {}, we speak {} to {}", found.min, found.max, expected.min, expected.max)]
    Protocol {
        /// Ours.
        expected: ProtocolRange,
        /// Its.
        found: ProtocolRange,
    },
    /// A proxy without a payment key, or somebody else with one.
    #[error("a {role} {}", if *.present { "has no payment key, but states one" } else { "has to prove its payment key" })]
    PaymentKey {
        /// The peer's role.
        role: Role,
        /// Whether there is one.
        present: bool,
    },
    /// The payment key's signature is wrong.
    #[error("the payment key {0} did not sign for this connection")]
    PaymentKeyProof(String),
    /// What is wrong with the GPU evidence.
    #[error(transparent)]
    Gpu(#[from] GpuFailure),
    /// Ours are refused.
    #[error("the peer refuses our claims: {0}")]
    RefusedByPeer(String),
}

/// Judges a statement whose signature was checked by [`Statement::open`].
///
/// `session` is what the peer must have said. `evidence` is what came as GPU evidence, `None` if none was asked for.
/// `now` is our clock, Unix seconds.
pub fn judge(
    statement: &Statement,
    session: &Session,
    own_protocol: ProtocolRange,
    expected: &Expected,
    evidence: Option<&[u8]>,
    now: u64,
) -> Result<VerifiedClaims, ClaimsError> {
    judge_session(&statement.session, session)?;
    if statement.time.abs_diff(now) > MAX_SKEW_SECONDS {
        return Err(ClaimsError::Time {
            found: statement.time,
            now,
        });
    }
    if !expected.roles.contains(&statement.role) {
        let names: Vec<String> = expected.roles.iter().map(ToString::to_string).collect();
        return Err(ClaimsError::Role {
            expected: names.join(" or "),
            found: statement.role,
        });
    }
    if statement.network != expected.network {
        return Err(ClaimsError::Network {
            expected: expected.network,
            found: statement.network,
        });
    }
    if statement.root != expected.root {
        return Err(ClaimsError::Root {
            expected: expected.root,
            found: statement.root,
        });
    }
    let theirs = statement.protocol;
    if theirs.max < own_protocol.min || own_protocol.max < theirs.min {
        return Err(ClaimsError::Protocol {
            expected: own_protocol,
            found: theirs,
        });
    }
    let payment_key = judge_payment_key(statement)?;
    let gpus = match (evidence, &expected.gpu) {
        (Some(bytes), Some(demand)) => {
            let found = (!bytes.is_empty()).then(|| Sha256::digest(bytes).into());
            if found != statement.gpu_digest {
                return Err(GpuFailure::Digest.into());
            }
            demand.appraise(bytes, &gpu::nonce_for_session(session), now)?
        }
        // Nobody saw what the digest is of.
        _ if statement.gpu_digest.is_some() => return Err(GpuFailure::Digest.into()),
        _ => Vec::new(),
    };
    Ok(VerifiedClaims {
        time: statement.time,
        role: statement.role,
        network: statement.network,
        root: statement.root,
        protocol: statement.protocol,
        encryption: statement.encryption.clone(),
        payment_key,
        gpus,
        gpu_digest: statement.gpu_digest,
    })
}

fn judge_session(found: &Session, expected: &Session) -> Result<(), ClaimsError> {
    if found.key == expected.peer_key {
        return Err(ClaimsError::Reflected);
    }
    if found.key != expected.key {
        return Err(ClaimsError::Key {
            expected: hex::encode(expected.key),
            found: hex::encode(found.key),
        });
    }
    if found.side != expected.side {
        return Err(ClaimsError::Side {
            expected: expected.side,
            found: found.side,
        });
    }
    if found.peer_key != expected.peer_key {
        return Err(ClaimsError::Audience);
    }
    if found.binding != expected.binding {
        return Err(ClaimsError::Binding);
    }
    if found.nonce != expected.nonce {
        return Err(ClaimsError::Nonce);
    }
    Ok(())
}

/// Proxies sign payments and nobody else does.
fn judge_payment_key(statement: &Statement) -> Result<Option<[u8; 32]>, ClaimsError> {
    let role = statement.role;
    match (&statement.payment_key, role == Role::Proxy) {
        (None, false) => Ok(None),
        (Some(proof), true) => {
            let sound = VerifyingKey::from_bytes(&proof.key).is_ok_and(|key| !key.is_weak());
            if sound && proof.is_proved(&statement.session) {
                Ok(Some(proof.key))
            } else {
                Err(ClaimsError::PaymentKeyProof(hex::encode(proof.key)))
            }
        }
        (found, _) => Err(ClaimsError::PaymentKey {
            role,
            present: found.is_some(),
        }),
    }
}
