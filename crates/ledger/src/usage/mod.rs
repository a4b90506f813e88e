//! What a response used: counts from the inference server, their billed form, and checks on reported figures.

mod counter;
mod reference;
mod scanner;
mod stream;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use counter::{Mode, UsageCounter};
pub use reference::MAX_REFERENCE_HOLD;
pub use scanner::MAX_DEPTH;
pub use stream::MAX_HOLD;

use crate::adjust::adjust;
use crate::units::{AdjustedTokens, Coefficient, ModelTokens, Multiplier, NanoTon};

/// The price factors of the four token classes, from the root contract; each is ×1 by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multipliers {
    /// Prompt tokens that were not in the cache.
    pub prompt: Multiplier,
    /// Prompt tokens that were in the cache.
    pub cached: Multiplier,
    /// Output tokens that are not reasoning.
    pub completion: Multiplier,
    /// Reasoning tokens.
    pub reasoning: Multiplier,
}

/// Everything that turns model tokens into money for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// Factors of the token classes.
    pub multipliers: Multipliers,
    /// What a client pays for one adjusted token.
    pub price_per_token: NanoTon,
    /// The worker's factor for this request.
    pub coefficient: Coefficient,
}

/// Running maxima of the figures the inference server reported (6.2), in model tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsage {
    /// All prompt tokens, cached ones included.
    pub prompt: ModelTokens,
    /// Prompt tokens served from a cache.
    pub cached: ModelTokens,
    /// All output tokens, reasoning included.
    pub completion: ModelTokens,
    /// Reasoning tokens.
    pub reasoning: ModelTokens,
}

impl ModelUsage {
    /// Reads a `usage` object; figures that are absent or not non-negative integers count as zero.
    pub(crate) fn from_json(usage: &Value) -> Self {
        let at = |value: &Value, key: &str| {
            ModelTokens(value.get(key).and_then(Value::as_u64).unwrap_or(0))
        };
        let nested = |outer: &str, key: &str| {
            usage
                .get(outer)
                .map_or(ModelTokens::ZERO, |details| at(details, key))
        };
        Self {
            prompt: at(usage, "prompt_tokens"),
            cached: nested("prompt_tokens_details", "cached_tokens"),
            completion: at(usage, "completion_tokens"),
            reasoning: at(usage, "reasoning_tokens")
                .max(nested("completion_tokens_details", "reasoning_tokens")),
        }
    }

    /// Raises each figure to that of `seen`; true if at least one rose.
    pub fn raise(&mut self, seen: &Self) -> bool {
        let before = *self;
        self.prompt = self.prompt.max(seen.prompt);
        self.cached = self.cached.max(seen.cached);
        self.completion = self.completion.max(seen.completion);
        self.reasoning = self.reasoning.max(seen.reasoning);
        *self != before
    }

    /// The billed form (6.2).
    ///
    /// A server that reports more cached than prompt tokens, or more reasoning than output, would give a negative
    /// class; the difference is taken as zero then, so that the result always passes [`TokensUsed::validate`].
    #[must_use]
    pub fn adjusted(&self, prices: &Prices) -> TokensUsed {
        let class = |tokens, multiplier| {
            // At most MAX_ADJUSTED, which fits.
            adjust(tokens, prices.coefficient, multiplier).0 as i64
        };
        let m = &prices.multipliers;
        let prompt = class(self.prompt.saturating_sub(self.cached), m.prompt);
        let cached = class(self.cached, m.cached);
        let completion = class(self.completion.saturating_sub(self.reasoning), m.completion);
        let reasoning = class(self.reasoning, m.reasoning);
        // Four times at most a quarter of i64::MAX.
        TokensUsed {
            prompt,
            cached,
            completion,
            reasoning,
            total: prompt + cached + completion + reasoning,
        }
    }
}

/// The figures of the wire's `tokensUsed`: adjusted tokens by class and their sum, signed as on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokensUsed {
    /// Prompt tokens outside the cache.
    pub prompt: i64,
    /// Prompt tokens from the cache.
    pub cached: i64,
    /// Output tokens that are not reasoning.
    pub completion: i64,
    /// Reasoning tokens.
    pub reasoning: i64,
    /// The sum of the four.
    pub total: i64,
}

/// Why reported usage is not booked (11 #6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// A figure is below zero.
    #[error("reported usage is negative: {class} tokens = {found}")]
    Negative {
        /// Which figure.
        class: &'static str,
        /// Its value.
        found: i64,
    },
    /// The total is not the sum of the classes.
    #[error("reported usage does not add up: total = {found}, sum of the classes = {expected}")]
    Sum {
        /// The sum of the four classes.
        expected: i128,
        /// The reported total.
        found: i64,
    },
    /// The total is above what the request may use.
    #[error("reported usage is above the limit of the request: total = {found}, limit = {limit}")]
    AboveBound {
        /// What was allowed.
        limit: u64,
        /// The reported total.
        found: i64,
    },
}

impl TokensUsed {
    /// Checks figures from a peer: non-negative, adding up, and a total of at most `limit`. Returns the total.
    pub fn validate(&self, limit: AdjustedTokens) -> Result<AdjustedTokens, UsageError> {
        let classes = [
            ("prompt", self.prompt),
            ("cached", self.cached),
            ("completion", self.completion),
            ("reasoning", self.reasoning),
        ];
        if let Some((class, found)) = classes.into_iter().find(|(_, value)| *value < 0) {
            return Err(UsageError::Negative { class, found });
        }
        let expected: i128 = classes.iter().map(|(_, value)| i128::from(*value)).sum();
        if expected != i128::from(self.total) {
            return Err(UsageError::Sum {
                expected,
                found: self.total,
            });
        }
        match u64::try_from(self.total) {
            Ok(total) if total <= limit.0 => Ok(AdjustedTokens(total)),
            _ => Err(UsageError::AboveBound {
                limit: limit.0,
                found: self.total,
            }),
        }
    }
}

/// Names of the members that the counter adds to a `usage` object (6.3 item 3), sorted.
const COST_MEMBERS: [&str; 3] = ["completion_total_cost", "prompt_total_cost", "total_cost"];

/// The values of [`COST_MEMBERS`] in nano TON; amounts beyond 64 bits are cut to the largest number.
fn costs(usage: &TokensUsed, price: NanoTon) -> [u64; 3] {
    let cost = |tokens: i64| {
        let nano = u128::try_from(tokens).unwrap_or(0).saturating_mul(price.0);
        u64::try_from(nano).unwrap_or(u64::MAX)
    };
    [
        cost(usage.completion.saturating_add(usage.reasoning)),
        cost(usage.prompt.saturating_add(usage.cached)),
        cost(usage.total),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const USED: TokensUsed = TokensUsed {
        prompt: 1,
        cached: 2,
        completion: 3,
        reasoning: 4,
        total: 10,
    };

    #[test]
    fn sound_usage_passes() {
        assert_eq!(USED.validate(AdjustedTokens(10)), Ok(AdjustedTokens(10)));
    }

    #[test]
    fn unsound_usage_is_refused() {
        assert!(matches!(
            USED.validate(AdjustedTokens(9)),
            Err(UsageError::AboveBound { .. })
        ));
        let sum = TokensUsed { total: 11, ..USED };
        assert!(matches!(
            sum.validate(AdjustedTokens(99)),
            Err(UsageError::Sum { .. })
        ));
        let negative = TokensUsed {
            cached: -2,
            total: 6,
            ..USED
        };
        assert!(matches!(
            negative.validate(AdjustedTokens(99)),
            Err(UsageError::Negative { .. })
        ));
        let wrapping = TokensUsed {
            prompt: i64::MAX,
            cached: i64::MAX,
            completion: 2,
            reasoning: 0,
            total: 0,
        };
        assert!(matches!(
            wrapping.validate(AdjustedTokens(99)),
            Err(UsageError::Sum { .. })
        ));
    }

    #[test]
    fn more_cached_than_prompt_is_not_negative() {
        let prices = Prices {
            multipliers: Multipliers::default(),
            price_per_token: NanoTon(1),
            coefficient: Coefficient::ONE,
        };
        let usage = ModelUsage {
            cached: ModelTokens(9),
            prompt: ModelTokens(2),
            ..Default::default()
        };
        assert!(usage.adjusted(&prices).validate(AdjustedTokens(9)).is_ok());
    }
}
