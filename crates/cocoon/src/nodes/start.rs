//! Starting a node: the one way for `cocoon up` and for nodes as programs of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::claims::HostGpus;
use cocoon_attest::identity::CertificateMode;
use cocoon_attest::measurements::TdxMeasurements;
use cocoon_attest::{IdentityError, Policy, PolicyRules, QuoteSource, TlsIdentity, unix_now};
use cocoon_engine::Backend;
use cocoon_ledger::NanoTon;
use cocoon_ledger::settle::Thresholds;
use cocoon_node::claims::ClaimsSettings;
use cocoon_node::client::{self, ClientHandle, ClientOptions, ClientSettings};
use cocoon_node::peers::{Door, IdentityCell, Way};
use cocoon_node::proxy::{self, Entrance, ProxyHandle, ProxyOptions, ProxySettings};
use cocoon_node::wallet::{WalletConfig, WalletHandle};
use cocoon_node::worker::{self, WorkerHandle, WorkerOptions, WorkerSettings};
use cocoon_node::{NodeError, Settlement, Timing};
use cocoon_ton::abi::StateInit;
use cocoon_ton::{Address, Chain};
use ed25519_dalek::SigningKey;
use tokio::net::TcpListener;

use crate::cli::Settle;
use crate::error::{CliError, Result};

/// Seconds without a request after which everything owed is settled on a local network.
const FAST_IDLE_S: u64 = 3;
/// Least amount worth a transaction on a local network while it idles: one token's price or so.
const FAST_IDLE: NanoTon = NanoTon(1);
/// The same while requests keep coming; a settlement costs about a hundredth of a TON.
const FAST_BUSY: NanoTon = NanoTon(100_000_000);

/// What every node needs.
pub struct Common {
    /// Where its contracts and coins are.
    pub settlement: Settlement,
    /// Data directory: the store is in `nodes/`, the log in `logs/`.
    pub dir: PathBuf,
    /// Must equal the root configuration's flag.
    pub is_test: bool,
    /// Testnet flag of addresses.
    pub testnet: bool,
    /// Compare image and model hashes with the root's lists.
    pub check_hashes: bool,
    /// When to go to the chain.
    pub settle: Settle,
    /// Poll intervals.
    pub timing: Timing,
    /// Signed claims of direct links.
    pub claims: ClaimsSettings,
}

/// What a proxy needs beside [`Common`].
pub struct ProxySetup {
    /// Signs payments; part of every contract address.
    pub key: SigningKey,
    /// Owner of the proxy contract.
    pub owner: Address,
    /// NanoTON of stake for new contracts, if not the usual.
    pub stake: Option<u128>,
    /// Where workers come in.
    pub workers: Option<Entrance>,
    /// Where clients come in.
    pub clients: Option<Entrance>,
}

/// What a worker needs beside [`Common`].
pub struct WorkerSetup {
    /// Gets the pay.
    pub owner: Address,
    /// Signs the store's records.
    pub store_key: SigningKey,
    /// How proxies are reached.
    pub way: Way,
    /// Proxies to keep connected.
    pub proxy_connections: u32,
    /// Full name of the model.
    pub model: String,
    /// Price factor in thousandths.
    pub coefficient: u32,
    /// Requests running at once.
    pub max_active_requests: u32,
    /// Computes.
    pub backend: Arc<dyn Backend>,
}

/// What a client needs beside [`Common`].
pub struct ClientSetup {
    /// Proves the client to proxies.
    pub secret: Vec<u8>,
    /// Signs the store's records.
    pub store_key: SigningKey,
    /// How proxies are reached.
    pub way: Way,
    /// Proxies to keep connected.
    pub proxy_connections: u32,
    /// Where callers connect.
    pub http: TcpListener,
    /// Keys that callers must show.
    pub api_keys: Vec<String>,
    /// Deposit also where the worst way out loses more than fees.
    pub accept_exit_risk: bool,
    /// The operator's pages beside the endpoint.
    pub pages: Option<axum::Router>,
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

/// What our own certificate proves.
#[derive(Clone)]
pub enum Proof {
    /// Possession of its key: clients, which nobody attests.
    Key,
    /// A fake quote, on test networks.
    Fake,
    /// A quote of the machine this runs in, for a fresh key.
    Quote(Arc<dyn QuoteSource>),
}

/// The proof of work asked of peers, in bits: the flag's, the file's, or the usual one.
pub fn difficulty(flag: Option<u8>, file: Option<u8>) -> Result<u8> {
    let bits = flag
        .or(file)
        .unwrap_or(cocoon_attest::pow::DEFAULT_DIFFICULTY);
    let most = cocoon_attest::pow::MAX_CLIENT_DIFFICULTY;
    if bits > most {
        return Err(
            CliError::usage("the proof of work is too hard (pow_difficulty)")
                .expected(format!("at most {most} bits, which peers still solve"))
                .found(bits.to_string()),
        );
    }
    Ok(bits)
}

/// A fresh TLS identity that renews itself. Blocks for a second where hardware signs.
pub fn identity(proof: Proof) -> Result<IdentityCell> {
    let plain = |mode| TlsIdentity::generate(mode, unix_now()).map(IdentityCell::new);
    let made = match proof {
        Proof::Key => plain(CertificateMode::None),
        Proof::Fake => plain(CertificateMode::FakeTdx),
        Proof::Quote(source) => IdentityCell::attested(source, unix_now()),
    };
    made.map_err(|e| {
        let error = CliError::new("cannot make a TLS certificate").found(e.to_string());
        match e {
            IdentityError::Quote(_) => error
                .hint("'cocoon attest host' shows what this machine offers and what is missing")
                .hint("a test network needs no quotes: set 'attestation' to \"fake_tdx\" there"),
            _ => error,
        }
    })
}

/// A way with RA-TLS in this process.
pub fn direct(identity: IdentityCell, policy: Policy) -> Way {
    Way::Direct {
        identity,
        policy,
        max_pow: cocoon_attest::pow::MAX_CLIENT_DIFFICULTY,
    }
}

/// A port with RA-TLS in this process.
pub fn direct_door(identity: IdentityCell, policy: Policy, pow_difficulty: u8) -> Door {
    Door::Direct {
        identity,
        policy,
        pow_difficulty,
    }
}

/// Starts a node's wallet, which looks at its account every `poll`.
pub fn wallet(
    chain: &Arc<dyn Chain>,
    key: &SigningKey,
    init: &StateInit,
    poll: Duration,
) -> WalletHandle {
    WalletHandle::spawn(
        chain.clone(),
        WalletConfig {
            key: key.clone(),
            init: init.clone(),
            min_balance: cocoon_ton::wallet::MIN_BALANCE,
            poll,
        },
    )
}

/// Where the store of a role is; its directory is made.
pub fn store(dir: &Path, role: &str) -> Result<PathBuf> {
    let stores = dir.join("nodes");
    std::fs::create_dir_all(&stores).map_err(|e| crate::fs::io_error("create", &stores, &e))?;
    Ok(stores.join(format!("{role}.redb")))
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

fn client_settings(settle: Settle, accept_exit_risk: bool) -> ClientSettings {
    let mut settings = ClientSettings {
        accept_exit_risk,
        ..ClientSettings::default()
    };
    if settle == Settle::Fast {
        settings.status_interval_ms = 1000;
    }
    settings
}

/// Why a node does not start, for people.
pub fn node_error(role: &str, error: &NodeError, dir: &Path) -> CliError {
    CliError::new(format!("the {role} does not start; nothing was deleted"))
        .expected(format!(
            "a {role} that starts with this network's root configuration, store and keys"
        ))
        .found(error.to_string())
        .hint(format!(
            "the log is {}",
            dir.join("logs/cocoon.log").display()
        ))
}

/// Starts the proxy; returns when it accepts links.
pub async fn start_proxy(common: Common, setup: ProxySetup) -> Result<ProxyHandle> {
    let dir = common.dir;
    let options = ProxyOptions {
        settlement: common.settlement,
        key: setup.key,
        owner: setup.owner,
        store: store(&dir, "proxy")?,
        workers: setup.workers,
        clients: setup.clients,
        is_test: common.is_test,
        testnet: common.testnet,
        check_hashes: common.check_hashes,
        settings: ProxySettings {
            stake: setup.stake,
            ..proxy_settings(common.settle)
        },
        timing: common.timing,
        claims: common.claims,
    };
    proxy::start(options)
        .await
        .map_err(|e| node_error("proxy", &e, &dir))
}

/// Starts the worker.
pub async fn start_worker(common: Common, setup: WorkerSetup) -> Result<WorkerHandle> {
    let dir = common.dir;
    let mut claims = common.claims;
    claims.gpu_source = tokio::task::spawn_blocking(HostGpus::present)
        .await
        .unwrap_or_default();
    let options = WorkerOptions {
        settlement: common.settlement,
        owner: setup.owner,
        store: store(&dir, "worker")?,
        way: setup.way,
        model: setup.model,
        coefficient: setup.coefficient,
        max_active_requests: setup.max_active_requests,
        proxy_connections: setup.proxy_connections,
        is_test: common.is_test,
        testnet: common.testnet,
        check_hashes: common.check_hashes,
        backend: setup.backend,
        store_key: setup.store_key,
        settings: worker_settings(common.settle),
        timing: common.timing,
        claims,
    };
    worker::start(options)
        .await
        .map_err(|e| node_error("worker", &e, &dir))
}

/// Starts the client; its endpoint answers at once, requests work as soon as a proxy is ready.
pub async fn start_client(common: Common, setup: ClientSetup) -> Result<ClientHandle> {
    let dir = common.dir;
    let options = ClientOptions {
        settlement: common.settlement,
        store: store(&dir, "client")?,
        store_key: setup.store_key,
        way: setup.way,
        secret: setup.secret,
        http: setup.http,
        proxy_connections: setup.proxy_connections,
        is_test: common.is_test,
        testnet: common.testnet,
        check_hashes: common.check_hashes,
        settings: client_settings(common.settle, setup.accept_exit_risk),
        timing: common.timing,
        claims: common.claims,
        api_keys: setup.api_keys,
        pages: setup.pages,
    };
    client::start(options)
        .await
        .map_err(|e| node_error("client", &e, &dir))
}
