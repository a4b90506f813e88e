//! What cores want, carried out: messages, saves, wallets, polls.

use cocoon_node::link::LinkEffect;
use cocoon_node::store::Change;
use cocoon_ton::{Address, Cell};
use rand::Rng;

use super::chain::Msg;
use super::disk::Fate;
use super::net::Wire;
use super::node::{Core, Input, Node, Output, Role};
use super::{Ev, Sim, backend, setup};

impl Node {
    pub fn new(role: Role, n: usize) -> Self {
        Node {
            role,
            n,
            core: None,
            inc: 0,
            disk: Default::default(),
            older: None,
            writing: Default::default(),
            dialect: Default::default(),
            skew_ms: 0,
            drift_ppm: 0,
            blind_until: 0,
            wallet: setup::wallet(role, n),
            wallet_last: 0,
            listening: false,
            halted: None,
            drained: false,
            watches: Vec::new(),
            tx_cursor: 0,
            dialled: Default::default(),
        }
    }
}

impl Sim {
    pub fn apply(&mut self, node: usize, outputs: Vec<Output>) {
        let inc = self.nodes[node].inc;
        for output in outputs {
            match output {
                Output::Link(effect) => self.apply_link(node, effect),
                Output::Save { number, batch } => {
                    // Slow disks: a crash in the middle of a save is no rarity.
                    let wait = self.pick(1, if self.swift() { 20 } else { 250 });
                    let batch = self.sabotage_batch(node, batch);
                    self.nodes[node].writing.push_back((number, batch));
                    self.at(wait, Ev::Durable(node, inc, number));
                }
                Output::Transact {
                    ticket,
                    to,
                    value,
                    bounce,
                    init,
                    body,
                } => self.transact(node, ticket, to, value, bounce, init, body),
                Output::Watch(proxy_sc, address) => {
                    let n = &mut self.nodes[node];
                    if !n.watches.iter().any(|(_, a, _)| *a == address) {
                        n.watches.push((proxy_sc, address, None));
                        let wait = self.pick(10, 300);
                        self.at(wait, Ev::Poll(node, inc, address));
                    }
                }
                Output::Nothing => {}
                Output::Unwatch(address) => {
                    self.nodes[node].watches.retain(|(_, a, _)| *a != address)
                }
                Output::Start(request, http) => {
                    let worker = self.nodes[node].n;
                    let (number, coefficient) = (self.runs.len(), setup::OFFERS[worker].1);
                    self.sabotage_start_run(node, &http);
                    let (run, script) = backend::answer(
                        &mut self.rng,
                        number,
                        worker,
                        coefficient,
                        &http,
                        self.calm || !self.plan.faults,
                    );
                    self.runs.push(run);
                    let mut wait = 0;
                    for (pause, event) in script {
                        wait += pause;
                        self.at(wait, Ev::Backend(node, inc, request, event));
                    }
                }
                Output::Stop(request) => {
                    self.stopped_runs.insert((node, inc, request));
                }
                Output::Http(id, out) => self.on_http(node, id, out),
                Output::Models(ticket) => {
                    if self.lists.remove(&(node, inc, ticket)).is_none() {
                        self.fail("a list of models was answered twice or never asked for");
                    }
                }
                Output::Judge(ticket) => {
                    let wait = self.pick(1, 300);
                    self.at(wait, Ev::Feed(node, inc, Box::new(Input::Judged(ticket))));
                }
                Output::Ready => self.nodes[node].listening = true,
                Output::Drained => self.nodes[node].drained = true,
                Output::Halt(why) => self.on_halt(node, why),
                Output::Alarm(text) => self.on_alarm(node, &text),
            }
        }
    }

    fn apply_link(&mut self, node: usize, effect: LinkEffect) {
        let link = Self::link_of(&effect);
        let Some((conn, side)) = self.net.find(link) else {
            return self.fail(format!("{link} does not exist"));
        };
        if self.net.conns[conn].ends[side].node != node {
            return self.fail(format!("{link} belongs to another node"));
        }
        match effect {
            LinkEffect::Send { data, .. } => {
                let data = self.sabotage_packet(node, data);
                self.check_shown(node, &data);
                self.carry(conn, side, Wire::Packet(data));
            }
            LinkEffect::Ask {
                ticket,
                data,
                timeout_ms,
                ..
            } => {
                self.check_asked(node, conn, &data);
                let id = self.net.ask(conn, side, ticket);
                self.at(timeout_ms, Ev::AskTimeout(conn, side, id));
                self.carry(conn, side, Wire::Query(id, data));
            }
            LinkEffect::Reply { id, result, .. } => {
                if let Ok(data) = &result {
                    self.check_shown(node, data);
                }
                self.carry(conn, side, Wire::Answer(id, result));
            }
            LinkEffect::Close { reason, .. } => {
                let who = (self.nodes[node].role, self.nodes[node].n);
                self.note(|| format!("{who:?} closes {link}: {reason}"));
                self.check_logged(&reason);
                let wait = self.latency();
                let c = &mut self.net.conns[conn];
                if !c.ends[side].alive {
                    return;
                }
                // What was sent before still arrives.
                c.broken = true;
                c.ends[side].alive = false;
                let other = c.ends[1 - side].last.max(self.now + wait) + 1 - self.now;
                self.at(other, Ev::Down(conn, 1 - side));
                self.at(wait, Ev::Down(conn, side));
            }
        }
    }

    // ---- disk ---------------------------------------------------------------------------------

    pub fn on_durable(&mut self, node: usize, inc: u32, number: u64) {
        if !self.lives(node, inc) {
            return;
        }
        let Some((_, batch)) = self.nodes[node].writing.pop_front() else {
            return self.fail("a batch is durable that nobody wrote");
        };
        self.commit_batch(node, &batch);
        let wait = self.pick(0, 15);
        self.at(wait, Ev::Feed(node, inc, Box::new(Input::Saved(number))));
    }

    /// The records of a batch are on the disk.
    pub fn commit_batch(&mut self, node: usize, batch: &[Change]) {
        self.sabotage_commit(node);
        self.nodes[node].disk.commit(batch);
        for (key, value) in batch {
            match self.nodes[node].role {
                Role::Proxy => self.durable_record(node, key, value.as_deref()),
                Role::Worker => self.promised_record(node, key, value.as_deref()),
                Role::Client => {}
            }
        }
        if self.nodes[node].role == Role::Proxy {
            self.check_durable(node);
        }
    }

    /// What a crash does to the batch that was being written.
    pub fn crash_disk(&mut self, node: usize) {
        let Some((_, batch)) = self.nodes[node].writing.pop_front() else {
            return;
        };
        self.nodes[node].writing.clear();
        match [Fate::Lost, Fate::Torn, Fate::Whole][self.rng.random_range(0..3)] {
            Fate::Lost => self.figures.lost_saves += 1,
            Fate::Torn => {
                self.figures.torn += 1;
                let written = self.rng.random_range(1..=batch.len().max(2) - 1);
                self.nodes[node].disk.tear(&batch, written);
            }
            Fate::Whole => self.commit_batch(node, &batch),
        }
    }

    // ---- wallets and the chain ----------------------------------------------------------------

    #[allow(clippy::too_many_arguments)]
    fn transact(
        &mut self,
        node: usize,
        ticket: u64,
        dst: Address,
        value: u128,
        bounce: bool,
        init: Option<Cell>,
        body: Option<Cell>,
    ) {
        self.check_transact(node, dst, body.as_ref());
        let n = &self.nodes[node];
        let (src, inc) = (n.wallet, n.inc);
        let bounced = false;
        let msg = Msg {
            src,
            dst,
            value,
            bounce,
            bounced,
            init,
            body,
        };
        let wait = self.pick(100, if self.swift() { 500 } else { 2500 });
        let n = &self.nodes[node];
        let at = n.wallet_last.max(n.blind_until).max(self.now + wait);
        self.nodes[node].wallet_last = at;
        let delay = at - self.now;
        self.at(delay, Ev::Wallet(node, inc, ticket, msg));
    }

    pub fn on_wallet(&mut self, node: usize, inc: u32, ticket: u64, msg: Msg) {
        if self.lost_wallets.contains(&(node, inc)) {
            return;
        }
        let refused = !self.swift() && self.rng.random_bool(0.03);
        let sent = if refused {
            None
        } else {
            self.chain.send_from_wallet(msg)
        };
        let ok = sent.is_some();
        let wait = self.pick(20, if self.swift() { 100 } else { 1500 });
        let report = Input::Transacted { ticket, ok };
        self.at(wait, Ev::Feed(node, inc, Box::new(report)));
        if let Some(msg) = sent {
            self.dispatch(msg);
        }
    }

    /// Messages between two accounts keep their order, others overtake each other.
    pub fn dispatch(&mut self, msg: Msg) {
        let wait = self.pick(50, if self.swift() { 200 } else { 1500 });
        let last = self.pair_last.entry((msg.src, msg.dst)).or_default();
        let at = (*last).max(self.now + wait);
        *last = at;
        let delay = at - self.now;
        self.at(delay, Ev::Arrive(msg));
    }

    pub fn on_arrive(&mut self, msg: Msg) {
        let out = self.chain.execute(msg, self.now);
        for msg in out {
            self.dispatch(msg);
        }
        self.check_chain();
    }

    pub fn on_poll(&mut self, node: usize, inc: u32, address: Address) {
        if !self.lives(node, inc) {
            return;
        }
        if self.now < self.nodes[node].blind_until {
            let wait = self.pick(200, 900);
            return self.at(wait, Ev::Poll(node, inc, address));
        }
        let state = self.chain.state(address);
        let watch = self.nodes[node].watches.iter_mut();
        let Some((proxy_sc, _, seen)) = watch.into_iter().find(|(_, a, _)| *a == address) else {
            return;
        };
        let proxy_sc = *proxy_sc;
        let news = seen.replace(state.last_lt) != Some(state.last_lt);
        let travel = self.pick(5, 400);
        if news {
            let input = Input::Contract(proxy_sc, address, state);
            self.at(travel, Ev::Feed(node, inc, Box::new(input)));
        }
        let again = travel + self.pick(200, 900);
        self.at(again, Ev::Poll(node, inc, address));
    }

    pub fn on_poll_proxy(&mut self, node: usize, inc: u32) {
        if !self.lives(node, inc) {
            return;
        }
        if self.now < self.nodes[node].blind_until {
            let wait = self.pick(200, 900);
            return self.at(wait, Ev::PollProxy(node, inc));
        }
        let Some(Core::Proxy(core)) = &self.nodes[node].core else {
            return;
        };
        let contract = core.contract();
        let after = self.nodes[node].tx_cursor;
        let most = self.pick(1, 8) as usize;
        let account = &self.chain.accounts[&contract];
        let txs: Vec<_> = account
            .txs
            .iter()
            .filter(|t| t.lt > after)
            .take(most)
            .cloned()
            .collect();
        let travel = self.pick(5, 300);
        if let Some(last) = txs.last() {
            self.nodes[node].tx_cursor = last.lt;
            let state = self.chain.state(contract);
            self.at(
                travel,
                Ev::Feed(node, inc, Box::new(Input::Transactions(txs))),
            );
            let input = Input::Contract(contract, contract, state);
            self.at(travel, Ev::Feed(node, inc, Box::new(input)));
        }
        let again = travel + self.pick(100, 600);
        self.at(again, Ev::PollProxy(node, inc));
    }
}
