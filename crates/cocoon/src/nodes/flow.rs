//! What a node earned or spent, by the hour: kept in a small file, so that restarts lose nothing.
//!
//! Every minute the tokens booked over all accounts are compared with those of the last look; the difference times the
//! nanoTON per token that hold now goes to the present hour. A total that went down (a contract that is over was
//! forgotten) counts from where it stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Result;
use crate::fs::{PUBLIC_MODE, read_small, write_atomic};

/// Hours that are kept: 62 days.
const MAX_HOURS: usize = 62 * 24;
/// Shorter observations say nothing about a day.
const LEAST_OBSERVED_S: u64 = 600;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 86_400;

/// The books by the hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// When it began, Unix seconds.
    since: u64,
    /// Tokens at the last look.
    tokens: u64,
    /// By hours since 1970: tokens and nanoTON.
    hours: BTreeMap<u64, (u64, u128)>,
}

impl Flow {
    /// Takes in a look at the totals. True if something changed.
    pub fn look(&mut self, now: u64, tokens: u64, nanotons_per_token: u128) -> bool {
        if self.since == 0 {
            // What was booked before the first look is of an unknown time.
            (self.since, self.tokens) = (now, tokens);
            return true;
        }
        let more = tokens.checked_sub(self.tokens).unwrap_or(tokens);
        if tokens == self.tokens {
            return false;
        }
        self.tokens = tokens;
        let hour = self.hours.entry(now / HOUR_S).or_default();
        hour.0 = hour.0.saturating_add(more);
        hour.1 = hour
            .1
            .saturating_add(u128::from(more).saturating_mul(nanotons_per_token));
        while self.hours.len() > MAX_HOURS {
            self.hours.pop_first();
        }
        true
    }

    /// NanoTON since a time, in whole hours: the hour of that time counts in full.
    fn since_time(&self, from: u64) -> u128 {
        self.hours
            .range(from / HOUR_S..)
            .fold(0, |sum, (_, (_, nano))| sum.saturating_add(*nano))
    }

    /// NanoTON in the last 24 hours and the present one.
    pub fn last_day(&self, now: u64) -> u128 {
        self.since_time(now.saturating_sub(DAY_S) + HOUR_S)
    }

    /// NanoTON a day if it goes on like this: those of the observed part of the last 24 hours, divided by its
    /// seconds, times 86,400.
    pub fn projected(&self, now: u64) -> Option<u128> {
        let begin = (now.saturating_sub(DAY_S) / HOUR_S * HOUR_S + HOUR_S).max(self.since);
        let observed = now.saturating_sub(begin);
        if self.since == 0 || observed < LEAST_OBSERVED_S {
            return None;
        }
        self.since_time(begin)
            .checked_mul(u128::from(DAY_S))
            .map(|nano| nano / u128::from(observed))
    }

    /// By days, the newest first; amounts are nanoTON in text.
    pub fn json(&self, now: u64) -> Value {
        let mut days: BTreeMap<u64, (u64, u128)> = BTreeMap::new();
        for (hour, (tokens, nano)) in &self.hours {
            let day = days.entry(hour / 24).or_default();
            day.0 = day.0.saturating_add(*tokens);
            day.1 = day.1.saturating_add(*nano);
        }
        let days: Vec<Value> = days
            .iter()
            .rev()
            .map(|(day, (tokens, nano))| json!({"day": date(*day), "tokens": tokens, "nanotons": nano.to_string()}))
            .collect();
        json!({
            "since": self.since,
            "last_24_hours_nanotons": self.last_day(now).to_string(),
            "projected_nanotons_per_day": self.projected(now).map(|n| n.to_string()),
            "days": days,
        })
    }
}

/// The civil date of a day since 1970, in the proleptic Gregorian calendar.
fn date(day: u64) -> String {
    // Days are counted in eras of 400 years from 0000-03-01, so that the leap day comes last.
    let z = day + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let y = yoe + era * 400 + u64::from(m <= 2);
    format!("{y:04}-{m:02}-{d:02}")
}

/// The file of a node's flow.
pub struct FlowFile {
    path: PathBuf,
    /// What it holds.
    pub flow: Flow,
}

impl FlowFile {
    /// Reads the file. One that cannot be understood is begun anew: these are figures to look at, not money.
    pub fn open(dir: &Path, role: &str) -> Self {
        let path = dir.join(format!("flow-{role}.json"));
        let flow = read_small(&path)
            .ok()
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        FlowFile { path, flow }
    }

    /// Takes in the member `flow` of a node's figures and writes the file if something changed.
    pub fn take(&mut self, now: u64, figures: &Value) -> Result<()> {
        let tokens = figures["tokens"].as_u64();
        let price = figures["nanotons_per_token"]
            .as_str()
            .and_then(|text| text.parse().ok());
        let (Some(tokens), Some(price)) = (tokens, price) else {
            return Ok(());
        };
        if !self.flow.look(now, tokens, price) {
            return Ok(());
        }
        let text = serde_json::to_vec(&self.flow).unwrap_or_default();
        write_atomic(&self.path, &text, PUBLIC_MODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_795_000_000 / 86_400 * 86_400;

    #[test]
    fn a_day_is_projected_from_what_was_seen() {
        let mut flow = Flow::default();
        assert!(flow.look(START, 500, 10));
        assert_eq!(flow.projected(START), None);
        assert!(!flow.look(START + 60, 500, 10));
        assert!(flow.look(START + 120, 800, 10));
        // Two hours later another price holds.
        assert!(flow.look(START + 7200, 900, 20));
        assert_eq!(flow.last_day(START + 7200), 300 * 10 + 100 * 20);
        assert_eq!(flow.projected(START + 7200), Some(5000 * 86_400 / 7200));
        let json = flow.json(START + 7200);
        assert_eq!(json["days"][0]["tokens"], 400);
        assert_eq!(json["days"][0]["nanotons"], "5000");
        // A day later the first hours are out of the window.
        assert_eq!(flow.last_day(START + 86_400 + 3 * 3600), 0);
        assert_eq!(flow.projected(START + 86_400 + 3 * 3600), Some(0));
    }

    #[test]
    fn a_total_that_went_down_counts_from_where_it_stands() {
        let mut flow = Flow::default();
        flow.look(START, 1000, 1);
        flow.look(START + 60, 40, 1);
        assert_eq!(flow.last_day(START + 60), 40);
        flow.look(START + 120, 50, 1);
        assert_eq!(flow.last_day(START + 120), 50);
    }

    #[test]
    fn it_is_bounded_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = FlowFile::open(dir.path(), "proxy");
        for hour in 0..2000u64 {
            file.flow.look(START + hour * 3600, hour, 3);
        }
        let figures = json!({"tokens": 5000, "nanotons_per_token": "3"});
        file.take(START + 2000 * 3600, &figures).unwrap();
        let again = FlowFile::open(dir.path(), "proxy");
        assert_eq!(again.flow, file.flow);
        assert_eq!(again.flow.hours.len(), MAX_HOURS);
        std::fs::write(dir.path().join("flow-proxy.json"), "{").unwrap();
        assert_eq!(FlowFile::open(dir.path(), "proxy").flow, Flow::default());
        file.take(START, &json!({"tokens": "x"})).unwrap();
    }

    #[test]
    fn dates() {
        for (day, text) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (20_779, "2026-11-22"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(day), text, "{day}");
        }
    }
}
