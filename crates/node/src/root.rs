//! The root contract as a node uses it: prices, lists, and the addresses that follow from them.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use cocoon_ledger::{Coefficient, Multiplier, Multipliers, NanoTon, Prices};
use cocoon_ton::abi::{self, AbiError, Params, RootState, StateInit};
use cocoon_ton::{Address, Cell};
use sha2::{Digest, Sha256};

/// One registered proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredProxy {
    /// Number in the registry.
    pub seqno: u32,
    /// Where workers connect.
    pub workers: SocketAddrV4,
    /// Where clients connect.
    pub clients: SocketAddrV4,
}

/// A decoded root contract.
#[derive(Clone, Debug)]
pub struct RootView {
    /// The contract.
    pub address: Address,
    /// Raised by every change.
    pub version: u32,
    /// Prices, delays and codes; frozen into every contract made from them.
    pub params: Params,
    /// Image hashes that may be proxies.
    pub proxy_hashes: BTreeSet<[u8; 32]>,
    /// Image hashes that may be workers.
    pub worker_hashes: BTreeSet<[u8; 32]>,
    /// Model hashes that may be served.
    pub model_hashes: BTreeSet<[u8; 32]>,
    /// Governance; `None` where a static configuration names nobody.
    pub owner: Option<Address>,
    /// The last sequence number given to a proxy.
    pub last_proxy_seqno: u32,
    /// Addresses that could be parsed.
    pub proxies: Vec<RegisteredProxy>,
}

impl RootView {
    /// Reads the data cell of the root contract.
    pub fn decode(address: Address, data: &Cell) -> Result<Self, AbiError> {
        let state = RootState::decode(data)?;
        let proxies = state
            .proxies
            .iter()
            .filter_map(|(seqno, net)| {
                let e = net.endpoints().ok()?;
                Some(RegisteredProxy {
                    seqno: *seqno,
                    workers: e.for_workers,
                    clients: e.for_clients,
                })
            })
            .collect();
        Ok(RootView {
            address,
            version: state.version,
            params: state.params,
            proxy_hashes: state.proxy_hashes,
            worker_hashes: state.worker_hashes,
            model_hashes: state.model_hashes,
            owner: Some(state.owner),
            last_proxy_seqno: state.last_proxy_seqno,
            proxies,
        })
    }

    /// Price of one adjusted token for a client.
    pub fn price(&self) -> NanoTon {
        NanoTon(self.params.price_per_token)
    }

    /// Pay of one adjusted token for a worker.
    pub fn worker_fee(&self) -> NanoTon {
        NanoTon(self.params.worker_fee_per_token)
    }

    /// The test flag.
    pub fn is_test(&self) -> bool {
        self.params.is_test
    }

    /// Multipliers per token class.
    pub fn multipliers(&self) -> Multipliers {
        Multipliers {
            prompt: Multiplier(self.params.prompt_multiplier),
            cached: Multiplier(self.params.cached_multiplier),
            completion: Multiplier(self.params.completion_multiplier),
            reasoning: Multiplier(self.params.reasoning_multiplier),
        }
    }

    /// What a request at `coefficient` costs.
    pub fn prices(&self, coefficient: Coefficient) -> Prices {
        Prices {
            multipliers: self.multipliers(),
            price_per_token: self.price(),
            coefficient,
        }
    }

    /// Whether a full model name (`base@commit:hash`) is on the list.
    pub fn allows_model(&self, full_name: &str) -> bool {
        self.model_hashes.contains(&model_hash(full_name))
    }

    /// Contract of a proxy with this owner and key.
    pub fn proxy_contract(&self, owner: Address, key: [u8; 32]) -> Result<StateInit, AbiError> {
        abi::proxy_init(&self.params, owner, key, self.address)
    }

    /// Contract of a client at a proxy.
    pub fn client_contract(
        &self,
        proxy_sc: Address,
        proxy_key: [u8; 32],
        owner: Address,
    ) -> Result<StateInit, AbiError> {
        abi::client_init(&self.params, proxy_sc, proxy_key, owner)
    }

    /// Contract of a worker at a proxy.
    pub fn worker_contract(
        &self,
        proxy_sc: Address,
        proxy_key: [u8; 32],
        owner: Address,
    ) -> Result<StateInit, AbiError> {
        abi::worker_init(&self.params, proxy_sc, proxy_key, owner)
    }
}

/// SHA-256 of a full model name, as the root contract lists it.
pub fn model_hash(full_name: &str) -> [u8; 32] {
    Sha256::digest(full_name.as_bytes()).into()
}

/// The part of a model name that requests use: everything before the first `@`.
pub fn base_model(full_name: &str) -> &str {
    full_name.split('@').next().unwrap_or(full_name)
}
