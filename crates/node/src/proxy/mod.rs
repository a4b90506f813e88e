//! The proxy: matches clients and workers, keeps both their books, signs what they owe and earn.

mod accounts;
mod answers;
mod clients;
mod contracts;
mod core;
mod driver;
mod links;
mod moving;
mod near;
mod old;
mod onchain;
mod open;
mod operate;
mod place;
mod queue;
mod requests;
mod stats;
#[cfg(test)]
mod tests;
mod types;
mod workers;

pub use accounts::{Books, ClientAccount, WorkerAccount};
pub use core::{BooksError, ProxyCore};
pub use driver::{Entrance, ProxyHandle, ProxyOptions, start};
pub use links::MAX_VERSION;
pub use moving::{ClosingSettings, default_stake};
pub use operate::Wish;
pub use types::{Port, ProxyConfig, ProxyEffect, ProxyEvent, ProxySettings};
