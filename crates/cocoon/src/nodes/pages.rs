//! The operator's pages of a node: `/stats`, `/jsonstats`, `/metrics`, `/perf`, and changes under `/request/`
//! (protocol.md 8.1 and 8.5).
//!
//! Unlike the reference's they are on loopback, changes are made by POST only, and each needs the operator's token
//! in a header: a page that some browser has open cannot make them.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cocoon_node::api_error::ApiError;
use cocoon_node::metrics::page::CONTENT_TYPE;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::actions;
use super::observer::Observer;
use super::process;

/// Carries the operator's token; `Authorization: Bearer` does too.
pub const TOKEN_HEADER: &str = "x-cocoon-token";

/// What the operator may do.
pub struct Operator {
    /// Proves the operator.
    pub token: Zeroizing<String>,
    /// Whether looking needs the token too, as the reference has it with `http_access_hash`.
    pub guard_reading: bool,
}

#[derive(Clone)]
struct Page {
    observer: Arc<Observer>,
    operator: Option<Arc<Operator>>,
}

/// Serves the pages of a role until the task is aborted; without an operator nothing can be changed.
pub fn serve(
    listener: TcpListener,
    observer: Arc<Observer>,
    operator: Option<Operator>,
) -> JoinHandle<()> {
    let role = observer.role();
    let page = page(observer, operator);
    let router = pages(&page)
        .merge(
            Router::new()
                .route("/", get(index))
                .route("/health", get(health))
                .fallback(not_found)
                .with_state(page.clone()),
        )
        .layer(middleware::from_fn_with_state(page, guard));
    tokio::spawn(async move {
        if let Err(e) = axum::serve(cocoon_node::common::no_delay(listener), router).await {
            tracing::error!("the {role}'s status page ended: {e}");
        }
    })
}

/// The same beside a client's endpoint, which has a `/` and a `/health` of its own.
pub fn beside(observer: Arc<Observer>, operator: Option<Operator>) -> Router {
    let page = page(observer, operator);
    pages(&page).layer(middleware::from_fn_with_state(page, guard))
}

fn page(observer: Arc<Observer>, operator: Option<Operator>) -> Page {
    Page {
        observer,
        operator: operator.map(Arc::new),
    }
}

fn pages(page: &Page) -> Router {
    let mut router = Router::new()
        .route("/stats", get(stats))
        .route("/jsonstats", get(jsonstats))
        .route("/metrics", get(metrics))
        .route("/perf", get(perf));
    if page.operator.is_some() {
        router = router.route("/request/{action}", post(request));
    }
    router
        .method_not_allowed_fallback(only_post)
        .with_state(page.clone())
}

/// Changes need the token; looking does where the operator wants it so.
async fn guard(State(page): State<Page>, request: Request, next: Next) -> Response {
    let changes = request.uri().path().starts_with("/request/");
    let guarded = page
        .operator
        .as_ref()
        .filter(|o| changes || (o.guard_reading && request.uri().path() != "/health"));
    match guarded {
        Some(operator) if !authorized(request.headers(), &operator.token) => ApiError::new(
            401,
            "invalid_request_error",
            "token_required",
            format!("this needs the operator's token in the header {TOKEN_HEADER}; a query parameter is not enough"),
        )
        .into_response(),
        _ => next.run(request).await,
    }
}

/// Whether a request shows the operator's token.
pub fn authorized(headers: &HeaderMap, token: &str) -> bool {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let own = headers.get(TOKEN_HEADER).and_then(|v| v.to_str().ok());
    // Compared by hash, so that the time tells nothing about the token.
    let hash = |text: &str| Sha256::digest(text.as_bytes());
    own.or(bearer)
        .is_some_and(|given| hash(given) == hash(token))
}

async fn only_post() -> ApiError {
    ApiError::new(
        405,
        "invalid_request_error",
        "method_not_allowed",
        "changes are made by POST, everything else is read by GET",
    )
}

async fn not_found(State(page): State<Page>) -> ApiError {
    ApiError::new(
        404,
        "invalid_request_error",
        "unknown_url",
        format!(
            "no such path at a {}; GET / lists what there is",
            page.observer.role()
        ),
    )
}

async fn index(State(page): State<Page>) -> String {
    let role = page.observer.role();
    let mut out = format!(
        "cocoon {role}\n\n/health     is it running\n/stats      figures for people\n/jsonstats  figures\n/metrics    figures for Prometheus\n/perf       the process and its scheduler\n"
    );
    if page.operator.is_some() {
        let _ = writeln!(
            out,
            "\nPOST with the header {TOKEN_HEADER}:\n{}",
            listed(role)
        );
    }
    out
}

/// The actions of a role, one a line.
fn listed(role: &str) -> String {
    let mut out = String::new();
    for action in actions::of_role(role) {
        let parameter = action
            .parameter
            .map(|(name, example)| format!("?{name}={example}"))
            .unwrap_or_default();
        let _ = writeln!(out, "/request/{}{parameter}  {}", action.name, action.help);
    }
    out
}

async fn health(State(page): State<Page>) -> Json<Value> {
    // The page lives in the process of the node: a halted node takes the process down.
    Json(
        json!({"status": "ok", "role": page.observer.role(), "version": env!("CARGO_PKG_VERSION")}),
    )
}

async fn jsonstats(State(page): State<Page>) -> Response {
    let text = serde_json::to_string_pretty(&page.observer.stats().await).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response()
}

async fn metrics(State(page): State<Page>) -> Response {
    let text = page.observer.metrics().await;
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

async fn perf(State(page): State<Page>) -> String {
    process::perf(page.observer.role())
}

async fn stats(State(page): State<Page>) -> Response {
    let text = serde_json::to_string_pretty(&page.observer.stats().await).unwrap_or_default();
    let role = page.observer.role();
    let mut actions = String::new();
    if page.operator.is_some() {
        actions = format!(
            "<h2>Actions</h2><p>POST with the header {TOKEN_HEADER}</p><pre>{}</pre>",
            safe(&listed(role))
        );
    }
    let html = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>cocoon {role}</title><h1>cocoon {role}</h1>\
         <p><a href=\"/jsonstats\">/jsonstats</a> <a href=\"/metrics\">/metrics</a> <a href=\"/perf\">/perf</a></p>\
         {actions}<h2>Figures</h2><pre>{}</pre>\n",
        safe(&text)
    );
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

/// Names of models and addresses are text of peers.
fn safe(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

async fn request(
    State(page): State<Page>,
    Path(action): Path<String>,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(query) =
        query.map_err(|_| ApiError::invalid("invalid_query", "the query cannot be read"))?;
    let node = page.observer.node().ok_or_else(|| {
        ApiError::new(
            503,
            "server_error",
            "not_ready",
            "the node is still starting",
        )
    })?;
    tracing::info!(
        "the operator asks for {:?}",
        action.chars().take(40).collect::<String>()
    );
    actions::act(node, &action, &query).await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stands_in_a_header() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        assert!(authorized(&with(TOKEN_HEADER, "t0ken"), "t0ken"));
        assert!(authorized(&with("authorization", "Bearer t0ken"), "t0ken"));
        for wrong in [
            with(TOKEN_HEADER, "t0ke"),
            with(TOKEN_HEADER, ""),
            with("authorization", "Basic t0ken"),
            HeaderMap::new(),
        ] {
            assert!(!authorized(&wrong, "t0ken"));
        }
    }
}
