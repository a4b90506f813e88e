//! A client's review of its contract with one proxy (3.8).

use serde::{Deserialize, Serialize};

use super::ContractStatus;
use crate::claims::Claims;
use crate::reserve::tokens_for;
use crate::units::{AdjustedTokens, NanoTon};

/// The client's choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSettings {
    /// Seconds an outdated contract is kept before it is asked to close; the reference takes half of
    /// (proxy_delay_before_close − client_delay_before_close).
    pub close_outdated_after_s: u64,
    /// The part of the stake, in percent, below which what is left is topped up. The reference: 50.
    pub top_up_below_percent: u8,
    /// The part of the stake, in percent, above which uncharged use is charged. The reference: 50.
    pub charge_above_percent: u8,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            close_outdated_after_s: 43_200,
            top_up_below_percent: 50,
            charge_above_percent: 50,
        }
    }
}

/// What a client knows of one proxy record at the moment of the review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientView {
    /// The contract's status.
    pub status: ContractStatus,
    /// Seconds since the contract's parameters became outdated; `None` while they are current.
    pub outdated_for_s: Option<u64>,
    /// Seconds until the contract can be closed; 0 once it can. Looked at while closing only.
    pub unlock_in_s: u64,
    /// True while an on-chain request of our own is outstanding.
    pub request_outstanding: bool,
    /// True if the secret's hash on chain is ours.
    pub secret_matches: bool,
    /// Price per token.
    pub price: NanoTon,
    /// The contract's balance.
    pub balance: NanoTon,
    /// The contract's stake.
    pub stake: NanoTon,
    /// Tokens the contract has been charged for.
    pub used: AdjustedTokens,
    /// The proxy's claims; `signed` is the amount of the payment we hold.
    pub claims: Claims,
}

/// What the client sends to its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAction {
    /// Nothing to do.
    None,
    /// The contract is closed: forget the record.
    Forget,
    /// Ask for the close, or complete it after the unlock time.
    Close,
    /// Publish the hash of our secret.
    ChangeSecret,
    /// Add this amount to the balance.
    TopUp(NanoTon),
    /// Submit the signed payment we hold, for this amount.
    Charge(AdjustedTokens),
}

/// The first step of 3.8 that applies.
///
/// Other than in the reference, a contract that is closing gets neither money nor a new secret, and its close is
/// completed also when its parameters are current: that is how an owner takes his money out.
#[must_use]
pub fn review_client(settings: &ClientSettings, view: &ClientView) -> ClientAction {
    if view.request_outstanding || view.status == ContractStatus::Unknown {
        return ClientAction::None;
    }
    match (view.status, view.outdated_for_s) {
        (ContractStatus::Closed, _) => return ClientAction::Forget,
        (ContractStatus::Closing, _) => {
            let ready = view.unlock_in_s == 0;
            return if ready {
                ClientAction::Close
            } else {
                ClientAction::None
            };
        }
        (_, Some(seconds)) => {
            let due = seconds > settings.close_outdated_after_s;
            return if due {
                ClientAction::Close
            } else {
                ClientAction::None
            };
        }
        _ => {}
    }
    if !view.secret_matches {
        return ClientAction::ChangeSecret;
    }
    if view.price.is_zero() {
        return ClientAction::None;
    }
    let stake_tokens = tokens_for(view.stake, view.price).0;
    // `payed − used` of 3.8 with the on-chain used tokens is what the balance buys. Claims are not taken off: they are
    // charged against the balance later, and the top-up follows then.
    let left = i128::from(tokens_for(view.balance, view.price).0);
    if left < percent_of(stake_tokens, settings.top_up_below_percent) {
        let whole = view.stake.0 - view.stake.0 % view.price.0;
        if whole > 0 {
            return ClientAction::TopUp(NanoTon(whole));
        }
    }
    let charge_above =
        i128::from(view.used.0) + percent_of(stake_tokens, settings.charge_above_percent);
    if i128::from(view.claims.max().0) > charge_above && view.claims.signed() > view.used {
        return ClientAction::Charge(view.claims.signed());
    }
    ClientAction::None
}

fn percent_of(tokens: u64, percent: u8) -> i128 {
    i128::from(tokens) * i128::from(percent) / 100
}
