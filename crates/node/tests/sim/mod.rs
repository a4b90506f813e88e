//! One deterministic run: an event queue, a random source, model disk, network, chain, backend and callers around
//! the real cores. The same seed gives the same run, to the last byte.

pub mod apply;
pub mod backend;
pub mod bend;
pub mod bounds;
pub mod callers;
pub mod chain;
pub mod checks;
pub mod disk;
pub mod faults;
pub mod hostile;
pub mod links;
pub mod net;
pub mod node;
pub mod plan;
pub mod rest;
pub mod runner;
pub mod sabotage;
pub mod setup;
pub mod versions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cocoon_engine::BackendEvent;
use cocoon_node::link::{AskError, LinkEvent};
use cocoon_ton::Address;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use backend::Run;
use bend::Loot;
use callers::Call;
use chain::{Chain, Kind, Msg};
use checks::Durable;
use links::Cut;
use net::{Net, Wire};
use node::{Core, Input, Node, Role};
pub use plan::Plan;
use setup::{T0, TON};
use versions::Dialect;

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
    Durable(usize, u32, u64),
    Wallet(usize, u32, u64, Msg),
    Arrive(Msg),
    Poll(usize, u32, Address),
    PollProxy(usize, u32),
    Backend(usize, u32, u64, BackendEvent),
    Call(usize),
    CancelCall(usize),
    Models(usize),
    Chaos,
    Hostile(usize, u32),
    Restart(usize),
    Calm,
    Settle,
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
    pub torn: u64,
    pub drops: u64,
    pub cuts: u64,
    pub attacks: u64,
    pub settlements: u64,
    pub top_ups: u64,
    pub withdrawals: u64,
    pub commits: u64,
    pub delivered_tokens: u64,
    pub booked_tokens: u64,
    pub simulated_ms: u64,
}

impl Figures {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Figures) {
        let pairs = [
            (&mut self.steps, other.steps),
            (&mut self.requests, other.requests),
            (&mut self.answered, other.answered),
            (&mut self.failed, other.failed),
            (&mut self.cancelled, other.cancelled),
            (&mut self.crashes, other.crashes),
            (&mut self.lost_saves, other.lost_saves),
            (&mut self.torn, other.torn),
            (&mut self.drops, other.drops),
            (&mut self.cuts, other.cuts),
            (&mut self.attacks, other.attacks),
            (&mut self.settlements, other.settlements),
            (&mut self.top_ups, other.top_ups),
            (&mut self.withdrawals, other.withdrawals),
            (&mut self.commits, other.commits),
            (&mut self.delivered_tokens, other.delivered_tokens),
            (&mut self.booked_tokens, other.booked_tokens),
            (&mut self.simulated_ms, other.simulated_ms),
        ];
        for (sum, n) in pairs {
            *sum += n;
        }
    }
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
    pub cut: Cut,
    /// What a hostile peer has seen.
    pub loot: Loot,
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
    /// What the disks of workers know to be signed, by worker and contract.
    pub promised: BTreeMap<(usize, Address), u64>,
    /// Used and reserved tokens of clients after the last step, by proxy.
    pub last_books: Vec<BTreeMap<Address, (u64, u64)>>,
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
    pub tracing: bool,
    trace: VecDeque<String>,
}

impl Sim {
    pub fn new(plan: Plan) -> Self {
        let root = setup::root();
        let shape = plan.shape;
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        let mut chain = Chain::new(root.clone());
        let mut contracts = BTreeMap::new();
        let mut nodes = Vec::new();
        for role in [Role::Proxy, Role::Client, Role::Worker] {
            for n in 0..shape.count(role) {
                chain.found(setup::wallet(role, n), 200 * TON, Kind::Plain);
                if role != Role::Client {
                    chain.found(setup::owner(role, n), 0, Kind::Plain);
                }
                let mut node = Node::new(role, n);
                if plan.mixed_versions {
                    node.dialect = Dialect::draw(&mut rng);
                }
                nodes.push(node);
            }
        }
        for p in 0..shape.proxies {
            let (sc, kind) = setup::proxy_contract(&root, p);
            chain.found(sc, TON, kind);
            let key = setup::proxy_key(p).verifying_key().to_bytes();
            for c in 0..shape.clients {
                let owner = setup::owner(Role::Client, c);
                let init = root.client_contract(sc, key, owner).unwrap();
                contracts.insert(init.address, (p, true, c));
            }
            for w in 0..shape.workers {
                let owner = setup::owner(Role::Worker, w);
                let init = root.worker_contract(sc, key, owner).unwrap();
                contracts.insert(init.address, (p, false, w));
            }
        }
        let mut sim = Sim {
            plan,
            rng,
            now: T0,
            seq: 0,
            queue: BTreeMap::new(),
            nodes,
            net: Net::default(),
            cut: Cut::default(),
            loot: Loot::default(),
            chain,
            pair_last: BTreeMap::new(),
            lost_wallets: BTreeSet::new(),
            stopped_runs: BTreeSet::new(),
            runs: Vec::new(),
            calls: Vec::new(),
            call_ids: BTreeMap::new(),
            lists: BTreeMap::new(),
            durable: (0..shape.proxies).map(|_| Durable::default()).collect(),
            promised: BTreeMap::new(),
            last_books: vec![BTreeMap::new(); shape.proxies],
            delivered: vec![0; shape.clients],
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
            tracing: false,
            trace: VecDeque::new(),
        };
        for node in 0..sim.nodes.len() {
            let at = sim.pick(0, 700);
            sim.at(at, Ev::Restart(node));
        }
        for c in 0..shape.clients {
            sim.at(4500, Ev::Call(c));
            sim.at(4000, Ev::Models(c));
        }
        sim.at(plan.chaos_ms, Ev::Chaos);
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

    pub fn report(&self, text: &str) -> String {
        let mut out = String::new();
        for line in &self.trace {
            out.push_str(line);
            out.push('\n');
        }
        format!(
            "{out}seed {}, step {}, {} ms: {text}\n  {:?}\n  run it again with its last events: COCOON_SEED={} cargo test -p cocoon-node --test simulation money",
            self.plan.seed,
            self.figures.steps,
            self.now - T0,
            self.plan,
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
            Ev::Durable(node, inc, number) => self.on_durable(node, inc, number),
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
            Ev::Hostile(node, inc) => self.on_hostile(node, inc),
            Ev::Restart(node) => self.restart(node),
            Ev::Calm => self.on_calm(),
            Ev::Settle => self.on_settle(),
        }
    }

    /// Index of a node.
    pub fn index(&self, role: Role, n: usize) -> usize {
        self.plan.shape.index(role, n)
    }

    /// Disks and chain are fast: before the first fault and after the last one.
    pub fn swift(&self) -> bool {
        self.calm || self.now - T0 < self.plan.chaos_ms
    }

    /// Whether a node means harm.
    pub fn is_hostile(&self, node: usize) -> bool {
        let n = &self.nodes[node];
        self.plan.is_hostile(n.role, n.n)
    }

    /// The time by a node's own clock.
    pub fn local(&self, node: usize) -> u64 {
        let n = &self.nodes[node];
        let drift = (self.now - T0) as i64 * n.drift_ppm / 1_000_000;
        self.now.saturating_add_signed(n.skew_ms + drift)
    }

    pub fn lives(&self, node: usize, inc: u32) -> bool {
        let n = &self.nodes[node];
        n.core.is_some() && n.inc == inc
    }

    /// One event for one core, and everything it wants; then the laws.
    pub fn feed(&mut self, node: usize, input: Input) {
        let now = self.local(node);
        let Some(input) = self.sabotage_input(node, input) else {
            return;
        };
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
        if self.calm && self.is_hostile(node) {
            return;
        }
        let mut root = setup::root();
        root.version = self.root_version;
        let entropy: [u8; 32] = self.rng.random();
        if self.plan.skew {
            // A clock is set at every start, wrongly.
            let hour = 3_600_000i64;
            self.nodes[node].skew_ms = self.rng.random_range(-hour..=hour);
            self.nodes[node].drift_ppm = self.rng.random_range(-2000..=2000);
        }
        self.sabotage_start(node);
        let (now, proxies) = (self.local(node), self.plan.shape.proxies);
        let n = &mut self.nodes[node];
        n.inc += 1;
        n.watches.clear();
        n.dialled.clear();
        n.listening = false;
        let records = n.disk.recover();
        n.writing.clear();
        let core = setup::start(n.role, n.n, proxies, root, records, entropy, now);
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
        if self.is_hostile(node) {
            self.at(1000, Ev::Hostile(node, inc));
        }
        if role == Role::Proxy {
            self.at(100, Ev::PollProxy(node, inc));
            return;
        }
        if role == Role::Worker {
            self.at(20, Ev::Feed(node, inc, Box::new(Input::Health(true))));
        }
        for proxy in 0..proxies {
            let wait = self.pick(50, 1500);
            self.at(wait, Ev::Dial(node, inc, proxy));
        }
    }
}
