//! The seam between a worker and whatever computes its answers: HTTP bytes in, a stream of HTTP bytes out.
//!
//! A worker carries HTTP requests and responses for its callers without understanding more of them than it
//! must, so the trait speaks in heads and body pieces. The embedded engine produces the bytes of the OpenAI
//! API itself; `HttpUpstream` passes on those of another server.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

/// How many events a backend may run ahead of a slow reader before it waits. Small, because each stream of a
/// stalled caller holds this many body pieces; large enough that a token does not wait for a context switch.
pub const EVENT_QUEUE: usize = 64;

/// One HTTP request for a model. The body of a `POST` has been checked to be JSON by the caller.
#[derive(Clone)]
pub struct HttpRequest {
    /// The method in capitals, such as `POST`.
    pub method: String,
    /// The request target, such as `/v1/chat/completions`.
    pub url: String,
    /// Header names and values as received.
    pub headers: Vec<(String, String)>,
    /// The complete body.
    pub body: Bytes,
}

// Prompts are confidential: show the shape, never the content.
impl std::fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("url", &self.url)
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// A step of the answer. The order is `Head`, any number of `Body`, then `End`; `Failed` may come at any point
/// and is the last event. A stream that closes without `End` or `Failed` must be treated as failed.
#[derive(Clone, PartialEq, Eq)]
pub enum BackendEvent {
    /// Status line and headers.
    Head {
        /// HTTP status code.
        status: u16,
        /// Reason phrase, such as `OK`.
        reason: String,
        /// Header names and values; never contains hop-by-hop headers or a length.
        headers: Vec<(String, String)>,
    },
    /// The next piece of the body.
    Body(Bytes),
    /// The body is complete.
    End,
    /// The answer cannot be given or completed.
    Failed {
        /// The HTTP status to answer with if no head went out yet.
        status: u16,
        /// What happened, for the caller's eyes: holds no prompt, answer, key or internal address.
        message: String,
    },
}

impl std::fmt::Debug for BackendEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Head { status, .. } => write!(f, "Head({status})"),
            Self::Body(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Self::End => write!(f, "End"),
            Self::Failed { status, message } => write!(f, "Failed({status}, {message})"),
        }
    }
}

/// A model that a backend serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name that requests use in `model`.
    pub id: String,
    /// Prompt and answer together may have at most this many tokens, if known.
    pub context_length: Option<u32>,
}

/// Something that answers OpenAI-style HTTP requests.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Starts a request. Never blocks; must be called within a tokio runtime. Dropping the receiver cancels the
    /// generation.
    fn start(&self, req: HttpRequest) -> mpsc::Receiver<BackendEvent>;

    /// Whether a request sent now has a chance; the error says why not.
    async fn healthy(&self) -> Result<(), String>;

    /// The models served now.
    fn models(&self) -> Vec<ModelInfo>;

    /// How many requests are worked on at the same time; further ones wait or are refused.
    fn max_active(&self) -> usize;
}
