//! The queries that wait for an answer.

use std::collections::{BTreeSet, HashSet, hash_map::Entry};
use std::{collections::HashMap, time::Duration};

/// Open queries by id and by deadline.
#[derive(Debug, Default)]
pub(super) struct OpenQueries {
    by_id: HashMap<i64, Duration>,
    by_deadline: BTreeSet<(Duration, i64)>,
}

impl OpenQueries {
    /// Adds a query; false if the id is in use.
    pub(super) fn insert(&mut self, id: i64, deadline: Duration) -> bool {
        match self.by_id.entry(id) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(deadline);
                self.by_deadline.insert((deadline, id));
                true
            }
        }
    }

    /// Removes a query; false if there is none.
    pub(super) fn remove(&mut self, id: i64) -> bool {
        match self.by_id.remove(&id) {
            Some(deadline) => self.by_deadline.remove(&(deadline, id)),
            None => false,
        }
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.by_deadline.first().map(|&(deadline, _)| deadline)
    }

    /// Removes and returns a query whose time is over.
    pub(super) fn pop_expired(&mut self, now: Duration) -> Option<i64> {
        let &(deadline, id) = self.by_deadline.first()?;
        if deadline > now {
            return None;
        }
        self.remove(id);
        Some(id)
    }

    /// Removes everything.
    pub(super) fn drain(&mut self) -> HashSet<i64> {
        self.by_deadline.clear();
        self.by_id.drain().map(|(id, _)| id).collect()
    }
}
