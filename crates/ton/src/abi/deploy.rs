//! StateInit and addresses of the five contracts (contracts.md, section 12).

use sha2::{Digest, Sha256};
use tycho_types::cell::Cell;

use super::codec::{Reader, Writer};
use super::error::AbiError;
use super::params::Params;
use super::root::RootState;
use super::state::{ClientState, ContractStatus, ProxyState, WalletState, WorkerState};
use crate::address::Address;

/// Bits of a StateInit with code and data: no split depth, not special, code, data, no libraries.
const STATE_INIT_BITS: u64 = 0b00110;
const STATE_INIT_BIT_COUNT: u16 = 5;

/// What a contract is created from, and the address that follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateInit {
    /// Contract code.
    pub code: Cell,
    /// Initial data.
    pub data: Cell,
    /// Both in the form that deployment messages carry.
    pub cell: Cell,
    /// Address in the basechain.
    pub address: Address,
}

impl StateInit {
    /// Puts code and initial data together.
    pub fn new(code: Cell, data: Cell) -> Result<Self, AbiError> {
        let (cell, address) = state_init(code.clone(), data.clone())?;
        Ok(Self {
            code,
            data,
            cell,
            address,
        })
    }

    /// Reads a StateInit cell of a plain contract: code and data, nothing else.
    pub fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "StateInit")?;
        let found = r.uint("flags", STATE_INIT_BIT_COUNT)?;
        if found != STATE_INIT_BITS {
            return Err(AbiError::Value {
                field: "StateInit flags",
                found: found.into(),
                expected: "code and data only (binary 00110)",
            });
        }
        let code = r.cell("code")?;
        let data = r.cell("data")?;
        r.end()?;
        Self::new(code, data)
    }
}

/// The StateInit cell of code and data, and the address that follows from it.
pub fn state_init(code: Cell, data: Cell) -> Result<(Cell, Address), AbiError> {
    let mut w = Writer::new("StateInit");
    w.uint(STATE_INIT_BITS, STATE_INIT_BIT_COUNT);
    w.cell(code);
    w.cell(data);
    let cell = w.finish()?;
    let address = Address::basechain(cell.repr_hash().0);
    Ok((cell, address))
}

/// The address of a contract whose code and data are known by hash and depth only.
pub fn address_from_hashes(
    code_hash: &[u8; 32],
    code_depth: u16,
    data_hash: &[u8; 32],
    data_depth: u16,
) -> Address {
    let mut hasher = Sha256::new();
    // Two references; five bits, so one incomplete byte: the bits, a one and zeros.
    hasher.update([0x02, 0x01, (STATE_INIT_BITS as u8) << 3 | 0b100]);
    hasher.update(code_depth.to_be_bytes());
    hasher.update(data_depth.to_be_bytes());
    hasher.update(code_hash);
    hasher.update(data_hash);
    Address::basechain(hasher.finalize().into())
}

/// A new proxy contract. `params` in the full form.
pub fn proxy_init(
    params: &Params,
    owner: Address,
    public_key: [u8; 32],
    root: Address,
) -> Result<StateInit, AbiError> {
    let code = code(&params.proxy_code, "proxy")?;
    let data = ProxyState {
        owner,
        public_key,
        root,
        status: ContractStatus::Normal,
        balance: 0,
        stake: 0,
        unlock_time: 0,
        params: params.proxy_form(),
    };
    StateInit::new(code, data.encode()?)
}

/// A new client contract. `params` in the full or the proxy form; `owner` is the client node's wallet contract.
pub fn client_init(
    params: &Params,
    proxy: Address,
    public_key: [u8; 32],
    owner: Address,
) -> Result<StateInit, AbiError> {
    let code = code(&params.client_code, "client")?;
    let data = ClientState {
        owner,
        proxy,
        public_key,
        status: ContractStatus::Normal,
        balance: 0,
        stake: params.min_client_stake,
        tokens_used: 0,
        unlock_time: 0,
        secret_hash: [0; 32],
        params: params.bare_form(),
    };
    StateInit::new(code, data.encode()?)
}

/// A new worker contract. `params` in the full or the proxy form; `owner` gets the payouts.
pub fn worker_init(
    params: &Params,
    proxy: Address,
    public_key: [u8; 32],
    owner: Address,
) -> Result<StateInit, AbiError> {
    let code = code(&params.worker_code, "worker")?;
    let data = WorkerState {
        owner,
        proxy,
        public_key,
        status: ContractStatus::Normal,
        tokens_paid: 0,
        params: params.bare_form(),
    };
    StateInit::new(code, data.encode()?)
}

/// A new node wallet.
pub fn wallet_init(
    code: Cell,
    public_key: [u8; 32],
    owner: Address,
) -> Result<StateInit, AbiError> {
    let data = WalletState {
        seqno: 0,
        subwallet: 0,
        public_key,
        status: 0,
        owner,
    };
    StateInit::new(code, data.encode()?)
}

/// A new root contract.
pub fn root_init(code: Cell, state: &RootState) -> Result<StateInit, AbiError> {
    StateInit::new(code, state.encode()?)
}

fn code(code: &Option<Cell>, contract: &'static str) -> Result<Cell, AbiError> {
    code.clone().ok_or(AbiError::MissingCode { contract })
}
