//! The proof of work that precedes TLS (spec section 3), without any I/O.

use sha2::{Digest, Sha256};

/// Difficulty a server asks by default: about a million hashes, 0.1 to 1 s of one core.
pub const DEFAULT_DIFFICULTY: u8 = 20;
/// Highest difficulty a client solves by default (the reference's limit). A malicious server can cost a client
/// 2^28 hashes a connection, so the work also has a deadline; see `AttestError::Timeout`.
pub const MAX_CLIENT_DIFFICULTY: u8 = 28;
/// Highest difficulty that means anything: the rule counts bits of a 64-bit number.
pub const MAX_DIFFICULTY: u8 = 64;
/// Bytes of a challenge.
pub const CHALLENGE_LEN: usize = 24;
/// Bytes of a response.
pub const RESPONSE_LEN: usize = 12;

const CHALLENGE_MAGIC: [u8; 4] = [0x91, 0x12, 0x8e, 0x41];
const RESPONSE_MAGIC: [u8; 4] = [0x19, 0x73, 0x82, 0x01];
/// How many nonces are tried between two looks at the stop signal: about 0.1 ms of work.
const STOP_CHECK_INTERVAL: u64 = 1_024;
/// A search gives up after 2^(difficulty + 6) nonces; an honest hash needs that many with probability e^-64.
const EXTRA_BITS: u32 = 6;

/// Why a proof of work failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PowError {
    /// The first four bytes are not a challenge's: the other side is no Cocoon server.
    #[error(
        "the peer did not open with a proof-of-work challenge (it sent {found:02x?}): is it a Cocoon node?"
    )]
    NotAChallenge {
        /// What came instead of the magic.
        found: [u8; 4],
    },
    /// The first four bytes are not a response's.
    #[error(
        "the peer answered the challenge with {found:02x?}, which is no proof-of-work response"
    )]
    NotAResponse {
        /// What came instead of the magic.
        found: [u8; 4],
    },
    /// The server asks for more than the client is willing to do.
    #[error("the server asks for proof-of-work difficulty {asked}, more than the maximum of {max}")]
    TooDifficult {
        /// The server's difficulty.
        asked: i32,
        /// Our limit.
        max: u8,
    },
    /// A response without the work.
    #[error("the peer's proof of work has {found} zero bits, {required} are required")]
    NotEnoughWork {
        /// Bits found.
        found: u32,
        /// Bits asked.
        required: i32,
    },
    /// Our own configuration asks for the impossible.
    #[error("proof-of-work difficulty {0} is out of range: 0 to 64 can be configured")]
    DifficultyOutOfRange(u8),
    /// The search was told to stop, or tried absurdly many nonces.
    #[error("the search for a proof of work was stopped after {tried} nonces")]
    Stopped {
        /// Nonces tried.
        tried: u64,
    },
}

/// What a server asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    /// Leading zero bits asked; signed on the wire, and 0 or less accepts anything.
    pub difficulty: i32,
    /// Fresh for every connection.
    pub salt: [u8; 16],
}

impl Challenge {
    /// A challenge with a random salt.
    pub fn random(difficulty: u8) -> Result<Self, PowError> {
        if difficulty > MAX_DIFFICULTY {
            return Err(PowError::DifficultyOutOfRange(difficulty));
        }
        Ok(Challenge {
            difficulty: i32::from(difficulty),
            salt: rand::random(),
        })
    }

    /// The 24 bytes a server sends.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; CHALLENGE_LEN] {
        let mut out = [0; CHALLENGE_LEN];
        out[..4].copy_from_slice(&CHALLENGE_MAGIC);
        out[4..8].copy_from_slice(&self.difficulty.to_le_bytes());
        out[8..].copy_from_slice(&self.salt);
        out
    }

    /// Reads a server's 24 bytes.
    pub fn from_bytes(bytes: &[u8; CHALLENGE_LEN]) -> Result<Self, PowError> {
        let (magic, rest) = split4(bytes);
        if magic != CHALLENGE_MAGIC {
            return Err(PowError::NotAChallenge { found: magic });
        }
        let (difficulty, rest) = split4(rest);
        let mut salt = [0; 16];
        salt.copy_from_slice(rest);
        Ok(Challenge {
            difficulty: i32::from_le_bytes(difficulty),
            salt,
        })
    }

    /// Zero bits a nonce reaches: leading zeros of the first eight hash bytes read as *little-endian*, so they are
    /// counted from the top of the eighth byte.
    #[must_use]
    pub fn bits(&self, nonce: i64) -> u32 {
        let mut input = [0; 24];
        input[..16].copy_from_slice(&self.salt);
        input[16..].copy_from_slice(&nonce.to_le_bytes());
        let hash: [u8; 32] = Sha256::digest(input).into();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        u64::from_le_bytes(first).leading_zeros()
    }

    /// Checks a nonce.
    pub fn verify(&self, nonce: i64) -> Result<(), PowError> {
        let found = self.bits(nonce);
        if i64::from(found) >= i64::from(self.difficulty) {
            Ok(())
        } else {
            Err(PowError::NotEnoughWork {
                found,
                required: self.difficulty,
            })
        }
    }

    /// Finds the first valid nonce, trying 0, 1, 2, …; `stopped` is asked now and then whether to give up.
    pub fn solve(&self, max_difficulty: u8, stopped: impl Fn() -> bool) -> Result<i64, PowError> {
        self.check_difficulty(max_difficulty)?;
        let attempts = 1u64 << (self.difficulty.max(0) as u32 + EXTRA_BITS).min(62);
        for nonce in 0..attempts {
            if nonce % STOP_CHECK_INTERVAL == 0 && stopped() {
                return Err(PowError::Stopped { tried: nonce });
            }
            if self.verify(nonce as i64).is_ok() {
                return Ok(nonce as i64);
            }
        }
        Err(PowError::Stopped { tried: attempts })
    }

    /// Refuses a challenge that asks for more than `max_difficulty`.
    pub fn check_difficulty(&self, max_difficulty: u8) -> Result<(), PowError> {
        if self.difficulty > i32::from(max_difficulty) {
            return Err(PowError::TooDifficult {
                asked: self.difficulty,
                max: max_difficulty,
            });
        }
        Ok(())
    }
}

/// The 12 bytes a client sends.
#[must_use]
pub fn response_to_bytes(nonce: i64) -> [u8; RESPONSE_LEN] {
    let mut out = [0; RESPONSE_LEN];
    out[..4].copy_from_slice(&RESPONSE_MAGIC);
    out[4..].copy_from_slice(&nonce.to_le_bytes());
    out
}

/// Reads the nonce of a client's 12 bytes.
pub fn response_from_bytes(bytes: &[u8; RESPONSE_LEN]) -> Result<i64, PowError> {
    let (magic, rest) = split4(bytes);
    if magic != RESPONSE_MAGIC {
        return Err(PowError::NotAResponse { found: magic });
    }
    let mut nonce = [0; 8];
    nonce.copy_from_slice(rest);
    Ok(i64::from_le_bytes(nonce))
}

fn split4(bytes: &[u8]) -> ([u8; 4], &[u8]) {
    let (head, rest) = bytes.split_at(4);
    ([head[0], head[1], head[2], head[3]], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_can_be_stopped() {
        let challenge = Challenge::random(64).unwrap();
        assert_eq!(
            challenge.solve(64, || true),
            Err(PowError::Stopped { tried: 0 })
        );
    }

    #[test]
    fn too_difficult_is_refused_before_any_work() {
        let challenge = Challenge {
            difficulty: 29,
            salt: [0; 16],
        };
        let error = challenge
            .solve(28, || panic!("no work should start"))
            .unwrap_err();
        assert_eq!(error, PowError::TooDifficult { asked: 29, max: 28 });
    }

    #[test]
    fn zero_and_negative_difficulty_take_nonce_zero() {
        for difficulty in [0, -1, i32::MIN] {
            let challenge = Challenge {
                difficulty,
                salt: [3; 16],
            };
            assert_eq!(challenge.solve(28, || false), Ok(0));
        }
    }

    #[test]
    fn impossible_difficulty_cannot_be_configured() {
        assert_eq!(
            Challenge::random(65),
            Err(PowError::DifficultyOutOfRange(65))
        );
    }
}
