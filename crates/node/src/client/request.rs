//! Reads an inference request of an HTTP caller: the network's own members out, what the proxy needs to know in.

use serde_json::{Map, Value, json};

use super::provider::{self, Given};
use crate::api_error::ApiError;

/// Output budget in model tokens when the caller gives none (protocol.md 6.7).
pub const DEFAULT_MAX_TOKENS: u32 = 1000;
/// Highest acceptable worker coefficient in thousandths when the caller gives none (6.7).
pub const DEFAULT_MAX_COEFFICIENT: u32 = 4000;
/// Seconds for the whole answer when the caller gives none (6.7).
pub const DEFAULT_TIMEOUT_S: f64 = 120.0;
/// Upper bounds of what a caller may ask for: far above real use, far below overflow.
pub const MAX_MAX_TOKENS: u64 = 10_000_000;
/// Coefficients end where the protocol ends them (protocol.md 4.2, check 6).
pub const MAX_COEFFICIENT: u64 = 999_999_999;
/// A day.
pub const MAX_TIMEOUT_S: f64 = 86_400.0;
/// Choices per request; each is reserved in full.
pub const MAX_CHOICES: u64 = 128;
/// Largest request body: it has to fit into one frame of 2^24 bytes together with its headers.
pub const MAX_BODY: usize = 15 << 20;

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedRequest {
    /// Base model name.
    pub model: String,
    /// Body to forward: compact, keys sorted, without the network's own members.
    pub body: Vec<u8>,
    /// Highest acceptable coefficient, thousandths.
    pub max_coefficient: u32,
    /// The body named that limit.
    pub price_limit_given: bool,
    /// Output budget over all choices, model tokens.
    pub max_tokens: u32,
    /// Seconds for the whole answer.
    pub timeout_s: f64,
    /// The caller wants debug data.
    pub enable_debug: bool,
    /// The caller wants a stream.
    pub stream: bool,
    /// The caller asked for the usage event at the end of the stream.
    pub wants_usage: bool,
    /// What the caller wants of the worker.
    pub provider: Given,
}

/// Reads `body` as sent to `/v1/chat/completions` or `/v1/completions`.
pub fn parse(path: &str, body: &[u8]) -> Result<ParsedRequest, ApiError> {
    if body.len() > MAX_BODY {
        return Err(ApiError::new(
            413,
            "invalid_request_error",
            "request_too_large",
            format!(
                "the body has {} bytes, at most {MAX_BODY} fit into one message of the network",
                body.len()
            ),
        ));
    }
    let value: Value = serde_json::from_slice(body).map_err(|e| {
        ApiError::invalid(
            "invalid_json",
            format!(
                "the body is not valid JSON: line {} column {}: {}",
                e.line(),
                e.column(),
                json_reason(&e)
            ),
        )
    })?;
    let Value::Object(mut map) = value else {
        return Err(ApiError::invalid(
            "invalid_json",
            "the body must be a JSON object",
        ));
    };
    let model = match map.get("model") {
        Some(Value::String(s)) if !s.is_empty() => s.clone(),
        Some(_) => {
            return Err(
                ApiError::invalid("invalid_type", "\"model\" must be a non-empty string")
                    .with_param("model"),
            );
        }
        None => {
            return Err(ApiError::invalid(
                "missing_field",
                "\"model\" is missing; GET /v1/models lists what there is",
            )
            .with_param("model"));
        }
    };
    let completion = take_uint(&map, "max_completion_tokens", MAX_MAX_TOKENS)?;
    let plain = take_uint(&map, "max_tokens", MAX_MAX_TOKENS)?;
    let n = take_uint(&map, "n", MAX_CHOICES)?.unwrap_or(1).max(1);
    let best_of = take_uint(&map, "best_of", MAX_CHOICES)?.unwrap_or(1).max(1);
    let per_choice = match (completion, plain) {
        (Some(v), _) => {
            map.remove("max_tokens");
            v
        }
        (None, Some(v)) => v,
        (None, None) => {
            // What is reserved is also what the model is told: nobody can run into debt by saying nothing.
            let name = if path.ends_with("/chat/completions") {
                "max_completion_tokens"
            } else {
                "max_tokens"
            };
            map.insert(name.to_owned(), json!(DEFAULT_MAX_TOKENS));
            u64::from(DEFAULT_MAX_TOKENS)
        }
    };
    let max_tokens = per_choice
        .saturating_mul(n.max(best_of))
        .min(i32::MAX as u64) as u32;
    let price_limit = take_uint(&map, "max_coefficient", MAX_COEFFICIENT)?.map(|v| v as u32);
    let provider = provider::take(&mut map)?;
    let timeout_s = match map.get("timeout") {
        None | Some(Value::Null) => DEFAULT_TIMEOUT_S,
        Some(v) => v
            .as_f64()
            .filter(|t| t.is_finite() && *t > 0.0 && *t <= MAX_TIMEOUT_S)
            .ok_or_else(|| ApiError::invalid("invalid_value", format!("\"timeout\" must be a number of seconds above 0 and at most {MAX_TIMEOUT_S}")).with_param("timeout"))?,
    };
    let enable_debug = take_bool(&map, "enable_debug")?.unwrap_or(false);
    let stream = take_bool(&map, "stream")?.unwrap_or(false);
    if let Some(v) = map.get("request_guid")
        && !v.is_string()
    {
        return Err(
            ApiError::invalid("invalid_type", "\"request_guid\" must be a string")
                .with_param("request_guid"),
        );
    }
    let wants_usage = map
        .get("stream_options")
        .and_then(|o| o.get("include_usage"))
        .and_then(Value::as_bool)
        .unwrap_or(false);
    for own in ["max_coefficient", "timeout", "enable_debug", "request_guid"] {
        map.remove(own);
    }
    Ok(ParsedRequest {
        model,
        body: sorted(Value::Object(map)).to_string().into_bytes(),
        max_coefficient: price_limit.unwrap_or(DEFAULT_MAX_COEFFICIENT),
        price_limit_given: price_limit.is_some(),
        max_tokens,
        timeout_s,
        enable_debug,
        stream,
        wants_usage,
        provider,
    })
}

/// serde_json's reason without the position it appends, which the caller gets separately.
fn json_reason(e: &serde_json::Error) -> String {
    let text = e.to_string();
    text.split(" at line ")
        .next()
        .unwrap_or("syntax error")
        .to_owned()
}

/// Keys in byte order at every level, whatever map serde_json was built with.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn take_uint(map: &Map<String, Value>, name: &str, max: u64) -> Result<Option<u64>, ApiError> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => match v.as_u64() {
            Some(n) if n <= max => Ok(Some(n)),
            _ => Err(ApiError::invalid(
                "invalid_value",
                format!("\"{name}\" must be a whole number from 0 to {max}"),
            )
            .with_param(name)),
        },
    }
}

fn take_bool(map: &Map<String, Value>, name: &str) -> Result<Option<bool>, ApiError> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(b)) => Ok(Some(*b)),
        Some(_) => Err(ApiError::invalid(
            "invalid_type",
            format!("\"{name}\" must be true or false"),
        )
        .with_param(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    #[test]
    fn own_members_leave_and_defaults_arrive() {
        let p = parse(CHAT, br#"{"stream":true,"model":"m","messages":[{"role":"user","content":"hi"}],"max_coefficient":1500,"timeout":7,"enable_debug":true,"request_guid":"g"}"#).unwrap();
        assert_eq!(
            (
                p.max_coefficient,
                p.max_tokens,
                p.timeout_s,
                p.enable_debug,
                p.stream,
                p.wants_usage
            ),
            (1500, 1000, 7.0, true, true, false)
        );
        assert_eq!(
            String::from_utf8(p.body).unwrap(),
            r#"{"max_completion_tokens":1000,"messages":[{"content":"hi","role":"user"}],"model":"m","stream":true}"#
        );
    }

    #[test]
    fn every_choice_is_reserved() {
        let p = parse(
            CHAT,
            br#"{"model":"m","n":3,"max_tokens":50,"messages":[]}"#,
        )
        .unwrap();
        assert_eq!(p.max_tokens, 150);
        let p = parse(
            CHAT,
            br#"{"model":"m","max_tokens":50,"max_completion_tokens":20,"messages":[]}"#,
        )
        .unwrap();
        assert_eq!(p.max_tokens, 20);
        assert!(
            !String::from_utf8(p.body)
                .unwrap()
                .contains("max_tokens\":50")
        );
    }

    #[test]
    fn wrong_input_names_the_member() {
        for (body, param, code) in [
            (&br#"{"#[..], None, "invalid_json"),
            (br#"[]"#, None, "invalid_json"),
            (br#"{}"#, Some("model"), "missing_field"),
            (br#"{"model":1}"#, Some("model"), "invalid_type"),
            (
                br#"{"model":"m","max_tokens":-1}"#,
                Some("max_tokens"),
                "invalid_value",
            ),
            (
                br#"{"model":"m","max_tokens":1e99}"#,
                Some("max_tokens"),
                "invalid_value",
            ),
            (
                br#"{"model":"m","max_coefficient":-5}"#,
                Some("max_coefficient"),
                "invalid_value",
            ),
            (
                br#"{"model":"m","timeout":0}"#,
                Some("timeout"),
                "invalid_value",
            ),
            (
                br#"{"model":"m","timeout":"x"}"#,
                Some("timeout"),
                "invalid_value",
            ),
            (
                br#"{"model":"m","stream":"yes"}"#,
                Some("stream"),
                "invalid_type",
            ),
        ] {
            let e = parse(CHAT, body).unwrap_err();
            assert_eq!(
                (e.status, e.param.as_deref(), e.code.as_str()),
                (400, param, code),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(body: Vec<u8>) {
            let _ = parse(CHAT, &body);
        }
    }
}
