//! Requests of callers on their way through a proxy (protocol.md 3.6, 8.2), with a deadline of their own and a second
//! try before the first byte.

use std::collections::BTreeSet;

use cocoon_ledger::health::Outcome as Ended;
use cocoon_ledger::rank::{Peer, Ranked, Sort, rank};
use cocoon_ledger::{Coefficient, TokensUsed};
use cocoon_tl::from_boxed;
use cocoon_ton::Address;
use cocoon_wire::codes;
use cocoon_wire::msg::http;

use super::closing::NO_LINK;
use super::core::ClientCore;
use super::links::{Link, no_proxy};
use super::types::{ClientEffect, HttpOut, NewRequest};
use crate::api_error::ApiError;
use crate::link::{LinkEffect, LinkId};
use crate::metrics::Outcome;
use crate::proto::{self, Answer, AnswerKind, REFUSED_HEADER, RunQuery};
use crate::wishes::Wishes;

/// Share of the caller's time that the proxy gets (protocol.md 6.7).
const HOP_SHARE: f64 = 0.95;
/// Added to the caller's time before we give up by ourselves.
const GRACE_MS: u64 = 500;
/// Ways a request may take before the caller is told that it failed.
const MAX_TRIES: u32 = 3;

/// After so much silence the proxy is asked whether it is there; without an answer in as much time again and a bit, its
/// link is given up and the request goes another way.
const SILENCE_MS: u64 = 3_000;
const PROBE_MS: u64 = 5_000;
/// A proxy that did not even begin in this time has failed.
const FAILED_MS: u64 = 10_000;
/// Requests at one proxy at which it counts as fully loaded; there is no limit, only a preference.
const FULL: u32 = 256;

/// A request without its answer yet.
pub(super) struct Running {
    pub(super) request: NewRequest,
    pub(super) link: LinkId,
    started_ms: u64,
    sent_ms: u64,
    deadline_ms: u64,
    head_sent: bool,
    /// The answer is an event stream whose first piece has not come.
    awaits_first: bool,
    /// Links that were asked.
    tried: Vec<LinkId>,
    /// Since it first had to wait for a link: until when it may.
    pub(super) patience_until: Option<u64>,
}

impl ClientCore {
    pub(super) fn on_request(&mut self, request: NewRequest) {
        let id = request.id;
        if self.draining {
            let e = ApiError::new(
                503,
                "server_error",
                "shutting_down",
                "the client is stopping and takes no new requests",
            );
            return self.refuse(id, e);
        }
        let link = match self.best_link(&request.wishes, &[]) {
            Some(link) => link,
            // Proxies are moving to new contracts: there will be one soon.
            None if self.is_moving() => NO_LINK,
            None => {
                let any = self.links.values().any(|l| l.ready);
                let e = if any { no_capable() } else { no_proxy() };
                return self.refuse(id, e);
            }
        };
        if self.closed {
            return self.refuse(id, super::closing::closed());
        }
        if let Some(reason) = self.unpaid(link) {
            return self.refuse(id, refused(&reason));
        }
        let deadline_ms = self
            .now
            .saturating_add(request.timeout_ms)
            .saturating_add(GRACE_MS);
        self.meter
            .begin(self.now, id, id, None, request.query.len());
        let run = Running {
            request,
            link,
            started_ms: self.now,
            sent_ms: self.now,
            deadline_ms,
            head_sent: false,
            awaits_first: false,
            tried: Vec::new(),
            patience_until: None,
        };
        self.requests.insert(id, run);
        if link == NO_LINK {
            self.park(id);
        } else {
            self.send_request(id, link);
        }
    }

    fn refuse(&mut self, id: [u8; 32], error: ApiError) {
        let outcome = Outcome::of_api(error.status, &error.code);
        self.meter.refuse(self.now, outcome);
        self.fx.push(ClientEffect::Http(id, HttpOut::Fail(error)));
    }

    /// Why the proxy behind a link would be asked in vain: there is no deposit, and none will be made.
    fn unpaid(&self, link: LinkId) -> Option<String> {
        let p = self.proxies.get(&self.links.get(&link)?.proxy?)?;
        let empty = p.contract.balance == 0 && !self.root.price().is_zero();
        p.exit.refusal().filter(|_| empty).map(ToOwned::to_owned)
    }

    /// The best ready link by the rules of docs/market.md that was not tried yet: time to the first byte, errors and
    /// load of the proxies behind them.
    pub(super) fn best_link(&mut self, wishes: &Wishes, tried: &[LinkId]) -> Option<LinkId> {
        let draw = self.draw_u64();
        // Only version 3 can tell a proxy which workers must not answer.
        let able = |l: &Link| l.ready && (l.version >= 3 || !wishes.must_be_kept());
        let mut peers = Vec::new();
        for (id, l) in &self.links {
            if able(l)
                && !tried.contains(id)
                && let Some(p) = l.proxy.and_then(|sc| self.proxies.get(&sc))
            {
                peers.push(Peer {
                    running: l.running,
                    limit: FULL.max(l.running.saturating_add(1)),
                    // A link that is about to be renewed is a poor choice.
                    busy: l.leave_ms.is_some() || p.health.is_busy(self.now),
                    ..Peer::measured(id.0, Coefficient::ONE, &p.health, self.now)
                });
            }
        }
        match rank(&peers, Coefficient::ONE, Sort::Balanced, draw) {
            Ranked::Peer(id) => Some(LinkId(id)),
            // Callers do not wait here: any proxy is better than none.
            _ => peers
                .iter()
                .min_by_key(|p| (p.busy, p.running, p.id))
                .map(|p| LinkId(p.id)),
        }
    }

    /// What a request says about the proxy that had it.
    fn judge(&mut self, link: LinkId, proxy: Option<Address>, outcome: Ended) {
        let draw = self.draw_u64();
        let proxy = proxy.or_else(|| self.links.get(&link).and_then(|l| l.proxy));
        if let Some(p) = proxy.and_then(|sc| self.proxies.get_mut(&sc)) {
            p.health.ended(self.now, outcome, draw);
        }
    }

    /// Sends a request another way if it has one left and nothing of an answer came. Nothing was delivered, so an
    /// honest proxy books nothing for the first way.
    fn try_another(&mut self, id: [u8; 32]) -> bool {
        let Some(run) = self.requests.get(&id) else {
            return false;
        };
        let tries = run.request.wishes.retries.map_or(MAX_TRIES, |n| n + 1);
        if run.head_sent
            || run.tried.len() >= tries.min(MAX_TRIES) as usize
            || self.now + GRACE_MS >= run.deadline_ms
        {
            return false;
        }
        let (wishes, tried, link) = (run.request.wishes.clone(), run.tried.clone(), run.link);
        let Some(other) = self.best_link(&wishes, &tried) else {
            return false;
        };
        if let Some(l) = self.links.get_mut(&link) {
            l.running = l.running.saturating_sub(1);
        }
        self.send_request(id, other);
        true
    }

    pub(super) fn send_request(&mut self, id: [u8; 32], link: LinkId) {
        let Some(l) = self.links.get_mut(&link) else {
            return;
        };
        let version = l.version;
        l.running += 1;
        let Some(run) = self.requests.get_mut(&id) else {
            return;
        };
        run.link = link;
        run.sent_ms = self.now;
        run.tried.push(link);
        let left_ms = run
            .deadline_ms
            .saturating_sub(self.now)
            .saturating_sub(GRACE_MS)
            .max(1);
        let r = &run.request;
        let query = RunQuery {
            model: r.model.clone(),
            query: r.query.clone(),
            max_coefficient: i32::try_from(r.max_coefficient).unwrap_or(i32::MAX),
            max_tokens: i32::try_from(r.max_tokens).unwrap_or(i32::MAX),
            timeout: left_ms as f64 / 1000.0 * HOP_SHARE,
            request_id: id,
            min_config_version: self.root.version as i32,
            enable_debug: r.enable_debug,
            wishes: r.wishes.to_wire(),
        };
        let data = proto::client_run_query(version, query);
        self.fx
            .push(ClientEffect::Link(LinkEffect::Send { link, data }));
    }

    pub(super) fn on_query_answer(&mut self, link: LinkId, answer: Answer) {
        let id = answer.request_id;
        let (left_behind, moving) = (self.left_behind(link), self.is_moving());
        let Some(run) = self.requests.get_mut(&id) else {
            return;
        };
        if run.link != link {
            return;
        }
        let done = answer.fin.as_ref().map(|fin| fin.tokens);
        match answer.kind {
            AnswerKind::Error { code, .. }
                if code == codes::NOTREADY && !run.head_sent && left_behind =>
            {
                self.turned_away(id, link);
            }
            AnswerKind::Error { code, text, .. } => {
                let waited = self.now.saturating_sub(run.sent_ms);
                self.judge(link, None, outcome_of(code, waited));
                if !(may_go_elsewhere(code) && self.try_another(id)) {
                    self.fail(id, ApiError::from_network(code, &text))
                }
            }
            AnswerKind::Head(_) if run.head_sent => {}
            AnswerKind::Part(_) if !run.head_sent => {}
            AnswerKind::Head(data) => {
                let response = match from_boxed::<http::Response>(&data) {
                    Ok(r) if (100..=999).contains(&r.status_code) => r,
                    Ok(r) => return self.fail(id, bad_head(format!("status {}", r.status_code))),
                    Err(e) => return self.fail(id, bad_head(e.to_string())),
                };
                // The new contract has no deposit yet, or no worker has followed: soon it will.
                let waits = run.patience_until.is_none_or(|t| self.now < t);
                if done.is_some() && moving && waits && matches!(response.status_code, 402 | 503) {
                    return self.park(id);
                }
                // The proxy itself refuses: another one may not.
                let refused = response
                    .headers
                    .iter()
                    .find(|h| h.name.eq_ignore_ascii_case(REFUSED_HEADER));
                if let Some(code) = refused.and_then(|h| h.value.parse::<i32>().ok()) {
                    let waited = self.now.saturating_sub(run.sent_ms);
                    self.judge(link, None, outcome_of(code, waited));
                    // What cost something came from a worker, whatever its head says.
                    let free = done.is_some_and(|tokens| tokens.total == 0);
                    if free && may_go_elsewhere(code) && self.try_another(id) {
                        return;
                    }
                }
                let Some(run) = self.requests.get_mut(&id) else {
                    return;
                };
                run.head_sent = true;
                if response.status_code >= 400 {
                    match &answer.fin {
                        // The proxy's own refusal: no worker has seen the request.
                        Some(fin) if fin.worker_start == 0.0 => {
                            let outcome = Outcome::of_api(response.status_code as u16, "");
                            self.meter.end(self.now, &id, outcome, &fin.tokens);
                        }
                        _ => self.meter.error_head(&id),
                    }
                }
                run.awaits_first = response.headers.iter().any(|h| {
                    h.name.eq_ignore_ascii_case("content-type") && h.value.contains("event-stream")
                });
                let (start, now) = (run.started_ms as f64 / 1000.0, self.now as f64 / 1000.0);
                let mut headers: Vec<(String, String)> = response
                    .headers
                    .into_iter()
                    .filter(|h| !is_hop_header(&h.name))
                    .map(|h| (h.name, h.value))
                    .collect();
                headers.push(("X-Cocoon-Client-Start".to_owned(), format!("{start:.6}")));
                headers.push(("X-Cocoon-Client-End".to_owned(), format!("{now:.6}")));
                self.fx.push(ClientEffect::Http(
                    id,
                    HttpOut::Head {
                        status: response.status_code as u16,
                        headers,
                    },
                ));
                self.body(id, response.payload, done);
            }
            AnswerKind::Part(data) => self.body(id, data, done),
        }
    }

    /// Passes a piece of body on; `done` with the last one, and what the request cost.
    fn body(&mut self, id: [u8; 32], data: Vec<u8>, done: Option<TokensUsed>) {
        self.meter.body(self.now, &id, data.len());
        if !data.is_empty() {
            if let Some(run) = self.requests.get_mut(&id)
                && std::mem::take(&mut run.awaits_first)
            {
                let took = self.now.saturating_sub(run.sent_ms);
                let proxy = self.links.get(&run.link).and_then(|l| l.proxy);
                if let Some(p) = proxy.and_then(|sc| self.proxies.get_mut(&sc)) {
                    p.health.first_byte(took);
                }
            }
            self.fx.push(ClientEffect::Http(id, HttpOut::Body(data)));
        }
        if let Some(tokens) = done {
            if let Some(link) = self.requests.get(&id).map(|r| r.link) {
                let served = Ended::Served {
                    tokens: 0,
                    streamed_ms: 0,
                };
                self.judge(link, None, served);
            }
            self.meter.end(self.now, &id, Outcome::Success, &tokens);
            self.fx.push(ClientEffect::Http(id, HttpOut::End));
            self.forget(id);
        }
    }

    pub(super) fn fail(&mut self, id: [u8; 32], error: ApiError) {
        let outcome = Outcome::of_api(error.status, &error.code);
        self.meter
            .end(self.now, &id, outcome, &TokensUsed::default());
        self.fx.push(ClientEffect::Http(id, HttpOut::Fail(error)));
        self.forget(id);
    }

    fn forget(&mut self, id: [u8; 32]) {
        self.parked.remove(&id);
        if let Some(run) = self.requests.remove(&id)
            && let Some(l) = self.links.get_mut(&run.link)
        {
            l.running = l.running.saturating_sub(1);
        }
    }

    pub(super) fn on_cancel(&mut self, id: [u8; 32]) {
        let Some(run) = self.requests.get(&id) else {
            return;
        };
        let link = run.link;
        if self.links.get(&link).is_some_and(|l| l.version >= 3) {
            self.fx.push(ClientEffect::Link(LinkEffect::Send {
                link,
                data: proto::client_cancel(id),
            }));
        }
        self.meter
            .end(self.now, &id, Outcome::Cancelled, &TokensUsed::default());
        self.forget(id);
    }

    /// Before the first byte a request goes another way; after it, the caller is told the truth.
    pub(super) fn link_lost(&mut self, link: LinkId, proxy: Option<Address>) {
        let lost: Vec<[u8; 32]> = self
            .requests
            .iter()
            .filter(|(_, r)| r.link == link)
            .map(|(id, _)| *id)
            .collect();
        if !lost.is_empty() {
            self.judge(link, proxy, Ended::Failed);
        }
        for id in lost {
            let fresh = self.requests.get(&id).is_some_and(|r| !r.head_sent);
            if fresh && self.is_moving() && self.has_patience(id) {
                self.park(id);
                self.unpark();
            } else if !self.try_another(id) {
                self.fail(
                    id,
                    ApiError::new(
                        502,
                        "server_error",
                        "connection_lost",
                        "the connection to the proxy was lost before the answer was complete",
                    ),
                );
            }
        }
    }

    /// Asks proxies that keep a request waiting whether they are there, if there is another to go to: one that is busy
    /// answers, one that hangs loses its link.
    pub(super) fn probe_silent(&mut self) {
        if self.links.values().filter(|l| l.ready).count() < 2 {
            return;
        }
        let silent: BTreeSet<LinkId> = self
            .requests
            .values()
            .filter(|r| !r.head_sent && self.now.saturating_sub(r.sent_ms) >= SILENCE_MS)
            .map(|r| r.link)
            .collect();
        for link in silent {
            if let Some(l) = self.links.get_mut(&link)
                && l.ready
                && !std::mem::replace(&mut l.probed, true)
            {
                self.ask_status(link, PROBE_MS);
            }
        }
    }

    /// Renews links whose moment has come after a change of parameters; running requests end first.
    pub(super) fn leave_outdated(&mut self) {
        let due: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, l)| l.leave_ms.is_some_and(|at| self.now >= at) && l.running == 0)
            .map(|(id, _)| *id)
            .collect();
        for link in due {
            self.close(link, "the root contract has new parameters");
        }
    }

    pub(super) fn expire_requests(&mut self) {
        let late: Vec<[u8; 32]> = self
            .requests
            .iter()
            .filter(|(_, r)| self.now >= r.deadline_ms)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let link = self.requests.get(&id).map(|r| r.link);
            if let Some(link) = link
                && self.links.get(&link).is_some_and(|l| l.version >= 3)
            {
                self.fx.push(ClientEffect::Link(LinkEffect::Send {
                    link,
                    data: proto::client_cancel(id),
                }));
            }
            if let Some(run) = self.requests.get(&id)
                && !run.head_sent
                && self.now.saturating_sub(run.sent_ms) >= FAILED_MS
            {
                let link = run.link;
                self.judge(link, None, Ended::Failed);
            }
            self.fail(
                id,
                ApiError::from_network(codes::TIMEOUT, "the network gave no answer"),
            );
        }
    }
}

/// What a proxy's error says about the proxy.
fn outcome_of(code: i32, waited_ms: u64) -> Ended {
    match code {
        codes::PROTOVIOLATION | codes::CANCELLED => Ended::Neutral,
        // It works, but has no room or no worker.
        codes::NOTREADY | codes::ERROR => Ended::Busy,
        codes::TIMEOUT if waited_ms < FAILED_MS => Ended::Neutral,
        _ => Ended::Failed,
    }
}

/// Whether another proxy might answer: not what is wrong in itself, nor what took all its time.
fn may_go_elsewhere(code: i32) -> bool {
    !matches!(
        code,
        codes::PROTOVIOLATION | codes::TIMEOUT | codes::CANCELLED
    )
}

fn no_capable() -> ApiError {
    ApiError::new(
        503,
        "server_error",
        "no_capable_proxy",
        "no connected proxy understands \"provider.allow\" and \"provider.exclude\" (protocol version 3); leave them out, or try again later",
    )
    .with_param("provider")
}

fn refused(reason: &str) -> ApiError {
    ApiError::new(
        503,
        "server_error",
        "deposit_refused",
        format!(
            "this client has made no deposit to pay with: {reason}; its operator can give the proxy more stake, or \
             accept the risk with --accept-exit-risk"
        ),
    )
}

fn bad_head(e: String) -> ApiError {
    ApiError::new(
        502,
        "server_error",
        "bad_response",
        format!("the proxy sent an unreadable response head: {e}"),
    )
}

/// Headers that belong to one connection only; names compare without case (protocol.md 11 #47).
fn is_hop_header(name: &str) -> bool {
    [
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
    ]
    .iter()
    .any(|h| name.eq_ignore_ascii_case(h))
}
