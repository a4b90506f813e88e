//! Builds the objects that answer a chat or completion request.

use super::request::Kind;
use crate::batch::{FinishReason, TokenLogprob};
use crate::text::Text;
use serde_json::{Map, Value, json};

/// What all objects of one answer share.
pub(super) struct Envelope<'a> {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) text: &'a Text,
    pub(super) include_usage: bool,
}

/// Token counts of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: usize,
    pub(super) completion: usize,
}

impl Usage {
    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }
}

fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// One choice of a complete answer, as it grows.
#[derive(Default)]
pub(super) struct Grown {
    pub(super) text: String,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) finish: Option<FinishReason>,
}

impl Envelope<'_> {
    /// The whole answer as one object.
    pub(super) fn complete(&self, choices: &[Grown], usage: Usage, with_logprobs: bool) -> Value {
        let choices = choices
            .iter()
            .enumerate()
            .map(|(index, choice)| {
                let finish = choice.finish.map(reason);
                let logprobs = if with_logprobs { self.logprobs(&choice.logprobs, &mut 0) } else { Value::Null };
                match self.kind {
                    Kind::Chat => json!({
                        "index": index,
                        "message": {"role": "assistant", "content": choice.text, "refusal": null},
                        "logprobs": logprobs,
                        "finish_reason": finish,
                    }),
                    Kind::Completion => {
                        json!({"index": index, "text": choice.text, "logprobs": logprobs, "finish_reason": finish})
                    }
                }
            })
            .collect();
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Completion => "text_completion",
        };
        let mut answer = self.frame(object, choices);
        answer.insert("usage".into(), usage.json());
        Value::Object(answer)
    }

    /// The first event of a chat choice.
    pub(super) fn role(&self, index: usize) -> Value {
        self.chunk(json!({
            "index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null,
        }))
    }

    /// More text. `offset` is the length of the text so far, for the old endpoint's `text_offset`.
    pub(super) fn piece(
        &self,
        index: usize,
        text: &str,
        logprobs: &[TokenLogprob],
        offset: &mut usize,
    ) -> Value {
        let logprobs = if logprobs.is_empty() {
            Value::Null
        } else {
            self.logprobs(logprobs, offset)
        };
        self.chunk(match self.kind {
            Kind::Chat => json!({"index": index, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": null}),
            Kind::Completion => json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": null}),
        })
    }

    /// The last event of a choice.
    pub(super) fn finish(&self, index: usize, finish: FinishReason) -> Value {
        let finish = reason(finish);
        self.chunk(match self.kind {
            Kind::Chat => {
                json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": finish})
            }
            Kind::Completion => {
                json!({"index": index, "text": "", "logprobs": null, "finish_reason": finish})
            }
        })
    }

    /// The event with the usage, which has no choices.
    pub(super) fn usage(&self, usage: Usage) -> Value {
        let mut chunk = self.frame(self.chunk_object(), Vec::new());
        chunk.insert("usage".into(), usage.json());
        Value::Object(chunk)
    }

    fn chunk(&self, choice: Value) -> Value {
        let mut chunk = self.frame(self.chunk_object(), vec![choice]);
        if self.include_usage {
            chunk.insert("usage".into(), Value::Null);
        }
        Value::Object(chunk)
    }

    fn chunk_object(&self) -> &'static str {
        match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        }
    }

    fn frame(&self, object: &str, choices: Vec<Value>) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".into(), self.id.clone().into());
        map.insert("object".into(), object.into());
        map.insert("created".into(), self.created.into());
        map.insert("model".into(), self.model.into());
        map.insert("choices".into(), choices.into());
        map
    }

    fn logprobs(&self, tokens: &[TokenLogprob], offset: &mut usize) -> Value {
        let entry = |id: u32, logprob: f32| {
            let bytes = self.text.token_bytes(id);
            (
                String::from_utf8_lossy(&bytes).into_owned(),
                finite(logprob),
                bytes,
            )
        };
        match self.kind {
            Kind::Chat => {
                let object = |id, logprob| {
                    let (token, logprob, bytes) = entry(id, logprob);
                    json!({"token": token, "logprob": logprob, "bytes": bytes})
                };
                let content: Vec<Value> = tokens
                    .iter()
                    .map(|t| {
                        let mut one = object(t.id, t.logprob);
                        one["top_logprobs"] = t
                            .top
                            .iter()
                            .map(|(id, logprob)| object(*id, *logprob))
                            .collect();
                        one
                    })
                    .collect();
                json!({"content": content, "refusal": null})
            }
            Kind::Completion => {
                let (mut words, mut logprobs, mut tops, mut offsets) =
                    (Vec::new(), Vec::new(), Vec::new(), Vec::new());
                for t in tokens {
                    let (token, logprob, _) = entry(t.id, t.logprob);
                    offsets.push(*offset);
                    *offset += token.chars().count();
                    words.push(token);
                    logprobs.push(logprob);
                    let top: Map<String, Value> = t
                        .top
                        .iter()
                        .map(|(id, logprob)| {
                            let (token, logprob, _) = entry(*id, *logprob);
                            (token, logprob.into())
                        })
                        .collect();
                    tops.push(Value::Object(top));
                }
                json!({"tokens": words, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets})
            }
        }
    }
}

/// JSON has no infinity; OpenAI writes -9999 for the impossible.
fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() {
        logprob
    } else {
        -9999.0
    }
}
