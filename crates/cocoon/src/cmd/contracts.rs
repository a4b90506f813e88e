//! `cocoon contracts`: which contract code is known, and what lies at an address.

use std::process::ExitCode;

use cocoon_ton::{AccountStatus, Chain};
use serde_json::json;

use crate::cli::{ContractsCommand, Global};
use crate::contracts::{Contracts, KnownCode};
use crate::error::{CliError, Result};
use crate::up::settings::address;

/// Runs the command.
pub async fn run(command: &ContractsCommand, global: &Global) -> Result<ExitCode> {
    match command {
        ContractsCommand::List { json } => list(*json),
        ContractsCommand::Verify { address, json } => verify(address, *json, global).await,
    }
}

fn list(json: bool) -> Result<ExitCode> {
    let known = Contracts::load()?.known();
    if json {
        let all: Vec<_> = known.iter().map(shown).collect();
        super::print_json(&json!(all));
    } else {
        for code in &known {
            println!("{:<7} {:<22} {}", code.contract, code.build, code.hash);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(code: &KnownCode) -> serde_json::Value {
    json!({
        "contract": code.contract,
        "build": code.build,
        "official": code.official,
        "code_hash": code.hash,
    })
}

async fn verify(text: &str, json: bool, global: &Global) -> Result<ExitCode> {
    let address = address(text, "ADDRESS")?;
    let network = super::running(global)?;
    let account = super::chain(&network)
        .account(&address)
        .await
        .map_err(|e| {
            CliError::new("the chain does not answer")
                .found(e.to_string())
                .hint("check with 'cocoon status'")
        })?;
    let Some(code) = account.code else {
        let state = match account.status {
            AccountStatus::Frozen => "a frozen account, of which only a hash is left",
            AccountStatus::Nonexistent => "an account that was never used",
            _ => "an account without code",
        };
        return Err(CliError::new(format!(
            "there is no contract at {}",
            address.to_text(true, true)
        ))
        .expected("a deployed contract")
        .found(state));
    };
    let hash = hex::encode(code.repr_hash());
    let known = Contracts::load()?.known();
    let found = known.iter().find(|known| known.hash == hash);
    if json {
        super::print_json(&json!({
            "address": address.to_string(),
            "code_hash": hash,
            "known": found.is_some(),
            "contract": found.map(|code| code.contract),
            "build": found.map(|code| code.build),
            "official": found.map(|code| code.official),
        }));
    } else {
        match found {
            Some(code) => println!(
                "Cocoon {} contract, {}\ncode {hash}",
                code.contract, code.build
            ),
            None => println!(
                "unknown code {hash}\nit is none of the {} builds of 'cocoon contracts list': read its source before you \
                 trust it with coins",
                known.len()
            ),
        }
    }
    Ok(if found.is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
