//! How the nodes of a local network attest each other.

use cocoon_attest::Policy;

use crate::nodes::start::{Proof, fake_image_hash, fake_policy};

/// What one node shows.
pub struct Shown {
    /// What its certificate proves.
    pub proof: Proof,
    /// Its image, for the root contract's list.
    pub image_hash: [u8; 32],
}

/// What proxy and worker show, and what is demanded of them.
///
/// `cocoon up` knows the fake alone: this machine's owner could read everything anyhow. Tests put a software TDX here.
pub struct Trust {
    /// Demanded of the proxy by everybody, and of workers by the proxy.
    pub policy: Policy,
    /// The proxy.
    pub proxy: Shown,
    /// The worker.
    pub worker: Shown,
}

impl Trust {
    /// Fake quotes, which prove nothing.
    pub fn fake() -> Self {
        let shown = || Shown {
            proof: Proof::Fake,
            image_hash: fake_image_hash(),
        };
        Trust {
            policy: fake_policy(),
            proxy: shown(),
            worker: shown(),
        }
    }
}
