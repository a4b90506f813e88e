//! Status pages of nodes that have no HTTP of their own: `/stats`, `/jsonstats`, and for a node that is a program of
//! its own the operator's changes under `/request/` (protocol.md 8.1 and 8.5).
//!
//! Unlike the reference's they are on loopback, changes are made by POST only, and each needs the operator's token
//! in a header: a page that some browser has open cannot make them.

mod keys;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cocoon_node::key_manager::KeyManagerHandle;
use cocoon_node::worker::WorkerHandle;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// Carries the operator's token; `Authorization: Bearer` does too.
pub const TOKEN_HEADER: &str = "x-cocoon-token";

/// Gives a node's figures.
pub type Stats = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync>;

/// What the operator may do.
pub struct Operator {
    /// Proves the operator.
    pub token: Zeroizing<String>,
    /// Whether looking needs the token too, as the reference has it with `http_access_hash`.
    pub guard_reading: bool,
    /// The worker, whose price and openness can be changed.
    pub worker: Option<Arc<WorkerHandle>>,
    /// The key manager, whose keys can be made and ended.
    pub keys: Option<Arc<KeyManagerHandle>>,
}

#[derive(Clone)]
struct Page {
    role: &'static str,
    stats: Stats,
    operator: Option<Arc<Operator>>,
}

/// Serves the pages of a role until the task is aborted; without an operator nothing can be changed.
pub fn serve(
    listener: TcpListener,
    role: &'static str,
    stats: Stats,
    operator: Option<Operator>,
) -> JoinHandle<()> {
    let router = router(Page {
        role,
        stats,
        operator: operator.map(Arc::new),
    });
    tokio::spawn(async move {
        if let Err(e) = axum::serve(cocoon_node::common::no_delay(listener), router).await {
            tracing::error!("the {role}'s status page ended: {e}");
        }
    })
}

fn router(page: Page) -> Router {
    let mut router = Router::new()
        .route("/", get(index))
        .route("/health", get(health))
        .route("/stats", get(stats))
        .route("/jsonstats", get(jsonstats));
    if page.operator.as_ref().is_some_and(|o| o.worker.is_some()) {
        router = router
            .route("/request/enable", post(enable))
            .route("/request/disable", post(disable))
            .route("/request/change_coefficient", post(change_coefficient));
    }
    if page.operator.as_ref().is_some_and(|o| o.keys.is_some()) {
        router = router
            .route("/request/generatekey", post(keys::generate))
            .route("/request/removekey", post(keys::remove));
    }
    router
        .method_not_allowed_fallback(only_post)
        .layer(middleware::from_fn_with_state(page.clone(), guard))
        .with_state(page)
}

/// Changes need the token; looking does where the operator wants it so.
async fn guard(State(page): State<Page>, request: Request, next: Next) -> Response {
    let changes = request.uri().path().starts_with("/request/");
    let guarded = page
        .operator
        .as_ref()
        .filter(|o| changes || (o.guard_reading && request.uri().path() != "/health"));
    match guarded {
        Some(operator) if !authorized(request.headers(), &operator.token) => (
            StatusCode::UNAUTHORIZED,
            format!("this needs the operator's token in the header {TOKEN_HEADER}; a query parameter is not enough\n"),
        )
            .into_response(),
        _ => next.run(request).await,
    }
}

fn authorized(headers: &HeaderMap, token: &str) -> bool {
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

async fn only_post() -> Response {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        "changes are made by POST, everything else is read by GET\n",
    )
        .into_response()
}

async fn index(State(page): State<Page>) -> String {
    let changes = match &page.operator {
        Some(o) if o.keys.is_some() => format!(
            "\nPOST with the header {TOKEN_HEADER}:\n/request/generatekey?type=worker|proxy|proxyworker  makes a key\n/request/removekey?key=HEX  ends the key with this public key\n"
        ),
        Some(o) if o.worker.is_some() => format!(
            "\nPOST with the header {TOKEN_HEADER}:\n/request/enable, /request/disable  take requests or not\n/request/change_coefficient?coefficient=1.5  price factor\n"
        ),
        _ => String::new(),
    };
    format!(
        "cocoon {}\n\n/health     is it running\n/stats      figures for people\n/jsonstats  figures\n{changes}",
        page.role
    )
}

async fn health(State(page): State<Page>) -> Json<Value> {
    // The page lives in the process of the node: a halted node takes the process down.
    Json(json!({"status": "ok", "role": page.role, "version": env!("CARGO_PKG_VERSION")}))
}

async fn jsonstats(State(page): State<Page>) -> Json<Value> {
    Json((page.stats)().await)
}

async fn stats(State(page): State<Page>) -> Response {
    let text = serde_json::to_string_pretty(&(page.stats)().await).unwrap_or_default();
    // Names of models and addresses are text of peers.
    let safe = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let html = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>cocoon {role}</title><h1>cocoon {role}</h1><pre>{safe}</pre>\n",
        role = page.role
    );
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

async fn enable(State(page): State<Page>) -> Response {
    set_enabled(&page, true).await
}

async fn disable(State(page): State<Page>) -> Response {
    set_enabled(&page, false).await
}

async fn set_enabled(page: &Page, enabled: bool) -> Response {
    let Some(worker) = page.operator.as_ref().and_then(|o| o.worker.as_ref()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    worker.set_enabled(enabled).await;
    Json(json!({"enabled": enabled})).into_response()
}

#[derive(Deserialize)]
struct Coefficient {
    coefficient: String,
}

async fn change_coefficient(
    State(page): State<Page>,
    query: Result<Query<Coefficient>, QueryRejection>,
) -> Response {
    let Some(worker) = page.operator.as_ref().and_then(|o| o.worker.as_ref()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match query.ok().and_then(|Query(q)| thousandths(&q.coefficient)) {
        Some(thousandths) => {
            worker.set_coefficient(thousandths).await;
            Json(json!({"coefficient": thousandths})).into_response()
        }
        None => (
            StatusCode::BAD_REQUEST,
            "expected coefficient=FACTOR, a decimal number from 0 to 999999.999 with at most three places\n",
        )
            .into_response(),
    }
}

/// A factor such as `1.25` in thousandths, without rounding.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    let value = whole.checked_mul(1000)?.checked_add(part)?;
    (value <= cocoon_ledger::units::MAX_COEFFICIENT).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_exact() {
        for (text, value) in [
            ("1", Some(1000)),
            ("1.5", Some(1500)),
            ("0.001", Some(1)),
            ("999999.999", Some(999_999_999)),
            ("1000000", None),
            ("1.2345", None),
            ("-1", None),
            ("", None),
            ("1e3", None),
            ("NaN", None),
            (".5", None),
            ("4294968", None),
        ] {
            assert_eq!(thousandths(text), value, "{text}");
        }
    }

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
