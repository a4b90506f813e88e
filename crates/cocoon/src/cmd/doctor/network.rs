//! The part of `cocoon doctor --role ROLE` that looks beyond this machine: chain, root contract, wallet, peers, engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cocoon_node::root::RootView;
use cocoon_node::static_root::{Codes, StaticRoot};
use cocoon_node::watch::read_root;
use cocoon_ton::amount::format_ton;
use cocoon_ton::wallet::MIN_BALANCE;
use cocoon_ton::{Address, Chain};
use ed25519_dalek::SigningKey;
use tokio::net::TcpStream;

use super::flat;
use super::node::{Node, Report, layout};
use crate::cli::{DoctorArgs, Global};
use crate::contracts::Contracts;
use crate::http::Http;
use crate::nodes::chain::Source;
use crate::nodes::start::fake_image_hash;
use crate::nodes::unix_now;
use crate::toncenter::Toncenter;
use crate::{keys, model};

/// A chain that is further behind, or ahead of this clock, is no basis for work (protocol.md 9.7 asks for 30 s).
const MAX_LAG_S: i64 = 30;
/// A peer or router on the way that does not accept within this time is not reachable.
const CONNECT: Duration = Duration::from_secs(5);

/// The root configuration, and the chain if there is one.
pub(super) async fn chain(
    report: &mut Report,
    args: &DoctorArgs,
    node: &Node,
) -> Option<(RootView, Option<Arc<dyn Chain>>)> {
    let source = match (&args.chain, &node.shared.chain) {
        (Some(text), _) => Source::parse(text, "--chain"),
        (None, Some(text)) => Source::parse(text, "the configuration (chain)"),
        (None, None) => {
            report.problem("chain", "none is named: add 'chain' to the configuration, or --chain static:FILE or toncenter:URL");
            return None;
        }
    };
    let source = source.map_err(|e| report.problem("chain", flat(&e))).ok()?;
    match source {
        Source::Static(path) => {
            let contracts = Contracts::load().ok()?;
            let root = StaticRoot {
                path: path.clone(),
                address: node.shared.root,
                codes: Codes {
                    proxy: contracts.proxy,
                    worker: contracts.worker,
                    client: contracts.client,
                },
            };
            match root.read() {
                Ok((view, _)) => {
                    report.fine(
                        "chain",
                        format!("none; the root configuration is {}", path.display()),
                    );
                    Some((view, None))
                }
                Err(e) => {
                    report.problem("chain", format!("{e}; correct the file"));
                    None
                }
            }
        }
        Source::Toncenter(url) => live(report, node, &url).await,
    }
}

async fn live(
    report: &mut Report,
    node: &Node,
    url: &str,
) -> Option<(RootView, Option<Arc<dyn Chain>>)> {
    let server: Arc<dyn Chain> = match Toncenter::open(url).await {
        Ok(server) => Arc::new(server),
        Err(e) => {
            report.problem(
                "chain",
                format!("{url} does not answer: {e}; check the URL, and that the server runs"),
            );
            return None;
        }
    };
    match server.network().await {
        Ok(network) => {
            let lag = i64::try_from(unix_now()).unwrap_or(0) - i64::from(network.utime);
            report.fine("chain", format!("{url} answers, block {}", network.seqno));
            if lag > MAX_LAG_S {
                report.problem("chain lag", format!("the newest block is {lag} s old: the server is behind, or this machine's clock is ahead; wait, use another server, or set the clock (NTP)"));
            } else if lag < -MAX_LAG_S {
                report.problem(
                    "chain lag",
                    format!(
                        "the chain is {} s ahead: this machine's clock is behind; set it (NTP)",
                        -lag
                    ),
                );
            } else {
                report.fine(
                    "chain lag",
                    format!("the newest block is {lag} s old; clock and chain agree"),
                );
            }
        }
        Err(e) => report.problem("chain lag", format!("{e}; check the server")),
    }
    match read_root(server.as_ref(), &node.shared.root).await {
        Ok(root) => Some((root, Some(server))),
        Err(e) => {
            report.problem(
                "root contract",
                format!("{e}; correct 'root_contract_address' or the chain"),
            );
            None
        }
    }
}

pub(super) fn root_contract(report: &mut Report, node: &Node, root: &RootView) {
    report.fine(
        "root contract",
        format!(
            "version {}, params {}: a token costs {} nanoTON, a worker gets {}; stakes of at least {} (proxy) and {} (client); {} proxies registered",
            root.version,
            root.params.params_version,
            root.params.price_per_token,
            root.params.worker_fee_per_token,
            format_ton(root.params.min_proxy_stake),
            format_ton(root.params.min_client_stake),
            root.proxies.len()
        ),
    );
    if root.is_test() != node.shared.is_test {
        report.problem(
            "root contract",
            format!(
                "its test flag is {}, the node's 'is_test' is {}: they must be equal",
                root.is_test(),
                node.shared.is_test
            ),
        );
    }
    if root.proxies.is_empty() {
        report.problem(
            "registry",
            "no proxy is registered: the owner of the root contract has to add one",
        );
    }
    let own = node
        .image_hash
        .or_else(|| node.shared.is_test.then(fake_image_hash));
    let (list, name) = match node.role {
        "proxy" => (&root.proxy_hashes, "proxy_hashes"),
        _ => (&root.worker_hashes, "worker_hashes"),
    };
    match own {
        _ if node.role == "client" => {}
        Some(hash) if list.contains(&hash) => report.fine("image hash", format!("it is on the root's list ({name})")),
        Some(hash) => report.problem(
            "image hash",
            format!("{} is not on the root's list ({name}): peers that compare hashes refuse this node; run an allowed image", hex::encode_upper(hash)),
        ),
        None => report.warn("image hash", "not known before the router attests this machine; name it with 'image_hash' to have it checked"),
    }
    if let Some(name) = &node.model {
        if root.allows_model(name) {
            report.fine("model name", format!("{name} is on the root's list"));
        } else {
            report.problem("model name", format!("{name} is not on the root's list: proxies that compare hashes refuse this worker; use a listed full name (base@commit:hash)"));
        }
    }
}

pub(super) async fn wallet(
    report: &mut Report,
    node: &Node,
    global: &Global,
    root: &RootView,
    chain: &dyn Chain,
) {
    let key = match &node.shared.wallet_key {
        Some(seed) => Some(SigningKey::from_bytes(seed)),
        None => layout(node, global).ok().and_then(|layout| {
            let file = layout.keys().join("wallet.key");
            if !file.exists() {
                return None;
            }
            keys::read_or_create(&layout.keys(), "wallet.key", keys::Missing::Refuse)
                .ok()
                .map(|seed| SigningKey::from_bytes(&seed))
        }),
    };
    let Some(key) = key else {
        report.warn(
            "wallet",
            "its key is made on first start; the node then prints the address and waits for coins",
        );
        return;
    };
    let address = Contracts::load()
        .and_then(|c| c.wallet(key.verifying_key().to_bytes(), Some(node.shared.owner)))
        .map(|init| init.address);
    let Ok(address) = address else {
        report.problem(
            "wallet",
            "its address cannot be computed: the contracts inside this program are damaged",
        );
        return;
    };
    let needed = MIN_BALANCE
        + match node.role {
            "client" => root.params.min_client_stake,
            "proxy" => crate::nodes::deploy::default_stake(root),
            _ => 0,
        };
    let shown = address.to_text(false, node.shared.testnet);
    match chain.account(&address).await {
        Ok(account) if account.balance < MIN_BALANCE => report.problem(
            "wallet",
            format!(
                "{shown} has {}, it needs at least {}: send coins to it",
                format_ton(account.balance),
                format_ton(MIN_BALANCE)
            ),
        ),
        Ok(account) if account.balance < needed => report.warn(
            "wallet",
            format!(
                "{shown} has {}; a first start needs about {} (stake or deposit and fees)",
                format_ton(account.balance),
                format_ton(needed)
            ),
        ),
        Ok(account) => report.fine(
            "wallet",
            format!("{shown} has {}", format_ton(account.balance)),
        ),
        Err(e) => report.problem("wallet", format!("{shown} cannot be read: {e}")),
    }
    owner(report, node);
}

fn owner(report: &mut Report, node: &Node) {
    if node.shared.owner == Address::default() {
        report.problem(
            "owner",
            "'owner_address' is the zero address: whatever is earned would be lost",
        );
    }
}

pub(super) async fn peers(report: &mut Report, node: &Node, root: &RootView) {
    if let Some(router) = &node.router {
        match reachable(router).await {
            Ok(()) => report.fine("router", format!("{router} accepts connections")),
            Err(e) => report.problem("router", format!("{router}: {e}; start it ('cocoon router --help'), or correct 'connect_to_proxy_via'")),
        }
        return;
    }
    if node.role == "proxy" {
        return;
    }
    let mut open = 0;
    for proxy in root.proxies.iter().take(16) {
        let target = if node.role == "client" {
            proxy.clients
        } else {
            proxy.workers
        };
        match reachable(&SocketAddr::V4(target).to_string()).await {
            Ok(()) => open += 1,
            Err(e) => report.warn("proxies", format!("proxy {} at {target}: {e}", proxy.seqno)),
        }
    }
    if open > 0 {
        report.fine(
            "proxies",
            format!("{open} registered proxies accept connections"),
        );
    } else if !root.proxies.is_empty() {
        report.problem("proxies", "no registered proxy can be reached from here; check the network, or wait for one to start");
    }
}

async fn reachable(address: &str) -> std::result::Result<(), String> {
    match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs())),
    }
}

pub(super) async fn backend(report: &mut Report, node: &Node) {
    if node.role != "worker" {
        return;
    }
    let Some(to) = &node.forward_to else {
        report.fine(
            "engine",
            "the model inside this program, unless --upstream or --model names another",
        );
        return;
    };
    let url = format!("http://{to}/v1/models");
    let named = node.model.as_deref().map(cocoon_node::root::base_model);
    match Http::default().get(&url).await {
        Ok(answer) if answer.status == 200 => {
            let served: Vec<&str> = answer.json["data"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|m| m["id"].as_str())
                .collect();
            match named {
                Some(name) if !served.contains(&name) => report.warn(
                    "engine",
                    format!(
                        "{to} answers, but does not list {name}; it lists: {}",
                        served.join(", ")
                    ),
                ),
                _ => report.fine(
                    "engine",
                    format!("{to} answers and lists {}", served.join(", ")),
                ),
            }
        }
        Ok(answer) => report.problem(
            "engine",
            format!(
                "{url}: HTTP {}; correct 'forward_requests_to'",
                answer.status
            ),
        ),
        Err(_) => report.problem(
            "engine",
            format!(
                "{to} does not answer; start the inference server, or correct 'forward_requests_to'"
            ),
        ),
    }
    if let Some(name) = named
        && let Err(e) = model::check_name(name)
    {
        report.problem("model name", flat(&e));
    }
}
