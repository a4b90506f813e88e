//! Model tokens into billed tokens (6.1).

use crate::units::{AdjustedTokens, Coefficient, ModelTokens, Multiplier};

/// The most that one token class can be billed: a quarter of the wire's signed 64 bits, so that the sum of the four
/// classes of a request always fits.
pub const MAX_ADJUSTED: u64 = (i64::MAX / 4) as u64;

/// `trunc(((n × (coefficient × 0.001)) × multiplier) × 0.0001)`, at most [`MAX_ADJUSTED`].
///
/// In IEEE binary64 and in exactly this order, because the other side of a payment computes it so: with integers 170
/// tokens at coefficient 4100 are 697, with doubles they are 696, and two nodes that disagree by one token disagree
/// about every amount that follows. At most one token per class is lost this way (11 #14). The function is monotone
/// in each argument, as every rounding step is.
#[must_use]
pub fn adjust(
    tokens: ModelTokens,
    coefficient: Coefficient,
    multiplier: Multiplier,
) -> AdjustedTokens {
    let scaled = tokens.0 as f64 * (f64::from(coefficient.thousandths()) * 0.001);
    let scaled = scaled * f64::from(multiplier.0) * 0.0001;
    // A float to integer cast truncates toward zero and saturates; the value is never negative or NaN here.
    AdjustedTokens((scaled as u64).min(MAX_ADJUSTED))
}

/// Like [`adjust`], but exact and rounded up: never less than `adjust` of the same arguments.
///
/// For reservations, where being one token short is the wrong side to err on.
#[must_use]
pub fn adjust_up(
    tokens: ModelTokens,
    coefficient: Coefficient,
    multiplier: Multiplier,
) -> AdjustedTokens {
    // At most 2^64 × 2^30; the second product is checked because it can pass 2^128 no more than 2^126 does.
    let exact = u128::from(tokens.0)
        .saturating_mul(u128::from(coefficient.thousandths()))
        .saturating_mul(u128::from(multiplier.0))
        .div_ceil(10_000_000);
    let exact = u64::try_from(exact).unwrap_or(u64::MAX).min(MAX_ADJUSTED);
    // Far above 2^50 a double may round past the exact value.
    AdjustedTokens(exact).max(adjust(tokens, coefficient, multiplier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_not_integers() {
        let c = Coefficient::new(4100).unwrap();
        assert_eq!(
            adjust(ModelTokens(170), c, Multiplier::ONE),
            AdjustedTokens(696)
        );
        assert_eq!(
            adjust_up(ModelTokens(170), c, Multiplier::ONE),
            AdjustedTokens(697)
        );
    }

    #[test]
    fn extremes_saturate() {
        let c = Coefficient::new(999_999_999).unwrap();
        let most = adjust(ModelTokens(u64::MAX), c, Multiplier(u32::MAX));
        assert_eq!(most, AdjustedTokens(MAX_ADJUSTED));
        assert_eq!(
            adjust_up(ModelTokens(u64::MAX), c, Multiplier(u32::MAX)),
            most
        );
        assert_eq!(
            adjust(ModelTokens(u64::MAX), Coefficient::ZERO, Multiplier::ONE),
            AdjustedTokens(0)
        );
    }
}
