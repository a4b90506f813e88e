//! What becomes of running requests: answers, cancellation, lost links, closing the books (protocol.md 4.5 and 5.3).

use cocoon_ledger::health::Outcome as Ended;
use cocoon_ledger::{AdjustedTokens, TokensUsed};
use cocoon_ton::Address;
use cocoon_wire::codes;

use super::core::{Held, ProxyCore};
use super::links::LinkState;
use super::place::{Place, outcome_of};
use super::requests::{Closed, Running, seconds};
use super::types::ProxyEffect;
use crate::link::{LinkEffect, LinkId};
use crate::metrics::Outcome;
use crate::proto::{self, Answer, AnswerKind, FinalInfo};

/// No single request costs more: keeps a lying worker from overflowing totals.
const MAX_CLAIM: AdjustedTokens = AdjustedTokens(1 << 48);

/// Times that one request meets a full worker before that counts as a failure.
const MAX_BOUNCES: u32 = 8;

impl ProxyCore {
    /// An answer of a worker; only the link that got the request may give it (11 #15).
    pub(super) fn on_answer(&mut self, link: LinkId, answer: Answer) {
        let rid = answer.request_id;
        let Some(run) = self.requests.get_mut(&rid) else {
            return;
        };
        if run.worker_link != link {
            return;
        }
        if let Some(fin) = &answer.fin
            && let Some(LinkState::Worker(w)) = self.links.get_mut(&link)
        {
            w.recent
                .worker_said(seconds(self.now), fin.worker_end - fin.worker_start);
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
            AnswerKind::Head(response) => self.on_head(rid, &response, answer.fin, tokens),
            AnswerKind::Part(data) => {
                if !data.is_empty() {
                    run.first_ms.get_or_insert(self.now);
                }
                self.meter.body(self.now, &rid, data.len());
                self.deliver(rid, AnswerKind::Part(data), answer.fin, tokens);
            }
        }
    }

    /// The head decides whether the answer goes out, or another worker gets a chance.
    fn on_head(
        &mut self,
        rid: [u8; 32],
        response: &[u8],
        fin: Option<FinalInfo>,
        tokens: TokensUsed,
    ) {
        let Some(run) = self.requests.get_mut(&rid) else {
            return;
        };
        let (start, end) = (seconds(run.job.started_ms), seconds(self.now));
        let stamped = proto::stamp_response(
            response,
            ("X-Cocoon-Proxy-Start", start),
            ("X-Cocoon-Proxy-End", end),
        );
        let head = match stamped {
            Ok(head) => head,
            Err(e) => {
                let text = format!("worker sent an unreadable response head: {e}");
                return self.finish(rid, tokens, Some((codes::FAILURE, text)), None);
            }
        };
        // An engine that is overloaded or broken says so in its status; nothing was delivered yet.
        let outcome = match head.status {
            429 => Some(Ended::Busy),
            500.. => Some(Ended::Failed),
            _ => None,
        };
        if let Some(outcome) = outcome {
            run.bad_status = true;
            if self.try_again(rid, outcome, true) {
                return;
            }
        }
        let Some(run) = self.requests.get_mut(&rid) else {
            return;
        };
        if fin.is_some() {
            // The whole answer in one message.
            self.meter.body(self.now, &rid, head.data.len());
        }
        run.head_sent = true;
        run.streams = head.streams;
        if head.has_body {
            run.first_ms.get_or_insert(self.now);
        }
        self.forget_query(rid);
        self.deliver(rid, AnswerKind::Head(head.data), fin, tokens);
    }

    /// Sends a request to another worker while nothing of an answer was delivered. Nobody pays for the failed try:
    /// no byte of it reached anybody. False if there is no other way, and the request is as before.
    fn try_again(&mut self, rid: [u8; 32], outcome: Ended, still_runs: bool) -> bool {
        let now = self.now;
        let Some(run) = self.requests.get_mut(&rid) else {
            return false;
        };
        if run.head_sent
            || run.abandoned
            || run.job.query.is_empty()
            || run.job.retries_left == 0
            || now >= run.job.deadline_ms
        {
            return false;
        }
        let link = run.worker_link;
        let full = outcome == Ended::Busy && run.job.bounces < MAX_BOUNCES;
        if full {
            run.job.bounces += 1;
        } else {
            run.job.tried.push(link);
            run.job.retries_left -= 1;
        }
        run.judged = true;
        self.judge(link, outcome);
        let Some(run) = self.requests.remove(&rid) else {
            return false;
        };
        let place = self.place(&run.job);
        self.requests.insert(rid, run);
        if matches!(place, Place::Nowhere(..)) {
            return false;
        }
        let Some(run) = self.take_running(rid) else {
            return false;
        };
        self.free_slot(link);
        if still_runs {
            self.stop_worker(link, rid);
        }
        self.tell_worker(rid, link, (run.worker, 0), run.job.client);
        let nothing = TokensUsed::default();
        let outcome = Outcome::of_code(codes::FAILURE);
        self.meter.end(now, &rid, outcome, &nothing);
        self.queue.retried += 1;
        match place {
            Place::Now(link, coefficient) => self.forward(run.job, link, coefficient),
            _ => self.wait_again(run.job),
        }
        true
    }

    /// A worker that understands it stops.
    fn stop_worker(&mut self, link: LinkId, rid: [u8; 32]) {
        if let Some(LinkState::Worker(w)) = self.links.get(&link)
            && w.version >= 3
        {
            self.send(link, proto::proxy_cancel(rid));
        }
    }

    /// What a request, or a try that brought nothing, was worth to its worker.
    fn tell_worker(
        &mut self,
        rid: [u8; 32],
        link: LinkId,
        (worker, used): (Address, u64),
        client: Address,
    ) {
        if self.links.contains_key(&link) {
            let contract = self.contract_of(link);
            let status = self.worker_status(contract, worker);
            let owner = client.to_text(false, self.cfg.testnet);
            let data = proto::worker_request_payment(rid, &status, used, &owner);
            self.send(link, data);
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
            proxy_start: seconds(run.job.started_ms),
            proxy_end: seconds(self.now),
            proxy_debug: run
                .job
                .debug
                .then(|| proto::debug_text("proxy_stats", run.job.started_ms, self.now)),
            ..f
        });
        let data = proto::client_answer(
            run.job.client_version,
            Answer {
                request_id: run.job.client_rid,
                kind,
                fin,
            },
        );
        let (link, abandoned) = (run.job.client_link, run.abandoned);
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
        self.close_books(rid, tokens, effects, None);
    }

    /// Ends a request with an error, unless another worker can still answer it.
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
        let mut ended = (Ended::Failed, Outcome::of_code(codes::FAILURE));
        if let Some((code, text)) = error {
            let outcome = outcome_of(code, &text, self.now.saturating_sub(run.sent_ms));
            ended = (outcome, Outcome::of_code(code));
            let is_fault = matches!(outcome, Ended::Failed | Ended::Busy);
            if is_fault && self.try_again(rid, outcome, false) {
                return;
            }
            let Some(run) = self.requests.get(&rid) else {
                return;
            };
            if !run.abandoned {
                let data = self.error_of(run, code, text, tokens, fin);
                let link = run.job.client_link;
                effects.push(ProxyEffect::Link(LinkEffect::Send { link, data }));
            }
        }
        self.close_books(rid, tokens, effects, Some(ended));
    }

    /// An error for the caller of a request, with the worker's times if there are any.
    fn error_of(
        &self,
        run: &Running,
        code: i32,
        text: String,
        tokens: TokensUsed,
        fin: Option<FinalInfo>,
    ) -> Vec<u8> {
        let worker_times = fin.map_or((0.0, 0.0), |f| (f.worker_start, f.worker_end));
        let (version, request_id) = (run.job.client_version, run.job.client_rid);
        if worker_times.0 <= 0.0 || !run.head_sent {
            return self.failure(version, request_id, run.head_sent, code, &text, tokens);
        }
        let fin = FinalInfo {
            tokens,
            proxy_start: seconds(run.job.started_ms),
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
        let answer = Answer {
            request_id,
            kind,
            fin: Some(fin),
        };
        proto::client_answer(version, answer)
    }

    /// Books the usage on both sides, and lets the last answer and the payments out once that is durable (5.3).
    /// `fault` says how the worker did; without it the answer is complete.
    fn close_books(
        &mut self,
        rid: [u8; 32],
        tokens: TokensUsed,
        effects: Vec<ProxyEffect>,
        fault: Option<(Ended, Outcome)>,
    ) {
        let Some(run) = self.take_running(rid) else {
            return;
        };
        // The reservation bounds what a worker may claim for one request (11 #3, #6).
        let claimed = AdjustedTokens(tokens.total.max(0).unsigned_abs());
        let used = claimed.min(run.job.reserved);
        if claimed > used {
            let text = format!(
                "worker {} reported {claimed} tokens for a request with {} reserved; booked the reservation",
                run.worker, run.job.reserved
            );
            self.fx.push(ProxyEffect::Alarm(text));
        }
        self.release(&run.job);
        let billed = TokensUsed {
            total: used.to_wire().unwrap_or(i64::MAX),
            ..tokens
        };
        let outcome = match fault {
            _ if run.abandoned => Outcome::Cancelled,
            None => Outcome::Success,
            Some((_, reason)) => reason,
        };
        self.meter.end(self.now, &rid, outcome, &billed);
        let mut broken = None;
        // The accounts of the contract it began under, also when that takes no more work (11 #8).
        let (now, contract) = (self.now, run.job.contract);
        if let Some(a) = self.client_at(contract, run.job.client) {
            a.last_active_ms = now;
            broken = a.tracker.add(used).err();
        }
        if let Some(a) = self.worker_at(contract, run.worker) {
            a.last_active_ms = now;
            broken = a.tracker.add(used).err().or(broken);
        }
        if let Some(e) = broken {
            return self.halt(format!("token totals cannot grow any more: {e}"));
        }
        self.free_slot(run.worker_link);
        match fault {
            _ if run.judged => {}
            // What was broken off at the caller's wish says nothing.
            _ if run.abandoned => self.judge(run.worker_link, Ended::Neutral),
            Some((ended, _)) => self.judge(run.worker_link, ended),
            None if run.bad_status => self.judge(run.worker_link, Ended::Failed),
            None => {
                self.judge_served(&run, &tokens);
                let (client, beginning) = (run.job.client, run.job.beginning.as_ref());
                self.near
                    .served(client, beginning, run.worker_link, self.now);
            }
        }
        if let Some(LinkState::Worker(w)) = self.links.get_mut(&run.worker_link) {
            let passed = seconds(self.now.saturating_sub(run.sent_ms));
            w.recent
                .ended(seconds(self.now), passed, outcome == Outcome::Success);
        }
        if used.is_zero() {
            // Nothing was given away that has to be durable first.
            self.fx.extend(effects);
        } else {
            self.touch_client_at(contract, run.job.client);
            self.touch_worker_at(contract, run.worker);
            self.after_save(Held::Effects(effects));
        }
        let closed = Closed {
            contract,
            rid,
            used,
            client_link: run.job.client_link,
            client_rid: run.job.client_rid,
            client: run.job.client,
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
        self.tell_worker(c.rid, c.worker_link, (c.worker, c.used.0), c.client);
        if self.links.contains_key(&c.client_link) {
            let status = self.client_status(c.contract, c.client);
            let data = proto::client_request_payment(c.client_rid, &status, c.used.0);
            self.send(c.client_link, data);
        }
    }

    /// The caller left: what waits is forgotten; a worker that understands it stops, any other finishes and is paid.
    pub(super) fn cancel(&mut self, link: LinkId, client_rid: [u8; 32]) {
        if self.leave_queue(link, client_rid) {
            return;
        }
        let found = self
            .requests
            .iter()
            .find(|(_, r)| r.job.client_link == link && r.job.client_rid == client_rid)
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
        self.forget_query(rid);
        self.stop_worker(link, rid);
    }

    pub(super) fn fail_requests_of(&mut self, link: LinkId) {
        self.drop_queue_of(link);
        let affected: Vec<([u8; 32], bool)> = self
            .requests
            .iter()
            .filter(|(_, r)| r.job.client_link == link || r.worker_link == link)
            .map(|(rid, r)| (*rid, r.worker_link == link))
            .collect();
        for (rid, by_worker) in affected {
            if by_worker {
                self.meter
                    .end(self.now, &rid, Outcome::Lost, &TokensUsed::default());
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
            .filter(|(_, r)| now >= r.job.deadline_ms)
            .map(|(rid, _)| *rid)
            .collect();
        for rid in late {
            if let Some(link) = self.requests.get(&rid).map(|r| r.worker_link) {
                self.stop_worker(link, rid);
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
