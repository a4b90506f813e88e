//! Tokens, prices, reservations and books: pure arithmetic and parsing, without I/O, clock or randomness.
//!
//! Section numbers in the documentation of this crate refer to `spec/protocol.md`; "11 #3" is entry 3 of its list of
//! weaknesses.
//!
//! | module | idea |
//! |---|---|
//! | [`units`] | newtypes that keep nanoTON, tokens and factors apart |
//! | [`mod@adjust`] | model tokens into billed tokens |
//! | [`usage`] | what a response used, read from its body while it passes |
//! | [`validate`] | which HTTP requests a worker accepts, and how it rewrites them |
//! | [`reserve`] | what a client may spend, and what a request sets aside |
//! | [`commit`], [`session`] | which amounts a proxy may sign |
//! | [`claims`] | what a peer believes a proxy has claimed |
//! | [`settle`] | when to go to the chain, and with which amount |
//! | [`stats`], [`choose`] | decaying counters, and the reference's choice of a worker |
//! | [`health`], [`rank`] | what is measured of a peer, and our choice among peers |

pub mod adjust;
mod canonical;
pub mod choose;
pub mod claims;
pub mod commit;
pub mod health;
pub mod rank;
pub mod reserve;
pub mod session;
pub mod settle;
pub mod stats;
pub mod units;
pub mod usage;
pub mod validate;

pub use adjust::adjust;
pub use canonical::to_canonical_json;
pub use claims::Claims;
pub use commit::CommitTracker;
pub use session::SessionCommits;
pub use units::{AdjustedTokens, Coefficient, ModelTokens, Multiplier, NanoTon, UnitError};
pub use usage::{ModelUsage, Multipliers, Prices, TokensUsed, UsageCounter};
