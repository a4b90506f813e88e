//! New requests: admission, reservation, forwarding (protocol.md 3.6, 5.2).

use cocoon_ledger::reserve::{self, ChainAccount, ClientBook, Demand};
use cocoon_ledger::{AdjustedTokens, Coefficient, NanoTon, TokensUsed};
use cocoon_ton::Address;
use cocoon_wire::codes;

use super::core::{Phase, ProxyCore};
use super::links::{ClientPhase, LinkState};
use super::near::Beginning;
use super::place::Place;
use crate::api_error::ApiError;
use crate::link::LinkId;
use crate::metrics::Outcome;
use crate::proto::{self, Answer, AnswerKind, ClientPacket, FinalInfo, RunQuery};
use crate::wishes::Wishes;

/// Each hop leaves the next one a little less time, so that the inner error arrives before the outer alarm.
const HOP_SHARE: f64 = 0.95;

/// A request of a client, wherever it stands.
pub(super) struct Job {
    /// Proxy contract whose accounts it is booked on.
    pub contract: Address,
    pub client_link: LinkId,
    pub client_version: i32,
    pub client_rid: [u8; 32],
    pub client: Address,
    pub model: String,
    pub max_coefficient: Coefficient,
    pub wishes: Wishes,
    /// Boxed `http.request`; empty once it cannot be sent again.
    pub query: Vec<u8>,
    pub debug: bool,
    pub reserved: AdjustedTokens,
    pub started_ms: u64,
    pub deadline_ms: u64,
    /// Workers that failed it.
    pub tried: Vec<LinkId>,
    pub retries_left: u32,
    /// Workers that were full against expectation.
    pub bounces: u32,
    pub beginning: Option<Beginning>,
}

/// A request on its way.
pub struct Running {
    pub(super) job: Job,
    pub(super) worker_link: LinkId,
    pub(super) worker: Address,
    pub(super) coefficient: Coefficient,
    pub(super) sent_ms: u64,
    /// When the first byte of the body came.
    pub(super) first_ms: Option<u64>,
    /// The answer is an event stream, so that the first byte says something.
    pub(super) streams: bool,
    /// The worker's engine answered that it failed.
    pub(super) bad_status: bool,
    pub(super) head_sent: bool,
    /// The worker's record has this request already.
    pub(super) judged: bool,
    /// The caller left: nothing is sent to it any more, the books still close.
    pub(super) abandoned: bool,
}

/// What remains of a request after its books are closed.
pub struct Closed {
    pub(super) contract: Address,
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
                if self.is_retired(link) {
                    return self.turn_away(link, version, rid);
                }
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
            .any(|r| r.job.client_link == link && r.job.client_rid == q.request_id)
            || self.is_waiting(link, q.request_id)
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
                format!(
                    "too many requests of this client: {} run or wait",
                    account.running
                ),
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
        let wishes = Wishes::from_wire(&q.wishes).map_err(|e| (codes::PROTOVIOLATION, e))?;
        // At least a millisecond: cut to 0, a short timeout would be an invalid one to the worker.
        let timeout_ms = ((q.timeout * 1000.0) as u64)
            .min(self.cfg.settings.max_timeout_ms)
            .max(1);
        let job = Job {
            contract: self.sc,
            client_link: link,
            client_version: version,
            client_rid: q.request_id,
            client: owner,
            model: q.model,
            max_coefficient: demand.max_coefficient,
            retries_left: wishes.retries(),
            wishes,
            beginning: Beginning::of(&q.query),
            query: q.query,
            debug: q.enable_debug,
            reserved: to_reserve,
            started_ms: self.now,
            deadline_ms: self.now + timeout_ms,
            tried: Vec::new(),
            bounces: 0,
        };
        let place = self.place(&job);
        if let Place::Nowhere(code, text) = place {
            return Err((code, text));
        }
        if let Some(a) = self.books.clients.get_mut(&owner) {
            a.reserved = AdjustedTokens(a.reserved.0.saturating_add(to_reserve.0));
            a.running += 1;
        }
        match place {
            Place::Now(worker_link, coefficient) => self.forward(job, worker_link, coefficient),
            _ => self.wait(job),
        }
        Ok(())
    }

    /// Gives back what a request had set aside.
    pub(super) fn release(&mut self, job: &Job) {
        if let Some(a) = self.client_at(job.contract, job.client) {
            a.reserved = a.reserved.saturating_sub(job.reserved);
            a.running = a.running.saturating_sub(1);
        }
    }

    /// Sends an admitted request to a worker.
    pub(super) fn forward(&mut self, mut job: Job, worker_link: LinkId, coefficient: Coefficient) {
        let rid = self.draw();
        let Some(LinkState::Worker(w)) = self.links.get_mut(&worker_link) else {
            return;
        };
        w.running += 1;
        let (worker, worker_version) = (w.owner, w.version);
        let left_ms = job.deadline_ms.saturating_sub(self.now).max(1);
        let signed_payment = self.worker_payment(job.contract, worker);
        let bytes = job.query.len();
        self.meter
            .begin(self.now, rid, job.client_rid, Some(rid), bytes);
        let kept = self.kept_bytes + job.query.len();
        let query = if job.retries_left > 0 && kept <= self.cfg.settings.max_kept_bytes {
            self.kept_bytes = kept;
            job.query.clone()
        } else {
            std::mem::take(&mut job.query)
        };
        let data = proto::proxy_run_query(
            worker_version,
            proto::WorkerQuery {
                query,
                signed_payment,
                coefficient: i64::from(coefficient.thousandths()),
                timeout: seconds(left_ms) * HOP_SHARE,
                request_id: rid,
                enable_debug: job.debug,
            },
        );
        self.requests.insert(
            rid,
            Running {
                job,
                worker_link,
                worker,
                coefficient,
                sent_ms: self.now,
                first_ms: None,
                streams: false,
                bad_status: false,
                head_sent: false,
                judged: false,
                abandoned: false,
            },
        );
        self.send(worker_link, data);
    }

    /// Takes a request out of those that run.
    pub(super) fn take_running(&mut self, rid: [u8; 32]) -> Option<Running> {
        let run = self.requests.remove(&rid)?;
        self.kept_bytes -= run.job.query.len();
        self.queue.held_slot(self.now.saturating_sub(run.sent_ms));
        Some(run)
    }

    /// The request cannot be sent again: something of an answer went out.
    pub(super) fn forget_query(&mut self, rid: [u8; 32]) {
        if let Some(run) = self.requests.get_mut(&rid) {
            self.kept_bytes -= run.job.query.len();
            run.job.query = Vec::new();
        }
    }

    /// Reports a failure of the proxy itself. To clients of version 1 and above a failure before the head is a
    /// complete HTTP answer, the only form the reference client survives (appendix A).
    pub(super) fn reject(
        &mut self,
        link: LinkId,
        version: i32,
        rid: [u8; 32],
        code: i32,
        text: &str,
    ) {
        let data = self.refusal(version, rid, code, text, None);
        self.send(link, data);
    }

    /// [`ProxyCore::reject`]'s message, with the time after which another try makes sense.
    pub(super) fn refusal(
        &self,
        version: i32,
        rid: [u8; 32],
        code: i32,
        text: &str,
        retry_after_s: Option<u32>,
    ) -> Vec<u8> {
        let tokens = TokensUsed::default();
        self.failure_with(version, rid, false, code, text, tokens, retry_after_s)
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
        self.failure_with(version, rid, head_sent, code, text, tokens, None)
    }

    #[allow(clippy::too_many_arguments)]
    fn failure_with(
        &self,
        version: i32,
        rid: [u8; 32],
        head_sent: bool,
        code: i32,
        text: &str,
        tokens: TokensUsed,
        retry_after_s: Option<u32>,
    ) -> Vec<u8> {
        let fin = FinalInfo {
            tokens,
            proxy_start: seconds(self.now),
            proxy_end: seconds(self.now),
            ..Default::default()
        };
        let kind = if version >= 1 && !head_sent {
            let e = ApiError::from_network(code, text);
            let after = retry_after_s.or(e.retry_after_s);
            AnswerKind::Head(proto::error_response(e.status, &e.body(), code, after))
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
