//! What the operator of a key manager may do: `/request/generatekey` and `/request/removekey` (protocol.md 8.1).

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cocoon_node::key_manager::{Audience, Done, MAX_KEYS};
use serde::Deserialize;
use serde_json::json;

use super::Page;

#[derive(Deserialize)]
pub(super) struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
pub(super) struct Which {
    key: String,
}

pub(super) async fn generate(
    State(page): State<Page>,
    query: Result<Query<Kind>, QueryRejection>,
) -> Response {
    let Some(audience) = query.ok().and_then(|Query(q)| Audience::parse(&q.r#type)) else {
        return bad("expected type=worker, type=proxy or type=proxyworker\n");
    };
    match page.operator.as_ref().and_then(|o| o.keys.as_ref()) {
        Some(keys) => answer(keys.generate(audience).await),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(super) async fn remove(
    State(page): State<Page>,
    query: Result<Query<Which>, QueryRejection>,
) -> Response {
    let mut public = [0; 32];
    let read = query
        .ok()
        .and_then(|Query(q)| hex::decode_to_slice(q.key, &mut public).ok());
    if read.is_none() {
        return bad("expected key=PUBLIC-KEY, 64 hexadecimal digits as /jsonstats shows them\n");
    }
    match page.operator.as_ref().and_then(|o| o.keys.as_ref()) {
        Some(keys) => answer(keys.remove(public).await),
        None => StatusCode::NOT_FOUND.into_response(),
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
        Some(Done::Full) => (
            StatusCode::CONFLICT,
            format!("there are {MAX_KEYS} keys already: remove some first\n"),
        )
            .into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the key manager stops\n").into_response(),
    }
}
