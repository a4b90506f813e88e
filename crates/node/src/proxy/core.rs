//! The proxy's state machine: what every event means, in what order things become visible.
//!
//! Nothing here reads a clock, a socket or a random source. The rule of the house holds throughout: what gives
//! something away (the end of a billed answer, a signature, a chain message) waits until the books that justify it
//! are durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cocoon_ledger::AdjustedTokens;
use cocoon_ledger::session::StateCommit;
use cocoon_ton::Address;
use sha2::{Digest, Sha256};

use super::accounts::{Books, Holdings, MetaRecord};
use super::links::LinkState;
use super::moving::Founding;
use super::near::Near;
use super::old::{OLD, OldContract, params_text};
use super::place::Past;
use super::queue::Queue;
use super::requests::Running;
use super::types::{Port, ProxyConfig, ProxyEffect, ProxyEvent};
use crate::footprint::Footprint;
use crate::link::{LinkEffect, LinkEvent, LinkId};
use crate::metrics::Meter;
use crate::root::RootView;
use crate::store::Change;

/// Records on disk that do not fit together, or do not belong to this proxy.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// A record cannot be read.
    #[error("record \"{0}\" of the proxy's store cannot be read; restore the file from a copy")]
    Record(String),
    /// The records belong to another contract.
    #[error(
        "the proxy's store belongs to contract {found}, this node has {expected}: the root parameters, the owner or the key changed; settle the old contract with its own data directory first"
    )]
    Contract {
        /// In the store.
        found: String,
        /// Computed from configuration and root contract.
        expected: String,
    },
    /// An address cannot be computed.
    #[error(transparent)]
    Abi(#[from] cocoon_ton::abi::AbiError),
}

/// Where the start-up or shutdown stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first state commit is not seen on chain yet.
    Starting,
    /// Serving.
    Open,
    /// Finishing what runs.
    Draining,
    /// Drained or halted.
    Stopped,
}

/// The proxy.
pub struct ProxyCore {
    pub(super) cfg: ProxyConfig,
    pub(super) root: RootView,
    pub(super) sc: Address,
    pub(super) books: Books,
    /// Contracts that take no new work, by address.
    pub(super) old: BTreeMap<Address, OldContract>,
    /// The contract that follows from newer root params, until it is ready.
    pub(super) founding: Option<Founding>,
    /// Closed on purpose, until the root's params rise above this version.
    pub(super) closed_for: Option<u32>,
    /// Coins in the node's wallet, once known.
    pub(super) wallet_balance: Option<u128>,
    /// The chain's clock, Unix seconds, once known.
    pub(super) chain_time: Option<u32>,
    pub(super) links: BTreeMap<LinkId, LinkState>,
    pub(super) requests: BTreeMap<[u8; 32], Running>,
    /// Bytes of running requests that may be sent again.
    pub(super) kept_bytes: usize,
    /// Requests that wait for a busy worker.
    pub(super) queue: Queue,
    /// Who holds which beginning of a prompt.
    pub(super) near: Near,
    /// Records of workers that are not connected.
    pub(super) past: Past,
    pub(super) models_seen: BTreeSet<String>,
    pub(super) phase: Phase,
    /// The contract was closed or the root moved on: no new work (651).
    pub(super) disabled: Option<String>,
    pub(super) cursor_lt: u64,
    pub(super) revenue: u128,
    /// Coins and stake of the contract, and the transaction they were read after.
    pub(super) holds: Holdings,
    pub(super) withdraw: Option<super::accounts::Pending>,
    pub(super) now: u64,
    pub(super) fx: Vec<ProxyEffect>,
    pub(super) meter: Meter<[u8; 32]>,
    /// By proxy contract and owner.
    pub(super) dirty_clients: BTreeSet<(Address, Address)>,
    pub(super) dirty_workers: BTreeSet<(Address, Address)>,
    pub(super) dirty_old: BTreeSet<Address>,
    pub(super) dropped: Vec<String>,
    pub(super) dirty_meta: bool,
    pub(super) saving: Option<SavePoint>,
    pub(super) commit_wanted: bool,
    pub(super) last_commit_ms: u64,
    /// The newest state commit of this session until the chain shows it.
    pub(super) commit: Option<(StateCommit, super::accounts::Pending)>,
    /// Effects that wait for a save number.
    pub(super) held: VecDeque<(u32, Held)>,
    pub(super) next_ticket: u64,
    pub(super) draws: u64,
}

/// Totals as they were when a batch was put together.
pub(super) struct SavePoint {
    number: u32,
    /// Proxy contract, owner, total.
    clients: Vec<(Address, Address, AdjustedTokens)>,
    workers: Vec<(Address, Address, AdjustedTokens)>,
    commit: Option<StateCommit>,
}

/// What is released by a save.
pub(super) enum Held {
    /// Send these as they are.
    Effects(Vec<ProxyEffect>),
    /// Tell both sides what a finished request cost.
    Payments(super::requests::Closed),
    /// This contract may be settled as an old one.
    Archived(Address),
}

impl ProxyCore {
    /// Address of the own contract.
    pub fn contract(&self) -> Address {
        self.sc
    }

    /// Logical time up to which the contract's transactions are in the books.
    pub fn cursor_lt(&self) -> u64 {
        self.cursor_lt
    }

    /// Requests running or waiting now.
    pub fn running(&self) -> usize {
        self.requests.len() + self.queue.len()
    }

    /// The books, for statistics and checks.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// How much is held in memory.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            links: self.links.len(),
            requests: self.running(),
            questions: 0,
            waiting: self.held.len(),
            accounts: self.books.clients.len() + self.books.workers.len(),
            measured: self.meter.live(),
            names: self.models_seen.len(),
        }
    }

    /// The root configuration in force.
    pub fn root(&self) -> &RootView {
        &self.root
    }

    /// Takes what the constructor already wants done.
    pub fn take_effects(&mut self) -> Vec<ProxyEffect> {
        std::mem::take(&mut self.fx)
    }

    /// Handles one event.
    pub fn handle(&mut self, now_ms: u64, event: ProxyEvent) -> Vec<ProxyEffect> {
        self.now = self.now.max(now_ms);
        if self.phase != Phase::Stopped {
            self.dispatch(event);
            self.pump();
            self.maybe_save();
        }
        std::mem::take(&mut self.fx)
    }

    fn dispatch(&mut self, event: ProxyEvent) {
        match event {
            ProxyEvent::Accepted(port, LinkEvent::Up { link, peer }) => {
                let state = match port {
                    Port::Clients => LinkState::new_client(peer, self.now),
                    Port::Workers => LinkState::new_worker(peer, self.now),
                };
                self.links.insert(link, state);
            }
            ProxyEvent::Accepted(_, other) | ProxyEvent::Link(other) => self.on_link(other),
            ProxyEvent::Tick => self.on_tick(),
            ProxyEvent::Root(root) => self.on_root(*root),
            ProxyEvent::Saved(number) => self.on_saved(number),
            ProxyEvent::Transactions(txs) => self.on_transactions(txs),
            ProxyEvent::Contract(state) => self.on_contract(&state),
            ProxyEvent::OtherContract { contract, state } => {
                if self.founding_contract() == Some(contract) {
                    self.on_founding(&state);
                } else if self.old.contains_key(&contract) {
                    self.on_old_contract(contract, &state);
                } else if contract == self.sc {
                    self.on_contract(&state);
                }
            }
            ProxyEvent::Wallet(balance) => self.wallet_balance = Some(balance),
            ProxyEvent::ChainTime(utime) => self.chain_time = Some(utime),
            ProxyEvent::Close => {
                if matches!(self.phase, Phase::Open | Phase::Starting) {
                    self.close_contract("closed by the operator");
                }
            }
            ProxyEvent::Transacted { ticket, ok } => self.on_transacted(ticket, ok),
            ProxyEvent::Drain => {
                if matches!(self.phase, Phase::Open | Phase::Starting) {
                    self.phase = Phase::Draining;
                }
            }
        }
        if self.phase == Phase::Draining {
            // What waits has cost nothing yet and may go elsewhere.
            self.refuse_queue("proxy is stopping");
        }
        if self.phase == Phase::Draining
            && self.requests.is_empty()
            && self.saving.is_none()
            && self.held.is_empty()
            && !self.is_dirty()
        {
            self.phase = Phase::Stopped;
            self.fx.push(ProxyEffect::Drained);
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { .. } => {}
            LinkEvent::Packet { link, data } => self.on_packet(link, &data),
            LinkEvent::Query { link, id, data } => self.on_query(link, id, &data),
            // The proxy asks its peers nothing.
            LinkEvent::Answer { .. } => {}
            LinkEvent::Down { link, .. } => self.on_down(link),
        }
    }

    fn on_tick(&mut self) {
        self.queue.changed = true;
        self.expire_queue();
        self.expire_requests();
        self.expire_handshakes();
        self.end_retired_links();
        if self.phase == Phase::Open {
            self.review_contracts();
            self.review_old();
            self.review_founding();
        }
        self.maybe_commit();
    }

    fn on_root(&mut self, root: RootView) {
        if root.params.params_version > self.root.params.params_version {
            // The lists count at once.
            self.root.worker_hashes = root.worker_hashes.clone();
            self.root.model_hashes = root.model_hashes.clone();
            // Prices and codes are frozen into the contracts, so new ones mean new contracts (5.8).
            self.move_to(root);
        } else if root.version > self.root.version {
            self.root = root;
            self.touch_meta();
        }
        self.expel_unlisted();
    }

    // ---- saving -------------------------------------------------------------------------------

    pub(super) fn touch_client_at(&mut self, sc: Address, owner: Address) {
        self.dirty_clients.insert((sc, owner));
    }

    pub(super) fn touch_worker_at(&mut self, sc: Address, owner: Address) {
        self.dirty_workers.insert((sc, owner));
    }

    pub(super) fn touch_old(&mut self, sc: Address) {
        self.dirty_old.insert(sc);
        self.dirty_meta = true;
    }

    /// Removes a record with the next batch.
    pub(super) fn drop_record(&mut self, name: String) {
        self.dropped.push(name);
        self.dirty_meta = true;
    }

    pub(super) fn touch_meta(&mut self) {
        self.dirty_meta = true;
    }

    fn is_dirty(&self) -> bool {
        self.dirty_meta || !self.dirty_clients.is_empty() || !self.dirty_workers.is_empty()
    }

    /// Does something once everything changed so far is durable.
    pub(super) fn after_save(&mut self, what: Held) {
        let number = self.books.commits.save_no().saturating_add(1);
        self.held.push_back((number, what));
    }

    /// One batch at a time: whatever changes while one is written goes into the next, so the disk sets the pace.
    pub(super) fn maybe_save(&mut self) {
        if self.saving.is_some() || !self.is_dirty() {
            return;
        }
        let commits = &mut self.books.commits;
        let number = match commits.begin_save() {
            Ok(n) => n,
            Err(e) => return self.halt(e.to_string()),
        };
        let mut commit = None;
        if self.commit_wanted && !commits.awaits_commit() {
            match commits.begin_commit() {
                Ok(c) => commit = Some(c),
                Err(e) => return self.halt(e.to_string()),
            }
            self.commit_wanted = false;
            self.last_commit_ms = self.now;
        }
        let mut batch: Vec<Change> = Vec::new();
        let mut point = SavePoint {
            number,
            clients: Vec::new(),
            workers: Vec::new(),
            commit,
        };
        // Removed first: a record may have come back under the same name.
        for name in std::mem::take(&mut self.dropped) {
            batch.push((name, None));
        }
        for sc in std::mem::take(&mut self.dirty_old) {
            if let Some(record) = self.old.get(&sc).and_then(OldContract::record) {
                batch.push((format!("{OLD}{sc}"), Some(record)));
            }
        }
        for (sc, owner) in std::mem::take(&mut self.dirty_clients) {
            if let Some((name, value)) = self.client_change(sc, owner) {
                batch.push((name, Some(value)));
                let max = self.client_at(sc, owner).map(|a| a.tracker.max());
                point.clients.push((sc, owner, max.unwrap_or_default()));
            }
        }
        for (sc, owner) in std::mem::take(&mut self.dirty_workers) {
            if let Some((name, value)) = self.worker_change(sc, owner) {
                batch.push((name, Some(value)));
                let max = self.worker_at(sc, owner).map(|a| a.tracker.max());
                point.workers.push((sc, owner, max.unwrap_or_default()));
            }
        }
        let meta = MetaRecord {
            contract: self.sc.to_string(),
            cursor_lt: self.cursor_lt,
            commits: Some(self.books.commits.clone()),
            params: params_text(&self.root.params),
            root_version: self.root.version,
            founding: self.founding_params(),
            closed_for: self.closed_for,
        };
        batch.push(("meta".to_owned(), Some(to_json(&meta))));
        self.dirty_meta = false;
        self.saving = Some(point);
        self.fx.push(ProxyEffect::Save { number, batch });
    }

    fn on_saved(&mut self, number: u32) {
        let Some(point) = self.saving.take_if(|p| p.number == number) else {
            return;
        };
        let mut broken = None;
        for (sc, owner, max) in point.clients {
            if let Some(a) = self.client_at(sc, owner) {
                broken = a.tracker.saved(number, max).err().or(broken);
            }
        }
        for (sc, owner, max) in point.workers {
            if let Some(a) = self.worker_at(sc, owner) {
                broken = a.tracker.saved(number, max).err().or(broken);
            }
        }
        if let Some(e) = broken {
            return self.halt(format!("the books contradict themselves: {e}"));
        }
        if let Some(commit) = point.commit {
            self.send_commit(commit);
        }
        while self.held.front().is_some_and(|(n, _)| *n <= number) {
            match self.held.pop_front().map(|(_, h)| h) {
                Some(Held::Effects(fx)) => self.fx.extend(fx),
                Some(Held::Payments(closed)) => self.tell_payments(closed),
                Some(Held::Archived(sc)) => {
                    if let Some(old) = self.old.get_mut(&sc) {
                        old.durable = true;
                    }
                }
                None => break,
            }
        }
    }

    // ---- small helpers ------------------------------------------------------------------------

    /// A number nobody outside can guess, from the seed of the session.
    pub(super) fn draw(&mut self) -> [u8; 32] {
        self.draws += 1;
        let mut h = Sha256::new();
        h.update(b"cocoon-proxy-draw");
        h.update(self.cfg.entropy);
        h.update(self.draws.to_le_bytes());
        h.finalize().into()
    }

    pub(super) fn draw_u64(&mut self) -> u64 {
        let d = self.draw();
        u64::from_le_bytes([d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]])
    }

    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    pub(super) fn send(&mut self, link: LinkId, data: Vec<u8>) {
        self.fx
            .push(ProxyEffect::Link(LinkEffect::Send { link, data }));
    }

    pub(super) fn reply(&mut self, link: LinkId, id: i64, data: Vec<u8>) {
        self.fx.push(ProxyEffect::Link(LinkEffect::Reply {
            link,
            id,
            result: Ok(data),
        }));
    }

    /// Refuses a handshake query and ends the link (3.2).
    pub(super) fn refuse(&mut self, link: LinkId, id: i64, code: i32, text: impl Into<String>) {
        let text = text.into();
        self.fx.push(ProxyEffect::Link(LinkEffect::Reply {
            link,
            id,
            result: Err((code, text.clone())),
        }));
        self.close(link, text);
    }

    /// Answers a query with an error and keeps the link.
    pub(super) fn reply_error(&mut self, link: LinkId, id: i64, code: i32, text: &str) {
        self.fx.push(ProxyEffect::Link(LinkEffect::Reply {
            link,
            id,
            result: Err((code, text.to_owned())),
        }));
    }

    pub(super) fn close(&mut self, link: LinkId, reason: impl Into<String>) {
        self.fx.push(ProxyEffect::Link(LinkEffect::Close {
            link,
            reason: reason.into(),
        }));
        self.on_down(link);
    }

    pub(super) fn halt(&mut self, reason: impl Into<String>) {
        self.phase = Phase::Stopped;
        self.fx.push(ProxyEffect::Halt(reason.into()));
    }
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // The records are plain structs of numbers and strings: serialising them cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}
