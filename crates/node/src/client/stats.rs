//! Figures of a client: `/jsonstats` in the reference's names (protocol.md 8.5) with ours beside them, and metrics.

use std::collections::BTreeMap;

use cocoon_ledger::NanoTon;
use cocoon_ledger::reserve::tokens_for;
use serde_json::{Value, json};

use super::core::ClientCore;
use crate::metrics::Page;
use crate::root_json::root_json;

impl ClientCore {
    /// Figures for status pages.
    pub fn stats(&self) -> Value {
        let t = self.cfg.testnet;
        let connections: Vec<_> = self
            .links
            .values()
            .map(|l| {
                json!({
                    "address": l.peer.address.map(|a| a.to_string()),
                    "is_ready": l.is_ready(),
                    "proxy_sc_address": l.proxy.map(|p| p.to_text(false, t)),
                    "proxy_hash": hex::encode_upper(l.peer.image_hash),
                    "fake_attestation": l.peer.fake,
                    "protocol_version": l.version,
                    "running_requests": l.running,
                })
            })
            .collect();
        let price = self.root.price();
        let proxies: Vec<_> = self
            .proxies
            .values()
            .map(|p| {
                let deposit = tokens_for(NanoTon(p.contract.balance), price).0;
                json!({
                    "proxy_sc_address": p.sc.to_text(false, t),
                    "proxy_owner_address": p.owner.to_text(true, t),
                    "proxy_public_key": hex::encode(p.public_key),
                    "sc_address": p.client_sc.to_text(false, t),
                    "state": p.contract.status,
                    "deployed": p.contract.deployed,
                    "balance": p.contract.balance.to_string(),
                    "stake": p.contract.stake.to_string(),
                    "tokens_used_proxy_committed_to_blockchain": p.claims.signed().0,
                    "tokens_used_proxy_committed_to_db": p.claims.db().0,
                    "tokens_used_proxy_max": p.claims.max().0,
                    "tokens_charged": p.contract.used.0,
                    "tokens_payed": p.contract.used.0.saturating_add(deposit),
                    "exit_risk": p.exit.refusal(),
                    "params_version": p.params_version,
                    "outdated": p.outdated_since_ms.is_some(),
                    "message_pending": p.outstanding.is_some(),
                })
            })
            .collect();
        let used = self
            .proxies
            .values()
            .fold(0u64, |sum, p| sum.saturating_add(p.claims.max().0));
        json!({
            "role": "client",
            "wallet_address": self.cfg.wallet.to_text(false, t),
            "wallet": self.cfg.wallet.to_text(false, t),
            "status": {"enabled": !self.draining},
            "stats": self.meter.reference(self.now),
            "deposit_refused": self.deposit_refused(),
            "closed": self.closed,
            "waiting_requests": self.parked.len(),
            "running_requests": self.requests.len(),
            "proxy_connections": connections,
            "proxies": proxies,
            "root_contract_config": root_json(&self.root, t),
            "flow": {"tokens": used, "nanotons_per_token": price.0.to_string()},
        })
    }

    /// The client's metrics.
    pub(super) fn expose(&self, page: &mut Page) {
        self.meter.expose(page);
        let mut links: BTreeMap<(&str, &str, i32), u32> = BTreeMap::new();
        for l in self.links.values() {
            let state = if l.is_ready() { "ready" } else { "handshake" };
            *links.entry(("proxy", state, l.version)).or_default() += 1;
        }
        crate::metrics::expose_links(page, &links);
        let mut stages = [0u64; 4];
        let (mut deposits, mut stakes) = (0u128, 0u128);
        for p in self.proxies.values() {
            let values = [
                p.claims.max().0,
                p.claims.db().0,
                p.claims.signed().0,
                p.contract.used.0,
            ];
            for (sum, value) in stages.iter_mut().zip(values) {
                *sum = sum.saturating_add(value);
            }
            deposits = deposits.saturating_add(p.contract.balance);
            stakes = stakes.saturating_add(p.contract.stake);
        }
        crate::metrics::expose_stages(page, "client", stages);
        page.gauge(
            "cocoon_accounts",
            "Accounts in the books.",
            &[("party", "proxy")],
            self.proxies.len(),
        );
        page.gauge(
            "cocoon_client_deposits_nanotons",
            "NanoTON in the ledgers of client contracts.",
            &[],
            deposits,
        );
        page.gauge(
            "cocoon_client_stakes_nanotons",
            "NanoTON of stake that the client contracts name.",
            &[],
            stakes,
        );
        page.gauge(
            "cocoon_deposit_refused",
            "1 if a deposit is held back because it could not be taken out again.",
            &[],
            self.deposit_refused().is_some(),
        );
        page.gauge(
            "cocoon_enabled",
            "1 if new requests are welcome.",
            &[],
            self.is_ready() && !self.draining,
        );
        crate::metrics::expose_root(page, &self.root);
    }
}
