//! The worker: serves one model to the proxies it dials, counts what it used, and collects its pay.

mod account;
mod core;
mod driver;
mod links;
mod moving;
mod onchain;
mod operate;
mod payments;
mod requests;
mod stats;
mod types;

#[cfg(test)]
mod tests;

pub use core::{RecordsError, WorkerCore};
pub use driver::{WorkerHandle, WorkerOptions, start};
pub use types::{WorkerConfig, WorkerEffect, WorkerEvent, WorkerSettings};
