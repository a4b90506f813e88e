//! What becomes of running requests: answers, cancellation, lost links, closing the books (protocol.md 4.5 and 5.3).

use cocoon_ledger::{AdjustedTokens, TokensUsed};
use cocoon_wire::codes;

use super::core::{Held, ProxyCore};
use super::links::LinkState;
use super::requests::{Closed, seconds};
use super::types::ProxyEffect;
use crate::link::{LinkEffect, LinkId};
use crate::metrics::Outcome;
use crate::proto::{self, Answer, AnswerKind, FinalInfo};

/// No single request costs more: keeps a lying worker from overflowing totals.
const MAX_CLAIM: AdjustedTokens = AdjustedTokens(1 << 48);

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
                if answer.fin.is_some() {
                    // The whole answer in one message.
                    self.meter.body(self.now, &rid, response.len());
                }
                self.deliver(rid, AnswerKind::Head(response), answer.fin, tokens);
            }
            AnswerKind::Part(data) => {
                self.meter.body(self.now, &rid, data.len());
                self.deliver(rid, AnswerKind::Part(data), answer.fin, tokens);
            }
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
        self.close_books(rid, tokens, effects, Outcome::Success);
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
        let outcome = error
            .as_ref()
            .map_or(Outcome::Failed, |(code, _)| Outcome::of_code(*code));
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
        self.close_books(rid, tokens, effects, outcome);
    }

    /// Books the usage on both sides, and lets the last answer and the payments out once that is durable (5.3).
    fn close_books(
        &mut self,
        rid: [u8; 32],
        tokens: TokensUsed,
        effects: Vec<ProxyEffect>,
        outcome: Outcome,
    ) {
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
        let billed = TokensUsed {
            total: used.to_wire().unwrap_or(i64::MAX),
            ..tokens
        };
        let outcome = if run.abandoned {
            Outcome::Cancelled
        } else {
            outcome
        };
        self.meter.end(self.now, &rid, outcome, &billed);
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
            let passed = seconds(self.now.saturating_sub(run.started_ms));
            w.times.add(seconds(self.now), passed);
            w.recent
                .ended(seconds(self.now), passed, outcome == Outcome::Success);
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
    pub(super) fn cancel(&mut self, link: LinkId, client_rid: [u8; 32]) {
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
