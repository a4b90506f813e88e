//! Traces for a collector, over OTLP/HTTP with JSON: one span for each finished request at each role.
//!
//! The trace is named after the request's id on the wire. Client and proxy share that id, so their spans join. Towards
//! the worker the proxy chooses a fresh id, as the reference does: a worker learns nothing that tells callers apart. There
//! the proxy writes a second span, `forward`, into the worker's trace, with a link to its own. Ids of spans follow from
//! role and request id, so that nobody has to send them. Attributes are times, outcome and tokens; never content.

use std::sync::Arc;
use std::time::Duration;

use cocoon_node::metrics::Outcome;
use cocoon_node::metrics::trace::Span;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::observer::Observer;
use crate::error::{CliError, Result};
use crate::http::Http;

/// Between two deliveries.
const EVERY: Duration = Duration::from_secs(1);
/// A collector that takes longer costs spans, not memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where spans go.
#[derive(Clone, Debug)]
pub struct Collector {
    url: String,
}

impl Collector {
    /// Reads `--otlp`: the base URL, without the `/v1/traces`.
    pub fn parse(text: &str) -> Result<Self> {
        let base = text.trim_end_matches('/').trim_end_matches("/v1/traces");
        let host = base.strip_prefix("http://").unwrap_or_default();
        if host.is_empty() || host.contains('@') {
            return Err(CliError::usage("cannot use --otlp")
                .expected("http://HOST:PORT of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318")
                .found(format!("{:?}", text.chars().take(80).collect::<String>()))
                .hint("a collector elsewhere is reached through one on this machine"));
        }
        Ok(Collector {
            url: format!("{base}/v1/traces"),
        })
    }

    /// Delivers the spans of a node until the task is aborted.
    pub fn export(&self, observer: Arc<Observer>) -> JoinHandle<()> {
        let url = self.url.clone();
        tokio::spawn(async move {
            let http = Http::default();
            let mut failing = false;
            loop {
                if let Some(node) = observer.node() {
                    let (spans, dropped) = node.spans().await;
                    if dropped > 0 {
                        tracing::warn!(
                            "{dropped} spans were dropped: too many between two deliveries"
                        );
                    }
                    if !spans.is_empty() {
                        let body = document(observer.role(), &spans);
                        let sent = tokio::time::timeout(
                            PATIENCE,
                            http.call(Method::POST, &url, Some(&body)),
                        );
                        let trouble = match sent.await {
                            Ok(Ok(answer)) if answer.status < 300 => None,
                            Ok(Ok(answer)) => Some(format!("HTTP {}", answer.status)),
                            Ok(Err(_)) => Some("no answer".to_owned()),
                            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
                        };
                        if let Some(text) = &trouble
                            && !failing
                        {
                            tracing::warn!(
                                "the collector of traces ({url}) takes nothing: {text}; spans are dropped until it does"
                            );
                        }
                        failing = trouble.is_some();
                    }
                }
                tokio::time::sleep(EVERY).await;
            }
        })
    }
}

/// Id of the span of `role` for a request.
fn span_id(role: &str, id: &[u8; 32]) -> String {
    let mut h = Sha256::new();
    h.update(b"cocoon span 1\n");
    h.update(role.as_bytes());
    h.update(id);
    hex::encode(&h.finalize()[..8])
}

fn trace_id(id: &[u8; 32]) -> String {
    hex::encode(&id[..16])
}

fn nanos(ms: u64) -> String {
    format!("{ms}000000")
}

fn attribute(key: &str, value: Value) -> Value {
    json!({"key": key, "value": value})
}

fn one(
    role: &str,
    name: &str,
    span: &Span,
    id: &[u8; 32],
    parent: Option<&str>,
    link: Option<Value>,
) -> Value {
    let failed = !matches!(span.outcome, Outcome::Success | Outcome::ErrorAnswer);
    let events: Vec<Value> = span
        .first_ms
        .map(|ms| json!({"timeUnixNano": nanos(ms), "name": "first_byte"}))
        .into_iter()
        .collect();
    let mut out = json!({
        "traceId": trace_id(id),
        "spanId": span_id(name, id),
        "name": format!("{role} {}", if name == "forward" { "forward" } else { "request" }),
        // Of a client of the network, or of a server.
        "kind": if name == "forward" { 3 } else { 2 },
        "startTimeUnixNano": nanos(span.started_ms),
        "endTimeUnixNano": nanos(span.ended_ms),
        "attributes": [
            attribute("cocoon.role", json!({"stringValue": role})),
            attribute("cocoon.outcome", json!({"stringValue": span.outcome.name()})),
            attribute("cocoon.billed_tokens", json!({"intValue": span.tokens.to_string()})),
        ],
        "events": events,
        "links": link.into_iter().collect::<Vec<_>>(),
        "status": {"code": if failed { 2 } else { 1 }},
    });
    if let Some(parent) = parent {
        out["parentSpanId"] = json!(span_id(parent, id));
    }
    out
}

fn link(role: &str, id: &[u8; 32]) -> Value {
    json!({"traceId": trace_id(id), "spanId": span_id(role, id)})
}

/// The export request for some spans of a role.
fn document(role: &str, spans: &[Span]) -> Value {
    let mut list = Vec::new();
    for span in spans {
        let parent = match role {
            "proxy" => Some("client"),
            "worker" => Some("forward"),
            _ => None,
        };
        let onward = span.linked.as_ref().map(|id| link("forward", id));
        list.push(one(role, role, span, &span.trace, parent, onward));
        if let Some(id) = &span.linked {
            list.push(one(
                role,
                "forward",
                span,
                id,
                None,
                Some(link(role, &span.trace)),
            ));
        }
    }
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            attribute("service.name", json!({"stringValue": format!("cocoon-{role}")})),
            attribute("service.version", json!({"stringValue": env!("CARGO_PKG_VERSION")})),
        ]},
        "scopeSpans": [{"scope": {"name": "cocoon"}, "spans": list}],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(linked: Option<[u8; 32]>, trace: [u8; 32]) -> Span {
        Span {
            trace,
            linked,
            started_ms: 1000,
            first_ms: Some(1500),
            ended_ms: 2000,
            outcome: Outcome::Timeout,
            tokens: 7,
        }
    }

    fn spans(document: &Value) -> Vec<Value> {
        let list = &document["resourceSpans"][0]["scopeSpans"][0]["spans"];
        list.as_array().unwrap().clone()
    }

    #[test]
    fn spans_of_three_roles_join() {
        let (id, rid) = ([1; 32], [2; 32]);
        let client = spans(&document("client", &[span(None, id)]));
        let proxy = spans(&document("proxy", &[span(Some(rid), id)]));
        let worker = spans(&document("worker", &[span(None, rid)]));
        assert_eq!((client.len(), proxy.len(), worker.len()), (1, 2, 1));
        assert_eq!(client[0]["traceId"], "01".repeat(16));
        assert_eq!(proxy[0]["traceId"], client[0]["traceId"]);
        assert_eq!(proxy[0]["parentSpanId"], client[0]["spanId"]);
        assert_eq!(proxy[0]["links"][0]["spanId"], proxy[1]["spanId"]);
        assert_eq!(proxy[1]["links"][0]["traceId"], client[0]["traceId"]);
        assert_eq!(proxy[1]["traceId"], worker[0]["traceId"]);
        assert_eq!(worker[0]["parentSpanId"], proxy[1]["spanId"]);
        assert_eq!(worker[0]["startTimeUnixNano"], "1000000000");
        assert_eq!(worker[0]["status"]["code"], 2);
        assert_eq!(
            worker[0]["attributes"][1]["value"]["stringValue"],
            "timeout"
        );
    }

    #[test]
    fn urls() {
        for good in [
            "http://127.0.0.1:4318",
            "http://127.0.0.1:4318/",
            "http://127.0.0.1:4318/v1/traces",
        ] {
            assert_eq!(
                Collector::parse(good).unwrap().url,
                "http://127.0.0.1:4318/v1/traces"
            );
        }
        for bad in ["", "https://x", "x:1", "http://", "http://user:pw@x"] {
            assert!(Collector::parse(bad).is_err(), "{bad}");
        }
    }
}
