//! Where a node reads the root configuration: the root contract, or a file.

use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::Policy;
use cocoon_ton::{Address, Chain};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

use crate::common::NodeError;
use crate::root::RootView;
use crate::static_root::StaticRoot;
use crate::watch as chain_watch;

/// A source of the root configuration.
#[derive(Clone)]
pub enum RootSource {
    /// A root contract.
    OnChain {
        /// The network.
        chain: Arc<dyn Chain>,
        /// The contract.
        root: Address,
    },
    /// A file (protocol.md 9.4).
    Static(StaticRoot),
}

impl RootSource {
    fn address(&self) -> Address {
        match self {
            RootSource::OnChain { root, .. } => *root,
            RootSource::Static(root) => root.address,
        }
    }

    /// Reads the root configuration, and checks that this node and its policies may be in its network.
    ///
    /// `is_test` is the node's own setting; `policies` are those that fake evidence could pass.
    pub async fn read(&self, is_test: bool, policies: &[&Policy]) -> Result<RootView, NodeError> {
        let (root, mainnet) = match self {
            RootSource::OnChain { chain, root } => {
                let view = chain_watch::read_root(chain.as_ref(), root)
                    .await
                    .map_err(|e| self.bad(e.to_string()))?;
                let network = chain.network().await?;
                (
                    view,
                    network.global_id == cocoon_ton::chain::MAINNET_GLOBAL_ID,
                )
            }
            RootSource::Static(root) => {
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
            RootSource::OnChain { chain, .. } => chain.network().await?.global_id,
            RootSource::Static(_) => 0,
        })
    }

    /// The same error for whatever is wrong with the root contract.
    pub fn bad(&self, reason: String) -> NodeError {
        NodeError::Root {
            address: self.address().to_string(),
            reason,
        }
    }

    /// Follows the root configuration; only a higher version replaces the view.
    pub fn watch(&self, every: Duration, first: RootView) -> watch::Receiver<Arc<RootView>> {
        match self {
            RootSource::OnChain { chain, root } => {
                chain_watch::watch_root(chain.clone(), *root, every, first)
            }
            RootSource::Static(root) => watch_file(root.clone(), every, first),
        }
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
