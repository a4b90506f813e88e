//! `cocoon status`: what runs, and who has how much: the network of `cocoon up`, and single nodes.

mod nodes;

use std::process::ExitCode;

use cocoon_ton::Chain;
use cocoon_ton::amount::format_ton;
use serde_json::{Value, json};

use super::account::look;
use crate::cli::{Global, StatusArgs};
use crate::cmd::nodes::Found;
use crate::datadir::Layout;
use crate::error::Result;
use crate::http::Http;
use crate::network::Network;
use crate::toncenter::Toncenter;
use crate::up::wallets;

/// Runs the command. Exit code 1 if nothing is ready, or something is wrong with a node.
pub async fn run(args: &StatusArgs, global: &Global) -> Result<ExitCode> {
    let token = args.token_file.as_deref();
    let single = if args.url.is_empty() {
        crate::cmd::nodes::running(global, token)?
    } else {
        let at = |url: &String| Found::at(url, token);
        args.url.iter().map(at).collect::<Result<_>>()?
    };
    let mut shown = Vec::new();
    for found in &single {
        shown.push(nodes::gather(found).await);
    }
    let layout = Layout::locate(global.data_dir.as_deref())?;
    let network = Network::find(&layout)?.filter(|_| args.url.is_empty());
    if let Some(network) = network {
        return of_network(&network, shown, args).await;
    }
    if shown.is_empty() {
        return nothing(&layout, args);
    }
    let sound = shown
        .iter()
        .all(|node| node["problems"].as_array().is_some_and(Vec::is_empty));
    if args.json {
        super::print_json(&json!({"state": "running", "single_nodes": shown}));
    } else {
        let texts: Vec<String> = shown.iter().map(nodes::text).collect();
        print!("{}", texts.join("\n"));
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Neither a network nor a single node is ready.
fn nothing(layout: &Layout, args: &StatusArgs) -> Result<ExitCode> {
    let state = if layout.holder().is_some() {
        "starting"
    } else {
        "stopped"
    };
    if args.json {
        super::print_json(
            &json!({"state": state, "data_dir": layout.path().display().to_string()}),
        );
        return Ok(ExitCode::FAILURE);
    }
    Err(Network::running(layout).err().unwrap_or_else(|| {
        crate::error::CliError::new("the network has just become ready").hint("ask again")
    }))
}

/// The network of `cocoon up`, and single nodes that run beside it.
async fn of_network(network: &Network, single: Vec<Value>, args: &StatusArgs) -> Result<ExitCode> {
    let chain = super::chain(network);
    let mut status = gather(network, &chain).await;
    let mut problems = serde_json::Map::new();
    for role in super::nodes::ROLES {
        let found = nodes::problems(&status["stats"][role]);
        problems.insert(role.to_owned(), json!(found));
    }
    status["problems"] = Value::Object(problems);
    status["single_nodes"] = json!(single);
    if args.json {
        super::print_json(&status);
    } else {
        print!("{}", text(network, &status));
        for node in &single {
            print!("\n{}", nodes::text(node));
        }
    }
    let sound = ["client", "proxy", "worker", "chain"]
        .iter()
        .all(|role| status["nodes"][role] == "ok");
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn gather(network: &Network, chain: &Toncenter) -> Value {
    let http = Http::default();
    let mut nodes = serde_json::Map::new();
    let mut stats = serde_json::Map::new();
    let roles = [
        ("client", &network.client.url),
        ("proxy", &network.proxy.url),
        ("worker", &network.worker.url),
    ];
    for (role, url) in roles {
        let health = match http.get(&format!("{url}/health")).await {
            Ok(answer) if answer.status == 200 => "ok".to_owned(),
            Ok(answer) => format!("not ready (HTTP {})", answer.status),
            Err(_) => "no answer".to_owned(),
        };
        nodes.insert(role.to_owned(), json!(health));
        let figures = http.get(&format!("{url}/jsonstats")).await;
        stats.insert(
            role.to_owned(),
            figures.map_or(Value::Null, |answer| answer.json),
        );
    }
    let block = chain.network().await;
    nodes.insert(
        "chain".to_owned(),
        json!(
            block
                .as_ref()
                .map_or_else(ToString::to_string, |_| "ok".to_owned())
        ),
    );
    let mut balances = Vec::new();
    for (name, address) in wallets(network) {
        let account = chain.account(&address).await;
        balances.push(json!({
            "name": name,
            "address": address.to_string(),
            "balance": account.map(|a| a.balance.to_string()).ok(),
        }));
    }
    let mut contracts = serde_json::Map::new();
    let all = [
        ("root", network.chain.root),
        ("proxy", network.proxy.contract),
        ("client", network.client.contract),
        ("worker", network.worker.contract),
    ];
    for (name, address) in all {
        let shown = look(chain, &address).await;
        contracts.insert(name.to_owned(), shown.unwrap_or_else(|e| e.to_json()));
    }
    let supply = http
        .get(&format!("{}/admin/supply", network.chain.url))
        .await;
    json!({
        "state": "running",
        "network": network,
        "nodes": nodes,
        "block": block.map(|b| b.seqno).ok(),
        "balances": balances,
        "contracts": contracts,
        "supply": supply.map_or(Value::Null, |answer| answer.json["result"].clone()),
        "stats": stats,
    })
}

fn coins(value: &Value) -> String {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .map_or_else(|| "unknown".to_owned(), format_ton)
}

fn text(network: &Network, status: &Value) -> String {
    let mut lines = vec![
        format!(
            "network    running, process {}, block {}",
            network.pid, status["block"]
        ),
        format!(
            "endpoint   {}   model {}",
            network.client.openai_base_url, network.model
        ),
        format!("security   {}: NOT confidential", network.attestation),
    ];
    let nodes = ["client", "proxy", "worker", "chain"].map(|role| {
        format!(
            "{role} {}",
            status["nodes"][role].as_str().unwrap_or("unknown")
        )
    });
    lines.push(format!("nodes      {}", nodes.join(", ")));
    lines.push("balances".to_owned());
    for balance in status["balances"].as_array().into_iter().flatten() {
        let name = balance["name"].as_str().unwrap_or_default();
        let address = balance["address"].as_str().unwrap_or_default();
        lines.push(format!(
            "  {name:<22} {:<22} {address}",
            coins(&balance["balance"])
        ));
    }
    let contract = |name: &str| &status["contracts"][name]["data"];
    let (proxy, client, worker) = (contract("proxy"), contract("client"), contract("worker"));
    lines.push("on the chain".to_owned());
    lines.push(format!(
        "  client contract        {} tokens charged, deposit {}, stake {}",
        client["tokens_used"],
        coins(&client["balance"]),
        coins(&client["stake"])
    ));
    lines.push(format!(
        "  worker contract        {} tokens paid",
        worker["tokens_paid"]
    ));
    lines.push(format!(
        "  proxy contract         revenue {}, stake {}",
        coins(&proxy["revenue"]),
        coins(&proxy["stake"])
    ));
    if let Some(reason) = status["stats"]["client"]["deposit_refused"].as_str() {
        lines.push(format!("  NO DEPOSIT             {reason}"));
    }
    for role in super::nodes::ROLES {
        let what = if role == "client" { "spent" } else { "earned" };
        let flow = nodes::flow(&status["stats"][role], role);
        lines.push(format!("  {role:<7}{what:<16} {flow}"));
    }
    for role in super::nodes::ROLES {
        let found = status["problems"][role].as_array();
        for p in found.into_iter().flatten() {
            let (what, advice) = (p["what"].as_str(), p["advice"].as_str());
            lines.push(format!(
                "  PROBLEM of the {role}: {}",
                what.unwrap_or_default()
            ));
            lines.push(format!("          do: {}", advice.unwrap_or_default()));
        }
    }
    let supply = &status["supply"];
    let conserved = if supply["conserved"] == true {
        "all accounted for"
    } else {
        "NOT ACCOUNTED FOR"
    };
    lines.push(format!(
        "  coins                  {} on accounts + {} in messages + {} burned = {} at genesis: {conserved}",
        coins(&supply["accounts"]),
        coins(&supply["in_queues"]),
        coins(&supply["burned_fees"]),
        coins(&supply["genesis"])
    ));
    lines.join("\n") + "\n"
}
