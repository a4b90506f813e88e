//! Error objects in the shape OpenAI clients expect, and how protocol codes become HTTP statuses.

use serde_json::json;

/// When a full queue is worth another try, where nothing better is known.
const RETRY_AFTER_S: u32 = 2;

/// An error as an HTTP caller sees it: status, machine-readable code, and a sentence that helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// OpenAI's `type`, e.g. `invalid_request_error`.
    pub kind: &'static str,
    /// OpenAI's `code`: stable, for programs.
    pub code: String,
    /// The member of the request at fault, if one is.
    pub param: Option<String>,
    /// For people. Never contains prompts, answers or keys.
    pub message: String,
    /// Seconds after which another try makes sense, for the header `Retry-After`.
    pub retry_after_s: Option<u32>,
}

impl ApiError {
    /// The caller's request is wrong (400).
    pub fn invalid(code: &str, message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", code, message)
    }

    /// Any status, type and code.
    pub fn new(status: u16, kind: &'static str, code: &str, message: impl Into<String>) -> Self {
        ApiError {
            status,
            kind,
            code: code.to_owned(),
            param: None,
            message: message.into(),
            retry_after_s: None,
        }
    }

    /// Says when another try makes sense.
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Names the member of the request at fault.
    pub fn with_param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// The JSON body.
    pub fn body(&self) -> Vec<u8> {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
        .to_string()
        .into_bytes()
    }

    /// Maps an error of the network (protocol.md 1.8 and 3.6) to what the caller should see.
    ///
    /// The texts of 3.6 are part of the protocol, so they are what a reference proxy sends, too.
    pub fn from_network(code: i32, text: &str) -> Self {
        let has = |s: &str| text.contains(s);
        match code {
            _ if has("balance is too low") => ApiError::new(
                402,
                "insufficient_quota",
                "insufficient_balance",
                format!("the deposit on chain does not cover this request: {text}; lower max_tokens or wait for the next top-up"),
            ),
            _ if has("can run this query with coefficient") => ApiError::new(
                402,
                "invalid_request_error",
                "price_above_limit",
                format!("every free worker asks more than max_coefficient allows: {text}; raise max_coefficient or wait"),
            )
            .with_param("max_coefficient"),
            _ if has("unknown model") => {
                ApiError::new(404, "invalid_request_error", "model_not_found", format!("no worker offers this model: {text}; GET /v1/models lists what there is"))
                    .with_param("model")
            }
            _ if has("too many requests of this client") => {
                ApiError::new(429, "rate_limit_error", "too_many_requests", format!("{text}; wait for some of them, or ask fewer at once"))
                    .with_retry_after(RETRY_AFTER_S)
            }
            _ if has("the queue is full") => {
                ApiError::new(503, "server_error", "overloaded", format!("every worker is busy and {text}; try again shortly"))
                    .with_retry_after(RETRY_AFTER_S)
            }
            _ if has("no allowed workers") => {
                ApiError::new(503, "server_error", "no_allowed_workers", format!("\"provider\" leaves no worker: {text}; GET /v1/models shows who serves"))
                    .with_param("provider")
            }
            _ if has("no workers for model") || has("no ready workers") => {
                ApiError::new(503, "server_error", "no_workers", format!("the model is known but no worker is free: {text}; try again shortly"))
            }
            602 if has("too many active queries") => {
                ApiError::new(503, "server_error", "worker_busy", format!("the worker is full: {text}; try again shortly"))
            }
            621 => ApiError::invalid("invalid_request", text.to_owned()),
            651 => ApiError::new(503, "server_error", "not_ready", text.to_owned()),
            652 => ApiError::new(504, "server_error", "timeout", format!("the answer was not finished in time: {text}; raise \"timeout\" (seconds)")),
            653 => ApiError::new(503, "server_error", "cancelled", text.to_owned()),
            602 => ApiError::new(503, "server_error", "refused", text.to_owned()),
            _ => ApiError::new(502, "server_error", "engine_error", text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_protocol_map_to_their_statuses() {
        for (code, text, status, api) in [
            (
                602,
                "client balance is too low: max_tokens=1",
                402,
                "insufficient_balance",
            ),
            (651, "balance is too low", 402, "insufficient_balance"),
            (
                651,
                "can run this query with coefficient=5000",
                402,
                "price_above_limit",
            ),
            (621, "unknown model nope", 404, "model_not_found"),
            (651, "no workers for model m", 503, "no_workers"),
            (651, "no ready workers for modelm", 503, "no_workers"),
            (652, "timeout in proxy", 504, "timeout"),
            (651, "the queue is full: 9 requests wait", 503, "overloaded"),
            (
                651,
                "too many requests of this client: 9 run or wait",
                429,
                "too_many_requests",
            ),
            (
                651,
                "no allowed workers for model m",
                503,
                "no_allowed_workers",
            ),
            (
                621,
                "worker: invalid http request: unknown option 'x' in request",
                400,
                "invalid_request",
            ),
            (601, "engine gone", 502, "engine_error"),
        ] {
            let e = ApiError::from_network(code, text);
            assert_eq!((e.status, e.code.as_str()), (status, api), "{text}");
        }
    }

    #[test]
    fn body_is_an_openai_error_object() {
        let body = ApiError::invalid("x", "say \"hi\"")
            .with_param("model")
            .body();
        let v: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(v["error"]["type"], "invalid_request_error");
        assert_eq!(v["error"]["param"], "model");
        assert_eq!(v["error"]["message"], "say \"hi\"");
    }
}
