//! When a node goes to the chain, and with which amount: decisions as functions of what is known.
//!
//! Nothing here keeps state, sends anything or reads a clock. A decision names the amount; the driver builds the
//! message, and asks again only after its outcome is known.

mod client;
mod proxy;
mod worker;

use serde::{Deserialize, Serialize};

use crate::units::{AdjustedTokens, NanoTon, UnitError};

pub use client::{ClientAction, ClientSettings, ClientView, review_client};
pub use proxy::{
    ClientAccountView, CommissionView, ProxySettings, WorkerAccountView, charge_client, pay_worker,
    refund_client, withdraw_commission,
};
pub use worker::{WorkerAction, WorkerSettings, WorkerView, review_worker};

/// The state of a client contract, by its value on chain (5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContractStatus {
    /// 0: in use.
    Open,
    /// 1: the owner asked to close it; it can be closed after its unlock time.
    Closing,
    /// 2: over.
    Closed,
    /// 3: not seen on chain yet.
    Unknown,
}

impl ContractStatus {
    /// From the contract's number; numbers that are not defined read as unknown.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Open,
            1 => Self::Closing,
            2 => Self::Closed,
            _ => Self::Unknown,
        }
    }
}

/// From which amount on it is worth paying the fee of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// While requests keep coming.
    pub busy: NanoTon,
    /// After `idle_after_s` without a request.
    pub idle: NanoTon,
    /// When the contract is being given up.
    pub closing: NanoTon,
    /// Seconds without a request that count as idle.
    pub idle_after_s: u64,
}

/// What the peer is doing, as far as thresholds go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Seconds since the last request ended; 0 while one runs.
    QuietFor(u64),
    /// The contract is being given up.
    Closing,
}

impl Thresholds {
    /// The one that applies now.
    #[must_use]
    pub fn at(&self, activity: Activity) -> NanoTon {
        match activity {
            Activity::Closing => self.closing,
            Activity::QuietFor(seconds) if seconds >= self.idle_after_s => self.idle.min(self.busy),
            Activity::QuietFor(_) => self.busy,
        }
    }

    /// True if `tokens` at `rate` are worth a transaction. Compared in money (11 #10); nothing is never worth one.
    pub fn reached(
        &self,
        tokens: AdjustedTokens,
        rate: NanoTon,
        activity: Activity,
    ) -> Result<bool, UnitError> {
        let worth = tokens.cost(rate)?;
        Ok(!worth.is_zero() && worth >= self.at(activity))
    }
}

#[cfg(test)]
mod tests;
