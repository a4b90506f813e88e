//! The proxy: matches clients and workers, keeps both their books, signs what they owe and earn.

mod accounts;
mod core;
mod driver;
mod links;
mod onchain;
mod requests;
mod stats;
mod types;

pub use accounts::{Books, ClientAccount, WorkerAccount};
pub use core::{BooksError, ProxyCore};
pub use driver::{ProxyHandle, ProxyOptions, start};
pub use links::MAX_VERSION;
pub use types::{Port, ProxyConfig, ProxyEffect, ProxyEvent, ProxySettings};
