//! The root configuration as `/jsonstats` shows it (protocol.md 8.5), in the reference's names.

use cocoon_ton::Cell;
use serde_json::{Value, json};

use crate::root::RootView;

fn hashes<'a>(list: impl IntoIterator<Item = &'a [u8; 32]>) -> Vec<String> {
    list.into_iter().map(hex::encode_upper).collect()
}

fn code_hash(code: &Option<Cell>) -> Option<String> {
    code.as_ref()
        .map(|cell| hex::encode_upper(cell.repr_hash()))
}

/// The member `root_contract_config`. Amounts are nanoTON in text, hashes upper-case hex.
pub fn root_json(root: &RootView, testnet: bool) -> Value {
    let p = &root.params;
    let proxies: Vec<Value> = root
        .proxies
        .iter()
        .map(|proxy| {
            json!({
                "seqno": proxy.seqno,
                "address_for_clients": proxy.clients.to_string(),
                "address_for_workers": proxy.workers.to_string(),
            })
        })
        .collect();
    json!({
        "owner_address": root.owner.map(|owner| owner.to_text(true, testnet)),
        "proxy_hashes": hashes(&root.proxy_hashes),
        "registered_proxies": proxies,
        "last_proxy_seqno": root.last_proxy_seqno,
        "worker_hashes": hashes(&root.worker_hashes),
        "model_hashes": hashes(&root.model_hashes),
        "version": root.version,
        "struct_version": p.struct_version,
        "params_version": p.params_version,
        "unique_id": p.unique_id,
        "is_test": p.is_test,
        "price_per_token": p.price_per_token.to_string(),
        "worker_fee_per_token": p.worker_fee_per_token.to_string(),
        "prompt_tokens_price_multiplier": p.prompt_multiplier,
        "cached_tokens_price_multiplier": p.cached_multiplier,
        "completion_tokens_price_multiplier": p.completion_multiplier,
        "reasoning_tokens_price_multiplier": p.reasoning_multiplier,
        "proxy_delay_before_close": p.proxy_delay,
        "client_delay_before_close": p.client_delay,
        "proxy_min_stake": p.min_proxy_stake.to_string(),
        "client_min_stake": p.min_client_stake.to_string(),
        "proxy_sc_code_hash": code_hash(&p.proxy_code),
        "worker_sc_code_hash": code_hash(&p.worker_code),
        "client_sc_code_hash": code_hash(&p.client_code),
    })
}
