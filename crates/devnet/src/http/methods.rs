//! The methods of toncenter v2 that are served, by name, with parameters from query or body alike.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_ton::{Address, Chain, StackValue};
use serde_json::{Value, json};

use super::{ApiError, ApiResult, format, not_found, stack};
use crate::chain::Devnet;
use crate::getter::method_id;
use cocoon_ton::transaction::parse_transaction_of;

/// Transactions in one answer, as toncenter limits them.
const MAX_LIMIT: u64 = 100;
/// Transactions in an answer if the caller does not say.
const DEFAULT_LIMIT: u64 = 10;

pub(super) async fn call(chain: &Devnet, method: &str, parameters: &Value) -> ApiResult {
    match method {
        "getAddressInformation" => address_information(chain, address(parameters)?).await,
        "getAddressBalance" => {
            let account = chain.account(&address(parameters)?).await?;
            Ok(json!(account.balance.to_string()))
        }
        "getAddressState" => {
            let account = chain.account(&address(parameters)?).await?;
            Ok(json!(format::state_name(account.status)))
        }
        "getTransactions" => transactions(chain, parameters).await,
        "getMasterchainInfo" => masterchain_info(chain).await,
        "runGetMethod" => run_get_method(chain, parameters).await,
        "sendBoc" => {
            send(chain, parameters).await?;
            Ok(json!({"@type": "ok"}))
        }
        "sendBocReturnHash" => {
            let hash = send(chain, parameters).await?;
            Ok(json!({"@type": "raw.extMessageInfo", "hash": STANDARD.encode(hash)}))
        }
        other => Err(not_found(&format!("unknown method {other:?}"))),
    }
}

fn text<'a>(parameters: &'a Value, name: &str) -> Result<&'a str, ApiError> {
    parameters[name]
        .as_str()
        .ok_or_else(|| ApiError::bad(format!("the parameter {name:?} is missing or not a text")))
}

fn address(parameters: &Value) -> Result<Address, ApiError> {
    Address::parse(text(parameters, "address")?)
        .map(|parsed| parsed.address)
        .map_err(|e| ApiError::bad(format!("\"address\" is wrong: {e}")))
}

/// A number that may come as JSON number or as text (from a query).
fn number(parameters: &Value, name: &str) -> Result<Option<u64>, ApiError> {
    match &parameters[name] {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| {
            ApiError::bad(format!(
                "the parameter {name:?} is not a whole number: {text:?}"
            ))
        }),
        value => value.as_u64().map(Some).ok_or_else(|| {
            ApiError::bad(format!(
                "the parameter {name:?} is not a whole number: {value}"
            ))
        }),
    }
}

async fn address_information(chain: &Devnet, address: Address) -> ApiResult {
    let account = chain.account(&address).await?;
    let frozen_hash = frozen_hash(chain, &address);
    let head = chain.head();
    Ok(json!({
        "@type": "raw.fullAccountState",
        "balance": account.balance.to_string(),
        "extra_currencies": [],
        "code": format::optional_boc(account.code.as_ref()),
        "data": format::optional_boc(account.data.as_ref()),
        "last_transaction_id": format::transaction_id(account.last_lt, &account.last_hash),
        "block_id": format::block_id(&head),
        "frozen_hash": frozen_hash,
        "sync_utime": head.utime,
        "state": format::state_name(account.status),
    }))
}

/// Hash of the state that a frozen account had; empty for all others.
fn frozen_hash(chain: &Devnet, address: &Address) -> String {
    let account = chain.inner.read().account(address);
    match account.load_account() {
        Ok(Some(account)) => match account.state {
            tycho_types::models::AccountState::Frozen(hash) => STANDARD.encode(hash),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

async fn transactions(chain: &Devnet, parameters: &Value) -> ApiResult {
    let address = address(parameters)?;
    let limit = number(parameters, "limit")?
        .unwrap_or(DEFAULT_LIMIT)
        .clamp(1, MAX_LIMIT) as usize;
    // `lt` names the newest transaction wanted, `to_lt` the newest one not wanted.
    let newest = number(parameters, "lt")?.unwrap_or(u64::MAX);
    let oldest = number(parameters, "to_lt")?.unwrap_or(0).saturating_add(1);
    let cells = chain
        .blocking(move |inner| {
            inner
                .store
                .transactions_before(&address, oldest, newest, limit)
        })
        .await?
        .map_err(crate::reader::chain_error)?;
    let mut found = Vec::with_capacity(cells.len());
    for cell in cells {
        let transaction = parse_transaction_of(address.workchain, &cell).map_err(|e| {
            ApiError::from(cocoon_ton::ChainError::Internal(format!(
                "a transaction cannot be read: {e}"
            )))
        })?;
        found.push(format::transaction(&transaction));
    }
    Ok(Value::Array(found))
}

async fn masterchain_info(chain: &Devnet) -> ApiResult {
    let head = chain.head();
    let genesis = chain
        .block(0)
        .map_err(crate::reader::chain_error)?
        .ok_or_else(|| not_found("the genesis block is missing"))?;
    Ok(json!({
        "@type": "blocks.masterchainInfo",
        "last": format::block_id(&head),
        "state_root_hash": STANDARD.encode(head.hash()),
        "init": format::block_id(&genesis),
    }))
}

async fn run_get_method(chain: &Devnet, parameters: &Value) -> ApiResult {
    let address = address(parameters)?;
    let method = match &parameters["method"] {
        Value::String(name) => method_id(name),
        value => value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| ApiError::bad("\"method\" must be a name or a number"))?,
    };
    let arguments: Vec<StackValue> = match &parameters["stack"] {
        Value::Null => Vec::new(),
        Value::Array(items) => items
            .iter()
            .map(stack::parse)
            .collect::<Result<_, _>>()
            .map_err(ApiError::bad)?,
        _ => return Err(ApiError::bad("\"stack\" must be a list")),
    };
    let result = chain.run_method(address, method, arguments).await?;
    let account = chain.account(&address).await?;
    Ok(json!({
        "@type": "smc.runResult",
        "gas_used": result.gas_used,
        "stack": result.stack.iter().map(stack::render).collect::<Vec<_>>(),
        "exit_code": result.exit_code,
        "block_id": format::block_id(&chain.head()),
        "last_transaction_id": format::transaction_id(account.last_lt, &account.last_hash),
    }))
}

async fn send(chain: &Devnet, parameters: &Value) -> Result<[u8; 32], ApiError> {
    let boc = STANDARD
        .decode(text(parameters, "boc")?)
        .map_err(|e| ApiError::bad(format!("\"boc\" is not base64: {e}")))?;
    Ok(chain.send(boc).await?)
}
