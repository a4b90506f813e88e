//! Which amount of a client or worker a proxy may sign: one that is saved and whose save is committed on chain (5.5).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::claims::Claims;
use crate::units::{AdjustedTokens, UnitError};

/// The most saves remembered between two commits. A commit comes with every 30th to 60th save; when a chain stands
/// still for longer, every second entry is forgotten, which delays signatures and never advances one.
pub const MAX_PENDING_SAVES: usize = 256;

/// Why a tracker refuses a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Save numbers must grow.
    #[error("save number {found} is not above the last one, {last}")]
    SaveOrder {
        /// The number of the last save.
        last: u32,
        /// The number given.
        found: u32,
    },
    /// More was saved than was ever booked.
    #[error("saved {found} tokens although only {max} are booked")]
    SavedAboveMax {
        /// The running total.
        max: u64,
        /// The amount said to be saved.
        found: u64,
    },
    /// The running total left its range.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

/// The three amounts of one client or worker at the proxy: signed ≤ db ≤ max.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitTracker {
    max: AdjustedTokens,
    db: AdjustedTokens,
    signed: AdjustedTokens,
    last_save: Option<u32>,
    pending: VecDeque<(u32, AdjustedTokens)>,
}

impl CommitTracker {
    /// A tracker that starts from nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A tracker after a restart: everything in the database counts as committed (5.6), because no connection is
    /// accepted before a commit of this state was seen.
    #[must_use]
    pub fn restored(saved: AdjustedTokens) -> Self {
        Self {
            max: saved,
            db: saved,
            signed: saved,
            ..Self::default()
        }
    }

    /// Books the usage of a request.
    pub fn add(&mut self, used: AdjustedTokens) -> Result<(), CommitError> {
        let max = self.max.checked_add(used)?;
        // The wire and the contracts carry signed 64 bits.
        max.to_wire()?;
        self.max = max;
        Ok(())
    }

    /// Notes that a save with this number is on disk and held `max_at_save`.
    ///
    /// Call it for every save that wrote this record; [`Self::needs_save`] says whether one is due.
    pub fn saved(&mut self, save_no: u32, max_at_save: AdjustedTokens) -> Result<(), CommitError> {
        if let Some(last) = self.last_save.filter(|last| save_no <= *last) {
            return Err(CommitError::SaveOrder {
                last,
                found: save_no,
            });
        }
        if max_at_save > self.max {
            return Err(CommitError::SavedAboveMax {
                max: self.max.0,
                found: max_at_save.0,
            });
        }
        self.last_save = Some(save_no);
        if max_at_save > self.db {
            if self.pending.len() >= MAX_PENDING_SAVES {
                self.thin_out();
            }
            self.pending.push_back((save_no, max_at_save));
            self.db = max_at_save;
        }
        Ok(())
    }

    /// Notes that a commit of this save number was seen on chain; true if the amount that may be signed rose, so
    /// that a held signature is out of date.
    pub fn observed_commit(&mut self, save_no: u32) -> bool {
        let mut rose = false;
        while let Some(&(number, amount)) = self.pending.front()
            && number <= save_no
        {
            self.pending.pop_front();
            rose |= amount > self.signed;
            self.signed = self.signed.max(amount);
        }
        rose
    }

    /// True if something was booked since the last save.
    #[must_use]
    pub fn needs_save(&self) -> bool {
        self.max > self.db
    }

    /// True if something is saved that is not committed yet.
    #[must_use]
    pub fn needs_commit(&self) -> bool {
        self.db > self.signed
    }

    /// The running total.
    #[must_use]
    pub fn max(&self) -> AdjustedTokens {
        self.max
    }

    /// The total that is on disk.
    #[must_use]
    pub fn db(&self) -> AdjustedTokens {
        self.db
    }

    /// The total that may be signed.
    #[must_use]
    pub fn signed(&self) -> AdjustedTokens {
        self.signed
    }

    /// The three amounts as they are told to a peer.
    #[must_use]
    pub fn claims(&self) -> Claims {
        Claims::raised(self.signed, self.db, self.max)
    }

    /// Forgets every second entry, never the oldest or the newest: older ones grow sparse, and any commit still signs something.
    fn thin_out(&mut self) {
        let last = self.pending.len().saturating_sub(1);
        let mut index = 0;
        self.pending.retain(|_| {
            let keep = index == last || index % 2 == 0;
            index += 1;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_saved_and_committed_amounts_are_signed() {
        let mut tracker = CommitTracker::new();
        tracker.add(AdjustedTokens(10)).unwrap();
        assert!(!tracker.observed_commit(5));
        tracker.saved(6, AdjustedTokens(10)).unwrap();
        assert!(!tracker.observed_commit(5));
        assert_eq!(tracker.signed(), AdjustedTokens(0));
        tracker.add(AdjustedTokens(7)).unwrap();
        tracker.saved(7, AdjustedTokens(12)).unwrap();
        assert!(tracker.observed_commit(6));
        assert_eq!(tracker.signed(), AdjustedTokens(10));
        assert!(tracker.observed_commit(100));
        assert_eq!(tracker.signed(), AdjustedTokens(12));
        assert!(tracker.needs_save() && !tracker.needs_commit());
        assert!(!tracker.observed_commit(100));
    }

    #[test]
    fn faults_of_the_caller_are_errors() {
        let mut tracker = CommitTracker::restored(AdjustedTokens(5));
        assert!(tracker.saved(1, AdjustedTokens(6)).is_err());
        tracker.saved(1, AdjustedTokens(5)).unwrap();
        assert!(tracker.saved(1, AdjustedTokens(5)).is_err());
        assert!(tracker.add(AdjustedTokens(u64::MAX)).is_err());
        assert!(tracker.add(AdjustedTokens(i64::MAX as u64)).is_err());
        assert_eq!(tracker.max(), AdjustedTokens(5));
    }

    #[test]
    fn a_chain_that_stands_still_costs_bounded_memory() {
        let mut tracker = CommitTracker::new();
        for save in 1..=10_000 {
            tracker.add(AdjustedTokens(1)).unwrap();
            tracker
                .saved(save, AdjustedTokens(u64::from(save)))
                .unwrap();
            assert!(tracker.pending.len() <= MAX_PENDING_SAVES);
        }
        assert!(tracker.observed_commit(9_000));
        assert!(tracker.signed() <= AdjustedTokens(9_000) && tracker.signed() > AdjustedTokens(0));
        assert!(tracker.observed_commit(10_000));
        assert_eq!(tracker.signed(), AdjustedTokens(10_000));
    }
}
