//! The parties of a network without a chain: addresses and keys.

use cocoon_ton::Address;
use cocoon_ton::abi::{self, Params};
use ed25519_dalek::SigningKey;

use crate::codes::Codes;

pub const TON: u128 = 1_000_000_000;
pub const NOW: u32 = 1_790_000_000;
pub const QUERY_ID: u64 = 0x1122_3344_5566_7788;
/// Tokens already charged or paid in every ledger here.
pub const TOKENS: u64 = 100;

/// The parties of one small network.
pub struct Net {
    pub codes: Codes,
    pub params: Params,
    pub root: Address,
    pub root_owner: Address,
    pub proxy: Address,
    pub proxy_owner: Address,
    pub client: Address,
    pub client_owner: Address,
    pub worker: Address,
    pub worker_owner: Address,
    pub wallet: Address,
    pub wallet_owner: Address,
    pub stranger: Address,
    /// Receives leftover coins.
    pub receiver: Address,
}

pub fn party(byte: u8) -> Address {
    Address::basechain([byte; 32])
}

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Seed of the key that the contracts know; any other is a wrong one.
pub const SEED: u8 = 1;

pub fn public_key() -> [u8; 32] {
    key(SEED).verifying_key().to_bytes()
}

impl Net {
    pub fn new(codes: &Codes) -> Self {
        let params = Params {
            struct_version: abi::params::STRUCT_VERSION,
            params_version: 7,
            unique_id: 17,
            is_test: true,
            price_per_token: 20,
            worker_fee_per_token: 17,
            prompt_multiplier: 10_000,
            cached_multiplier: 1_000,
            completion_multiplier: 30_000,
            reasoning_multiplier: 30_000,
            proxy_delay: 600,
            client_delay: 300,
            min_proxy_stake: 3 * TON,
            min_client_stake: TON,
            proxy_code: Some(codes.proxy.clone()),
            worker_code: Some(codes.worker.clone()),
            client_code: Some(codes.client.clone()),
        };
        let [root, root_owner, proxy_owner, client_owner, worker_owner] =
            [0xa0, 0xa1, 0xb0, 0xd0, 0xc0].map(party);
        let proxy = abi::proxy_init(&params, proxy_owner, public_key(), root)
            .unwrap()
            .address;
        let client = abi::client_init(&params, proxy, public_key(), client_owner)
            .unwrap()
            .address;
        let worker = abi::worker_init(&params, proxy, public_key(), worker_owner)
            .unwrap()
            .address;
        Self {
            codes: codes.clone(),
            params,
            root,
            root_owner,
            proxy,
            proxy_owner,
            client,
            client_owner,
            worker,
            worker_owner,
            wallet: party(0xf0),
            wallet_owner: party(0xf1),
            stranger: party(0xe0),
            receiver: party(0xee),
        }
    }
}
