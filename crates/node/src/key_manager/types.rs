//! What goes into the key manager's core and what comes out of it.

use std::fmt;

use cocoon_attest::SecretKey;

use crate::link::{LinkEffect, LinkEvent};
use crate::root::RootView;
use crate::store::Change;

/// Life of a key, seconds (appendix B).
pub const LIFE: u64 = 86_400;
/// A role whose last key has less than this to live gets a new one, seconds. An asker that looks every hour has the
/// new key for five hours before the old one ends.
pub const ROTATE_AHEAD: u64 = 6 * 3600;
/// Keys up to which an operator may add some; rotation alone keeps four.
pub const MAX_KEYS: usize = 256;
/// Questions that wait for a key to be on disk.
pub const MAX_WAITING: usize = 1024;

/// Whom a key is for; at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience {
    /// Proxies get it.
    pub proxies: bool,
    /// Workers get it.
    pub workers: bool,
}

impl Audience {
    /// Proxies only.
    pub const PROXIES: Audience = Audience {
        proxies: true,
        workers: false,
    };
    /// Workers only.
    pub const WORKERS: Audience = Audience {
        proxies: false,
        workers: true,
    };
    /// Both.
    pub const BOTH: Audience = Audience {
        proxies: true,
        workers: true,
    };

    /// The reference's words for `/request/generatekey` (protocol.md 8.1).
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "proxy" => Some(Self::PROXIES),
            "worker" => Some(Self::WORKERS),
            "proxyworker" => Some(Self::BOTH),
            _ => None,
        }
    }

    /// Whether everybody of `other` gets it.
    pub fn covers(self, other: Audience) -> bool {
        (self.proxies || !other.proxies) && (self.workers || !other.workers)
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.proxies, self.workers) {
            (true, true) => "proxyworker",
            (true, false) => "proxy",
            _ => "worker",
        })
    }
}

/// How the key manager behaves.
#[derive(Clone, Copy, Debug)]
pub struct KeyManagerConfig {
    /// Compare image hashes of askers with the root's lists.
    pub check_hashes: bool,
}

/// Everything that can happen to a key manager.
#[derive(Debug)]
pub enum KeyManagerEvent {
    /// Something on a link to an asker.
    Link(LinkEvent),
    /// Time passed.
    Tick,
    /// The root configuration has a higher version.
    Root(Box<RootView>),
    /// The seed asked for with [`KeyManagerEffect::Draw`].
    Drawn {
        /// Number of the effect.
        draw: u64,
        /// 32 bytes from the system's random source.
        seed: SecretKey,
    },
    /// The operator wants a key.
    Generate {
        /// Reported back.
        ticket: u64,
        /// For whom.
        audience: Audience,
    },
    /// The operator wants a key to end.
    Remove {
        /// Reported back.
        ticket: u64,
        /// Its public key.
        public: [u8; 32],
    },
    /// The batch with this number is durable.
    Saved(u64),
    /// Stop.
    Drain,
}

/// The end of what an operator wanted; it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// A key with this public key was made.
    Generated([u8; 32]),
    /// The key is gone.
    Removed([u8; 32]),
    /// There is no such key.
    Unknown,
    /// There are [`MAX_KEYS`] already.
    Full,
}

/// Everything a key manager can want.
#[derive(Debug)]
pub enum KeyManagerEffect {
    /// Something on a link.
    Link(LinkEffect),
    /// Draw 32 random bytes, then report [`KeyManagerEvent::Drawn`].
    Draw {
        /// Reported back.
        draw: u64,
    },
    /// Write a batch durably, then report [`KeyManagerEvent::Saved`].
    Save {
        /// Number of the batch.
        number: u64,
        /// Its records.
        batch: Vec<Change>,
    },
    /// What the operator wanted has ended.
    Done {
        /// Ticket of the event.
        ticket: u64,
        /// How.
        done: Done,
    },
    /// There are keys for both roles on disk: askers may come.
    Ready,
    /// Everything is on disk after [`KeyManagerEvent::Drain`].
    Drained,
    /// Something an operator should see.
    Alarm(String),
}
