//! Blocks, transactions and messages in the JSON of toncenter v2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_ton::{AccountStatus, Address, Cell, MsgInfo, TxInfo};
use serde_json::{Value, json};
use tycho_types::boc::Boc;
use tycho_types::models::{Transaction, TxInfo as RawInfo};

use crate::block::Block;

/// The one shard of a chain that does not split, as a signed number.
const WHOLE_SHARD: &str = "-9223372036854775808";

pub(super) fn state_name(status: AccountStatus) -> &'static str {
    match status {
        AccountStatus::Active => "active",
        AccountStatus::Frozen => "frozen",
        // toncenter v2 has one word for both.
        AccountStatus::Nonexistent | AccountStatus::Uninit => "uninitialized",
    }
}

pub(super) fn optional_boc(cell: Option<&Cell>) -> String {
    cell.map_or_else(String::new, Boc::encode_base64)
}

pub(super) fn transaction_id(lt: u64, hash: &[u8; 32]) -> Value {
    json!({
        "@type": "internal.transactionId",
        "lt": lt.to_string(),
        "hash": STANDARD.encode(hash),
    })
}

pub(super) fn block_id(block: &Block) -> Value {
    let hash = STANDARD.encode(block.hash());
    json!({
        "@type": "ton.blockIdExt",
        "workchain": -1,
        "shard": WHOLE_SHARD,
        "seqno": block.seqno,
        "root_hash": hash,
        "file_hash": hash,
    })
}

/// Addresses of messages and transactions are bounceable main network addresses, as toncenter writes them.
fn address_text(address: Option<&Address>) -> String {
    address.map_or_else(String::new, |address| address.to_text(true, false))
}

pub(super) fn transaction(transaction: &TxInfo) -> Value {
    let storage_fee = storage_fee(&transaction.boc);
    json!({
        "@type": "raw.transaction",
        "address": {
            "@type": "accountAddress",
            "account_address": transaction.account.to_text(true, false),
        },
        "utime": transaction.utime,
        "data": Boc::encode_base64(&transaction.boc),
        "transaction_id": transaction_id(transaction.lt, &transaction.hash),
        "previous_transaction_id": transaction_id(transaction.prev_lt, &transaction.prev_hash),
        "fee": transaction.total_fees.to_string(),
        "storage_fee": storage_fee.to_string(),
        "other_fee": transaction.total_fees.saturating_sub(storage_fee).to_string(),
        "in_msg": transaction.in_msg.as_ref().map(message),
        "out_msgs": transaction.out_msgs.iter().map(message).collect::<Vec<_>>(),
        // Not in toncenter: what a reader would have to dig out of "data".
        "aborted": transaction.aborted,
        "compute_exit_code": transaction.compute_exit_code,
        "action_result_code": transaction.action_result_code,
    })
}

fn storage_fee(boc: &Cell) -> u128 {
    let info = boc
        .parse::<Transaction>()
        .and_then(|transaction| transaction.load_info());
    match info {
        Ok(RawInfo::Ordinary(info)) => info
            .storage_phase
            .map_or(0, |phase| phase.storage_fees_collected.into_inner()),
        Ok(RawInfo::TickTock(info)) => info.storage_phase.storage_fees_collected.into_inner(),
        Err(_) => 0,
    }
}

fn message(message: &MsgInfo) -> Value {
    json!({
        "@type": "raw.message",
        "hash": STANDARD.encode(message.hash),
        "source": address_text(message.src.as_ref()),
        "destination": address_text(message.dst.as_ref()),
        "value": message.value.to_string(),
        "extra_currencies": [],
        "fwd_fee": message.fwd_fee.to_string(),
        "ihr_fee": message.ihr_fee.to_string(),
        "created_lt": message.created_lt.to_string(),
        "body_hash": STANDARD.encode(message.body.repr_hash()),
        "msg_data": {
            "@type": "msg.dataRaw",
            "body": Boc::encode_base64(&message.body),
            "init_state": "",
        },
        "message": "",
        // Not in toncenter.
        "bounce": message.bounce,
        "bounced": message.bounced,
    })
}
