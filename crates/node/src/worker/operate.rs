//! What the operator of a worker may ask for: fetch the pay of one proxy now (protocol.md 8.1).

use cocoon_ton::Address;

use super::account::OnChain;
use super::core::WorkerCore;
use super::types::WorkerEffect;
use crate::operate::{Done, NotDone};
use crate::settlement::ChainMode;

impl WorkerCore {
    /// Presents the newest payment of a proxy, however little it adds, or says why not.
    pub fn operate_payout(
        &mut self,
        now_ms: u64,
        mode: ChainMode,
        proxy_sc: Address,
    ) -> (Done, Vec<WorkerEffect>) {
        self.now = self.now.max(now_ms);
        let done = self.pay_now(mode, proxy_sc);
        (done, std::mem::take(&mut self.fx))
    }

    fn pay_now(&mut self, mode: ChainMode, proxy_sc: Address) -> Done {
        let found = self.accounts.iter().find(|(_, a)| a.proxy == proxy_sc);
        let Some((contract, a)) = found else {
            return Err(NotDone::Unknown(format!(
                "no proxy with the contract {} is known",
                proxy_sc.to_text(false, self.cfg.testnet)
            )));
        };
        if mode == ChainMode::Assumed {
            return Err(NotDone::no_chain());
        }
        if a.pending.is_some() {
            return Err(NotDone::busy());
        }
        let impossible = |text: &str| Err(NotDone::Impossible(text.to_owned()));
        let Some(OnChain::Open { paid }) = a.chain else {
            return impossible(
                "the contract with this proxy is not deployed, is closed, or was not read yet",
            );
        };
        let Some((signed, _)) = a.durable else {
            return impossible("this proxy has signed nothing yet");
        };
        if signed <= paid {
            return impossible("everything that is signed is paid already");
        }
        let contract = *contract;
        self.payout(contract, signed);
        Ok(format!("the payment for {} tokens is presented", signed.0))
    }
}
