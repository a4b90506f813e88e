//! Running requests: admission, the choice of a worker, answers, closing the books (protocol.md 3.6, 4.5, 5.1–5.3).

use cocoon_ledger::choose::{Candidate, Choice, Policy, choose_worker};
use cocoon_ledger::reserve::{self, ChainAccount, ClientBook, Demand};
use cocoon_ledger::{AdjustedTokens, Coefficient, NanoTon, TokensUsed};
use cocoon_ton::Address;
use cocoon_wire::codes;

use super::core::{Held, Phase, ProxyCore};
use super::links::{ClientPhase, LinkState, WorkerPhase};
use super::types::ProxyEffect;
use crate::api_error::ApiError;
use crate::link::{LinkEffect, LinkId};
use crate::proto::{self, Answer, AnswerKind, ClientPacket, FinalInfo, RunQuery};

/// Each hop leaves the next one a little less time, so that the inner error arrives before the outer alarm.
const HOP_SHARE: f64 = 0.95;

/// No single request costs more: keeps a lying worker from overflowing totals.
const MAX_CLAIM: AdjustedTokens = AdjustedTokens(1 << 48);

/// A request on its way.
pub struct Running {
    client_link: LinkId,
    client_version: i32,
    client_rid: [u8; 32],
    client: Address,
    worker_link: LinkId,
    worker: Address,
    reserved: AdjustedTokens,
    started_ms: u64,
    deadline_ms: u64,
    head_sent: bool,
    debug: bool,
    /// The caller left: nothing is sent to it any more, the books still close.
    abandoned: bool,
}

/// What remains of a request after its books are closed.
pub struct Closed {
    rid: [u8; 32],
    used: AdjustedTokens,
    client_link: LinkId,
    client_rid: [u8; 32],
    client: Address,
    worker_link: LinkId,
    worker: Address,
}

fn seconds(ms: u64) -> f64 {
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

    fn failure(
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

    /// An answer of a worker; only the link that got the request may give it (11 #15).
    pub(super) fn on_answer(&mut self, link: LinkId, answer: Answer) {
        let rid = answer.request_id;
        let Some(run) = self.requests.get_mut(&rid) else {
            return;
        };
        if run.worker_link != link {
            return;
        }
        let tokens = match answer
            .fin
            .as_ref()
            .map(|f| f.tokens.validate(MAX_CLAIM).map(|_| f.tokens))
        {
            Some(Ok(t)) => t,
            Some(Err(e)) => {
                // Claims that contradict themselves are not paid at all (11 #6).
                let text = format!("worker {} reported impossible usage: {e}", run.worker);
                self.fx.push(ProxyEffect::Alarm(text));
                self.finish(
                    rid,
                    TokensUsed::default(),
                    Some((
                        codes::PROTOVIOLATION,
                        "worker reported impossible usage".into(),
                    )),
                    None,
                );
                return;
            }
            None => TokensUsed::default(),
        };
        match answer.kind {
            AnswerKind::Error { code, text, .. } => {
                self.finish(rid, tokens, Some((code, text)), answer.fin)
            }
            AnswerKind::Head(_) if run.head_sent => self.finish(
                rid,
                tokens,
                Some((codes::PROTOVIOLATION, "out of order answer parts".into())),
                None,
            ),
            AnswerKind::Part(_) if !run.head_sent => self.finish(
                rid,
                tokens,
                Some((codes::PROTOVIOLATION, "out of order answer parts".into())),
                None,
            ),
            AnswerKind::Head(response) => {
                let (start, end) = (seconds(run.started_ms), seconds(self.now));
                let response = match proto::stamp_response(
                    &response,
                    ("X-Cocoon-Proxy-Start", start),
                    ("X-Cocoon-Proxy-End", end),
                ) {
                    Ok(r) => r,
                    Err(e) => {
                        self.finish(
                            rid,
                            tokens,
                            Some((
                                codes::FAILURE,
                                format!("worker sent an unreadable response head: {e}"),
                            )),
                            None,
                        );
                        return;
                    }
                };
                run.head_sent = true;
                self.deliver(rid, AnswerKind::Head(response), answer.fin, tokens);
            }
            AnswerKind::Part(data) => self.deliver(rid, AnswerKind::Part(data), answer.fin, tokens),
        }
    }

    fn deliver(
        &mut self,
        rid: [u8; 32],
        kind: AnswerKind,
        fin: Option<FinalInfo>,
        tokens: TokensUsed,
    ) {
        let Some(run) = self.requests.get(&rid) else {
            return;
        };
        let is_final = fin.is_some();
        let fin = fin.map(|f| FinalInfo {
            proxy_start: seconds(run.started_ms),
            proxy_end: seconds(self.now),
            proxy_debug: run
                .debug
                .then(|| proto::debug_text("proxy_stats", run.started_ms, self.now)),
            ..f
        });
        let data = proto::client_answer(
            run.client_version,
            Answer {
                request_id: run.client_rid,
                kind,
                fin,
            },
        );
        let (link, abandoned) = (run.client_link, run.abandoned);
        if !is_final {
            if !abandoned {
                self.send(link, data);
            }
            return;
        }
        let effects = if abandoned {
            Vec::new()
        } else {
            vec![ProxyEffect::Link(LinkEffect::Send { link, data })]
        };
        self.close_books(rid, tokens, effects);
    }

    /// Ends a request with an error.
    fn finish(
        &mut self,
        rid: [u8; 32],
        tokens: TokensUsed,
        error: Option<(i32, String)>,
        fin: Option<FinalInfo>,
    ) {
        let Some(run) = self.requests.get(&rid) else {
            return;
        };
        let mut effects = Vec::new();
        if let Some((code, text)) = error
            && !run.abandoned
        {
            let worker_times = fin.map_or((0.0, 0.0), |f| (f.worker_start, f.worker_end));
            let mut data = self.failure(
                run.client_version,
                run.client_rid,
                run.head_sent,
                code,
                &text,
                tokens,
            );
            if worker_times.0 > 0.0 && run.head_sent {
                let fin = FinalInfo {
                    tokens,
                    proxy_start: seconds(run.started_ms),
                    proxy_end: seconds(self.now),
                    worker_start: worker_times.0,
                    worker_end: worker_times.1,
                    ..Default::default()
                };
                let kind = AnswerKind::Error {
                    code,
                    text,
                    after_head: true,
                };
                data = proto::client_answer(
                    run.client_version,
                    Answer {
                        request_id: run.client_rid,
                        kind,
                        fin: Some(fin),
                    },
                );
            }
            effects.push(ProxyEffect::Link(LinkEffect::Send {
                link: run.client_link,
                data,
            }));
            if let Some(LinkState::Worker(w)) = self.links.get_mut(&run.worker_link) {
                w.failures.add(seconds(self.now), 1.0);
            }
        }
        self.close_books(rid, tokens, effects);
    }

    /// Books the usage on both sides, and lets the last answer and the payments out once that is durable (5.3).
    fn close_books(&mut self, rid: [u8; 32], tokens: TokensUsed, effects: Vec<ProxyEffect>) {
        let Some(run) = self.requests.remove(&rid) else {
            return;
        };
        // The reservation bounds what a worker may claim for one request (11 #3, #6).
        let claimed = AdjustedTokens(tokens.total.max(0).unsigned_abs());
        let used = claimed.min(run.reserved);
        if claimed > used {
            let text = format!(
                "worker {} reported {claimed} tokens for a request with {} reserved; booked the reservation",
                run.worker, run.reserved
            );
            self.fx.push(ProxyEffect::Alarm(text));
        }
        let mut broken = None;
        if let Some(a) = self.books.clients.get_mut(&run.client) {
            a.reserved = a.reserved.saturating_sub(run.reserved);
            a.running = a.running.saturating_sub(1);
            a.last_active_ms = self.now;
            broken = a.tracker.add(used).err();
        }
        if let Some(a) = self.books.workers.get_mut(&run.worker) {
            a.last_active_ms = self.now;
            broken = a.tracker.add(used).err().or(broken);
        }
        if let Some(e) = broken {
            return self.halt(format!("token totals cannot grow any more: {e}"));
        }
        if let Some(LinkState::Worker(w)) = self.links.get_mut(&run.worker_link) {
            w.running = w.running.saturating_sub(1);
            w.times.add(
                seconds(self.now),
                seconds(self.now.saturating_sub(run.started_ms)),
            );
        }
        if used.is_zero() {
            // Nothing was given away that has to be durable first.
            self.fx.extend(effects);
        } else {
            self.touch_client(run.client);
            self.touch_worker(run.worker);
            self.after_save(Held::Effects(effects));
        }
        let closed = Closed {
            rid,
            used,
            client_link: run.client_link,
            client_rid: run.client_rid,
            client: run.client,
            worker_link: run.worker_link,
            worker: run.worker,
        };
        if used.is_zero() {
            self.tell_payments(closed)
        } else {
            self.after_save(Held::Payments(closed))
        }
    }

    pub(super) fn tell_payments(&mut self, c: Closed) {
        if self.links.contains_key(&c.worker_link) {
            let status = self.worker_status(c.worker);
            let owner = c.client.to_text(false, self.cfg.testnet);
            let data = proto::worker_request_payment(c.rid, &status, c.used.0, &owner);
            self.send(c.worker_link, data);
        }
        if self.links.contains_key(&c.client_link) {
            let status = self.client_status(c.client);
            let data = proto::client_request_payment(c.client_rid, &status, c.used.0);
            self.send(c.client_link, data);
        }
    }

    /// The caller left: a worker that understands it stops, any other finishes and is paid.
    fn cancel(&mut self, link: LinkId, client_rid: [u8; 32]) {
        let found = self
            .requests
            .iter()
            .find(|(_, r)| r.client_link == link && r.client_rid == client_rid)
            .map(|(rid, _)| *rid);
        if let Some(rid) = found {
            self.abandon(rid);
        }
    }

    fn abandon(&mut self, rid: [u8; 32]) {
        let Some(run) = self.requests.get_mut(&rid) else {
            return;
        };
        run.abandoned = true;
        let link = run.worker_link;
        if let Some(LinkState::Worker(w)) = self.links.get(&link)
            && w.version >= 3
        {
            self.send(link, proto::proxy_cancel(rid));
        }
    }

    pub(super) fn fail_requests_of(&mut self, link: LinkId) {
        let affected: Vec<([u8; 32], bool)> = self
            .requests
            .iter()
            .filter(|(_, r)| r.client_link == link || r.worker_link == link)
            .map(|(rid, r)| (*rid, r.worker_link == link))
            .collect();
        for (rid, by_worker) in affected {
            if by_worker {
                self.finish(
                    rid,
                    TokensUsed::default(),
                    Some((codes::FAILURE, "the worker's connection was lost".into())),
                    None,
                );
            } else {
                self.abandon(rid);
            }
        }
    }

    pub(super) fn expire_requests(&mut self) {
        let now = self.now;
        let late: Vec<[u8; 32]> = self
            .requests
            .iter()
            .filter(|(_, r)| now >= r.deadline_ms)
            .map(|(rid, _)| *rid)
            .collect();
        for rid in late {
            let worker_link = self.requests.get(&rid).map(|r| r.worker_link);
            if let Some(link) = worker_link
                && let Some(LinkState::Worker(w)) = self.links.get(&link)
                && w.version >= 3
            {
                self.send(link, proto::proxy_cancel(rid));
            }
            self.finish(
                rid,
                TokensUsed::default(),
                Some((codes::TIMEOUT, "timeout in proxy".into())),
                None,
            );
        }
    }
}
