//! Error objects as OpenAI's API gives them.

use crate::backend::BackendEvent;
use bytes::Bytes;
use serde_json::json;

/// A refusal or failure with everything that a caller of the API sees of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Expected and found, for a developer.
    pub message: String,
    /// OpenAI's class of error.
    pub kind: &'static str,
    /// The request member at fault.
    pub param: Option<String>,
    /// A word for programs.
    pub code: Option<&'static str>,
}

impl ApiError {
    /// A member with a wrong value: 400.
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        let param = (!param.is_empty()).then(|| param.to_owned());
        Self {
            status: 400,
            message: message.into(),
            kind: "invalid_request_error",
            param,
            code: Some("invalid_value"),
        }
    }

    /// Something OpenAI has and this engine has not: 400.
    pub fn unsupported(param: &str, message: impl Into<String>) -> Self {
        Self {
            code: Some("unsupported_parameter"),
            ..Self::invalid(param, message)
        }
    }

    /// The prompt leaves no room for an answer: 400.
    pub fn context_length(context: usize, prompt: usize, param: &str) -> Self {
        let message = format!(
            "This model's maximum context length is {context} tokens, and the prompt has {prompt}. Please shorten the \
             prompt to at most {} tokens.",
            context - 1
        );
        Self {
            code: Some("context_length_exceeded"),
            ..Self::invalid(param, message)
        }
    }

    /// Another model than the one served: 404.
    pub fn unknown_model(model: &str) -> Self {
        // The name comes from the caller; a short echo is enough.
        let shown: String = model.chars().take(100).collect();
        Self {
            status: 404,
            message: format!("The model `{shown}` does not exist here."),
            kind: "invalid_request_error",
            param: Some("model".into()),
            code: Some("model_not_found"),
        }
    }

    /// No such path (404) or another method (405).
    pub fn unknown_url(status: u16, message: String) -> Self {
        Self {
            status,
            message,
            kind: "invalid_request_error",
            param: None,
            code: None,
        }
    }

    /// The queue is full or the engine has stopped: 503; trying again may help.
    pub fn overloaded(message: String) -> Self {
        Self {
            status: 503,
            message,
            kind: "server_error",
            param: None,
            code: Some("overloaded"),
        }
    }

    /// The engine failed: 500.
    pub fn internal(message: String) -> Self {
        Self {
            status: 500,
            message,
            kind: "server_error",
            param: None,
            code: Some("engine_failure"),
        }
    }

    /// The error object.
    pub fn body(&self) -> Bytes {
        let error = json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }});
        error.to_string().into()
    }

    /// The complete response.
    pub(crate) fn events(&self) -> [BackendEvent; 3] {
        [
            head(self.status, "application/json"),
            BackendEvent::Body(self.body()),
            BackendEvent::End,
        ]
    }
}

/// A response head.
pub(crate) fn head(status: u16, content_type: &str) -> BackendEvent {
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("Unknown");
    let mut headers = vec![("content-type".to_owned(), content_type.to_owned())];
    if content_type.starts_with("text/event-stream") {
        headers.push(("cache-control".to_owned(), "no-cache".to_owned()));
    }
    BackendEvent::Head {
        status,
        reason: reason.to_owned(),
        headers,
    }
}
