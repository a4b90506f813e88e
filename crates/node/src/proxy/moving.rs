//! From one contract to the next: the new one is deployed and gets its stake while the old one still serves, then all
//! new work goes to the new one (protocol.md 5.8).
//!
//! Links made under the old contract finish what runs on them and are closed one by one, so that the peers do not come
//! back all at once (11 #38); workers first, as clients need them.

use cocoon_ledger::AdjustedTokens;
use cocoon_ton::abi::{ContractStatus, ProxyMessage, ProxyState};
use cocoon_ton::amount::{NANO_PER_TON, format_ton};
use cocoon_ton::{AccountState, AccountStatus, Address, Cell, TxInfo};
use cocoon_wire::codes;
use serde::{Deserialize, Serialize};

use super::accounts::Pending;
use super::core::{Held, ProxyCore};
use super::links::{ClientPhase, LinkState, WorkerPhase};
use super::old::{OLD_CLIENT, OLD_WORKER, OldContract, frozen, params_of};
use super::types::ProxyEffect;
use crate::link::LinkId;
use crate::proto::{self, Answer, AnswerKind, FinalInfo};
use crate::root::RootView;
use crate::settlement::ChainMode;

/// Coins of a deployment (contracts.md 12).
const DEPLOY_VALUE: u64 = 300_000_000;
/// Coins for the fees of raising the stake; what is left comes back.
const STAKE_FEES: u128 = NANO_PER_TON / 2;
/// What the wallet must keep to go on sending messages (contracts.md 14.2).
const POCKET: u128 = 3 * NANO_PER_TON;
/// Between words about a wallet that cannot pay the new stake.
const REMIND_MS: u64 = 600_000;
/// First protocol version whose clients try again by themselves when they are turned away.
const RETRYING_CLIENTS: i32 = 3;

/// Times of leaving a contract, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClosingSettings {
    /// How long requests on an old contract may run.
    pub drain_ms: u64,
    /// Idle links to an old contract are closed at times spread over this.
    pub spread_ms: u64,
}

impl Default for ClosingSettings {
    fn default() -> Self {
        ClosingSettings {
            drain_ms: 600_000,
            spread_ms: 10_000,
        }
    }
}

/// A contract that is being founded.
pub(super) struct Founding {
    root: RootView,
    sc: Address,
    init: Cell,
    /// Whether it is there, its status and stake, its last transaction.
    seen: Option<(Option<(ContractStatus, u128)>, u64)>,
    /// Transactions so far, for the books that it will have.
    txs: Vec<TxInfo>,
    pub(super) pending: Option<Pending>,
    remind_at_ms: u64,
}

impl Founding {
    fn read_to(&self) -> u64 {
        self.txs.last().map_or(0, |t| t.lt)
    }
}

/// Stake of a proxy contract unless somebody asks for another: it covers the client's, and as much again of other
/// coins that lie in the contract and that a cautious client takes for others' claims (contracts.md 15.1, W3).
pub fn default_stake(root: &RootView) -> u128 {
    let covered = root.params.min_client_stake.saturating_mul(2);
    root.params.min_proxy_stake.max(covered)
}

impl ProxyCore {
    /// Begins to found the contract that follows from `root`.
    pub(super) fn move_to(&mut self, root: RootView) {
        let key = self.cfg.key.verifying_key().to_bytes();
        let init = match root.proxy_contract(self.cfg.owner, key) {
            Ok(init) => init,
            Err(e) => {
                let text = format!("the root contract's new parameters cannot be used: {e}");
                return self.fx.push(ProxyEffect::Alarm(text));
            }
        };
        if let Some(started) = self.founding.take() {
            if started.sc == init.address {
                self.founding = Some(Founding { root, ..started });
                return;
            }
            // Overtaken before it was ready: what was paid into it must come out again.
            self.abandon_founding(started);
        }
        self.fx.push(ProxyEffect::Note(format!(
            "the root contract has params version {}: the new proxy contract is {}, {} serves until that has its stake",
            root.params.params_version, init.address, self.sc
        )));
        self.fx.push(ProxyEffect::Watch {
            contract: init.address,
            after_lt: 0,
        });
        self.founding = Some(Founding {
            sc: init.address,
            init: init.cell,
            root,
            seen: None,
            txs: Vec::new(),
            pending: None,
            remind_at_ms: 0,
        });
        // Which contract gets a stake is on disk before it gets it.
        self.touch_meta();
    }

    fn abandon_founding(&mut self, f: Founding) {
        let old = OldContract::new(f.root, 0);
        self.old.insert(f.sc, old);
        self.touch_old(f.sc);
        self.after_save(Held::Archived(f.sc));
        self.on_transactions(f.txs);
    }

    /// A contract that an earlier process was founding when the root moved on.
    pub(super) fn restore_founding(&mut self, text: &str, current: Address) {
        let key = self.cfg.key.verifying_key().to_bytes();
        let Some(params) = params_of(text) else {
            return;
        };
        let root = frozen(self.root.address, 0, params);
        let Ok(init) = root.proxy_contract(self.cfg.owner, key) else {
            return;
        };
        let known = init.address == self.sc || self.old.contains_key(&init.address);
        if init.address != current && !known {
            self.old.insert(init.address, OldContract::new(root, 0));
            self.touch_old(init.address);
            self.after_save(Held::Archived(init.address));
        }
    }

    pub(super) fn founding_contract(&self) -> Option<Address> {
        self.founding.as_ref().map(|f| f.sc)
    }

    pub(super) fn founding_params(&self) -> Option<String> {
        let f = self.founding.as_ref()?;
        super::old::params_text(&f.root.params)
    }

    /// The contract being founded was read.
    pub(super) fn on_founding(&mut self, state: &AccountState) {
        let Some(f) = &mut self.founding else { return };
        let there = state
            .data
            .as_ref()
            .filter(|_| state.status == AccountStatus::Active)
            .and_then(|d| ProxyState::decode(d).ok())
            .map(|s| (s.status, s.stake));
        if f.seen.is_some_and(|(before, _)| before != there) {
            f.pending = None;
        }
        f.seen = Some((there, state.last_lt));
        self.review_founding();
    }

    /// Transactions of the contract being founded wait until it has books. True if it is one.
    pub(super) fn keep_for_founding(&mut self, tx: &TxInfo) -> bool {
        let Some(f) = self.founding.as_mut().filter(|f| f.sc == tx.account) else {
            return false;
        };
        if tx.lt > f.read_to() {
            f.txs.push(tx.clone());
        }
        true
    }

    /// The next step of founding, and the move itself.
    pub(super) fn review_founding(&mut self) {
        let now = self.now;
        if self.cfg.contracts == ChainMode::Assumed {
            if self.founding.is_some() {
                self.switch();
            }
            return;
        }
        let wallet = self.wallet_balance;
        let Some(f) = &mut self.founding else { return };
        if f.pending
            .as_ref()
            .is_some_and(|p| p.until_ms.is_some_and(|t| now >= t))
        {
            f.pending = None;
        }
        let (Some((there, last_lt)), None) = (f.seen, &f.pending) else {
            return;
        };
        let (sc, init) = (f.sc, f.init.clone());
        let wanted = self
            .cfg
            .settings
            .stake
            .unwrap_or_else(|| default_stake(&f.root));
        let message = match there {
            None => Some((DEPLOY_VALUE, Some(init), None, 0)),
            Some((ContractStatus::Normal, stake)) if stake < wanted => {
                let coins = wanted - stake;
                Some((0, None, Some(coins), coins.saturating_add(STAKE_FEES)))
            }
            // What closed it there will be noticed as for any contract.
            Some(_) if f.read_to() >= last_lt => None,
            Some(_) => return,
        };
        let Some((value, init, stake, coins)) = message else {
            return self.switch();
        };
        let needed = coins
            .saturating_add(u128::from(value))
            .saturating_add(POCKET);
        if wallet.is_some_and(|w| w < needed) {
            if now >= f.remind_at_ms {
                f.remind_at_ms = now + REMIND_MS;
                let text = format!(
                    "the wallet has {}, the new proxy contract {sc} needs {}: send coins to {}. Until then the old contract serves on",
                    format_ton(wallet.unwrap_or_default()),
                    format_ton(needed),
                    self.cfg.wallet
                );
                self.fx.push(ProxyEffect::Alarm(text));
            }
            return;
        }
        let body = match stake {
            None => None,
            Some(coins) => {
                let message = ProxyMessage::IncreaseStake {
                    query_id: self.draw_u64(),
                    coins,
                    excess_to: self.cfg.wallet,
                };
                match message.encode() {
                    Ok(body) => Some(body),
                    Err(e) => {
                        let text = format!("the stake of {sc} cannot be raised: {e}");
                        return self.fx.push(ProxyEffect::Alarm(text));
                    }
                }
            }
        };
        let value = match stake {
            None => value,
            Some(_) => u64::try_from(coins).unwrap_or(u64::MAX),
        };
        let ticket = self.transact(sc, value, init, body);
        if let Some(f) = &mut self.founding {
            f.pending = Some(Pending {
                ticket,
                expected: AdjustedTokens::ZERO,
                until_ms: None,
            });
        }
    }

    /// All new work goes to the new contract.
    fn switch(&mut self) {
        let Some(f) = self.founding.take() else {
            return;
        };
        self.archive();
        // Whoever showed up at a contract that was closed before belongs to no other.
        for owner in std::mem::take(&mut self.books.clients).into_keys() {
            self.drop_record(format!("client_{owner}"));
        }
        for owner in std::mem::take(&mut self.books.workers).into_keys() {
            self.drop_record(format!("worker_{owner}"));
        }
        self.sc = f.sc;
        self.root = f.root;
        self.cursor_lt = 0;
        self.disabled = None;
        self.closed_for = None;
        self.fx.push(ProxyEffect::Note(format!(
            "the proxy serves with contract {} now, at {} nanoTON a token",
            f.sc,
            self.root.price().0
        )));
        self.touch_meta();
        self.on_transactions(f.txs);
    }

    /// The contract in use takes no more work and has no successor.
    pub(super) fn close_contract(&mut self, reason: &str) {
        if self.disabled.is_some() {
            return;
        }
        self.fx.push(ProxyEffect::Alarm(format!(
            "the proxy takes no more requests: {reason}. Running ones are finished, then clients and workers are paid and contract {} is closed",
            self.sc
        )));
        self.archive();
        self.disabled = Some(reason.to_owned());
        self.closed_for = Some(self.root.params.params_version);
        self.touch_meta();
    }

    /// Makes the contract in use an old one, with all accounts.
    fn archive(&mut self) {
        let sc = self.sc;
        if self.disabled.is_some() {
            return;
        }
        let clients = std::mem::take(&mut self.books.clients);
        let workers = std::mem::take(&mut self.books.workers);
        for owner in clients.keys() {
            self.drop_record(format!("client_{owner}"));
            self.touch_client_at(sc, *owner);
        }
        for owner in workers.keys() {
            self.drop_record(format!("worker_{owner}"));
            self.touch_worker_at(sc, *owner);
        }
        (self.revenue, self.withdraw) = (0, None);
        self.holds = Default::default();
        let mut old = OldContract::new(self.root.clone(), self.cursor_lt);
        (old.clients, old.workers) = (clients, workers);
        self.old.insert(sc, old);
        self.touch_old(sc);
        self.after_save(Held::Archived(sc));
        self.fx.push(ProxyEffect::Watch {
            contract: sc,
            after_lt: self.cursor_lt,
        });
        let latest = self.now + self.cfg.settings.closing.drain_ms;
        for run in self.requests.values_mut() {
            if run.job.contract == sc {
                run.job.deadline_ms = run.job.deadline_ms.min(latest);
            }
        }
        self.refuse_queue("proxy is disabled: this contract takes no more requests, connect again");
        self.retire_links();
    }

    // ---- links to contracts that are no longer in use -------------------------------------------

    /// Handshakes begin anew; links in use get a time to end at.
    fn retire_links(&mut self) {
        let spread = self.cfg.settings.closing.spread_ms.max(4);
        let mut unfinished = Vec::new();
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            let random = self.draw_u64();
            let now = self.now;
            match self.links.get_mut(&link) {
                Some(LinkState::Client(c)) if matches!(c.phase, ClientPhase::Ok { .. }) => {
                    c.leave_at_ms
                        .get_or_insert(now + spread / 4 + random % (spread * 3 / 4));
                }
                Some(LinkState::Worker(w)) if w.phase == WorkerPhase::Ok => {
                    w.leave_at_ms.get_or_insert(now + random % (spread / 4));
                }
                Some(_) => unfinished.push(link),
                None => {}
            }
        }
        for link in unfinished {
            self.close(link, "the proxy moves to another contract");
        }
    }

    /// Closes links whose time has come and on which nothing runs.
    pub(super) fn end_retired_links(&mut self) {
        let now = self.now;
        let busy = |link: LinkId, core: &Self| {
            core.requests
                .values()
                .any(|r| r.job.client_link == link || r.worker_link == link)
        };
        let due: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(link, l)| l.leave_at_ms().is_some_and(|t| now >= t) && !busy(**link, self))
            .map(|(link, _)| *link)
            .collect();
        for link in due {
            self.close(link, "the proxy has moved to another contract");
        }
    }

    /// Whether a link belongs to a contract that takes no more work.
    pub(super) fn is_retired(&self, link: LinkId) -> bool {
        self.links
            .get(&link)
            .is_some_and(|l| l.leave_at_ms().is_some())
    }

    /// A new request on a link to an old contract: our own clients come again on a new link, others are told.
    pub(super) fn turn_away(&mut self, link: LinkId, version: i32, rid: [u8; 32]) {
        let text = "proxy is disabled: this contract takes no more requests, connect again";
        if version < RETRYING_CLIENTS {
            return self.reject(link, version, rid, codes::NOTREADY, text);
        }
        let answer = Answer {
            request_id: rid,
            kind: AnswerKind::Error {
                code: codes::NOTREADY,
                text: text.to_owned(),
                after_head: false,
            },
            fin: Some(FinalInfo::default()),
        };
        self.send(link, proto::client_answer(version, answer));
        // Whoever has work to do need not wait for its turn.
        let now = self.now;
        if let Some(LinkState::Client(c)) = self.links.get_mut(&link) {
            c.leave_at_ms = Some(now);
        }
    }

    /// Accounts of an old contract from its records.
    pub(super) fn split_old(name: &str) -> Option<(bool, &str, &str)> {
        let client = name.strip_prefix(OLD_CLIENT).map(|rest| (true, rest));
        let worker = name.strip_prefix(OLD_WORKER).map(|rest| (false, rest));
        let (is_client, rest) = client.or(worker)?;
        // Raw addresses hold a colon, and a minus only for the masterchain's workchain.
        let at = rest.get(1..)?.find('-')? + 1;
        Some((is_client, rest.get(..at)?, rest.get(at + 1..)?))
    }
}
