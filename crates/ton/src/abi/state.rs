//! Storage of proxy, client, worker and wallet contracts (contracts.md, sections 7.1, 8.1, 9.1 and 10.1).

use tycho_types::cell::Cell;

use super::codec::{Field, Reader, Writer};
use super::error::AbiError;
use super::params::Params;
use crate::address::Address;

/// Life of a proxy, client or worker contract. A worker is never closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ContractStatus {
    /// Working.
    #[default]
    Normal,
    /// Waiting for the unlock time.
    Closing,
    /// At its end.
    Closed,
}

impl Field for ContractStatus {
    fn put(&self, writer: &mut Writer, _: &'static str) {
        writer.uint(*self as u64, 2);
    }

    fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError> {
        match reader.uint(field, 2)? {
            0 => Ok(Self::Normal),
            1 => Ok(Self::Closing),
            2 => Ok(Self::Closed),
            found => Err(AbiError::Value {
                field,
                found: found.into(),
                expected: "0 (normal), 1 (closing) or 2 (closed)",
            }),
        }
    }
}

/// State of a proxy contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyState {
    /// Proxy owner.
    pub owner: Address,
    /// Ed25519 key of the proxy enclave.
    pub public_key: [u8; 32],
    /// Root contract.
    pub root: Address,
    /// Normal, closing or closed.
    pub status: ContractStatus,
    /// Revenue that the owner can take, in nanoTON; not the deposits.
    pub balance: u128,
    /// Stake in nanoTON.
    pub stake: u128,
    /// Unix time from which closing can be completed.
    pub unlock_time: u32,
    /// Params in the proxy form.
    pub params: Params,
}

impl ProxyState {
    /// Writes the storage cell.
    pub fn encode(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("proxy state");
        w.address(&self.owner);
        w.raw(&self.public_key);
        w.address(&self.root);
        self.status.put(&mut w, "state");
        w.coins("balance", self.balance);
        w.coins("stake", self.stake);
        w.uint(self.unlock_time.into(), 32);
        w.built(self.params.encode());
        w.finish()
    }

    /// Reads the storage cell.
    pub fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "proxy state")?;
        let state = Self {
            owner: r.address("owner")?,
            public_key: r.bytes("public key")?,
            root: r.address("root")?,
            status: ContractStatus::get(&mut r, "state")?,
            balance: r.coins("balance")?,
            stake: r.coins("stake")?,
            unlock_time: r.uint("unlock time", 32)? as u32,
            params: Params::decode(&r.cell("params")?)?,
        };
        r.end()?;
        Ok(state)
    }
}

/// State of a client contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientState {
    /// Wallet contract of the client node.
    pub owner: Address,
    /// Proxy contract.
    pub proxy: Address,
    /// Ed25519 key of the proxy.
    pub public_key: [u8; 32],
    /// Normal, closing or closed.
    pub status: ContractStatus,
    /// Deposit not yet charged, in nanoTON.
    pub balance: u128,
    /// Stake in nanoTON.
    pub stake: u128,
    /// Tokens charged since the contract's birth.
    pub tokens_used: u64,
    /// Unix time after which a refund can be forced.
    pub unlock_time: u32,
    /// SHA-256 of the node's secret string.
    pub secret_hash: [u8; 32],
    /// Params in the bare form.
    pub params: Params,
}

impl ClientState {
    /// The cell of the parts that never change: owner, proxy contract and proxy key.
    pub fn encode_constant(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("client constants");
        w.address(&self.owner);
        w.address(&self.proxy);
        w.raw(&self.public_key);
        w.finish()
    }

    /// Writes the storage cell.
    pub fn encode(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("client state");
        self.status.put(&mut w, "state");
        w.coins("balance", self.balance);
        w.coins("stake", self.stake);
        w.uint(self.tokens_used, 64);
        w.uint(self.unlock_time.into(), 32);
        w.raw(&self.secret_hash);
        w.built(self.encode_constant());
        w.built(self.params.encode());
        w.finish()
    }

    /// Reads the storage cell.
    pub fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "client state")?;
        let constant = r.cell("constants")?;
        let mut c = Reader::new(&constant, "client constants")?;
        let state = Self {
            owner: c.address("owner")?,
            proxy: c.address("proxy")?,
            public_key: c.bytes("public key")?,
            status: ContractStatus::get(&mut r, "state")?,
            balance: r.coins("balance")?,
            stake: r.coins("stake")?,
            tokens_used: r.uint("tokens used", 64)?,
            unlock_time: r.uint("unlock time", 32)? as u32,
            secret_hash: r.bytes("secret hash")?,
            params: Params::decode(&r.cell("params")?)?,
        };
        c.end()?;
        r.end()?;
        Ok(state)
    }
}

/// State of a worker contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// Address configured as worker owner; the payouts go there.
    pub owner: Address,
    /// Proxy contract.
    pub proxy: Address,
    /// Ed25519 key of the proxy.
    pub public_key: [u8; 32],
    /// Normal or closed.
    pub status: ContractStatus,
    /// Tokens paid since the contract's birth.
    pub tokens_paid: u64,
    /// Params in the bare form.
    pub params: Params,
}

impl WorkerState {
    /// Writes the storage cell.
    pub fn encode(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("worker state");
        w.address(&self.owner);
        w.address(&self.proxy);
        w.raw(&self.public_key);
        self.status.put(&mut w, "state");
        w.uint(self.tokens_paid, 64);
        w.built(self.params.encode());
        w.finish()
    }

    /// Reads the storage cell.
    pub fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "worker state")?;
        let state = Self {
            owner: r.address("owner")?,
            proxy: r.address("proxy")?,
            public_key: r.bytes("public key")?,
            status: ContractStatus::get(&mut r, "state")?,
            tokens_paid: r.uint("tokens paid", 64)?,
            params: Params::decode(&r.cell("params")?)?,
        };
        r.end()?;
        Ok(state)
    }
}

/// State of a node wallet contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletState {
    /// Number of the next external message.
    pub seqno: u32,
    /// Subwallet id, 0.
    pub subwallet: u32,
    /// Ed25519 key of the node.
    pub public_key: [u8; 32],
    /// Flags; bit 0 blocks external messages.
    pub status: u32,
    /// Node operator.
    pub owner: Address,
}

impl WalletState {
    /// Whether the owner has blocked external messages.
    pub fn is_blocked(&self) -> bool {
        self.status & 1 != 0
    }

    /// Writes the storage cell.
    pub fn encode(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("wallet state");
        w.uint(self.seqno.into(), 32);
        w.uint(self.subwallet.into(), 32);
        w.raw(&self.public_key);
        w.uint(self.status.into(), 32);
        w.address(&self.owner);
        w.finish()
    }

    /// Reads the storage cell.
    pub fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "wallet state")?;
        let state = Self {
            seqno: r.uint("seqno", 32)? as u32,
            subwallet: r.uint("subwallet", 32)? as u32,
            public_key: r.bytes("public key")?,
            status: r.uint("status", 32)? as u32,
            owner: r.address("owner")?,
        };
        r.end()?;
        Ok(state)
    }
}
