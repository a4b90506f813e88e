//! Figures of a worker: `/jsonstats` in the reference's names (protocol.md 8.5) with ours beside them, and metrics.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::account::OnChain;
use super::core::WorkerCore;
use crate::metrics::Page;
use crate::root_json::root_json;

impl WorkerCore {
    /// What an operator wants to see. No prompts, answers or keys.
    pub fn stats(&self) -> Value {
        let text = |address: cocoon_ton::Address| address.to_text(false, self.cfg.testnet);
        let proxies: Vec<_> = self
            .accounts
            .iter()
            .map(|(sc, a)| {
                let paid = match a.chain {
                    Some(OnChain::Open { paid }) => paid.0,
                    _ => 0,
                };
                json!({
                    // The reference's names (protocol.md 8.5) stand beside ours.
                    "sc_inited": a.chain.is_some_and(|c| matches!(c, OnChain::Open { .. })),
                    "proxy_sc_address": text(a.proxy),
                    "proxy_public_key": hex::encode_upper(a.proxy_key),
                    "sc_address": text(*sc),
                    "earned_tokens_committed_to_blockchain": a.claims.signed().0,
                    "earned_tokens_committed_to_proxy_db": a.claims.db().0,
                    "earned_tokens_max_known": a.claims.max().0,
                    "cached_out_tokens": paid,
                    "expected_cached_out_tokens": a.pending.as_ref().map_or(paid, |p| p.expected.0.max(paid)),
                    "running_request": a.pending.is_some(),
                    "params_version": a.params_version,
                    "contract": text(*sc),
                    "proxy": text(a.proxy),
                    "signed_tokens": a.claims.signed().0,
                    "saved_tokens": a.claims.db().0,
                    "tokens": a.claims.max().0,
                    "unpaid_nanotons": u128::from(a.claims.max().0.saturating_sub(paid)).saturating_mul(a.fee.0).to_string(),
                    "chain": format!("{:?}", a.chain),
                    "outdated": a.outdated_since_ms.is_some(),
                    "running": a.running,
                })
            })
            .collect();
        let connections: Vec<_> = self
            .links
            .values()
            .map(|l| {
                let account = l.account.and_then(|sc| self.accounts.get(&sc));
                json!({
                    "address": l.peer.address.map(|a| a.to_string()),
                    "is_ready": l.is_ready(),
                    "proxy_sc_address": account.map(|a| text(a.proxy)),
                    "proxy_hash": hex::encode_upper(l.peer.image_hash),
                    "fake_attestation": l.peer.fake,
                    "protocol_version": l.version,
                })
            })
            .collect();
        let earned = self
            .accounts
            .values()
            .fold(0u64, |sum, a| sum.saturating_add(a.claims.max().0));
        json!({
            "role": "worker",
            "status": {"enabled": self.enabled && self.healthy, "actual_model": self.cfg.model},
            "stats": self.meter.reference(self.now),
            "root_contract_config": root_json(&self.root, self.cfg.testnet),
            "model": self.cfg.model,
            "coefficient": self.coefficient.thousandths(),
            "enabled": self.enabled,
            "closed": self.closed,
            "healthy": self.healthy,
            "phase": format!("{:?}", self.phase),
            "links": self.links.len(),
            "ready_links": self.ready_links(),
            "running": self.requests.len(),
            "max_active_requests": self.cfg.max_active_requests,
            "requests": self.counters,
            "proxies": proxies,
            "proxy_connections": connections,
            "flow": {"tokens": earned, "nanotons_per_token": self.root.worker_fee().0.to_string()},
        })
    }

    /// The worker's metrics.
    pub(super) fn expose(&self, page: &mut Page) {
        self.meter.expose(page);
        let mut links: BTreeMap<(&str, &str, i32), u32> = BTreeMap::new();
        for l in self.links.values() {
            let state = match (l.is_ready(), l.stale) {
                (true, false) => "ready",
                (true, true) => "stale",
                (false, _) => "handshake",
            };
            *links.entry(("proxy", state, l.version)).or_default() += 1;
        }
        crate::metrics::expose_links(page, &links);
        page.gauge(
            "cocoon_request_slots",
            "Requests that could run at once.",
            &[],
            self.cfg.max_active_requests,
        );
        let mut stages = [0u64; 4];
        let (mut earned, mut unpaid) = (0u128, 0u128);
        for a in self.accounts.values() {
            let paid = match a.chain {
                Some(OnChain::Open { paid }) => paid.0,
                _ => 0,
            };
            let values = [a.claims.max().0, a.claims.db().0, a.claims.signed().0, paid];
            for (sum, value) in stages.iter_mut().zip(values) {
                *sum = sum.saturating_add(value);
            }
            let nano = |tokens: u64| u128::from(tokens).saturating_mul(a.fee.0);
            earned = earned.saturating_add(nano(values[0]));
            unpaid = unpaid.saturating_add(nano(values[0].saturating_sub(paid)));
        }
        crate::metrics::expose_stages(page, "worker", stages);
        page.gauge(
            "cocoon_accounts",
            "Accounts in the books.",
            &[("party", "proxy")],
            self.accounts.len(),
        );
        page.gauge(
            "cocoon_earned_nanotons",
            "NanoTON earned with the proxies that are remembered.",
            &[],
            earned,
        );
        page.gauge(
            "cocoon_unpaid_nanotons",
            "NanoTON earned and not yet paid on chain.",
            &[],
            unpaid,
        );
        page.gauge(
            "cocoon_enabled",
            "1 if new requests are welcome.",
            &[],
            self.serving(),
        );
        page.gauge(
            "cocoon_backend_healthy",
            "1 if the inference server answers.",
            &[],
            self.healthy,
        );
        page.gauge(
            "cocoon_coefficient",
            "Price factor; 1 is the root contract's price.",
            &[],
            f64::from(self.coefficient.thousandths()) / 1000.0,
        );
        crate::metrics::expose_root(page, &self.root);
    }
}
