//! The table of members and their types.

use serde_json::Value;

use super::{Rules, ValidateError, shown};

/// What the URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
}

impl Endpoint {
    /// The required member besides `model`.
    pub(super) const fn subject(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Completions => "prompt",
            Self::Embeddings => "input",
        }
    }
}

/// What a member may hold.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Anything,
    Text,
    Flag,
    Number,
    /// A number between −2 and 2.
    Penalty,
    Integer,
    /// An integer ≥ 0.
    Count,
    /// An integer ≥ 0; errors name `max_completion_tokens` whichever of the two limits it was, as the reference does.
    Limit,
    /// An integer ≥ 1.
    Positive,
    List,
    Object,
    ListOrText,
    TextOrObject,
    /// The reference takes a number here and says it wants a boolean.
    NumberCalledFlag,
    StreamOptions,
    TemplateOptions,
}

/// Checks one member; `name` is foreign.
pub(super) fn check_member(
    endpoint: Endpoint,
    rules: Rules,
    name: &str,
    value: &Value,
) -> Result<(), ValidateError> {
    match kind_of(endpoint, rules, name) {
        Some((name, kind)) => check(name, kind, value, rules),
        None => Err(ValidateError::UnknownOption(shown(name))),
    }
}

type Entry = (&'static str, Kind);

fn kind_of(endpoint: Endpoint, rules: Rules, name: &str) -> Option<Entry> {
    let find = |table: &[Entry]| table.iter().copied().find(|(known, _)| *known == name);
    let own = match endpoint {
        Endpoint::Chat => CHAT,
        Endpoint::Completions => COMPLETIONS,
        Endpoint::Embeddings => return find(EMBEDDINGS),
    };
    let extra = match (rules, endpoint) {
        (Rules::Reference, _) => None,
        (Rules::OpenAi, Endpoint::Chat) => find(CHAT_OPENAI),
        (Rules::OpenAi, _) => find(COMPLETIONS_OPENAI),
    };
    extra.or_else(|| find(own)).or_else(|| find(BOTH))
}

/// Members of both endpoints of the reference.
const BOTH: &[Entry] = &[
    ("model", Kind::Text),
    ("frequency_penalty", Kind::Penalty),
    ("presence_penalty", Kind::Number),
    ("max_tokens", Kind::Limit),
    ("n", Kind::Positive),
    ("stop", Kind::Anything),
    ("stream", Kind::Flag),
    ("stream_options", Kind::StreamOptions),
    ("temperature", Kind::Number),
    ("top_p", Kind::Number),
];

const CHAT: &[Entry] = &[
    ("messages", Kind::List),
    ("max_completion_tokens", Kind::Limit),
    ("parallel_tool_calls", Kind::Flag),
    ("prediction", Kind::NumberCalledFlag),
    ("reasoning_effort", Kind::Text),
    ("response_format", Kind::Anything),
    ("top_logprobs", Kind::Count),
    ("verbosity", Kind::Text),
    ("chat_template_kwargs", Kind::TemplateOptions),
];

const COMPLETIONS: &[Entry] = &[
    ("prompt", Kind::ListOrText),
    ("best_of", Kind::Count),
    ("echo", Kind::Flag),
    ("seed", Kind::Integer),
    ("suffix", Kind::Flag),
    ("skip_special_tokens", Kind::Flag),
];

/// What our rules add to, or say differently from, [`CHAT`].
const CHAT_OPENAI: &[Entry] = &[
    ("audio", Kind::Object),
    ("function_call", Kind::TextOrObject),
    ("functions", Kind::List),
    ("logit_bias", Kind::Object),
    ("logprobs", Kind::Flag),
    ("metadata", Kind::Object),
    ("modalities", Kind::List),
    ("prediction", Kind::Object),
    ("presence_penalty", Kind::Penalty),
    ("prompt_cache_key", Kind::Text),
    ("response_format", Kind::Object),
    ("safety_identifier", Kind::Text),
    ("seed", Kind::Integer),
    ("service_tier", Kind::Text),
    ("store", Kind::Flag),
    ("tool_choice", Kind::TextOrObject),
    ("tools", Kind::List),
    ("user", Kind::Text),
    ("web_search_options", Kind::Object),
];

/// What our rules add to, or say differently from, [`COMPLETIONS`].
const COMPLETIONS_OPENAI: &[Entry] = &[
    ("logit_bias", Kind::Object),
    ("logprobs", Kind::Count),
    ("metadata", Kind::Object),
    ("presence_penalty", Kind::Penalty),
    ("response_format", Kind::Object),
    ("store", Kind::Flag),
    ("suffix", Kind::Text),
    ("user", Kind::Text),
];

const EMBEDDINGS: &[Entry] = &[
    ("dimensions", Kind::Positive),
    ("encoding_format", Kind::Text),
    ("input", Kind::ListOrText),
    ("model", Kind::Text),
    ("user", Kind::Text),
];

fn check(name: &'static str, kind: Kind, value: &Value, rules: Rules) -> Result<(), ValidateError> {
    let integer = value.is_i64() || value.is_u64();
    let (fits, wanted) = match kind {
        Kind::Anything => (true, ""),
        Kind::Text => (value.is_string(), "a string"),
        Kind::Flag => (value.is_boolean(), "a boolean"),
        Kind::NumberCalledFlag => (value.is_number(), "a boolean"),
        Kind::Number | Kind::Penalty => (value.is_number(), "a number"),
        Kind::Integer | Kind::Count | Kind::Limit | Kind::Positive => (integer, "a number"),
        Kind::List => (value.is_array(), "an array"),
        Kind::Object | Kind::StreamOptions | Kind::TemplateOptions => {
            (value.is_object(), "an object")
        }
        Kind::ListOrText => (
            value.is_array() || value.is_string(),
            "an array or a string",
        ),
        Kind::TextOrObject => (
            value.is_string() || value.is_object(),
            "a string or an object",
        ),
    };
    let limit_name = match (kind, rules) {
        (Kind::Limit, Rules::Reference) => "max_completion_tokens",
        _ => name,
    };
    if !fits {
        return Err(ValidateError::WrongType(limit_name, wanted));
    }
    match kind {
        Kind::Penalty
            if !value
                .as_f64()
                .is_some_and(|number| (-2.0..=2.0).contains(&number)) =>
        {
            Err(ValidateError::OutOfRange(name, "between -2.0 and 2.0"))
        }
        Kind::Count | Kind::Limit if value.as_u64().is_none() => {
            Err(ValidateError::OutOfRange(limit_name, "non-negative"))
        }
        Kind::Positive if value.as_u64().is_none_or(|number| number == 0) => {
            Err(ValidateError::OutOfRange(name, "positive"))
        }
        Kind::StreamOptions => members(
            value,
            &["include_obfuscation", "include_usage"],
            ValidateError::UnknownStreamOption,
        ),
        Kind::TemplateOptions => members(value, &["enable_thinking"], |unknown| {
            ValidateError::UnknownTemplateOption(unknown)
        }),
        _ => Ok(()),
    }
}

/// An object that holds only these flags.
fn members(
    value: &Value,
    known: &[&'static str],
    unknown: impl Fn(String) -> ValidateError,
) -> Result<(), ValidateError> {
    let mut entries: Vec<_> = value.as_object().into_iter().flatten().collect();
    entries.sort_unstable_by_key(|entry| entry.0);
    for (name, flag) in entries {
        let Some(name) = known.iter().find(|known| **known == name.as_str()) else {
            return Err(unknown(shown(name)));
        };
        if !flag.is_boolean() {
            return Err(ValidateError::WrongType(name, "a boolean"));
        }
    }
    Ok(())
}
