//! The OpenAI-compatible HTTP surface of the client (protocol.md 8.2, with the errors OpenAI clients expect).

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cocoon_tl::to_boxed;
use cocoon_wire::msg::http as wire;
use futures_util::stream;
use serde_json::json;
use tokio::sync::mpsc;

use super::driver::{ApiCommand, ApiQueue, CallGuard};
use super::provider::{self, OWN_HEADERS};
use super::request::{self, MAX_BODY, ParsedRequest};
use super::sse::UsageFilter;
use super::types::{HttpOut, NewRequest};
use crate::api_error::ApiError;
use crate::metrics::Outcome;

/// Headers of the caller that do not travel: they belong to this connection, or are credentials for this endpoint.
const LOCAL_HEADERS: [&str; 8] = [
    "content-length",
    "transfer-encoding",
    "connection",
    "host",
    "authorization",
    "cookie",
    "accept-encoding",
    "expect",
];

/// Largest answer without a stream that is held until its end; longer ones flow as they come.
const MAX_WHOLE: usize = 4 << 20;

#[derive(Clone)]
struct Api {
    queue: ApiQueue,
    keys: Arc<Vec<String>>,
}

/// The routes.
pub(super) fn router(queue: ApiQueue, keys: Vec<String>, pages: Option<Router>) -> Router {
    let api = Api {
        queue,
        keys: Arc::new(keys),
    };
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/chat/completions", post(inference))
        .route("/v1/completions", post(inference))
        .layer(middleware::from_fn_with_state(api.clone(), require_key))
        .route("/health", get(health))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(cors))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
        // Outside of what browsers of other pages may read.
        .merge(pages.unwrap_or_default())
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (
            status,
            [(header::CONTENT_TYPE, "application/json")],
            self.body(),
        )
            .into_response();
        if let Some(seconds) = self.retry_after_s {
            let value = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

async fn cors(request: Request, next: Next) -> Response {
    let preflight = request.method() == Method::OPTIONS;
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    if preflight {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, OPTIONS"),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Content-Type, Authorization"),
        );
    }
    response
}

async fn require_key(State(api): State<Api>, request: Request, next: Next) -> Response {
    if !api.keys.is_empty() {
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer "))
            .unwrap_or("");
        // Compared by hash, so that the time tells nothing about the keys.
        let hash = crate::payment::secret_hash;
        if !api
            .keys
            .iter()
            .any(|k| hash(k.as_bytes()) == hash(given.as_bytes()))
        {
            api.queue.refused(Outcome::Invalid);
            return ApiError::new(
                401,
                "invalid_request_error",
                "invalid_api_key",
                "this endpoint asks for an API key in the header \"Authorization: Bearer ...\"",
            )
            .into_response();
        }
    }
    next.run(request).await
}

async fn not_found(request: Request) -> ApiError {
    ApiError::new(
        404,
        "invalid_request_error",
        "unknown_url",
        format!(
            "no such path: {}; there are /v1/chat/completions, /v1/completions and /v1/models",
            request.uri().path()
        ),
    )
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::new(
        405,
        "invalid_request_error",
        "method_not_allowed",
        format!(
            "{} is not possible on {}",
            request.method(),
            request.uri().path()
        ),
    )
}

async fn health(State(api): State<Api>) -> Response {
    let stats = api.queue.stats().await;
    let ready = stats["ready"] == json!(true);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, axum::Json(json!({"ready": ready}))).into_response()
}

async fn list(api: &Api) -> Result<Vec<serde_json::Value>, ApiError> {
    let (price, offers) = api.queue.models().await?;
    Ok(offers
        .into_iter()
        .map(|m| {
            json!({
                "id": m.id,
                "object": "model",
                "created": 0,
                "owned_by": "cocoon",
                "price_per_token_nano": price.to_string(),
                "workers": m.workers,
            })
        })
        .collect())
}

async fn models(State(api): State<Api>) -> Result<Response, ApiError> {
    Ok(axum::Json(json!({"object": "list", "data": list(&api).await?})).into_response())
}

async fn model(
    State(api): State<Api>,
    axum::extract::Path(id): axum::extract::Path<String>,
) -> Result<Response, ApiError> {
    let found = list(&api).await?.into_iter().find(|m| m["id"] == json!(id));
    found
        .map(|m| axum::Json(m).into_response())
        .ok_or_else(|| ApiError::from_network(621, &format!("unknown model {id}")))
}

async fn inference(
    State(api): State<Api>,
    method: Method,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, ApiError> {
    let parsed =
        read(uri.path(), &headers, body).inspect_err(|_| api.queue.refused(Outcome::Invalid))?;
    let id: [u8; 32] = rand::random();
    let (out, answers) = mpsc::unbounded_channel();
    let new = NewRequest {
        id,
        model: parsed.model.clone(),
        query: to_boxed(&carried(&method, uri.path(), &headers, &parsed)),
        max_coefficient: parsed.max_coefficient,
        max_tokens: parsed.max_tokens,
        timeout_ms: (parsed.timeout_s * 1000.0) as u64,
        enable_debug: parsed.enable_debug,
        wishes: parsed.provider.wishes.clone(),
    };
    let guard = CallGuard::new(api.queue.clone(), id);
    api.queue
        .send(ApiCommand::Request(Box::new(new), out))
        .await?;
    respond(id, &parsed, answers, guard).await
}

/// The request in a caller's body.
fn read(
    path: &str,
    headers: &HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<ParsedRequest, ApiError> {
    let body = body.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(413, "invalid_request_error", "request_too_large", format!("the body is larger than {MAX_BODY} bytes, the most that fits into one message of the network")),
        _ => ApiError::invalid("bad_body", "the body could not be read"),
    })?;
    let mut parsed = request::parse(path, &body)?;
    let price_limit = provider::take_headers(&mut parsed.provider, headers)?;
    if let Some(limit) = price_limit
        && !parsed.price_limit_given
    {
        parsed.max_coefficient = limit;
    }
    Ok(parsed)
}

/// The request as it travels: callers' credentials stay here, and a Host is always there (3.9).
fn carried(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    parsed: &ParsedRequest,
) -> wire::Request {
    let mut out = vec![wire::Header {
        name: "Host".to_owned(),
        value: "cocoon".to_owned(),
    }];
    for (name, value) in headers {
        if LOCAL_HEADERS.contains(&name.as_str()) || name.as_str().starts_with(OWN_HEADERS) {
            continue;
        }
        if let Ok(value) = value.to_str() {
            out.push(wire::Header {
                name: name.as_str().to_owned(),
                value: value.to_owned(),
            });
        }
    }
    out.push(wire::Header {
        name: "Content-Length".to_owned(),
        value: parsed.body.len().to_string(),
    });
    wire::Request {
        method: method.as_str().to_owned(),
        url: path.to_owned(),
        http_version: "HTTP/1.1".to_owned(),
        headers: out,
        payload: parsed.body.clone(),
    }
}

/// Waits for the head, then lets the body flow piece by piece. An answer that is not a stream is of no use in part, so
/// its end is awaited: a failure in its middle still becomes a proper error.
async fn respond(
    id: [u8; 32],
    parsed: &ParsedRequest,
    mut answers: mpsc::UnboundedReceiver<HttpOut>,
    guard: CallGuard,
) -> Result<Response, ApiError> {
    let (status, headers) = match answers.recv().await {
        Some(HttpOut::Head { status, headers }) => (status, headers),
        other => {
            guard.done();
            return Err(failure(other));
        }
    };
    let mut response = Response::builder().status(status);
    if let Some(map) = response.headers_mut() {
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                map.append(name, value);
            }
        }
        if let Ok(value) = HeaderValue::try_from(hex::encode(id)) {
            map.insert("x-request-id", value);
        }
    }
    let is_stream = parsed.stream && (200..300).contains(&status);
    let mut first = Vec::new();
    let mut whole = !is_stream;
    while whole {
        match answers.recv().await {
            Some(HttpOut::Body(piece)) => {
                guard.taken(piece.len());
                first.extend(piece);
                whole = first.len() <= MAX_WHOLE;
            }
            Some(HttpOut::End) => {
                guard.done();
                return response.body(Body::from(first)).map_err(bad_response);
            }
            Some(HttpOut::Head { .. }) => {}
            other => {
                guard.done();
                return Err(failure(other));
            }
        }
    }
    let filter = (is_stream && !parsed.wants_usage).then(UsageFilter::default);
    let flow = Flow {
        answers,
        guard: Some(guard),
        filter,
        is_stream,
        ended: false,
        first: Some(first).filter(|f| !f.is_empty()),
    };
    let body = Body::from_stream(stream::unfold(flow, Flow::next));
    response.body(body).map_err(bad_response)
}

fn failure(out: Option<HttpOut>) -> ApiError {
    match out {
        Some(HttpOut::Fail(e)) => e,
        _ => ApiError::new(
            503,
            "server_error",
            "shutting_down",
            "the client is stopping",
        ),
    }
}

fn bad_response(_: axum::http::Error) -> ApiError {
    ApiError::new(
        502,
        "server_error",
        "bad_response",
        "the worker's response head is not valid HTTP",
    )
}

struct Flow {
    answers: mpsc::UnboundedReceiver<HttpOut>,
    guard: Option<CallGuard>,
    filter: Option<UsageFilter>,
    is_stream: bool,
    ended: bool,
    /// What was read before the flow began.
    first: Option<Vec<u8>>,
}

impl Flow {
    async fn next(mut self) -> Option<(Result<Vec<u8>, std::io::Error>, Self)> {
        if self.ended {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some((Ok(first), self));
        }
        loop {
            let out = match self.answers.recv().await {
                Some(HttpOut::Body(data)) => {
                    if let Some(guard) = &self.guard {
                        guard.taken(data.len());
                    }
                    match &mut self.filter {
                        Some(filter) => filter.push(&data),
                        None => data,
                    }
                }
                Some(HttpOut::End) => {
                    self.finish();
                    match self.filter.as_mut().map(UsageFilter::finish) {
                        Some(rest) if !rest.is_empty() => rest,
                        _ => return None,
                    }
                }
                Some(HttpOut::Fail(e)) => {
                    self.finish();
                    if self.is_stream {
                        // OpenAI clients raise an error for such an event; no [DONE] follows.
                        let mut event = b"data: ".to_vec();
                        event.extend(e.body());
                        event.extend(b"\n\n");
                        event
                    } else {
                        // The head is out: breaking off is the only honest way left.
                        return Some((Err(std::io::Error::other(e.message)), self));
                    }
                }
                Some(HttpOut::Head { .. }) => continue,
                None => {
                    self.finish();
                    return Some((Err(std::io::Error::other("the client stopped")), self));
                }
            };
            if !out.is_empty() {
                return Some((Ok(out), self));
            }
        }
    }

    fn finish(&mut self) {
        self.ended = true;
        if let Some(guard) = self.guard.take() {
            guard.done();
        }
    }
}
