//! One shape for the three cores: what can be fed to them, what they want.

use std::collections::{BTreeMap, VecDeque};

use cocoon_engine::{BackendEvent, HttpRequest};
use cocoon_node::client::{ClientCore, ClientEffect, ClientEvent, HttpOut, Judgement, NewRequest};
use cocoon_node::footprint::Footprint;
use cocoon_node::link::{LinkEffect, LinkEvent};
use cocoon_node::proxy::{Port, ProxyCore, ProxyEffect, ProxyEvent};
use cocoon_node::root::RootView;
use cocoon_node::store::Change;
use cocoon_node::worker::{WorkerCore, WorkerEffect, WorkerEvent};
use cocoon_ton::{AccountState, Address, Cell, TxInfo};

use super::disk::Disk;
use super::versions::Dialect;

/// A core of any role.
pub enum Core {
    Proxy(Box<ProxyCore>),
    Client(Box<ClientCore>),
    Worker(Box<WorkerCore>),
}

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Proxy,
    Client,
    Worker,
}

/// A node: its core while it lives, its disk always.
pub struct Node {
    pub role: Role,
    /// Number within the role.
    pub n: usize,
    pub core: Option<Core>,
    /// Raised by every start.
    pub inc: u32,
    pub disk: Disk,
    /// What a lying disk goes back to.
    pub older: Option<Disk>,
    /// Batches on their way to the disk.
    pub writing: VecDeque<(u64, Vec<Change>)>,
    /// How it talks, for networks of mixed versions.
    pub dialect: Dialect,
    /// Its clock: ahead of the world, and faster.
    pub skew_ms: i64,
    pub drift_ppm: i64,
    /// Sees nothing of the chain until then.
    pub blind_until: u64,
    pub wallet: Address,
    /// The wallet sends in order.
    pub wallet_last: u64,
    /// A proxy that takes links.
    pub listening: bool,
    pub halted: Option<String>,
    pub drained: bool,
    /// Contracts polled: proxy contract (clients) or nothing of it (workers), address, last seen.
    pub watches: Vec<(Address, Address, Option<u64>)>,
    /// Logical time up to which a proxy's watcher has delivered.
    pub tx_cursor: u64,
    /// Open dials by proxy: the connection.
    pub dialled: BTreeMap<usize, usize>,
}

/// Anything that can happen to a core.
pub enum Input {
    Accepted(Port, LinkEvent),
    Link(LinkEvent),
    Tick,
    Root(RootView),
    Saved(u64),
    Transacted {
        ticket: u64,
        ok: bool,
    },
    Contract(Address, Address, AccountState),
    /// The exit prover's answer; it has tests of its own, here everything is safe.
    Judged(u64),
    Transactions(Vec<TxInfo>),
    Backend {
        request: u64,
        event: BackendEvent,
    },
    Health(bool),
    Enabled(bool),
    Request(NewRequest),
    Cancel([u8; 32]),
    Models(u64),
    Drain,
}

/// Anything a core can want.
pub enum Output {
    Link(LinkEffect),
    Save {
        number: u64,
        batch: Vec<Change>,
    },
    Transact {
        ticket: u64,
        to: Address,
        value: u128,
        bounce: bool,
        init: Option<Cell>,
        body: Option<Cell>,
    },
    Watch(Address, Address),
    Unwatch(Address),
    Start(u64, HttpRequest),
    Stop(u64),
    Http([u8; 32], HttpOut),
    Models(u64),
    Judge(u64),
    Ready,
    Drained,
    /// Nothing that concerns the sim.
    Nothing,
    Halt(String),
    Alarm(String),
}

impl Core {
    /// How much it holds.
    pub fn footprint(&self) -> Footprint {
        match self {
            Core::Proxy(c) => c.footprint(),
            Core::Client(c) => c.footprint(),
            Core::Worker(c) => c.footprint(),
        }
    }

    /// What the constructor wants.
    pub fn first(&mut self) -> Vec<Output> {
        match self {
            Core::Proxy(c) => c.take_effects().into_iter().map(from_proxy).collect(),
            Core::Client(c) => c.take_effects().into_iter().map(from_client).collect(),
            Core::Worker(c) => c.take_effects().into_iter().map(from_worker).collect(),
        }
    }

    pub fn handle(&mut self, now: u64, input: Input) -> Vec<Output> {
        match self {
            Core::Proxy(c) => to_proxy(input).map_or_else(Vec::new, |e| {
                c.handle(now, e).into_iter().map(from_proxy).collect()
            }),
            Core::Client(c) => to_client(input).map_or_else(Vec::new, |e| {
                c.handle(now, e).into_iter().map(from_client).collect()
            }),
            Core::Worker(c) => to_worker(input).map_or_else(Vec::new, |e| {
                c.handle(now, e).into_iter().map(from_worker).collect()
            }),
        }
    }
}

fn to_proxy(input: Input) -> Option<ProxyEvent> {
    Some(match input {
        Input::Accepted(port, e) => ProxyEvent::Accepted(port, e),
        Input::Link(e) => ProxyEvent::Link(e),
        Input::Tick => ProxyEvent::Tick,
        Input::Root(r) => ProxyEvent::Root(Box::new(r)),
        Input::Saved(n) => ProxyEvent::Saved(n as u32),
        Input::Transacted { ticket, ok } => ProxyEvent::Transacted { ticket, ok },
        Input::Contract(_, _, state) => ProxyEvent::Contract(Box::new(state)),
        Input::Transactions(txs) => ProxyEvent::Transactions(txs),
        Input::Drain => ProxyEvent::Drain,
        _ => return None,
    })
}

fn to_client(input: Input) -> Option<ClientEvent> {
    Some(match input {
        Input::Link(e) => ClientEvent::Link(e),
        Input::Tick => ClientEvent::Tick,
        Input::Root(r) => ClientEvent::Root(Box::new(r)),
        Input::Saved(n) => ClientEvent::Saved(n),
        Input::Transacted { ticket, ok } => ClientEvent::Transacted { ticket, ok },
        Input::Contract(proxy_sc, _, state) => ClientEvent::Contract {
            proxy_sc,
            state: Box::new(state),
        },
        Input::Judged(ticket) => ClientEvent::Judged {
            ticket,
            judgement: Judgement::Safe,
        },
        Input::Request(r) => ClientEvent::Request(Box::new(r)),
        Input::Cancel(id) => ClientEvent::Cancel(id),
        Input::Models(ticket) => ClientEvent::Models(ticket),
        Input::Drain => ClientEvent::Drain,
        _ => return None,
    })
}

fn to_worker(input: Input) -> Option<WorkerEvent> {
    Some(match input {
        Input::Link(e) => WorkerEvent::Link(e),
        Input::Tick => WorkerEvent::Tick,
        Input::Root(r) => WorkerEvent::Root(Box::new(r)),
        Input::Saved(n) => WorkerEvent::Saved(n),
        Input::Transacted { ticket, ok } => WorkerEvent::Transacted { ticket, ok },
        Input::Contract(_, contract, state) => WorkerEvent::Contract {
            contract,
            state: Box::new(state),
        },
        Input::Backend { request, event } => WorkerEvent::Backend { request, event },
        Input::Health(ok) => WorkerEvent::Health(ok),
        Input::Enabled(yes) => WorkerEvent::SetEnabled(yes),
        Input::Drain => WorkerEvent::Drain,
        _ => return None,
    })
}

fn from_proxy(e: ProxyEffect) -> Output {
    match e {
        ProxyEffect::Link(e) => Output::Link(e),
        ProxyEffect::Save { number, batch } => Output::Save {
            number: u64::from(number),
            batch,
        },
        ProxyEffect::Transact {
            ticket,
            to,
            value,
            init,
            body,
        } => Output::Transact {
            ticket,
            to,
            value: u128::from(value),
            bounce: true,
            init,
            body,
        },
        // The sim's root never changes its params, so there is one contract a proxy.
        ProxyEffect::Watch { .. } | ProxyEffect::Unwatch(_) | ProxyEffect::Note(_) => {
            Output::Nothing
        }
        ProxyEffect::Ready => Output::Ready,
        ProxyEffect::Drained => Output::Drained,
        ProxyEffect::Halt(why) => Output::Halt(why),
        ProxyEffect::Alarm(text) => Output::Alarm(text),
    }
}

fn from_client(e: ClientEffect) -> Output {
    match e {
        ClientEffect::Link(e) => Output::Link(e),
        ClientEffect::Http(id, out) => Output::Http(id, out),
        ClientEffect::Models(ticket, _) => Output::Models(ticket),
        ClientEffect::Watch { proxy_sc, address } => Output::Watch(proxy_sc, address),
        ClientEffect::Save { number, batch } => Output::Save { number, batch },
        ClientEffect::Transact {
            ticket,
            to,
            value,
            bounce,
            init,
            body,
        } => Output::Transact {
            ticket,
            to,
            value,
            bounce,
            init,
            body,
        },
        ClientEffect::Unwatch { .. } | ClientEffect::ReadRoot => Output::Nothing,
        ClientEffect::Judge { ticket, .. } => Output::Judge(ticket),
        ClientEffect::Drained => Output::Drained,
        ClientEffect::Alarm(text) => Output::Alarm(text),
    }
}

fn from_worker(e: WorkerEffect) -> Output {
    match e {
        WorkerEffect::Link(e) => Output::Link(e),
        WorkerEffect::Start { request, http, .. } => Output::Start(request, http),
        WorkerEffect::Cancel { request } => Output::Stop(request),
        WorkerEffect::Watch(address) => Output::Watch(address, address),
        WorkerEffect::Unwatch(address) => Output::Unwatch(address),
        WorkerEffect::Save { number, batch } => Output::Save { number, batch },
        WorkerEffect::Transact {
            ticket,
            to,
            value,
            bounce,
            init,
            body,
        } => Output::Transact {
            ticket,
            to,
            value: u128::from(value),
            bounce,
            init,
            body,
        },
        WorkerEffect::ReadRoot => Output::Nothing,
        WorkerEffect::Drained => Output::Drained,
        WorkerEffect::Alarm(text) => Output::Alarm(text),
    }
}
