//! HTTP access in the shapes of toncenter v2 (`/api/v2/...` and JSON-RPC), for tools that know nothing of us.
//!
//! Answers are `{"ok": true, "result": ...}`, errors `{"ok": false, "error": text, "code": number}` with the same
//! number as HTTP status. Amounts, logical times and shards are strings, hashes and BOCs are base64.
//! Beside it: `GET /admin/supply` (where all coins are) and `POST /admin/advance` (lets time pass).

mod format;
mod methods;
mod stack;

use std::collections::HashMap;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::chain::Devnet;

/// Largest request body: an external message of 64 KiB in base64, with room for the JSON around it.
pub const MAX_BODY_BYTES: usize = 128 * 1024;

/// Largest step of the clock in one call: ten years.
const MAX_ADVANCE_SECONDS: u64 = 10 * 365 * 86_400;

/// An error answer.
#[derive(Debug)]
struct ApiError {
    code: StatusCode,
    message: String,
}

impl ApiError {
    fn bad(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::UNPROCESSABLE_ENTITY,
            message: message.into(),
        }
    }
}

impl From<cocoon_ton::ChainError> for ApiError {
    fn from(error: cocoon_ton::ChainError) -> Self {
        use cocoon_ton::ChainError as E;
        let code = match &error {
            E::BadRequest(_) => StatusCode::UNPROCESSABLE_ENTITY,
            E::NotFound(_) => StatusCode::NOT_FOUND,
            E::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            E::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            E::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            // toncenter answers a refused message with 500 and the text of the liteserver.
            E::Rejected { .. } | E::Malformed(_) | E::WrongNetwork { .. } | E::Internal(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self {
            code,
            message: error.to_string(),
        }
    }
}

type ApiResult = Result<Value, ApiError>;

fn respond(result: ApiResult) -> Response {
    match result {
        Ok(result) => axum::Json(json!({"ok": true, "result": result})).into_response(),
        Err(error) => {
            let body = json!({"ok": false, "error": error.message, "code": error.code.as_u16()});
            (error.code, axum::Json(body)).into_response()
        }
    }
}

impl Devnet {
    /// Serves HTTP on a listener until it fails; end it by dropping the future.
    ///
    /// There is no authentication: listen on loopback only.
    pub async fn serve_http(&self, listener: TcpListener) -> std::io::Result<()> {
        use axum::serve::ListenerExt;
        // Small answers at once; refused only by sockets that are already gone.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, self.router()).await
    }

    /// The HTTP interface as a router, to be served by the caller.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/api/v2/jsonRPC", post(json_rpc))
            .route("/api/v2/{method}", get(method_get).post(method_post))
            .route("/admin/supply", get(supply))
            .route("/admin/advance", post(advance))
            .fallback(|| async { respond(Err(not_found("no such path"))) })
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(self.clone())
    }
}

fn not_found(message: &str) -> ApiError {
    ApiError {
        code: StatusCode::NOT_FOUND,
        message: message.to_owned(),
    }
}

fn parse_body(body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|e| ApiError::bad(format!("the body is not JSON: {e}")))
}

async fn method_get(
    State(chain): State<Devnet>,
    Path(method): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let parameters = query
        .into_iter()
        .map(|(key, value)| (key, Value::String(value)))
        .collect();
    respond(methods::call(&chain, &method, &Value::Object(parameters)).await)
}

async fn method_post(
    State(chain): State<Devnet>,
    Path(method): Path<String>,
    body: Bytes,
) -> Response {
    respond(match parse_body(&body) {
        Ok(parameters) => methods::call(&chain, &method, &parameters).await,
        Err(error) => Err(error),
    })
}

async fn json_rpc(State(chain): State<Devnet>, body: Bytes) -> Response {
    let request = match parse_body(&body) {
        Ok(request) => request,
        Err(error) => return respond(Err(error)),
    };
    let result = match request["method"].as_str() {
        Some(method) => methods::call(&chain, method, &request["params"]).await,
        None => Err(ApiError::bad("\"method\" is missing")),
    };
    let mut response = match result {
        Ok(result) => json!({"ok": true, "result": result}),
        Err(error) => {
            json!({"ok": false, "error": error.message, "code": error.code.as_u16()})
        }
    };
    response["jsonrpc"] = json!("2.0");
    response["id"] = request["id"].clone();
    let status = response["code"]
        .as_u64()
        .and_then(|code| StatusCode::from_u16(code as u16).ok())
        .unwrap_or(StatusCode::OK);
    (status, axum::Json(response)).into_response()
}

async fn supply(State(chain): State<Devnet>) -> Response {
    let head = chain.head();
    let supply = head.supply;
    respond(Ok(json!({
        "seqno": head.seqno,
        "utime": head.utime,
        "accounts": supply.accounts.to_string(),
        "in_queues": supply.in_queues.to_string(),
        "burned_fees": supply.burned_fees.to_string(),
        "genesis": supply.genesis.to_string(),
        "conserved": supply.is_conserved(),
    })))
}

async fn advance(State(chain): State<Devnet>, body: Bytes) -> Response {
    let seconds = match parse_body(&body) {
        Ok(body) => body["seconds"].as_u64(),
        Err(error) => return respond(Err(error)),
    };
    let Some(seconds) = seconds.filter(|seconds| *seconds <= MAX_ADVANCE_SECONDS) else {
        return respond(Err(ApiError::bad(format!(
            "\"seconds\" must be a whole number from 0 to {MAX_ADVANCE_SECONDS}"
        ))));
    };
    let mut heads = chain.subscribe();
    chain.advance(u32::try_from(seconds).unwrap_or(u32::MAX));
    // The answer comes after a block at the new time, so that the next read sees it.
    let wait = tokio::time::timeout(std::time::Duration::from_secs(5), heads.changed()).await;
    if wait.is_err() {
        return respond(Err(ApiError {
            code: StatusCode::GATEWAY_TIMEOUT,
            message: "no block came within 5 s".to_owned(),
        }));
    }
    let head = chain.head();
    respond(Ok(json!({"seqno": head.seqno, "utime": head.utime})))
}
