//! A small HTTP client for servers on this machine: the endpoint, the nodes' pages, the chain.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::error::{CliError, Result};

/// Servers on this machine accept at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For a whole answer that is not a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers of the chain carry account states of at most 10 MiB in base64.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A client with a connection pool.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    /// The operator's token; marked as sensitive, so that it is never shown.
    token: Option<http::HeaderValue>,
}

impl Http {
    /// One that shows the operator's token with every request; `None` if no header can carry it.
    pub fn with_token(token: &str) -> Option<Self> {
        let mut value = http::HeaderValue::from_str(token).ok()?;
        value.set_sensitive(true);
        Some(Self {
            token: Some(value),
            ..Self::default()
        })
    }
}

impl Default for Http {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            token: None,
        }
    }
}

/// Status and body of an answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body; `Null` if it is not JSON.
    pub json: Value,
}

impl Http {
    /// Sends a request and waits for the head of the answer. Refuses to follow anything but plain HTTP.
    pub async fn open(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<http::Response<Incoming>> {
        let wrong = |found: String| {
            CliError::usage(format!("cannot use the URL {url}"))
                .expected("something like http://127.0.0.1:10000")
                .found(found)
        };
        let uri: http::Uri = url.parse().map_err(|e| wrong(format!("{e}")))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("another scheme than http".to_owned()));
        }
        let bytes = body.map_or_else(Bytes::new, |value| Bytes::from(value.to_string()));
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", "application/json")
            .body(Full::new(bytes))
            .map_err(|e| wrong(e.to_string()))?;
        if let Some(token) = &self.token {
            request
                .headers_mut()
                .insert(crate::nodes::pages::TOKEN_HEADER, token.clone());
        }
        self.client.request(request).await.map_err(|e| {
            let mut reason = e.to_string();
            let mut source = std::error::Error::source(&e);
            while let Some(inner) = source {
                reason = format!("{reason}: {inner}");
                source = inner.source();
            }
            CliError::new(format!("no answer from {url}"))
                .expected("a running server")
                .found(reason)
                .hint("start the network with 'cocoon up', or check with 'cocoon status'")
        })
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Answer> {
        let exchange = async {
            let response = self.open(method, url, body).await?;
            let status = response.status().as_u16();
            let bytes = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|e| {
                    CliError::new(format!("the answer of {url} broke off")).found(e.to_string())
                })?
                .to_bytes();
            let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            Ok(Answer { status, json })
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .map_err(|_| {
                CliError::new(format!("no answer from {url}"))
                    .expected(format!("an answer within {} s", ANSWER_TIMEOUT.as_secs()))
                    .hint("check with 'cocoon status'")
            })?
    }

    /// Reads a JSON document.
    pub async fn get(&self, url: &str) -> Result<Answer> {
        self.call(Method::GET, url, None).await
    }
}
