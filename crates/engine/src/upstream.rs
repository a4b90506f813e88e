//! Any OpenAI-HTTP server (vLLM, SGLang, llama.cpp, Ollama, …) as a backend: requests and answers pass through
//! unchanged, piece by piece.
//!
//! What callers are told never holds the server's address; the log does.

use crate::backend::{Backend, BackendEvent, EVENT_QUEUE, HttpRequest, ModelInfo};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// The server is on this machine or in this rack; if it does not accept in this time, it is not there.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the response head. An answer that is not streamed is generated completely before it.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two pieces of a body. A stream's first token may wait behind a queue of long prompts.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// For the answer to a health check.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections are closed after this time, before common servers close them (vLLM: 5 s after the last answer,
/// nginx: 75 s); a race is retried by the pool.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// A list of models is a few kilobytes.
const MAX_MODELS_BYTES: usize = 1 << 20;

/// Headers of one connection, not of the message (RFC 9110, 7.6.1), and those that are written anew.
const NOT_PASSED_ON: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
];

/// Why an upstream's URL was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("upstream URL `{url}`: {problem}; expected something like http://127.0.0.1:8000")]
pub struct UpstreamUrlError {
    /// The URL given.
    pub url: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Settings of an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamOptions {
    /// Requests sent at the same time; the owner knows what his server takes.
    pub max_active: usize,
    /// See [`HEAD_TIMEOUT`].
    pub head_timeout: Duration,
    /// See [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            max_active: 64,
            head_timeout: HEAD_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
        }
    }
}

/// An OpenAI-HTTP server. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct HttpUpstream {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Scheme and authority, with a path prefix without the last slash.
    base: String,
    options: UpstreamOptions,
    models: RwLock<Vec<ModelInfo>>,
}

/// A failure before or within an answer.
struct Failure {
    status: u16,
    message: String,
}

impl Failure {
    fn new(status: u16, message: &str) -> Self {
        Self {
            status,
            message: message.to_owned(),
        }
    }
}

impl HttpUpstream {
    /// An upstream at `url` (`http://host:port`, optionally with a path prefix), not contacted yet.
    pub fn new(url: &str, options: UpstreamOptions) -> Result<Self, UpstreamUrlError> {
        let refuse = |problem: &str| UpstreamUrlError {
            url: url.to_owned(),
            problem: problem.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| refuse("it is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(refuse(
                    "https is not supported; the server should be on this machine",
                ));
            }
            _ => return Err(refuse("it has no scheme")),
        }
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("it holds credentials"));
        }
        if uri.query().is_some() {
            return Err(refuse("it has a query"));
        }
        let base = format!("http://{authority}{}", uri.path().trim_end_matches('/'));
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // Tokens are small packets that must not wait for each other.
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(options.max_active)
            .build(connector);
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                base,
                options,
                models: RwLock::default(),
            }),
        })
    }

    /// Asks the server for its models and remembers them.
    pub async fn discover(&self) -> Result<Vec<ModelInfo>, String> {
        let models = tokio::time::timeout(HEALTH_TIMEOUT, self.inner.list())
            .await
            .map_err(|_| {
                format!(
                    "the inference server did not answer within {} s",
                    HEALTH_TIMEOUT.as_secs()
                )
            })??;
        *self.inner.models.write().unwrap_or_else(|e| e.into_inner()) = models.clone();
        Ok(models)
    }
}

impl Inner {
    async fn list(&self) -> Result<Vec<ModelInfo>, String> {
        let request = Request::get(format!("{}/v1/models", self.base))
            .body(Full::default())
            .map_err(|e| format!("the upstream URL is not usable: {e}"))?;
        let response = self.client.request(request).await.map_err(|error| {
            tracing::debug!(base = %self.base, %error, "health check failed");
            "the inference server cannot be reached".to_owned()
        })?;
        if !response.status().is_success() {
            return Err(format!(
                "the inference server answered {} to GET /v1/models",
                response.status()
            ));
        }
        let body = Limited::new(response.into_body(), MAX_MODELS_BYTES)
            .collect()
            .await
            .map_err(|_| "the inference server's list of models is broken or too long".to_owned())?
            .to_bytes();
        models(&body).ok_or_else(|| {
            "the inference server's list of models is not what OpenAI's API gives".to_owned()
        })
    }

    fn request(&self, req: HttpRequest) -> Result<Request<Full<Bytes>>, Failure> {
        let bad = || {
            Failure::new(
                400,
                "the request cannot be passed on: bad method, URL or header",
            )
        };
        if !req.url.starts_with('/') {
            return Err(bad());
        }
        let mut request = Request::builder()
            .method(Method::from_bytes(req.method.as_bytes()).map_err(|_| bad())?)
            .uri(format!("{}{}", self.base, req.url));
        let headers = request.headers_mut().ok_or_else(bad)?;
        let dropped =
            named_by_connection(req.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        for (name, value) in &req.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            if name == header::HOST
                || hop_by_hop(name.as_str())
                || dropped.iter().any(|d| d == name.as_str())
            {
                continue;
            }
            headers.append(
                name,
                HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?,
            );
        }
        request.body(Full::new(req.body)).map_err(|_| bad())
    }

    async fn pass(
        &self,
        req: HttpRequest,
        out: &mpsc::Sender<BackendEvent>,
    ) -> Result<(), Failure> {
        let request = self.request(req)?;
        let answer = tokio::time::timeout(self.options.head_timeout, self.client.request(request));
        let response: Response<Incoming> = tokio::select! {
            () = out.closed() => return Ok(()),
            answer = answer => match answer {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    tracing::warn!(base = %self.base, error = %chain(&error), "upstream request failed");
                    let message = if error.is_connect() { "the inference server cannot be reached" } else { "the inference server broke the connection" };
                    return Err(Failure::new(502, message));
                }
                Err(_) => return Err(Failure::new(504, "the inference server did not answer in time")),
            },
        };
        let (parts, mut body) = response.into_parts();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let all: Vec<(String, String)> = parts
            .headers
            .iter()
            .map(|(n, v)| (n.as_str().to_owned(), text(v)))
            .collect();
        let dropped = named_by_connection(all.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        let headers = all
            .into_iter()
            .filter(|(n, _)| !hop_by_hop(n) && !dropped.contains(n))
            .collect();
        let head = BackendEvent::Head {
            status: parts.status.as_u16(),
            reason: parts
                .status
                .canonical_reason()
                .unwrap_or("Unknown")
                .to_owned(),
            headers,
        };
        if out.send(head).await.is_err() {
            return Ok(());
        }
        loop {
            let frame = tokio::select! {
                // Dropping the body closes the connection, which is how these servers learn of a cancellation.
                () = out.closed() => return Ok(()),
                frame = tokio::time::timeout(self.options.idle_timeout, body.frame()) => frame,
            };
            let event = match frame {
                Err(_) => {
                    return Err(Failure::new(
                        504,
                        "the inference server stopped in the middle of an answer",
                    ));
                }
                Ok(None) => BackendEvent::End,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => BackendEvent::Body(data),
                    // Trailers say nothing that a caller needs.
                    Err(_) => continue,
                },
                Ok(Some(Err(error))) => {
                    tracing::warn!(base = %self.base, error = %chain(&error), "upstream body broke");
                    return Err(Failure::new(
                        502,
                        "the inference server broke off in the middle of an answer",
                    ));
                }
            };
            let end = event == BackendEvent::End;
            if out.send(event).await.is_err() || end {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Backend for HttpUpstream {
    fn start(&self, req: HttpRequest) -> mpsc::Receiver<BackendEvent> {
        let (out, receiver) = mpsc::channel(EVENT_QUEUE);
        let inner = self.inner.clone();
        tokio::spawn(async move {
            if let Err(Failure { status, message }) = inner.pass(req, &out).await {
                // A closed channel means that nobody wants to know.
                let _ = out.send(BackendEvent::Failed { status, message }).await;
            }
        });
        receiver
    }

    async fn healthy(&self) -> Result<(), String> {
        self.discover().await.map(|_| ())
    }

    fn models(&self) -> Vec<ModelInfo> {
        self.inner
            .models
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }

    fn max_active(&self) -> usize {
        self.inner.options.max_active
    }
}

fn hop_by_hop(name: &str) -> bool {
    NOT_PASSED_ON.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// Header names that a `Connection` header declares to be of the connection only.
fn named_by_connection<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    headers
        .filter(|(name, _)| name.eq_ignore_ascii_case("connection"))
        .flat_map(|(_, value)| value.split(',').map(|v| v.trim().to_ascii_lowercase()))
        .collect()
}

/// The models of a `GET /v1/models` answer; servers name the context length differently.
fn models(body: &[u8]) -> Option<Vec<ModelInfo>> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let length = |model: &serde_json::Value| {
        ["max_model_len", "context_length", "context_window"]
            .iter()
            .find_map(|name| u32::try_from(model.get(*name)?.as_u64()?).ok())
    };
    json.get("data")?
        .as_array()?
        .iter()
        .map(|model| {
            Some(ModelInfo {
                id: model.get("id")?.as_str()?.to_owned(),
                context_length: length(model),
            })
        })
        .collect()
}

/// An error with its causes; hyper's outermost text says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}
