//! Money goes in only where it comes out again: the exit prover before every deposit, and before a refund is forced
//! (contracts.md 15.1, W3).

use std::collections::BTreeSet;

use cocoon_exit::Plan;
use cocoon_ton::{Address, Chain};

use super::core::{ClientCore, ProxyRecord};
use super::types::ClientEffect;

/// A refused plan is judged again after this time: the proxy may have raised its stake.
const REFUSED_MS: u64 = 60_000;
/// The same after the accounts could not be read.
const UNKNOWN_MS: u64 = 5_000;
/// How long a proxy that is connected may take to grant a refund after it could be forced. Its signature costs nobody
/// anything, while force takes its stake.
const GRANT_PATIENCE_S: u64 = 3600;

/// What became of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The worst way out loses nothing but fees.
    Safe,
    /// It loses more; in words.
    Refused(String),
    /// Nothing can be said now; in words.
    Unknown(String),
}

/// Emulates a plan on a copy of the chain.
pub(super) async fn judge(chain: &dyn Chain, contract: Address, plan: Plan) -> Judgement {
    match cocoon_exit::judge(chain, &contract, plan).await {
        Ok(verdict) => verdict
            .objection
            .map_or(Judgement::Safe, Judgement::Refused),
        Err(e) => Judgement::Unknown(e.to_string()),
    }
}

/// What is known of the ways out of one contract.
#[derive(Clone, Debug, Default)]
pub(super) struct ExitCheck {
    /// Being judged.
    asked: Option<(u64, Plan)>,
    /// Judged safe, with the contract as it was after this logical time.
    safe: Option<(Plan, u64)>,
    /// Refused, and until when.
    refused: Option<(String, u64)>,
    /// Not known, and until when.
    unknown_until: u64,
}

/// Whether a plan may be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Go,
    Wait,
    Ask,
}

impl ExitCheck {
    /// Lets a plan pass once after it was judged safe, unless the contract has changed since.
    pub fn gate(&mut self, plan: Plan, last_lt: u64, now: u64) -> Gate {
        if self.safe.take() == Some((plan, last_lt)) {
            return Gate::Go;
        }
        let waits = self.asked.is_some()
            || self.unknown_until > now
            || self.refused.as_ref().is_some_and(|(_, until)| *until > now);
        if waits { Gate::Wait } else { Gate::Ask }
    }

    /// Why nothing goes in, or nothing is forced out.
    pub fn refusal(&self) -> Option<&str> {
        self.refused.as_ref().map(|(reason, _)| reason.as_str())
    }
}

impl ClientCore {
    pub(super) fn ask_judgement(&mut self, proxy_sc: Address, plan: Plan) {
        let ticket = self.ticket();
        if let Some(p) = self.proxies.get_mut(&proxy_sc) {
            p.exit.asked = Some((ticket, plan));
            self.fx.push(ClientEffect::Judge {
                ticket,
                contract: p.client_sc,
                plan,
            });
        }
    }

    pub(super) fn on_judged(&mut self, ticket: u64, judgement: Judgement) {
        let now = self.now;
        let asked = |p: &ProxyRecord| p.exit.asked.filter(|(t, _)| *t == ticket);
        let Some((p, plan)) = self
            .proxies
            .values_mut()
            .find_map(|p| asked(p).map(|(_, plan)| (p, plan)))
        else {
            return;
        };
        p.exit.asked = None;
        match judgement {
            Judgement::Safe => {
                p.exit.refused = None;
                p.exit.unknown_until = 0;
                p.exit.safe = Some((plan, p.contract.last_lt));
            }
            Judgement::Refused(reason) => {
                let news = p.exit.refusal() != Some(&reason);
                let text = match plan {
                    Plan::Force => format!(
                        "the refund of {} is not forced: {reason}; what is there stays in the ledger, see `cocoon account exit --dry-run`",
                        p.client_sc
                    ),
                    _ => format!(
                        "no deposit into {}: {reason}; to deposit all the same, set accept_exit_risk",
                        p.client_sc
                    ),
                };
                p.exit.refused = Some((reason, now.saturating_add(REFUSED_MS)));
                if news {
                    self.fx.push(ClientEffect::Alarm(text));
                }
            }
            Judgement::Unknown(reason) => {
                let news = p.exit.unknown_until == 0;
                p.exit.unknown_until = now.saturating_add(UNKNOWN_MS);
                if news {
                    self.fx.push(ClientEffect::Alarm(format!(
                        "no deposit into {} until its ways out are known: {reason}",
                        p.client_sc
                    )));
                }
            }
        }
        self.review();
    }

    /// Why no deposit is made, while there is none to pay with.
    pub fn deposit_refused(&self) -> Option<&str> {
        self.proxies
            .values()
            .filter(|p| p.contract.balance == 0 && p.contract.status == 0)
            .find_map(|p| p.exit.refusal())
    }

    /// Proxies that could still grant a refund.
    pub(super) fn linked_proxies(&self) -> BTreeSet<Address> {
        self.links
            .values()
            .filter(|l| l.is_ready())
            .filter_map(|l| l.proxy)
            .collect()
    }
}

/// Whether a refund that could be forced is left to the proxy for now.
pub(super) fn left_to_proxy(linked: bool, unlocked_at_s: u64, now_ms: u64) -> bool {
    linked && now_ms / 1000 < unlocked_at_s.saturating_add(GRANT_PATIENCE_S)
}

#[cfg(test)]
mod tests;
