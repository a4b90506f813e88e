//! Statistics of latencies: exact percentiles over all samples, no histograms and no interpolation.

use serde::Serialize;

/// Latencies of one kind, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    nanos: Vec<u64>,
}

/// What is reported of [`Samples`], in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many samples.
    pub count: usize,
    /// Arithmetic mean.
    pub mean_ms: f64,
    /// Half of the samples are at most this.
    pub p50_ms: f64,
    /// 99 of 100 samples are at most this.
    pub p99_ms: f64,
    /// The largest sample.
    pub max_ms: f64,
}

/// What one way of asking costs on top of another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Overhead {
    /// Difference of the medians.
    pub p50_ms: f64,
    /// Difference of the 99th percentiles.
    pub p99_ms: f64,
    /// Median over median; absent if the base is zero.
    pub p50_ratio: Option<f64>,
    /// 99th percentile over 99th percentile; absent if the base is zero.
    pub p99_ratio: Option<f64>,
}

impl Samples {
    /// Adds a sample.
    pub fn push(&mut self, nanos: u64) {
        self.nanos.push(nanos);
    }

    /// Adds all samples of another run.
    pub fn extend(&mut self, other: &Samples) {
        self.nanos.extend_from_slice(&other.nanos);
    }

    /// The summary; `None` without samples.
    pub fn summary(&self) -> Option<Summary> {
        let mut sorted = self.nanos.clone();
        sorted.sort_unstable();
        let max = *sorted.last()?;
        let sum: u128 = sorted.iter().map(|n| u128::from(*n)).sum();
        Some(Summary {
            count: sorted.len(),
            mean_ms: sum as f64 / sorted.len() as f64 / 1e6,
            p50_ms: ms(percentile(&sorted, 500)?),
            p99_ms: ms(percentile(&sorted, 990)?),
            max_ms: ms(max),
        })
    }
}

impl Overhead {
    /// What `with` costs over `base`. Differences of percentiles, not percentiles of differences: the two are measured
    /// with different requests.
    pub fn of(base: &Summary, with: &Summary) -> Self {
        let ratio = |b: f64, w: f64| (b > 0.0).then(|| w / b);
        Overhead {
            p50_ms: with.p50_ms - base.p50_ms,
            p99_ms: with.p99_ms - base.p99_ms,
            p50_ratio: ratio(base.p50_ms, with.p50_ms),
            p99_ratio: ratio(base.p99_ms, with.p99_ms),
        }
    }
}

/// The nearest-rank percentile: the smallest sample such that at least `per_mille` thousandths are not larger.
fn percentile(sorted: &[u64], per_mille: usize) -> Option<u64> {
    let rank = (sorted.len() * per_mille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied()
}

fn ms(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: impl IntoIterator<Item = u64>) -> Samples {
        let mut s = Samples::default();
        values.into_iter().for_each(|v| s.push(v));
        s
    }

    #[test]
    fn percentiles_are_real_samples_of_the_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 500), Some(50));
        assert_eq!(percentile(&hundred, 990), Some(99));
        assert_eq!(percentile(&hundred, 1000), Some(100));
        assert_eq!(percentile(&hundred, 0), Some(1));
        assert_eq!(percentile(&[7], 990), Some(7));
        assert_eq!(percentile(&[1, 2], 500), Some(1));
        assert_eq!(percentile(&[1, 2, 3], 500), Some(2));
        assert_eq!(percentile(&[], 500), None);
        // With 99 samples the 99th percentile is already the largest.
        assert_eq!(percentile(&(1..=99).collect::<Vec<u64>>(), 990), Some(99));
    }

    #[test]
    fn the_order_of_samples_does_not_matter() {
        let up = samples((1..=1000).map(|n| n * 1_000_000));
        let down = samples((1..=1000).rev().map(|n| n * 1_000_000));
        assert_eq!(up.summary(), down.summary());
        let s = up.summary().unwrap();
        assert_eq!(
            (s.count, s.mean_ms, s.p50_ms, s.p99_ms, s.max_ms),
            (1000, 500.5, 500.0, 990.0, 1000.0)
        );
    }

    #[test]
    fn runs_are_merged_and_not_averaged() {
        let mut all = samples([1_000_000; 99]);
        all.extend(&samples([500_000_000]));
        let s = all.summary().unwrap();
        assert_eq!(
            (s.count, s.p50_ms, s.p99_ms, s.max_ms),
            (100, 1.0, 1.0, 500.0)
        );
        assert_eq!(Samples::default().summary(), None);
    }

    #[test]
    fn large_sums_do_not_overflow() {
        let s = samples([u64::MAX; 3]).summary().unwrap();
        assert!((s.mean_ms - u64::MAX as f64 / 1e6).abs() < 1.0);
    }

    #[test]
    fn overhead_is_the_difference_of_percentiles() {
        let base = samples([2_000_000; 10]).summary().unwrap();
        let with = samples([5_000_000; 10]).summary().unwrap();
        let o = Overhead::of(&base, &with);
        assert_eq!((o.p50_ms, o.p99_ms), (3.0, 3.0));
        assert_eq!((o.p50_ratio, o.p99_ratio), (Some(2.5), Some(2.5)));
        let zero = samples([0]).summary().unwrap();
        assert_eq!(Overhead::of(&zero, &with).p50_ratio, None);
        assert!(Overhead::of(&with, &base).p50_ms < 0.0);
    }
}
