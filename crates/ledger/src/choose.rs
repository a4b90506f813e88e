//! Which worker takes a request (5.1).

use std::cmp::Ordering;

use crate::units::Coefficient;

/// A connection that serves the model, as it stands now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The connection's id; ids ascend in the order of establishment.
    pub id: u64,
    /// False while the worker says it cannot serve.
    pub enabled: bool,
    /// Its running requests.
    pub running: u32,
    /// How many it takes at once.
    pub limit: u32,
    /// Its price factor.
    pub coefficient: Coefficient,
    /// [`AverageTime::reference`](crate::stats::AverageTime::reference), seconds.
    pub average_time_s: f64,
    /// A decayed count of recent failures, for example a [`Decaying`](crate::stats::Decaying) over 600 s.
    pub recent_failures: f64,
}

/// How candidates are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// As the reference: the smallest running × average_time, the oldest connection of equal ones. Price and failures
    /// do not count, and on a quiet proxy everything goes to the oldest connection (11 #32).
    Reference,
    /// Ours: the lowest price first, so that workers compete; then the smallest part of its slots in use; then the
    /// shorter average time; then the older connection. Each recent failure counts as if the worker were a quarter,
    /// and 0.25, dearer, up to [`MAX_FAILURES_COUNTED`], so that a cheap worker that fails gets requests only after
    /// dearer ones are full, and comes back as its failures fade.
    Cheapest,
}

/// The failures beyond which a worker is not ranked lower still.
pub const MAX_FAILURES_COUNTED: f64 = 16.0;

/// What came of the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This connection takes the request.
    Worker(u64),
    /// Only workers above the client's maximum have room; this is the smallest coefficient among them (3.6 #8).
    TooExpensive(Coefficient),
    /// None has room (3.6 #9).
    NoneReady,
}

/// Chooses among the connections of a model. The order of `candidates` does not matter.
#[must_use]
pub fn choose_worker(
    candidates: &[Candidate],
    max_coefficient: Coefficient,
    policy: Policy,
) -> Choice {
    let with_room = || {
        candidates
            .iter()
            .filter(|c| c.enabled && c.running < c.limit)
    };
    let compare = match policy {
        Policy::Reference => by_weight,
        Policy::Cheapest => by_price,
    };
    let best = with_room()
        .filter(|c| c.coefficient <= max_coefficient)
        .min_by(|a, b| compare(a, b).then(a.id.cmp(&b.id)));
    if let Some(best) = best {
        return Choice::Worker(best.id);
    }
    match with_room().map(|c| c.coefficient).min() {
        Some(smallest) => Choice::TooExpensive(smallest),
        None => Choice::NoneReady,
    }
}

fn by_weight(a: &Candidate, b: &Candidate) -> Ordering {
    let weight = |c: &Candidate| f64::from(c.running) * c.average_time_s;
    weight(a).total_cmp(&weight(b))
}

fn by_price(a: &Candidate, b: &Candidate) -> Ordering {
    let price = |c: &Candidate| {
        let coefficient = f64::from(c.coefficient.thousandths());
        // A failure score that is no number counts as the worst.
        let failures = if c.recent_failures.is_nan() {
            MAX_FAILURES_COUNTED
        } else {
            c.recent_failures
        };
        coefficient + failures.clamp(0.0, MAX_FAILURES_COUNTED) * (coefficient * 0.25 + 250.0)
    };
    // running / limit compared without dividing; limits are above running here, so never zero.
    let load = |c: &Candidate, other: &Candidate| u64::from(c.running) * u64::from(other.limit);
    price(a)
        .total_cmp(&price(b))
        .then_with(|| load(a, b).cmp(&load(b, a)))
        .then_with(|| a.average_time_s.total_cmp(&b.average_time_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: u64, coefficient: u32, running: u32) -> Candidate {
        Candidate {
            id,
            enabled: true,
            running,
            limit: 4,
            coefficient: Coefficient::new(coefficient).unwrap(),
            average_time_s: 1.0,
            recent_failures: 0.0,
        }
    }

    fn max(coefficient: u32) -> Coefficient {
        Coefficient::new(coefficient).unwrap()
    }

    #[test]
    fn reference_takes_the_lightest_then_the_oldest() {
        let all = [worker(3, 1000, 0), worker(1, 2000, 0), worker(2, 500, 1)];
        assert_eq!(
            choose_worker(&all, max(4000), Policy::Reference),
            Choice::Worker(1)
        );
        assert_eq!(
            choose_worker(&all, max(1000), Policy::Reference),
            Choice::Worker(3)
        );
        assert_eq!(
            choose_worker(&all, max(499), Policy::Reference),
            Choice::TooExpensive(max(500))
        );
    }

    #[test]
    fn no_room_is_told_from_no_price() {
        let full = worker(1, 10, 4);
        let off = Candidate {
            enabled: false,
            ..worker(2, 20, 0)
        };
        for policy in [Policy::Reference, Policy::Cheapest] {
            assert_eq!(
                choose_worker(&[full, off], max(4000), policy),
                Choice::NoneReady
            );
            assert_eq!(choose_worker(&[], max(4000), policy), Choice::NoneReady);
            let dear = [full, off, worker(3, 9000, 0)];
            assert_eq!(
                choose_worker(&dear, max(4000), policy),
                Choice::TooExpensive(max(9000))
            );
        }
    }

    #[test]
    fn cheapest_ranks_price_load_and_failures() {
        let pick = |all: &[Candidate]| choose_worker(all, max(4000), Policy::Cheapest);
        assert_eq!(
            pick(&[worker(1, 1000, 0), worker(2, 900, 3)]),
            Choice::Worker(2)
        );
        assert_eq!(
            pick(&[worker(1, 900, 2), worker(2, 900, 1)]),
            Choice::Worker(2)
        );
        assert_eq!(
            pick(&[worker(2, 900, 1), worker(1, 900, 1)]),
            Choice::Worker(1)
        );
        let failing = Candidate {
            recent_failures: 1.0,
            ..worker(2, 900, 0)
        };
        assert_eq!(pick(&[worker(1, 1000, 0), failing]), Choice::Worker(1));
        assert_eq!(pick(&[worker(1, 3000, 0), failing]), Choice::Worker(2));
        let free_and_failing = Candidate {
            recent_failures: f64::NAN,
            ..worker(2, 0, 0)
        };
        assert_eq!(
            pick(&[worker(1, 3000, 0), free_and_failing]),
            Choice::Worker(1)
        );
    }
}
