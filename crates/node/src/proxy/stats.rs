//! Figures of a proxy for `/jsonstats` (protocol.md 8.5), as far as they are known here.

use serde_json::{Value, json};

use super::core::ProxyCore;
use super::links::{LinkState, WorkerPhase};

/// The proxy's part of `/jsonstats`.
pub fn stats(core: &ProxyCore) -> Value {
    let price = core.root.price();
    let clients: Vec<Value> = core
        .books
        .clients
        .iter()
        .map(|(owner, a)| {
            json!({
                "owner_address": owner.to_text(false, core.cfg.testnet),
                "sc_address": a.sc.to_text(false, core.cfg.testnet),
                "used_tokens": a.tracker.max().0,
                "saved_tokens": a.tracker.db().0,
                "signed_tokens": a.tracker.signed().0,
                "charged_tokens": a.record.sc_used,
                "tokens_to_charge": a.tracker.max().0.saturating_sub(a.record.sc_used),
                "reserved_tokens": a.reserved.0,
                "running_queries": a.running,
                "balance": a.record.balance.to_string(),
                "stake": a.record.stake.to_string(),
                "closing": a.record.status == 1,
                "closed": a.record.status == 2,
            })
        })
        .collect();
    let workers: Vec<Value> = core
        .books
        .workers
        .iter()
        .map(|(owner, a)| {
            json!({
                "owner_address": owner.to_text(false, core.cfg.testnet),
                "sc_address": a.sc.to_text(false, core.cfg.testnet),
                "earned_tokens": a.tracker.max().0,
                "saved_tokens": a.tracker.db().0,
                "signed_tokens": a.tracker.signed().0,
                "paid_tokens": a.sc_tokens,
                "unpayed_tokens": a.tracker.max().0.saturating_sub(a.sc_tokens),
                "paying_now": a.pending.is_some(),
            })
        })
        .collect();
    let connections: Vec<Value> = core
        .links
        .values()
        .filter_map(|l| match l {
            LinkState::Worker(w) if w.phase == WorkerPhase::Ok => Some(json!({
                "owner_address": w.owner.to_text(false, core.cfg.testnet),
                "model": w.full_model,
                "worker_hash": hex::encode_upper(w.peer.image_hash),
                "fake_attestation": w.peer.fake,
                "coefficient": w.coefficient.thousandths(),
                "running_queries": w.running,
                "max_queries": w.limit,
                "enabled": w.enabled,
                "protocol_version": w.version,
                "market": super::place::measured(w, core.now),
            })),
            _ => None,
        })
        .collect();
    json!({
        "status": {"enabled": core.disabled.is_none(), "disabled_because": core.disabled, "running_queries": core.requests.len()},
        "smartcontract": {
            "address": core.sc.to_text(false, core.cfg.testnet),
            "params_version": core.root.params.params_version,
            "ready_for_withdraw": core.revenue.to_string(),
        },
        "root_contract_config": {"version": core.root.version, "price_per_token": price.0.to_string(), "worker_fee_per_token": core.root.worker_fee().0.to_string()},
        "clients": clients,
        "workers": workers,
        "worker_connections": connections,
        "queue": core.queue.stats(),
    })
}
