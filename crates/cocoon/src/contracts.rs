//! The five contracts inside this program, checked against their manifest.

use cocoon_ton::abi::{self, StateInit};
use cocoon_ton::{Address, Cell, boc};

use crate::error::{CliError, Result};

const MANIFEST: &str = include_str!("../../../contracts/build/manifest.json");

/// Compiled code, ready to be deployed.
#[derive(Debug, Clone)]
pub struct Contracts {
    /// Registry and prices.
    pub root: Cell,
    /// Holds all coins.
    pub proxy: Cell,
    /// Ledger of a client.
    pub client: Cell,
    /// Ledger of a worker.
    pub worker: Cell,
    /// Wallet of nodes and people.
    pub wallet: Cell,
}

impl Contracts {
    /// Reads the code and compares every hash with the manifest.
    pub fn load() -> Result<Self> {
        let manifest: serde_json::Value = serde_json::from_str(MANIFEST)
            .map_err(|e| broken("manifest.json", "JSON", &e.to_string()))?;
        let read = |file: &str, bytes: &[u8]| -> Result<Cell> {
            let cell = boc::decode(bytes, boc::STATE)
                .map_err(|e| broken(file, "a BOC", &e.to_string()))?;
            let found = hex::encode(cell.repr_hash());
            let expected = manifest["contracts"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|entry| entry["alias"] == file)
                .and_then(|entry| entry["code_hash"].as_str())
                .unwrap_or("an entry in the manifest");
            if expected == found {
                Ok(cell)
            } else {
                Err(broken(file, expected, &found))
            }
        };
        Ok(Self {
            root: read(
                "root.boc",
                include_bytes!("../../../contracts/build/root.boc"),
            )?,
            proxy: read(
                "proxy.boc",
                include_bytes!("../../../contracts/build/proxy.boc"),
            )?,
            client: read(
                "client.boc",
                include_bytes!("../../../contracts/build/client.boc"),
            )?,
            worker: read(
                "worker.boc",
                include_bytes!("../../../contracts/build/worker.boc"),
            )?,
            wallet: read(
                "wallet.boc",
                include_bytes!("../../../contracts/build/wallet.boc"),
            )?,
        })
    }

    /// The same with the wallet code that a network was founded with.
    pub fn of_network(mut self, wallet_code: &str) -> Result<Self> {
        let decoded = hex::decode(wallet_code)
            .ok()
            .and_then(|bytes| boc::decode(&bytes, boc::STATE).ok());
        self.wallet = decoded.ok_or_else(|| {
            CliError::new("the wallet code in data.json is damaged; nothing was changed")
                .expected("a BOC in hex")
                .hint("restore data.json from a copy")
        })?;
        Ok(self)
    }

    /// The wallet of a key. Without an owner nobody but the key can move its coins.
    pub fn wallet(&self, public_key: [u8; 32], owner: Option<Address>) -> Result<StateInit> {
        // The zero address belongs to nobody: no contract can have it.
        let owner = owner.unwrap_or_default();
        abi::wallet_init(self.wallet.clone(), public_key, owner)
            .map_err(|e| CliError::new("cannot compute a wallet address").found(e.to_string()))
    }
}

fn broken(file: &str, expected: &str, found: &str) -> CliError {
    CliError::new(format!(
        "the contract {file} inside this program is damaged"
    ))
    .expected(expected)
    .found(found)
    .hint("build the program again; 'node contracts/build.mjs' compiles the contracts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_fit_their_manifest() {
        Contracts::load().unwrap();
    }
}
