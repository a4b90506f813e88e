//! The key manager: makes Ed25519 keys for proxies and for workers and hands them out to nodes whose image the root
//! configuration lists (protocol.md appendix B).
//!
//! What the reference meant and did not do (11 #53) is done here: expired keys are dropped and a new one is made when
//! none is left; the flags are stored as the scheme names them; an asker that knows a newer root configuration than
//! we do gets no answer from old lists. Beyond that a key is replaced [`ROTATE_AHEAD`] before its end, so that there
//! are two to move between, and the keys that an image could have fetched end when the image leaves the list.

mod asker;
mod core;
mod driver;
mod record;
mod types;

#[cfg(test)]
mod tests;

pub use asker::{FetchError, KeyAsker, ManagedKey, ManagedKeys};
pub use core::KeyManagerCore;
pub use driver::{KeyManagerHandle, KeyManagerOptions, start};
pub use record::RecordsError;
pub use types::{
    Audience, Done, KeyManagerConfig, KeyManagerEffect, KeyManagerEvent, LIFE, MAX_KEYS,
    MAX_WAITING, ROTATE_AHEAD,
};
