//! New requests: admission, the choice of a worker, forwarding (protocol.md 3.6, 5.1, 5.2).

use cocoon_ledger::choose::{Candidate, Choice, Policy, choose_worker};
use cocoon_ledger::reserve::{self, ChainAccount, ClientBook, Demand};
use cocoon_ledger::{AdjustedTokens, Coefficient, NanoTon, TokensUsed};
use cocoon_ton::Address;
use cocoon_wire::codes;

use super::core::{Phase, ProxyCore};
use super::links::{ClientPhase, LinkState, WorkerPhase};
use crate::api_error::ApiError;
use crate::link::LinkId;
use crate::metrics::Outcome;
use crate::proto::{self, Answer, AnswerKind, ClientPacket, FinalInfo, RunQuery};

/// Each hop leaves the next one a little less time, so that the inner error arrives before the outer alarm.
const HOP_SHARE: f64 = 0.95;

/// A request on its way.
pub struct Running {
    pub(super) client_link: LinkId,
    pub(super) client_version: i32,
    pub(super) client_rid: [u8; 32],
    pub(super) client: Address,
    pub(super) worker_link: LinkId,
    pub(super) worker: Address,
    pub(super) reserved: AdjustedTokens,
    pub(super) started_ms: u64,
    pub(super) deadline_ms: u64,
    pub(super) head_sent: bool,
    pub(super) debug: bool,
    /// The caller left: nothing is sent to it any more, the books still close.
    pub(super) abandoned: bool,
}

/// What remains of a request after its books are closed.
pub struct Closed {
    pub(super) rid: [u8; 32],
    pub(super) used: AdjustedTokens,
    pub(super) client_link: LinkId,
    pub(super) client_rid: [u8; 32],
    pub(super) client: Address,
    pub(super) worker_link: LinkId,
    pub(super) worker: Address,
}

pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl ProxyCore {
    pub(super) fn client_packet(&mut self, link: LinkId, data: &[u8]) {
        let Some(LinkState::Client(c)) = self.links.get(&link) else {
            return;
        };
        let ClientPhase::Ok { owner } = c.phase else {
            return;
        };
        let version = c.version;
        match proto::parse_client_packet(data) {
            Ok(Some(ClientPacket::Run(q))) => {
                let rid = q.request_id;
                if let Err((code, text)) = self.admit(link, version, owner, q) {
                    self.meter.refuse(self.now, Outcome::of_code(code));
                    self.reject(link, version, rid, code, &text);
                }
            }
            Ok(Some(ClientPacket::Cancel(rid))) => self.cancel(link, rid),
            Ok(None) => {}
            Err(e) => self.close(link, format!("malformed packet from a client: {e}")),
        }
    }

    /// The checks of 3.6, in their order; what passes is reserved and forwarded.
    fn admit(
        &mut self,
        link: LinkId,
        version: i32,
        owner: Address,
        q: RunQuery,
    ) -> Result<(), (i32, String)> {
        if self
            .requests
            .values()
            .any(|r| r.client_link == link && r.client_rid == q.request_id)
        {
            return Err((
                codes::PROTOVIOLATION,
                "a request with this id is running".into(),
            ));
        }
        let price = self.root.price();
        let Some(account) = self.books.clients.get(&owner) else {
            return Err((codes::NOTREADY, "client is closing".into()));
        };
        let used = account.tracker.max();
        let book = ClientBook {
            chain: ChainAccount {
                used: AdjustedTokens(account.record.sc_used),
                balance: NanoTon(account.record.balance),
                stake: NanoTon(account.record.stake),
            },
            used,
            reserved: account.reserved,
        };
        let available = book.available_signed(price);
        // A negative budget would enlarge the account (11 #4).
        let demand = Demand::from_wire(
            q.query.len(),
            i64::from(q.max_tokens),
            1,
            i64::from(q.max_coefficient),
        )
        .map_err(|e| (codes::PROTOVIOLATION, e.to_string()))?;
        if available < i128::from(demand.max_tokens) {
            return Err((
                codes::ERROR,
                format!(
                    "client balance is too low: max_tokens={} tokens_payed={} tokens_used={} tokens_reserved={} tokens_stake={}",
                    demand.max_tokens,
                    book.paid(price).0,
                    used.0,
                    account.reserved.0,
                    reserve::tokens_for(book.chain.stake, price).0
                ),
            ));
        }
        if q.min_config_version as u32 > self.root.version {
            return Err((codes::ERROR, "active config version is too low".into()));
        }
        if account.record.status != 0 {
            return Err((codes::NOTREADY, "client is closing".into()));
        }
        if self.disabled.is_some() || self.phase != Phase::Open {
            return Err((codes::NOTREADY, "proxy is disabled".into()));
        }
        if account.running >= self.cfg.settings.max_running_per_client {
            return Err((
                codes::NOTREADY,
                "too many running requests of this client".into(),
            ));
        }
        let to_reserve = demand.to_reserve(&self.root.multipliers());
        if i128::from(to_reserve.0) > available {
            return Err((codes::NOTREADY, "balance is too low".into()));
        }
        if !q.timeout.is_finite() || q.timeout <= 0.0 {
            return Err((
                codes::PROTOVIOLATION,
                "timeout must be a positive number of seconds".into(),
            ));
        }
        proto::check_http_request(&q.query).map_err(|e| {
            (
                codes::PROTOVIOLATION,
                format!("query is not an http.request: {e}"),
            )
        })?;
        let (worker_link, coefficient) = self.pick_worker(&q.model, demand.max_coefficient)?;
        self.forward(
            link,
            version,
            owner,
            q,
            worker_link,
            coefficient,
            to_reserve,
        );
        Ok(())
    }

    fn pick_worker(
        &self,
        model: &str,
        max: Coefficient,
    ) -> Result<(LinkId, Coefficient), (i32, String)> {
        if !self.models_seen.contains(model) {
            return Err((codes::PROTOVIOLATION, format!("unknown model {model}")));
        }
        let now_s = seconds(self.now);
        let candidates: Vec<Candidate> = self
            .links
            .iter()
            .filter_map(|(link, state)| match state {
                LinkState::Worker(w)
                    if w.phase == WorkerPhase::Ok && w.model == model && self.worker_allowed(w) =>
                {
                    Some(Candidate {
                        id: link.0,
                        enabled: w.enabled,
                        running: w.running,
                        limit: w.limit,
                        coefficient: w.coefficient,
                        average_time_s: w.times.reference(now_s),
                        recent_failures: w.failures.sum(now_s),
                    })
                }
                _ => None,
            })
            .collect();
        match choose_worker(&candidates, max, Policy::Cheapest) {
            Choice::Worker(id) => {
                let coefficient = candidates
                    .iter()
                    .find(|c| c.id == id)
                    .map_or(Coefficient::ZERO, |c| c.coefficient);
                Ok((LinkId(id), coefficient))
            }
            Choice::TooExpensive(c) => Err((
                codes::NOTREADY,
                format!("can run this query with coefficient={}", c.thousandths()),
            )),
            Choice::NoneReady if candidates.is_empty() => {
                Err((codes::NOTREADY, format!("no workers for model {model}")))
            }
            Choice::NoneReady => Err((
                codes::NOTREADY,
                format!("no ready workers for model{model}"),
            )),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn forward(
        &mut self,
        link: LinkId,
        version: i32,
        owner: Address,
        q: RunQuery,
        worker_link: LinkId,
        coefficient: Coefficient,
        reserved: AdjustedTokens,
    ) {
        let rid = self.draw();
        let Some(LinkState::Worker(w)) = self.links.get_mut(&worker_link) else {
            return;
        };
        w.running += 1;
        let (worker, worker_version) = (w.owner, w.version);
        if let Some(a) = self.books.clients.get_mut(&owner) {
            a.reserved = AdjustedTokens(a.reserved.0.saturating_add(reserved.0));
            a.running += 1;
        }
        // At least a millisecond: cut to 0, a short timeout would be an invalid one to the worker.
        let timeout_ms = ((q.timeout * 1000.0) as u64)
            .min(self.cfg.settings.max_timeout_ms)
            .max(1);
        let signed_payment = self.worker_payment(worker);
        self.meter
            .begin(self.now, rid, q.request_id, Some(rid), q.query.len());
        let data = proto::proxy_run_query(
            worker_version,
            proto::WorkerQuery {
                query: q.query,
                signed_payment,
                coefficient: i64::from(coefficient.thousandths()),
                timeout: seconds(timeout_ms) * HOP_SHARE,
                request_id: rid,
                enable_debug: q.enable_debug,
            },
        );
        self.requests.insert(
            rid,
            Running {
                client_link: link,
                client_version: version,
                client_rid: q.request_id,
                client: owner,
                worker_link,
                worker,
                reserved,
                started_ms: self.now,
                deadline_ms: self.now + timeout_ms,
                head_sent: false,
                debug: q.enable_debug,
                abandoned: false,
            },
        );
        self.send(worker_link, data);
    }

    /// Reports a failure of the proxy itself. To clients of version 1 and above a failure before the head is a
    /// complete HTTP answer, the only form the reference client survives (appendix A).
    fn reject(&mut self, link: LinkId, version: i32, rid: [u8; 32], code: i32, text: &str) {
        let data = self.failure(version, rid, false, code, text, TokensUsed::default());
        self.send(link, data);
    }

    pub(super) fn failure(
        &self,
        version: i32,
        rid: [u8; 32],
        head_sent: bool,
        code: i32,
        text: &str,
        tokens: TokensUsed,
    ) -> Vec<u8> {
        let fin = FinalInfo {
            tokens,
            proxy_start: seconds(self.now),
            proxy_end: seconds(self.now),
            ..Default::default()
        };
        let kind = if version >= 1 && !head_sent {
            let e = ApiError::from_network(code, text);
            AnswerKind::Head(proto::error_response(e.status, &e.body()))
        } else {
            AnswerKind::Error {
                code,
                text: text.to_owned(),
                after_head: head_sent,
            }
        };
        proto::client_answer(
            version,
            Answer {
                request_id: rid,
                kind,
                fin: Some(fin),
            },
        )
    }
}
