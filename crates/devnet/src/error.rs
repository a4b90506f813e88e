//! What can go wrong with an embedded chain, in words for the person who runs it.

use std::path::PathBuf;

/// Why the chain cannot be opened or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// The data directory cannot be used.
    #[error("cannot use the directory {path}: {source}; check that it exists and is writable")]
    Directory {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process has the store open.
    #[error(
        "the chain store {path} is in use by another process; stop that process or choose another data \
         directory"
    )]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// The file is not a chain store at all.
    #[error(
        "{path} is not a chain store of this program (found: {found}, expected: a redb database with a cocoon \
         devnet inside); nothing was changed, choose another data directory or move the file away"
    )]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What it looks like.
        found: String,
    },
    /// The store was written by another version.
    #[error(
        "the chain store {path} has format {found}, this program reads format {expected}; nothing was changed, \
         use the program version that wrote it or choose another data directory"
    )]
    Version {
        /// Where.
        path: PathBuf,
        /// Format in the file.
        found: u32,
        /// Format of this program.
        expected: u32,
    },
    /// The store belongs to another network.
    #[error(
        "the chain store {path} holds the network with global id {found}, but the network with global id \
         {expected} was asked for; nothing was changed, choose another data directory"
    )]
    Network {
        /// Where.
        path: PathBuf,
        /// Global id in the file.
        found: i32,
        /// Global id of the configuration.
        expected: i32,
    },
    /// The store is damaged.
    #[error(
        "the chain store {path} is damaged: {what}; nothing was changed, restore it from a copy or choose \
         another data directory"
    )]
    Corrupted {
        /// Where.
        path: PathBuf,
        /// What was found and what was expected.
        what: String,
    },
    /// The first block cannot be made from this configuration.
    #[error("the genesis configuration is wrong: {0}")]
    Genesis(String),
    /// Writing or reading failed while the chain was running.
    #[error(
        "the chain store failed: {0}; the last committed block is safe, free some disk space and restart"
    )]
    Storage(String),
    /// Coins appeared or vanished; the block was not committed.
    #[error(
        "coins are not conserved in block {seqno}: accounts {accounts} + in flight {in_queues} + burned {burned} \
         = {total}, but the genesis made {genesis}; the block was not committed and the chain stands still. \
         This is a defect of the program, please report it"
    )]
    Conservation {
        /// The block that was refused.
        seqno: u32,
        /// Coins on accounts.
        accounts: u128,
        /// Coins in messages.
        in_queues: u128,
        /// Coins burned as fees.
        burned: u128,
        /// Sum of the three.
        total: u128,
        /// What it should be.
        genesis: u128,
    },
    /// The chain was shut down.
    #[error("the chain was shut down")]
    Stopped,
}
