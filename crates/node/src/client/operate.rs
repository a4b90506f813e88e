//! What the operator of a client may ask for: charge, top up, withdraw, close (protocol.md 8.1).
//!
//! A wish takes the place of what the review would do next, and passes the same checks: no deposit goes in that could
//! not be taken out again.

use cocoon_ledger::settle::ClientAction;
use cocoon_ledger::{AdjustedTokens, NanoTon};
use cocoon_ton::Address;

use super::core::{ClientCore, ProxyRecord};
use super::types::ClientEffect;
use crate::operate::{Done, NotDone};
use crate::settlement::ChainMode;

/// What the operator wants of the contract with one proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Present the newest signed charge.
    Charge,
    /// Add the stake's amount to the deposit.
    TopUp,
    /// Take out what exceeds the stake.
    Withdraw,
    /// Ask for the refund, or complete it after its delay.
    Close,
}

impl Wish {
    /// The step of the review that it stands for; a withdrawal is none of those.
    pub(super) fn action(
        self,
        stake: u128,
        price: NanoTon,
        signed: AdjustedTokens,
    ) -> ClientAction {
        match self {
            Wish::Charge => ClientAction::Charge(signed),
            Wish::TopUp => {
                let whole = stake - stake.checked_rem(price.0).unwrap_or(0);
                ClientAction::TopUp(NanoTon(whole))
            }
            Wish::Close => ClientAction::Close,
            Wish::Withdraw => ClientAction::None,
        }
    }
}

impl ClientCore {
    /// Does what the operator asks, or says why not. What cannot be sent at once is sent by a later review.
    pub fn operate(
        &mut self,
        now_ms: u64,
        wish: Wish,
        proxy_sc: Address,
    ) -> (Done, Vec<ClientEffect>) {
        self.now = self.now.max(now_ms);
        let done = self.wanted(wish, proxy_sc);
        if done.is_ok() {
            self.wishes.insert(proxy_sc, wish);
            self.review();
        }
        (done, std::mem::take(&mut self.fx))
    }

    fn wanted(&self, wish: Wish, proxy_sc: Address) -> Done {
        let Some(p) = self.proxies.get(&proxy_sc) else {
            return Err(NotDone::Unknown(format!(
                "no proxy with the contract {} is known",
                proxy_sc.to_text(false, self.cfg.testnet)
            )));
        };
        if self.cfg.contracts == ChainMode::Assumed {
            return Err(NotDone::no_chain());
        }
        if p.outstanding.is_some() {
            return Err(NotDone::busy());
        }
        let impossible = |text: &str| Err(NotDone::Impossible(text.to_owned()));
        if p.contract.deployed != Some(true) {
            return impossible("the contract with this proxy is not deployed, or was not read yet");
        }
        match (wish, p.contract.status) {
            (_, 2) => impossible("the contract with this proxy is closed"),
            (Wish::Close, _) => Ok("the refund is asked for".into()),
            (_, 1) => impossible("the contract with this proxy is closing"),
            (Wish::Charge, _) => charge(p),
            (Wish::Withdraw, _) if p.contract.balance <= p.contract.stake => {
                impossible("the deposit does not exceed the stake")
            }
            (Wish::Withdraw, _) => Ok("what exceeds the stake is taken out".into()),
            (Wish::TopUp, _) => match p.exit.refusal() {
                Some(reason) => Err(NotDone::Impossible(format!(
                    "no deposit goes in that could not be taken out again: {reason}"
                ))),
                None => Ok(
                    "the deposit is raised by the stake's amount once its way out is proved".into(),
                ),
            },
        }
    }
}

fn charge(p: &ProxyRecord) -> Done {
    if p.payment.is_none() || p.claims.signed() <= p.contract.used {
        return Err(NotDone::Impossible("there is nothing to charge".into()));
    }
    Ok(format!(
        "the signed charge for {} tokens is presented",
        p.claims.signed().0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_top_up_is_a_whole_number_of_tokens() {
        let top_up = |stake, price| Wish::TopUp.action(stake, NanoTon(price), AdjustedTokens(5));
        assert_eq!(top_up(1003, 10), ClientAction::TopUp(NanoTon(1000)));
        assert_eq!(top_up(1003, 0), ClientAction::TopUp(NanoTon(1003)));
        assert_eq!(
            Wish::Charge.action(1, NanoTon(1), AdjustedTokens(5)),
            ClientAction::Charge(AdjustedTokens(5))
        );
    }
}
