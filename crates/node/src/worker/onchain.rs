//! The worker and its contracts: deployment, payouts when they are worth their fee, forgetting what is over
//! (protocol.md 4.7, contracts.md 14.3).

use cocoon_ledger::AdjustedTokens;
use cocoon_ledger::settle::{self, WorkerAction, WorkerView, review_worker};
use cocoon_ton::abi::{ContractStatus, WorkerState};
use cocoon_ton::{AccountState, AccountStatus, Address, Cell};

use super::account::{OnChain, Pending, ProxyAccount};
use super::core::WorkerCore;
use super::types::WorkerEffect;
use crate::link::LinkId;
use crate::payment;

/// Attempts without effect double the waiting time up to 2^6 = 64 times, an hour with the default.
const MAX_BACK_OFF: u32 = 6;

/// How long a record is kept for earnings that the proxy has neither signed nor paid: weeks, as an operator may take as
/// long to bring a dead proxy back.
const KEEP_UNPAID_S: u64 = 30 * 24 * 3600;

/// Coins of a closed contract that are worth a message, in nanoTON.
const WORTH_SWEEPING: u128 = 100_000_000;

/// What to do about a contract.
enum Job {
    Deploy,
    Payout(AdjustedTokens),
    /// Fetch the closed contract's own coins.
    Sweep,
    Forget,
}

impl WorkerCore {
    /// Looks at every record that is due (4.7).
    pub(super) fn review_accounts(&mut self) {
        let now = self.now;
        let due: Vec<Address> = self
            .accounts
            .iter()
            .filter(|(_, a)| now >= a.next_review_ms)
            .map(|(sc, _)| *sc)
            .collect();
        for sc in due {
            let wait = self.jittered(self.cfg.settings.review_interval_ms);
            if let Some(a) = self.accounts.get_mut(&sc) {
                a.next_review_ms = now + wait;
            }
            self.review(sc);
        }
    }

    fn review(&mut self, contract: Address) {
        let (now, back_off) = (self.now, self.cfg.settings.notice_wait_ms);
        let Some(a) = self.accounts.get_mut(&contract) else {
            return;
        };
        if a.pending
            .as_ref()
            .is_some_and(|p| p.until_ms.is_some_and(|t| now >= t))
        {
            give_up(a, now, back_off);
        }
        let job = match decide(a, &self.cfg.settings.settle, now, self.closed) {
            Ok(job) => job,
            Err(text) => {
                self.alarm(format!("worker contract {contract}: {text}"));
                None
            }
        };
        match job {
            None => {}
            Some(Job::Deploy) => self.deploy(contract),
            Some(Job::Payout(total)) => self.payout(contract, total),
            Some(Job::Sweep) => self.sweep(contract),
            Some(Job::Forget) => {
                let links: Vec<LinkId> = self
                    .links
                    .iter()
                    .filter(|(_, l)| l.account == Some(contract))
                    .map(|(link, _)| *link)
                    .collect();
                for link in links {
                    self.close(link, "the contract with this proxy is over");
                }
                self.forget(contract);
            }
        }
    }

    fn deploy(&mut self, contract: Address) {
        let value = self.cfg.settings.deploy_value;
        let Some(init) = self.accounts.get(&contract).map(|a| a.init.clone()) else {
            return;
        };
        // Nothing is there yet that could send the coins back.
        self.transact(
            contract,
            AdjustedTokens::ZERO,
            value,
            false,
            Some(init),
            None,
        );
    }

    pub(super) fn payout(&mut self, contract: Address, total: AdjustedTokens) {
        let value = self.cfg.settings.message_value;
        let Some(a) = self.accounts.get(&contract) else {
            return;
        };
        let Some((tokens, boc)) = a.durable.as_ref().filter(|(t, _)| *t == total) else {
            return;
        };
        let tokens = *tokens;
        match payment::readdressed(boc, self.cfg.wallet) {
            Ok(body) => self.transact(contract, tokens, value, true, None, Some(body)),
            Err(e) => self.alarm(format!("the payment for {contract} cannot be sent: {e}")),
        }
    }

    fn sweep(&mut self, contract: Address) {
        let value = self.cfg.settings.message_value;
        let query_id = self.ticket();
        // The same message as to a client contract (contracts/README.md).
        let body = cocoon_exit::Action::Sweep.body(self.cfg.wallet, query_id);
        if let (Some(a), Ok(body)) = (self.accounts.get_mut(&contract), body) {
            a.swept = true;
            let nothing = AdjustedTokens::ZERO;
            self.transact(contract, nothing, value, true, None, Some(body));
        }
    }

    fn transact(
        &mut self,
        to: Address,
        expected: AdjustedTokens,
        value: u64,
        bounce: bool,
        init: Option<Cell>,
        body: Option<Cell>,
    ) {
        let ticket = self.ticket();
        if let Some(a) = self.accounts.get_mut(&to) {
            a.pending = Some(Pending {
                ticket,
                expected,
                until_ms: None,
            });
            self.fx.push(WorkerEffect::Transact {
                ticket,
                to,
                value,
                bounce,
                init,
                body,
            });
        }
    }

    /// The wallet sent a message, or could not. Success at the target shows in the contract's state.
    pub(super) fn on_transacted(&mut self, ticket: u64, ok: bool) {
        let (now, wait) = (self.now, self.cfg.settings.notice_wait_ms);
        let found = self
            .accounts
            .values_mut()
            .find(|a| a.pending.as_ref().is_some_and(|p| p.ticket == ticket));
        let Some(a) = found else { return };
        match &mut a.pending {
            Some(p) if ok => p.until_ms = Some(now.saturating_add(wait)),
            _ => give_up(a, now, wait),
        }
    }

    pub(super) fn on_contract(&mut self, contract: Address, state: &AccountState) {
        let Some(a) = self.accounts.get_mut(&contract) else {
            return;
        };
        let seen = read_contract(a, state);
        a.chain_lt = a.chain_lt.max(state.last_lt);
        a.coins = state.balance;
        let before = a.chain.replace(seen);
        let arrived = a.pending.as_ref().is_some_and(|p| match seen {
            OnChain::Open { paid } => paid >= p.expected,
            OnChain::Closed => true,
            OnChain::Missing | OnChain::Unusable => false,
        });
        if arrived {
            a.pending = None;
            a.failures = 0;
            a.not_before_ms = 0;
        }
        if seen == OnChain::Unusable && before != Some(OnChain::Unusable) {
            self.alarm(format!(
                "the worker contract {contract} is frozen or holds foreign data: earnings at its proxy cannot be paid out until it is restored"
            ));
        }
        self.review(contract);
    }
}

fn give_up(a: &mut ProxyAccount, now: u64, back_off: u64) {
    a.pending = None;
    let wait = back_off.saturating_mul(1 << a.failures.min(MAX_BACK_OFF));
    a.failures = a.failures.saturating_add(1);
    a.not_before_ms = now.saturating_add(wait);
}

fn read_contract(a: &ProxyAccount, state: &AccountState) -> OnChain {
    match state.status {
        AccountStatus::Nonexistent | AccountStatus::Uninit => return OnChain::Missing,
        AccountStatus::Frozen => return OnChain::Unusable,
        AccountStatus::Active => {}
    }
    match state.data.as_ref().map(WorkerState::decode) {
        Some(Ok(s)) if s.owner == a.owner && s.proxy == a.proxy => match s.status {
            ContractStatus::Closed => OnChain::Closed,
            // A slow source may answer with an older state than it did before. In a newer one a lower total is true:
            // the proxy could not pay, and the contract has taken the payout back (contracts.md 15.1, W1).
            ContractStatus::Normal | ContractStatus::Closing => match a.chain {
                Some(known @ OnChain::Open { .. }) if state.last_lt < a.chain_lt => known,
                _ => OnChain::Open {
                    paid: AdjustedTokens(s.tokens_paid),
                },
            },
        },
        _ => OnChain::Unusable,
    }
}

/// The next step for a record. Before the chain was read in this process nothing is decided, so that a restart
/// neither pays twice nor forgets too early.
fn decide(
    a: &ProxyAccount,
    settings: &settle::WorkerSettings,
    now: u64,
    closed: bool,
) -> Result<Option<Job>, String> {
    let (Some(chain), Some((signed, _))) = (a.chain, &a.durable) else {
        return Ok(None);
    };
    if !a.kept || a.running > 0 && a.outdated_since_ms.is_some() || now < a.not_before_ms {
        return Ok(None);
    }
    let on_chain = match chain {
        OnChain::Open { paid } => paid,
        OnChain::Missing => AdjustedTokens::ZERO,
        OnChain::Unusable => return Ok(None),
        // Kept while its parameters are current: it reminds us not to work for this proxy again.
        OnChain::Closed if a.pending.is_some() => return Ok(None),
        OnChain::Closed if !a.swept && a.coins >= WORTH_SWEEPING => return Ok(Some(Job::Sweep)),
        OnChain::Closed if a.outdated_since_ms.is_none() && !closed => return Ok(None),
        OnChain::Closed => return Ok(Some(Job::Forget)),
    };
    let quiet_for_s = match a.running {
        0 => now.saturating_sub(a.last_active_ms) / 1000,
        _ => 0,
    };
    let view = WorkerView {
        closed: false,
        outdated_for_s: match a.outdated_since_ms {
            Some(t) => Some(now.saturating_sub(t) / 1000),
            // Given up: whatever is worth its fee is fetched, and the rest waits for the proxy.
            None => closed.then_some(0),
        },
        request_outstanding: a.pending.is_some(),
        signed: *signed,
        on_chain,
        // A payout under way counts as outstanding; one without effect is tried again.
        last_payout: AdjustedTokens::ZERO,
        fee: a.fee,
        quiet_for_s,
    };
    let settings = settle::WorkerSettings {
        // Half of what the contract's own parameters give, so that the proxy can sign what is left (4.7).
        close_outdated_after_s: match a.outdated_since_ms {
            None => 0,
            Some(_) => u64::from(a.client_delay / 2).min(settings.close_outdated_after_s),
        },
        ..*settings
    };
    let mut action = review_worker(&settings, &view).map_err(|e| e.to_string())?;
    // What the proxy has not signed yet, it signs with its last payout, however late.
    let old_s = view.outdated_for_s.unwrap_or_default();
    let unpaid = a.claims.max() > on_chain && old_s < KEEP_UNPAID_S;
    // A current contract that was given up stays: its proxy may still sign.
    if action == WorkerAction::Forget && (unpaid || a.outdated_since_ms.is_none()) {
        action = WorkerAction::None;
    }
    let missing = chain == OnChain::Missing && a.pending.is_none();
    Ok(match action {
        WorkerAction::Payout(_) | WorkerAction::None if missing => {
            let wanted = a.outdated_since_ms.is_none() && !closed || action != WorkerAction::None;
            wanted.then_some(Job::Deploy)
        }
        WorkerAction::None => None,
        WorkerAction::Payout(total) => Some(Job::Payout(total)),
        WorkerAction::Forget => Some(Job::Forget),
    })
}
