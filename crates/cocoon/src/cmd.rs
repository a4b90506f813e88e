//! The commands beside `cocoon up`.

pub mod account;
pub mod chat;
pub mod doctor;
pub mod model;
pub mod status;
pub mod wallet;

use serde_json::Value;

use crate::datadir::Layout;
use crate::error::Result;
use crate::network::Network;
use crate::toncenter::Toncenter;

/// The chain of the running network.
pub fn chain(network: &Network) -> Toncenter {
    Toncenter::new(&network.chain.url, network.chain.global_id)
}

/// The running network of the data directory that the command is about.
pub fn running(global: &crate::cli::Global) -> Result<Network> {
    Network::running(&Layout::locate(global.data_dir.as_deref())?)
}

/// One object for machines.
pub fn print_json(value: &Value) {
    println!("{value:#}");
}
