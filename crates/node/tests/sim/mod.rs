//! One deterministic run: an event queue, a random source, model disk, network, chain, backend and callers around
//! the real cores. The same seed gives the same run, to the last byte.

pub mod apply;
pub mod backend;
pub mod callers;
pub mod chain;
pub mod checks;
pub mod faults;
pub mod net;
pub mod node;
pub mod setup;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cocoon_engine::BackendEvent;
use cocoon_node::link::{AskError, LinkEvent, PeerInfo};
use cocoon_node::proxy::Port;
use cocoon_node::store::Change;
use cocoon_ton::Address;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use backend::Run;
use callers::Call;
use chain::{Chain, Kind, Msg};
use checks::Durable;
use net::{Net, Wire};
use node::{Core, Input, Node, Role};
use setup::{CLIENTS, PROXIES, T0, TON, WORKERS};

/// Everything on the timeline. `inc` names the incarnation it is for: a crashed one gets nothing any more.
pub enum Ev {
    Tick(usize, u32),
    Feed(usize, u32, Box<Input>),
    Up(usize, usize),
    Deliver(usize, usize, Wire),
    Answer(usize, usize, u64, Result<Vec<u8>, AskError>),
    AskTimeout(usize, usize, i64),
    Down(usize, usize),
    Dial(usize, u32, usize),
    Durable(usize, u32, u64, Vec<Change>),
    Wallet(usize, u32, u64, Msg),
    Arrive(Msg),
    Poll(usize, u32, Address),
    PollProxy(usize, u32),
    Backend(usize, u32, u64, BackendEvent),
    Call(usize),
    CancelCall(usize),
    Models(usize),
    Chaos,
    Restart(usize),
    Calm,
    Settle,
}

/// How a run goes.
#[derive(Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    /// Simulated time with faults and requests.
    pub busy_ms: u64,
    /// Nodes crash.
    pub crashes: bool,
    /// Connections break, backends fail, callers leave.
    pub faults: bool,
}

/// Figures of a run, to see that something happened.
#[derive(Default, Debug, Clone, Copy)]
pub struct Figures {
    pub steps: u64,
    pub requests: u64,
    pub answered: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub crashes: u64,
    pub lost_saves: u64,
    pub drops: u64,
    pub settlements: u64,
    pub top_ups: u64,
    pub withdrawals: u64,
    pub commits: u64,
    pub delivered_tokens: u64,
    pub booked_tokens: u64,
    pub simulated_ms: u64,
}

/// The world.
pub struct Sim {
    pub plan: Plan,
    pub rng: ChaCha8Rng,
    pub now: u64,
    seq: u64,
    queue: BTreeMap<(u64, u64), Ev>,
    pub nodes: Vec<Node>,
    pub net: Net,
    pub chain: Chain,
    pair_last: BTreeMap<(Address, Address), u64>,
    /// Incarnations whose wallet queue died with them.
    pub lost_wallets: BTreeSet<(usize, u32)>,
    pub stopped_runs: BTreeSet<(usize, u32, u64)>,
    pub runs: Vec<Run>,
    pub calls: Vec<Call>,
    pub call_ids: BTreeMap<[u8; 32], usize>,
    /// Lists asked for: client node, incarnation and ticket to the deadline.
    pub lists: BTreeMap<(usize, u32, u64), u64>,
    pub durable: Vec<Durable>,
    /// Bills of complete answers, by client.
    pub delivered: Vec<u64>,
    /// Payments whose signature was verified already.
    pub verified: BTreeSet<Vec<u8>>,
    /// Contracts by address: proxy, is client, number.
    pub contracts: BTreeMap<Address, (usize, bool, usize)>,
    pub root_version: u32,
    pub calm: bool,
    pub calm_since: u64,
    pub draining_since: Option<u64>,
    /// A proxy that has to halt (negative tests).
    pub must_halt: Option<usize>,
    pub done: bool,
    pub failure: Option<String>,
    pub figures: Figures,
    tracing: bool,
    trace: VecDeque<String>,
}

impl Sim {
    pub fn new(plan: Plan) -> Self {
        let root = setup::root();
        let mut chain = Chain::new(root.clone());
        let mut contracts = BTreeMap::new();
        let mut nodes = Vec::new();
        let roles = [
            (Role::Proxy, PROXIES),
            (Role::Client, CLIENTS),
            (Role::Worker, WORKERS),
        ];
        for (role, count) in roles {
            for n in 0..count {
                chain.found(setup::wallet(role, n), 200 * TON, Kind::Plain);
                if role != Role::Client {
                    chain.found(setup::owner(role, n), 0, Kind::Plain);
                }
                nodes.push(Node::new(role, n));
            }
        }
        for p in 0..PROXIES {
            let (sc, kind) = setup::proxy_contract(&root, p);
            chain.found(sc, TON, kind);
            let key = setup::proxy_key(p).verifying_key().to_bytes();
            for c in 0..CLIENTS {
                let owner = setup::owner(Role::Client, c);
                let init = root.client_contract(sc, key, owner).unwrap();
                contracts.insert(init.address, (p, true, c));
            }
            for w in 0..WORKERS {
                let owner = setup::owner(Role::Worker, w);
                let init = root.worker_contract(sc, key, owner).unwrap();
                contracts.insert(init.address, (p, false, w));
            }
        }
        let mut sim = Sim {
            plan,
            rng: ChaCha8Rng::seed_from_u64(plan.seed),
            now: T0,
            seq: 0,
            queue: BTreeMap::new(),
            nodes,
            net: Net::default(),
            chain,
            pair_last: BTreeMap::new(),
            lost_wallets: BTreeSet::new(),
            stopped_runs: BTreeSet::new(),
            runs: Vec::new(),
            calls: Vec::new(),
            call_ids: BTreeMap::new(),
            lists: BTreeMap::new(),
            durable: (0..PROXIES).map(|_| Durable::default()).collect(),
            delivered: vec![0; CLIENTS],
            verified: BTreeSet::new(),
            contracts,
            root_version: 1,
            calm: false,
            calm_since: u64::MAX,
            draining_since: None,
            must_halt: None,
            done: false,
            failure: None,
            figures: Figures::default(),
            tracing: std::env::var_os("COCOON_SEED").is_some(),
            trace: VecDeque::new(),
        };
        for node in 0..sim.nodes.len() {
            let at = sim.pick(0, 2000);
            sim.at(at, Ev::Restart(node));
        }
        for c in 0..CLIENTS {
            sim.at(3000, Ev::Call(c));
            sim.at(5000, Ev::Models(c));
        }
        sim.at(15_000, Ev::Chaos);
        sim.at(plan.busy_ms, Ev::Calm);
        sim
    }

    /// A random number of milliseconds.
    pub fn pick(&mut self, from: u64, to: u64) -> u64 {
        self.rng.random_range(from..=to)
    }

    /// Puts something on the timeline, `delay` milliseconds from now.
    pub fn at(&mut self, delay: u64, ev: Ev) {
        self.seq += 1;
        self.queue.insert((self.now + delay, self.seq), ev);
    }

    /// The first law that is broken ends the run.
    pub fn fail(&mut self, text: impl Into<String>) {
        if self.failure.is_none() {
            self.failure = Some(text.into());
        }
    }

    fn trace_len(&self) -> usize {
        if std::env::var_os("COCOON_TRACE").is_some() {
            100_000
        } else {
            400
        }
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.tracing {
            let line = format!("{:>8} ms  {}", self.now - T0, text());
            self.trace.push_back(line);
            if self.trace.len() > self.trace_len() {
                self.trace.pop_front();
            }
        }
    }

    /// Runs to the end: quiet, settled, drained.
    pub fn run(&mut self) -> Result<Figures, String> {
        while !self.done {
            self.step();
            if let Some(text) = self.failure.take() {
                return Err(self.report(&text));
            }
        }
        self.finish_figures();
        if std::env::var_os("COCOON_TRACE").is_some() {
            println!("{}", self.report("done"));
        }
        Ok(self.figures)
    }

    /// Runs for some simulated time.
    pub fn run_for(&mut self, ms: u64) -> Result<(), String> {
        let until = self.now + ms;
        while self
            .queue
            .first_key_value()
            .is_some_and(|((t, _), _)| *t <= until)
            && !self.done
        {
            self.step();
            if let Some(text) = self.failure.take() {
                return Err(self.report(&text));
            }
        }
        Ok(())
    }

    fn report(&self, text: &str) -> String {
        let mut out = String::new();
        for line in &self.trace {
            out.push_str(line);
            out.push('\n');
        }
        format!(
            "{out}seed {}, step {}, {} ms: {text}\n  run it again with its last events: COCOON_SEED={} cargo test -p cocoon-node --test simulation",
            self.plan.seed,
            self.figures.steps,
            self.now - T0,
            self.plan.seed
        )
    }

    fn finish_figures(&mut self) {
        let f = &mut self.figures;
        f.simulated_ms = self.now - T0;
        f.settlements = self.chain.settlements;
        f.top_ups = self.chain.top_ups;
        f.withdrawals = self.chain.withdrawals;
        f.commits = self.chain.commits;
        f.delivered_tokens = self.delivered.iter().sum();
        f.booked_tokens = self.durable.iter().map(Durable::clients_total).sum();
    }

    fn step(&mut self) {
        let Some(((at, _), ev)) = self.queue.pop_first() else {
            return self.fail("nothing is left to happen, but the run is not done");
        };
        self.now = self.now.max(at);
        self.figures.steps += 1;
        match ev {
            Ev::Tick(node, inc) => {
                if self.lives(node, inc) {
                    let again = if self.calm { 1000 } else { self.pick(200, 400) };
                    self.at(again, Ev::Tick(node, inc));
                    self.feed(node, Input::Tick);
                }
            }
            Ev::Feed(node, inc, input) => {
                if self.lives(node, inc) {
                    self.feed(node, *input);
                }
            }
            Ev::Up(conn, side) => self.on_up(conn, side),
            Ev::Deliver(conn, side, wire) => self.on_deliver(conn, side, wire),
            Ev::Answer(conn, side, ticket, result) => {
                let e = &self.net.conns[conn].ends[side];
                let (node, inc, link) = (e.node, e.inc, e.link);
                if self.lives(node, inc) {
                    let event = LinkEvent::Answer {
                        link,
                        ticket,
                        result,
                    };
                    self.feed(node, Input::Link(event));
                }
            }
            Ev::AskTimeout(conn, side, query) => {
                if let Some(ticket) = self.net.conns[conn].ends[side].asks.remove(&query) {
                    let late = Err(AskError::Timeout);
                    self.at(0, Ev::Answer(conn, side, ticket, late));
                }
            }
            Ev::Down(conn, side) => self.on_down(conn, side),
            Ev::Dial(node, inc, proxy) => self.on_dial(node, inc, proxy),
            Ev::Durable(node, inc, number, batch) => self.on_durable(node, inc, number, batch),
            Ev::Wallet(node, inc, ticket, msg) => self.on_wallet(node, inc, ticket, msg),
            Ev::Arrive(msg) => self.on_arrive(msg),
            Ev::Poll(node, inc, address) => self.on_poll(node, inc, address),
            Ev::PollProxy(node, inc) => self.on_poll_proxy(node, inc),
            Ev::Backend(node, inc, request, event) => {
                let stopped = self.stopped_runs.contains(&(node, inc, request));
                if self.lives(node, inc) && !stopped {
                    self.feed(node, Input::Backend { request, event });
                }
            }
            Ev::Call(client) => self.on_call(client),
            Ev::CancelCall(call) => self.on_cancel_call(call),
            Ev::Models(client) => self.on_models(client),
            Ev::Chaos => self.on_chaos(),
            Ev::Restart(node) => self.restart(node),
            Ev::Calm => self.on_calm(),
            Ev::Settle => self.on_settle(),
        }
    }

    pub fn lives(&self, node: usize, inc: u32) -> bool {
        let n = &self.nodes[node];
        n.core.is_some() && n.inc == inc
    }

    /// One event for one core, and everything it wants; then the laws.
    pub fn feed(&mut self, node: usize, input: Input) {
        let now = self.now;
        let Some(core) = self.nodes[node].core.as_mut() else {
            return;
        };
        let outputs = core.handle(now, input);
        self.apply(node, outputs);
        self.check_node(node);
    }

    /// Starts a node from its disk.
    pub fn restart(&mut self, node: usize) {
        if self.nodes[node].core.is_some() {
            return;
        }
        let mut root = setup::root();
        root.version = self.root_version;
        let entropy: [u8; 32] = self.rng.random();
        let n = &mut self.nodes[node];
        n.inc += 1;
        n.watches.clear();
        n.dialled.clear();
        n.listening = false;
        let records = n.disk.clone().into_iter().collect();
        let core = setup::start(n.role, n.n, root, records, entropy, self.now);
        let (role, inc, name) = (n.role, n.inc, (n.role, n.n));
        let mut core = match core {
            Ok(core) => core,
            Err(e) => return self.fail(format!("{name:?} does not start: {e}")),
        };
        if let Core::Proxy(c) = &core {
            n.tx_cursor = c.cursor_lt();
        }
        let first = core.first();
        n.core = Some(core);
        self.note(|| format!("{name:?} starts, incarnation {inc}"));
        self.apply(node, first);
        self.at(50, Ev::Tick(node, inc));
        if role == Role::Proxy {
            self.at(100, Ev::PollProxy(node, inc));
            return;
        }
        if role == Role::Worker {
            self.at(20, Ev::Feed(node, inc, Box::new(Input::Health(true))));
        }
        for proxy in 0..PROXIES {
            let wait = self.pick(50, 1500);
            self.at(wait, Ev::Dial(node, inc, proxy));
        }
    }

    // ---- links --------------------------------------------------------------------------------

    /// Time on the way: mostly short, sometimes long.
    pub fn latency(&mut self) -> u64 {
        match self.pick(0, 19) {
            0 => self.pick(100, 900),
            _ => self.pick(1, 60),
        }
    }

    fn on_dial(&mut self, node: usize, inc: u32, proxy: usize) {
        if !self.lives(node, inc) || self.nodes[node].drained || self.draining_since.is_some() {
            return;
        }
        if !self.nodes[proxy].listening || self.nodes[proxy].core.is_none() {
            let wait = self.pick(300, 2000);
            return self.at(wait, Ev::Dial(node, inc, proxy));
        }
        let conn = self
            .net
            .connect((node, inc), (proxy, self.nodes[proxy].inc));
        self.nodes[node].dialled.insert(proxy, conn);
        for side in 0..2 {
            let wait = self.latency();
            self.net.conns[conn].ends[side].last = self.now + wait;
            self.at(wait, Ev::Up(conn, side));
        }
    }

    fn on_up(&mut self, conn: usize, side: usize) {
        let c = &self.net.conns[conn];
        let (end, other) = (&c.ends[side], &c.ends[1 - side]);
        let (node, link) = (end.node, end.link);
        if !self.lives(node, end.inc) || !end.alive {
            return;
        }
        let image_hash = match self.nodes[other.node].role {
            Role::Proxy => setup::PROXY_IMAGE,
            Role::Worker => setup::WORKER_IMAGE,
            Role::Client => [0; 32],
        };
        let port = match self.nodes[other.node].role {
            Role::Worker => Port::Workers,
            _ => Port::Clients,
        };
        let peer = PeerInfo {
            image_hash,
            ..Default::default()
        };
        let event = LinkEvent::Up { link, peer };
        if side == 1 {
            self.feed(node, Input::Accepted(port, event));
        } else {
            self.feed(node, Input::Link(event));
        }
    }

    /// Hands something to the network; what is sent into a broken connection is gone.
    pub fn carry(&mut self, conn: usize, from: usize, wire: Wire) {
        let wait = self.latency();
        let c = &mut self.net.conns[conn];
        if c.broken || !c.ends[from].alive {
            return;
        }
        let to = 1 - from;
        let at = c.ends[to].last.max(self.now + wait);
        c.ends[to].last = at;
        let delay = at - self.now;
        self.at(delay, Ev::Deliver(conn, to, wire));
    }

    fn on_deliver(&mut self, conn: usize, side: usize, wire: Wire) {
        let e = &mut self.net.conns[conn].ends[side];
        let (node, inc, link) = (e.node, e.inc, e.link);
        if !e.alive {
            return;
        }
        let event = match wire {
            Wire::Packet(data) => LinkEvent::Packet { link, data },
            Wire::Query(id, data) => LinkEvent::Query { link, id, data },
            Wire::Answer(id, result) => {
                if let Some(ticket) = e.asks.remove(&id) {
                    // Answers and packets reach a core on different ways.
                    let wait = self.pick(0, 30);
                    let result =
                        result.map_err(|(code, message)| AskError::Remote { code, message });
                    self.at(wait, Ev::Answer(conn, side, ticket, result));
                }
                return;
            }
        };
        if self.lives(node, inc) {
            self.feed(node, Input::Link(event));
        }
    }

    /// Ends a connection for both sides, each of which learns it in its own time.
    pub fn sever(&mut self, conn: usize, slowest: u64) {
        self.net.conns[conn].broken = true;
        for side in 0..2 {
            let wait = self.pick(0, slowest);
            self.at(wait, Ev::Down(conn, side));
        }
    }

    fn on_down(&mut self, conn: usize, side: usize) {
        let e = &mut self.net.conns[conn].ends[side];
        if std::mem::replace(&mut e.downed, true) {
            return;
        }
        e.alive = false;
        let (node, inc, link) = (e.node, e.inc, e.link);
        for ticket in std::mem::take(&mut e.asks).into_values() {
            let wait = self.pick(0, 20);
            self.at(wait, Ev::Answer(conn, side, ticket, Err(AskError::Closed)));
        }
        if !self.lives(node, inc) {
            return;
        }
        let reason = "the model network ended it".to_owned();
        self.feed(node, Input::Link(LinkEvent::Down { link, reason }));
        if side == 0 {
            let proxy = self.net.conns[conn].ends[1].node;
            self.nodes[node].dialled.remove(&proxy);
            let wait = self.pick(100, 2500);
            self.at(wait, Ev::Dial(node, inc, proxy));
        }
    }
}
