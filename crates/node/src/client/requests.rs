//! Requests of callers on their way through a proxy (protocol.md 3.6, 8.2), with a deadline of their own and a second
//! try before the first byte.

use cocoon_ledger::TokensUsed;
use cocoon_tl::from_boxed;
use cocoon_wire::codes;
use cocoon_wire::msg::http;

use super::core::ClientCore;
use super::links::no_proxy;
use super::types::{ClientEffect, HttpOut, NewRequest};
use crate::api_error::ApiError;
use crate::link::{LinkEffect, LinkId};
use crate::metrics::Outcome;
use crate::proto::{self, Answer, AnswerKind, RunQuery};

/// Share of the caller's time that the proxy gets (protocol.md 6.7).
const HOP_SHARE: f64 = 0.95;
/// Added to the caller's time before we give up by ourselves.
const GRACE_MS: u64 = 500;
/// Ways a request may take before the caller is told that it failed.
const MAX_TRIES: u32 = 3;

/// A request without its answer yet.
pub(super) struct Running {
    request: NewRequest,
    link: LinkId,
    started_ms: u64,
    deadline_ms: u64,
    head_sent: bool,
    tries: u32,
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
        let Some(link) = self.best_link(None) else {
            return self.refuse(id, no_proxy());
        };
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
            deadline_ms,
            head_sent: false,
            tries: 0,
        };
        self.requests.insert(id, run);
        self.send_request(id, link);
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

    /// The ready link with the fewest requests, another one than `not` if there is.
    fn best_link(&self, not: Option<LinkId>) -> Option<LinkId> {
        self.links
            .iter()
            .filter(|(_, l)| l.ready)
            .min_by_key(|(id, l)| (Some(**id) == not, l.running, **id))
            .map(|(id, _)| *id)
    }

    fn send_request(&mut self, id: [u8; 32], link: LinkId) {
        let Some(l) = self.links.get_mut(&link) else {
            return;
        };
        let version = l.version;
        l.running += 1;
        let Some(run) = self.requests.get_mut(&id) else {
            return;
        };
        run.link = link;
        run.tries += 1;
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
        };
        let data = proto::client_run_query(version, query);
        self.fx
            .push(ClientEffect::Link(LinkEffect::Send { link, data }));
    }

    pub(super) fn on_query_answer(&mut self, link: LinkId, answer: Answer) {
        let id = answer.request_id;
        let Some(run) = self.requests.get_mut(&id) else {
            return;
        };
        if run.link != link {
            return;
        }
        let done = answer.fin.as_ref().map(|fin| fin.tokens);
        match answer.kind {
            AnswerKind::Error { code, text, .. } => {
                self.fail(id, ApiError::from_network(code, &text))
            }
            AnswerKind::Head(_) if run.head_sent => {}
            AnswerKind::Part(_) if !run.head_sent => {}
            AnswerKind::Head(data) => {
                let response = match from_boxed::<http::Response>(&data) {
                    Ok(r) if (100..=999).contains(&r.status_code) => r,
                    Ok(r) => return self.fail(id, bad_head(format!("status {}", r.status_code))),
                    Err(e) => return self.fail(id, bad_head(e.to_string())),
                };
                run.head_sent = true;
                if response.status_code >= 400 {
                    self.meter.error_head(&id);
                }
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
            self.fx.push(ClientEffect::Http(id, HttpOut::Body(data)));
        }
        if let Some(tokens) = done {
            self.meter.end(self.now, &id, Outcome::Success, &tokens);
            self.fx.push(ClientEffect::Http(id, HttpOut::End));
            self.forget(id);
        }
    }

    fn fail(&mut self, id: [u8; 32], error: ApiError) {
        let outcome = Outcome::of_api(error.status, &error.code);
        self.meter
            .end(self.now, &id, outcome, &TokensUsed::default());
        self.fx.push(ClientEffect::Http(id, HttpOut::Fail(error)));
        self.forget(id);
    }

    fn forget(&mut self, id: [u8; 32]) {
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
    pub(super) fn link_lost(&mut self, link: LinkId) {
        let lost: Vec<[u8; 32]> = self
            .requests
            .iter()
            .filter(|(_, r)| r.link == link)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            let (head_sent, tries) = self
                .requests
                .get(&id)
                .map_or((true, 0), |r| (r.head_sent, r.tries));
            match self.best_link(Some(link)) {
                Some(other) if !head_sent && tries < MAX_TRIES => self.send_request(id, other),
                _ => self.fail(
                    id,
                    ApiError::new(
                        502,
                        "server_error",
                        "connection_lost",
                        "the connection to the proxy was lost before the answer was complete",
                    ),
                ),
            }
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
            self.fail(
                id,
                ApiError::from_network(codes::TIMEOUT, "the network gave no answer"),
            );
        }
    }
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
