//! What a proxy or a client measures of a peer that serves requests, and when it leaves that peer alone for a while.
//!
//! Pure: times are milliseconds on any clock, random numbers are arguments. The rules (docs/market.md):
//!
//! * time to the first byte and time per token are running means with a memory of about [`MEMORY`] samples;
//! * the error rate is the share of failures over about [`ERROR_PERIOD_S`], smoothed so that one failure is not 100%;
//! * [`TRIP`] failures in a row pause the peer for [`FIRST_PAUSE_MS`], doubled for every pause that did not help, up to
//!   [`LAST_PAUSE_MS`], with a quarter of jitter either way; then one request at a time tries it, and one that is
//!   served ends the pause.

use crate::stats::Decaying;

/// Samples that a running mean remembers.
pub const MEMORY: u32 = 8;
/// A failure is mostly forgotten after this many seconds.
pub const ERROR_PERIOD_S: f64 = 60.0;
/// Failures in a row that pause a peer.
pub const TRIP: u32 = 3;
/// The first pause.
pub const FIRST_PAUSE_MS: u64 = 1_000;
/// The longest pause.
pub const LAST_PAUSE_MS: u64 = 60_000;
/// How long a peer that said "full" is not asked again.
pub const BUSY_MS: u64 = 250;
/// Requests that were served without fault are assumed beside the real ones, so that one failure weighs little.
const PRIOR: f64 = 4.0;

/// How a request at a peer ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Completely.
    Served {
        /// Model tokens of the answer; 0 when unknown.
        tokens: u64,
        /// From the first byte to the last, milliseconds.
        streamed_ms: u64,
    },
    /// By the peer's fault.
    Failed,
    /// The peer was full; that is no fault, but it is not asked again at once.
    Busy,
    /// By nobody's fault, or by the caller's: it says nothing about the peer.
    Neutral,
}

/// Whether a peer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Like any other.
    Closed,
    /// Its pause is over: one request at a time tries it.
    Trial,
    /// Not now; milliseconds until it may be tried.
    Open(u64),
}

/// A mean that follows its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Mean {
    value: f64,
    samples: u32,
}

impl Mean {
    fn add(&mut self, sample: f64) {
        if !sample.is_finite() || sample < 0.0 {
            return;
        }
        self.samples = self.samples.saturating_add(1);
        let weight = 1.0 / f64::from(self.samples.min(MEMORY));
        self.value += (sample - self.value) * weight;
    }

    fn get(self) -> Option<f64> {
        (self.samples > 0).then_some(self.value)
    }
}

/// What is known of one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    first_byte_ms: Mean,
    token_ms: Mean,
    failed: Decaying,
    ended: Decaying,
    in_a_row: u32,
    pauses: u32,
    open_until_ms: Option<u64>,
    busy_until_ms: u64,
    seen: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            first_byte_ms: Mean::default(),
            token_ms: Mean::default(),
            failed: Decaying::new(ERROR_PERIOD_S),
            ended: Decaying::new(ERROR_PERIOD_S),
            in_a_row: 0,
            pauses: 0,
            open_until_ms: None,
            busy_until_ms: 0,
            seen: 0,
        }
    }
}

impl Health {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first byte of an answer came `took_ms` after the request was sent.
    pub fn first_byte(&mut self, took_ms: u64) {
        self.first_byte_ms.add(took_ms as f64);
    }

    /// A request ended. `draw` is any random number.
    pub fn ended(&mut self, now_ms: u64, outcome: Outcome, draw: u64) {
        let now_s = now_ms as f64 / 1000.0;
        match outcome {
            Outcome::Neutral => {}
            Outcome::Busy => self.busy_until_ms = now_ms.saturating_add(BUSY_MS),
            Outcome::Served {
                tokens,
                streamed_ms,
            } => {
                self.seen = self.seen.saturating_add(1);
                self.ended.add(now_s, 1.0);
                if tokens > 1 && streamed_ms > 0 {
                    self.token_ms.add(streamed_ms as f64 / (tokens - 1) as f64);
                }
                self.in_a_row = 0;
                self.pauses = 0;
                self.open_until_ms = None;
            }
            Outcome::Failed => {
                self.seen = self.seen.saturating_add(1);
                self.ended.add(now_s, 1.0);
                self.failed.add(now_s, 1.0);
                self.in_a_row = self.in_a_row.saturating_add(1);
                // Requests that were sent before the pause began do not make it longer.
                let paused = self.open_until_ms.is_some_and(|until| now_ms < until);
                if self.in_a_row >= TRIP && !paused {
                    let pause = FIRST_PAUSE_MS
                        .saturating_mul(1 << self.pauses.min(16))
                        .min(LAST_PAUSE_MS);
                    let jittered = pause * 3 / 4 + draw % (pause / 2 + 1);
                    self.open_until_ms = Some(now_ms.saturating_add(jittered));
                    self.pauses = self.pauses.saturating_add(1);
                }
            }
        }
    }

    /// Whether the peer is asked now.
    #[must_use]
    pub fn circuit(&self, now_ms: u64) -> Circuit {
        match self.open_until_ms {
            None => Circuit::Closed,
            Some(until) if now_ms < until => Circuit::Open(until - now_ms),
            Some(_) => Circuit::Trial,
        }
    }

    /// The peer said a moment ago that it is full.
    #[must_use]
    pub fn is_busy(&self, now_ms: u64) -> bool {
        now_ms < self.busy_until_ms
    }

    /// Mean time to the first byte, milliseconds.
    #[must_use]
    pub fn first_byte_ms(&self) -> Option<f64> {
        self.first_byte_ms.get()
    }

    /// Mean time per token after the first byte, milliseconds.
    #[must_use]
    pub fn token_ms(&self) -> Option<f64> {
        self.token_ms.get()
    }

    /// Share of requests that failed, from 0 to below 1.
    #[must_use]
    pub fn error_rate(&self, now_ms: u64) -> f64 {
        let now_s = now_ms as f64 / 1000.0;
        self.failed.sum(now_s) / (self.ended.sum(now_s) + PRIOR)
    }

    /// Requests that ended well or badly.
    #[must_use]
    pub fn seen(&self) -> u32 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: Outcome = Outcome::Served {
        tokens: 11,
        streamed_ms: 200,
    };

    #[test]
    fn means_follow_their_samples() {
        let mut h = Health::new();
        assert_eq!((h.first_byte_ms(), h.token_ms()), (None, None));
        h.first_byte(100);
        h.first_byte(300);
        assert_eq!(h.first_byte_ms(), Some(200.0));
        for _ in 0..60 {
            h.first_byte(1000);
        }
        assert!((990.0..=1000.0).contains(&h.first_byte_ms().unwrap()));
        h.ended(1, SERVED, 0);
        assert_eq!(h.token_ms(), Some(20.0));
    }

    #[test]
    fn failures_in_a_row_pause_and_one_success_ends_it() {
        let mut h = Health::new();
        let mut now = 1_000_000;
        for _ in 1..TRIP {
            h.ended(now, Outcome::Failed, 0);
            assert_eq!(h.circuit(now), Circuit::Closed);
        }
        // What is nobody's fault, and a full peer, do not count.
        h.ended(now, Outcome::Neutral, 0);
        h.ended(now, Outcome::Busy, 0);
        assert_eq!(h.circuit(now), Circuit::Closed);
        assert!(h.is_busy(now) && !h.is_busy(now + BUSY_MS));
        let mut expected = FIRST_PAUSE_MS;
        for round in 0..10 {
            h.ended(now, Outcome::Failed, round * 7919);
            let Circuit::Open(pause) = h.circuit(now) else {
                panic!("round {round}: {:?}", h.circuit(now));
            };
            let range = expected * 3 / 4..=expected * 5 / 4;
            assert!(
                range.contains(&pause),
                "round {round}: {pause} of {expected}"
            );
            // A late failure of an old request does not make the pause longer.
            h.ended(now + 1, Outcome::Failed, 0);
            assert_eq!(h.circuit(now + 1), Circuit::Open(pause - 1));
            now += pause;
            assert_eq!(h.circuit(now), Circuit::Trial);
            expected = (expected * 2).min(LAST_PAUSE_MS);
        }
        h.ended(now, SERVED, 0);
        assert_eq!(h.circuit(now), Circuit::Closed);
        for _ in 0..TRIP {
            h.ended(now, Outcome::Failed, 0);
        }
        let Circuit::Open(pause) = h.circuit(now) else {
            panic!("not paused");
        };
        assert!(
            pause <= FIRST_PAUSE_MS * 5 / 4,
            "starts small again: {pause}"
        );
    }

    #[test]
    fn the_error_rate_is_smoothed_and_fades() {
        let mut h = Health::new();
        let start = 5_000_000;
        h.ended(start, Outcome::Failed, 0);
        let one = h.error_rate(start);
        assert!((0.1..0.3).contains(&one), "{one}");
        for _ in 0..100 {
            h.ended(start, Outcome::Failed, 0);
        }
        assert!(h.error_rate(start) > 0.9 && h.error_rate(start) < 1.0);
        let later = start + 4 * (ERROR_PERIOD_S as u64) * 1000;
        assert!(h.error_rate(later) < 0.35, "{}", h.error_rate(later));
    }
}
