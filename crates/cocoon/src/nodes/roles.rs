//! `cocoon client`, `cocoon proxy` and `cocoon worker`: from flags and file to a running node.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use cocoon_attest::Policy;
use cocoon_engine::HttpUpstream;
use cocoon_engine::upstream::UpstreamOptions;
use cocoon_node::peers::Door;
use cocoon_node::proxy::Entrance;
use cocoon_node::root::base_model;
use serde_json::json;

use super::base::{Base, ConfigFile, Plan, listen};
use super::chain::Source;
use super::config::{self, WorkerFile};
use super::deploy::Deployment;
use super::keyring::{TOKEN_FILE, api_keys};
use super::life::{self, Node, Started};
use super::observer::{Facts, Observer};
use super::pages::{self, Operator};
use super::start::{self, ClientSetup, ProxySetup, WorkerSetup, direct_door};
use crate::cli::{ClientArgs, Global, ProxyArgs, WorkerArgs};
use crate::engine::{Engine, Model, spawn_model};
use crate::error::{CliError, Result};
use crate::model;

/// Runs `cocoon client`.
pub async fn client(args: &ClientArgs, global: &Global) -> Result<ExitCode> {
    let file = ConfigFile::read(global, "client")?;
    let (conf, unread) = config::client(file.text()).map_err(|e| file.wrong(&e))?;
    if args.node.http_port.unwrap_or(conf.shared.http_port) == 0 {
        return Err(
            CliError::usage("a client without an endpoint serves nobody")
                .expected("'http_port' in the configuration, or --http-port, such as 10000"),
        );
    }
    let start = async {
        let plan = Plan {
            role: "client",
            file,
            shared: conf.shared,
            unread,
            data_dir: None,
        };
        let base = plan.open(&args.node, global).await?;
        let keys = match &args.api_keys_file {
            Some(path) => api_keys(path)?,
            None => Vec::new(),
        };
        let open = !base.http_listen.is_loopback() && keys.is_empty();
        let (port, http) = base.http()?.ok_or_else(|| CliError::new("no endpoint"))?;
        let way = base.way(args.router.as_deref(), conf.router.as_deref())?;
        let observer = observer(&base, None);
        let (operator, token) = operator(&base)?;
        let setup = ClientSetup {
            secret: base
                .keyring
                .text(conf.secret, "client-secret.key")?
                .as_bytes()
                .to_vec(),
            store_key: base.keyring.key(None, "store.key")?,
            way,
            proxy_connections: conf.proxy_connections,
            http,
            api_keys: keys,
            accept_exit_risk: args.accept_exit_risk,
            pages: Some(pages::beside(observer.clone(), Some(operator))),
        };
        let node = Node::Client(Arc::new(start::start_client(base.common(), setup).await?));
        observer.attach(node.clone());
        if open {
            tracing::warn!(
                "the endpoint listens on {} and asks nobody for a key: whoever reaches it spends this client's deposit (--api-keys-file)",
                base.http_listen
            );
        }
        let url = url_of(base.http_listen, port);
        let wallet = base.settlement.wallet().to_text(false, base.shared.testnet);
        let mut screen = heading(&base);
        let _ = writeln!(
            screen,
            "  Endpoint   {url}/v1   (OpenAI-compatible; ready when {url}/health says so)"
        );
        let _ = writeln!(screen, "  Wallet     {wallet}");
        let _ = writeln!(
            screen,
            "  Status     {url}/stats   (changes need the token: {token})"
        );
        Ok(Started {
            node,
            wallet: base.wallet.clone(),
            pages: export(&base, &observer),
            url: Some(url.clone()),
            ready: json!({"http_port": port, "url": url, "openai_base_url": format!("{url}/v1"), "wallet": wallet}),
            screen,
            base,
        })
    };
    life::run(&args.node, start).await
}

/// Runs `cocoon proxy`.
pub async fn proxy(args: &ProxyArgs, global: &Global) -> Result<ExitCode> {
    let file = ConfigFile::read(global, "proxy")?;
    let (mut conf, unread) = config::proxy(file.text()).map_err(|e| file.wrong(&e))?;
    conf.direct |= args.direct;
    conf.workers_port = args.workers_rpc_port.unwrap_or(conf.workers_port);
    conf.clients_port = args.client_rpc_port.unwrap_or(conf.clients_port);
    let ip = args.listen.or(conf.listen).unwrap_or(Ipv4Addr::LOCALHOST);
    if !conf.direct && ip != Ipv4Addr::LOCALHOST {
        return Err(
            CliError::usage("a proxy behind a router listens on 127.0.0.1 only")
                .expected("no 'listen', or 'direct' (--direct) to attest peers in this process")
                .found(format!(
                    "listen on {ip}: whoever reaches that port could claim any identity"
                )),
        );
    }
    let pow = start::difficulty(args.pow_difficulty, conf.pow_difficulty)?;
    let stake = args.stake.as_deref().map(parse_stake).transpose()?;
    let start = async {
        let plan = Plan {
            role: "proxy",
            file,
            shared: conf.shared,
            unread,
            data_dir: conf.db_path.map(Into::into),
        };
        let base = plan.open(&args.node, global).await?;
        let identity = conf.direct.then(|| base.identity()).transpose()?;
        let entrance = |port: u16, what: &str, policy: Policy| -> Result<Option<Entrance>> {
            if port == 0 {
                return Ok(None);
            }
            let door = match &identity {
                Some(identity) => direct_door(identity.clone(), policy, pow),
                None => Door::Router {
                    allow_fake: base.shared.is_test,
                    user: base.shared.router_uid,
                },
            };
            let listener = listen(ip, port, what)?;
            Ok(Some(Entrance { listener, door }))
        };
        let workers = entrance(conf.workers_port, "workers_rpc_port", base.policy()?)?;
        let clients = entrance(conf.clients_port, "client_rpc_port", Policy::Any)?;
        let http = base.http()?;
        let setup = ProxySetup {
            key: base.keyring.key(conf.payment_key.as_ref(), "payment.key")?,
            owner: base.shared.owner,
            stake,
            workers,
            clients,
        };
        let key = setup.key.verifying_key().to_bytes();
        deploy(&base, key, stake).await?;
        let public_key = hex::encode(key);
        let handle = Arc::new(start::start_proxy(base.common(), setup).await?);
        let contract = handle.contract().to_text(false, base.shared.testnet);
        let wallet = base.settlement.wallet().to_text(false, base.shared.testnet);
        let mut screen = heading(&base);
        let how = if conf.direct {
            "attested here"
        } else {
            "behind a router"
        };
        let _ = writeln!(screen, "  Workers    {ip}:{} ({how})", conf.workers_port);
        let _ = writeln!(screen, "  Clients    {ip}:{} ({how})", conf.clients_port);
        let _ = writeln!(screen, "  Contract   {contract}");
        let _ = writeln!(screen, "  Wallet     {wallet}");
        let node = Node::Proxy(handle);
        let observer = observer(&base, conf.image_hash);
        observer.attach(node.clone());
        let (pages, url) = serve_pages(&base, http, &observer, &mut screen)?;
        Ok(Started {
            node,
            wallet: base.wallet.clone(),
            pages,
            url,
            ready: json!({
                "http_port": base.shared.http_port, "workers_rpc_port": conf.workers_port,
                "client_rpc_port": conf.clients_port, "contract": contract, "public_key": public_key, "wallet": wallet,
            }),
            screen,
            base,
        })
    };
    life::run(&args.node, start).await
}

fn parse_stake(text: &str) -> Result<u128> {
    cocoon_ton::amount::parse_ton(text).map_err(|e| {
        CliError::usage("cannot read --stake")
            .expected("an amount such as 40 or \"1000 nanoTON\"")
            .found(e.to_string())
    })
}

/// Where there is a chain, the proxy's contract must be on it.
async fn deploy(base: &Base, key: [u8; 32], stake: Option<u128>) -> Result<()> {
    let (Some(chain), Some(wallet)) = (base.settlement.chain(), &base.wallet) else {
        return Ok(());
    };
    let root = base.root().await?;
    let deployment = Deployment {
        chain: chain.as_ref(),
        wallet,
        root: &root,
        owner: base.shared.owner,
        key,
        stake,
    };
    deployment.run().await
}

/// Runs `cocoon worker`.
pub async fn worker(args: &WorkerArgs, global: &Global) -> Result<ExitCode> {
    let file = ConfigFile::read(global, "worker")?;
    let (mut conf, unread) = config::worker(file.text()).map_err(|e| file.wrong(&e))?;
    if let Some(wanted) = args.coefficient {
        conf.coefficient = Some(wanted);
    }
    if let Some(name) = &conf.model_name {
        model::check_name(base_model(name))?;
    }
    if let Some(dir) = &args.model {
        model::check_dir(dir)?;
    }
    let start = async {
        let shared = std::mem::replace(&mut conf.shared, config::Shared::nobody());
        let plan = Plan {
            role: "worker",
            file,
            shared,
            unread,
            data_dir: None,
        };
        let base = plan.open(&args.node, global).await?;
        let model = backend(args, &conf, &base).await?;
        check_listed(&base, &conf).await?;
        let http = base.http()?;
        let way = base.way(args.router.as_deref(), conf.router.as_deref())?;
        let coefficient = conf.coefficient.unwrap_or(DEFAULT_COEFFICIENT);
        let setup = WorkerSetup {
            owner: base.shared.owner,
            store_key: base.keyring.key(None, "store.key")?,
            way,
            proxy_connections: conf.proxy_connections,
            model: model.full_name.clone(),
            coefficient,
            // More than the engine works on at a time would only wait there.
            max_active_requests: conf
                .max_active_requests
                .min(u32::try_from(model.backend.max_active()).unwrap_or(u32::MAX)),
            backend: model.backend,
        };
        let handle = Arc::new(start::start_worker(base.common(), setup).await?);
        let owner = base.shared.owner.to_text(false, base.shared.testnet);
        let mut screen = heading(&base);
        let _ = writeln!(screen, "  Model      {}", model.full_name);
        let _ = writeln!(
            screen,
            "  Price      factor {:.3}, paid to {owner}",
            f64::from(coefficient) / 1000.0
        );
        let node = Node::Worker(handle);
        let observer = observer(&base, conf.image_hash);
        observer.attach(node.clone());
        let (pages, url) = serve_pages(&base, http, &observer, &mut screen)?;
        Ok(Started {
            node,
            wallet: base.wallet.clone(),
            pages,
            url,
            ready: json!({
                "http_port": base.shared.http_port, "model": model.name, "model_full_name": model.full_name,
                "coefficient": coefficient, "owner": owner,
            }),
            screen,
            base,
        })
    };
    life::run(&args.node, start).await
}

/// A price factor of 1, where the file names none: the reference's 0 would work for nothing.
const DEFAULT_COEFFICIENT: u32 = 1000;

/// The flag's backend, the file's, or the model inside this program.
async fn backend(args: &WorkerArgs, conf: &WorkerFile, base: &Base) -> Result<Model> {
    let forward = conf.forward_to.as_ref().map(|to| format!("http://{to}"));
    let url = match (&args.upstream, &args.model) {
        (Some(url), _) => Some(url.clone()),
        (None, Some(_)) => None,
        (None, None) => forward,
    };
    if let (Some(url), Some(full_name)) = (&url, &conf.model_name) {
        // It may start later than this worker: the probe opens the worker as soon as it answers.
        let options = UpstreamOptions {
            max_active: conf.max_active_requests as usize,
            ..UpstreamOptions::default()
        };
        let upstream = HttpUpstream::new(url, options).map_err(|e| {
            CliError::usage("cannot use the inference server (--upstream, forward_requests_to)")
                .expected("http://HOST:PORT as the flag, HOST:PORT in the configuration")
                .found(e.to_string())
        })?;
        return Ok(Model {
            backend: Arc::new(upstream),
            name: base_model(full_name).to_owned(),
            full_name: full_name.clone(),
        });
    }
    let engine = match (url, &args.model) {
        (Some(url), _) => Engine::Upstream(url),
        (None, Some(dir)) => Engine::Directory(dir.clone()),
        (None, None) => Engine::Shipped,
    };
    let name = conf.model_name.as_deref().map(|n| base_model(n).to_owned());
    let mut model = spawn_model(engine, name, base.data.layout().models())
        .await
        .map_err(|e| CliError::new("loading the model failed").found(e.to_string()))??;
    if let Some(full_name) = &conf.model_name {
        model.full_name.clone_from(full_name);
    }
    Ok(model)
}

/// A worker whose own image is not on the list would be refused by every proxy (protocol.md 9.2, image_hash).
async fn check_listed(base: &Base, conf: &WorkerFile) -> Result<()> {
    let (Some(hash), true) = (conf.image_hash, base.shared.check_hashes) else {
        return Ok(());
    };
    let root = base.root().await?;
    if root.worker_hashes.contains(&hash) {
        return Ok(());
    }
    Err(
        CliError::new("this worker's image is not allowed by the root configuration")
            .expected("an 'image_hash' that stands among its worker_hashes")
            .found(hex::encode(hash)),
    )
}

fn heading(base: &Base) -> String {
    let seconds = base.began.elapsed().as_secs_f64();
    let source = match &base.source {
        Source::Static(path) => format!(
            "static root configuration {} (no chain: nothing is charged or paid)",
            path.display()
        ),
        Source::Toncenter(url) => format!("chain {url}"),
    };
    let mut out = format!(
        "\nThe {} is ready after {seconds:.1} s.\n\n  Network    {source}\n",
        base.role
    );
    if base.shared.is_test {
        out.push_str(
            "  Attention  test mode: evidence may be fake, nothing here is confidential\n",
        );
    }
    out
}

/// What the observer of a node is told of it.
fn observer(base: &Base, image_hash: Option<[u8; 32]>) -> Arc<Observer> {
    // The reference's names (protocol.md 8.5).
    let text =
        |address: cocoon_ton::Address, bounceable| address.to_text(bounceable, base.shared.testnet);
    let wallet_address = text(base.settlement.wallet(), false);
    let check = match base.role {
        "proxy" => "check_worker_hashes",
        _ => "check_proxy_hash",
    };
    let mut local = json!({
        "root_address": text(base.shared.root, true),
        "owner_address": text(base.shared.owner, false),
        "wallet_address": wallet_address,
        "check_hashes": base.shared.check_hashes,
        "is_test": base.shared.is_test,
        "chain": base.source.text(),
        "attestation": base.shared.attestation,
    });
    local[check] = json!(base.shared.check_hashes);
    let facts = Facts {
        role: base.role,
        local,
        wallet_address,
        // Every node with fake evidence shows the same image.
        image_hash: image_hash.or_else(|| base.shared.is_test.then(start::fake_image_hash)),
    };
    Observer::new(
        facts,
        &base.settlement,
        base.wallet.clone(),
        &base.data.layout().nodes(),
    )
}

/// Who may change things, and where the token stands.
fn operator(base: &Base) -> Result<(Operator, String)> {
    let configured = base.shared.http_token.is_some();
    let operator = Operator {
        token: base.keyring.token(base.shared.http_token.clone())?,
        // Beyond this machine figures are nobody's business.
        guard_reading: configured || !base.http_listen.is_loopback(),
    };
    let place = if configured {
        "http_access_hash".to_owned()
    } else {
        let path = base.data.layout().keys().join(TOKEN_FILE);
        path.display().to_string()
    };
    Ok((operator, place))
}

/// Serves the pages of a node that has no HTTP of its own; returns their URL.
fn serve_pages(
    base: &Base,
    http: Option<(u16, tokio::net::TcpListener)>,
    observer: &Arc<Observer>,
    screen: &mut String,
) -> Result<(Vec<tokio::task::JoinHandle<()>>, Option<String>)> {
    let mut tasks = export(base, observer);
    let Some((port, listener)) = http else {
        return Ok((tasks, None));
    };
    let (operator, token) = operator(base)?;
    let url = url_of(base.http_listen, port);
    let _ = writeln!(
        screen,
        "  Status     {url}/stats   (changes need the token: {token})"
    );
    tasks.push(pages::serve(listener, observer.clone(), Some(operator)));
    Ok((tasks, Some(url)))
}

/// Delivers spans, if there is a collector.
fn export(base: &Base, observer: &Arc<Observer>) -> Vec<tokio::task::JoinHandle<()>> {
    let exporter = base.collector.as_ref().map(|c| c.export(observer.clone()));
    exporter.into_iter().collect()
}

/// Whoever listens everywhere is reached here too.
fn url_of(ip: Ipv4Addr, port: u16) -> String {
    let host = if ip.is_unspecified() {
        Ipv4Addr::LOCALHOST
    } else {
        ip
    };
    format!("http://{host}:{port}")
}
