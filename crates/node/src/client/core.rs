//! The client's state machine: links to proxies, records of them, requests of callers.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_ledger::health::Health;
use cocoon_ledger::{AdjustedTokens, Claims};
use cocoon_ton::amount::NANO_PER_TON;
use cocoon_ton::{Address, Cell};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::closing::{META, closed_of, meta_record};
use super::exit::ExitCheck;
use super::links::Link;
use super::operate::Wish;
use super::requests::Running;
use super::types::{ClientConfig, ClientEffect, ClientEvent};
use crate::footprint::Footprint;
use crate::link::{LinkEffect, LinkEvent, LinkId};
use crate::metrics::Meter;
use crate::root::RootView;
use crate::settlement::ChainMode;

/// NanoTON in a contract that is only assumed (9.4).
const ASSUMED_BALANCE: u128 = 1_000_000 * NANO_PER_TON;

/// What the contract of ours with a proxy looks like, as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contract {
    /// `None` until the chain was asked; then whether it is deployed.
    pub deployed: Option<bool>,
    /// 0 open, 1 closing, 2 closed.
    pub status: u8,
    pub balance: u128,
    pub stake: u128,
    pub used: AdjustedTokens,
    pub unlock_time: u32,
    pub secret_hash: [u8; 32],
    pub last_lt: u64,
    /// Its own coins, nanoTON; deposits lie in the proxy's contract.
    pub coins: u128,
    /// Delays of the proxy's and of our close, in seconds, as frozen into the contract.
    pub delays: Option<(u32, u32)>,
}

/// What a proxy's contract looks like. Not known until it was read, and never without a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyContract {
    /// In use.
    Open,
    /// Closing or closed: what lies in it when that is complete goes to the proxy's owner.
    Ending,
    /// Not deployed, or nothing we can read: a deposit would come back.
    Missing,
}

impl Contract {
    /// Before anything was read; in a network without a chain nothing ever is (protocol.md 9.4).
    pub fn first(mode: ChainMode) -> Self {
        match mode {
            ChainMode::Live => Contract::default(),
            ChainMode::Assumed => Contract {
                deployed: Some(true),
                balance: ASSUMED_BALANCE,
                stake: NANO_PER_TON,
                ..Contract::default()
            },
        }
    }
}

/// A message of ours to the contract that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outstanding {
    pub ticket: u64,
    /// `last_lt` when it was sent: anything later shows its effect.
    pub since_lt: u64,
    /// When to stop waiting for that.
    pub until_ms: Option<u64>,
    /// It carries the nonce of [`ProxyRecord::register`].
    pub registers: bool,
}

/// What a client knows of one proxy.
pub(super) struct ProxyRecord {
    pub public_key: [u8; 32],
    pub owner: Address,
    pub sc: Address,
    pub client_sc: Address,
    pub claims: Claims,
    /// BOC of the newest valid payment.
    pub payment: Option<Vec<u8>>,
    pub contract: Contract,
    pub proxy_contract: Option<ProxyContract>,
    pub outstanding: Option<Outstanding>,
    /// What is known of the ways out.
    pub exit: ExitCheck,
    /// Nonce to be registered once the contract is there.
    pub register: Option<u64>,
    pub params_version: u32,
    pub outdated_since_ms: Option<u64>,
    /// The closed contract was asked for its own coins; asked once in a process.
    pub swept: bool,
    /// How it served, since this process began.
    pub health: Health,
}

/// A record on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredProxy {
    public_key: String,
    owner: String,
    client_sc: String,
    params_version: u32,
    claims: Claims,
    payment: Option<String>,
}

/// The client.
pub struct ClientCore {
    pub(super) cfg: ClientConfig,
    pub(super) root: RootView,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) proxies: BTreeMap<Address, ProxyRecord>,
    pub(super) requests: BTreeMap<[u8; 32], Running>,
    /// Lists being asked for: ask ticket to caller ticket.
    pub(super) lists: BTreeMap<u64, (LinkId, u64)>,
    pub(super) now: u64,
    pub(super) fx: Vec<ClientEffect>,
    /// Requests that wait for a link: until when, Unix milliseconds.
    pub(super) parked: BTreeMap<[u8; 32], u64>,
    /// When a proxy last turned us away because its contract changed.
    pub(super) turned_away_ms: Option<u64>,
    pub(super) next_unpark_ms: u64,
    pub(super) root_asked_ms: u64,
    /// Given up by the operator: deposits are asked back, and nothing is sent any more.
    pub(super) closed: bool,
    dirty_meta: bool,
    pub(super) meter: Meter<[u8; 32]>,
    /// What the operator asked for, by proxy contract, until it is sent.
    pub(super) wishes: BTreeMap<Address, Wish>,
    pub(super) draining: bool,
    drained: bool,
    dirty: BTreeSet<Address>,
    saving: bool,
    save_no: u64,
    next_ticket: u64,
    draws: u64,
}

impl ClientCore {
    /// Opens a client from its records. A record that cannot be read is an error: it may hold the proof of a payment.
    pub fn new(
        cfg: ClientConfig,
        root: RootView,
        records: Vec<(String, Vec<u8>)>,
        now_ms: u64,
    ) -> Result<Self, String> {
        let mut core = ClientCore {
            cfg,
            root,
            links: BTreeMap::new(),
            proxies: BTreeMap::new(),
            requests: BTreeMap::new(),
            lists: BTreeMap::new(),
            now: now_ms,
            fx: Vec::new(),
            parked: BTreeMap::new(),
            turned_away_ms: None,
            next_unpark_ms: 0,
            root_asked_ms: 0,
            closed: false,
            dirty_meta: false,
            meter: Meter::default(),
            wishes: BTreeMap::new(),
            draining: false,
            drained: false,
            dirty: BTreeSet::new(),
            saving: false,
            save_no: 0,
            next_ticket: 0,
            draws: 0,
        };
        for (name, value) in records {
            if name == META {
                core.closed = closed_of(&value)
                    .ok_or_else(|| format!("record \"{name}\" of the client's store cannot be read; restore the file from a copy"))?;
                continue;
            }
            let record = core.read_record(&name, &value).ok_or_else(|| format!("record \"{name}\" of the client's store cannot be read; restore the file from a copy"))?;
            core.fx.push(ClientEffect::Watch {
                proxy_sc: record.sc,
                address: record.client_sc,
            });
            core.proxies.insert(record.sc, record);
        }
        Ok(core)
    }

    fn read_record(&self, name: &str, value: &[u8]) -> Option<ProxyRecord> {
        let parse = |text: &str| Address::parse(text).ok().map(|p| p.address);
        let sc = parse(name.strip_prefix("proxy_")?)?;
        let stored: StoredProxy = serde_json::from_slice(value).ok()?;
        let mut public_key = [0u8; 32];
        hex::decode_to_slice(&stored.public_key, &mut public_key).ok()?;
        let payment = match stored.payment {
            Some(text) => Some(hex::decode(text).ok()?),
            None => None,
        };
        Some(ProxyRecord {
            public_key,
            owner: parse(&stored.owner)?,
            sc,
            client_sc: parse(&stored.client_sc)?,
            claims: stored.claims,
            payment,
            contract: Contract::first(self.cfg.contracts),
            outstanding: None,
            proxy_contract: None,
            exit: ExitCheck::default(),
            register: None,
            params_version: stored.params_version,
            // The root may have moved on while we were away.
            outdated_since_ms: (stored.params_version < self.root.params.params_version)
                .then_some(self.now),
            swept: false,
            health: Health::new(),
        })
    }

    /// Takes what the constructor already wants done.
    pub fn take_effects(&mut self) -> Vec<ClientEffect> {
        std::mem::take(&mut self.fx)
    }

    /// Handles one event.
    pub fn handle(&mut self, now_ms: u64, event: ClientEvent) -> Vec<ClientEffect> {
        self.now = self.now.max(now_ms);
        match event {
            ClientEvent::Link(event) => self.on_link(event),
            ClientEvent::Tick => {
                self.expire_requests();
                self.probe_silent();
                self.leave_outdated();
                self.review_links();
                self.review();
                self.ask_statuses();
            }
            ClientEvent::Root(root) => self.on_root(*root),
            ClientEvent::Request(request) => self.on_request(*request),
            ClientEvent::Cancel(id) => self.on_cancel(id),
            ClientEvent::Models(ticket) => self.on_models(ticket),
            ClientEvent::Contract { proxy_sc, state } => self.on_contract(proxy_sc, &state),
            ClientEvent::ProxyContract { proxy_sc, state } => {
                self.on_proxy_contract(proxy_sc, &state);
            }
            ClientEvent::Transacted { ticket, ok } => self.on_transacted(ticket, ok),
            ClientEvent::Judged { ticket, judgement } => self.on_judged(ticket, judgement),
            ClientEvent::Saved(_) => self.saving = false,
            ClientEvent::Drain => self.draining = true,
            ClientEvent::SetClosed(closed) => self.set_closed(closed),
        }
        self.maybe_save();
        if self.draining && !self.drained && self.requests.is_empty() && !self.saving {
            self.drained = true;
            self.fx.push(ClientEffect::Drained);
        }
        std::mem::take(&mut self.fx)
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { link, peer } => self.on_up(link, &peer),
            LinkEvent::Packet { link, data } => self.on_packet(link, &data),
            LinkEvent::Query { link, id, .. } => {
                // A proxy asks its clients nothing; the reference answers such a query like this.
                self.fx.push(ClientEffect::Link(LinkEffect::Reply {
                    link,
                    id,
                    result: Err((0, "Lost promise".to_owned())),
                }));
            }
            LinkEvent::Answer {
                link,
                ticket,
                result,
            } => self.on_answer(link, ticket, result),
            LinkEvent::Down { link, .. } => self.on_down(link),
        }
    }

    fn on_root(&mut self, root: RootView) {
        if root.version <= self.root.version {
            return;
        }
        let moved = root.params.params_version > self.root.params.params_version;
        self.root = root;
        if moved {
            // New parameters mean new contracts (3.3, 1.9). Links stay until their proxy has moved.
            for record in self.proxies.values_mut() {
                if record.params_version < self.root.params.params_version {
                    record.outdated_since_ms.get_or_insert(self.now);
                }
            }
            self.leave_outdated_links();
        }
        self.expel_unlisted();
    }

    /// Whether a request sent now has somewhere to go, and a deposit to pay it from.
    pub fn is_ready(&self) -> bool {
        let paid = |sc: Address| {
            self.root.price().is_zero()
                || self
                    .proxies
                    .get(&sc)
                    .is_some_and(|p| p.contract.balance > 0)
        };
        self.links
            .values()
            .any(|l| l.is_ready() && l.proxy.is_some_and(paid))
    }

    /// How much is held in memory.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            links: self.links.len(),
            requests: self.requests.len(),
            questions: self.links.values().map(|l| l.questions.len()).sum(),
            waiting: self.lists.len(),
            accounts: self.proxies.len(),
            measured: self.meter.live(),
            names: 0,
        }
    }

    /// The root configuration in force.
    pub fn root(&self) -> &RootView {
        &self.root
    }

    // ---- saving -------------------------------------------------------------------------------

    pub(super) fn touch_meta(&mut self) {
        self.dirty_meta = true;
    }

    pub(super) fn touch(&mut self, proxy_sc: Address) {
        self.dirty.insert(proxy_sc);
    }

    fn maybe_save(&mut self) {
        if self.saving || (self.dirty.is_empty() && !self.dirty_meta) {
            return;
        }
        let mut batch = Vec::new();
        if std::mem::take(&mut self.dirty_meta) {
            batch.push((META.to_owned(), Some(meta_record(self.closed))));
        }
        for sc in std::mem::take(&mut self.dirty) {
            let value = self.proxies.get(&sc).map(|p| {
                let stored = StoredProxy {
                    public_key: hex::encode(p.public_key),
                    owner: p.owner.to_string(),
                    client_sc: p.client_sc.to_string(),
                    params_version: p.params_version,
                    claims: p.claims,
                    payment: p.payment.as_ref().map(hex::encode),
                };
                // Plain strings and numbers: serialising cannot fail.
                serde_json::to_vec(&stored).unwrap_or_default()
            });
            batch.push((format!("proxy_{sc}"), value));
        }
        self.save_no += 1;
        self.saving = true;
        self.fx.push(ClientEffect::Save {
            number: self.save_no,
            batch,
        });
    }

    // ---- small helpers ------------------------------------------------------------------------

    pub(super) fn draw_u64(&mut self) -> u64 {
        self.draws += 1;
        let mut h = Sha256::new();
        h.update(b"cocoon-client-draw");
        h.update(self.cfg.entropy);
        h.update(self.draws.to_le_bytes());
        let d: [u8; 32] = h.finalize().into();
        u64::from_le_bytes([d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]])
    }

    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    pub(super) fn ask(&mut self, link: LinkId, data: Vec<u8>, timeout_ms: u64) -> u64 {
        let ticket = self.ticket();
        self.fx.push(ClientEffect::Link(LinkEffect::Ask {
            link,
            ticket,
            data,
            timeout_ms,
        }));
        ticket
    }

    pub(super) fn transact(
        &mut self,
        to: Address,
        value: u128,
        bounce: bool,
        init: Option<Cell>,
        body: Option<Cell>,
    ) -> u64 {
        let ticket = self.ticket();
        self.fx.push(ClientEffect::Transact {
            ticket,
            to,
            value,
            bounce,
            init,
            body,
        });
        ticket
    }

    pub(super) fn close(&mut self, link: LinkId, reason: impl Into<String>) {
        self.fx.push(ClientEffect::Link(LinkEffect::Close {
            link,
            reason: reason.into(),
        }));
        self.on_down(link);
    }
}
