//! A network that runs: what can make it stop, and how it is stopped.

use std::sync::Arc;
use std::time::Duration;

use cocoon_devnet::{Devnet, HEARTBEAT};
use cocoon_node::client::ClientHandle;
use cocoon_node::proxy::ProxyHandle;
use cocoon_node::wallet::WalletHandle;
use cocoon_node::worker::WorkerHandle;
use cocoon_ton::Chain;
use tokio::task::JoinHandle;

use crate::network::Network;

/// How long running requests may take to finish when the network stops.
const DRAIN: Duration = Duration::from_secs(10);
/// A chain without a block for this long stands still; it makes one every heartbeat.
const CHAIN_SILENCE: Duration = Duration::from_secs(4 * HEARTBEAT.as_secs());

/// Everything that runs.
pub struct Running {
    /// What `network.json` says.
    pub network: Network,
    /// The chain.
    pub devnet: Devnet,
    /// The nodes.
    pub proxy: Arc<ProxyHandle>,
    /// See [`Running::proxy`].
    pub worker: Arc<WorkerHandle>,
    /// See [`Running::proxy`].
    pub client: Arc<ClientHandle>,
    /// Their wallets and the faucet.
    pub wallets: Vec<WalletHandle>,
    /// Status pages and the chain's HTTP interface.
    pub pages: Vec<JoinHandle<()>>,
}

impl Running {
    /// The chain as nodes see it.
    pub fn chain(&self) -> &dyn Chain {
        &self.devnet
    }

    /// Waits until something stops by itself, and says what and why.
    pub async fn halted(&self) -> String {
        tokio::select! {
            reason = self.proxy.stopped() => format!("the proxy: {reason}"),
            reason = self.worker.stopped() => format!("the worker: {reason}"),
            reason = self.client.stopped() => format!("the client: {reason}"),
            reason = self.chain_silent() => reason,
        }
    }

    async fn chain_silent(&self) -> String {
        let mut heads = self.devnet.subscribe();
        loop {
            match tokio::time::timeout(CHAIN_SILENCE, heads.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return "the chain: its block thread ended".to_owned(),
                Err(_) => {
                    return format!(
                        "the chain: no block for {} s (is the disk full?)",
                        CHAIN_SILENCE.as_secs()
                    );
                }
            }
        }
    }

    /// Lets running requests finish, saves, and stops the chain. Takes at most a few seconds more than [`DRAIN`].
    pub async fn stop(self) {
        // In the order of a request's path: nobody loses the node behind him while he still needs it.
        let drain = async {
            self.client.drain().await;
            self.worker.drain().await;
            self.proxy.drain().await;
        };
        if tokio::time::timeout(DRAIN, drain).await.is_err() {
            tracing::warn!(
                "requests were still running after {} s and are broken off",
                DRAIN.as_secs()
            );
        }
        for page in &self.pages {
            page.abort();
        }
        // A message in flight is settled by the next start if it does not make it into this last moment.
        let close = async {
            for wallet in &self.wallets {
                wallet.close().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), close).await;
        let devnet = self.devnet.clone();
        let _ = tokio::task::spawn_blocking(move || devnet.shutdown()).await;
    }
}
