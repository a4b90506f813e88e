//! The embedded chain of a local network: opened, served, and kept away from real money.

use std::time::Duration;

use cocoon_devnet::{Devnet, DevnetConfig, DevnetError, GenesisAccount};
use cocoon_node::metrics::Page;
use cocoon_node::metrics::page::CONTENT_TYPE;
use cocoon_node::root::RootView;
use cocoon_ton::Chain;
use cocoon_ton::abi::StateInit;
use cocoon_ton::chain::MAINNET_GLOBAL_ID;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::founding::GENESIS_COINS;
use crate::datadir::Layout;
use crate::error::{CliError, Result};
use crate::nodes::start::fake_policy;

/// Global id of local networks: "c0c00" twelve bits up. No public network uses it.
pub const GLOBAL_ID: i32 = 0x0c_0c00;
/// Messages in flight arrive within a few blocks.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the chain, or makes it with all coins in the faucet; never makes a second one in the place of a lost one.
pub async fn open_chain(layout: &Layout, faucet: &StateInit, founded: bool) -> Result<Devnet> {
    let dir = layout.chain();
    let store = dir.join("chain.redb");
    // An empty file would be taken for a store to be made, and another chain founded over the old keys.
    let size = std::fs::metadata(&store).map_or(0, |m| m.len());
    if founded && size == 0 {
        return Err(
            CliError::new("the chain of this network is missing; nothing was changed")
                .expected(format!("the chain's store {}", store.display()))
                .found(if store.exists() {
                    "an empty file"
                } else {
                    "no such file"
                })
                .hint("restore it from a copy; a new chain would know none of this network's coins")
                .hint("or found another network with --data-dir DIR"),
        );
    }
    let config = DevnetConfig {
        genesis: vec![GenesisAccount {
            address: faucet.address,
            balance: GENESIS_COINS,
            state_init: Some(faucet.cell.clone()),
        }],
        global_id: GLOBAL_ID,
        ..DevnetConfig::default()
    };
    tokio::task::spawn_blocking(move || Devnet::open(&dir, config))
        .await
        .map_err(|e| CliError::new("opening the chain failed").found(e.to_string()))?
        .map_err(chain_error)
}

/// Waits until messages that were in flight when the process before was killed have arrived: looking before that would
/// show something as missing that is on its way, and it would be done twice.
pub async fn empty_queue(devnet: &Devnet) {
    let mut heads = devnet.subscribe();
    let empty =
        async { while devnet.total_coins().in_queues > 0 && heads.changed().await.is_ok() {} };
    // A message to the far future does not exist here, so a longer wait means that the chain has other trouble.
    let _ = tokio::time::timeout(QUEUE_TIMEOUT, empty).await;
}

/// The chain's own words are complete; a hint points to the way out.
fn chain_error(error: DevnetError) -> CliError {
    let failure =
        CliError::new("the chain does not open; nothing was deleted").found(error.to_string());
    match error {
        DevnetError::Corrupted { .. } | DevnetError::Foreign { .. } => failure
            .expected("a sound chain store of this network")
            .hint("restore the file from a copy, or found another network with --data-dir DIR"),
        DevnetError::Version { expected, .. } => failure
            .expected(format!("a chain store of format {expected}"))
            .hint("use the version that wrote it, or found another network with --data-dir DIR"),
        DevnetError::Network { expected, .. } => failure
            .expected(format!("a chain with the global id {expected}"))
            .hint("choose another --data-dir"),
        _ => failure,
    }
}

/// Serves the chain on HTTP until the task is aborted.
pub fn serve_chain(devnet: &Devnet, listener: TcpListener) -> JoinHandle<()> {
    let devnet = devnet.clone();
    tokio::spawn(async move {
        let pages = metrics(&devnet);
        let router = devnet.router().merge(pages);
        if let Err(e) = axum::serve(cocoon_node::common::no_delay(listener), router).await {
            tracing::error!("the chain's HTTP interface ended: {e}");
        }
    })
}

/// `/metrics` of the chain.
fn metrics(devnet: &Devnet) -> axum::Router {
    let devnet = devnet.clone();
    let read = move || {
        let devnet = devnet.clone();
        async move {
            let head = devnet.head();
            let mut page = Page::new("chain");
            crate::nodes::expose_process(&mut page);
            page.gauge(
                "cocoon_chain_block",
                "Number of the newest block.",
                &[],
                head.seqno,
            );
            let lag = crate::nodes::unix_now() as f64 - f64::from(head.utime);
            page.gauge(
                "cocoon_chain_lag_seconds",
                "Seconds that the newest block is behind this machine's clock.",
                &[],
                lag,
            );
            let supply = head.supply;
            for (place, coins) in [
                ("accounts", supply.accounts),
                ("messages", supply.in_queues),
                ("burned", supply.burned_fees),
            ] {
                page.gauge(
                    "cocoon_chain_coins_nanotons",
                    "Where all nanoTON of the chain are.",
                    &[("place", place)],
                    coins,
                );
            }
            page.gauge(
                "cocoon_chain_coins_conserved",
                "1 if they are as many as at genesis.",
                &[],
                supply.is_conserved(),
            );
            (
                [(axum::http::header::CONTENT_TYPE, CONTENT_TYPE)],
                page.text(),
            )
        }
    };
    axum::Router::new().route("/metrics", axum::routing::get(read))
}

/// fake_tdx proves nothing, so it is refused wherever real money or a real network is at stake.
pub async fn guard(chain: &dyn Chain, root: &RootView) -> Result<()> {
    let network = chain
        .network()
        .await
        .map_err(|e| CliError::new("the chain does not answer").found(e.to_string()))?;
    refuse_real(network.global_id, root.is_test())
}

fn refuse_real(global_id: i32, is_test: bool) -> Result<()> {
    cocoon_attest::guard_network(&fake_policy(), global_id == MAINNET_GLOBAL_ID, is_test).map_err(
        |e| {
            CliError::new("this network is refused")
                .expected("a test root on a test network")
                .found(e.to_string())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fake_is_refused_where_it_matters() {
        refuse_real(GLOBAL_ID, true).unwrap();
        assert!(refuse_real(MAINNET_GLOBAL_ID, true).is_err());
        assert!(refuse_real(GLOBAL_ID, false).is_err());
        assert_ne!(GLOBAL_ID, MAINNET_GLOBAL_ID);
    }
}
