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

/// A code that is known, by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCode {
    /// root, proxy, client, worker or wallet.
    pub contract: &'static str,
    /// Whose build it is.
    pub build: &'static str,
    /// Whether it is one of the official network's.
    pub official: bool,
    /// Representation hash of the code cell, in hex.
    pub hash: String,
}

/// Code hashes of the official builds (contracts.md, section 18).
const OFFICIAL: [(&str, &str, &str); 11] = [
    (
        "root",
        "official FunC",
        "5b07c6bd0c34735874dfa3548cd9a01c78be1e0fdf20d0c5ebe37776396c5400",
    ),
    (
        "proxy",
        "official FunC",
        "00b2c57d43c1dbc3e12cfa240494a168c78feca90a9b99ebe796b139ed713890",
    ),
    (
        "client",
        "official FunC",
        "974d24538e6003b1a393f8708525b81324cf8a78aee88b4585d51b6f64555147",
    ),
    (
        "worker",
        "official FunC",
        "1aaa0512c489a0382b163f7d706e2b4182f1a38fcc46208be5fa22d7faed5aa7",
    ),
    (
        "wallet",
        "official FunC",
        "7a48f05ceef40f06cabbaa39c1c5a67b24e8bb59d8cf8a74e49988a5f44cf66a",
    ),
    (
        "root",
        "official Tolk 1.2.0",
        "53f0f97f1a5a3639e0ec8533c560de0a5bf7d71470460d75286f89439d684c52",
    ),
    (
        "proxy",
        "official Tolk 1.2.0",
        "ad24a0773111985afc0e902ba2fc14368d23e4641d2e3a67e2e990a95ddb867c",
    ),
    (
        "client",
        "official Tolk 1.2.0",
        "2229b22cbf81ffff67d342c0fba229002d1064cf323d944907c9442fe8ede3e8",
    ),
    (
        "worker",
        "official Tolk 1.2.0",
        "e6416224b711bf123c5f9da88496653f896a4c781f24b1cee5879cc1b8e55742",
    ),
    (
        "wallet",
        "official Tolk 1.2.0",
        "e9b750f2f4341cc30f17994aae8c8bddee4320abe484d59808d7afa576aebd49",
    ),
    (
        "wallet",
        "official Tolk 1.3.0",
        "8c6c8b2066159cb120727b6e1f14020d5e017aea544c048106d0dd1c39835a7b",
    ),
];

/// How our own builds are called.
const OURS: &str = "cocoon-rust";

impl Contracts {
    /// Every code that is known: the five inside this program and the official builds.
    pub fn known(&self) -> Vec<KnownCode> {
        let own = [
            ("root", &self.root),
            ("proxy", &self.proxy),
            ("client", &self.client),
            ("worker", &self.worker),
            ("wallet", &self.wallet),
        ];
        let own = own.into_iter().map(|(contract, code)| KnownCode {
            contract,
            build: OURS,
            official: false,
            hash: hex::encode(code.repr_hash()),
        });
        let official = OFFICIAL
            .into_iter()
            .map(|(contract, build, hash)| KnownCode {
                contract,
                build,
                official: true,
                hash: hash.to_owned(),
            });
        own.chain(official).collect()
    }

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
                .find(|entry| entry["file"] == file)
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
                "CocoonRoot.boc",
                include_bytes!("../../../contracts/build/CocoonRoot.boc"),
            )?,
            proxy: read(
                "CocoonProxy.boc",
                include_bytes!("../../../contracts/build/CocoonProxy.boc"),
            )?,
            client: read(
                "CocoonClient.boc",
                include_bytes!("../../../contracts/build/CocoonClient.boc"),
            )?,
            worker: read(
                "CocoonWorker.boc",
                include_bytes!("../../../contracts/build/CocoonWorker.boc"),
            )?,
            wallet: read(
                "CocoonWallet.boc",
                include_bytes!("../../../contracts/build/CocoonWallet.boc"),
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

    #[test]
    fn every_known_code_is_known_once() {
        let known = Contracts::load().unwrap().known();
        assert_eq!(known.len(), 16);
        for code in &known {
            assert_eq!(code.hash.len(), 64);
            assert!(hex::decode(&code.hash).is_ok());
            let same = known.iter().filter(|other| other.hash == code.hash);
            assert_eq!(same.count(), 1, "{code:?}");
        }
    }
}
