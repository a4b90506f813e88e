//! The three nodes of a local network, started with the settings of [`Settings`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::identity::CertificateMode;
use cocoon_attest::measurements::TdxMeasurements;
use cocoon_attest::{Policy, PolicyRules, TlsIdentity, unix_now};
use cocoon_engine::Backend;
use cocoon_ledger::NanoTon;
use cocoon_ledger::settle::Thresholds;
use cocoon_node::client::{self, ClientHandle, ClientOptions, ClientSettings};
use cocoon_node::proxy::{self, ProxyHandle, ProxyOptions, ProxySettings};
use cocoon_node::wallet::{WalletConfig, WalletHandle};
use cocoon_node::worker::{self, WorkerHandle, WorkerOptions, WorkerSettings};
use cocoon_node::{NodeError, Timing};
use cocoon_ton::abi::StateInit;
use cocoon_ton::{Address, Chain};
use ed25519_dalek::SigningKey;
use tokio::net::TcpListener;

use super::settings::Settings;
use crate::cli::Settle;
use crate::error::{CliError, Result};
use crate::keys::Keys;

/// Between looks of a node's wallet at its account; the chain is in this process.
const WALLET_POLL: Duration = Duration::from_millis(100);
/// Seconds without a request after which everything owed is settled on a local network.
const FAST_IDLE_S: u64 = 3;
/// Least amount worth a transaction on a local network while it idles: one token's price or so.
const FAST_IDLE: NanoTon = NanoTon(1);
/// The same while requests keep coming; a settlement costs about a hundredth of a TON.
const FAST_BUSY: NanoTon = NanoTon(100_000_000);

/// What all nodes share.
pub struct Common {
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// The root contract.
    pub root: Address,
    /// Poll intervals.
    pub timing: Timing,
}

/// The image hash of every fake_tdx node: all measurements are zero.
pub fn fake_image_hash() -> [u8; 32] {
    TdxMeasurements::fake([0; 64]).image_hash()
}

/// The policy towards proxy and worker: a fake quote for the listed image.
pub fn fake_policy() -> Policy {
    Policy::FakeTdx(PolicyRules {
        allowed_image_hashes: vec![fake_image_hash()],
        ..PolicyRules::default()
    })
}

/// Starts a node's wallet.
pub fn wallet(chain: &Arc<dyn Chain>, key: &SigningKey, init: &StateInit) -> WalletHandle {
    WalletHandle::spawn(
        chain.clone(),
        WalletConfig {
            key: key.clone(),
            init: init.clone(),
            min_balance: cocoon_ton::wallet::MIN_BALANCE,
            poll: WALLET_POLL,
        },
    )
}

fn identity(mode: CertificateMode) -> Result<TlsIdentity> {
    TlsIdentity::generate(mode, unix_now())
        .map_err(|e| CliError::new("cannot make a TLS certificate").found(e.to_string()))
}

fn fast_thresholds(closing: NanoTon) -> Thresholds {
    Thresholds {
        busy: FAST_BUSY,
        idle: FAST_IDLE,
        closing,
        idle_after_s: FAST_IDLE_S,
    }
}

fn proxy_settings(settle: Settle) -> ProxySettings {
    let mut settings = ProxySettings::default();
    if settle == Settle::Fast {
        settings.commit_interval_ms = 1000;
        settings.settle.charge = fast_thresholds(settings.settle.charge.closing);
        // Workers fetch their pay themselves; two payers would present the same total twice.
        // The revenue stays in the contract until it is worth the fee, as on the production network.
    }
    settings
}

fn worker_settings(settle: Settle) -> WorkerSettings {
    let mut settings = WorkerSettings::default();
    if settle == Settle::Fast {
        settings.settle.payout = fast_thresholds(settings.settle.payout.closing);
        settings.status_interval_ms = 1000;
        settings.review_interval_ms = 1000;
    }
    settings
}

fn client_settings(settle: Settle) -> ClientSettings {
    let mut settings = ClientSettings::default();
    if settle == Settle::Fast {
        settings.status_interval_ms = 1000;
    }
    settings
}

fn node_error(role: &str, error: &NodeError, dir: &Path) -> CliError {
    CliError::new(format!("the {role} does not start; nothing was deleted"))
        .expected(format!(
            "a {role} that starts with this network's chain, store and keys"
        ))
        .found(error.to_string())
        .hint(format!(
            "the log is {}",
            dir.join("logs/cocoon.log").display()
        ))
}

/// Starts the proxy; returns when it accepts links.
pub async fn start_proxy(
    common: &Common,
    keys: &Keys,
    settings: &Settings,
    dir: &Path,
    owner: Address,
    wallet: WalletHandle,
    listeners: (TcpListener, TcpListener),
) -> Result<ProxyHandle> {
    let (workers, clients) = listeners;
    let options = ProxyOptions {
        chain: common.chain.clone(),
        root: common.root,
        key: keys.proxy.clone(),
        owner,
        wallet,
        store: dir.join("nodes/proxy.redb"),
        identity: identity(CertificateMode::FakeTdx)?,
        workers,
        clients,
        workers_policy: fake_policy(),
        clients_policy: Policy::Any,
        pow_difficulty: settings.pow_difficulty,
        is_test: true,
        testnet: true,
        check_hashes: true,
        settings: proxy_settings(settings.settle),
        timing: common.timing,
    };
    proxy::start(options)
        .await
        .map_err(|e| node_error("proxy", &e, dir))
}

/// Starts the worker.
#[allow(clippy::too_many_arguments)]
pub async fn start_worker(
    common: &Common,
    keys: &Keys,
    settings: &Settings,
    dir: &Path,
    owner: Address,
    wallet: WalletHandle,
    model: String,
    backend: Arc<dyn Backend>,
) -> Result<WorkerHandle> {
    let options = WorkerOptions {
        chain: common.chain.clone(),
        root: common.root,
        owner,
        wallet,
        store: dir.join("nodes/worker.redb"),
        identity: identity(CertificateMode::FakeTdx)?,
        proxy_policy: fake_policy(),
        max_pow: cocoon_attest::pow::MAX_CLIENT_DIFFICULTY,
        model,
        coefficient: settings.coefficient,
        max_active_requests: u32::try_from(backend.max_active()).unwrap_or(u32::MAX),
        proxy_connections: 1,
        is_test: true,
        testnet: true,
        check_hashes: true,
        backend,
        store_key: keys.worker_store.clone(),
        settings: worker_settings(settings.settle),
        timing: common.timing,
    };
    worker::start(options)
        .await
        .map_err(|e| node_error("worker", &e, dir))
}

/// Starts the client; its endpoint answers at once, requests work as soon as the proxy is ready.
pub async fn start_client(
    common: &Common,
    keys: &Keys,
    settings: &Settings,
    dir: &Path,
    wallet: WalletHandle,
    http: TcpListener,
) -> Result<ClientHandle> {
    let options = ClientOptions {
        chain: common.chain.clone(),
        root: common.root,
        wallet,
        store: dir.join("nodes/client.redb"),
        store_key: keys.client_store.clone(),
        identity: identity(CertificateMode::None)?,
        proxy_policy: fake_policy(),
        max_pow: cocoon_attest::pow::MAX_CLIENT_DIFFICULTY,
        secret: keys.client_secret.to_vec(),
        http,
        proxy_connections: 1,
        is_test: true,
        testnet: true,
        check_hashes: true,
        settings: client_settings(settings.settle),
        timing: common.timing,
        api_keys: Vec::new(),
    };
    client::start(options)
        .await
        .map_err(|e| node_error("client", &e, dir))
}
