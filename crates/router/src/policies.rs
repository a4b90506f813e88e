//! The named policies of a running router; they can be replaced while connections live.

use std::collections::BTreeMap;
use std::sync::Arc;

use cocoon_attest::{PeerIdentity, Policy, PolicyRefusal};
use tokio::sync::watch;

/// Policies by name.
pub type Policies = BTreeMap<String, Policy>;

/// Shared by all connections. When it changes, each of them judges its peer again.
#[derive(Debug, Clone)]
pub struct PolicyBook {
    current: watch::Sender<Arc<Policies>>,
}

/// Why a peer that was accepted is not any longer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLonger {
    /// The policy's name is gone.
    #[error("policy {0:?} was removed")]
    Removed(String),
    /// The policy refuses the peer now.
    #[error("{0}")]
    Refused(#[from] PolicyRefusal),
}

impl PolicyBook {
    /// A book with these policies.
    #[must_use]
    pub fn new(policies: Policies) -> Self {
        PolicyBook {
            current: watch::Sender::new(Arc::new(policies)),
        }
    }

    /// The policy of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Policy> {
        self.current.borrow().get(name).cloned()
    }

    /// Replaces all policies. Connections whose peers are refused by the new ones are closed within seconds.
    pub fn replace(&self, policies: Policies) {
        self.current.send_replace(Arc::new(policies));
    }

    /// Wakes up when the policies are replaced.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<Policies>> {
        self.current.subscribe()
    }

    /// Judges the peer of a living connection again.
    pub fn recheck(&self, name: &str, peer: &PeerIdentity) -> Result<(), NoLonger> {
        let policy = self
            .get(name)
            .ok_or_else(|| NoLonger::Removed(name.to_owned()))?;
        Ok(peer.recheck(&policy)?)
    }
}
