//! What a role counts of its requests: outcomes, tokens, bytes and times.
//!
//! A core tells its meter when a request begins, moves and ends; time is an argument. The meter never sees a prompt,
//! an answer or who asked.

use std::collections::BTreeMap;

use cocoon_ledger::TokensUsed;
use cocoon_ledger::stats::Counter;
use cocoon_wire::codes;
use serde_json::{Map, Value, json};

use super::histogram::{DURATION_S, FIRST_BYTE_S, Histogram};
use super::page::Page;
use super::trace::{Span, Spans};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The whole answer was passed on.
    Success,
    /// The whole answer was passed on, and its HTTP status says that the engine refused or failed.
    ErrorAnswer,
    /// The request itself is wrong, or its caller may not ask.
    Invalid,
    /// Nobody could take it now: no deposit, no proxy, no worker, no room, a price above the caller's limit.
    Refused,
    /// The time ran out.
    Timeout,
    /// The caller left.
    Cancelled,
    /// The connection that carried it was lost.
    Lost,
    /// Anything else went wrong behind this node.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 8] = [
        Outcome::Success,
        Outcome::ErrorAnswer,
        Outcome::Invalid,
        Outcome::Refused,
        Outcome::Timeout,
        Outcome::Cancelled,
        Outcome::Lost,
        Outcome::Failed,
    ];

    /// The label of metrics and traces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::ErrorAnswer => "error_answer",
            Outcome::Invalid => "invalid",
            Outcome::Refused => "refused",
            Outcome::Timeout => "timeout",
            Outcome::Cancelled => "cancelled",
            Outcome::Lost => "lost",
            Outcome::Failed => "failed",
        }
    }

    /// Of an error of the network (protocol.md 1.8).
    #[must_use]
    pub fn of_code(code: i32) -> Self {
        match code {
            codes::PROTOVIOLATION => Outcome::Invalid,
            codes::ERROR | codes::NOTREADY => Outcome::Refused,
            codes::TIMEOUT => Outcome::Timeout,
            codes::CANCELLED => Outcome::Cancelled,
            _ => Outcome::Failed,
        }
    }

    /// Of an error as an HTTP caller sees it: its status, and the code of [`crate::api_error::ApiError`].
    #[must_use]
    pub fn of_api(status: u16, code: &str) -> Self {
        match (status, code) {
            (_, "connection_lost") => Outcome::Lost,
            (_, "cancelled") => Outcome::Cancelled,
            (402 | 429 | 503, _) => Outcome::Refused,
            (504, _) => Outcome::Timeout,
            (400..=499, _) => Outcome::Invalid,
            _ => Outcome::Failed,
        }
    }

    fn is_success(self) -> bool {
        matches!(self, Outcome::Success | Outcome::ErrorAnswer)
    }
}

/// A request that runs.
#[derive(Clone, Debug)]
struct Live {
    trace: [u8; 32],
    linked: Option<[u8; 32]>,
    started_ms: u64,
    first_ms: Option<u64>,
    error_answer: bool,
}

/// The counters of a role; `K` names its running requests.
#[derive(Debug)]
pub struct Meter<K: Ord> {
    live: BTreeMap<K, Live>,
    outcomes: [u64; Outcome::ALL.len()],
    queries: Counter,
    success: Counter,
    failed: Counter,
    rejected: Counter,
    bytes_received: Counter,
    bytes_sent: Counter,
    time_ms: Counter,
    tokens: [Counter; 5],
    first_byte: Histogram,
    duration: Histogram,
    /// Finished requests for a collector of traces, if there is one.
    pub spans: Spans,
}

/// The classes of tokens in the order of [`Meter`]'s counters.
const CLASSES: [&str; 4] = ["prompt", "cached", "completion", "reasoning"];

impl<K: Ord> Meter<K> {
    /// Requests that began and have not ended.
    pub fn live(&self) -> usize {
        self.live.len()
    }
}

impl<K: Ord> Default for Meter<K> {
    fn default() -> Self {
        Meter {
            live: BTreeMap::new(),
            outcomes: [0; Outcome::ALL.len()],
            queries: Counter::new(),
            success: Counter::new(),
            failed: Counter::new(),
            rejected: Counter::new(),
            bytes_received: Counter::new(),
            bytes_sent: Counter::new(),
            time_ms: Counter::new(),
            tokens: Default::default(),
            first_byte: Histogram::new(FIRST_BYTE_S),
            duration: Histogram::new(DURATION_S),
            spans: Spans::default(),
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl<K: Ord> Meter<K> {
    /// A request was taken; `bytes` are those of its body. `trace` is its id on the wire towards the caller, `linked`
    /// that towards the next hop, where this node chose another one.
    pub fn begin(
        &mut self,
        now_ms: u64,
        id: K,
        trace: [u8; 32],
        linked: Option<[u8; 32]>,
        bytes: usize,
    ) {
        let now = seconds(now_ms);
        self.queries.add(now, 1);
        self.bytes_received.add(now, bytes as u64);
        let live = Live {
            trace,
            linked,
            started_ms: now_ms,
            first_ms: None,
            error_answer: false,
        };
        self.live.insert(id, live);
    }

    /// A request was refused before it began.
    pub fn refuse(&mut self, now_ms: u64, outcome: Outcome) {
        let now = seconds(now_ms);
        self.queries.add(now, 1);
        self.rejected.add(now, 1);
        self.outcomes[outcome as usize] += 1;
    }

    /// The head of the answer says that it is an error of the engine.
    pub fn error_head(&mut self, id: &K) {
        if let Some(live) = self.live.get_mut(id) {
            live.error_answer = true;
        }
    }

    /// A piece of the answer's body is passed on.
    pub fn body(&mut self, now_ms: u64, id: &K, bytes: usize) {
        if bytes == 0 {
            return;
        }
        if let Some(live) = self.live.get_mut(id) {
            self.bytes_sent.add(seconds(now_ms), bytes as u64);
            if live.first_ms.is_none() {
                live.first_ms = Some(now_ms);
                self.first_byte
                    .observe(seconds(now_ms.saturating_sub(live.started_ms)));
            }
        }
    }

    /// A request ended. One that never began, or ended before, is not counted.
    pub fn end(&mut self, now_ms: u64, id: &K, outcome: Outcome, tokens: &TokensUsed) {
        let Some(live) = self.live.remove(id) else {
            return;
        };
        let outcome = match outcome {
            Outcome::Success if live.error_answer => Outcome::ErrorAnswer,
            other => other,
        };
        let now = seconds(now_ms);
        let passed_ms = now_ms.saturating_sub(live.started_ms);
        self.outcomes[outcome as usize] += 1;
        let counter = if outcome.is_success() {
            &mut self.success
        } else {
            &mut self.failed
        };
        counter.add(now, 1);
        self.time_ms.add(now, passed_ms);
        self.duration.observe(seconds(passed_ms));
        let used = [
            tokens.prompt,
            tokens.cached,
            tokens.completion,
            tokens.reasoning,
            tokens.total,
        ];
        for (counter, n) in self.tokens.iter_mut().zip(used) {
            if n > 0 {
                counter.add(now, n.unsigned_abs());
            }
        }
        self.spans.push(|| Span {
            trace: live.trace,
            linked: live.linked,
            started_ms: live.started_ms,
            first_ms: live.first_ms,
            ended_ms: now_ms,
            outcome,
            tokens: tokens.total.max(0).unsigned_abs(),
        });
    }

    /// The member `stats` of `/jsonstats` (protocol.md 8.5): a total, then rates over 1 s, 10 s, 1 min, 10 min, 1 h
    /// and 1 d for each counter.
    #[must_use]
    pub fn reference(&self, now_ms: u64) -> Value {
        let now = seconds(now_ms);
        let mut out = Map::new();
        let mut put = |name: String, counter: &Counter, unit: f64| {
            let report = counter.report(now);
            let mut values = vec![if unit == 1.0 {
                json!(report.total)
            } else {
                json!(report.total as f64 * unit)
            }];
            values.extend(report.rates.iter().map(|rate| json!(rate * unit)));
            out.insert(name, Value::Array(values));
        };
        for (name, counter) in [
            ("queries", &self.queries),
            ("success", &self.success),
            ("failed", &self.failed),
            ("rejected", &self.rejected),
            ("bytes_received", &self.bytes_received),
            ("bytes_sent", &self.bytes_sent),
        ] {
            put(name.to_owned(), counter, 1.0);
        }
        put("time".to_owned(), &self.time_ms, 0.001);
        for (class, counter) in CLASSES.iter().zip(&self.tokens) {
            put(format!("{class}_adjusted_tokens_used"), counter, 1.0);
        }
        put(
            "total_adjusted_tokens_used".to_owned(),
            &self.tokens[4],
            1.0,
        );
        Value::Object(out)
    }

    /// Writes the counters to a page.
    pub fn expose(&self, page: &mut Page) {
        for outcome in Outcome::ALL {
            page.counter(
                "cocoon_requests_total",
                "Requests that ended, by outcome.",
                &[("outcome", outcome.name())],
                self.outcomes[outcome as usize],
            );
        }
        for (class, counter) in CLASSES.iter().zip(&self.tokens) {
            page.counter(
                "cocoon_tokens_total",
                "Adjusted tokens of requests that ended, by class.",
                &[("class", class)],
                counter.total(),
            );
        }
        page.counter(
            "cocoon_billed_tokens_total",
            "Adjusted tokens that were billed, all classes.",
            &[],
            self.tokens[4].total(),
        );
        page.counter(
            "cocoon_request_bytes_total",
            "Bytes of request bodies that were taken.",
            &[],
            self.bytes_received.total(),
        );
        page.counter(
            "cocoon_response_bytes_total",
            "Bytes of answers that were passed on.",
            &[],
            self.bytes_sent.total(),
        );
        page.gauge(
            "cocoon_running_requests",
            "Requests that run now.",
            &[],
            self.live.len(),
        );
        page.histogram(
            "cocoon_time_to_first_token_seconds",
            "Seconds from the request to the first byte of the answer's body.",
            &self.first_byte,
        );
        page.histogram(
            "cocoon_request_duration_seconds",
            "Seconds from the request to the end of its answer.",
            &self.duration,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(prompt: i64, completion: i64) -> TokensUsed {
        TokensUsed {
            prompt,
            completion,
            total: prompt + completion,
            ..TokensUsed::default()
        }
    }

    #[test]
    fn every_request_is_counted_once() {
        let mut m: Meter<u64> = Meter::default();
        m.begin(1000, 1, [1; 32], None, 100);
        m.begin(1000, 2, [2; 32], None, 50);
        m.refuse(1000, Outcome::Refused);
        m.body(1250, &1, 0);
        m.body(1500, &1, 10);
        m.body(2000, &1, 30);
        m.end(3000, &1, Outcome::Success, &tokens(7, 5));
        m.end(3000, &1, Outcome::Failed, &tokens(7, 5));
        m.error_head(&2);
        m.end(3500, &2, Outcome::Success, &tokens(0, 0));
        m.body(4000, &2, 10);
        let mut page = Page::new("worker");
        m.expose(&mut page);
        let text = page.text();
        for line in [
            "cocoon_requests_total{role=\"worker\",outcome=\"success\"} 1",
            "cocoon_requests_total{role=\"worker\",outcome=\"error_answer\"} 1",
            "cocoon_requests_total{role=\"worker\",outcome=\"refused\"} 1",
            "cocoon_requests_total{role=\"worker\",outcome=\"failed\"} 0",
            "cocoon_tokens_total{role=\"worker\",class=\"prompt\"} 7",
            "cocoon_billed_tokens_total{role=\"worker\"} 12",
            "cocoon_request_bytes_total{role=\"worker\"} 150",
            "cocoon_response_bytes_total{role=\"worker\"} 40",
            "cocoon_running_requests{role=\"worker\"} 0",
            "cocoon_time_to_first_token_seconds_sum{role=\"worker\"} 0.5",
            "cocoon_time_to_first_token_seconds_count{role=\"worker\"} 1",
            "cocoon_request_duration_seconds_sum{role=\"worker\"} 4.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
        let stats = m.reference(3500);
        assert_eq!(stats["queries"][0], 3);
        assert_eq!(stats["success"][0], 2);
        assert_eq!(stats["rejected"][0], 1);
        assert_eq!(stats["time"][0], 4.5);
        assert_eq!(stats["total_adjusted_tokens_used"][0], 12);
        assert!(
            stats
                .as_object()
                .unwrap()
                .values()
                .all(|v| v.as_array().unwrap().len() == 7)
        );
    }

    #[test]
    fn errors_have_their_outcomes() {
        for (code, outcome) in [
            (621, Outcome::Invalid),
            (602, Outcome::Refused),
            (651, Outcome::Refused),
            (652, Outcome::Timeout),
            (653, Outcome::Cancelled),
            (601, Outcome::Failed),
            (0, Outcome::Failed),
        ] {
            assert_eq!(Outcome::of_code(code), outcome, "{code}");
        }
        for (status, code, outcome) in [
            (400, "invalid_json", Outcome::Invalid),
            (404, "model_not_found", Outcome::Invalid),
            (402, "insufficient_balance", Outcome::Refused),
            (503, "no_workers", Outcome::Refused),
            (503, "cancelled", Outcome::Cancelled),
            (504, "timeout", Outcome::Timeout),
            (502, "connection_lost", Outcome::Lost),
            (502, "engine_error", Outcome::Failed),
        ] {
            assert_eq!(Outcome::of_api(status, code), outcome, "{status} {code}");
        }
        for (at, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, at);
        }
    }
}
