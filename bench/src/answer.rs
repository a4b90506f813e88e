//! The fixed answer: what the backend says, what a caller sends, and how a whole answer is told from a broken one.

use std::fmt::Write;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::args::Kind;

/// Name of the model that the backend offers.
pub const MODEL: &str = "bench/fixed-answer";
/// What the backend says about every prompt; any fixed number will do.
pub const PROMPT_TOKENS: u64 = 100;
/// Stands once in every event of the backend's stream that carries a token.
const TOKEN_MARK: &[u8] = b"\"content\":\"w";
const DONE: &[u8] = b"data: [DONE]\n\n";

/// The bodies of the fixed answer.
#[derive(Debug, Clone)]
pub struct Answer {
    tokens: u32,
    text: String,
    /// `GET /v1/models`.
    pub models: Bytes,
    /// A completion in one piece.
    pub chat: Bytes,
    /// The events of a stream, in order.
    pub events: Vec<Bytes>,
}

impl Answer {
    /// An answer of so many tokens.
    pub fn new(tokens: u32) -> Self {
        let words: Vec<String> = (0..tokens).map(|n| format!("w{n} ")).collect();
        let text = words.concat();
        let usage = json!({"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + u64::from(tokens)});
        let chat = json!({
            "id": "chatcmpl-bench", "object": "chat.completion", "created": 1_700_000_000, "model": MODEL,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": usage,
        });
        let event = |choices: Value, usage: Option<&Value>| {
            let mut chunk = json!({"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": MODEL, "choices": choices});
            if let Some(usage) = usage {
                chunk["usage"] = usage.clone();
            }
            Bytes::from(format!("data: {chunk}\n\n"))
        };
        let delta = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        let mut events = vec![event(
            delta(json!({"role": "assistant"}), Value::Null),
            None,
        )];
        events.extend(
            words
                .iter()
                .map(|w| event(delta(json!({"content": w}), Value::Null), None)),
        );
        events.push(event(delta(json!({}), json!("stop")), None));
        events.push(event(json!([]), Some(&usage)));
        events.push(Bytes::from_static(DONE));
        Answer {
            tokens,
            text,
            models: Bytes::from(
                json!({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "bench", "max_model_len": 1 << 20}]})
                    .to_string(),
            ),
            chat: Bytes::from(chat.to_string()),
            events,
        }
    }

    /// Tokens in an answer of this kind.
    pub fn tokens(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Models => 0,
            Kind::Chat | Kind::Stream => u64::from(self.tokens),
        }
    }

    /// What a caller sends.
    pub fn request(&self, kind: Kind, prompt_bytes: u32) -> Bytes {
        if kind == Kind::Models {
            return Bytes::new();
        }
        let mut prompt = String::with_capacity(prompt_bytes as usize + 8);
        while prompt.len() < prompt_bytes as usize {
            let _ = write!(prompt, "word{} ", prompt.len() % 97);
        }
        prompt.truncate(prompt_bytes as usize);
        let mut body = json!({"model": MODEL, "max_tokens": self.tokens, "messages": [{"role": "user", "content": prompt}]});
        if kind == Kind::Stream {
            body["stream"] = json!(true);
            body["stream_options"] = json!({"include_usage": true});
        }
        Bytes::from(body.to_string())
    }

    /// Cheap check of every answer while measuring: nothing is missing at its end, and every token is there.
    pub fn check(&self, kind: Kind, body: &[u8]) -> Result<(), String> {
        match kind {
            Kind::Models | Kind::Chat => serde_json::from_slice::<serde::de::IgnoredAny>(body)
                .map(|_| ())
                .map_err(|e| format!("the answer is not JSON: {e}")),
            Kind::Stream if !body.ends_with(DONE) => {
                Err("the stream ended without [DONE]".to_owned())
            }
            Kind::Stream => {
                let found = count(body, TOKEN_MARK);
                if found == self.tokens as usize {
                    Ok(())
                } else {
                    Err(format!(
                        "the stream carried {found} tokens, expected {}",
                        self.tokens
                    ))
                }
            }
        }
    }

    /// Thorough check, before anything is measured: the text and the counted tokens are exactly the backend's.
    pub fn check_whole(&self, kind: Kind, body: &[u8]) -> Result<(), String> {
        self.check(kind, body)?;
        let json = |text: &str| {
            serde_json::from_str::<Value>(text).map_err(|e| format!("not JSON: {e}: {text}"))
        };
        let body = std::str::from_utf8(body).map_err(|e| e.to_string())?;
        let (text, usage) = match kind {
            Kind::Models => {
                let list = json(body)?;
                let offered = list["data"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|m| m["id"] == MODEL));
                return offered
                    .then_some(())
                    .ok_or_else(|| format!("the model {MODEL} is not on offer: {body}"));
            }
            Kind::Chat => {
                let answer = json(body)?;
                let text = answer["choices"][0]["message"]["content"]
                    .as_str()
                    .unwrap_or("")
                    .to_owned();
                (text, answer["usage"].clone())
            }
            Kind::Stream => {
                let (mut text, mut usage) = (String::new(), Value::Null);
                for event in body.split("\n\n") {
                    let Some(data) = event.strip_prefix("data: ").filter(|d| *d != "[DONE]") else {
                        continue;
                    };
                    let chunk = json(data)?;
                    text += chunk["choices"][0]["delta"]["content"]
                        .as_str()
                        .unwrap_or("");
                    if chunk["usage"].is_object() {
                        usage = chunk["usage"].clone();
                    }
                }
                (text, usage)
            }
        };
        if text != self.text {
            return Err(format!("the text differs from the backend's: {text:?}"));
        }
        if usage["completion_tokens"] != self.tokens || usage["prompt_tokens"] != PROMPT_TOKENS {
            return Err(format!("the usage differs from the backend's: {usage}"));
        }
        Ok(())
    }
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    let (mut found, mut at) = (0, 0);
    while let Some(quote) = haystack[at..].iter().position(|b| *b == needle[0]) {
        at += quote;
        if haystack[at..].starts_with(needle) {
            found += 1;
            at += needle.len();
        } else {
            at += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_answer_passes_and_a_broken_one_does_not() {
        let answer = Answer::new(5);
        let stream = answer.events.concat();
        for (kind, body) in [
            (Kind::Models, answer.models.to_vec()),
            (Kind::Chat, answer.chat.to_vec()),
            (Kind::Stream, stream.clone()),
        ] {
            answer.check(kind, &body).unwrap();
            answer.check_whole(kind, &body).unwrap();
            assert!(answer.check(kind, &body[..body.len() - 1]).is_err());
        }
        let mut missing = answer.clone();
        missing.events.remove(3);
        assert!(
            answer
                .check(Kind::Stream, &missing.events.concat())
                .is_err()
        );
        // The same length, another text and other figures.
        let other = String::from_utf8(stream).unwrap();
        assert!(
            answer
                .check_whole(Kind::Stream, other.replace("w3 ", "w4 ").as_bytes())
                .is_err()
        );
        assert!(
            answer
                .check_whole(
                    Kind::Stream,
                    other
                        .replace("\"completion_tokens\":5", "\"completion_tokens\":6")
                        .as_bytes()
                )
                .is_err()
        );
    }

    #[test]
    fn prompts_have_their_length() {
        let answer = Answer::new(1);
        for (kind, stream) in [(Kind::Chat, false), (Kind::Stream, true)] {
            let body: Value = serde_json::from_slice(&answer.request(kind, 700)).unwrap();
            assert_eq!(body["messages"][0]["content"].as_str().unwrap().len(), 700);
            assert_eq!(body["stream"].as_bool().unwrap_or(false), stream);
        }
        assert!(answer.request(Kind::Models, 700).is_empty());
    }
}
