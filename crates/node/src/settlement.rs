//! Where a node's contracts and coins are: on a TON network, or nowhere.
//!
//! Drivers ask here for everything that touches the chain, so that a network without one (protocol.md 9.4) runs the
//! same code: its watchers never report anything, and its cores never want a message sent.

use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::Policy;
use cocoon_ton::{AccountState, Address, Chain, TxInfo};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::common::NodeError;
use crate::root::RootView;
use crate::root_source::RootSource;
use crate::static_root::StaticRoot;
use crate::wallet::{Outgoing, WalletHandle};
use crate::watch as chain_watch;

/// What a core may expect of contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ChainMode {
    /// They are read from a chain and change by messages.
    #[default]
    Live,
    /// There is no chain: contracts count as deployed and funded, commits as confirmed, and nothing is charged or
    /// paid (protocol.md 9.4).
    Assumed,
}

/// Where a node's contracts and coins are.
#[derive(Clone)]
pub enum Settlement {
    /// On a TON network.
    OnChain {
        /// The network.
        chain: Arc<dyn Chain>,
        /// The root contract.
        root: Address,
        /// The node's wallet.
        wallet: WalletHandle,
    },
    /// Nowhere; the root configuration stands in a file.
    Assumed {
        /// The file.
        root: StaticRoot,
        /// Address that the node's wallet would have: its identity towards peers.
        wallet: Address,
    },
}

impl Settlement {
    /// The node's wallet.
    pub fn wallet(&self) -> Address {
        match self {
            Settlement::OnChain { wallet, .. } => wallet.address(),
            Settlement::Assumed { wallet, .. } => *wallet,
        }
    }

    /// What cores may expect.
    pub fn mode(&self) -> ChainMode {
        match self {
            Settlement::OnChain { .. } => ChainMode::Live,
            Settlement::Assumed { .. } => ChainMode::Assumed,
        }
    }

    /// The chain, if there is one.
    pub fn chain(&self) -> Option<&Arc<dyn Chain>> {
        match self {
            Settlement::OnChain { chain, .. } => Some(chain),
            Settlement::Assumed { .. } => None,
        }
    }

    /// Where its root configuration stands.
    pub fn root_source(&self) -> RootSource {
        match self {
            Settlement::OnChain { chain, root, .. } => RootSource::OnChain {
                chain: chain.clone(),
                root: *root,
            },
            Settlement::Assumed { root, .. } => RootSource::Static(root.clone()),
        }
    }

    /// Reads the root configuration, and checks that this node and its policies may be in its network.
    ///
    /// `is_test` is the node's own setting; `policies` are those that fake evidence could pass.
    pub async fn read_root(
        &self,
        is_test: bool,
        policies: &[&Policy],
    ) -> Result<RootView, NodeError> {
        self.root_source().read(is_test, policies).await
    }

    /// See [`RootSource::guard_hashes`].
    pub async fn guard_hashes(&self, compared: bool) -> Result<(), NodeError> {
        self.root_source().guard_hashes(compared).await
    }

    /// The network's global id; 0 without a chain.
    pub async fn global_id(&self) -> Result<i32, NodeError> {
        self.root_source().global_id().await
    }

    /// The same error for whatever is wrong with the root contract.
    pub fn bad_root(&self, reason: String) -> NodeError {
        self.root_source().bad(reason)
    }

    /// Reads the root configuration once more; `None` where that fails now.
    pub async fn root_now(&self) -> Option<RootView> {
        match self {
            Settlement::OnChain { chain, root, .. } => {
                chain_watch::read_root(chain.as_ref(), root).await.ok()
            }
            Settlement::Assumed { root, .. } => root.read().ok().map(|(view, _)| view),
        }
    }

    /// Follows the root configuration; only a higher version replaces the view.
    pub fn watch_root(&self, every: Duration, first: RootView) -> watch::Receiver<Arc<RootView>> {
        self.root_source().watch(every, first)
    }

    /// Follows an account; without a chain nothing ever comes.
    pub fn watch_account(&self, address: Address, every: Duration) -> mpsc::Receiver<AccountState> {
        match self {
            Settlement::OnChain { chain, .. } => {
                chain_watch::watch_account(chain.clone(), address, every)
            }
            Settlement::Assumed { .. } => mpsc::channel(1).1,
        }
    }

    /// Follows an account's transactions; without a chain nothing ever comes.
    pub fn watch_transactions(
        &self,
        address: Address,
        after_lt: u64,
        every: Duration,
    ) -> mpsc::Receiver<Vec<TxInfo>> {
        match self {
            Settlement::OnChain { chain, .. } => {
                chain_watch::watch_transactions(chain.clone(), address, after_lt, every)
            }
            Settlement::Assumed { .. } => mpsc::channel(1).1,
        }
    }

    /// Has the wallet send a message, in a task of its own; reports the ticket and whether a transaction of the
    /// wallet carried it.
    pub fn transact(
        &self,
        ticket: u64,
        message: Outgoing,
        report: mpsc::UnboundedSender<(u64, bool)>,
    ) {
        let Settlement::OnChain { wallet, .. } = self else {
            // Cores in assumed mode want nothing sent; saying "done" would make them wait for an effect.
            warn!(
                "a message to {} was not sent: there is no chain",
                message.to
            );
            let _ = report.send((ticket, false));
            return;
        };
        let wallet = wallet.clone();
        tokio::spawn(async move {
            let to = message.to;
            let result = wallet.send(message).await;
            if let Err(e) = &result {
                warn!("a message to {to} was not sent: {e}");
            }
            let _ = report.send((ticket, result.is_ok()));
        });
    }
}
