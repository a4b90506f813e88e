//! A proxy's on-chain decisions (5.4).
//!
//! Every amount comes from what is signed, that is saved and committed (11 #7). The reference charges the running
//! total; a crash then leaves less in its database than it charged, and it never starts again.

use serde::{Deserialize, Serialize};

use super::{Activity, ContractStatus, Thresholds};
use crate::claims::Claims;
use crate::units::{AdjustedTokens, NanoTon, UnitError};

/// The proxy's choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySettings {
    /// For charging clients.
    pub charge: Thresholds,
    /// For paying workers.
    pub payout: Thresholds,
    /// From which commission on it is withdrawn.
    pub withdraw: NanoTon,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            charge: Thresholds {
                busy: NanoTon::from_ton(1),
                idle: NanoTon::from_ton(1),
                closing: NanoTon(10_000_000),
                idle_after_s: 3600,
            },
            payout: Thresholds {
                busy: NanoTon::from_ton(10),
                idle: NanoTon::from_ton(1),
                closing: NanoTon(10_000_000),
                idle_after_s: 3600,
            },
            withdraw: NanoTon::from_ton(10),
        }
    }
}

/// What a proxy knows of a client when it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAccountView {
    /// The contract's status.
    pub status: ContractStatus,
    /// The proxy's three amounts for the client.
    pub claims: Claims,
    /// Tokens charged on chain, or expected to be once messages on their way arrive.
    pub expected_on_chain: AdjustedTokens,
    /// Price per token.
    pub price: NanoTon,
    /// Requests of this client that are running.
    pub running: u64,
    /// True while a message to this contract is pending.
    pub message_pending: bool,
    /// How busy the client is.
    pub activity: Activity,
}

/// The amount to charge a client now, if it is worth it. Never above the signed amount.
pub fn charge_client(
    settings: &ProxySettings,
    view: &ClientAccountView,
) -> Result<Option<AdjustedTokens>, UnitError> {
    if view.message_pending || view.status == ContractStatus::Closed {
        return Ok(None);
    }
    let signed = view.claims.signed();
    let due = signed.saturating_sub(view.expected_on_chain);
    let worth = settings.charge.reached(due, view.price, view.activity)?;
    Ok(worth.then_some(signed))
}

/// The total to state in the refund of a closing client: only once nothing runs and everything used is signed.
#[must_use]
pub fn refund_client(view: &ClientAccountView) -> Option<AdjustedTokens> {
    let settled = view.running == 0 && view.claims.max() == view.claims.signed();
    let wanted = view.status == ContractStatus::Closing && !view.message_pending;
    (wanted && settled).then_some(view.claims.signed())
}

/// What a proxy knows of a worker when it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerAccountView {
    /// True once the worker's contract is closed.
    pub closed: bool,
    /// The proxy's three amounts for the worker.
    pub claims: Claims,
    /// Tokens paid on chain, or expected to be once messages on their way arrive.
    pub expected_on_chain: AdjustedTokens,
    /// The worker's fee per token.
    pub fee: NanoTon,
    /// True while a message to this contract is pending.
    pub message_pending: bool,
    /// How busy the worker is.
    pub activity: Activity,
}

/// The amount to pay a worker now, if it is worth it. Never above the signed amount.
pub fn pay_worker(
    settings: &ProxySettings,
    view: &WorkerAccountView,
) -> Result<Option<AdjustedTokens>, UnitError> {
    if view.message_pending || view.closed {
        return Ok(None);
    }
    let signed = view.claims.signed();
    let due = signed.saturating_sub(view.expected_on_chain);
    let worth = settings.payout.reached(due, view.fee, view.activity)?;
    Ok(worth.then_some(signed))
}

/// The proxy's own contract, as far as its commission is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommissionView {
    /// Commission booked by the contract and not yet paid out.
    pub ready: NanoTon,
    /// All coins of the contract's account.
    pub coins: NanoTon,
    /// The proxy's stake, which forced refunds are paid from.
    pub stake: NanoTon,
    /// What the ledgers of all client contracts say is not yet charged.
    pub owed_to_clients: NanoTon,
    /// True while a withdrawal is pending.
    pub message_pending: bool,
}

/// True if the commission is worth withdrawing and really the proxy's.
///
/// The contract books commission with every payout, charged or not, and would pay it out of deposits (weakness W6 of
/// contracts.md 15.1). So the coins that stay behind must cover the stake and every client's ledger.
#[must_use]
pub fn withdraw_commission(settings: &ProxySettings, view: &CommissionView) -> bool {
    let worth = !view.ready.is_zero() && view.ready >= settings.withdraw;
    let bound = view
        .ready
        .0
        .checked_add(view.stake.0)
        .and_then(|sum| sum.checked_add(view.owed_to_clients.0));
    worth && !view.message_pending && bound.is_some_and(|sum| sum <= view.coins.0)
}
