//! What a client may spend at a proxy, and what a request sets aside until it ends (5.2).

use serde::{Deserialize, Serialize};

use crate::adjust::{adjust, adjust_up};
use crate::units::{AdjustedTokens, Coefficient, ModelTokens, Multiplier, NanoTon, UnitError};
use crate::usage::Multipliers;

/// What a division by a price of zero yields in tokens (3.8, 5.2).
pub const FREE_TOKENS: u64 = 1_000_000_000_000;

/// The highest output budget a request may name, model tokens: far above any model's context, and small enough that
/// a reservation is never near an overflow.
pub const MAX_OUTPUT_TOKENS: u64 = 100_000_000;

/// Why a request is not reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// A number of the request is outside its range (11 #4).
    #[error("{name} must be between {min} and {max}, found {found}")]
    OutOfRange {
        /// The field.
        name: &'static str,
        /// Its smallest value.
        min: u64,
        /// Its largest value.
        max: u64,
        /// What the peer sent.
        found: i128,
    },
    /// The reservation is above what is available.
    #[error("balance is too low: the request needs {needed} tokens, {available} are available")]
    TooLow {
        /// What the request would set aside.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// More is released than was reserved: a fault of the caller.
    #[error("released {released} tokens although only {reserved} are reserved")]
    NotReserved {
        /// What was to be released.
        released: u64,
        /// What is reserved.
        reserved: u64,
    },
    /// A total left the range of its type.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

/// `money / price` in tokens, with the reference's value for a price of zero.
#[must_use]
pub fn tokens_for(money: NanoTon, price: NanoTon) -> AdjustedTokens {
    if price.is_zero() {
        return AdjustedTokens(FREE_TOKENS);
    }
    money.tokens_at(price).unwrap_or(AdjustedTokens(u64::MAX))
}

/// The last values of a client's contract that were seen on chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainAccount {
    /// Tokens already charged.
    pub used: AdjustedTokens,
    /// Money that can be charged.
    pub balance: NanoTon,
    /// Money set aside by the client as a security.
    pub stake: NanoTon,
}

/// A proxy's book on what one client may still use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientBook {
    /// What the chain says.
    pub chain: ChainAccount,
    /// The proxy's own running total.
    pub used: AdjustedTokens,
    /// The sum of all open reservations.
    pub reserved: AdjustedTokens,
}

impl ClientBook {
    /// Tokens that balance and use add up to: `used + balance / price` of the contract.
    #[must_use]
    pub fn paid(&self, price: NanoTon) -> AdjustedTokens {
        AdjustedTokens(
            self.chain
                .used
                .0
                .saturating_add(tokens_for(self.chain.balance, price).0),
        )
    }

    /// The formula of 5.2 as it stands; negative when a client has used more than it may.
    #[must_use]
    pub fn available_signed(&self, price: NanoTon) -> i128 {
        let secured =
            i128::from(self.chain.used.0) + i128::from(tokens_for(self.chain.stake, price).0);
        let limit = i128::from(self.paid(price).0).min(secured);
        limit - i128::from(self.reserved.0) - i128::from(self.used.0)
    }

    /// What the client may still reserve; zero when it is in debt.
    #[must_use]
    pub fn available(&self, price: NanoTon) -> AdjustedTokens {
        let value = self.available_signed(price).max(0);
        AdjustedTokens(u64::try_from(value).unwrap_or(u64::MAX))
    }

    /// Sets `amount` aside, or says that there is not enough.
    pub fn reserve(&mut self, amount: AdjustedTokens, price: NanoTon) -> Result<(), ReserveError> {
        let available = self.available(price);
        if amount > available {
            return Err(ReserveError::TooLow {
                needed: amount.0,
                available: available.0,
            });
        }
        self.reserved = self.reserved.checked_add(amount)?;
        Ok(())
    }

    /// Ends a request: gives its reservation back and books what it used. Changes nothing on an error.
    pub fn finish(
        &mut self,
        reserved: AdjustedTokens,
        used: AdjustedTokens,
    ) -> Result<(), ReserveError> {
        if reserved > self.reserved {
            return Err(ReserveError::NotReserved {
                released: reserved.0,
                reserved: self.reserved.0,
            });
        }
        let total = self.used.checked_add(used)?;
        self.reserved = self.reserved.checked_sub(reserved)?;
        self.used = total;
        Ok(())
    }
}

/// The figures of a request that its reservation depends on, within their ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Bytes of the serialised request; an upper bound of its prompt tokens.
    pub query_bytes: u64,
    /// Output tokens of each choice.
    pub max_tokens: u64,
    /// Choices (see [`ValidatedRequest::n`](crate::validate::ValidatedRequest::n)).
    pub n: u64,
    /// The highest coefficient the client accepts.
    pub max_coefficient: Coefficient,
}

impl Demand {
    /// Takes the numbers as a peer sent them and refuses negative and absurd ones (11 #4).
    pub fn from_wire(
        query_bytes: usize,
        max_tokens: i64,
        n: u64,
        max_coefficient: i64,
    ) -> Result<Self, ReserveError> {
        let range = |name, min: u64, max: u64, found: i128| {
            if found < i128::from(min) || found > i128::from(max) {
                return Err(ReserveError::OutOfRange {
                    name,
                    min,
                    max,
                    found,
                });
            }
            Ok(())
        };
        range("max_tokens", 0, MAX_OUTPUT_TOKENS, i128::from(max_tokens))?;
        range("n", 1, crate::validate::MAX_CHOICES, i128::from(n))?;
        Ok(Self {
            query_bytes: query_bytes as u64,
            max_tokens: max_tokens.unsigned_abs(),
            n,
            max_coefficient: Coefficient::from_wire(max_coefficient)?,
        })
    }

    /// The reservation of 5.2: `n` and the multipliers are not looked at.
    #[must_use]
    pub fn to_reserve_reference(&self) -> AdjustedTokens {
        let tokens = ModelTokens(self.max_tokens.saturating_add(self.query_bytes));
        adjust(tokens, self.max_coefficient, Multiplier::ONE)
    }

    /// Our reservation (11 #3): every choice may reach its limit, each class counts with its dearest multiplier and
    /// at least ×1, and fractions are rounded up. Never below [`Self::to_reserve_reference`], and never below what a
    /// response within the limits is billed.
    #[must_use]
    pub fn to_reserve(&self, multipliers: &Multipliers) -> AdjustedTokens {
        self.class_sum(multipliers).max(self.to_reserve_reference())
    }

    fn class_sum(&self, multipliers: &Multipliers) -> AdjustedTokens {
        let input = at_least_one(multipliers.prompt.max(multipliers.cached));
        let output = at_least_one(multipliers.completion.max(multipliers.reasoning));
        let class =
            |tokens, multiplier| adjust_up(ModelTokens(tokens), self.max_coefficient, multiplier).0;
        AdjustedTokens(
            class(self.query_bytes, input)
                .saturating_add(class(self.max_tokens.saturating_mul(self.n), output)),
        )
    }

    /// How many output tokens in total a reservation of `available` tokens would allow for this request, at most
    /// what it asks for. For a token budget that lets a poor client finish instead of refusing it.
    #[must_use]
    pub fn affordable_output(&self, available: AdjustedTokens, multipliers: &Multipliers) -> u64 {
        let whole = self.max_tokens.saturating_mul(self.n);
        let (mut low, mut high) = (0, whole);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let trial = Self {
                max_tokens: middle,
                n: 1,
                ..*self
            };
            if trial.to_reserve(multipliers) <= available {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}

fn at_least_one(multiplier: Multiplier) -> Multiplier {
    multiplier.max(Multiplier::ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> ClientBook {
        ClientBook {
            chain: ChainAccount {
                used: AdjustedTokens(100),
                balance: NanoTon(2_000),
                stake: NanoTon(1_000),
            },
            used: AdjustedTokens(120),
            reserved: AdjustedTokens(5),
        }
    }

    #[test]
    fn available_follows_the_formula() {
        // min(100 + 2000/20, 1000/20 + 100) - 5 - 120
        assert_eq!(book().available_signed(NanoTon(20)), 25);
        assert_eq!(book().available(NanoTon(0)).0, FREE_TOKENS + 100 - 125);
        let debt = ClientBook {
            used: AdjustedTokens(1_000),
            ..book()
        };
        assert_eq!(debt.available(NanoTon(20)), AdjustedTokens(0));
        assert!(debt.available_signed(NanoTon(20)) < 0);
    }

    #[test]
    fn reservations_are_given_back_once() {
        let mut book = book();
        assert!(book.reserve(AdjustedTokens(26), NanoTon(20)).is_err());
        book.reserve(AdjustedTokens(25), NanoTon(20)).unwrap();
        book.finish(AdjustedTokens(25), AdjustedTokens(7)).unwrap();
        assert_eq!((book.used.0, book.reserved.0), (127, 5));
        assert!(book.finish(AdjustedTokens(6), AdjustedTokens(1)).is_err());
        assert_eq!((book.used.0, book.reserved.0), (127, 5));
    }

    #[test]
    fn demands_from_the_wire_have_ranges() {
        assert!(Demand::from_wire(10, -1, 1, 1000).is_err());
        assert!(Demand::from_wire(10, 1, 1, -1).is_err());
        assert!(Demand::from_wire(10, 1, 0, 1000).is_err());
        assert!(Demand::from_wire(10, i64::MAX, 1, 1000).is_err());
        let demand = Demand::from_wire(100, 1000, 1, 4000).unwrap();
        assert_eq!(demand.to_reserve_reference(), AdjustedTokens(4400));
        let dear = Multipliers {
            reasoning: Multiplier(80_000),
            ..Default::default()
        };
        let two = Demand { n: 2, ..demand };
        assert_eq!(
            two.to_reserve(&dear),
            AdjustedTokens(400 + 2 * 1000 * 4 * 8)
        );
    }

    #[test]
    fn affordable_output_is_exactly_the_limit() {
        let demand = Demand::from_wire(100, 1000, 2, 1000).unwrap();
        let ones = Multipliers::default();
        assert_eq!(demand.affordable_output(AdjustedTokens(600), &ones), 500);
        assert_eq!(demand.affordable_output(AdjustedTokens(50), &ones), 0);
        assert_eq!(demand.affordable_output(AdjustedTokens(9999), &ones), 2000);
    }
}
