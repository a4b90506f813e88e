//! The three nodes of a local network: keys and ports of [`Settings`], everything else as any node starts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::Policy;
use cocoon_node::claims::ClaimsSettings;
use cocoon_node::client::ClientHandle;
use cocoon_node::proxy::{Entrance, ProxyHandle};
use cocoon_node::wallet::WalletHandle;
use cocoon_node::worker::WorkerHandle;
use cocoon_node::{Settlement, Timing};
use cocoon_ton::abi::StateInit;
use cocoon_ton::{Address, Chain};
use ed25519_dalek::SigningKey;
use tokio::net::TcpListener;

use super::settings::Settings;
use super::trust::Trust;
use crate::engine::Model;
use crate::error::Result;
use crate::keys::Keys;
use crate::nodes::observer::{Facts, Observer};
use crate::nodes::start::{
    self, ClientSetup, Common, Proof, ProxySetup, WorkerSetup, direct, direct_door,
};

/// Between looks of a node's wallet at its account; the chain is in this process.
const WALLET_POLL: Duration = Duration::from_millis(100);

/// What all nodes of a local network share.
pub struct Local<'a> {
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// The root contract.
    pub root: Address,
    /// Their keys.
    pub keys: &'a Keys,
    /// What the network was asked to be.
    pub settings: &'a Settings,
    /// How they attest each other.
    pub trust: &'a Trust,
    /// Data directory.
    pub dir: &'a Path,
}

/// Starts a node's wallet.
pub fn wallet(chain: &Arc<dyn Chain>, key: &SigningKey, init: &StateInit) -> WalletHandle {
    start::wallet(chain, key, init, WALLET_POLL)
}

impl Local<'_> {
    /// What operators see of proxy, worker and client, in this order.
    pub fn observers(
        &self,
        owners: [Address; 3],
        wallets: &[WalletHandle; 3],
        dir: &Path,
    ) -> [Arc<Observer>; 3] {
        let of = |at: usize, role: &'static str, check: &str| {
            let wallet = wallets[at].clone();
            let wallet_address = wallet.address().to_text(false, true);
            let mut local = serde_json::json!({
                "root_address": self.root.to_text(true, true),
                "owner_address": owners[at].to_text(false, true),
                "wallet_address": wallet_address,
                "check_hashes": true,
                "is_test": true,
                "attestation": self.trust.policy.type_name(),
            });
            local[check] = true.into();
            let facts = Facts {
                role,
                local,
                wallet_address,
                image_hash: match role {
                    "proxy" => Some(self.trust.proxy.image_hash),
                    "worker" => Some(self.trust.worker.image_hash),
                    _ => None,
                },
            };
            let settlement = self.common(wallet.clone()).settlement;
            Observer::new(facts, &settlement, Some(wallet), dir)
        };
        [
            of(0, "proxy", "check_worker_hashes"),
            of(1, "worker", "check_proxy_hash"),
            of(2, "client", "check_proxy_hash"),
        ]
    }

    fn common(&self, wallet: WalletHandle) -> Common {
        Common {
            settlement: Settlement::OnChain {
                chain: self.chain.clone(),
                root: self.root,
                wallet,
            },
            dir: self.dir.to_owned(),
            is_test: true,
            testnet: true,
            check_hashes: true,
            settle: self.settings.settle,
            timing: Timing::local(),
            claims: ClaimsSettings::default(),
        }
    }

    /// Starts the proxy; returns when it accepts links.
    pub async fn proxy(
        &self,
        owner: Address,
        wallet: WalletHandle,
        workers: TcpListener,
        clients: TcpListener,
    ) -> Result<ProxyHandle> {
        let pow = self.settings.pow_difficulty;
        let identity = start::identity(self.trust.proxy.proof.clone())?;
        let entrance = |listener, policy| {
            let door = direct_door(identity.clone(), policy, pow);
            Some(Entrance { listener, door })
        };
        let setup = ProxySetup {
            key: self.keys.proxy.clone(),
            owner,
            stake: self.settings.proxy_stake,
            workers: entrance(workers, self.trust.policy.clone()),
            clients: entrance(clients, Policy::Any),
        };
        start::start_proxy(self.common(wallet), setup).await
    }

    /// Starts the worker.
    pub async fn worker(
        &self,
        owner: Address,
        wallet: WalletHandle,
        model: &Model,
    ) -> Result<WorkerHandle> {
        let setup = WorkerSetup {
            owner,
            store_key: self.keys.worker_store.clone(),
            way: direct(
                start::identity(self.trust.worker.proof.clone())?,
                self.trust.policy.clone(),
            ),
            proxy_connections: 1,
            model: model.full_name.clone(),
            coefficient: self.settings.coefficient,
            max_active_requests: u32::try_from(model.backend.max_active()).unwrap_or(u32::MAX),
            backend: model.backend.clone(),
        };
        start::start_worker(self.common(wallet), setup).await
    }

    /// Starts the client; its endpoint answers at once, requests work as soon as the proxy is ready.
    pub async fn client(
        &self,
        wallet: WalletHandle,
        http: TcpListener,
        pages: axum::Router,
    ) -> Result<ClientHandle> {
        let setup = ClientSetup {
            secret: self.keys.client_secret.to_vec(),
            store_key: self.keys.client_store.clone(),
            way: direct(start::identity(Proof::Key)?, self.trust.policy.clone()),
            proxy_connections: 1,
            http,
            api_keys: Vec::new(),
            accept_exit_risk: self.settings.accept_exit_risk,
            pages: Some(pages),
        };
        start::start_client(self.common(wallet), setup).await
    }
}
