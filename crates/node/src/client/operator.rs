//! What the operator of a client may change over HTTP: by POST, with a token in a header, so that a page in some
//! browser cannot (protocol.md 11 #17).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::driver::{ApiCommand, ApiQueue};

/// Carries the operator's token; `Authorization: Bearer` does too.
const TOKEN_HEADER: &str = "x-cocoon-token";

#[derive(Clone)]
struct Operator {
    queue: ApiQueue,
    token: Arc<Zeroizing<String>>,
}

/// `POST /request/close` and `POST /request/open`.
pub(super) fn router(queue: ApiQueue, token: Zeroizing<String>) -> Router {
    let operator = Operator {
        queue,
        token: Arc::new(token),
    };
    Router::new()
        .route("/request/close", post(close))
        .route("/request/open", post(open))
        .with_state(operator)
}

async fn close(State(operator): State<Operator>, headers: HeaderMap) -> Response {
    set_closed(&operator, &headers, true).await
}

async fn open(State(operator): State<Operator>, headers: HeaderMap) -> Response {
    set_closed(&operator, &headers, false).await
}

async fn set_closed(operator: &Operator, headers: &HeaderMap, closed: bool) -> Response {
    if !authorized(headers, &operator.token) {
        let text = format!("this needs the operator's token in the header {TOKEN_HEADER}\n");
        return (StatusCode::UNAUTHORIZED, text).into_response();
    }
    match operator.queue.send(ApiCommand::SetClosed(closed)).await {
        Ok(()) => Json(serde_json::json!({"closed": closed})).into_response(),
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, e.message).into_response(),
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
