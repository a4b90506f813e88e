//! The chain through its HTTP interface (toncenter v2), as the commands beside `cocoon up` see it.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_ton::transaction::parse_transaction_of;
use cocoon_ton::{
    AccountState, AccountStatus, Address, BigInt, Cell, Chain, ChainError, GetResult, NetworkInfo,
    StackValue, TxInfo, boc,
};
use http::Method;
use serde_json::{Value, json};

use crate::http::Http;

/// Transactions in one answer of toncenter.
const PAGE: usize = 100;
/// Transactions looked through for one question; the oldest ones of a longer history are not wanted here.
const MAX_HISTORY: usize = 10_000;

/// Root hashes of the public networks' zero states, by which they are known.
const MAINNET_ZERO_STATE: &str = "F6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk=";
/// See [`MAINNET_ZERO_STATE`].
const TESTNET_ZERO_STATE: &str = "gj+B8wb/AmlPk1z1AhVI484rhrUpgSr2oSFIh56VoSg=";
/// Stands for every other network; that of `cocoon up` has it.
const LOCAL_GLOBAL_ID: i32 = crate::up::GLOBAL_ID;

/// A toncenter-style server.
#[derive(Debug, Clone)]
pub struct Toncenter {
    base: String,
    global_id: i32,
    http: Http,
}

impl Toncenter {
    /// A server at `base`, without the `/api/v2`. The interface itself does not tell the network.
    pub fn new(base: &str, global_id: i32) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            global_id,
            http: Http::default(),
        }
    }

    /// A server at `base`, of the network that its first block tells.
    pub async fn open(base: &str) -> Result<Self, ChainError> {
        let mut server = Self::new(base, 0);
        let info = server.call("getMasterchainInfo", json!({})).await?;
        server.global_id = match info["init"]["root_hash"].as_str() {
            Some(MAINNET_ZERO_STATE) => cocoon_ton::chain::MAINNET_GLOBAL_ID,
            Some(TESTNET_ZERO_STATE) => cocoon_ton::chain::TESTNET_GLOBAL_ID,
            Some(_) => LOCAL_GLOBAL_ID,
            None => return Err(malformed("the first block (init)")),
        };
        Ok(server)
    }

    async fn call(&self, method: &str, parameters: Value) -> Result<Value, ChainError> {
        let url = format!("{}/api/v2/{method}", self.base);
        let answer = self
            .http
            .call(Method::POST, &url, Some(&parameters))
            .await
            .map_err(|e| ChainError::Unavailable(e.to_string()))?;
        let Value::Object(mut object) = answer.json else {
            return Err(ChainError::Malformed(format!(
                "{method}: not a JSON object"
            )));
        };
        if object.get("ok") == Some(&Value::Bool(true)) {
            return Ok(object.remove("result").unwrap_or(Value::Null));
        }
        let text = object
            .get("error")
            .and_then(Value::as_str)
            .unwrap_or("an error without a text")
            .to_owned();
        Err(match answer.status {
            422 => ChainError::BadRequest(text),
            404 => ChainError::NotFound(text),
            429 => ChainError::RateLimited(text),
            503 => ChainError::Unavailable(text),
            504 => ChainError::Timeout(text),
            _ if method.starts_with("sendBoc") => ChainError::Rejected {
                reason: text,
                exit_code: None,
            },
            _ => ChainError::Internal(text),
        })
    }
}

fn malformed(what: &str) -> ChainError {
    ChainError::Malformed(what.to_owned())
}

fn cell(value: &Value, what: &str) -> Result<Option<Cell>, ChainError> {
    let text = value.as_str().unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = STANDARD.decode(text).map_err(|_| malformed(what))?;
    boc::decode(&bytes, boc::STATE)
        .map(Some)
        .map_err(|e| ChainError::Malformed(format!("{what}: {e}")))
}

fn number<T: std::str::FromStr>(value: &Value, what: &str) -> Result<T, ChainError> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed(what))
}

fn hash(value: &Value, what: &str) -> Result<[u8; 32], ChainError> {
    value
        .as_str()
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| malformed(what))
}

#[async_trait]
impl Chain for Toncenter {
    async fn network(&self) -> Result<NetworkInfo, ChainError> {
        let result = self.call("getMasterchainInfo", json!({})).await?;
        let seqno = result["last"]["seqno"]
            .as_u64()
            .and_then(|n| u32::try_from(n).ok());
        let seqno = seqno.ok_or_else(|| malformed("the seqno of the newest block"))?;
        // The time of the chain stands only in account states; any account has it.
        let zero = json!({"address": Address::default().to_string()});
        let state = self.call("getAddressInformation", zero).await?;
        let utime = state["sync_utime"]
            .as_u64()
            .and_then(|n| u32::try_from(n).ok());
        Ok(NetworkInfo {
            global_id: self.global_id,
            seqno,
            utime: utime.ok_or_else(|| malformed("sync_utime"))?,
        })
    }

    async fn account(&self, address: &Address) -> Result<AccountState, ChainError> {
        let result = self
            .call(
                "getAddressInformation",
                json!({"address": address.to_string()}),
            )
            .await?;
        let balance: u128 = number(&result["balance"], "the balance")?;
        let last_lt = number(&result["last_transaction_id"]["lt"], "the last lt")?;
        let status = match result["state"].as_str() {
            Some("active") => AccountStatus::Active,
            Some("frozen") => AccountStatus::Frozen,
            // One word for both; an account without coins and history does not exist.
            Some("uninitialized") if balance == 0 && last_lt == 0 => AccountStatus::Nonexistent,
            Some("uninitialized") => AccountStatus::Uninit,
            _ => return Err(malformed("the state of the account")),
        };
        Ok(AccountState {
            status,
            balance,
            code: cell(&result["code"], "the code")?,
            data: cell(&result["data"], "the data")?,
            last_lt,
            last_hash: hash(&result["last_transaction_id"]["hash"], "the last hash")?,
        })
    }

    async fn transactions(
        &self,
        address: &Address,
        after_lt: u64,
        limit: usize,
    ) -> Result<Vec<TxInfo>, ChainError> {
        // The server goes backwards from the newest; we go forwards from the oldest.
        let mut found: Vec<TxInfo> = Vec::new();
        loop {
            let mut parameters = json!({
                "address": address.to_string(),
                "limit": PAGE,
                "to_lt": after_lt.to_string(),
            });
            if let Some(last) = found.last() {
                parameters["lt"] = json!(last.prev_lt.to_string());
                parameters["hash"] = json!(STANDARD.encode(last.prev_hash));
            }
            let page = self.call("getTransactions", parameters).await?;
            let page = page
                .as_array()
                .ok_or_else(|| malformed("the transactions"))?;
            for item in page {
                let boc = cell(&item["data"], "a transaction")?
                    .ok_or_else(|| malformed("a transaction without data"))?;
                let tx = parse_transaction_of(address.workchain, &boc)
                    .map_err(|e| ChainError::Malformed(format!("a transaction: {e}")))?;
                if found.last().is_some_and(|last| tx.lt >= last.lt) {
                    return Err(malformed("transactions out of order"));
                }
                found.push(tx);
            }
            let more = found.last().is_some_and(|tx| tx.prev_lt > after_lt);
            if page.is_empty() || !more || found.len() >= MAX_HISTORY {
                break;
            }
        }
        found.reverse();
        found.truncate(limit);
        Ok(found)
    }

    async fn run_get_method(
        &self,
        address: &Address,
        name: &str,
        args: Vec<StackValue>,
    ) -> Result<GetResult, ChainError> {
        if !args.is_empty() {
            return Err(ChainError::BadRequest(
                "get-methods with arguments are not supported over HTTP yet".to_owned(),
            ));
        }
        let result = self
            .call(
                "runGetMethod",
                json!({"address": address.to_string(), "method": name, "stack": []}),
            )
            .await?;
        let exit_code = result["exit_code"]
            .as_i64()
            .and_then(|n| i32::try_from(n).ok());
        let stack = result["stack"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        Ok(GetResult {
            exit_code: exit_code.ok_or_else(|| malformed("the exit code"))?,
            stack: stack.iter().map(stack_value).collect::<Result<_, _>>()?,
            gas_used: result["gas_used"].as_u64().unwrap_or_default(),
        })
    }

    async fn send(&self, external_boc: Vec<u8>) -> Result<[u8; 32], ChainError> {
        let result = self
            .call(
                "sendBocReturnHash",
                json!({"boc": STANDARD.encode(external_boc)}),
            )
            .await?;
        hash(&result["hash"], "the hash of the message")
    }
}

fn stack_value(item: &Value) -> Result<StackValue, ChainError> {
    let content = &item[1];
    let inner = || cell(&content["bytes"], "a cell")?.ok_or_else(|| malformed("an empty cell"));
    match item[0].as_str() {
        Some("null") => Ok(StackValue::Null),
        Some("num") => {
            let text = content.as_str().unwrap_or_default();
            let (negative, digits) = match text.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, text),
            };
            let digits = digits.strip_prefix("0x").unwrap_or_default();
            let value =
                BigInt::parse_bytes(digits.as_bytes(), 16).ok_or_else(|| malformed("a number"))?;
            Ok(StackValue::Int(if negative { -value } else { value }))
        }
        Some("cell") => inner().map(StackValue::Cell),
        Some("slice") => inner().map(StackValue::Slice),
        Some("builder") => inner().map(StackValue::Builder),
        _ => Err(malformed("a value on the stack")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_values() {
        let number = |text: &str| stack_value(&json!(["num", text])).unwrap().as_i64();
        assert_eq!(number("0x1f"), Some(31));
        assert_eq!(number("-0x2"), Some(-2));
        for wrong in [
            json!(["num", "17"]),
            json!(["num", "NaN"]),
            json!([]),
            json!(["cell", {}]),
        ] {
            assert!(stack_value(&wrong).is_err(), "{wrong}");
        }
    }
}
