//! Counters that forget: decaying sums and averages for statistics and load (5.1, 5.9).
//!
//! Time is an argument, in seconds on any clock that starts anywhere; a clock that goes back counts as standing still.
//! These are figures to look at and to balance load by, never money, hence floats.

/// The periods of a [`Counter`] in seconds: 1 s, 10 s, 1 min, 10 min, 1 h, 1 d.
pub const PERIODS_S: [f64; 6] = [1.0, 10.0, 60.0, 600.0, 3600.0, 86_400.0];

/// The window of [`AverageTime`] in seconds.
pub const AVERAGE_WINDOW_S: f64 = 600.0;

/// The decayed number of requests up to which [`AverageTime`] says 0.
pub const AVERAGE_MIN_COUNT: f64 = 60.0;

/// A sum whose parts fade: multiplied by exp(−Δt / period) as time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decaying {
    period_s: f64,
    sum: f64,
    updated_s: f64,
}

impl Decaying {
    /// An empty sum with this period.
    #[must_use]
    pub fn new(period_s: f64) -> Self {
        Self {
            period_s,
            sum: 0.0,
            updated_s: f64::NEG_INFINITY,
        }
    }

    /// Adds to the sum.
    pub fn add(&mut self, now_s: f64, amount: f64) {
        self.sum = self.sum(now_s) + amount;
        self.updated_s = self.updated_s.max(now_s);
    }

    /// What is left of the sum now.
    #[must_use]
    pub fn sum(&self, now_s: f64) -> f64 {
        let passed = now_s - self.updated_s;
        if self.sum == 0.0 || !passed.is_finite() || passed <= 0.0 {
            return self.sum;
        }
        self.sum * (-passed / self.period_s).exp()
    }
}

/// A total with rates over six periods.
#[derive(Debug, Clone)]
pub struct Counter {
    total: u64,
    sums: [Decaying; 6],
}

/// What a counter says: the total, and the rate per second over each of [`PERIODS_S`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct CounterReport {
    /// All that was ever added.
    pub total: u64,
    /// Decayed sum / period.
    pub rates: [f64; 6],
}

impl Default for Counter {
    fn default() -> Self {
        Self {
            total: 0,
            sums: PERIODS_S.map(Decaying::new),
        }
    }
}

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts `amount`.
    pub fn add(&mut self, now_s: f64, amount: u64) {
        self.total = self.total.saturating_add(amount);
        for sum in &mut self.sums {
            sum.add(now_s, amount as f64);
        }
    }

    /// All that was ever added.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Total and rates now.
    #[must_use]
    pub fn report(&self, now_s: f64) -> CounterReport {
        CounterReport {
            total: self.total,
            rates: self.sums.map(|sum| sum.sum(now_s) / sum.period_s),
        }
    }
}

/// The average duration of recent requests (5.1).
#[derive(Debug, Clone)]
pub struct AverageTime {
    durations: Decaying,
    count: Decaying,
}

impl Default for AverageTime {
    fn default() -> Self {
        Self {
            durations: Decaying::new(AVERAGE_WINDOW_S),
            count: Decaying::new(AVERAGE_WINDOW_S),
        }
    }
}

impl AverageTime {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a request that took `duration_s`.
    pub fn add(&mut self, now_s: f64, duration_s: f64) {
        self.durations.add(now_s, duration_s.max(0.0));
        self.count.add(now_s, 1.0);
    }

    /// The reference's figure: 0 until more than [`AVERAGE_MIN_COUNT`] recent requests were seen.
    #[must_use]
    pub fn reference(&self, now_s: f64) -> f64 {
        let count = self.count.sum(now_s);
        if count <= AVERAGE_MIN_COUNT {
            0.0
        } else {
            self.durations.sum(now_s) / count
        }
    }

    /// The average from the first request on; `None` before it.
    #[must_use]
    pub fn recent(&self, now_s: f64) -> Option<f64> {
        let count = self.count.sum(now_s);
        (count > 0.0).then(|| self.durations.sum(now_s) / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_fade() {
        let mut counter = Counter::new();
        counter.add(1000.0, 60);
        let now = counter.report(1000.0);
        assert_eq!((now.total, now.rates[2]), (60, 1.0));
        let later = counter.report(1060.0);
        assert_eq!(later.total, 60);
        assert!((later.rates[2] - (-1.0f64).exp()).abs() < 1e-12);
        // A clock that goes back changes nothing.
        assert_eq!(counter.report(900.0).rates, now.rates);
    }

    #[test]
    fn average_time_waits_for_sixty_requests() {
        let mut average = AverageTime::new();
        assert_eq!(average.recent(0.0), None);
        for _ in 0..60 {
            average.add(0.0, 2.0);
        }
        assert_eq!(average.reference(0.0), 0.0);
        assert_eq!(average.recent(0.0), Some(2.0));
        average.add(0.0, 2.0);
        assert_eq!(average.reference(0.0), 2.0);
        assert_eq!(average.reference(600.0), 0.0);
    }
}
