//! Growing, jittered pauses between attempts at something that fails. Pure: the caller brings the seed.

use std::time::Duration;

/// After this many doublings every base here is far above any maximum; more would only overflow.
const MAX_DOUBLINGS: u32 = 20;

/// Pauses that double from a base up to a maximum, each between 75 % and 125 % of its nominal length, so that
/// nodes which failed together do not come back together.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
    seed: u64,
}

impl Backoff {
    pub(crate) fn new(base: Duration, max: Duration, seed: u64) -> Self {
        Self {
            base,
            max: max.max(base),
            failures: 0,
            seed,
        }
    }

    /// The pause after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = self
            .base
            .saturating_mul(1 << self.failures.min(MAX_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        let percent = 75 + (self.draw() % 51) as u32;
        doubled.min(self.max).saturating_mul(percent) / 100
    }

    /// Something succeeded.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// SplitMix64: jitter needs spread, not secrecy.
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum_and_start_over() {
        let base = Duration::from_millis(100);
        let max = Duration::from_secs(5);
        let mut backoff = Backoff::new(base, max, 7);
        let pauses: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        assert!(pauses[0] >= base * 3 / 4 && pauses[0] <= base * 5 / 4);
        assert!(pauses[3] >= base * 6 && pauses[3] <= base * 10);
        for pause in &pauses[8..] {
            assert!(*pause >= max * 3 / 4 && *pause <= max * 5 / 4, "{pause:?}");
        }
        assert!(pauses[10..].iter().any(|p| *p != pauses[10]), "no jitter");
        backoff.reset();
        assert!(backoff.next() <= base * 5 / 4);
    }
}
