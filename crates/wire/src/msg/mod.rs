//! The messages of the network: every constructor of the scheme (`spec/protocol.md`, 2.4) and our extensions.
//!
//! A struct is named after its constructor and carries the declaration it was made from. Where a TL type has
//! several constructors, or where one side of a connection may send one of several messages, there is an
//! enum of alternatives next to the structs.

pub mod catalogue;
pub mod client;
pub mod common;
pub mod db;
pub mod http;
pub mod key_manager;
pub mod key_manager_db;
pub mod market;
pub mod proxy;
pub mod root_config;
pub mod runner_config;
pub mod tcp;
pub mod worker;
