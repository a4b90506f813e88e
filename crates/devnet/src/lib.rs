//! The embedded TON chain: executor, blocks, store, and a toncenter-style HTTP server.

pub mod block;
pub mod chain;
pub mod clock;
pub mod config;
pub mod emulate;
pub mod error;
pub mod executor;
pub mod genesis;
pub mod getter;
pub mod http;
mod ledger;
pub mod message;
pub mod reader;
pub mod sandbox;
mod store;

pub use block::{Block, BlockTransaction, Supply};
pub use chain::{
    DEFAULT_BLOCK_INTERVAL, DEVNET_GLOBAL_ID, Devnet, DevnetConfig, HEARTBEAT, SendError,
};
pub use clock::ClockMode;
pub use error::DevnetError;
pub use genesis::GenesisAccount;
