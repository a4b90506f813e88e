//! Amounts of TON as people write them: `1.5 TON` and nanoTON.

/// NanoTON in one TON.
pub const NANO_PER_TON: u128 = 1_000_000_000;
/// The largest amount a cell can hold: 15 bytes (VarUInteger 16).
pub const MAX_NANO: u128 = (1 << 120) - 1;
/// Longer texts are not looked at; the largest amount has 37 digits, a point and a unit.
const MAX_AMOUNT_CHARS: usize = 64;

/// Why a text is not an amount of TON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// No digits at all.
    #[error("an amount is missing: write it like 1.5 or \"1.5 TON\"")]
    Empty,
    /// A sign in front.
    #[error("an amount of TON cannot carry a sign: write it like 1.5")]
    Signed,
    /// Something that is no digit, point or unit.
    #[error("{character:?} cannot be part of an amount: write it like 1.5 or \"1.5 TON\"")]
    Character {
        /// The offending character.
        character: char,
    },
    /// A unit other than TON and nanoTON.
    #[error("unknown unit {unit:?}: expected TON or nanoTON")]
    Unit {
        /// The unit as written.
        unit: String,
    },
    /// More precise than a nanoTON.
    #[error("too precise: one TON has nine decimals (1 nanoTON = 0.000000001 TON)")]
    TooPrecise,
    /// A fraction of a nanoTON.
    #[error("nanoTON are whole numbers")]
    FractionOfNano,
    /// Above what a TON message can carry.
    #[error("too large: no TON amount reaches 2^120 nanoTON")]
    TooLarge,
}

/// Writes nanoTON as TON without needless zeros, for example `1.5 TON`.
pub fn format_ton(nano: u128) -> String {
    let whole = nano / NANO_PER_TON;
    let fraction = nano % NANO_PER_TON;
    if fraction == 0 {
        return format!("{whole} TON");
    }
    let digits = format!("{fraction:09}");
    format!("{whole}.{} TON", digits.trim_end_matches('0'))
}

/// Reads `1.5 TON`, `1.5` (TON is meant) or `1500000000 nanoTON`. The unit may be written in any case.
pub fn parse_ton(text: &str) -> Result<u128, AmountError> {
    let text = text.trim();
    if text.chars().count() > MAX_AMOUNT_CHARS {
        return Err(AmountError::TooLarge);
    }
    let end = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.trim_end();
    let nano = match unit.to_ascii_lowercase().as_str() {
        "" | "ton" => false,
        "nanoton" => true,
        _ => {
            return Err(AmountError::Unit {
                unit: unit.to_owned(),
            });
        }
    };
    if number.is_empty() || number == "." {
        return Err(AmountError::Empty);
    }
    if number.starts_with(['-', '+']) {
        return Err(AmountError::Signed);
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if let Some(character) = whole
        .chars()
        .chain(fraction.chars())
        .find(|c| !c.is_ascii_digit())
    {
        return Err(AmountError::Character { character });
    }
    if nano && number.contains('.') {
        return Err(AmountError::FractionOfNano);
    }
    if fraction.len() > 9 {
        return Err(AmountError::TooPrecise);
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| AmountError::TooLarge)?
    };
    let unit_size = if nano { 1 } else { NANO_PER_TON };
    let mut fraction_nano: u128 = 0;
    for index in 0..9 {
        let digit = fraction.as_bytes().get(index).map_or(0, |byte| byte - b'0');
        fraction_nano = fraction_nano * 10 + u128::from(digit);
    }
    whole
        .checked_mul(unit_size)
        .and_then(|value| value.checked_add(fraction_nano))
        .filter(|value| *value <= MAX_NANO)
        .ok_or(AmountError::TooLarge)
}
