//! `network.json`: everything that scripts and the other commands need to know of a running network.

use cocoon_ton::Address;
use serde::{Deserialize, Serialize};

use crate::datadir::Layout;
use crate::error::{CliError, Result};
use crate::fs::{PUBLIC_MODE, read_small, write_atomic};

/// A running network. All addresses are raw (`0:hex`), all URLs on loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Version of the program.
    pub version: String,
    /// Process that runs everything.
    pub pid: u32,
    /// Unix time in seconds at which it became ready.
    pub ready_at: u64,
    /// Milliseconds from the start of the process until it was ready.
    pub startup_ms: u64,
    /// Where the data is.
    pub data_dir: String,
    /// How the nodes attest each other. `fake_tdx` proves nothing.
    pub attestation: String,
    /// Whether prompts are protected from this machine's owner. Never on a local network.
    pub confidential: bool,
    /// Name that requests use.
    pub model: String,
    /// Full name whose hash stands in the root contract.
    pub model_full_name: String,
    /// SHA-256 of the full name.
    pub model_hash: String,
    /// The client node.
    pub client: ClientInfo,
    /// The proxy node.
    pub proxy: ProxyInfo,
    /// The worker node.
    pub worker: WorkerInfo,
    /// The chain.
    pub chain: ChainInfo,
    /// Prices in force.
    pub prices: Prices,
}

/// The client node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Port of the endpoint.
    pub port: u16,
    /// The endpoint.
    pub url: String,
    /// What OpenAI clients call `base_url`.
    pub openai_base_url: String,
    /// Process id.
    pub pid: u32,
    /// Node wallet: owner of the client contract.
    pub wallet: Address,
    /// Owner of the node wallet.
    pub owner: Address,
    /// Client contract at the proxy.
    pub contract: Address,
}

/// The proxy node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyInfo {
    /// Port of the status page.
    pub port: u16,
    /// Status page.
    pub url: String,
    /// Port for workers.
    pub worker_rpc_port: u16,
    /// Port for clients.
    pub client_rpc_port: u16,
    /// Process id.
    pub pid: u32,
    /// Node wallet.
    pub wallet: Address,
    /// Owner of the proxy contract: gets the revenue.
    pub owner: Address,
    /// Proxy contract: holds the deposits.
    pub contract: Address,
    /// Ed25519 key that signs charges and payouts, in hex.
    pub public_key: String,
}

/// The worker node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Port of the status page.
    pub port: u16,
    /// Status page.
    pub url: String,
    /// Process id.
    pub pid: u32,
    /// Node wallet.
    pub wallet: Address,
    /// Gets the pay.
    pub owner: Address,
    /// Worker contract at the proxy.
    pub contract: Address,
    /// Price factor in thousandths.
    pub coefficient: u32,
}

/// The chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainInfo {
    /// Port of the HTTP interface.
    pub port: u16,
    /// The HTTP interface; toncenter v2 is under `/api/v2`.
    pub url: String,
    /// Global id of the network.
    pub global_id: i32,
    /// Root contract.
    pub root: Address,
    /// Wallet with the genesis coins; owner of the root contract.
    pub faucet: Address,
}

/// Prices in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// NanoTON that a client pays for a token.
    pub price_per_token: u128,
    /// NanoTON that a worker gets for a token.
    pub worker_fee_per_token: u128,
    /// Weights in 1/10000.
    pub prompt_multiplier: u32,
    /// See [`Prices::prompt_multiplier`].
    pub cached_multiplier: u32,
    /// See [`Prices::prompt_multiplier`].
    pub completion_multiplier: u32,
    /// See [`Prices::prompt_multiplier`].
    pub reasoning_multiplier: u32,
}

impl Network {
    /// Writes the file, whole or not at all.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|e| CliError::new(format!("cannot write network.json: {e}")))?;
        text.push(b'\n');
        write_atomic(&layout.network_file(), &text, PUBLIC_MODE)
    }

    /// The network that runs in a data directory, or an error that says that none does.
    pub fn running(layout: &Layout) -> Result<Self> {
        Self::find(layout)?.ok_or_else(|| {
            let failure = CliError::new("no network is running").expected(format!(
                "a running 'cocoon up' in {}",
                layout.path().display()
            ));
            if layout.holder().is_some() {
                failure
                    .found("one that is still starting")
                    .hint("wait until it says that it is ready")
            } else {
                failure
                    .found("none")
                    .hint("start one with 'cocoon up', or name its directory with --data-dir DIR")
            }
        })
    }

    /// The network that runs in a data directory, if one does and is ready.
    pub fn find(layout: &Layout) -> Result<Option<Self>> {
        // A file left behind by kill -9 speaks of a network that is not there any more.
        if layout.holder().is_none() {
            return Ok(None);
        }
        let path = layout.network_file();
        let Some(bytes) = read_small(&path)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            CliError::new(format!("{} cannot be understood", path.display()))
                .expected("the network.json of this version of cocoon")
                .found(e.to_string())
                .hint("use the same version as the running 'cocoon up'")
        })
    }
}
