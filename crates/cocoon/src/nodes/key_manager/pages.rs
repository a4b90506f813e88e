//! The key manager's pages: `/stats`, `/jsonstats`, and for the operator `/request/generatekey` and
//! `/request/removekey` (protocol.md 8.1). Changes are made by POST with the token in a header.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cocoon_node::key_manager::{Audience, Done, KeyManagerHandle, MAX_KEYS};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::nodes::pages::{Operator, TOKEN_HEADER, authorized};

#[derive(Clone)]
struct Page {
    keys: Arc<KeyManagerHandle>,
    facts: Arc<Value>,
    operator: Arc<Operator>,
}

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
struct Which {
    key: String,
}

/// Serves the pages until the task is aborted; `facts` stand in the figures as `localconfig`.
pub fn serve(
    listener: TcpListener,
    keys: Arc<KeyManagerHandle>,
    facts: Value,
    operator: Operator,
) -> JoinHandle<()> {
    let page = Page {
        keys,
        facts: Arc::new(facts),
        operator: Arc::new(operator),
    };
    let router = Router::new()
        .route("/health", get(health))
        .route("/stats", get(stats))
        .route("/jsonstats", get(jsonstats))
        .route("/request/generatekey", post(generate))
        .route("/request/removekey", post(remove))
        .layer(middleware::from_fn_with_state(page.clone(), guard))
        .with_state(page);
    tokio::spawn(async move {
        if let Err(e) = axum::serve(cocoon_node::common::no_delay(listener), router).await {
            tracing::error!("the key manager's pages ended: {e}");
        }
    })
}

/// Changes need the token; looking does where the operator wants it so.
async fn guard(State(page): State<Page>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let guarded =
        path.starts_with("/request/") || (page.operator.guard_reading && path != "/health");
    if guarded && !authorized(request.headers(), &page.operator.token) {
        let text = format!(
            "this needs the operator's token in the header {TOKEN_HEADER}; a query parameter is not enough\n"
        );
        return (StatusCode::UNAUTHORIZED, text).into_response();
    }
    next.run(request).await
}

async fn health() -> Json<Value> {
    Json(json!({"status": "ok", "role": "key-manager", "version": env!("CARGO_PKG_VERSION")}))
}

async fn figures(page: &Page) -> Value {
    let mut stats = page.keys.stats().await;
    stats["localconfig"] = (*page.facts).clone();
    stats
}

async fn jsonstats(State(page): State<Page>) -> Json<Value> {
    Json(figures(&page).await)
}

async fn stats(State(page): State<Page>) -> Response {
    // Nothing in it is text of strangers: hashes, keys and numbers.
    let text = serde_json::to_string_pretty(&figures(&page).await).unwrap_or_default();
    let html = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>cocoon key-manager</title><h1>cocoon key-manager</h1><pre>{text}</pre>\n"
    );
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

async fn generate(
    State(page): State<Page>,
    query: Result<Query<Kind>, QueryRejection>,
) -> Response {
    match query.ok().and_then(|Query(q)| Audience::parse(&q.r#type)) {
        Some(audience) => answer(page.keys.generate(audience).await),
        None => bad("expected type=worker, type=proxy or type=proxyworker\n"),
    }
}

async fn remove(State(page): State<Page>, query: Result<Query<Which>, QueryRejection>) -> Response {
    let mut public = [0; 32];
    let read = query
        .ok()
        .and_then(|Query(q)| hex::decode_to_slice(q.key, &mut public).ok());
    match read {
        Some(()) => answer(page.keys.remove(public).await),
        None => bad("expected key=PUBLIC-KEY, 64 hexadecimal digits as /jsonstats shows them\n"),
    }
}

fn bad(text: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, text).into_response()
}

/// The public half only: nobody reads a secret over HTTP.
fn answer(done: Option<Done>) -> Response {
    match done {
        Some(Done::Generated(public)) => {
            Json(json!({"generated": hex::encode_upper(public)})).into_response()
        }
        Some(Done::Removed(public)) => {
            Json(json!({"removed": hex::encode_upper(public)})).into_response()
        }
        Some(Done::Unknown) => (StatusCode::NOT_FOUND, "there is no such key\n").into_response(),
        Some(Done::Full) => {
            let text = format!("there are {MAX_KEYS} keys already: remove some first\n");
            (StatusCode::CONFLICT, text).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "the key manager stops\n").into_response(),
    }
}
