//! The commands beside `cocoon up`.

pub mod account;
pub mod attest;
pub mod chat;
pub mod collateral;
pub mod contracts;
pub mod doctor;
pub mod exit;
mod guest;
pub mod model;
pub mod nodes;
pub mod operate;
pub mod router;
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

/// The chain of the data directory that the command is about: of a running network, or running alone.
pub fn running_chain(global: &crate::cli::Global) -> Result<Toncenter> {
    let layout = Layout::locate(global.data_dir.as_deref())?;
    let alone = crate::fs::read_small(&layout.chain_file())?
        .and_then(|bytes| serde_json::from_slice::<crate::network::ChainInfo>(&bytes).ok());
    match alone {
        Some(info) => Ok(Toncenter::new(&info.url, info.global_id)),
        None => running(global).map(|network| chain(&network)),
    }
}

/// One object for machines.
pub fn print_json(value: &Value) {
    println!("{value:#}");
}
