//! What the operator of a proxy may ask for: charge a client, pay a worker, withdraw the commission (protocol.md 8.1).

use cocoon_ledger::AdjustedTokens;
use cocoon_ton::Address;
use cocoon_ton::abi::SignedOp;

use super::core::{Phase, ProxyCore};
use super::types::ProxyEffect;
use crate::operate::{Done, NotDone};
use crate::settlement::ChainMode;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Charge the client with this owner for all that is signed.
    Charge(Address),
    /// Pay the worker with this owner all that is signed.
    Payout(Address),
    /// Withdraw the commission, however little; what covers clients stays.
    Withdraw,
}

impl ProxyCore {
    /// Does what the operator asks, or says why not.
    pub fn operate(&mut self, now_ms: u64, wish: Wish) -> (Done, Vec<ProxyEffect>) {
        self.now = self.now.max(now_ms);
        let done = self.wanted(wish);
        (done, std::mem::take(&mut self.fx))
    }

    fn wanted(&mut self, wish: Wish) -> Done {
        if self.cfg.contracts == ChainMode::Assumed {
            return Err(NotDone::no_chain());
        }
        if self.phase != Phase::Open {
            return Err(NotDone::Impossible(
                "the proxy is starting or stopping".into(),
            ));
        }
        let unknown = |what: &str, owner: Address, testnet: bool| {
            NotDone::Unknown(format!(
                "no {what} with the owner {} is in the books",
                owner.to_text(false, testnet)
            ))
        };
        let testnet = self.cfg.testnet;
        match wish {
            Wish::Charge(owner) => {
                let a = self.books.clients.get(&owner);
                let a = a.ok_or_else(|| unknown("client", owner, testnet))?;
                let signed = a.tracker.signed();
                worth(a.pending.is_some(), signed, a.record.sc_used, "charge")?;
                self.submit(true, owner, SignedOp::ClientCharge, signed);
                Ok(format!("the client is charged for {} tokens", signed.0))
            }
            Wish::Payout(owner) => {
                let a = self.books.workers.get(&owner);
                let a = a.ok_or_else(|| unknown("worker", owner, testnet))?;
                let signed = a.tracker.signed();
                worth(a.pending.is_some(), signed, a.sc_tokens, "pay")?;
                self.submit(false, owner, SignedOp::WorkerPayout, signed);
                Ok(format!("the worker is paid for {} tokens", signed.0))
            }
            Wish::Withdraw => {
                if self.withdraw.is_some() {
                    return Err(NotDone::busy());
                }
                if !self.may_withdraw(1) {
                    return Err(NotDone::Impossible(
                        "there is no commission, or taking it out would leave stake and deposits of clients uncovered"
                            .into(),
                    ));
                }
                self.send_withdrawal();
                Ok("the commission is withdrawn to the owner".into())
            }
        }
    }
}

fn worth(pending: bool, signed: AdjustedTokens, on_chain: u64, what: &str) -> Result<(), NotDone> {
    if pending {
        return Err(NotDone::busy());
    }
    if signed.0 <= on_chain {
        return Err(NotDone::Impossible(format!(
            "there is nothing to {what}: {on_chain} tokens are settled, {} are signed",
            signed.0
        )));
    }
    Ok(())
}
