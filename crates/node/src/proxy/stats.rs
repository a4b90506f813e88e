//! Figures of a proxy: `/jsonstats` in the reference's names (protocol.md 8.5) with ours beside them, and metrics.

use std::collections::BTreeMap;

use cocoon_ledger::reserve::{ChainAccount, ClientBook};
use cocoon_ledger::stats::Decaying;
use cocoon_ledger::{AdjustedTokens, NanoTon};
use serde_json::{Value, json};

use super::accounts::ClientAccount;
use super::core::ProxyCore;
use super::links::{ClientPhase, LinkState, WorkerPhase};
use crate::metrics::Page;
use crate::root_json::root_json;

/// Window of a connection's figures.
const WINDOW_S: f64 = 600.0;
/// A worker cannot have worked longer on a request; larger claims are nonsense.
const MAX_WORKER_TIME_S: f64 = 86_400.0;

/// What a worker's connection did in the last ten minutes, fading.
#[derive(Clone, Debug)]
pub struct Recent {
    queries: Decaying,
    success: Decaying,
    time: Decaying,
    worker_time: Decaying,
}

impl Default for Recent {
    fn default() -> Self {
        let empty = || Decaying::new(WINDOW_S);
        Recent {
            queries: empty(),
            success: empty(),
            time: empty(),
            worker_time: empty(),
        }
    }
}

impl Recent {
    /// A request ended after `passed_s` seconds.
    pub(super) fn ended(&mut self, now_s: f64, passed_s: f64, success: bool) {
        self.queries.add(now_s, 1.0);
        self.time.add(now_s, passed_s);
        if success {
            self.success.add(now_s, 1.0);
        }
    }

    /// The worker says how long it took.
    pub(super) fn worker_said(&mut self, now_s: f64, seconds: f64) {
        if (0.0..MAX_WORKER_TIME_S).contains(&seconds) {
            self.worker_time.add(now_s, seconds);
        }
    }
}

fn available(core: &ProxyCore, a: &ClientAccount) -> u64 {
    let book = ClientBook {
        chain: ChainAccount {
            used: AdjustedTokens(a.record.sc_used),
            balance: NanoTon(a.record.balance),
            stake: NanoTon(a.record.stake),
        },
        used: a.tracker.max(),
        reserved: a.reserved,
    };
    book.available(core.root.price()).0
}

/// The proxy's part of `/jsonstats`. Upper case in hashes is the reference's.
pub fn stats(core: &ProxyCore) -> Value {
    let text = |address: cocoon_ton::Address| address.to_text(false, core.cfg.testnet);
    let now_s = core.now as f64 / 1000.0;
    let clients: Vec<Value> = core
        .books
        .clients
        .iter()
        .map(|(owner, a)| {
            json!({
                "owner_address": text(*owner),
                "sc_address": text(a.sc),
                "used_tokens": a.tracker.max().0,
                "saved_tokens": a.tracker.db().0,
                "signed_tokens": a.tracker.signed().0,
                "charged_tokens": a.record.sc_used,
                "tokens_to_charge": a.tracker.max().0.saturating_sub(a.record.sc_used),
                "available_tokens": available(core, a),
                "reserved_tokens": a.reserved.0,
                "running_queries": a.running,
                "balance": a.record.balance.to_string(),
                "stake": a.record.stake.to_string(),
                "closing": a.record.status == 1,
                "closed": a.record.status == 2,
            })
        })
        .collect();
    let mut running: BTreeMap<_, u32> = BTreeMap::new();
    for link in core.links.values() {
        if let LinkState::Worker(w) = link {
            *running.entry(w.owner).or_default() += w.running;
        }
    }
    let workers: Vec<Value> = core
        .books
        .workers
        .iter()
        .map(|(owner, a)| {
            json!({
                "owner_address": text(*owner),
                "sc_address": text(a.sc),
                "earned_tokens": a.tracker.max().0,
                "saved_tokens": a.tracker.db().0,
                "signed_tokens": a.tracker.signed().0,
                "paid_tokens": a.sc_tokens,
                "unpayed_tokens": a.tracker.max().0.saturating_sub(a.sc_tokens),
                "paying_now": a.pending.is_some(),
                "running_queries": running.get(owner).copied().unwrap_or(0),
            })
        })
        .collect();
    let connections: Vec<Value> = core
        .links
        .values()
        .filter_map(|l| match l {
            LinkState::Worker(w) if w.phase == WorkerPhase::Ok => Some(json!({
                "owner_address": text(w.owner),
                "model": w.full_model,
                "worker_hash": hex::encode_upper(w.peer.image_hash),
                "fake_attestation": w.peer.fake,
                "signed_claims": w.peer.claims.is_some(),
                "gpus": w.peer.claims.as_deref().map_or(0, |claims| claims.gpus.len()),
                "allowed": core.worker_allowed(w),
                "coefficient": w.coefficient.thousandths(),
                "running_queries": w.running,
                "max_queries": w.limit,
                "queries_10m": w.recent.queries.sum(now_s),
                "queries_time_10m": w.recent.time.sum(now_s),
                "worker_queries_time_10m": w.recent.worker_time.sum(now_s),
                "queries_success_10m": w.recent.success.sum(now_s),
                "enabled": w.enabled,
                "listed": core.worker_allowed(w),
                "protocol_version": w.version,
                "market": super::place::measured(w, core.now),
            })),
            _ => None,
        })
        .collect();
    let client_connections: Vec<Value> = core
        .links
        .values()
        .filter_map(|l| match l {
            LinkState::Client(c) => {
                let owner = match &c.phase {
                    ClientPhase::Ok { owner } => Some(text(*owner)),
                    _ => None,
                };
                Some(json!({
                    "owner_address": owner,
                    "is_ready": owner.is_some(),
                    "protocol_version": c.version,
                }))
            }
            LinkState::Worker(_) => None,
        })
        .collect();
    let margin = core.root.price().0.saturating_sub(core.root.worker_fee().0);
    json!({
        "role": "proxy",
        "status": {"enabled": core.disabled.is_none(), "disabled_because": core.disabled, "running_queries": core.requests.len()},
        "stats": core.meter.reference(core.now),
        "smartcontract": {
            "address": text(core.sc),
            "params_version": core.root.params.params_version,
            "balance": core.holds.coins.to_string(),
            "stake": core.holds.stake.to_string(),
            "ready_for_withdraw": core.revenue.to_string(),
        },
        "root_contract_config": root_json(&core.root, core.cfg.testnet),
        "old_instances": core.old_stats(),
        "old_contracts": core.old_stats(),
        "next_contract": core.founding_contract().map(text),
        "clients": clients,
        "client_connections": client_connections,
        "workers": workers,
        "worker_connections": connections,
        "flow": {"tokens": total_earned(core), "nanotons_per_token": margin.to_string()},
        "queue": core.queue.stats(),
    })
}

/// Tokens that workers delivered through this proxy; its commission is the difference of price and fee.
fn total_earned(core: &ProxyCore) -> u64 {
    core.books
        .workers
        .values()
        .fold(0u64, |sum, a| sum.saturating_add(a.tracker.max().0))
}

/// The proxy's metrics.
pub(super) fn expose(core: &ProxyCore, page: &mut Page) {
    core.meter.expose(page);
    let mut links: BTreeMap<(&str, &str, i32), u32> = BTreeMap::new();
    for link in core.links.values() {
        let key = match link {
            LinkState::Client(c) => match c.phase {
                ClientPhase::Ok { .. } => ("client", "ready", c.version),
                _ => ("client", "handshake", c.version),
            },
            LinkState::Worker(w) => match (w.phase, w.enabled) {
                (WorkerPhase::Ok, true) => ("worker", "ready", w.version),
                (WorkerPhase::Ok, false) => ("worker", "disabled", w.version),
                _ => ("worker", "handshake", w.version),
            },
        };
        *links.entry(key).or_default() += 1;
    }
    crate::metrics::expose_links(page, &links);
    page.gauge(
        "cocoon_queued_requests",
        "Requests that wait for a worker.",
        &[],
        core.queue.len(),
    );
    let slots = core.links.values().filter_map(|l| match l {
        LinkState::Worker(w) if w.phase == WorkerPhase::Ok && w.enabled => Some(w.limit),
        _ => None,
    });
    page.gauge(
        "cocoon_request_slots",
        "Requests that could run at once.",
        &[],
        slots.fold(0u64, |sum, n| sum + u64::from(n)),
    );
    let reserved = core
        .books
        .clients
        .values()
        .fold(0u64, |sum, a| sum.saturating_add(a.reserved.0));
    page.gauge(
        "cocoon_reserved_tokens",
        "Adjusted tokens reserved by running requests.",
        &[],
        reserved,
    );
    let mut stages = [[0u64; 4]; 2];
    for a in core.books.clients.values() {
        add(
            &mut stages[0],
            [
                a.tracker.max().0,
                a.tracker.db().0,
                a.tracker.signed().0,
                a.record.sc_used,
            ],
        );
    }
    for a in core.books.workers.values() {
        add(
            &mut stages[1],
            [
                a.tracker.max().0,
                a.tracker.db().0,
                a.tracker.signed().0,
                a.sc_tokens,
            ],
        );
    }
    crate::metrics::expose_stages(page, "client", stages[0]);
    crate::metrics::expose_stages(page, "worker", stages[1]);
    for (party, count) in [
        ("client", core.books.clients.len()),
        ("worker", core.books.workers.len()),
    ] {
        page.gauge(
            "cocoon_accounts",
            "Accounts in the books.",
            &[("party", party)],
            count,
        );
    }
    let deposits = core
        .books
        .clients
        .values()
        .fold(0u128, |sum, a| sum.saturating_add(a.record.balance));
    for (name, help, value) in [
        (
            "cocoon_client_deposits_nanotons",
            "NanoTON in the ledgers of client contracts.",
            deposits,
        ),
        (
            "cocoon_contract_balance_nanotons",
            "NanoTON in the node's own contract.",
            core.holds.coins,
        ),
        (
            "cocoon_contract_stake_nanotons",
            "NanoTON of stake in the node's own contract.",
            core.holds.stake,
        ),
        (
            "cocoon_revenue_nanotons",
            "NanoTON of commission that can be withdrawn.",
            core.revenue,
        ),
    ] {
        page.gauge(name, help, &[], value);
    }
    page.gauge(
        "cocoon_enabled",
        "1 if new requests are welcome.",
        &[],
        core.disabled.is_none(),
    );
    crate::metrics::expose_root(page, &core.root);
}

fn add(sums: &mut [u64; 4], values: [u64; 4]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = sum.saturating_add(value);
    }
}
