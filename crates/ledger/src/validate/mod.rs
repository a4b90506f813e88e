//! Which inference requests a worker accepts, and how it rewrites them (section 7).

mod budget;
mod rules;

use serde_json::{Map, Value};

use crate::canonical::to_canonical_json;
use rules::Endpoint;

/// The largest request body accepted: what fits in one frame of the peer protocol.
pub const MAX_BODY_BYTES: usize = 1 << 24;

/// The most answers one request may ask for, prompts × `n`; OpenAI's own limit for `n`. Not applied by
/// [`Rules::Reference`].
pub const MAX_CHOICES: u64 = 128;

/// The code of every refusal: the request breaks the protocol (1.8).
pub const VALIDATION_CODE: i32 = 621;

/// How much of a foreign name is repeated in an error.
const MAX_NAME_SHOWN: usize = 128;

/// Which set of rules applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Exactly what the reference worker accepts, with its texts.
    Reference,
    /// What OpenAI's API defines: also tools, log probabilities, `seed` in chat, metadata, the right types of
    /// `prediction` and `suffix`, the embeddings endpoint, and null for any optional member (taken as absent).
    OpenAi,
}

/// A request that may be sent to the inference server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedRequest {
    /// The model asked for, as the inference server knows it.
    pub model: String,
    /// True if the answer is to be an event stream.
    pub stream: bool,
    /// The output limit of each choice after the budget was applied; `None` if there is none.
    pub max_tokens: Option<u64>,
    /// How many outputs are generated: prompts × the larger of `n` and `best_of`.
    pub n: u64,
    /// The body to send: compact, keys sorted.
    pub body: Vec<u8>,
}

/// Why a request is refused. The text goes to the client; [`ValidateError::reply`] adds the worker's prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// The URL is none of the supported ones.
    #[error("unsupported method")]
    UnsupportedMethod,
    /// The body is above [`MAX_BODY_BYTES`].
    #[error("request body of {0} bytes is above the limit of {MAX_BODY_BYTES} bytes")]
    TooLarge(usize),
    /// The body is not JSON, or not an object.
    #[error("expected json object")]
    NotAnObject,
    /// A member that the rules do not list.
    #[error("unknown option '{0}' in request")]
    UnknownOption(String),
    /// A member of `stream_options` that the rules do not list.
    #[error("unknown option '{0}' in stream_options")]
    UnknownStreamOption(String),
    /// A member of `chat_template_kwargs` that the rules do not list.
    #[error("unknown suboption '{0}' in chat_template_kwargs in request")]
    UnknownTemplateOption(String),
    /// A member of the wrong type; the second text is the right one with its article.
    #[error("{0} must be {1}")]
    WrongType(&'static str, &'static str),
    /// A number outside its range; the second text is the range.
    #[error("{0} must be {1}")]
    OutOfRange(&'static str, &'static str),
    /// A member is missing.
    #[error("missing required field '{0}'")]
    Missing(&'static str),
    /// The model is not the worker's.
    #[error("model name mismatch")]
    ModelMismatch,
    /// More outputs than [`MAX_CHOICES`].
    #[error(
        "request asks for {0} outputs (prompts x the larger of n and best_of), the limit is {MAX_CHOICES}"
    )]
    TooManyChoices(u64),
    /// The budget does not even cover one token of each output.
    #[error(
        "token budget of {budget} is too small for {choices} outputs; lower n or raise max_tokens"
    )]
    BudgetTooSmall {
        /// The output tokens allowed.
        budget: u64,
        /// The outputs asked for.
        choices: u64,
    },
}

impl ValidateError {
    /// The text as a worker reports it to the proxy.
    #[must_use]
    pub fn reply(&self) -> String {
        format!("worker: invalid http request: {self}")
    }

    /// The code as a worker reports it to the proxy: always [`VALIDATION_CODE`].
    #[must_use]
    pub const fn code(&self) -> i32 {
        VALIDATION_CODE
    }
}

/// The base name of a model: the text before the first `@`.
#[must_use]
pub fn base_model_name(model: &str) -> &str {
    model.split('@').next().unwrap_or(model)
}

/// Checks a request and rewrites its body.
///
/// * `url`: as received; whatever stands before the first `/` is ignored.
/// * `model`: the worker's base model name, which the request must name.
/// * `budget`: the output tokens the whole request may use. Each output gets an equal part of it: `max_tokens` and
///   `max_completion_tokens` are lowered to that part, and `max_tokens` is added where both are absent (11 #3).
///   `None` leaves the limits alone, as the reference does.
pub fn validate(
    url: &str,
    body: &[u8],
    model: &str,
    rules: Rules,
    budget: Option<u64>,
) -> Result<ValidatedRequest, ValidateError> {
    let path = url.find('/').map_or("", |slash| &url[slash..]);
    let endpoint = match (path, rules) {
        ("/v1/chat/completions", _) => Endpoint::Chat,
        ("/v1/completions", _) => Endpoint::Completions,
        ("/v1/embeddings", Rules::OpenAi) => Endpoint::Embeddings,
        _ => return Err(ValidateError::UnsupportedMethod),
    };
    if body.len() > MAX_BODY_BYTES {
        return Err(ValidateError::TooLarge(body.len()));
    }
    let Ok(Value::Object(mut request)) = serde_json::from_slice(body) else {
        return Err(ValidateError::NotAnObject);
    };
    if rules == Rules::OpenAi {
        drop_nulls(&mut request);
    }
    let mut names: Vec<&String> = request.keys().collect();
    names.sort_unstable();
    for name in names {
        rules::check_member(endpoint, rules, name, &request[name])?;
    }
    for required in [endpoint.subject(), "model"] {
        if !request.contains_key(required) {
            return Err(ValidateError::Missing(required));
        }
    }
    if request.get("model").and_then(Value::as_str) != Some(model) {
        return Err(ValidateError::ModelMismatch);
    }
    if endpoint == Endpoint::Embeddings {
        return Ok(ValidatedRequest {
            model: model.to_owned(),
            stream: false,
            max_tokens: None,
            n: 1,
            body: to_canonical_json(&Value::Object(request)),
        });
    }
    let stream = force_usage(&mut request);
    let n = budget::outputs(&request);
    if rules == Rules::OpenAi && n > MAX_CHOICES {
        return Err(ValidateError::TooManyChoices(n));
    }
    let max_tokens = match budget {
        Some(budget) => Some(budget::cap(&mut request, budget, n)?),
        None => budget::stated(&request),
    };
    Ok(ValidatedRequest {
        model: model.to_owned(),
        stream,
        max_tokens,
        n,
        body: to_canonical_json(&Value::Object(request)),
    })
}

/// Null means absent in OpenAI's API, and clients do send it; servers differ in what they make of it.
fn drop_nulls(request: &mut Map<String, Value>) {
    let nulls: Vec<String> = request
        .iter()
        .filter(|(_, value)| value.is_null())
        .map(|(name, _)| name.clone())
        .collect();
    for name in nulls {
        request.remove(&name);
    }
}

/// Makes a stream report its usage, without which it could not be billed. Returns whether the answer is a stream.
fn force_usage(request: &mut Map<String, Value>) -> bool {
    let include = || ("include_usage".to_owned(), Value::Bool(true));
    let stated = request.get("stream").and_then(Value::as_bool);
    match request.get_mut("stream_options") {
        Some(Value::Object(options)) => {
            options.extend([include()]);
            if stated.is_none() {
                request.insert("stream".to_owned(), Value::Bool(true));
            }
            stated.unwrap_or(true)
        }
        _ if stated == Some(true) => {
            let options = Map::from_iter([include()]);
            request.insert("stream_options".to_owned(), Value::Object(options));
            true
        }
        _ => false,
    }
}

/// A foreign name, cut to what an error may carry.
fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME_SHOWN).collect()
}

#[cfg(test)]
mod tests;
