//! Starting a network, step by step.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cocoon_devnet::{Devnet, DevnetConfig, DevnetError, GenesisAccount};
use cocoon_engine::upstream::UpstreamOptions;
use cocoon_engine::{Backend, EmbeddedEngine, EngineOptions, HttpUpstream};
use cocoon_node::Timing;
use cocoon_node::root::{RootView, model_hash};
use cocoon_ton::abi::StateInit;
use cocoon_ton::amount::NANO_PER_TON;
use cocoon_ton::chain::MAINNET_GLOBAL_ID;
use cocoon_ton::{Address, Chain, boc};
use ed25519_dalek::SigningKey;

use super::founding::{self, Founder, Funded, GENESIS_COINS, OWNER_COINS, Registry};
use super::nodes::{self, Common};
use super::pages::{self, Stats};
use super::ports::Ports;
use super::progress::Progress;
use super::running::Running;
use super::settings::{Engine, Settings};
use crate::contracts::Contracts;
use crate::datadir::{DataDir, Founding, Layout};
use crate::error::{CliError, Result};
use crate::fs::io_error;
use crate::http::Http;
use crate::keys::{self, Keys, Missing};
use crate::model;
use crate::network::{ChainInfo, ClientInfo, Network, Prices, ProxyInfo, WorkerInfo};

/// Global id of local networks: "c0c00" twelve bits up. No public network uses it.
pub const GLOBAL_ID: i32 = 0x0c_0c00;
/// Everything that is not done by then will not be done.
const READY_TIMEOUT: Duration = Duration::from_secs(180);
/// Messages in flight arrive within a few blocks.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between looks at the nodes.
const LOOK: Duration = Duration::from_millis(50);

/// A backend with the names of its model.
struct Model {
    backend: Arc<dyn Backend>,
    name: String,
    full_name: String,
}

/// Starts everything and returns when a request would be answered.
pub async fn start(
    data: &mut DataDir,
    settings: &Settings,
    progress: &Progress,
    started: Instant,
) -> Result<Running> {
    progress.note(
        "attestation: fake_tdx. This local network is for development and is NOT confidential.",
    );
    let layout = data.layout().clone();
    let ports = Ports::bind(settings.ports)?;
    let mut contracts = Contracts::load()?;
    if let Some(founding) = data.founding() {
        contracts = contracts.of_network(&founding.wallet_code)?;
    }

    progress.step("reading the keys");
    let (keys, mut founding, root_init) = identity(data, settings, &contracts).await?;
    let faucet = contracts.wallet(public(&keys.faucet), None)?;

    progress.step("opening the chain");
    let devnet = open_chain(&layout, &faucet, data.founding().is_some()).await?;
    if data.founding().is_none() {
        data.set_founding(founding.clone())?;
    }
    empty_queue(&devnet).await;
    let model = spawn_model(settings, &layout);
    let chain: Arc<dyn Chain> = Arc::new(devnet.clone());
    let mut pages = vec![serve_chain(&devnet, ports.chain.listener)];

    // From here on everything is read from the chain: a start that was cut short is completed now.
    let wallet_of = |key: &SigningKey, owner| contracts.wallet(public(key), Some(owner));
    let proxy_wallet = wallet_of(&keys.proxy_wallet, founding.proxy_owner)?;
    let worker_wallet = wallet_of(&keys.worker_wallet, founding.worker_owner)?;
    let client_wallet = wallet_of(&keys.client_wallet, founding.client_owner)?;
    let founder = Founder {
        chain: chain.clone(),
        faucet: nodes::wallet(&chain, &keys.faucet, &faucet),
        progress: progress.clone(),
    };
    let root = founder.root(&root_init).await?;
    founding::check_prices(settings, &root)?;
    guard(chain.as_ref(), &root).await?;
    let node_wallet = |name, init: &StateInit, ton: u128| Funded {
        name,
        init: init.clone(),
        coins: ton * NANO_PER_TON,
        deploy: false,
    };
    let mut funded = vec![
        node_wallet("proxy", &proxy_wallet, 200),
        node_wallet("worker", &worker_wallet, 100),
        node_wallet("client", &client_wallet, 500),
    ];
    funded.extend(owner_wallets(&layout, &contracts, &founding).await?);
    founder.fund(&funded).await?;
    let proxy_contract = founder
        .proxy(&root, founding.proxy_owner, public(&keys.proxy))
        .await?;

    progress.step("loading the model");
    let model = model
        .await
        .map_err(|e| CliError::new("loading the model failed").found(e.to_string()))??;
    let registry = Registry {
        model_full_name: model.full_name.clone(),
        image_hash: nodes::fake_image_hash(),
        worker_rpc_port: ports.worker_rpc.number,
        client_rpc_port: ports.client_rpc.number,
    };
    let root = founder.register(root.address, &registry).await?;

    if let Some(owner) = settings.worker_owner {
        founding.worker_owner = owner;
    }
    let dir = layout.path();
    std::fs::create_dir_all(layout.nodes()).map_err(|e| io_error("create", &layout.nodes(), &e))?;
    let common = Common {
        chain: chain.clone(),
        root: root.address,
        timing: Timing::local(),
    };
    let wallets = [
        nodes::wallet(&chain, &keys.proxy_wallet, &proxy_wallet),
        nodes::wallet(&chain, &keys.worker_wallet, &worker_wallet),
        nodes::wallet(&chain, &keys.client_wallet, &client_wallet),
    ];
    progress.step("starting the proxy");
    let [for_proxy, for_worker, for_client] = wallets.clone();
    let listeners = (ports.worker_rpc.listener, ports.client_rpc.listener);
    let proxy = nodes::start_proxy(
        &common,
        &keys,
        settings,
        dir,
        founding.proxy_owner,
        for_proxy,
        listeners,
    )
    .await?;
    let proxy = Arc::new(proxy);
    progress.step("starting the worker and the client");
    let worker = nodes::start_worker(
        &common,
        &keys,
        settings,
        dir,
        founding.worker_owner,
        for_worker,
        model.full_name.clone(),
        model.backend,
    );
    let client = nodes::start_client(
        &common,
        &keys,
        settings,
        dir,
        for_client,
        ports.client.listener,
    );
    let (worker, client) = tokio::try_join!(worker, client)?;
    let (worker, client) = (Arc::new(worker), Arc::new(client));
    pages.push(pages::serve(
        ports.proxy.listener,
        "proxy",
        stats_of(&proxy, |p| async move { p.stats().await }),
    ));
    pages.push(pages::serve(
        ports.worker.listener,
        "worker",
        stats_of(&worker, |w| async move { w.stats().await }),
    ));

    let pid = std::process::id();
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let contract = |init: Result<StateInit, cocoon_ton::abi::AbiError>| {
        init.map(|init| init.address)
            .map_err(|e| CliError::new("cannot compute a contract address").found(e.to_string()))
    };
    let key = public(&keys.proxy);
    let network = Network {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid,
        ready_at: 0,
        startup_ms: 0,
        data_dir: absolute(dir),
        attestation: "fake_tdx".to_owned(),
        confidential: false,
        model: model.name.clone(),
        model_hash: hex::encode(model_hash(&model.full_name)),
        model_full_name: model.full_name,
        client: ClientInfo {
            port: ports.client.number,
            url: url(ports.client.number),
            openai_base_url: format!("{}/v1", url(ports.client.number)),
            pid,
            wallet: client_wallet.address,
            owner: founding.client_owner,
            contract: contract(root.client_contract(
                proxy_contract.address,
                key,
                client_wallet.address,
            ))?,
        },
        proxy: ProxyInfo {
            port: ports.proxy.number,
            url: url(ports.proxy.number),
            worker_rpc_port: ports.worker_rpc.number,
            client_rpc_port: ports.client_rpc.number,
            pid,
            wallet: proxy_wallet.address,
            owner: founding.proxy_owner,
            contract: proxy_contract.address,
            public_key: hex::encode(key),
        },
        worker: WorkerInfo {
            port: ports.worker.number,
            url: url(ports.worker.number),
            pid,
            wallet: worker_wallet.address,
            owner: founding.worker_owner,
            contract: contract(root.worker_contract(
                proxy_contract.address,
                key,
                founding.worker_owner,
            ))?,
            coefficient: settings.coefficient,
        },
        chain: ChainInfo {
            port: ports.chain.number,
            url: url(ports.chain.number),
            global_id: GLOBAL_ID,
            root: root.address,
            faucet: faucet.address,
        },
        prices: Prices {
            price_per_token: root.params.price_per_token,
            worker_fee_per_token: root.params.worker_fee_per_token,
            prompt_multiplier: root.params.prompt_multiplier,
            cached_multiplier: root.params.cached_multiplier,
            completion_multiplier: root.params.completion_multiplier,
            reasoning_multiplier: root.params.reasoning_multiplier,
        },
    };
    let mut running = Running {
        network,
        devnet,
        proxy,
        worker,
        client,
        wallets: [wallets.to_vec(), vec![founder.faucet]].concat(),
        pages,
    };
    progress.step("waiting until the client has its contract and sees the model");
    wait_ready(&running).await?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    running.network.ready_at = now.as_secs();
    running.network.startup_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    running.network.write(&layout)?;
    Ok(running)
}

fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path)
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string()
}

/// Keys and owners: made on the first start, the same ever after.
async fn identity(
    data: &DataDir,
    settings: &Settings,
    contracts: &Contracts,
) -> Result<(Keys, Founding, StateInit)> {
    let dir = data.layout().keys();
    let missing = if data.founding().is_some() {
        Missing::Refuse
    } else {
        Missing::Create
    };
    keys::create_dir(&dir)?;
    let keys = Keys::load(&dir, missing)?;
    let owner = match &settings.owner_words {
        Some(path) => Some(owner_address(contracts, keys::read_mnemonic(path)?).await?),
        None => None,
    };
    if let Some(founding) = data.founding() {
        if let Some(owner) = owner
            && owner != founding.proxy_owner
        {
            return Err(CliError::usage(
                "the owner does not fit the network in this data directory; nothing was changed",
            )
            .expected(format!(
                "the words of {}",
                founding.proxy_owner.to_text(false, true)
            ))
            .found(format!("those of {}", owner.to_text(false, true)))
            .hint(
                "leave --owner-mnemonic-file out, or found another network with --data-dir DIR",
            ));
        }
        let root_init = founding::saved_root(founding)?;
        return Ok((keys, founding.clone(), root_init));
    }
    let [proxy_owner, worker_owner, client_owner] = match owner {
        Some(owner) => [owner; 3],
        None => {
            let mut owners = [Address::default(); 3];
            for (place, file) in owners.iter_mut().zip(OWNER_FILES) {
                *place = owner_address(contracts, keys::words(&dir, file, missing)?).await?;
            }
            owners
        }
    };
    let governor = contracts.wallet(public(&keys.faucet), None)?.address;
    let unique_id = rand::random();
    let root_init = founding::new_root(contracts, settings, governor, unique_id)?;
    let founding = Founding {
        root: root_init.address,
        root_init: hex::encode(boc::encode(&root_init.cell)),
        wallet_code: hex::encode(boc::encode(&contracts.wallet)),
        proxy_owner,
        worker_owner,
        client_owner,
    };
    Ok((keys, founding, root_init))
}

/// Words of the owners' wallets, made unless the owner brings his own.
const OWNER_FILES: [&str; 3] = [
    "proxy-owner.words",
    "worker-owner.words",
    "client-owner.words",
];

/// The wallet of 24 words. Deriving the key takes a moment of pure computing.
async fn owner_address(
    contracts: &Contracts,
    mnemonic: cocoon_ton::mnemonic::Mnemonic,
) -> Result<Address> {
    let key = tokio::task::spawn_blocking(move || mnemonic.to_keypair())
        .await
        .map_err(|e| CliError::new("cannot derive a key").found(e.to_string()))?;
    Ok(contracts.wallet(public(&key), None)?.address)
}

/// The wallets of owners that were made here; deployed with coins, so that they can act at once.
async fn owner_wallets(
    layout: &Layout,
    contracts: &Contracts,
    founding: &Founding,
) -> Result<Vec<Funded>> {
    let owners = [
        founding.proxy_owner,
        founding.worker_owner,
        founding.client_owner,
    ];
    let names = ["proxy owner's", "worker owner's", "client owner's"];
    let mut wallets = Vec::new();
    for ((address, name), file) in owners.into_iter().zip(names).zip(OWNER_FILES) {
        // A marker beside the words saves every later start the derivation of the key.
        let path = layout.keys().join(file);
        let marker = layout.keys().join(format!("{file}.public"));
        if !path.exists() {
            continue;
        }
        let known = crate::fs::read_small(&marker)?
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| hex::decode(text.trim()).ok())
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = match known {
            Some(key) => key,
            None => {
                let mnemonic = keys::read_mnemonic(&path)?;
                let key = tokio::task::spawn_blocking(move || mnemonic.to_keypair())
                    .await
                    .map_err(|e| CliError::new("cannot derive a key").found(e.to_string()))?;
                let key = public(&key);
                crate::fs::write_atomic(
                    &marker,
                    hex::encode(key).as_bytes(),
                    crate::fs::PUBLIC_MODE,
                )?;
                key
            }
        };
        let init = contracts.wallet(key, None)?;
        // Words that were put there by hand belong to another wallet.
        if init.address == address {
            wallets.push(Funded {
                name,
                init,
                coins: OWNER_COINS,
                deploy: true,
            });
        }
    }
    Ok(wallets)
}

async fn open_chain(layout: &Layout, faucet: &StateInit, founded: bool) -> Result<Devnet> {
    let dir = layout.chain();
    let store = dir.join("chain.redb");
    if founded && !store.exists() {
        return Err(
            CliError::new("the chain of this network is missing; nothing was changed")
                .expected(format!("the chain's store {}", store.display()))
                .found("no such file")
                .hint("restore it from a copy; a new chain would know none of this network's coins")
                .hint("or found another network with --data-dir DIR"),
        );
    }
    let config = DevnetConfig {
        genesis: vec![GenesisAccount {
            address: faucet.address,
            balance: GENESIS_COINS,
            state_init: Some(faucet.cell.clone()),
        }],
        global_id: GLOBAL_ID,
        ..DevnetConfig::default()
    };
    tokio::task::spawn_blocking(move || Devnet::open(&dir, config))
        .await
        .map_err(|e| CliError::new("opening the chain failed").found(e.to_string()))?
        .map_err(chain_error)
}

/// Waits until messages that were in flight when the process before was killed have arrived: looking before that would
/// show something as missing that is on its way, and it would be done twice.
async fn empty_queue(devnet: &Devnet) {
    let mut heads = devnet.subscribe();
    let empty =
        async { while devnet.total_coins().in_queues > 0 && heads.changed().await.is_ok() {} };
    // A message to the far future does not exist here, so a longer wait means that the chain has other trouble.
    let _ = tokio::time::timeout(QUEUE_TIMEOUT, empty).await;
}

/// The chain's own words are complete; a hint points to the way out.
fn chain_error(error: DevnetError) -> CliError {
    let failure =
        CliError::new("the chain does not open; nothing was deleted").found(error.to_string());
    match error {
        DevnetError::Corrupted { .. } | DevnetError::Foreign { .. } => failure
            .expected("a sound chain store of this network")
            .hint("restore the file from a copy, or found another network with --data-dir DIR"),
        DevnetError::Version { expected, .. } => failure
            .expected(format!("a chain store of format {expected}"))
            .hint("use the version that wrote it, or found another network with --data-dir DIR"),
        DevnetError::Network { expected, .. } => failure
            .expected(format!("a chain with the global id {expected}"))
            .hint("choose another --data-dir"),
        _ => failure,
    }
}

fn serve_chain(devnet: &Devnet, listener: tokio::net::TcpListener) -> tokio::task::JoinHandle<()> {
    let devnet = devnet.clone();
    tokio::spawn(async move {
        if let Err(e) = devnet.serve_http(listener).await {
            tracing::error!("the chain's HTTP interface ended: {e}");
        }
    })
}

/// fake_tdx proves nothing, so it is refused wherever real money or a real network is at stake.
async fn guard(chain: &dyn Chain, root: &RootView) -> Result<()> {
    let network = chain
        .network()
        .await
        .map_err(|e| CliError::new("the chain does not answer").found(e.to_string()))?;
    let mainnet = network.global_id == MAINNET_GLOBAL_ID;
    cocoon_attest::guard_network(&nodes::fake_policy(), mainnet, root.is_test())
        .map_err(|e| CliError::new("this network is refused").found(e.to_string()))
}

fn spawn_model(settings: &Settings, layout: &Layout) -> tokio::task::JoinHandle<Result<Model>> {
    let (engine, name, models) = (
        settings.engine.clone(),
        settings.model_name.clone(),
        layout.models(),
    );
    tokio::spawn(async move {
        match engine {
            Engine::Upstream(url) => upstream(&url, name).await,
            Engine::Shipped | Engine::Directory(_) => {
                tokio::task::spawn_blocking(move || embedded(engine, name, &models))
                    .await
                    .map_err(|e| CliError::new("loading the model failed").found(e.to_string()))?
            }
        }
    })
}

fn embedded(engine: Engine, name: Option<String>, models: &Path) -> Result<Model> {
    let dir = match engine {
        Engine::Directory(dir) => dir,
        _ => model::unpack_shipped(models)?,
    };
    let name = match name {
        Some(name) => name,
        None => model::base_name(&dir)?,
    };
    model::check_name(&name)?;
    let full_name = model::full_name(&name, &dir)?;
    let options = EngineOptions {
        name: Some(name.clone()),
        ..EngineOptions::default()
    };
    let engine = EmbeddedEngine::load(&dir, options).map_err(|e| {
        CliError::new("the model cannot be loaded; nothing was changed")
            .expected("a Llama- or Qwen-shaped model in Hugging Face layout")
            .found(e.to_string())
            .hint("check --model, or leave it out for the tiny model inside this program")
    })?;
    Ok(Model {
        backend: Arc::new(engine),
        name,
        full_name,
    })
}

async fn upstream(url: &str, name: Option<String>) -> Result<Model> {
    let upstream = HttpUpstream::new(url, UpstreamOptions::default())
        .map_err(|e| CliError::usage("cannot use --upstream").found(e.to_string()))?;
    let failure = |found: String| {
        CliError::new(format!("the upstream {url} cannot be used"))
            .expected("an OpenAI-compatible server that lists its models at /v1/models")
            .found(found)
            .hint("start it first, and check --upstream")
    };
    let models = upstream.discover().await.map_err(failure)?;
    let offered: Vec<&str> = models.iter().map(|m| m.id.as_str()).collect();
    let name = match (name, offered.as_slice()) {
        (Some(name), _) if offered.contains(&name.as_str()) => name,
        (None, [only]) => (*only).to_owned(),
        (None, []) => return Err(failure("an empty list of models".to_owned())),
        (wanted, _) => {
            let wanted = wanted.map_or_else(
                || "several models".to_owned(),
                |name| format!("no model {name:?}"),
            );
            return Err(
                failure(format!("{wanted}; it offers {}", offered.join(", ")))
                    .hint("choose one of them with --model-name"),
            );
        }
    };
    model::check_name(&name)?;
    // Nothing is known of what really runs there, so the full name is the base name alone.
    let full_name = name.clone();
    Ok(Model {
        backend: Arc::new(upstream),
        name,
        full_name,
    })
}

fn stats_of<T, F, Fut>(node: &Arc<T>, read: F) -> Stats
where
    T: Send + Sync + 'static,
    F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = serde_json::Value> + Send + 'static,
{
    let node = node.clone();
    Arc::new(move || Box::pin(read(node.clone())))
}

/// Waits until the client is ready and the endpoint lists the model.
async fn wait_ready(running: &Running) -> Result<()> {
    let http = Http::default();
    let url = format!("{}/models", running.network.client.openai_base_url);
    let listed = async {
        loop {
            if running.client.ready()
                && let Ok(answer) = http.get(&url).await
                && answer.json["data"].as_array().is_some_and(|models| {
                    models
                        .iter()
                        .any(|m| m["id"] == running.network.model.as_str())
                })
            {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let logs = format!("{}/logs/cocoon.log", running.network.data_dir);
    tokio::select! {
        () = listed => Ok(()),
        reason = running.halted() => Err(CliError::new("a node stopped while the network started; nothing was deleted")
            .found(reason)
            .hint(format!("the log is {logs}"))),
        () = tokio::time::sleep(READY_TIMEOUT) => Err(CliError::new("the network did not become ready")
            .expected(format!("the model {} at {url} within {} s", running.network.model, READY_TIMEOUT.as_secs()))
            .found(format!("client ready: {}", running.client.ready()))
            .hint(format!("the log is {logs}"))),
    }
}
