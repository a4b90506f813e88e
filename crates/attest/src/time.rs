//! Unix seconds and their calendar form, for certificates and for messages that name a moment.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds in a day.
pub const DAY: u64 = 86_400;

/// The system clock in Unix seconds; 0 for a clock set before 1970, which makes every certificate "not yet valid".
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// A moment in Unix seconds that prints as `2025-12-01T00:00:00Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

/// Calendar fields of a moment, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub year: i64,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
}

/// Unix seconds as a moment; what lies beyond year 9999 is shown as its end.
pub(crate) fn moment(unix: u64) -> Moment {
    const END: i64 = 253_402_300_799;
    Moment(i64::try_from(unix).map_or(END, |unix| unix.min(END)))
}

/// Unix seconds of a moment like `2026-02-20T00:00:00Z`, from 1970 on; exactly the form that [`Moment`] prints.
#[must_use]
pub fn parse_moment(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days since 1970 by years that start on 1 March, as in `civil`.
    let shifted_year = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days =
        shifted_year.div_euclid(4) - shifted_year.div_euclid(100) + shifted_year.div_euclid(400);
    let days = shifted_year * 365 + leap_days + day_of_year - 719_468;
    let moment = Moment(days * DAY as i64 + hour * 3_600 + minute * 60 + second);
    // A date that does not exist, or another form, prints differently.
    (moment.to_string() == text)
        .then_some(moment.0)?
        .try_into()
        .ok()
}

impl Moment {
    /// The proleptic Gregorian calendar by era arithmetic: a year starts on 1 March, an era has 400 years.
    pub(crate) fn civil(self) -> Civil {
        let days = self.0.div_euclid(DAY as i64);
        let second_of_day = self.0.rem_euclid(DAY as i64) as u32;
        let shifted = days + 719_468; // days since 0000-03-01
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        } as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Civil {
            year,
            month,
            day,
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.civil();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            c.year, c.month, c.day, c.hour, c.minute, c.second
        )
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_764_547_200, "2025-12-01T00:00:00Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Moment(unix).to_string(), text);
        }
    }

    #[test]
    fn moments_are_read_as_they_are_printed() {
        for unix in [
            0,
            951_782_399,
            951_782_400,
            1_764_547_200,
            4_102_444_800,
            253_402_300_799,
        ] {
            assert_eq!(parse_moment(&Moment(unix).to_string()), Some(unix as u64));
        }
        for text in [
            "",
            "2026-02-30T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-02-20T24:00:00Z",
            "2026-02-20 00:00:00Z",
            "2026-02-20T00:00:00",
            "1969-12-31T23:59:59Z",
            "+026-02-20T00:00:00Z",
            "2026-02-20T00:00:00Z ",
        ] {
            assert_eq!(parse_moment(text), None, "{text}");
        }
    }

    #[test]
    fn extreme_moments_do_not_panic() {
        // A certificate's years run from 0 to 9999.
        for unix in [-62_167_219_200, 253_402_300_799] {
            let _ = Moment(unix).to_string();
        }
    }
}
