//! A worker's payout decision (4.7).

use serde::{Deserialize, Serialize};

use super::{Activity, Thresholds};
use crate::units::{AdjustedTokens, NanoTon, UnitError};

/// The worker's choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// From which income on a payment is presented.
    pub payout: Thresholds,
    /// Seconds to wait after parameters became outdated, so that the proxy can sign what is left; the reference
    /// takes half of client_delay_before_close.
    pub close_outdated_after_s: u64,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            payout: Thresholds {
                busy: NanoTon::from_ton(10),
                idle: NanoTon(200_000_000),
                closing: NanoTon(10_000_000),
                idle_after_s: 3600,
            },
            close_outdated_after_s: 43_200,
        }
    }
}

/// What a worker knows of one proxy record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerView {
    /// True once our contract with the proxy is closed.
    pub closed: bool,
    /// Seconds since the contract's parameters became outdated; `None` while they are current.
    pub outdated_for_s: Option<u64>,
    /// True while an on-chain request of our own is outstanding.
    pub request_outstanding: bool,
    /// The amount of the newest signed payment we hold.
    pub signed: AdjustedTokens,
    /// Tokens the contract has paid.
    pub on_chain: AdjustedTokens,
    /// The amount of our last payout request.
    pub last_payout: AdjustedTokens,
    /// Our fee per token.
    pub fee: NanoTon,
    /// Seconds since the last request ended; 0 while one runs.
    pub quiet_for_s: u64,
}

/// What a worker does with a proxy record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerAction {
    /// Nothing to do.
    None,
    /// Nothing is left to gain: forget the record.
    Forget,
    /// Present the signed payment we hold, for this amount.
    Payout(AdjustedTokens),
}

/// The first step of 4.7 that applies, with thresholds compared in money (11 #10).
pub fn review_worker(
    settings: &WorkerSettings,
    view: &WorkerView,
) -> Result<WorkerAction, UnitError> {
    if view.request_outstanding {
        return Ok(WorkerAction::None);
    }
    if view.closed {
        return Ok(WorkerAction::Forget);
    }
    let due = view
        .signed
        .saturating_sub(view.on_chain.max(view.last_payout));
    let (activity, otherwise) = match view.outdated_for_s {
        Some(seconds) if seconds < settings.close_outdated_after_s => {
            return Ok(WorkerAction::None);
        }
        Some(_) => (Activity::Closing, WorkerAction::Forget),
        None => (Activity::QuietFor(view.quiet_for_s), WorkerAction::None),
    };
    let worth = settings.payout.reached(due, view.fee, activity)?;
    Ok(if worth {
        WorkerAction::Payout(view.signed)
    } else {
        otherwise
    })
}
