//! Where a request goes: which worker, or the queue, or nowhere (protocol.md 3.6 #6 to #9, 5.1; docs/market.md).

use std::collections::BTreeMap;

use cocoon_ledger::health::{Circuit, Health, Outcome};
use cocoon_ledger::rank::{Peer, Ranked, rank};
use cocoon_ledger::{Coefficient, TokensUsed};
use cocoon_ton::Address;
use cocoon_wire::codes;
use serde_json::json;

use super::core::ProxyCore;
use super::links::{LinkState, WorkerLink, WorkerPhase};
use super::requests::{Job, Running};
use crate::link::LinkId;

/// Workers whose record is kept while they are away.
const MAX_PAST: usize = 4096;
/// A worker that did not even begin in this time has failed; callers with shorter deadlines say nothing about it.
pub(super) const SILENCE_MS: u64 = 10_000;

/// Records of workers that are not connected, by owner: reconnecting is no way out of a pause.
#[derive(Default)]
pub(super) struct Past {
    known: BTreeMap<Address, (u64, Health)>,
}

impl Past {
    pub fn take(&mut self, owner: &Address) -> Option<Health> {
        self.known.remove(owner).map(|(_, health)| health)
    }

    fn keep(&mut self, owner: Address, now: u64, health: Health) {
        if self.known.len() >= MAX_PAST
            && let Some(oldest) = self.known.iter().min_by_key(|(_, (at, _))| *at)
        {
            let oldest = *oldest.0;
            self.known.remove(&oldest);
        }
        self.known.insert(owner, (now, health));
    }
}

/// What the choice came to.
pub(super) enum Place {
    /// This worker, at this price.
    Now(LinkId, Coefficient),
    /// Some would do, none has room.
    Wait,
    /// Nowhere; code and text of 3.6.
    Nowhere(i32, String),
}

impl ProxyCore {
    /// Chooses a worker for a request.
    pub(super) fn place(&mut self, job: &Job) -> Place {
        let model = &job.model;
        if !self.models_seen.contains(model) {
            return Place::Nowhere(codes::PROTOVIOLATION, format!("unknown model {model}"));
        }
        let (mut peers, mut connected, mut refused) = (Vec::new(), false, false);
        let near = self
            .near
            .owner_of(job.client, job.beginning.as_ref(), self.now);
        for (link, state) in &self.links {
            let LinkState::Worker(w) = state else {
                continue;
            };
            // Both are booked at the same contract.
            let same = w.contract == Some(job.contract);
            if w.phase != WorkerPhase::Ok || !same || &w.model != model || !self.worker_allowed(w) {
                continue;
            }
            connected = true;
            if !job.wishes.accepts(&w.owner) {
                refused = true;
            } else if !job.tried.contains(link) {
                peers.push(Peer {
                    enabled: w.enabled,
                    running: w.running,
                    limit: w.limit,
                    near: near == Some(*link),
                    ..Peer::measured(link.0, w.coefficient, &w.health, self.now)
                });
            }
        }
        if peers.is_empty() {
            let text = match (connected, refused) {
                (true, true) => format!("no allowed workers for model {model}"),
                _ => format!("no workers for model {model}"),
            };
            return Place::Nowhere(codes::NOTREADY, text);
        }
        let draw = self.draw_u64();
        match rank(&peers, job.max_coefficient, job.wishes.sort, draw) {
            Ranked::Peer(id) => {
                let chosen = peers.iter().find(|p| p.id == id);
                let coefficient = chosen.map_or(Coefficient::ZERO, |p| p.coefficient);
                Place::Now(LinkId(id), coefficient)
            }
            Ranked::Busy => Place::Wait,
            Ranked::TooExpensive(c) => Place::Nowhere(
                codes::NOTREADY,
                format!("can run this query with coefficient={}", c.thousandths()),
            ),
            Ranked::NoneReady => Place::Nowhere(
                codes::NOTREADY,
                format!("no ready workers for model{model}"),
            ),
        }
    }

    /// Whether any worker that serves the model has room, so that the queue need not be looked through; `None` where
    /// none serves it.
    pub(super) fn has_room(&self, model: &str) -> Option<bool> {
        let serving = self.links.values().filter_map(|l| match l {
            LinkState::Worker(w) if w.phase == WorkerPhase::Ok && w.model == model && w.enabled => {
                Some(w.running < w.limit && !w.health.is_busy(self.now))
            }
            _ => None,
        });
        serving.reduce(|a, b| a || b)
    }

    /// A slot of a worker is free again.
    pub(super) fn free_slot(&mut self, link: LinkId) {
        self.queue.changed = true;
        if let Some(LinkState::Worker(w)) = self.links.get_mut(&link) {
            w.running = w.running.saturating_sub(1);
        }
    }

    /// Something is known of how a worker did.
    pub(super) fn judge(&mut self, link: LinkId, outcome: Outcome) {
        let draw = self.draw_u64();
        if let Some(LinkState::Worker(w)) = self.links.get_mut(&link) {
            w.health.ended(self.now, outcome, draw);
        }
    }

    /// A request was served to its end: how fast.
    pub(super) fn judge_served(&mut self, run: &Running, tokens: &TokensUsed) {
        let Some(LinkState::Worker(w)) = self.links.get_mut(&run.worker_link) else {
            return;
        };
        let begun = if run.streams {
            run.first_ms.unwrap_or(run.sent_ms)
        } else {
            run.sent_ms
        };
        if run.streams
            && let Some(first) = run.first_ms
        {
            w.health.first_byte(first.saturating_sub(run.sent_ms));
        }
        let m = self.root.multipliers();
        let factor = |multiplier: u32| {
            f64::from(run.coefficient.thousandths()) * f64::from(multiplier) * 1e-7
        };
        // Billed tokens back into model tokens; unknown where they are free.
        let model_tokens = |billed: i64, factor: f64| {
            if factor > 0.0 {
                billed.max(0) as f64 / factor
            } else {
                0.0
            }
        };
        let out = model_tokens(tokens.completion, factor(m.completion.0))
            + model_tokens(tokens.reasoning, factor(m.reasoning.0));
        let outcome = Outcome::Served {
            tokens: out as u64,
            streamed_ms: self.now.saturating_sub(begun),
        };
        self.judge(run.worker_link, outcome);
    }

    /// A worker's link is gone: what is known of it stays, and requests that ran there are its fault.
    pub(super) fn remember(&mut self, mut w: WorkerLink, link: LinkId) {
        if w.phase != WorkerPhase::Ok {
            return;
        }
        let draw = self.draw_u64();
        if self.requests.values().any(|r| r.worker_link == link) {
            w.health.ended(self.now, Outcome::Failed, draw);
        }
        self.past.keep(w.owner, self.now, w.health);
        self.queue.changed = true;
    }
}

/// What a worker's error says about the worker.
pub(super) fn outcome_of(code: i32, text: &str, waited_ms: u64) -> Outcome {
    match code {
        // The request itself is wrong.
        codes::PROTOVIOLATION => Outcome::Neutral,
        codes::ERROR if text.contains("too many active queries") => Outcome::Busy,
        codes::TIMEOUT if waited_ms < SILENCE_MS => Outcome::Neutral,
        codes::CANCELLED => Outcome::Neutral,
        _ => Outcome::Failed,
    }
}

/// Measures of a worker for status pages.
pub(super) fn measured(w: &WorkerLink, now: u64) -> serde_json::Value {
    let (state, pause_ms) = match w.health.circuit(now) {
        Circuit::Closed => ("in use", 0),
        Circuit::Trial => ("on trial", 0),
        Circuit::Open(ms) => ("paused", ms),
    };
    json!({
        "state": state,
        "pause_ms": pause_ms,
        "first_byte_ms": w.health.first_byte_ms(),
        "ms_per_token": w.health.token_ms(),
        "error_rate": w.health.error_rate(now),
        "requests_seen": w.health.seen(),
    })
}
