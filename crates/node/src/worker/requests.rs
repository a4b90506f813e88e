//! Running requests: admission, the backend's answer streamed and counted, every way it can end (4.5, 6, 7).

use cocoon_engine::{BackendEvent, HttpRequest};
use cocoon_ledger::usage::Mode;
use cocoon_ledger::validate::{Rules, validate};
use cocoon_ledger::{Coefficient, TokensUsed, UsageCounter};
use cocoon_tl::{TlError, from_boxed, to_boxed};
use cocoon_wire::codes;
use cocoon_wire::msg::http;
use cocoon_wire::msg::proxy::{PacketToWorker, SignedPayment};

use super::core::{Phase, WorkerCore};
use super::types::WorkerEffect;
use crate::link::LinkId;
use crate::metrics::Outcome;
use crate::proto::{self, Answer, AnswerKind, FinalInfo, WorkerQuery};
use crate::root::base_model;

/// The inner alarm rings before the proxy's, so that what was used until then is still reported (4.5).
const HOP_SHARE: f64 = 0.95;
/// Largest piece of body in one message: far below a frame, so that streams of one link take turns.
const MAX_PART: usize = 1 << 20;
/// Error texts of a backend are for people; longer ones are noise.
const MAX_TEXT: usize = 1024;
/// Hop-by-hop or recomputed on the way to the backend; compressed answers could not be counted (6.3).
const DROPPED_REQUEST_HEADERS: [&str; 5] = [
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
];
/// Replaced on the way back (6.5).
const DROPPED_RESPONSE_HEADERS: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

/// A request the backend works on.
pub(super) struct Running {
    pub link: LinkId,
    rid: [u8; 32],
    version: i32,
    started_ms: u64,
    deadline_ms: u64,
    counter: UsageCounter,
    head_sent: bool,
    debug: bool,
}

impl Running {
    fn fin(&self, tokens: TokensUsed, now: u64) -> FinalInfo {
        final_info(tokens, self.started_ms, now, self.debug)
    }
}

fn final_info(tokens: TokensUsed, started: u64, now: u64, debug: bool) -> FinalInfo {
    FinalInfo {
        tokens,
        worker_debug: debug.then(|| proto::debug_text("worker_stats", started, now)),
        worker_start: seconds(started),
        worker_end: seconds(now),
        ..Default::default()
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn invalid<T>(reason: impl std::fmt::Display) -> Result<T, (i32, String)> {
    let text = format!("worker: invalid http request: {reason}");
    Err((codes::PROTOVIOLATION, text))
}

/// Code of 1.8 for an HTTP status of a backend that failed.
fn code_of_status(status: u16) -> i32 {
    match status {
        400..=499 => codes::PROTOVIOLATION,
        503 => codes::NOTREADY,
        504 => codes::TIMEOUT,
        _ => codes::FAILURE,
    }
}

fn boc(payment: SignedPayment) -> Option<Vec<u8>> {
    match payment {
        SignedPayment::Signed(p) => Some(p.data),
        SignedPayment::Empty(_) => None,
    }
}

fn is_dropped(list: &[&str], name: &str) -> bool {
    list.iter().any(|d| name.eq_ignore_ascii_case(d))
}

/// Whether a header may be passed on: nothing that could end the line or the name early (section 7).
fn is_clean(h: &http::Header) -> bool {
    !h.name.is_empty()
        && !h.name.contains([' ', '\t', '\r', '\n', ':'])
        && !h.value.contains(['\r', '\n'])
}

impl WorkerCore {
    pub(super) fn on_packet(&mut self, link: LinkId, data: &[u8]) {
        let Some(l) = self.links.get(&link) else {
            return;
        };
        if !l.takes_packets() {
            return;
        }
        let version = l.version;
        let done = match from_boxed::<PacketToWorker>(data) {
            Ok(PacketToWorker::RunQuery(q)) => {
                let q = WorkerQuery {
                    query: q.query,
                    signed_payment: boc(q.signed_payment),
                    coefficient: q.coefficient,
                    timeout: q.timeout,
                    request_id: q.request_id,
                    enable_debug: false,
                };
                self.run(link, q)
            }
            Ok(PacketToWorker::RunQueryEx(q)) => {
                let q = WorkerQuery {
                    query: q.query,
                    signed_payment: boc(q.signed_payment),
                    coefficient: q.coefficient,
                    timeout: q.timeout,
                    request_id: q.request_id,
                    enable_debug: q.enable_debug.unwrap_or(false),
                };
                self.run(link, q)
            }
            Ok(PacketToWorker::CancelQuery(q)) => {
                if version >= 3 {
                    self.on_cancel(link, q.request_id);
                }
                Ok(())
            }
            Ok(PacketToWorker::WorkerRequestPayment(p)) => self
                .on_request_payment(link, &p)
                .map_err(|e| format!("a payment of the proxy was refused: {e}")),
            Ok(PacketToWorker::SignedPayment(p)) => self
                .on_loose_payment(link, &p.data)
                .map_err(|e| format!("a payment of the proxy was refused: {e}")),
            // Constructors that proxies do not send are ignored (1.5).
            Ok(PacketToWorker::SignedPaymentEmpty(_)) | Err(TlError::UnknownConstructor { .. }) => {
                Ok(())
            }
            Err(e) => Err(format!("malformed packet from a proxy: {e}")),
        };
        if let Err(reason) = done {
            self.close(link, reason);
        }
    }

    /// Takes a request or refuses it with a message; an error closes the link.
    fn run(&mut self, link: LinkId, q: WorkerQuery) -> Result<(), String> {
        let Some(l) = self.links.get(&link) else {
            return Ok(());
        };
        let (version, stale) = (l.version, l.stale);
        let (rid, debug) = (q.request_id, q.enable_debug);
        let same = |r: &Running| r.link == link && r.rid == rid;
        if self.requests.values().any(same) {
            return Err("the proxy used the id of a running request again".into());
        }
        if let Some(boc) = &q.signed_payment
            && let Err(e) = self.on_loose_payment(link, boc)
        {
            // Nothing hangs on it yet: the strict check comes with the payment after the request.
            self.alarm(format!(
                "a payment that came with a request is worth nothing: {e}"
            ));
        }
        match self.admit(link, &q, stale) {
            Ok((http, counter, timeout_ms)) => {
                let request = self.ticket();
                self.meter
                    .begin(self.now, request, rid, None, http.body.len());
                self.requests.insert(
                    request,
                    Running {
                        link,
                        rid,
                        version,
                        started_ms: self.now,
                        deadline_ms: self.now.saturating_add(timeout_ms),
                        counter,
                        head_sent: false,
                        debug,
                    },
                );
                if let Some(a) = self.account_of(link) {
                    a.running += 1;
                }
                self.counters.accepted += 1;
                self.fx.push(WorkerEffect::Start {
                    link,
                    request,
                    http,
                });
            }
            Err((code, text)) => {
                self.counters.refused += 1;
                self.meter.refuse(self.now, Outcome::of_code(code));
                let fin = final_info(TokensUsed::default(), self.now, self.now, debug);
                let kind = AnswerKind::Error {
                    code,
                    text,
                    after_head: false,
                };
                let answer = Answer {
                    request_id: rid,
                    kind,
                    fin: Some(fin),
                };
                self.send(link, proto::worker_answer(version, answer));
            }
        }
        Ok(())
    }

    /// The checks before the backend is asked, cheapest first.
    fn admit(
        &self,
        link: LinkId,
        q: &WorkerQuery,
        stale: bool,
    ) -> Result<(HttpRequest, UsageCounter, u64), (i32, String)> {
        if self.phase != Phase::Serving {
            return Err((codes::NOTREADY, "worker: shutting down".into()));
        }
        if stale {
            let text = "worker: the root contract has newer parameters than this link";
            return Err((codes::NOTREADY, text.into()));
        }
        if self.requests.len() >= self.cfg.max_active_requests as usize {
            return Err((codes::ERROR, "too many active queries".into()));
        }
        let coefficient = Coefficient::from_wire(q.coefficient)
            .map_err(|e| (codes::PROTOVIOLATION, format!("worker: {e}")))?;
        if !q.timeout.is_finite() || q.timeout <= 0.0 {
            let text = format!(
                "worker: invalid timeout: expected a number of seconds above 0, found {}",
                q.timeout
            );
            return Err((codes::PROTOVIOLATION, text));
        }
        // In range, because it is cut to the limit while still a float.
        let limit = self.cfg.settings.max_timeout_ms;
        let timeout_ms = (q.timeout * HOP_SHARE * 1000.0).min(limit as f64) as u64;
        let http = match from_boxed::<http::Request>(&q.query) {
            Ok(http) => http,
            Err(e) => return invalid(e),
        };
        if http.method.is_empty() || !http.method.bytes().all(|b| b.is_ascii_alphabetic()) {
            return invalid("the method is not a word");
        }
        let model = base_model(&self.cfg.model);
        // The budget is in the request already: our clients write what they reserve into it.
        let checked = validate(&http.url, &http.payload, model, Rules::OpenAi, None)
            .map_err(|e| (e.code(), e.reply()))?;
        let mut headers = Vec::with_capacity(http.headers.len());
        for h in http.headers {
            if !is_clean(&h) {
                return invalid("a header has a forbidden character");
            }
            if !is_dropped(&DROPPED_REQUEST_HEADERS, &h.name) {
                headers.push((h.name, h.value));
            }
        }
        let path = http.url.find('/').map_or("", |at| &http.url[at..]);
        let request = HttpRequest {
            method: http.method.to_ascii_uppercase(),
            url: path.to_owned(),
            headers,
            body: checked.body.into(),
        };
        // Billed with the coefficient the proxy accepted it at, not with today's (4.5).
        let counter = UsageCounter::new(Mode::Streaming, self.root_of(link).prices(coefficient));
        Ok((request, counter, timeout_ms))
    }

    pub(super) fn on_backend(&mut self, request: u64, event: BackendEvent) {
        let Some(run) = self.requests.get_mut(&request) else {
            return;
        };
        match event {
            BackendEvent::Head {
                status,
                reason,
                headers,
            } => {
                if run.head_sent || !(100..=999).contains(&status) {
                    let text = format!("worker: http failed: unusable head with status {status}");
                    self.fail(request, codes::FAILURE, text, true);
                    return;
                }
                run.head_sent = true;
                if status >= 400 {
                    self.meter.error_head(&request);
                }
                let response = head(status, reason, headers, run.started_ms, self.now);
                self.answer(request, AnswerKind::Head(response), None);
            }
            BackendEvent::Body(_) | BackendEvent::End if !run.head_sent => {
                let text = "worker: http failed: a body without a head".to_owned();
                self.fail(request, codes::FAILURE, text, true);
            }
            BackendEvent::Body(piece) => {
                let out = run.counter.push(&piece);
                self.meter.body(self.now, &request, out.len());
                for part in out.chunks(MAX_PART) {
                    self.answer(request, AnswerKind::Part(part.to_vec()), None);
                }
            }
            BackendEvent::End => {
                let rest = run.counter.finish();
                let (tokens, truncated) = (run.counter.usage(), run.counter.truncated_scan());
                let fin = run.fin(tokens, self.now);
                self.meter.body(self.now, &request, rest.len());
                self.meter
                    .end(self.now, &request, Outcome::Success, &tokens);
                let mut parts: Vec<&[u8]> = rest.chunks(MAX_PART).collect();
                let last = parts.pop().unwrap_or_default();
                for part in parts {
                    self.answer(request, AnswerKind::Part(part.to_vec()), None);
                }
                self.answer(request, AnswerKind::Part(last.to_vec()), Some(fin));
                if truncated {
                    self.alarm("an answer was too deep or too long to be read for usage; it may have cost nothing");
                }
                self.counters.completed += 1;
                self.end(request, tokens);
            }
            BackendEvent::Failed { status, message } => {
                let message: String = message.chars().take(MAX_TEXT).collect();
                let text = if message.is_empty() {
                    format!("worker: http failed: status {status}")
                } else {
                    format!("worker: {message}")
                };
                self.fail(request, code_of_status(status), text, false);
            }
        }
    }

    fn answer(&mut self, request: u64, kind: AnswerKind, fin: Option<FinalInfo>) {
        if let Some(run) = self.requests.get(&request) {
            let answer = Answer {
                request_id: run.rid,
                kind,
                fin,
            };
            let data = proto::worker_answer(run.version, answer);
            self.send(run.link, data);
        }
    }

    /// Ends a request with an error that carries what was used so far (11 #5).
    fn fail(&mut self, request: u64, code: i32, text: String, cancel: bool) {
        let Some(run) = self.requests.get(&request) else {
            return;
        };
        let tokens = if run.head_sent {
            run.counter.usage_at_break()
        } else {
            TokensUsed::default()
        };
        let fin = run.fin(tokens, self.now);
        self.meter
            .end(self.now, &request, Outcome::of_code(code), &tokens);
        let kind = AnswerKind::Error {
            code,
            text,
            after_head: run.head_sent,
        };
        self.answer(request, kind, Some(fin));
        if cancel {
            self.fx.push(WorkerEffect::Cancel { request });
        }
        self.counters.failed += 1;
        self.end(request, tokens);
    }

    fn end(&mut self, request: u64, tokens: TokensUsed) {
        let Some(run) = self.requests.remove(&request) else {
            return;
        };
        self.counters.tokens += tokens.total.max(0).unsigned_abs();
        let now = self.now;
        if let Some(a) = self.account_of(run.link) {
            a.running = a.running.saturating_sub(1);
            a.last_active_ms = now;
        }
        self.close_if_done(run.link);
    }

    fn account_of(&mut self, link: LinkId) -> Option<&mut super::account::ProxyAccount> {
        let sc = self.links.get(&link)?.account?;
        self.accounts.get_mut(&sc)
    }

    fn on_cancel(&mut self, link: LinkId, rid: [u8; 32]) {
        let found = self
            .requests
            .iter()
            .find(|(_, r)| r.link == link && r.rid == rid)
            .map(|(n, _)| *n);
        if let Some(request) = found {
            self.counters.cancelled += 1;
            let text = "worker: cancelled by the caller".to_owned();
            self.fail(request, codes::CANCELLED, text, true);
        }
    }

    pub(super) fn expire_requests(&mut self) {
        let now = self.now;
        let late: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, r)| now >= r.deadline_ms)
            .map(|(n, _)| *n)
            .collect();
        for request in late {
            self.fail(request, codes::TIMEOUT, "worker: timeout".into(), true);
        }
    }

    /// The link is gone, and with it everybody who could take or pay the answers. `account` was its account.
    pub(super) fn cancel_requests_of(
        &mut self,
        link: LinkId,
        account: Option<cocoon_ton::Address>,
    ) {
        let lost: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, r)| r.link == link)
            .map(|(n, _)| *n)
            .collect();
        for request in lost {
            self.requests.remove(&request);
            self.counters.cancelled += 1;
            self.meter
                .end(self.now, &request, Outcome::Lost, &TokensUsed::default());
            self.fx.push(WorkerEffect::Cancel { request });
            if let Some(a) = account.and_then(|sc| self.accounts.get_mut(&sc)) {
                a.running = a.running.saturating_sub(1);
                a.last_active_ms = self.now;
            }
        }
    }
}

/// The response head as it travels: the body follows in pieces of unknown number (6.5).
fn head(
    status: u16,
    reason: String,
    headers: Vec<(String, String)>,
    started: u64,
    now: u64,
) -> Vec<u8> {
    let mut headers: Vec<http::Header> = headers
        .into_iter()
        .map(|(name, value)| http::Header { name, value })
        .filter(|h| is_clean(h) && !is_dropped(&DROPPED_RESPONSE_HEADERS, &h.name))
        .collect();
    for (name, value) in [
        ("Transfer-Encoding", "chunked".to_owned()),
        ("X-Cocoon-Worker-Start", format!("{:.6}", seconds(started))),
        ("X-Cocoon-Worker-End", format!("{:.6}", seconds(now))),
    ] {
        headers.push(http::Header {
            name: name.to_owned(),
            value,
        });
    }
    to_boxed(&http::Response {
        http_version: "HTTP/1.1".to_owned(),
        status_code: i32::from(status),
        reason: if reason.is_empty() {
            proto::reason(status).to_owned()
        } else {
            reason
        },
        headers,
        payload: Vec::new(),
    })
}
