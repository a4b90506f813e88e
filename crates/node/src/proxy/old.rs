//! Contracts that take no new work: everybody gets what is his before they are closed (protocol.md 5.8, contracts.md
//! 14.7).
//!
//! The order differs from the reference's, which closes first and pays then: a top-up at a closing contract is paid
//! back at once and stays in the client's ledger, so a refund granted later would be paid out of others' coins (W22).
//! Here clients get their refunds, workers their last payout and the owner the revenue while the contract is still
//! open. When it is closed, nothing lies in it but the stake.
//!
//! What is to be done follows from the accounts and from what the chain shows, so there is no phase to be stored: after
//! a crash the next look does what is missing, and a message that arrives twice is refused by its contract.

use std::collections::BTreeMap;

use cocoon_ledger::{AdjustedTokens, CommitTracker};
use cocoon_ton::abi::{ContractStatus, Params, ProxyMessage, ProxyState, SignedOp, SignedPayload};
use cocoon_ton::{AccountState, AccountStatus, Address, Cell, boc};
use serde::{Deserialize, Serialize};

use super::accounts::{ClientAccount, Pending, WorkerAccount};
use super::core::ProxyCore;
use super::types::ProxyEffect;
use crate::root::RootView;
use crate::settlement::ChainMode;

/// Messages for old contracts under way at a time: the wallet sends four at once, and others wait for it too.
const MAX_IN_FLIGHT: usize = 8;
/// Coins for the signed completion, which go to the proxy's owner with everything else: little more than it needs.
const COMPLETE_VALUE: u64 = 150_000_000;
/// Revenue below this stays for the completion, which pays it to the same owner without a message of its own.
const WORTH_A_MESSAGE: u128 = 10_000_000;
/// Pause after a message without an effect; doubled with each.
const RETRY_MS: u64 = 60_000;
/// Longest pause, as a power of two of the first.
const MAX_DOUBLINGS: u32 = 6;
/// Messages without an effect after which the operator is told, and told again.
const ALARM_AFTER: u32 = 3;

/// Store keys.
pub(super) const OLD: &str = "old_";
pub(super) const OLD_CLIENT: &str = "oldclient_";
pub(super) const OLD_WORKER: &str = "oldworker_";

/// A contract on its way out.
pub struct OldContract {
    /// As it was when the contract was in use; only address and params count.
    pub(super) root: RootView,
    /// Logical time of its last transaction in the books.
    pub(super) cursor_lt: u64,
    /// By owner.
    pub(super) clients: BTreeMap<Address, ClientAccount>,
    /// By owner.
    pub(super) workers: BTreeMap<Address, WorkerAccount>,
    /// As last read.
    pub(super) seen: Option<Seen>,
    /// It was seen to begin closing with the transaction of this logical time.
    pub(super) closing_lt: Option<u64>,
    /// Message to the proxy contract itself: revenue, close, completion.
    pub(super) pending: Option<Pending>,
    /// That it became an old one is on disk.
    pub(super) durable: bool,
    tries: BTreeMap<Address, Tries>,
}

/// What the chain shows of an old contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// `None`: nothing is there.
    pub status: Option<ContractStatus>,
    pub revenue: u128,
    pub unlock_time: u32,
    pub last_lt: u64,
}

/// Messages to one contract that had no effect.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    count: u32,
    not_before_ms: u64,
}

/// As on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OldRecord {
    params: String,
    root_version: u32,
    cursor_lt: u64,
    closing_lt: Option<u64>,
}

/// Where an old contract stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Requests are running.
    Draining,
    /// The chain was not read yet.
    Reading,
    /// Clients and workers are being paid out.
    Paying,
    /// The revenue is being withdrawn.
    Revenue,
    /// The signed close is under way.
    Closing,
    /// The delay runs.
    Waiting,
    /// The signed completion is under way.
    Completing,
    /// Nothing is left.
    Over,
}

/// Params in the form that records keep.
pub(super) fn params_text(params: &Params) -> Option<String> {
    params.encode().ok().map(|c| hex::encode(boc::encode(&c)))
}

/// And back.
pub(super) fn params_of(text: &str) -> Option<Params> {
    let cell = boc::decode(&hex::decode(text).ok()?, boc::STATE).ok()?;
    Params::decode(&cell).ok()
}

/// A root configuration that is known by its params alone.
pub(super) fn frozen(address: Address, version: u32, params: Params) -> RootView {
    RootView {
        address,
        version,
        params,
        proxy_hashes: Default::default(),
        worker_hashes: Default::default(),
        model_hashes: Default::default(),
        proxies: Vec::new(),
        last_proxy_seqno: 0,
        owner: None,
    }
}

impl OldContract {
    pub(super) fn new(root: RootView, cursor_lt: u64) -> Self {
        OldContract {
            root,
            cursor_lt,
            clients: BTreeMap::new(),
            workers: BTreeMap::new(),
            seen: None,
            closing_lt: None,
            pending: None,
            durable: false,
            tries: BTreeMap::new(),
        }
    }

    /// From its record, without its accounts.
    pub(super) fn restored(root_address: Address, value: &[u8]) -> Option<Self> {
        let r: OldRecord = serde_json::from_slice(value).ok()?;
        let root = frozen(root_address, r.root_version, params_of(&r.params)?);
        Some(OldContract {
            closing_lt: r.closing_lt,
            durable: true,
            ..OldContract::new(root, r.cursor_lt)
        })
    }

    pub(super) fn record(&self) -> Option<Vec<u8>> {
        let record = OldRecord {
            params: params_text(&self.root.params)?,
            root_version: self.root.version,
            cursor_lt: self.cursor_lt,
            closing_lt: self.closing_lt,
        };
        serde_json::to_vec(&record).ok()
    }

    /// Whether the books have taken in every transaction that the contract's state shows. Before that a store that
    /// was rolled back could not be told from a good one.
    fn caught_up(&self) -> bool {
        self.seen.is_some_and(|s| self.cursor_lt >= s.last_lt)
    }

    fn in_flight(&self) -> usize {
        let clients = self.clients.values().filter(|a| a.pending.is_some());
        let workers = self.workers.values().filter(|a| a.pending.is_some());
        clients.count() + workers.count()
    }

    /// Clients that can still get a refund from us.
    fn owed_clients(&self) -> impl Iterator<Item = (&Address, &ClientAccount)> {
        self.clients
            .iter()
            .filter(|(_, a)| a.record.status != 2 && !a.record.paid_back)
    }

    /// Workers whose contract is open and was ever used: their last payout also lets them take its own coins.
    fn owed_workers(&self) -> impl Iterator<Item = (&Address, &WorkerAccount)> {
        self.workers
            .iter()
            .filter(|(_, a)| !a.closed && (a.tracker.max().0 > 0 || a.sc_tokens > 0))
    }
}

impl OldContract {
    /// Messages under way.
    pub(super) fn slots(&mut self) -> impl Iterator<Item = &mut Option<Pending>> {
        let clients = self.clients.values_mut().map(|a| &mut a.pending);
        let workers = self.workers.values_mut().map(|a| &mut a.pending);
        clients
            .chain(workers)
            .chain(std::iter::once(&mut self.pending))
    }
}

/// What comes next for an old contract.
enum Step {
    Refund(Address, Address, AdjustedTokens),
    LastPayout(Address, Address, AdjustedTokens),
}

impl ProxyCore {
    /// Requests that are booked at a contract when they end.
    pub(super) fn running_at(&self, sc: Address) -> usize {
        self.requests
            .values()
            .filter(|r| r.job.contract == sc)
            .count()
    }

    pub(super) fn stage(&self, sc: Address, old: &OldContract) -> Stage {
        if self.running_at(sc) > 0 {
            return Stage::Draining;
        }
        let Some(seen) = old.seen.filter(|_| old.caught_up()) else {
            return Stage::Reading;
        };
        let owed = old.owed_clients().next().is_some() || old.owed_workers().next().is_some();
        match seen.status {
            None if !owed => Stage::Over,
            Some(ContractStatus::Closed) => Stage::Over,
            _ if owed => Stage::Paying,
            Some(ContractStatus::Normal) if seen.revenue >= WORTH_A_MESSAGE => Stage::Revenue,
            Some(ContractStatus::Normal) => Stage::Closing,
            Some(ContractStatus::Closing) if self.chain_time() < seen.unlock_time => Stage::Waiting,
            Some(ContractStatus::Closing) => Stage::Completing,
            None => Stage::Paying,
        }
    }

    /// Seconds of the chain's clock; our own before it was read.
    fn chain_time(&self) -> u32 {
        let own = u32::try_from(self.now / 1000).unwrap_or(u32::MAX);
        self.chain_time.unwrap_or(own)
    }

    /// The next steps for every old contract.
    pub(super) fn review_old(&mut self) {
        for sc in self.old.keys().copied().collect::<Vec<_>>() {
            self.review_old_contract(sc);
        }
    }

    fn review_old_contract(&mut self, sc: Address) {
        let (now, assumed) = (self.now, self.cfg.contracts == ChainMode::Assumed);
        let running = self.running_at(sc);
        let Some(old) = self.old.get_mut(&sc) else {
            return;
        };
        if !old.durable || running > 0 {
            return;
        }
        if assumed {
            // Nothing was ever paid in; only what is booked must be on disk.
            let saved = old.clients.values().all(|a| !a.tracker.needs_save())
                && old.workers.values().all(|a| !a.tracker.needs_save());
            if saved {
                self.forget_old(sc);
            }
            return;
        }
        let overdue = |p: &Option<Pending>| {
            p.as_ref()
                .is_some_and(|p| p.until_ms.is_some_and(|t| now >= t))
        };
        let mut failed = Vec::new();
        for a in old.clients.values_mut() {
            if overdue(&a.pending) {
                a.pending = None;
                failed.push(a.sc);
            }
        }
        for a in old.workers.values_mut() {
            if overdue(&a.pending) {
                a.pending = None;
                failed.push(a.sc);
            }
        }
        if overdue(&old.pending) {
            old.pending = None;
            failed.push(sc);
        }
        for target in failed {
            self.note_failure(sc, target);
        }
        let Some(old) = self.old.get(&sc) else {
            return;
        };
        let stage = self.stage(sc, old);
        match stage {
            Stage::Over => self.forget_old(sc),
            Stage::Paying => self.pay_out(sc),
            Stage::Revenue | Stage::Closing | Stage::Completing if old.pending.is_none() => {
                self.advance_contract(sc, stage);
            }
            _ => {}
        }
    }

    /// A message had no effect: later again, and after some the operator should look.
    fn note_failure(&mut self, sc: Address, target: Address) {
        let now = self.now;
        let Some(old) = self.old.get_mut(&sc) else {
            return;
        };
        let t = old.tries.entry(target).or_default();
        t.not_before_ms = now.saturating_add(RETRY_MS << t.count.min(MAX_DOUBLINGS));
        t.count = t.count.saturating_add(1);
        if t.count % ALARM_AFTER == 0 {
            let text = format!(
                "{} messages to {target} had no effect; the old proxy contract {sc} is not closed before its last client and worker are paid. Look at the account, and at the coins of {sc}",
                t.count
            );
            self.fx.push(ProxyEffect::Alarm(text));
        }
    }

    /// Refunds and last payouts, some at a time.
    fn pay_out(&mut self, sc: Address) {
        let now = self.now;
        let Some(old) = self.old.get(&sc) else {
            return;
        };
        let ready = |target: &Address| old.tries.get(target).is_none_or(|t| now >= t.not_before_ms);
        let settled = |t: &CommitTracker| t.max() == t.signed();
        let clients = old
            .owed_clients()
            .filter(|(_, a)| a.pending.is_none() && settled(&a.tracker) && ready(&a.sc))
            .map(|(owner, a)| Step::Refund(*owner, a.sc, a.tracker.signed()));
        let workers = old
            .owed_workers()
            .filter(|(_, a)| a.pending.is_none() && settled(&a.tracker) && ready(&a.sc))
            .map(|(owner, a)| Step::LastPayout(*owner, a.sc, a.tracker.signed()));
        let room = MAX_IN_FLIGHT.saturating_sub(old.in_flight());
        let steps: Vec<Step> = clients.chain(workers).take(room).collect();
        for step in steps {
            match step {
                Step::Refund(owner, to, total) => {
                    self.submit_to(
                        sc,
                        true,
                        owner,
                        to,
                        SignedOp::ClientGrantRefund,
                        total,
                        None,
                    );
                }
                Step::LastPayout(owner, to, total) => {
                    // A worker deploys its contract with its first payout only: this may be it.
                    let init = self.worker_init(sc, owner);
                    self.submit_to(
                        sc,
                        false,
                        owner,
                        to,
                        SignedOp::WorkerLastPayout,
                        total,
                        init,
                    );
                }
            }
        }
    }

    fn worker_init(&self, sc: Address, owner: Address) -> Option<Cell> {
        let old = self.old.get(&sc)?;
        if old.workers.get(&owner).is_some_and(|a| a.sc_tokens > 0) {
            return None;
        }
        let key = self.cfg.key.verifying_key().to_bytes();
        let init = old.root.worker_contract(sc, key, owner).ok()?;
        Some(init.cell)
    }

    /// Messages to the proxy contract itself, each once until its effect shows.
    fn advance_contract(&mut self, sc: Address, stage: Stage) {
        let now = self.now;
        let waits = |old: &OldContract| old.tries.get(&sc).is_some_and(|t| now < t.not_before_ms);
        if self.old.get(&sc).is_none_or(waits) {
            return;
        }
        let query_id = self.draw_u64();
        let excess_to = self.cfg.wallet;
        let signed = |op: SignedOp| {
            let payload = SignedPayload {
                op,
                query_id,
                tokens: 0,
                target: sc,
            };
            cocoon_ton::abi::Envelope::sign(payload, &self.cfg.key, excess_to)
                .map(ProxyMessage::Signed)
        };
        let withdraw = self.cfg.settings.withdraw_value;
        let (message, value) = match stage {
            Stage::Revenue => (
                Ok(ProxyMessage::PayRevenue {
                    query_id,
                    excess_to,
                }),
                withdraw,
            ),
            Stage::Closing => (signed(SignedOp::ProxyClose), withdraw),
            Stage::Completing => (signed(SignedOp::ProxyCloseComplete), COMPLETE_VALUE),
            _ => return,
        };
        match message.and_then(|m| m.encode()) {
            Ok(body) => {
                let ticket = self.transact(sc, value, None, Some(body));
                if let Some(old) = self.old.get_mut(&sc) {
                    old.pending = Some(Pending {
                        ticket,
                        expected: AdjustedTokens::ZERO,
                        until_ms: None,
                    });
                }
            }
            Err(e) => self
                .fx
                .push(ProxyEffect::Alarm(format!("old contract {sc}: {e}"))),
        }
    }

    /// The state of an old contract was read.
    pub(super) fn on_old_contract(&mut self, sc: Address, state: &AccountState) {
        let Some(old) = self.old.get_mut(&sc) else {
            return;
        };
        let decoded = state.data.as_ref().map(ProxyState::decode);
        let before = old.seen;
        let seen = match decoded {
            Some(Ok(s)) if state.status == AccountStatus::Active => Seen {
                status: Some(s.status),
                revenue: s.balance,
                unlock_time: s.unlock_time,
                last_lt: state.last_lt,
            },
            // Frozen, or nothing we can read: not the same as never deployed.
            _ if !matches!(
                state.status,
                AccountStatus::Nonexistent | AccountStatus::Uninit
            ) =>
            {
                return;
            }
            _ => Seen {
                status: None,
                revenue: 0,
                unlock_time: 0,
                last_lt: state.last_lt,
            },
        };
        old.seen = Some(seen);
        // The message to it has shown its effect when status or revenue moved.
        if before.is_some_and(|b| (b.status, b.revenue > 0) != (seen.status, seen.revenue > 0)) {
            old.pending = None;
            old.tries.remove(&sc);
        }
        self.review_old_contract(sc);
    }

    /// Everybody has what is his.
    fn forget_old(&mut self, sc: Address) {
        let Some(old) = self.old.remove(&sc) else {
            return;
        };
        self.drop_record(format!("{OLD}{sc}"));
        for owner in old.clients.keys() {
            self.drop_record(format!("{OLD_CLIENT}{sc}-{owner}"));
        }
        for owner in old.workers.keys() {
            self.drop_record(format!("{OLD_WORKER}{sc}-{owner}"));
        }
        self.fx.push(ProxyEffect::Unwatch(sc));
        self.fx.push(ProxyEffect::Note(format!(
            "the old proxy contract {sc} is over: {} clients and {} workers have what was theirs, the stake is with its owner",
            old.clients.len(),
            old.workers.len()
        )));
    }

    /// Figures for status pages.
    pub(super) fn old_stats(&self) -> serde_json::Value {
        let one = |(sc, old): (&Address, &OldContract)| {
            serde_json::json!({
                "address": sc.to_text(false, self.cfg.testnet),
                "params_version": old.root.params.params_version,
                "stage": self.stage(*sc, old),
                "running_queries": self.running_at(*sc),
                "clients": old.clients.len(),
                "clients_to_refund": old.owed_clients().count(),
                "workers": old.workers.len(),
                "workers_to_pay": old.owed_workers().count(),
                "unlock_time": old.seen.map(|s| s.unlock_time),
                "used_tokens": old.clients.values().map(|a| a.tracker.max().0).sum::<u64>(),
                "earned_tokens": old.workers.values().map(|a| a.tracker.max().0).sum::<u64>(),
            })
        };
        self.old.iter().map(one).collect()
    }
}
