//! TON for nodes: addresses, contract ABIs, wallets, mnemonics and the Chain trait.

pub mod abi;
pub mod address;
pub mod amount;
pub mod boc;
pub mod chain;
pub mod mnemonic;
pub mod transaction;
pub mod wallet;

pub use address::{Address, AddressError, ParsedAddress};
pub use chain::{
    AccountState, AccountStatus, Chain, ChainError, GetResult, MsgInfo, NetworkInfo, StackValue,
    TxInfo,
};
pub use num_bigint::BigInt;
pub use tycho_types::cell::{Cell, CellBuilder, CellSlice};
