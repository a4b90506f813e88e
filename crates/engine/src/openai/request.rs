//! Reads a chat or completion request: every member is checked, nothing that changes the answer is ignored.

use super::error::ApiError;
use super::prompt::{chat_prompt, completion_prompts};
use crate::batch::Job;
use crate::sampler::{MAX_TOP_LOGPROBS, Sampling};
use crate::stop::{MAX_STOP_BYTES, MAX_STOPS};
use crate::template::ChatTemplate;
use crate::text::Text;
use serde_json::{Map, Value};

/// Answers of one request, over all prompts. OpenAI's own limit for `n`.
pub(super) const MAX_CHOICES: usize = 128;
/// Most entries of `logit_bias`, as OpenAI.
const MAX_BIAS: usize = 300;
/// Most alternatives of the old completions endpoint.
const MAX_COMPLETION_LOGPROBS: u64 = 5;

/// Which endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completion,
}

/// What the served model allows and prefers.
pub struct Limits<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Tokens of prompt and answer together.
    pub context: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Tokens that end an answer.
    pub end_tokens: &'a [u32],
    /// The model's own sampling preferences, used where the request is silent.
    pub sampling: &'a Sampling,
}

/// A request, ready to run.
pub struct Parsed {
    /// The endpoint.
    pub kind: Kind,
    /// One job for each choice, in the order of their indices.
    pub jobs: Vec<Job>,
    /// Tokens of all prompts, each counted once whatever `n` is.
    pub prompt_tokens: usize,
    /// Server-sent events instead of one object.
    pub stream: bool,
    /// A last event with the usage.
    pub include_usage: bool,
}

impl Parsed {
    /// Parses a body.
    pub fn read(
        kind: Kind,
        body: &[u8],
        limits: &Limits<'_>,
        text: &Text,
        template: Option<&ChatTemplate>,
    ) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|e| ApiError::invalid("", format!("The body is not valid JSON: {e}.")))?;
        let Value::Object(request) = value else {
            return Err(ApiError::invalid("", "The body must be a JSON object."));
        };
        let fields = Fields(&request);
        match fields.get("model") {
            Some(Value::String(model)) if model == limits.model => {}
            Some(Value::String(model)) => return Err(ApiError::unknown_model(model)),
            _ => {
                return Err(ApiError::invalid(
                    "model",
                    "`model` must be a string and is required.",
                ));
            }
        }
        refuse_unsupported(kind, &fields)?;
        let (prompts, param) = match kind {
            Kind::Chat => (vec![chat_prompt(&fields, text, template)?], "messages"),
            Kind::Completion => (completion_prompts(&fields, text, limits)?, "prompt"),
        };
        for prompt in &prompts {
            if prompt.len() >= limits.context {
                return Err(ApiError::context_length(
                    limits.context,
                    prompt.len(),
                    param,
                ));
            }
        }
        let n = fields.integer("n", 1, MAX_CHOICES as u64)?.unwrap_or(1) as usize;
        if prompts.len() * n > MAX_CHOICES {
            let problem = format!(
                "{} prompts with `n` {n} make more than {MAX_CHOICES} answers.",
                prompts.len()
            );
            return Err(ApiError::invalid("n", problem));
        }
        if fields
            .integer("best_of", 0, u64::MAX)?
            .is_some_and(|best| best as usize > n)
        {
            return Err(ApiError::unsupported(
                "best_of",
                "`best_of` greater than `n` is not supported.",
            ));
        }
        let sampling = sampling(kind, &fields, limits)?;
        let max_tokens = max_tokens(kind, &fields)?.unwrap_or(usize::MAX);
        let stops = stops(&fields)?;
        let min_tokens = fields.integer("min_tokens", 0, u64::MAX)?.unwrap_or(0) as usize;
        let ignore_eos = fields.boolean("ignore_eos")?.unwrap_or(false);
        let jobs = prompts
            .iter()
            .flat_map(|prompt| std::iter::repeat_n(prompt, n))
            .enumerate()
            .map(|(i, prompt)| Job {
                prompt: prompt.clone(),
                max_tokens: max_tokens.min(limits.context - prompt.len()),
                min_tokens,
                end_tokens: if ignore_eos {
                    Vec::new()
                } else {
                    limits.end_tokens.to_vec()
                },
                stops: stops.clone(),
                // The choices of a seeded request differ, and are the same again next time.
                sampling: Sampling {
                    seed: sampling.seed.map(|s| s.wrapping_add(i as u64)),
                    ..sampling.clone()
                },
            })
            .collect();
        let (stream, include_usage) = streaming(&fields)?;
        Ok(Self {
            kind,
            jobs,
            prompt_tokens: prompts.iter().map(Vec::len).sum(),
            stream,
            include_usage,
        })
    }
}

/// Members of a request; `null` counts as absent, as in OpenAI's API.
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|v| !v.is_null())
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.get(name)
            .map(|v| v.as_bool().ok_or_else(|| wrong(name, "true or false", v)))
            .transpose()
    }

    fn integer(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, ApiError> {
        let expected = || {
            if max == u64::MAX {
                format!("an integer of at least {min}")
            } else {
                format!("an integer from {min} to {max}")
            }
        };
        self.get(name)
            .map(|v| {
                v.as_u64()
                    .filter(|n| (min..=max).contains(n))
                    .ok_or_else(|| wrong(name, &expected(), v))
            })
            .transpose()
    }

    fn number(&self, name: &str, min: f64, max: f64) -> Result<Option<f32>, ApiError> {
        self.get(name)
            .map(|v| {
                let number = v.as_f64().filter(|x| (min..=max).contains(x));
                number
                    .map(|x| x as f32)
                    .ok_or_else(|| wrong(name, &format!("a number from {min} to {max}"), v))
            })
            .transpose()
    }
}

pub(super) fn wrong(name: &str, expected: &str, found: &Value) -> ApiError {
    let found = match found {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(_) => "a string".to_owned(),
        other => other.to_string(),
    };
    ApiError::invalid(name, format!("`{name}` must be {expected}; found {found}."))
}

/// Members that would change the answer and are not implemented must not be dropped silently.
fn refuse_unsupported(kind: Kind, fields: &Fields<'_>) -> Result<(), ApiError> {
    for name in [
        "functions",
        "function_call",
        "audio",
        "suffix",
        "prompt_logprobs",
        "guided_json",
    ] {
        if fields.get(name).is_some() {
            return Err(ApiError::unsupported(
                name,
                format!("`{name}` is not supported by this engine."),
            ));
        }
    }
    if fields.boolean("echo")? == Some(true) {
        return Err(ApiError::unsupported(
            "echo",
            "`echo` is not supported by this engine.",
        ));
    }
    if let Some(format) = fields.get("response_format")
        && format.get("type").and_then(Value::as_str) != Some("text")
    {
        return Err(ApiError::unsupported(
            "response_format",
            "Only `response_format` {\"type\": \"text\"} is supported by this engine.",
        ));
    }
    if let Some(modalities) = fields.get("modalities")
        && modalities
            .as_array()
            .is_none_or(|list| list.iter().any(|m| m != "text"))
    {
        return Err(ApiError::unsupported(
            "modalities",
            "Only the modality \"text\" is supported by this engine.",
        ));
    }
    let choice = fields.get("tool_choice");
    if choice.is_some_and(|choice| choice != "none" && choice != "auto") {
        return Err(ApiError::unsupported(
            "tool_choice",
            "Only `tool_choice` \"auto\" or \"none\" is supported by this engine.",
        ));
    }
    if kind == Kind::Completion && fields.get("tools").is_some() {
        return Err(ApiError::unsupported(
            "tools",
            "`tools` belong to chat requests.",
        ));
    }
    Ok(())
}

fn sampling(kind: Kind, fields: &Fields<'_>, limits: &Limits<'_>) -> Result<Sampling, ApiError> {
    let own = limits.sampling;
    let logprobs = match kind {
        Kind::Chat => {
            let top = fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS as u64)?;
            match (fields.boolean("logprobs")?.unwrap_or(false), top) {
                (true, top) => Some(top.unwrap_or(0) as usize),
                (false, None | Some(0)) => None,
                (false, Some(_)) => {
                    return Err(ApiError::invalid(
                        "top_logprobs",
                        "`top_logprobs` needs `logprobs` to be true.",
                    ));
                }
            }
        }
        Kind::Completion => fields
            .integer("logprobs", 0, MAX_COMPLETION_LOGPROBS)?
            .map(|n| n as usize),
    };
    let seed = match fields.get("seed") {
        None => None,
        // Negative seeds are legal in OpenAI's API.
        Some(v) => Some(
            v.as_i64()
                .map(|s| s as u64)
                .or_else(|| v.as_u64())
                .ok_or_else(|| wrong("seed", "an integer", v))?,
        ),
    };
    Ok(Sampling {
        temperature: fields
            .number("temperature", 0.0, 2.0)?
            .unwrap_or(own.temperature),
        top_p: fields.number("top_p", 0.0, 1.0)?.unwrap_or(own.top_p),
        top_k: fields
            .get("top_k")
            .map_or(Ok(own.top_k), |v| match v.as_i64() {
                // -1 is vLLM's way to say all.
                Some(-1) => Ok(0),
                Some(k) if k >= 0 => Ok(k as usize),
                _ => Err(wrong("top_k", "an integer of at least -1", v)),
            })?,
        min_p: fields.number("min_p", 0.0, 1.0)?.unwrap_or(own.min_p),
        frequency_penalty: fields
            .number("frequency_penalty", -2.0, 2.0)?
            .unwrap_or(0.0),
        presence_penalty: fields.number("presence_penalty", -2.0, 2.0)?.unwrap_or(0.0),
        bias: bias(fields, limits.vocab_size)?,
        seed,
        logprobs,
    })
}

fn bias(fields: &Fields<'_>, vocab_size: usize) -> Result<Vec<(u32, f32)>, ApiError> {
    let name = "logit_bias";
    let map = match fields.get(name) {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) if map.len() <= MAX_BIAS => map,
        Some(other) => {
            return Err(wrong(
                name,
                &format!("an object of at most {MAX_BIAS} token ids"),
                other,
            ));
        }
    };
    map.iter()
        .map(|(id, bias)| {
            let id = id
                .parse::<u32>()
                .ok()
                .filter(|id| (*id as usize) < vocab_size);
            let bias = bias.as_f64().filter(|b| (-100.0..=100.0).contains(b));
            id.zip(bias.map(|b| b as f32)).ok_or_else(|| {
                ApiError::invalid(
                    name,
                    "`logit_bias` must map token ids to numbers from -100 to 100.",
                )
            })
        })
        .collect()
}

fn max_tokens(kind: Kind, fields: &Fields<'_>) -> Result<Option<usize>, ApiError> {
    let newer = if kind == Kind::Chat {
        fields.integer("max_completion_tokens", 1, u64::MAX)?
    } else {
        None
    };
    let older = fields.integer("max_tokens", 1, u64::MAX)?;
    Ok(newer
        .or(older)
        .map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
}

fn stops(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    let list = match fields.get("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => list
            .iter()
            .map(|v| {
                v.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| wrong("stop", "a string or an array of strings", v))
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong("stop", "a string or an array of strings", other)),
    };
    if list.len() > MAX_STOPS
        || list
            .iter()
            .any(|s| s.is_empty() || s.len() > MAX_STOP_BYTES)
    {
        let limits =
            format!("`stop` must have at most {MAX_STOPS} strings of 1 to {MAX_STOP_BYTES} bytes.");
        return Err(ApiError::invalid("stop", limits));
    }
    Ok(list)
}

fn streaming(fields: &Fields<'_>) -> Result<(bool, bool), ApiError> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let include_usage = match fields.get("stream_options") {
        None => false,
        Some(Value::Object(_)) if !stream => {
            return Err(ApiError::invalid(
                "stream_options",
                "`stream_options` needs `stream` to be true.",
            ));
        }
        Some(Value::Object(options)) => Fields(options).boolean("include_usage")?.unwrap_or(false),
        Some(other) => return Err(wrong("stream_options", "an object", other)),
    };
    Ok((stream, include_usage))
}
