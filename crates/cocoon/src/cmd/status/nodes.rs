//! Single nodes: what they do, who their peers are, what they have, what is wrong and what to do.

use cocoon_ton::amount::format_ton;
use serde_json::{Value, json};

use crate::cmd::nodes::Found;
use crate::error::CliError;

/// A chain whose newest block is older than this is behind (the reference demands 30 s at its start).
const MAX_LAG_S: i64 = 60;

/// Everything about one node, as one object.
pub async fn gather(found: &Found) -> Value {
    let (stats, trouble) = match found.stats().await {
        Ok(stats) => (stats, None),
        Err(e) => (Value::Null, Some(e)),
    };
    let problems = match &trouble {
        Some(error) => vec![no_answer(error)],
        None => problems(&stats),
    };
    json!({
        "role": stats["role"],
        "url": found.url,
        "data_dir": found.dir,
        "pid": found.pid,
        "problems": problems,
        "stats": stats,
    })
}

fn problem(what: impl Into<String>, advice: &str) -> Value {
    json!({"what": what.into(), "advice": advice})
}

fn no_answer(error: &CliError) -> Value {
    let text = error.to_string();
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    problem(
        line.trim_start_matches("error: "),
        "look at its log (logs/cocoon.log in its data directory), or start it",
    )
}

/// What is wrong with a node, by its own figures.
pub fn problems(stats: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    let role = stats["role"].as_str().unwrap_or_default();
    let entries = |name: &str| stats[name].as_array().cloned().unwrap_or_default();
    if stats["stopped"] == true {
        out.push(problem(
            "it has stopped",
            "look at its log and start it again",
        ));
        return out;
    }
    if stats["wallet"]["ready"] == false {
        let condition = stats["wallet"]["condition"].as_str().unwrap_or("unknown");
        out.push(problem(
            format!("the wallet cannot send: {condition}"),
            "send coins to the wallet's address, or see 'cocoon doctor --role ROLE'",
        ));
    } else if stats["wallet"]["low"] == true {
        out.push(problem(
            format!("the wallet has only {}", coins(&stats["wallet"]["balance"])),
            "send coins to the wallet's address: without them nothing is charged, paid or deposited",
        ));
    }
    if let Some(trouble) = stats["chain"]["trouble"].as_str() {
        out.push(problem(
            format!("the chain cannot be read: {trouble}"),
            "check the server named with --chain; the node goes on as soon as it answers",
        ));
    }
    match stats["chain"]["lag_seconds"].as_i64() {
        Some(lag) if lag > MAX_LAG_S => out.push(problem(
            format!("the chain's newest block is {lag} s old"),
            "wait until the server has caught up, use another one, or set this machine's clock (NTP)",
        )),
        Some(lag) if lag < -MAX_LAG_S => out.push(problem(
            format!("the chain is {} s ahead of this machine's clock", -lag),
            "set this machine's clock (NTP)",
        )),
        _ => {}
    }
    let ready = entries("proxy_connections")
        .iter()
        .filter(|c| c["is_ready"] == true)
        .count();
    match role {
        "client" | "worker" if ready == 0 => {
            let registered = entries_in(&stats["root_contract_config"]["registered_proxies"]);
            let what = if registered == 0 {
                "no proxy is registered in the root configuration"
            } else {
                "no proxy is connected and ready"
            };
            out.push(problem(what, "see 'cocoon doctor --role ROLE' (router, proxies reachable, image hashes), and the log for refusals"));
        }
        _ => {}
    }
    match role {
        "client" => {
            if let Some(reason) = stats["deposit_refused"].as_str() {
                out.push(problem(
                    format!("no deposit is made: {reason}"),
                    "the proxy's owner can raise its stake; or accept the risk with --accept-exit-risk",
                ));
            }
        }
        "worker" => {
            if stats["healthy"] == false {
                out.push(problem(
                    "the inference server does not answer",
                    "start it, or correct --upstream / forward_requests_to; the worker opens by itself when it answers",
                ));
            }
            if stats["enabled"] == false {
                out.push(problem(
                    "the operator has closed this worker",
                    "POST /request/enable opens it",
                ));
            }
        }
        "proxy" => {
            if let Some(reason) = stats["status"]["disabled_because"].as_str() {
                out.push(problem(
                    format!("it takes no requests: {reason}"),
                    "see docs/nodes.md on moving to new parameters",
                ));
            }
            if entries("worker_connections")
                .iter()
                .all(|w| w["enabled"] != true)
            {
                out.push(problem(
                    "no worker is connected and open",
                    "check that workers reach the workers' port, and that their image and model are in the root's lists",
                ));
            }
        }
        _ => {}
    }
    out
}

fn entries_in(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

fn coins(value: &Value) -> String {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .map_or_else(|| "unknown".to_owned(), format_ton)
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// One node for people.
pub fn text(node: &Value) -> String {
    let stats = &node["stats"];
    let role = node["role"].as_str().unwrap_or("node");
    let mut lines = vec![format!(
        "{role:<10} {}{}",
        plain(&node["url"]),
        node["pid"]
            .as_u64()
            .map_or_else(String::new, |pid| format!(", process {pid}"))
    )];
    let mut put = |name: &str, text: String| lines.push(format!("  {name:<12} {text}"));
    if !stats.is_null() {
        put("version", plain(&stats["status"]["version"]));
        let requests = &stats["stats"];
        put(
            "requests",
            format!(
                "{} in all, {} failed, {} rejected, {:.2} a second in the last minute",
                requests["queries"][0],
                requests["failed"][0],
                requests["rejected"][0],
                requests["queries"][3].as_f64().unwrap_or(0.0)
            ),
        );
        put(
            "wallet",
            format!(
                "{}, {} ({})",
                coins(&stats["wallet"]["balance"]),
                plain(&stats["wallet"]["address"]),
                plain(&stats["wallet"]["condition"])
            ),
        );
        match stats["chain"]["lag_seconds"].as_i64() {
            Some(lag) => put(
                "chain",
                format!("block {}, {lag} s old", stats["chain"]["block"]),
            ),
            None => put("chain", "none, or not read yet".to_owned()),
        }
        for line in peers(stats) {
            put("peer", line);
        }
        for line in money(stats, role) {
            put("account", line);
        }
        put(
            if role == "client" {
                "spending"
            } else {
                "earnings"
            },
            flow(stats, role),
        );
    }
    let problems = node["problems"].as_array().cloned().unwrap_or_default();
    if problems.is_empty() {
        put("problems", "none".to_owned());
    }
    for p in &problems {
        put("PROBLEM", plain(&p["what"]));
        put("  do", plain(&p["advice"]));
    }
    lines.join("\n") + "\n"
}

/// Peers with the identity that was attested.
fn peers(stats: &Value) -> Vec<String> {
    let list = |name: &str| stats[name].as_array().cloned().unwrap_or_default();
    let identity = |hash: &Value, fake: &Value| {
        let hash = plain(hash);
        let short = hash.get(..16).unwrap_or(&hash).to_owned();
        if *fake == true {
            format!("image {short}... (FAKE evidence)")
        } else if hash.bytes().all(|b| b == b'0') {
            "not attested".to_owned()
        } else {
            format!("image {short}...")
        }
    };
    let mut out: Vec<String> = list("proxy_connections")
        .iter()
        .map(|c| {
            format!(
                "proxy {} {}, {}, protocol {}",
                plain(&c["address"]),
                if c["is_ready"] == true {
                    "ready"
                } else {
                    "NOT READY"
                },
                identity(&c["proxy_hash"], &c["fake_attestation"]),
                c["protocol_version"]
            )
        })
        .collect();
    out.extend(list("worker_connections").iter().map(|w| {
        format!(
            "worker {} {}, {}, factor {:.3}, {} of {} running, protocol {}",
            plain(&w["model"]),
            if w["enabled"] == true {
                "open"
            } else {
                "CLOSED"
            },
            identity(&w["worker_hash"], &w["fake_attestation"]),
            w["coefficient"].as_f64().unwrap_or(0.0) / 1000.0,
            w["running_queries"],
            w["max_queries"],
            w["protocol_version"]
        )
    }));
    let clients = list("client_connections");
    if !clients.is_empty() {
        let ready = clients.iter().filter(|c| c["is_ready"] == true).count();
        out.push(format!(
            "{} clients connected, {ready} ready",
            clients.len()
        ));
    }
    if let Some(policy) = stats["localconfig"]["attestation"]
        .as_str()
        .or(stats["localconf"]["attestation"].as_str())
    {
        out.push(format!("policy of direct links: {policy}"));
    }
    out
}

fn money(stats: &Value, role: &str) -> Vec<String> {
    let list = |name: &str| stats[name].as_array().cloned().unwrap_or_default();
    match role {
        "client" => list("proxies")
            .iter()
            .map(|p| {
                format!(
                    "{}: deposit {}, stake {}, {} tokens used, {} charged",
                    plain(&p["sc_address"]),
                    coins(&p["balance"]),
                    coins(&p["stake"]),
                    p["tokens_used_proxy_max"],
                    p["tokens_charged"]
                )
            })
            .collect(),
        "worker" => list("proxies")
            .iter()
            .map(|p| {
                format!(
                    "{}: {} tokens earned, {} signed, {} paid, {} open",
                    plain(&p["sc_address"]),
                    p["tokens"],
                    p["signed_tokens"],
                    p["cached_out_tokens"],
                    coins(&p["unpaid_nanotons"])
                )
            })
            .collect(),
        "proxy" => vec![
            format!(
                "{}: {} with a stake of {}, {} of commission",
                plain(&stats["smartcontract"]["address"]),
                coins(&stats["smartcontract"]["balance"]),
                coins(&stats["smartcontract"]["stake"]),
                coins(&stats["smartcontract"]["ready_for_withdraw"])
            ),
            format!(
                "{} clients, {} workers in the books",
                entries_in(&stats["clients"]),
                entries_in(&stats["workers"])
            ),
        ],
        _ => Vec::new(),
    }
}

/// What was earned or spent in the last day, and what a day would bring.
pub fn flow(stats: &Value, role: &str) -> String {
    let flow = &stats[if role == "client" {
        "spending"
    } else {
        "earnings"
    }];
    let projected = match &flow["projected_nanotons_per_day"] {
        Value::Null => "not enough seen for a projection".to_owned(),
        nano => format!("{} a day if it goes on like this", coins(nano)),
    };
    format!(
        "{} in the last 24 hours, {projected}",
        coins(&flow["last_24_hours_nanotons"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(stats: &Value) -> Vec<String> {
        problems(stats).iter().map(|p| plain(&p["what"])).collect()
    }

    #[test]
    fn a_sound_node_has_no_problems() {
        let worker = json!({
            "role": "worker", "healthy": true, "enabled": true,
            "wallet": {"ready": true, "low": false}, "chain": {"lag_seconds": 3},
            "proxy_connections": [{"is_ready": true}],
        });
        assert_eq!(whats(&worker), Vec::<String>::new());
    }

    #[test]
    fn each_problem_is_named_with_what_to_do() {
        let worker = json!({
            "role": "worker", "healthy": false, "enabled": false,
            "wallet": {"ready": false, "condition": "blocked"},
            "chain": {"lag_seconds": 500, "trouble": "gone"},
            "proxy_connections": [{"is_ready": false}],
            "root_contract_config": {"registered_proxies": []},
        });
        let found = whats(&worker).join("\n");
        for part in [
            "blocked",
            "gone",
            "500 s old",
            "registered",
            "inference server",
            "closed this worker",
        ] {
            assert!(found.contains(part), "{part} is not in:\n{found}");
        }
        assert!(
            problems(&worker)
                .iter()
                .all(|p| p["advice"].as_str().is_some_and(|a| a.len() > 10))
        );
        let proxy = json!({"role": "proxy", "status": {"disabled_because": "closing"}, "worker_connections": [{"enabled": false}], "chain": {"lag_seconds": -100}});
        let found = whats(&proxy).join("\n");
        for part in ["closing", "no worker", "ahead"] {
            assert!(found.contains(part), "{part} is not in:\n{found}");
        }
        let client = json!({"role": "client", "deposit_refused": "stake too low", "proxy_connections": [{"is_ready": true}], "wallet": {"ready": true, "low": true, "balance": "1"}});
        let found = whats(&client).join("\n");
        assert!(
            found.contains("stake too low") && found.contains("wallet has only"),
            "{found}"
        );
    }
}
