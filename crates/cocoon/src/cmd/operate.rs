//! `cocoon account topup`, `withdraw`, `charge`, `payout` and `close`: what the operator of a running node asks of it.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::nodes::{Found, running};
use crate::cli::{Global, NodeChoice};
use crate::error::{CliError, Result};

/// Runs an action. `confirmed` is `None` for what needs no confirmation.
pub async fn run(
    action: &str,
    choice: &NodeChoice,
    confirmed: Option<bool>,
    global: &Global,
) -> Result<ExitCode> {
    let node = find(choice, global)?;
    let stats = node.stats().await?;
    let role = stats["role"].as_str().unwrap_or_default().to_owned();
    let parameter = parameter(&role, action)?;
    let party = match parameter {
        Some(_) => Some(party(choice, &stats, &role, action)?),
        None => None,
    };
    if confirmed == Some(false) {
        confirm(action, party.as_deref().unwrap_or_default())?;
    }
    let done = node.act(action, parameter.zip(party.as_deref())).await?;
    if choice.json {
        super::print_json(&done);
    } else {
        println!("{}", done["done"].as_str().unwrap_or("done"));
        println!("see what becomes of it with 'cocoon status'");
    }
    Ok(ExitCode::SUCCESS)
}

fn find(choice: &NodeChoice, global: &Global) -> Result<Found> {
    if let Some(url) = &choice.url {
        return Found::at(url, choice.token_file.as_deref());
    }
    let mut found = running(global, choice.token_file.as_deref())?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(CliError::new("no single node runs here")
            .expected("a running client, proxy or worker")
            .hint("name its data directory with --data-dir DIR, or its pages with --url URL")
            .hint("the nodes of 'cocoon up' act by themselves; 'cocoon account exit' takes their client's deposit out")),
        n => Err(CliError::usage(format!("{n} nodes run here"))
            .expected("one")
            .hint("name the data directory with --data-dir DIR, or the pages with --url URL")),
    }
}

/// Name of the query parameter of an action.
fn parameter(role: &str, action: &str) -> Result<Option<&'static str>> {
    match (role, action) {
        ("client", "charge" | "topup" | "withdraw" | "close") | ("worker", "payout") => {
            Ok(Some("proxy"))
        }
        ("proxy", "charge") => Ok(Some("client")),
        ("proxy", "payout") => Ok(Some("worker")),
        ("proxy", "withdraw") => Ok(None),
        _ => Err(
            CliError::usage(format!("a {role} has nothing to {action}")).expected(match action {
                "payout" => "a worker, or a proxy with --party",
                "charge" | "withdraw" => "a client or a proxy",
                _ => "a client",
            }),
        ),
    }
}

/// Those that an action can be about.
fn party(choice: &NodeChoice, stats: &Value, role: &str, action: &str) -> Result<String> {
    if let Some(text) = &choice.party {
        // Checked here too, so that nothing strange gets into a URL.
        let parsed = crate::up::settings::address(text, "--party")?;
        return Ok(parsed.to_text(false, true));
    }
    let (list, member) = match (role, action) {
        ("proxy", "charge") => ("clients", "owner_address"),
        ("proxy", _) => ("workers", "owner_address"),
        _ => ("proxies", "proxy_sc_address"),
    };
    let all: Vec<&str> = stats[list]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry[member].as_str())
        .collect();
    match all.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(CliError::new(format!("this {role} knows no {list} yet"))
            .hint("'cocoon status' shows what it waits for")),
        many => Err(CliError::usage(format!("this {role} has several {list}"))
            .expected("--party ADDRESS")
            .found(many.iter().take(8).copied().collect::<Vec<_>>().join(", "))),
    }
}

fn confirm(action: &str, party: &str) -> Result<()> {
    let unconfirmed = |found: &str| {
        CliError::usage("nothing was sent: this needs a confirmation")
            .expected("'yes' on the terminal, or the flag --yes")
            .found(found)
    };
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(unconfirmed("no terminal"));
    }
    eprint!("{action} the account with {party} for good - type yes to do this: ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    stdin
        .lock()
        .read_line(&mut line)
        .map_err(|e| unconfirmed(&e.to_string()))?;
    if line.trim() == "yes" {
        Ok(())
    } else {
        Err(unconfirmed("another answer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn choice(party: Option<&str>) -> NodeChoice {
        NodeChoice {
            url: None,
            token_file: None,
            party: party.map(str::to_owned),
            json: false,
        }
    }

    #[test]
    fn the_only_party_is_taken_and_several_are_named() {
        let of = |list: Value| party(&choice(None), &json!({"proxies": list}), "client", "topup");
        let one = json!({"proxy_sc_address": "UQa"});
        assert_eq!(of(json!([one])).unwrap(), "UQa");
        assert!(of(json!([])).is_err());
        let error = of(json!([one, {"proxy_sc_address": "UQb"}])).unwrap_err();
        assert!(error.to_string().contains("UQa, UQb"), "{error}");
        assert!(party(&choice(Some("x&y=1")), &json!({}), "client", "topup").is_err());
    }

    #[test]
    fn what_a_role_cannot_do_is_said() {
        assert_eq!(parameter("proxy", "withdraw").unwrap(), None);
        assert_eq!(parameter("worker", "payout").unwrap(), Some("proxy"));
        for (role, action) in [
            ("worker", "topup"),
            ("proxy", "close"),
            ("client", "payout"),
        ] {
            assert!(parameter(role, action).is_err(), "{role} {action}");
        }
    }
}
