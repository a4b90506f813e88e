//! How many outputs a request makes, and how many tokens each may have.

use serde_json::{Map, Value};

use super::ValidateError;

const LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// Prompts × the larger of `n` and `best_of`; saturating, at least 1.
pub(super) fn outputs(request: &Map<String, Value>) -> u64 {
    let number = |name: &str| {
        request
            .get(name)
            .and_then(Value::as_u64)
            .unwrap_or(1)
            .max(1)
    };
    // A list of strings or of token lists is several prompts; a list of tokens is one.
    let prompts = match request.get("prompt") {
        Some(Value::Array(items))
            if items.iter().any(|item| item.is_string() || item.is_array()) =>
        {
            items.len() as u64
        }
        _ => 1,
    };
    number("n").max(number("best_of")).saturating_mul(prompts)
}

/// The limit for each output that the request states. Of two the larger one, since servers differ in which counts.
pub(super) fn stated(request: &Map<String, Value>) -> Option<u64> {
    LIMITS
        .iter()
        .filter_map(|name| request.get(*name)?.as_u64())
        .max()
}

/// Lowers the limits so that all outputs together stay within `budget`; returns the limit of each output.
pub(super) fn cap(
    request: &mut Map<String, Value>,
    budget: u64,
    outputs: u64,
) -> Result<u64, ValidateError> {
    let share = budget / outputs.max(1);
    // A request that asks for no output needs no budget.
    if share == 0 && stated(request) != Some(0) {
        return Err(ValidateError::BudgetTooSmall {
            budget,
            choices: outputs,
        });
    }
    for name in LIMITS {
        if let Some(limit) = request.get_mut(name)
            && limit.as_u64().is_none_or(|limit| limit > share)
        {
            *limit = Value::from(share);
        }
    }
    Ok(stated(request).unwrap_or_else(|| {
        request.insert("max_tokens".to_owned(), Value::from(share));
        share
    }))
}
