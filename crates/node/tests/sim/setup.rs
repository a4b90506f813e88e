//! The network under test: root contract, wallets, offers, and how each node is started.

use std::collections::BTreeSet;

use cocoon_ledger::NanoTon;
use cocoon_ledger::settle::{self, Thresholds};
use cocoon_node::ChainMode;
use cocoon_node::client::{ClientConfig, ClientCore, ClientSettings};
use cocoon_node::proxy::{ProxyConfig, ProxyCore, ProxySettings};
use cocoon_node::root::{RootView, model_hash};
use cocoon_node::worker::{WorkerConfig, WorkerCore, WorkerSettings};
use cocoon_ton::abi::{ClientMessage, Params, ProxyState};
use cocoon_ton::{Address, Cell};
use ed25519_dalek::SigningKey;

use super::backend::MULTIPLIERS;
use super::chain::Kind;
use super::node::{Core, Role};

/// Start of the simulated time.
pub const T0: u64 = 1_795_000_000_000;
pub const TON: u128 = 1_000_000_000;
/// Price of a token: the stake of one TON buys 50 000 of them, so deposits run low and are topped up.
pub const PRICE: u128 = 20_000;
/// Image hashes by role.
pub const PROXY_IMAGE: [u8; 32] = [0xAA; 32];
pub const WORKER_IMAGE: [u8; 32] = [0xBB; 32];
/// Full model name and coefficient of each worker.
pub const OFFERS: [(&str, u32); 4] = [
    ("alpha@c0ffee:01", 1000),
    ("beta@c0ffee:02", 2500),
    ("alpha@c0ffee:01", 1500),
    ("alpha@c0ffee:01", 1200),
];

pub fn address(tag: u8, n: usize) -> Address {
    let mut hash = [tag; 32];
    hash[31] = n as u8;
    Address::basechain(hash)
}

pub fn proxy_key(n: usize) -> SigningKey {
    SigningKey::from_bytes(&[100 + n as u8; 32])
}

pub fn wallet(role: Role, n: usize) -> Address {
    address(0x10 + role as u8, n)
}

pub fn owner(role: Role, n: usize) -> Address {
    match role {
        Role::Client => wallet(role, n),
        _ => address(0x20 + role as u8, n),
    }
}

/// Any cell that differs from others: contract code is compared by hash only here.
fn code(nonce: u64) -> Option<Cell> {
    let excess_to = address(0x30, 0);
    let query_id = 0;
    let message = ClientMessage::Register {
        query_id,
        nonce,
        excess_to,
    };
    message.encode().ok()
}

pub fn root() -> RootView {
    RootView {
        owner: None,
        last_proxy_seqno: 1,
        address: address(0x40, 0),
        version: 1,
        params: Params {
            struct_version: 3,
            params_version: 1,
            unique_id: 7,
            is_test: true,
            price_per_token: PRICE,
            worker_fee_per_token: PRICE * 3 / 5,
            prompt_multiplier: MULTIPLIERS[0],
            cached_multiplier: MULTIPLIERS[1],
            completion_multiplier: MULTIPLIERS[2],
            reasoning_multiplier: MULTIPLIERS[3],
            proxy_delay: 600,
            client_delay: 300,
            min_proxy_stake: TON,
            min_client_stake: TON,
            proxy_code: code(1),
            worker_code: code(2),
            client_code: code(3),
        },
        proxy_hashes: BTreeSet::from([PROXY_IMAGE]),
        worker_hashes: BTreeSet::from([WORKER_IMAGE]),
        model_hashes: OFFERS.iter().map(|(m, _)| model_hash(m)).collect(),
        proxies: Vec::new(),
    }
}

/// Address and state of a proxy's contract at the start.
pub fn proxy_contract(root: &RootView, n: usize) -> (Address, Kind) {
    let key = proxy_key(n).verifying_key().to_bytes();
    let init = root.proxy_contract(owner(Role::Proxy, n), key).unwrap();
    let state = ProxyState::decode(&init.data).unwrap();
    (init.address, Kind::Proxy(state))
}

fn eager(busy: u128) -> Thresholds {
    Thresholds {
        busy: NanoTon(busy),
        idle: NanoTon(1),
        closing: NanoTon(1),
        idle_after_s: 15,
    }
}

/// A new core from what its disk holds. `proxies` is how many there are.
pub fn start(
    role: Role,
    n: usize,
    proxies: usize,
    root: RootView,
    records: Vec<(String, Vec<u8>)>,
    entropy: [u8; 32],
    now: u64,
) -> Result<Core, String> {
    let (is_test, testnet, check_hashes) = (true, true, true);
    let wallet = wallet(role, n);
    Ok(match role {
        Role::Proxy => {
            let settings = ProxySettings {
                commit_interval_ms: 4000,
                settle: settle::ProxySettings {
                    charge: eager(TON / 5),
                    payout: eager(TON / 5),
                    withdraw: NanoTon(TON / 10),
                },
                max_running_per_client: 12,
                // A hostile client may ask for any time.
                max_timeout_ms: 60_000,
                handshake_timeout_ms: 30_000,
                ..Default::default()
            };
            let cfg = ProxyConfig {
                key: proxy_key(n),
                owner: owner(role, n),
                wallet,
                contracts: ChainMode::Live,
                is_test,
                testnet,
                check_hashes,
                entropy,
                settings,
            };
            let core = ProxyCore::new(cfg, root, records, now).map_err(|e| e.to_string())?;
            Core::Proxy(Box::new(core))
        }
        Role::Client => {
            let settings = ClientSettings {
                settle: settle::ClientSettings {
                    charge_above_percent: 5,
                    ..Default::default()
                },
                status_interval_ms: 5000,
                ..Default::default()
            };
            let cfg = ClientConfig {
                wallet,
                contracts: ChainMode::Live,
                secret: vec![n as u8 + 1; 16],
                is_test,
                testnet,
                check_hashes,
                entropy,
                settings,
            };
            Core::Client(Box::new(ClientCore::new(cfg, root, records, now)?))
        }
        Role::Worker => {
            let settings = WorkerSettings {
                settle: settle::WorkerSettings {
                    payout: eager(TON / 5),
                    ..Default::default()
                },
                status_interval_ms: 3000,
                review_interval_ms: 2000,
                notice_wait_ms: 10_000,
                max_timeout_ms: 60_000,
                ..Default::default()
            };
            let cfg = WorkerConfig {
                owner: owner(role, n),
                wallet,
                model: OFFERS[n].0.to_owned(),
                coefficient: OFFERS[n].1,
                max_active_requests: 6,
                proxy_connections: proxies as u32,
                is_test,
                testnet,
                check_hashes,
                entropy,
                settings,
            };
            let core = WorkerCore::new(cfg, root, records, now).map_err(|e| e.to_string())?;
            Core::Worker(Box::new(core))
        }
    })
}
