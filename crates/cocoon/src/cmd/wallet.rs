//! `cocoon wallet`: mnemonics, addresses, balances, transfers.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cocoon_node::wallet::{Outgoing, WalletConfig, WalletHandle};
use cocoon_ton::abi::StateInit;
use cocoon_ton::amount::{format_ton, parse_ton};
use cocoon_ton::mnemonic::Mnemonic;
use cocoon_ton::wallet::{FEE_RESERVE, MIN_BALANCE};
use cocoon_ton::{AccountStatus, Address, Cell, Chain, boc};
use ed25519_dalek::SigningKey;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::{Global, KeySource, WalletCommand};
use crate::contracts::Contracts;
use crate::datadir::Layout;
use crate::error::{CliError, Result};
use crate::fs::{SECRET_MODE, write_new};
use crate::keys;
use crate::up::settings::address;

/// A transfer takes a block or two; a minute means that something is wrong.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Between looks at the wallet's account.
const POLL: Duration = Duration::from_millis(200);

/// Runs the command.
pub async fn run(command: &WalletCommand, global: &Global) -> Result<ExitCode> {
    match command {
        WalletCommand::New {
            mnemonic_file,
            json,
        } => new(mnemonic_file.as_deref(), *json, global),
        WalletCommand::Address { key, json } => {
            let (_, init) = wallet(key, global)?;
            print_address(&init.address, *json);
            Ok(ExitCode::SUCCESS)
        }
        WalletCommand::Balance {
            address: text,
            key,
            json,
        } => {
            let whose = match text {
                Some(text) => address(text, "ADDRESS")?,
                None => wallet(key, global)?.1.address,
            };
            balance(whose, *json, global).await
        }
        WalletCommand::Send {
            key,
            to,
            amount,
            body,
            json,
        } => {
            let body = body.as_deref().map(read_body).transpose()?;
            send(key, to, amount, body, *json, global).await
        }
    }
}

/// The contracts of the data directory's network, or those of this program.
pub(in crate::cmd) fn contracts(global: &Global) -> Result<Contracts> {
    let contracts = Contracts::load()?;
    let founding = Layout::locate(global.data_dir.as_deref())?
        .read_data_file()?
        .and_then(|data| data.founding);
    match founding {
        Some(founding) => contracts.of_network(&founding.wallet_code),
        None => Ok(contracts),
    }
}

fn new(file: Option<&Path>, json: bool, global: &Global) -> Result<ExitCode> {
    let mnemonic = Mnemonic::new(&*keys::random()?);
    let key = mnemonic.to_keypair();
    let address = contracts(global)?
        .wallet(key.verifying_key().to_bytes(), None)?
        .address;
    let mut phrase = mnemonic.phrase();
    match file {
        Some(path) => {
            phrase.push('\n');
            write_new(path, phrase.as_bytes(), SECRET_MODE)?;
            if json {
                super::print_json(&json!({"mnemonic_file": path, "address": address.to_string()}));
            } else {
                println!(
                    "{} holds the 24 words; whoever has them has the coins. Keep a copy.",
                    path.display()
                );
                print_address(&address, false);
            }
        }
        None if json => {
            super::print_json(
                &json!({"mnemonic": phrase.as_str(), "address": address.to_string()}),
            );
        }
        None => {
            eprintln!("Write these 24 words down; whoever has them has the coins:");
            println!("{}", phrase.as_str());
            print_address(&address, false);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_address(address: &Address, json: bool) {
    if json {
        super::print_json(&json!({
            "address": address.to_string(),
            "address_text": address.to_text(false, true),
        }));
    } else {
        println!("{}\n{address}", address.to_text(false, true));
    }
}

fn wallet(source: &KeySource, global: &Global) -> Result<(SigningKey, StateInit)> {
    let owner = source
        .owner
        .as_deref()
        .map(|text| address(text, "--owner"))
        .transpose()?;
    if source.faucet {
        let keys = Layout::locate(global.data_dir.as_deref())?.keys();
        let seed = keys::read_or_create(&keys, "faucet.key", keys::Missing::Refuse)?;
        let key = SigningKey::from_bytes(&seed);
        let init = contracts(global)?.wallet(key.verifying_key().to_bytes(), None)?;
        return Ok((key, init));
    }
    let mnemonic = match &source.mnemonic_file {
        Some(path) => keys::read_mnemonic(path)?,
        None => ask()?,
    };
    let key = mnemonic.to_keypair();
    let init = contracts(global)?.wallet(key.verifying_key().to_bytes(), owner)?;
    Ok((key, init))
}

/// Asks for the 24 words. On a terminal they are not shown while they are typed.
fn ask() -> Result<Mnemonic> {
    let stdin = std::io::stdin();
    let hidden = stdin.is_terminal().then(Hidden::new);
    if hidden.is_some() {
        eprint!("24 words (not shown): ");
        let _ = std::io::stderr().flush();
    }
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().read_line(&mut line);
    if hidden.is_some() {
        eprintln!();
    }
    read.map_err(|e| {
        CliError::new("cannot read the mnemonic from standard input").found(e.to_string())
    })?;
    keys::parse_mnemonic(&line, "standard input")
}

/// Switches the terminal's echo off for as long as it lives. Without `stty` the words are shown, as typed.
struct Hidden;

impl Hidden {
    fn new() -> Self {
        stty("-echo");
        Self
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        stty("echo");
    }
}

fn stty(argument: &str) {
    let _ = std::process::Command::new("stty").arg(argument).status();
}

async fn balance(whose: Address, json: bool, global: &Global) -> Result<ExitCode> {
    let account = super::running_chain(global)?.account(&whose).await;
    let account =
        account.map_err(|e| CliError::new("the chain does not answer").found(e.to_string()))?;
    if json {
        super::print_json(&json!({
            "address": whose.to_string(),
            "balance": account.balance.to_string(),
        }));
    } else {
        println!("{}", format_ton(account.balance));
    }
    Ok(ExitCode::SUCCESS)
}

/// A message body from the command line.
fn read_body(text: &str) -> Result<Cell> {
    let wrong = |found: String| {
        CliError::usage("cannot read --body")
            .expected("a bag of cells (BOC) in hex")
            .found(found)
    };
    let bytes = hex::decode(text).map_err(|e| wrong(e.to_string()))?;
    boc::decode(&bytes, boc::STATE).map_err(|e| wrong(e.to_string()))
}

async fn send(
    source: &KeySource,
    to: &str,
    amount: &str,
    body: Option<Cell>,
    json: bool,
    global: &Global,
) -> Result<ExitCode> {
    let receiver = address(to, "--to")?;
    let parsed = Address::parse(to.trim()).ok();
    let value = parse_ton(amount).map_err(|e| {
        CliError::usage("cannot read --amount")
            .expected("an amount such as 1.5 or \"1000 nanoTON\"")
            .found(e.to_string())
    })?;
    let chain: Arc<dyn Chain> = Arc::new(super::running_chain(global)?);
    let (key, init) = wallet(source, global)?;
    let failed =
        |e: cocoon_ton::ChainError| CliError::new("the chain does not answer").found(e.to_string());
    let own = chain.account(&init.address).await.map_err(failed)?;
    let needed = value.saturating_add(FEE_RESERVE).max(MIN_BALANCE);
    if own.balance < needed {
        return Err(
            CliError::new("not enough coins in the wallet; nothing was sent")
                .expected(format!(
                    "at least {} in {}",
                    format_ton(needed),
                    init.address.to_text(false, true)
                ))
                .found(format_ton(own.balance))
                .hint("the wallet contract keeps 2 TON back for fees"),
        );
    }
    // A message that bounces off an account without a contract would only come home with less.
    let target = chain.account(&receiver).await.map_err(failed)?;
    let bounce = (body.is_some() || parsed.is_some_and(|p| p.bounceable))
        && target.status == AccountStatus::Active;
    let config = WalletConfig {
        key,
        init: init.clone(),
        min_balance: MIN_BALANCE,
        poll: POLL,
    };
    let handle = WalletHandle::spawn(chain, config);
    let outgoing = Outgoing {
        to: receiver,
        value,
        bounce,
        init: None,
        body,
    };
    let sent = tokio::time::timeout(SEND_TIMEOUT, handle.send(outgoing))
        .await
        .map_err(|_| {
            CliError::new("the chain did not show the transfer in time")
                .expected(format!("a block within {} s", SEND_TIMEOUT.as_secs()))
                .found(format!("wallet {}", handle.status().condition))
                .hint("it may still arrive: look at the balances before you send again")
        })?
        .map_err(|e| CliError::new("the transfer was not sent").found(e.to_string()))?;
    if json {
        super::print_json(&json!({
            "from": init.address.to_string(),
            "to": receiver.to_string(),
            "amount": value.to_string(),
            "transaction_lt": sent.tx_lt.to_string(),
            "transaction_hash": hex::encode(sent.tx_hash),
        }));
    } else {
        println!(
            "sent {} to {}\ntransaction {}",
            format_ton(value),
            receiver.to_text(bounce, true),
            hex::encode(sent.tx_hash)
        );
    }
    Ok(ExitCode::SUCCESS)
}
