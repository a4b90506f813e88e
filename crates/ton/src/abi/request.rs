//! What client and worker contracts tell their proxy (contracts.md, sections 8.3 and 9.3).

use tycho_types::cell::Cell;

use super::codec::{Field, Reader, Writer};
use super::error::AbiError;
use super::op;
use super::state::ContractStatus;
use crate::address::Address;

/// A client's ledger after an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientLedger {
    /// Normal, closing or closed.
    pub status: ContractStatus,
    /// Deposit not yet charged, in nanoTON.
    pub balance: u128,
    /// Stake in nanoTON.
    pub stake: u128,
    /// Tokens charged since the contract's birth.
    pub tokens_used: u64,
    /// SHA-256 of the node's secret string.
    pub secret_hash: [u8; 32],
}

impl Field for ClientLedger {
    fn put(&self, writer: &mut Writer, _: &'static str) {
        let mut w = Writer::new("client ledger");
        self.status.put(&mut w, "state");
        w.coins("balance", self.balance);
        w.coins("stake", self.stake);
        w.uint(self.tokens_used, 64);
        w.raw(&self.secret_hash);
        writer.built(w.finish());
    }

    fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError> {
        let cell = reader.cell(field)?;
        let mut r = Reader::new(&cell, "client ledger")?;
        let ledger = Self {
            status: ContractStatus::get(&mut r, "state")?,
            balance: r.coins("balance")?,
            stake: r.coins("stake")?,
            tokens_used: r.uint("tokens used", 64)?,
            secret_hash: r.bytes("secret hash")?,
        };
        r.end()?;
        Ok(ledger)
    }
}

/// What a client contract asks its proxy contract to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientRequestPayload {
    /// Take a deposit.
    TopUp {
        /// NanoTON.
        coins: u128,
        /// Receives the leftover coins.
        excess_to: Address,
    },
    /// Complete the authorization of the client node that holds this nonce.
    Register {
        /// The nonce the proxy gave out.
        nonce: u64,
    },
    /// Pay a refund the proxy has granted, or of what exceeds the stake.
    RefundGranted {
        /// NanoTON.
        coins: u128,
        /// Receives the leftover coins.
        excess_to: Address,
    },
    /// Pay a refund that was forced after the delay.
    RefundForced {
        /// NanoTON.
        coins: u128,
        /// Receives the leftover coins.
        excess_to: Address,
    },
    /// Anything else. Kept, because the ledger beside it still counts.
    Other(Cell),
}

impl ClientRequestPayload {
    fn encode(&self) -> Result<Cell, AbiError> {
        let (op, coins, excess_to) = match self {
            Self::TopUp { coins, excess_to } => (op::CLIENT_REQUEST_TOP_UP, coins, excess_to),
            Self::RefundGranted { coins, excess_to } => {
                (op::CLIENT_REQUEST_REFUND_GRANTED, coins, excess_to)
            }
            Self::RefundForced { coins, excess_to } => {
                (op::CLIENT_REQUEST_REFUND_FORCED, coins, excess_to)
            }
            Self::Register { nonce } => {
                let mut w = Writer::new("client request payload");
                w.uint(op::CLIENT_REQUEST_REGISTER.into(), 32);
                w.uint(*nonce, 64);
                return w.finish();
            }
            Self::Other(cell) => return Ok(cell.clone()),
        };
        let mut w = Writer::new("client request payload");
        w.uint(op.into(), 32);
        w.coins("coins", *coins);
        w.address(excess_to);
        w.finish()
    }

    fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "client request payload")?;
        let op = r.uint("payload op", 32)? as u32;
        if op == op::CLIENT_REQUEST_REGISTER {
            let nonce = r.uint("nonce", 64)?;
            r.end()?;
            return Ok(Self::Register { nonce });
        }
        let coins = r.coins("coins")?;
        let excess_to = r.address("excess receiver")?;
        r.end()?;
        match op {
            op::CLIENT_REQUEST_TOP_UP => Ok(Self::TopUp { coins, excess_to }),
            op::CLIENT_REQUEST_REFUND_GRANTED => Ok(Self::RefundGranted { coins, excess_to }),
            op::CLIENT_REQUEST_REFUND_FORCED => Ok(Self::RefundForced { coins, excess_to }),
            op => Err(AbiError::UnknownOp { what: r.what(), op }),
        }
    }
}

/// What a worker contract asks its proxy contract to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerRequestPayload {
    /// Pay the worker owner and book the proxy's share.
    Payout {
        /// NanoTON for the worker owner.
        worker_part: u128,
        /// NanoTON of revenue for the proxy.
        proxy_part: u128,
        /// Receives the leftover coins.
        excess_to: Address,
    },
    /// Anything else. Kept, because the totals beside it still count.
    Other(Cell),
}

impl WorkerRequestPayload {
    fn encode(&self) -> Result<Cell, AbiError> {
        match self {
            Self::Payout {
                worker_part,
                proxy_part,
                excess_to,
            } => {
                let mut w = Writer::new("worker request payload");
                w.uint(op::WORKER_REQUEST_PAYOUT.into(), 32);
                w.coins("worker part", *worker_part);
                w.coins("proxy part", *proxy_part);
                w.address(excess_to);
                w.finish()
            }
            Self::Other(cell) => Ok(cell.clone()),
        }
    }

    fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "worker request payload")?;
        let op = r.uint("payload op", 32)? as u32;
        if op != op::WORKER_REQUEST_PAYOUT {
            return Err(AbiError::UnknownOp { what: r.what(), op });
        }
        let payload = Self::Payout {
            worker_part: r.coins("worker part")?,
            proxy_part: r.coins("proxy part")?,
            excess_to: r.address("excess receiver")?,
        };
        r.end()?;
        Ok(payload)
    }
}

macro_rules! optional_payload {
    ($ty:ty) => {
        impl Field for Option<$ty> {
            fn put(&self, writer: &mut Writer, _: &'static str) {
                writer.bit(self.is_some());
                if let Some(payload) = self {
                    writer.built(payload.encode());
                }
            }

            fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError> {
                let Some(cell) = reader.maybe_cell(field)? else {
                    return Ok(None);
                };
                Ok(Some(
                    <$ty>::decode(&cell).unwrap_or_else(|_| <$ty>::Other(cell.clone())),
                ))
            }
        }
    };
}
optional_payload!(ClientRequestPayload);
optional_payload!(WorkerRequestPayload);
