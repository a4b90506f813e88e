//! Small hand-assembled contracts and helpers for the tests of the chain.

#![allow(dead_code)]

use std::time::{Duration, Instant};

use cocoon_devnet::message::{InternalMessage, external_message, state_init};
use cocoon_devnet::{ClockMode, Devnet, DevnetConfig, GenesisAccount};
use cocoon_ton::{Address, Cell, CellBuilder, Chain, TxInfo};
use tycho_types::boc::Boc;

pub const TON: u128 = 1_000_000_000;
pub const START: u32 = 1_790_000_000;

/// Code from hex digits of its bytes.
pub fn code(hex_digits: &str) -> Cell {
    let bytes = hex::decode(hex_digits).unwrap();
    let mut builder = CellBuilder::new();
    builder.store_raw(&bytes, (bytes.len() * 8) as u16).unwrap();
    builder.build().unwrap()
}

/// Internal: keeps the coins. External: accepts, reads a mode byte and sends the message in the reference.
/// `IFNOTRET ACCEPT LDU8 LDREF DROP SWAP SENDRAWMSG`
pub fn open_wallet() -> Cell {
    code("ddf800d307d43001fb00")
}

/// Throws 42 at once, before accepting anything. `THROW 42`
pub fn thrower() -> Cell {
    code("f22a")
}

/// Leaves 7 on the stack. `PUSHINT 7`
pub fn seven() -> Cell {
    code("77")
}

pub fn account(byte: u8) -> Address {
    Address::basechain([byte; 32])
}

pub fn contract(byte: u8, balance: u128, code: Cell) -> GenesisAccount {
    GenesisAccount {
        address: account(byte),
        balance,
        state_init: Some(state_init(code, Cell::default()).unwrap()),
    }
}

/// Body of an external message for [`open_wallet`]; `unique` keeps hashes apart.
pub fn order(mode: u8, message: Cell, unique: u64) -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_u8(mode).unwrap();
    builder.store_u64(unique).unwrap();
    builder.store_reference(message).unwrap();
    builder.build().unwrap()
}

/// An external message that makes an open wallet send `value` to `to`.
pub fn transfer(from: u8, to: Address, value: u128, mode: u8, unique: u64) -> Vec<u8> {
    let message = InternalMessage::new(account(from), to, value, Cell::default())
        .build()
        .unwrap();
    Boc::encode(external_message(&account(from), None, order(mode, message, unique)).unwrap())
}

pub fn config(genesis: Vec<GenesisAccount>) -> DevnetConfig {
    DevnetConfig {
        genesis,
        clock: ClockMode::Manual(START),
        block_interval: Duration::from_millis(20),
        ..DevnetConfig::default()
    }
}

pub fn assert_conserved(chain: &Devnet) {
    let supply = chain.total_coins();
    assert!(supply.is_conserved(), "{supply:?}");
}

/// Waits for `count` transactions of an account.
pub async fn wait_transactions(chain: &Devnet, address: &Address, count: usize) -> Vec<TxInfo> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = chain.transactions(address, 0, 1000).await.unwrap();
        if found.len() >= count {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{address} has {} transactions, expected {count}",
            found.len()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
