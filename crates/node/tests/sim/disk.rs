//! A model disk: a batch is written record by record into a journal, and counts once its end mark is there.
//!
//! That is how redb behaves: a commit is in the file wholly or not at all. A crash in the middle leaves a torn
//! journal, which the next start throws away.

use std::collections::BTreeMap;

use cocoon_node::store::Change;

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    records: BTreeMap<String, Vec<u8>>,
    /// A batch whose end mark is missing.
    torn: Vec<Change>,
}

/// What a crash does to the batch that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing of it is there.
    Lost,
    /// The first records are there, without an end mark.
    Torn,
    /// All of it is there, only nobody was told.
    Whole,
}

impl Disk {
    /// Writes a batch with its end mark.
    pub fn commit(&mut self, batch: &[Change]) {
        for (key, value) in batch {
            match value {
                Some(v) => self.records.insert(key.clone(), v.clone()),
                None => self.records.remove(key),
            };
        }
    }

    /// Writes the first records of a batch and then loses power.
    pub fn tear(&mut self, batch: &[Change], written: usize) {
        self.torn = batch[..written].to_vec();
    }

    /// What a node that starts finds.
    pub fn recover(&mut self) -> Vec<(String, Vec<u8>)> {
        self.torn.clear();
        self.records.clone().into_iter().collect()
    }

    /// Takes a torn batch for a whole one: what a store without a journal would do.
    pub fn recover_badly(&mut self) -> Vec<Change> {
        let torn = std::mem::take(&mut self.torn);
        self.commit(&torn);
        torn
    }

    pub fn records(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.records
    }

    pub fn remove(&mut self, key: &str) {
        self.records.remove(key);
    }
}
