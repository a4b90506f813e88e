//! The embedded TON chain: executor, blocks, store, and a toncenter-style HTTP server.

pub mod config;
pub mod executor;
pub mod getter;
pub mod message;
pub mod sandbox;
pub mod transaction;
