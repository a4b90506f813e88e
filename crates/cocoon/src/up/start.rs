//! Starting a network, step by step.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cocoon_node::root::model_hash;
use cocoon_ton::Chain;
use cocoon_ton::abi::StateInit;
use cocoon_ton::amount::NANO_PER_TON;
use ed25519_dalek::SigningKey;

use super::chain::{GLOBAL_ID, empty_queue, guard, open_chain, serve_chain};
use super::founding::{self, Founder, Funded, Registry};
use super::identity::{identity, owner_wallets, public};
use super::nodes::{self, Local};
use super::ports::Ports;
use super::progress::Progress;
use super::running::Running;
use super::settings::Settings;
use super::trust::Trust;
use crate::contracts::Contracts;
use crate::datadir::DataDir;
use crate::engine::spawn_model;
use crate::error::{CliError, Result};
use crate::http::Http;
use crate::network::{ChainInfo, ClientInfo, Network, Prices, ProxyInfo, WorkerInfo};
use crate::nodes::deploy::default_stake;
use crate::nodes::life::Node;
use crate::nodes::pages;

/// Everything that is not done by then will not be done.
const READY_TIMEOUT: Duration = Duration::from_secs(180);
/// Between looks at the nodes.
const LOOK: Duration = Duration::from_millis(50);

/// Starts everything and returns when a request would be answered.
pub async fn start(
    data: &mut DataDir,
    settings: &Settings,
    trust: &Trust,
    progress: &Progress,
    started: Instant,
) -> Result<Running> {
    if trust.policy.is_fake() {
        progress.note(
            "attestation: fake_tdx. This local network is for development and is NOT confidential.",
        );
    }
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
    let model = spawn_model(
        settings.engine.clone(),
        settings.model_name.clone(),
        layout.models(),
    );
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
        .proxy(
            &root,
            founding.proxy_owner,
            public(&keys.proxy),
            settings.proxy_stake.unwrap_or_else(|| default_stake(&root)),
        )
        .await?;

    progress.step("loading the model");
    let model = model
        .await
        .map_err(|e| CliError::new("loading the model failed").found(e.to_string()))??;
    let registry = Registry {
        model_full_name: model.full_name.clone(),
        worker_image: trust.worker.image_hash,
        proxy_image: trust.proxy.image_hash,
        worker_rpc_port: ports.worker_rpc.number,
        client_rpc_port: ports.client_rpc.number,
    };
    let root = founder.register(root.address, &registry).await?;

    if let Some(owner) = settings.worker_owner {
        founding.worker_owner = owner;
    }
    let dir = layout.path();
    let local = Local {
        chain: chain.clone(),
        root: root.address,
        keys: &keys,
        settings,
        trust,
        dir,
    };
    let wallets = [
        nodes::wallet(&chain, &keys.proxy_wallet, &proxy_wallet),
        nodes::wallet(&chain, &keys.worker_wallet, &worker_wallet),
        nodes::wallet(&chain, &keys.client_wallet, &client_wallet),
    ];
    progress.step("starting the proxy");
    let [for_proxy, for_worker, for_client] = wallets.clone();
    let (for_workers, for_clients) = (ports.worker_rpc.listener, ports.client_rpc.listener);
    let proxy = local
        .proxy(founding.proxy_owner, for_proxy, for_workers, for_clients)
        .await?;
    let proxy = Arc::new(proxy);
    progress.step("starting the worker and the client");
    let worker = local.worker(founding.worker_owner, for_worker, &model);
    let owners = [
        founding.proxy_owner,
        founding.worker_owner,
        founding.client_owner,
    ];
    let observers = local.observers(owners, &wallets, &layout.nodes());
    let beside = pages::beside(observers[2].clone(), None);
    let client = local.client(for_client, ports.client.listener, beside);
    let (worker, client) = tokio::try_join!(worker, client)?;
    let (worker, client) = (Arc::new(worker), Arc::new(client));
    observers[0].attach(Node::Proxy(proxy.clone()));
    observers[1].attach(Node::Worker(worker.clone()));
    observers[2].attach(Node::Client(client.clone()));
    if let Some(collector) = &settings.collector {
        pages.extend(observers.iter().map(|o| collector.export(o.clone())));
    }
    let [of_proxy, of_worker, _] = observers;
    pages.push(pages::serve(ports.proxy.listener, of_proxy, None));
    pages.push(pages::serve(ports.worker.listener, of_worker, None));

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
        attestation: trust.policy.type_name().to_owned(),
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

fn absolute(path: &Path) -> String {
    std::path::absolute(path)
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string()
}

/// Waits until the client is ready and the endpoint lists the model.
async fn wait_ready(running: &Running) -> Result<()> {
    let http = Http::default();
    let url = format!("{}/models", running.network.client.openai_base_url);
    let listed = async {
        loop {
            let stats = running.client.stats().await;
            if let Some(reason) = stats["deposit_refused"].as_str() {
                return Some(reason.to_owned());
            }
            if running.client.ready()
                && let Ok(answer) = http.get(&url).await
                && answer.json["data"].as_array().is_some_and(|models| {
                    models
                        .iter()
                        .any(|m| m["id"] == running.network.model.as_str())
                })
            {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let logs = format!("{}/logs/cocoon.log", running.network.data_dir);
    tokio::select! {
        refused = listed => match refused {
            None => Ok(()),
            Some(reason) => Err(CliError::new("the client makes no deposit; nothing was deleted")
                .expected("a proxy whose stake covers the deposit if the proxy dies")
                .found(reason)
                .hint("give it more with --proxy-stake TON, or leave the flag out")
                .hint("to deposit all the same, start with --accept-exit-risk")),
        },
        reason = running.halted() => Err(CliError::new("a node stopped while the network started; nothing was deleted")
            .found(reason)
            .hint(format!("the log is {logs}"))),
        () = tokio::time::sleep(READY_TIMEOUT) => Err(CliError::new("the network did not become ready")
            .expected(format!("the model {} at {url} within {} s", running.network.model, READY_TIMEOUT.as_secs()))
            .found(format!("client ready: {}", running.client.ready()))
            .hint(format!("the log is {logs}"))),
    }
}
