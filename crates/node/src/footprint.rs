//! How much a core holds: what tests bound, and what an operator may want to see grow.

/// Entries in the collections of a core. Each has a bound that no peer can move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Connections known.
    pub links: usize,
    /// Requests running.
    pub requests: usize,
    /// Questions of ours without an answer, lists of models among them.
    pub questions: usize,
    /// Messages that wait for the disk.
    pub waiting: usize,
    /// Accounts of clients, workers or proxies.
    pub accounts: usize,
    /// Requests being measured.
    pub measured: usize,
    /// Names of models remembered.
    pub names: usize,
}
