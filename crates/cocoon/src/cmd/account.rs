//! `cocoon account`: any account of the local chain; Cocoon's contracts are asked by their get-methods.

use std::process::ExitCode;

use cocoon_ton::amount::format_ton;
use cocoon_ton::{AccountStatus, Address, Chain, ChainError, GetResult, StackValue};
use serde_json::{Map, Value, json};

use crate::cli::{AccountArgs, AccountCommand, Global};
use crate::error::{CliError, Result};
use crate::toncenter::Toncenter;
use crate::up::settings::address;

/// How to show a value on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A count, a number, a time.
    Number,
    /// NanoTON.
    Coins,
    /// An address.
    Address,
    /// 32 bytes.
    Hash,
    /// A state of a contract: normal, closing, closed.
    State,
    /// 0 or -1.
    Flag,
}

/// A get-method that only one kind of contract has, with its results in stack order (contracts.md 6.4 to 10.3).
pub struct Getter {
    /// What the contract is.
    pub contract: &'static str,
    /// Name of the method.
    pub method: &'static str,
    /// Its results.
    pub fields: &'static [(&'static str, Kind)],
}

use Kind::{Address as A, Coins, Flag, Hash, Number, State};

/// All of them.
pub const GETTERS: [Getter; 4] = [
    Getter {
        contract: "root",
        method: "get_cocoon_data",
        fields: &[
            ("version", Number),
            ("last_proxy_seqno", Number),
            ("params_version", Number),
            ("unique_id", Number),
            ("is_test", Flag),
            ("price_per_token", Coins),
            ("worker_fee_per_token", Coins),
            ("min_proxy_stake", Coins),
            ("min_client_stake", Coins),
            ("owner", A),
        ],
    },
    Getter {
        contract: "proxy",
        method: "get_cocoon_proxy_data",
        fields: &[
            ("owner", A),
            ("public_key", Hash),
            ("root", A),
            ("state", State),
            ("revenue", Coins),
            ("stake", Coins),
            ("unlock_time", Number),
            ("price_per_token", Coins),
            ("worker_fee_per_token", Coins),
            ("min_proxy_stake", Coins),
            ("min_client_stake", Coins),
            ("params_version", Number),
        ],
    },
    Getter {
        contract: "client",
        method: "get_cocoon_client_data",
        fields: &CLIENT_FIELDS,
    },
    Getter {
        contract: "worker",
        method: "get_cocoon_worker_data",
        fields: &WORKER_FIELDS,
    },
];

const CLIENT_FIELDS: [(&str, Kind); 9] = [
    ("owner", A),
    ("proxy", A),
    ("proxy_public_key", Hash),
    ("state", State),
    ("balance", Coins),
    ("stake", Coins),
    ("tokens_used", Number),
    ("unlock_time", Number),
    ("secret_hash", Hash),
];

const WORKER_FIELDS: [(&str, Kind); 5] = [
    ("owner", A),
    ("proxy", A),
    ("proxy_public_key", Hash),
    ("state", State),
    ("tokens_paid", Number),
];

/// Runs the command.
pub async fn run(args: &AccountArgs, global: &Global) -> Result<ExitCode> {
    use super::operate;
    match &args.command {
        None => {}
        Some(AccountCommand::Exit(exit)) => return super::exit::run(exit, global).await,
        Some(AccountCommand::Topup(node)) => {
            return operate::run("topup", node, None, global).await;
        }
        Some(AccountCommand::Withdraw(node)) => {
            return operate::run("withdraw", node, None, global).await;
        }
        Some(AccountCommand::Charge(node)) => {
            return operate::run("charge", node, None, global).await;
        }
        Some(AccountCommand::Payout(node)) => {
            return operate::run("payout", node, None, global).await;
        }
        Some(AccountCommand::Close(last)) => {
            return operate::run("close", &last.node, Some(last.yes), global).await;
        }
    }
    // The command line asks for it unless there is a subcommand.
    let address = address(args.address.as_deref().unwrap_or_default(), "ADDRESS")?;
    let network = super::running(global)?;
    let chain = super::chain(&network);
    let shown = look(&chain, &address).await?;
    if args.json {
        super::print_json(&shown);
    } else {
        print!("{}", text(&shown));
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that is known of an account, as one object. Amounts are nanoTON in text.
pub async fn look(chain: &Toncenter, address: &Address) -> Result<Value> {
    let account = chain.account(address).await.map_err(|e| failed(&e))?;
    let state = match account.status {
        AccountStatus::Nonexistent => "nonexistent",
        AccountStatus::Uninit => "uninitialised",
        AccountStatus::Active => "active",
        AccountStatus::Frozen => "frozen",
    };
    let mut shown = json!({
        "address": address.to_string(),
        "address_text": address.to_text(true, true),
        "state": state,
        "balance": account.balance.to_string(),
        "last_transaction_lt": account.last_lt.to_string(),
        "code_hash": account.code.as_ref().map(|code| hex::encode(code.repr_hash())),
        "contract": null,
        "data": null,
    });
    if account.status == AccountStatus::Active
        && let Some((contract, data)) = decode(chain, address).await?
    {
        shown["contract"] = json!(contract);
        shown["data"] = data;
    }
    Ok(shown)
}

fn failed(error: &ChainError) -> CliError {
    CliError::new("the chain does not answer")
        .found(error.to_string())
        .hint("check with 'cocoon status'")
}

async fn decode(chain: &Toncenter, address: &Address) -> Result<Option<(&'static str, Value)>> {
    for getter in &GETTERS {
        let result = chain
            .run_get_method(address, getter.method, Vec::new())
            .await;
        let result = result.map_err(|e| failed(&e))?;
        if result.is_success() {
            return Ok(Some((getter.contract, labelled(&result, getter.fields))));
        }
    }
    // The wallet has one method a figure.
    let mut data = Map::new();
    let methods = [
        ("seqno", "seqno", Number),
        ("get_public_key", "public_key", Hash),
        ("get_owner_address", "owner", A),
    ];
    for (method, name, kind) in methods {
        let result = chain
            .run_get_method(address, method, Vec::new())
            .await
            .map_err(|e| failed(&e))?;
        if !result.is_success() {
            return Ok(None);
        }
        data.insert(
            name.to_owned(),
            result.stack.first().map_or(Value::Null, |v| shown(v, kind)),
        );
    }
    Ok(Some(("wallet", Value::Object(data))))
}

fn labelled(result: &GetResult, fields: &[(&str, Kind)]) -> Value {
    let mut data = Map::new();
    for (place, value) in result.stack.iter().enumerate() {
        // A newer contract may return more; nothing is hidden.
        let (name, kind) = fields
            .get(place)
            .map_or((format!("result_{place}"), Number), |(n, k)| {
                ((*n).to_owned(), *k)
            });
        data.insert(name, shown(value, kind));
    }
    Value::Object(data)
}

fn shown(value: &StackValue, kind: Kind) -> Value {
    let number = || value.as_int().map(ToString::to_string);
    match kind {
        Kind::Address => value.as_address().map(|address| address.to_string()).into(),
        Kind::Hash => value.as_u256().map(hex::encode).into(),
        Kind::State => match value.as_i64() {
            Some(0) => json!("normal"),
            Some(1) => json!("closing"),
            Some(2) => json!("closed"),
            _ => number().into(),
        },
        Kind::Flag => value.as_i64().map(|flag| flag != 0).into(),
        Kind::Coins => number().into(),
        Kind::Number => value.as_i64().map_or_else(|| number().into(), Value::from),
    }
}

fn text(account: &Value) -> String {
    let coins = |value: &Value| {
        let nano = value.as_str().and_then(|text| text.parse().ok());
        nano.map_or_else(|| value.to_string(), format_ton)
    };
    let plain = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned)
    };
    let kind = account["contract"].as_str();
    let mut lines = vec![
        ("address".to_owned(), plain(&account["address_text"])),
        ("raw".to_owned(), plain(&account["address"])),
        ("state".to_owned(), plain(&account["state"])),
        ("balance".to_owned(), coins(&account["balance"])),
    ];
    if let Some(kind) = kind {
        lines.push(("contract".to_owned(), format!("Cocoon {kind}")));
    } else if let Some(hash) = account["code_hash"].as_str() {
        lines.push(("contract".to_owned(), format!("unknown code {hash}")));
    }
    let fields = GETTERS
        .iter()
        .find(|g| Some(g.contract) == kind)
        .map_or(&[][..], |g| g.fields);
    if let Value::Object(data) = &account["data"] {
        // In the order of the contract's documentation; JSON objects sort their keys.
        let known = fields.iter().map(|(name, _)| (*name).to_owned());
        let rest = data
            .keys()
            .filter(|key| !fields.iter().any(|(name, _)| name == key))
            .cloned();
        for name in known.chain(rest) {
            let is_coins = fields.iter().any(|(n, k)| *n == name && *k == Coins);
            let value = data.get(&name).unwrap_or(&Value::Null);
            let value = if is_coins { coins(value) } else { plain(value) };
            lines.push((format!("  {}", name.replace('_', " ")), value));
        }
    }
    lines
        .iter()
        .map(|(name, value)| format!("{name:<24} {value}\n"))
        .collect()
}
