//! Keys sealed to exactly this machine, by a helper enclave on the same processor (spec 7).
//!
//! TDX cannot seal, SGX can. A trust domain shows its report to a helper, which checks that the report was made on this
//! processor, derives a key from its own sealing key and the domain's measurements, and sends it back encrypted to a
//! key of this one exchange, with a quote of itself over both. Change the image, its configuration, the TDX module or
//! the processor, and every key is another one.
//!
//! * [`report`]: the fields of a TD report;
//! * [`message`]: the two messages and their frame;
//! * [`mod@derive`]: the arithmetic of both sides;
//! * [`client`]: the domain's side, which believes a helper only after [`crate::evidence::sgx`] has judged it;
//! * [`enclave`]: the helper's side without the processor's instructions, for a helper of ours and for tests.

pub mod client;
pub mod derive;
pub mod enclave;
pub mod message;
pub mod report;

pub use client::{HelperAddress, SealedKeys, SealingClient, SealingError};
pub use message::MessageError;
pub use report::{ReportError, TdReport};

use crate::keys::SecretKey;
use zeroize::Zeroizing;

/// The key of every name on an image in debug mode (spec 7.6): known to everybody.
pub const DEBUG_KEY: [u8; 32] = *b"cococooncococooncococooncococoon";

/// Whether a key protects nothing: the constant of debug images, or zeros.
#[must_use]
pub fn is_public_constant(key: &SecretKey) -> bool {
    *key.expose() == DEBUG_KEY || *key.expose() == [0; 32]
}

/// [`DEBUG_KEY`], for a debug image on a test network; everywhere else it is refused.
pub fn debug_key(is_test: bool) -> Result<SecretKey, SealingError> {
    if is_test {
        Ok(SecretKey::new(Zeroizing::new(DEBUG_KEY)))
    } else {
        Err(SealingError::DebugKey)
    }
}
