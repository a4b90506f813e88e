//! The worker's state machine: what every event means, in what order things become visible.
//!
//! Nothing here reads a clock, a socket or a random source. What is owed to us is durable before we rely on it: a
//! link goes into service only after the proxy's record is on disk, and only payments on disk are presented on chain.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cocoon_ledger::Coefficient;
use cocoon_ton::{Address, boc};
use cocoon_wire::msg::worker::NewCoefficient;
use sha2::{Digest, Sha256};

use super::account::{ACCOUNT, INIT, Payment, ProxyAccount};
use super::links::ProxyLink;
use super::moving::{META, closed_of, meta_record};
use super::requests::Running;
use super::types::{WorkerConfig, WorkerEffect, WorkerEvent};
use crate::footprint::Footprint;
use crate::link::{LinkEffect, LinkEvent, LinkId};
use crate::metrics::Meter;
use crate::root::RootView;
use crate::store::Change;
use cocoon_tl::to_boxed;

/// Records on disk that do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// A record cannot be read.
    #[error(
        "record \"{0}\" of the worker's store cannot be read; it may hold a payment, so nothing was changed: restore the file from a copy"
    )]
    Record(String),
}

/// Where the life of the worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    Draining,
    Stopped,
}

/// What waits for a save.
pub(super) enum Held {
    /// The last handshake step of a link.
    Complete(LinkId),
}

/// What a batch makes durable.
struct SavePoint {
    number: u64,
    payments: Vec<(Address, Option<Payment>)>,
}

/// Counters since the start, for statistics.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct Counters {
    pub accepted: u64,
    pub refused: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub tokens: u64,
}

/// The worker.
pub struct WorkerCore {
    pub(super) cfg: WorkerConfig,
    pub(super) root: RootView,
    /// By the address of our contract with the proxy.
    pub(super) accounts: BTreeMap<Address, ProxyAccount>,
    pub(super) links: BTreeMap<LinkId, ProxyLink>,
    pub(super) requests: BTreeMap<u64, Running>,
    pub(super) coefficient: Coefficient,
    /// Root configurations before this one, for requests on contracts that were made from them.
    pub(super) older: Vec<RootView>,
    pub(super) root_asked_ms: u64,
    /// Given up by the operator: no more work, and everything earned is fetched.
    pub(super) closed: bool,
    pub(super) enabled: bool,
    pub(super) healthy: bool,
    pub(super) phase: Phase,
    pub(super) now: u64,
    pub(super) fx: Vec<WorkerEffect>,
    pub(super) counters: Counters,
    pub(super) meter: Meter<u64>,
    pub(super) dirty: BTreeSet<Address>,
    forgotten: Vec<Address>,
    pub(super) dirty_meta: bool,
    saving: Option<SavePoint>,
    save_no: u64,
    held: VecDeque<(u64, Held)>,
    tickets: u64,
    draws: u64,
}

impl WorkerCore {
    /// A worker with the proxies it remembers. A coefficient out of range counts as the largest.
    pub fn new(
        cfg: WorkerConfig,
        root: RootView,
        records: Vec<(String, Vec<u8>)>,
        now_ms: u64,
    ) -> Result<Self, RecordsError> {
        let mut fx = Vec::new();
        let mut accounts = BTreeMap::new();
        let mut closed = false;
        let records: BTreeMap<String, Vec<u8>> = records.into_iter().collect();
        for (name, value) in &records {
            let bad = || RecordsError::Record(name.clone());
            if let Some(text) = name.strip_prefix(ACCOUNT) {
                let contract = Address::parse(text).map_err(|_| bad())?.address;
                let init = records.get(&format!("{INIT}{text}")).ok_or_else(bad)?;
                let account = ProxyAccount::restored(contract, value, init, now_ms);
                accounts.insert(contract, account.ok_or_else(bad)?);
                fx.push(WorkerEffect::Watch(contract));
            } else if name == META {
                closed = closed_of(value).ok_or_else(bad)?;
            } else if !name.starts_with(INIT) {
                return Err(bad());
            }
        }
        let coefficient = Coefficient::new(cfg.coefficient).unwrap_or_else(|_| max_coefficient());
        let mut core = WorkerCore {
            cfg,
            root,
            accounts,
            links: BTreeMap::new(),
            requests: BTreeMap::new(),
            coefficient,
            older: Vec::new(),
            root_asked_ms: 0,
            closed,
            enabled: true,
            healthy: false,
            phase: Phase::Serving,
            now: now_ms,
            fx,
            counters: Counters::default(),
            meter: Meter::default(),
            dirty: BTreeSet::new(),
            forgotten: Vec::new(),
            dirty_meta: false,
            saving: None,
            save_no: 0,
            held: VecDeque::new(),
            tickets: 0,
            draws: 0,
        };
        core.mark_outdated();
        core.maybe_save();
        Ok(core)
    }

    /// Takes what the constructor already wants done.
    pub fn take_effects(&mut self) -> Vec<WorkerEffect> {
        std::mem::take(&mut self.fx)
    }

    /// Requests running now.
    pub fn running(&self) -> usize {
        self.requests.len()
    }

    /// Links in service.
    pub fn ready_links(&self) -> usize {
        self.links.values().filter(|l| l.is_ready()).count()
    }

    /// How much is held in memory.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            links: self.links.len(),
            requests: self.requests.len(),
            questions: self.links.values().filter(|l| l.ticket.is_some()).count(),
            waiting: self.held.len(),
            accounts: self.accounts.len(),
            measured: self.meter.live(),
            names: 0,
        }
    }

    /// Handles one event.
    pub fn handle(&mut self, now_ms: u64, event: WorkerEvent) -> Vec<WorkerEffect> {
        self.now = self.now.max(now_ms);
        if self.phase != Phase::Stopped {
            self.dispatch(event);
            self.maybe_save();
            self.maybe_finish();
        }
        std::mem::take(&mut self.fx)
    }

    fn dispatch(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Link(LinkEvent::Up { link, peer }) => self.on_up(link, peer),
            WorkerEvent::Link(LinkEvent::Packet { link, data }) => self.on_packet(link, &data),
            WorkerEvent::Link(LinkEvent::Query { link, id, .. }) => {
                let text = "a worker answers no queries".to_owned();
                let result = Err((cocoon_wire::codes::PROTOVIOLATION, text));
                self.fx
                    .push(WorkerEffect::Link(LinkEffect::Reply { link, id, result }));
            }
            WorkerEvent::Link(LinkEvent::Answer {
                link,
                ticket,
                result,
            }) => self.on_answer(link, ticket, result),
            WorkerEvent::Link(LinkEvent::Down { link, .. }) => self.on_down(link),
            WorkerEvent::Tick => {
                self.expire_requests();
                self.leave_outdated_links();
                self.ask_status();
                self.review_accounts();
            }
            WorkerEvent::Root(root) => self.on_root(*root),
            WorkerEvent::Backend { request, event } => self.on_backend(request, event),
            WorkerEvent::Health(healthy) => {
                self.healthy = healthy;
                self.announce();
            }
            WorkerEvent::Contract { contract, state } => self.on_contract(contract, &state),
            WorkerEvent::Transacted { ticket, ok } => self.on_transacted(ticket, ok),
            WorkerEvent::Saved(number) => self.on_saved(number),
            WorkerEvent::SetEnabled(enabled) => {
                self.enabled = enabled;
                self.announce();
            }
            WorkerEvent::SetClosed(closed) => self.set_closed(closed),
            WorkerEvent::SetCoefficient(thousandths) => match Coefficient::new(thousandths) {
                Ok(c) => {
                    self.coefficient = c;
                    self.announce();
                }
                Err(e) => self.alarm(format!("the coefficient stays {}: {e}", self.coefficient)),
            },
            WorkerEvent::Drain => {
                self.phase = Phase::Draining;
                self.announce();
            }
        }
    }

    /// Whether new requests are welcome.
    pub(super) fn serving(&self) -> bool {
        self.enabled && self.healthy && !self.closed && self.phase == Phase::Serving
    }

    /// Tells every link in service what it does not know yet: open or closed, and the price (4.4).
    pub(super) fn announce(&mut self) {
        let (serving, coefficient) = (self.serving(), self.coefficient);
        let mut out = Vec::new();
        for (link, l) in &mut self.links {
            if !l.is_ready() {
                continue;
            }
            let open = serving && !l.stale;
            if l.told_open != Some(open) {
                l.told_open = Some(open);
                out.push((*link, super::links::enabled_disabled(open)));
            }
            if l.told_coefficient != coefficient {
                l.told_coefficient = coefficient;
                let new_coefficient = super::links::wire(coefficient.thousandths());
                out.push((*link, to_boxed(&NewCoefficient { new_coefficient })));
            }
        }
        for (link, data) in out {
            self.send(link, data);
        }
    }

    fn on_root(&mut self, root: RootView) {
        if root.version < self.root.version {
            return;
        }
        self.replace_root(root);
        self.mark_outdated();
        if self.cfg.check_hashes {
            let banned: Vec<LinkId> = self
                .links
                .iter()
                .filter(|(_, l)| !self.root.proxy_hashes.contains(&l.peer.image_hash))
                .map(|(link, _)| *link)
                .collect();
            for link in banned {
                self.close(link, "the proxy's image left the root contract's list");
            }
        }
    }

    fn maybe_finish(&mut self) {
        let idle = self.requests.is_empty() && self.saving.is_none() && self.dirty.is_empty();
        if self.phase != Phase::Draining || !idle {
            return;
        }
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.close(link, "the worker shuts down");
        }
        self.phase = Phase::Stopped;
        self.fx.push(WorkerEffect::Drained);
    }

    // ---- saving -------------------------------------------------------------------------------

    pub(super) fn touch(&mut self, contract: Address) {
        self.dirty.insert(contract);
    }

    /// Removes a record from memory and disk.
    pub(super) fn forget(&mut self, contract: Address) {
        self.accounts.remove(&contract);
        self.dirty.remove(&contract);
        self.forgotten.push(contract);
        self.fx.push(WorkerEffect::Unwatch(contract));
    }

    /// Does something once everything changed so far is durable.
    pub(super) fn after_save(&mut self, what: Held) {
        if !self.dirty.is_empty() {
            self.held.push_back((self.save_no + 1, what));
        } else if self.saving.is_some() {
            self.held.push_back((self.save_no, what));
        } else {
            self.release(what);
        }
    }

    fn release(&mut self, what: Held) {
        match what {
            Held::Complete(link) => self.complete_handshake(link),
        }
    }

    /// One batch at a time: whatever changes while one is written goes into the next, so the disk sets the pace.
    fn maybe_save(&mut self) {
        let idle = self.dirty.is_empty() && self.forgotten.is_empty() && !self.dirty_meta;
        if self.saving.is_some() || idle {
            return;
        }
        self.save_no += 1;
        let mut batch: Vec<Change> = Vec::new();
        if std::mem::take(&mut self.dirty_meta) {
            batch.push((META.to_owned(), Some(meta_record(self.closed))));
        }
        let mut payments = Vec::new();
        for sc in std::mem::take(&mut self.dirty) {
            let Some(a) = self.accounts.get_mut(&sc) else {
                continue;
            };
            if !a.kept {
                a.kept = true;
                batch.push((format!("{INIT}{sc}"), Some(boc::encode(&a.init))));
                self.fx.push(WorkerEffect::Watch(sc));
            }
            batch.push((format!("{ACCOUNT}{sc}"), Some(a.record())));
            payments.push((sc, a.payment.clone()));
        }
        for sc in std::mem::take(&mut self.forgotten) {
            batch.push((format!("{ACCOUNT}{sc}"), None));
            batch.push((format!("{INIT}{sc}"), None));
        }
        self.saving = Some(SavePoint {
            number: self.save_no,
            payments,
        });
        self.fx.push(WorkerEffect::Save {
            number: self.save_no,
            batch,
        });
    }

    fn on_saved(&mut self, number: u64) {
        let Some(point) = self.saving.take_if(|p| p.number == number) else {
            return;
        };
        for (sc, payment) in point.payments {
            if let Some(a) = self.accounts.get_mut(&sc) {
                a.durable = payment;
            }
        }
        while self.held.front().is_some_and(|(n, _)| *n <= number) {
            if let Some((_, what)) = self.held.pop_front() {
                self.release(what);
            }
        }
    }

    // ---- small helpers ------------------------------------------------------------------------

    /// A time between `least` and twice that, so that nodes started together drift apart.
    pub(super) fn jittered(&mut self, least: u64) -> u64 {
        self.draws += 1;
        let mut h = Sha256::new();
        h.update(b"cocoon-worker-draw");
        h.update(self.cfg.entropy);
        h.update(self.draws.to_le_bytes());
        let d: [u8; 32] = h.finalize().into();
        let n = u64::from_le_bytes([d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]);
        least.saturating_add(n % least.max(1))
    }

    /// A number never given before: for questions, messages and requests.
    pub(super) fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    pub(super) fn alarm(&mut self, text: impl Into<String>) {
        self.fx.push(WorkerEffect::Alarm(text.into()));
    }

    pub(super) fn send(&mut self, link: LinkId, data: Vec<u8>) {
        self.fx
            .push(WorkerEffect::Link(LinkEffect::Send { link, data }));
    }

    pub(super) fn close(&mut self, link: LinkId, reason: impl Into<String>) {
        let reason = reason.into();
        self.fx
            .push(WorkerEffect::Link(LinkEffect::Close { link, reason }));
        self.on_down(link);
    }
}

fn max_coefficient() -> Coefficient {
    Coefficient::new(cocoon_ledger::units::MAX_COEFFICIENT).unwrap_or(Coefficient::ONE)
}
