//! Turns messages or prompts of a request into tokens.

use super::error::ApiError;
use super::request::{Fields, Limits, MAX_CHOICES, wrong};
use crate::template::{ChatTemplate, Conversation};
use crate::text::Text;
use serde_json::Value;

/// Most messages of a conversation; far above real use, it bounds a template's work.
const MAX_MESSAGES: usize = 4096;

/// The tokens of a chat, by the model's template.
pub(super) fn chat_prompt(
    fields: &Fields<'_>,
    text: &Text,
    template: Option<&ChatTemplate>,
) -> Result<Vec<u32>, ApiError> {
    let template = template.ok_or_else(|| {
        ApiError::unsupported(
            "messages",
            "This model has no chat template; use /v1/completions.",
        )
    })?;
    let messages = match fields.get("messages") {
        Some(Value::Array(list)) if !list.is_empty() && list.len() <= MAX_MESSAGES => list,
        Some(Value::Array(list)) => {
            return Err(ApiError::invalid(
                "messages",
                format!(
                    "`messages` must have 1 to {MAX_MESSAGES} entries; found {}.",
                    list.len()
                ),
            ));
        }
        _ => {
            return Err(ApiError::invalid(
                "messages",
                "`messages` must be an array and is required.",
            ));
        }
    };
    let messages = messages
        .iter()
        .enumerate()
        .map(|(i, m)| message(i, m))
        .collect::<Result<Vec<_>, _>>()?;
    let tools = match fields.get("tools") {
        Some(Value::Array(list)) if list.is_empty() => None,
        Some(_)
            if fields
                .get("tool_choice")
                .is_some_and(|choice| choice == "none") =>
        {
            None
        }
        Some(tools @ Value::Array(_)) if template.mentions_tools() => Some(tools),
        Some(Value::Array(_)) => {
            return Err(ApiError::unsupported(
                "tools",
                "This model was not made for tools; send the request without `tools`.",
            ));
        }
        Some(other) => return Err(wrong("tools", "an array", other)),
        None => None,
    };
    let extra = match fields.get("chat_template_kwargs") {
        Some(Value::Object(map)) => Some(map),
        Some(other) => return Err(wrong("chat_template_kwargs", "an object", other)),
        None => None,
    };
    let prompt = template
        .render(&Conversation {
            messages: &messages,
            tools,
            extra,
        })
        .map_err(|problem| {
            ApiError::invalid(
                "messages",
                format!("The model's chat template refused the messages: {problem}."),
            )
        })?;
    let tokens = text
        .encode(&prompt, false)
        .map_err(|e| ApiError::invalid("messages", e))?;
    if tokens.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "The messages give an empty prompt.",
        ));
    }
    Ok(tokens)
}

/// One message with its content as a string, which is what templates of text models expect.
fn message(i: usize, message: &Value) -> Result<Value, ApiError> {
    let param = |rest: &str| format!("messages[{i}]{rest}");
    let Value::Object(fields) = message else {
        return Err(wrong(&param(""), "an object", message));
    };
    let mut fields = fields.clone();
    match fields.get("role").and_then(Value::as_str) {
        // OpenAI's newer name for the system role, unknown to templates.
        Some("developer") => {
            fields.insert("role".into(), "system".into());
        }
        Some("system" | "user" | "assistant" | "tool") => {}
        _ => {
            let expected = "must be system, developer, user, assistant or tool";
            return Err(ApiError::invalid(
                &param(".role"),
                format!("`{}` {expected}.", param(".role")),
            ));
        }
    }
    let content = match fields.get("content") {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) if fields.contains_key("tool_calls") => String::new(),
        None | Some(Value::Null) => {
            return Err(ApiError::invalid(
                &param(".content"),
                format!("`{}` is required.", param(".content")),
            ));
        }
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for part in parts {
                match (
                    part.get("type").and_then(Value::as_str),
                    part.get("text").and_then(Value::as_str),
                ) {
                    (Some("text"), Some(piece)) => text += piece,
                    _ => {
                        return Err(ApiError::unsupported(
                            &param(".content"),
                            "This model takes content parts of type text only.",
                        ));
                    }
                }
            }
            text
        }
        Some(other) => {
            return Err(wrong(
                &param(".content"),
                "a string or an array of parts",
                other,
            ));
        }
    };
    fields.insert("content".into(), content.into());
    Ok(Value::Object(fields))
}

/// The tokens of each prompt of a completion.
pub(super) fn completion_prompts(
    fields: &Fields<'_>,
    text: &Text,
    limits: &Limits<'_>,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let invalid = || {
        ApiError::invalid(
            "prompt",
            "`prompt` must be a string, an array of strings, an array of token ids, or an array of such arrays.",
        )
    };
    let words = |s: &str| -> Result<Vec<u32>, ApiError> {
        let mut tokens = text
            .encode(s, true)
            .map_err(|e| ApiError::invalid("prompt", e))?;
        if tokens.is_empty() {
            // OpenAI: an empty prompt is the beginning of a new document, which the last end token stands for.
            tokens.extend(limits.end_tokens.last());
        }
        if tokens.is_empty() {
            Err(ApiError::invalid("prompt", "`prompt` is empty."))
        } else {
            Ok(tokens)
        }
    };
    let ids = |list: &[Value]| -> Result<Vec<u32>, ApiError> {
        let id = |v: &Value| {
            let id = v.as_u64().ok_or_else(invalid)?;
            if id >= limits.vocab_size as u64 {
                return Err(ApiError::invalid(
                    "prompt",
                    format!(
                        "Token id {id} is not below the vocabulary size {}.",
                        limits.vocab_size
                    ),
                ));
            }
            Ok(id as u32)
        };
        if list.is_empty() {
            Err(invalid())
        } else {
            list.iter().map(id).collect()
        }
    };
    match fields.get("prompt") {
        Some(Value::String(s)) => Ok(vec![words(s)?]),
        Some(Value::Array(list)) if list.first().is_some_and(Value::is_number) => {
            Ok(vec![ids(list)?])
        }
        Some(Value::Array(list)) if !list.is_empty() && list.len() <= MAX_CHOICES => list
            .iter()
            .map(|entry| match entry {
                Value::String(s) => words(s),
                Value::Array(list) => ids(list),
                _ => Err(invalid()),
            })
            .collect(),
        _ => Err(invalid()),
    }
}
