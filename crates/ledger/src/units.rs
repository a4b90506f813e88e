//! The units of the books as types, with arithmetic that fails instead of wrapping.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an operation on units has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The result is above the largest value of the unit.
    #[error("{unit} overflow in {operation}")]
    Overflow {
        /// The unit of the result.
        unit: &'static str,
        /// The operation that was attempted.
        operation: &'static str,
    },
    /// The result would be below zero.
    #[error("{unit} would become negative: {left} - {right}")]
    Negative {
        /// The unit of the result.
        unit: &'static str,
        /// What was there.
        left: u128,
        /// What was to be taken away.
        right: u128,
    },
    /// A number is outside the range of the unit.
    #[error("{unit} must be between 0 and {max}, found {found}")]
    OutOfRange {
        /// The unit.
        unit: &'static str,
        /// The largest value allowed.
        max: i128,
        /// What was given.
        found: i128,
    },
    /// A text is not an amount of TON.
    #[error("not an amount of TON: '{0}' (write for example 1.5, with at most nine decimals)")]
    NotAnAmount(String),
}

/// The largest coefficient: the reference reads nine decimal digits of thousandths.
pub const MAX_COEFFICIENT: u32 = 999_999_999;

/// Nano TON in one TON.
pub const NANO_PER_TON: u128 = 1_000_000_000;

macro_rules! amount {
    ($(#[$meta:meta])* $name:ident, $inner:ty, $unit:literal) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// Sum, or an overflow error.
            pub fn checked_add(self, other: Self) -> Result<Self, UnitError> {
                self.0.checked_add(other.0).map(Self).ok_or(UnitError::Overflow {
                    unit: $unit,
                    operation: "addition",
                })
            }

            /// Difference, or an error when `other` is larger.
            pub fn checked_sub(self, other: Self) -> Result<Self, UnitError> {
                self.0.checked_sub(other.0).map(Self).ok_or(UnitError::Negative {
                    unit: $unit,
                    left: u128::from(self.0),
                    right: u128::from(other.0),
                })
            }

            /// Product with a plain number, or an overflow error.
            pub fn checked_mul(self, factor: u64) -> Result<Self, UnitError> {
                self.0
                    .checked_mul(<$inner>::from(factor))
                    .map(Self)
                    .ok_or(UnitError::Overflow { unit: $unit, operation: "multiplication" })
            }

            /// Difference, zero when `other` is larger. For comparisons with thresholds, not for books.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// True for zero.
            #[must_use]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }
    };
}

amount!(
    /// An amount of money in 10⁻⁹ TON.
    ///
    /// Serialised as a plain number. All TON in existence is below 2⁶³ nano, so readers with 64 bits are safe.
    NanoTon,
    u128,
    "nanoTON"
);
amount!(
    /// Billed tokens: model tokens after coefficient and multiplier. The unit of every payment.
    AdjustedTokens,
    u64,
    "adjusted tokens"
);
amount!(
    /// Tokens as the inference server counts them.
    ModelTokens,
    u64,
    "model tokens"
);

impl NanoTon {
    /// Whole TON as nano TON.
    #[must_use]
    pub const fn from_ton(ton: u64) -> Self {
        Self(ton as u128 * NANO_PER_TON)
    }

    /// Reads a decimal amount of TON such as `1.5`, without sign, with at most nine decimals.
    pub fn parse_ton(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::NotAnAmount(text.chars().take(40).collect());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let empty_part = whole.is_empty() || (text.contains('.') && fraction.is_empty());
        if empty_part || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
            return Err(bad());
        }
        let whole: u128 = whole.parse().map_err(|_| bad())?;
        let fraction: u128 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
        whole
            .checked_mul(NANO_PER_TON)
            .and_then(|nano| nano.checked_add(fraction))
            .map(Self)
            .ok_or_else(bad)
    }

    /// How many tokens this amount buys, rounded down; `None` when the price is zero or the count exceeds 64 bits.
    #[must_use]
    pub fn tokens_at(self, price: NanoTon) -> Option<AdjustedTokens> {
        let count = self.0.checked_div(price.0)?;
        u64::try_from(count).ok().map(AdjustedTokens)
    }
}

impl AdjustedTokens {
    /// What these tokens cost at a price per token.
    pub fn cost(self, price: NanoTon) -> Result<NanoTon, UnitError> {
        price.checked_mul(self.0)
    }

    /// The value as the signed 64 bit integer of the wire and of contracts.
    pub fn to_wire(self) -> Result<i64, UnitError> {
        i64::try_from(self.0).map_err(|_| UnitError::Overflow {
            unit: "adjusted tokens",
            operation: "conversion to 64 bit signed",
        })
    }

    /// A value from the wire; negative numbers are refused.
    pub fn from_wire(value: i64) -> Result<Self, UnitError> {
        u64::try_from(value)
            .map(Self)
            .map_err(|_| UnitError::OutOfRange {
                unit: "adjusted tokens",
                max: i128::from(i64::MAX),
                found: i128::from(value),
            })
    }
}

impl fmt::Display for NanoTon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / NANO_PER_TON, self.0 % NANO_PER_TON);
        if fraction == 0 {
            return write!(f, "{whole} TON");
        }
        let digits = format!("{fraction:09}");
        write!(f, "{whole}.{} TON", digits.trim_end_matches('0'))
    }
}

impl fmt::Display for AdjustedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0)
    }
}

impl fmt::Display for ModelTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} model tokens", self.0)
    }
}

/// The price factor of a worker in thousandths (1000 = ×1), at most [`MAX_COEFFICIENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Coefficient(u32);

impl Coefficient {
    /// Factor one.
    pub const ONE: Self = Self(1000);
    /// Free of charge.
    pub const ZERO: Self = Self(0);

    /// A coefficient from thousandths.
    pub const fn new(thousandths: u32) -> Result<Self, UnitError> {
        if thousandths > MAX_COEFFICIENT {
            return Err(Self::out_of_range(thousandths as i128));
        }
        Ok(Self(thousandths))
    }

    /// A coefficient from a signed number of the wire; negative numbers are refused (11 #4).
    pub fn from_wire(value: i64) -> Result<Self, UnitError> {
        match u32::try_from(value) {
            Ok(thousandths) => Self::new(thousandths),
            Err(_) => Err(Self::out_of_range(i128::from(value))),
        }
    }

    /// The value in thousandths.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    const fn out_of_range(found: i128) -> UnitError {
        UnitError::OutOfRange {
            unit: "coefficient",
            max: MAX_COEFFICIENT as i128,
            found,
        }
    }
}

impl TryFrom<u32> for Coefficient {
    type Error = UnitError;
    fn try_from(value: u32) -> Result<Self, UnitError> {
        Self::new(value)
    }
}

impl From<Coefficient> for u32 {
    fn from(value: Coefficient) -> u32 {
        value.0
    }
}

impl fmt::Display for Coefficient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "x{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// The price factor of a token class in ten-thousandths (10000 = ×1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Multiplier(pub u32);

impl Multiplier {
    /// Factor one.
    pub const ONE: Self = Self(10_000);
}

impl Default for Multiplier {
    fn default() -> Self {
        Self::ONE
    }
}

impl fmt::Display for Multiplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "x{}.{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_fails_instead_of_wrapping() {
        assert!(
            AdjustedTokens(u64::MAX)
                .checked_add(AdjustedTokens(1))
                .is_err()
        );
        assert!(AdjustedTokens(1).checked_sub(AdjustedTokens(2)).is_err());
        assert!(NanoTon(u128::MAX).checked_mul(2).is_err());
        assert!(AdjustedTokens(2).cost(NanoTon(u128::MAX)).is_err());
        assert_eq!(AdjustedTokens(7).cost(NanoTon(20)), Ok(NanoTon(140)));
        assert!(AdjustedTokens(u64::MAX).to_wire().is_err());
        assert!(AdjustedTokens::from_wire(-1).is_err());
        assert_eq!(NanoTon(5).tokens_at(NanoTon(0)), None);
        assert_eq!(NanoTon(5).tokens_at(NanoTon(2)), Some(AdjustedTokens(2)));
    }

    #[test]
    fn amounts_are_read_and_shown_in_ton() {
        assert_eq!(NanoTon(1_500_000_000).to_string(), "1.5 TON");
        assert_eq!(NanoTon::from_ton(3).to_string(), "3 TON");
        assert_eq!(NanoTon(1).to_string(), "0.000000001 TON");
        assert_eq!(NanoTon::parse_ton("1.5"), Ok(NanoTon(1_500_000_000)));
        assert_eq!(NanoTon::parse_ton("0.000000001"), Ok(NanoTon(1)));
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1.0000000001",
            "1e3",
            "ten",
            &"9".repeat(60),
        ] {
            assert!(NanoTon::parse_ton(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn coefficients_have_a_range() {
        assert!(Coefficient::new(MAX_COEFFICIENT).is_ok());
        assert!(Coefficient::new(MAX_COEFFICIENT + 1).is_err());
        assert!(Coefficient::from_wire(-1).is_err());
        assert!(Coefficient::from_wire(i64::MAX).is_err());
        assert!(serde_json::from_str::<Coefficient>("1000000000").is_err());
        assert_eq!(Coefficient::ONE.to_string(), "x1.000");
        assert_eq!(Multiplier::default().to_string(), "x1.0000");
    }
}
