//! Where a node's contracts and coins are: on a TON network, or nowhere.
//!
//! Drivers ask here for everything that touches the chain, so that a network without one (protocol.md 9.4) runs the
//! same code: its watchers never report anything, and its cores never want a message sent.

use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::Policy;
use cocoon_ton::{AccountState, Address, Chain, TxInfo};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::warn;

use crate::common::NodeError;
use crate::root::RootView;
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

    fn root_address(&self) -> Address {
        match self {
            Settlement::OnChain { root, .. } => *root,
            Settlement::Assumed { root, .. } => root.address,
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
        let (root, mainnet) = match self {
            Settlement::OnChain { chain, root, .. } => {
                let view = chain_watch::read_root(chain.as_ref(), root)
                    .await
                    .map_err(|e| self.bad_root(e.to_string()))?;
                let network = chain.network().await?;
                (
                    view,
                    network.global_id == cocoon_ton::chain::MAINNET_GLOBAL_ID,
                )
            }
            Settlement::Assumed { root, .. } => {
                let (view, unread) = root.read().map_err(|e| NodeError::Config(e.to_string()))?;
                if !unread.is_empty() {
                    warn!(
                        "{}: these members mean nothing here and are ignored: {}",
                        root.path.display(),
                        unread.join(", ")
                    );
                }
                (view, false)
            }
        };
        if root.is_test() != is_test {
            return Err(NodeError::Config(format!(
                "the root configuration is for a {} network, this node is configured for a {} one (is_test)",
                kind(root.is_test()),
                kind(is_test)
            )));
        }
        for policy in policies {
            cocoon_attest::guard_network(policy, mainnet, root.is_test())
                .map_err(|e| NodeError::Config(e.to_string()))?;
        }
        Ok(root)
    }

    /// Without comparing image hashes nobody is checked against the root contract (threat G8): refused on mainnet, and
    /// said aloud elsewhere.
    pub async fn guard_hashes(&self, compared: bool) -> Result<(), NodeError> {
        if !compared {
            guard_uncompared(self.global_id().await?)?;
            warn!(
                "image and model hashes are not compared with the root contract: peers may run anything; for tests only"
            );
        }
        Ok(())
    }

    /// The network's global id; 0 without a chain.
    pub async fn global_id(&self) -> Result<i32, NodeError> {
        Ok(match self {
            Settlement::OnChain { chain, .. } => chain.network().await?.global_id,
            Settlement::Assumed { .. } => 0,
        })
    }

    /// The same error for whatever is wrong with the root contract.
    pub fn bad_root(&self, reason: String) -> NodeError {
        NodeError::Root {
            address: self.root_address().to_string(),
            reason,
        }
    }

    /// Follows the root configuration; only a higher version replaces the view.
    pub fn watch_root(&self, every: Duration, first: RootView) -> watch::Receiver<Arc<RootView>> {
        match self {
            Settlement::OnChain { chain, root, .. } => {
                chain_watch::watch_root(chain.clone(), *root, every, first)
            }
            Settlement::Assumed { root, .. } => watch_file(root.clone(), every, first),
        }
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

fn guard_uncompared(global_id: i32) -> Result<(), NodeError> {
    if global_id == cocoon_ton::chain::MAINNET_GLOBAL_ID {
        return Err(NodeError::Config(
            "hashes of images and models are not compared (check_hashes, check_proxy_hashes, check_worker_hashes), which no node on mainnet may do, not even in a test network: set it to true"
                .to_owned(),
        ));
    }
    Ok(())
}

fn kind(is_test: bool) -> &'static str {
    if is_test { "test" } else { "production" }
}

/// Follows the file; a version that is not higher, and a file that cannot be read, change nothing.
fn watch_file(
    file: StaticRoot,
    every: Duration,
    first: RootView,
) -> watch::Receiver<Arc<RootView>> {
    let mut version = first.version;
    let (sender, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        let mut trouble = None;
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = sleep(every) => {}
            }
            match file.read() {
                Ok((view, _)) => {
                    trouble = None;
                    if view.version > version {
                        version = view.version;
                        sender.send_replace(Arc::new(view));
                    }
                }
                Err(e) => {
                    let text = e.to_string();
                    if trouble.as_ref() != Some(&text) {
                        warn!("the root configuration stays as it was: {text}");
                        trouble = Some(text);
                    }
                }
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mainnet_has_no_switch_that_turns_hashes_off() {
        let error = guard_uncompared(-239).unwrap_err().to_string();
        assert!(
            error.contains("mainnet") && error.contains("check_proxy_hashes"),
            "{error}"
        );
        for test_network in [-3, 0, 1_000] {
            guard_uncompared(test_network).unwrap();
        }
    }
}
