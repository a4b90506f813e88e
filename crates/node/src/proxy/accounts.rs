//! The proxy's books: one account per client and per worker.

use std::collections::BTreeMap;

use cocoon_ledger::{AdjustedTokens, CommitTracker, SessionCommits};
use cocoon_ton::Address;
use serde::{Deserialize, Serialize};

/// A message to a contract that is under way: no second one is sent meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Ticket of the wallet message.
    pub ticket: u64,
    /// Tokens the contract will show if it accepts.
    pub expected: AdjustedTokens,
    /// When to give up waiting for the contract's own notice, once the wallet has sent it.
    pub until_ms: Option<u64>,
}

/// What the proxy's contract holds, as last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// All coins of the account, nanoTON.
    pub coins: u128,
    /// Stake, nanoTON.
    pub stake: u128,
    /// Logical time of the newest transaction in it.
    pub last_lt: u64,
}

/// What is kept on disk of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRecord {
    /// Contract status: 0 open, 1 closing, 2 closed, 3 unknown.
    pub status: u8,
    /// Deposit not yet charged, nanoTON.
    pub balance: u128,
    /// Stake, nanoTON.
    pub stake: u128,
    /// Tokens charged on chain.
    pub sc_used: u64,
    /// Tokens used in all.
    pub used: u64,
    /// SHA-256 of the client's secret, hex.
    pub secret_hash: String,
    /// It topped up while the proxy contract was closing: the coins were sent back at once although the ledger counts
    /// them, so no refund may be granted any more (contracts.md, W22).
    #[serde(default)]
    pub paid_back: bool,
}

/// What is kept on disk of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerRecord {
    /// Tokens paid on chain.
    pub sc_tokens: u64,
    /// Tokens earned in all.
    pub tokens: u64,
    /// The contract is closed.
    #[serde(default)]
    pub closed: bool,
}

/// What is kept on disk of the proxy itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetaRecord {
    /// Own contract, raw form: the records belong to it.
    pub contract: String,
    /// Logical time of the last transaction taken into the books.
    pub cursor_lt: u64,
    /// Save numbers, sessions and commits on their way.
    pub commits: Option<SessionCommits>,
    /// Params that the contract was made from, BOC in hex: with newer ones the proxy moves on from this contract.
    #[serde(default)]
    pub params: Option<String>,
    /// Version of the root configuration that was in force.
    #[serde(default)]
    pub root_version: u32,
    /// Params of the contract that is being founded, BOC in hex: its stake must not be forgotten.
    #[serde(default)]
    pub founding: Option<String>,
    /// Closed on purpose, and so until the root's params rise above this version.
    #[serde(default)]
    pub closed_for: Option<u32>,
}

/// A client in memory.
pub struct ClientAccount {
    /// Its contract.
    pub sc: Address,
    /// As on disk, apart from `used`, which lives in the tracker.
    pub record: ClientRecord,
    /// Used, saved and committed totals.
    pub tracker: CommitTracker,
    /// Reserved by running requests.
    pub reserved: AdjustedTokens,
    /// Running requests.
    pub running: u32,
    /// Newest signed charge: tokens and BOC.
    pub payment: Option<(u64, Vec<u8>)>,
    /// Own message to its contract under way.
    pub pending: Option<Pending>,
    /// Last time a request ended.
    pub last_active_ms: u64,
}

/// A worker in memory.
pub struct WorkerAccount {
    /// Its contract.
    pub sc: Address,
    /// Tokens paid on chain.
    pub sc_tokens: u64,
    /// Earned, saved and committed totals.
    pub tracker: CommitTracker,
    /// Newest signed payout: tokens and BOC.
    pub payment: Option<(u64, Vec<u8>)>,
    /// Own message to its contract under way.
    pub pending: Option<Pending>,
    /// Last time a request ended.
    pub last_active_ms: u64,
    /// The contract is closed.
    pub closed: bool,
}

/// All accounts and the state of saving.
pub struct Books {
    /// By owner.
    pub clients: BTreeMap<Address, ClientAccount>,
    /// By owner.
    pub workers: BTreeMap<Address, WorkerAccount>,
    /// Session, save numbers and pending commits.
    pub commits: SessionCommits,
}
