//! What goes wrong: lost connections, crashes, sick workers, new root versions.

use rand::Rng;

use super::node::{Input, Role};
use super::{Ev, Sim, setup};

impl Sim {
    pub fn on_chaos(&mut self) {
        if self.calm || !self.plan.faults {
            return;
        }
        match self.pick(0, 19) {
            0..=9 => {
                let open = self.net.open();
                if !open.is_empty() {
                    let conn = open[self.rng.random_range(0..open.len())];
                    self.figures.drops += 1;
                    self.note(|| format!("connection {conn} breaks"));
                    self.sever(conn, 1500);
                }
            }
            10 | 11 if self.plan.crashes => {
                // Rather in the middle of a save than anywhere.
                let saving = |n: &usize| !self.nodes[*n].writing.is_empty();
                let saving: Vec<usize> = (0..self.nodes.len()).filter(saving).collect();
                let node = if saving.is_empty() || self.rng.random_bool(0.4) {
                    self.rng.random_range(0..self.nodes.len())
                } else {
                    saving[self.rng.random_range(0..saving.len())]
                };
                self.crash(node);
            }
            12 | 13 => {
                let w = self.rng.random_range(0..self.plan.shape.workers);
                let node = self.index(Role::Worker, w);
                let inc = self.nodes[node].inc;
                let (well, sick) = if self.rng.random_bool(0.5) {
                    (Input::Health(true), Input::Health(false))
                } else {
                    (Input::Enabled(true), Input::Enabled(false))
                };
                let wait = self.pick(500, 4000);
                self.at(0, Ev::Feed(node, inc, Box::new(sick)));
                self.at(wait, Ev::Feed(node, inc, Box::new(well)));
            }
            14 => {
                self.root_version += 1;
                for node in 0..self.nodes.len() {
                    let mut root = setup::root();
                    root.version = self.root_version;
                    let (inc, wait) = (self.nodes[node].inc, self.pick(0, 4000));
                    self.at(wait, Ev::Feed(node, inc, Box::new(Input::Root(root))));
                }
            }
            15 | 16 if self.plan.partitions => self.cut_off(),
            17 if self.plan.partitions => {
                let node = self.rng.random_range(0..self.nodes.len());
                let wait = self.pick(1000, 15_000);
                self.nodes[node].blind_until = self.now + wait;
                self.note(|| format!("node {node} sees nothing of the chain for {wait} ms"));
            }
            _ => {}
        }
        self.check_bounds_now();
        let wait = self.pick(200, self.plan.pause_ms);
        self.at(wait, Ev::Chaos);
    }

    /// Some nodes cannot reach the others for a while; of the connections between them, some die of it.
    fn cut_off(&mut self) {
        if self.now < self.cut.until {
            return;
        }
        self.figures.cuts += 1;
        let inside: Vec<bool> = self
            .nodes
            .iter()
            .map(|_| self.rng.random_bool(0.4))
            .collect();
        let wait = self.pick(500, 20_000);
        self.note(|| format!("for {wait} ms these nodes are cut off: {inside:?}"));
        for conn in self.net.open() {
            let [a, b] = &self.net.conns[conn].ends;
            if inside[a.node] != inside[b.node] && self.rng.random_bool(0.4) {
                self.sever(conn, wait + 1500);
            }
        }
        self.cut.until = self.now + wait;
        self.cut.inside = inside;
    }

    /// Kills a node; what was not durable is gone, what the wallet has may go on or not.
    pub fn crash(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        if n.core.take().is_none() {
            return;
        }
        n.listening = false;
        self.crash_disk(node);
        let n = &self.nodes[node];
        let (inc, name) = (n.inc, (n.role, n.n));
        self.figures.crashes += 1;
        self.note(|| format!("{name:?} crashes"));
        if self.rng.random_bool(0.3) {
            self.lost_wallets.insert((node, inc));
        }
        for conn in 0..self.net.conns.len() {
            for side in 0..2 {
                let e = &mut self.net.conns[conn].ends[side];
                if e.node == node && e.inc == inc && !e.downed {
                    (e.alive, e.downed) = (false, true);
                    self.net.conns[conn].broken = true;
                    let wait = self.pick(0, 3000);
                    self.at(wait, Ev::Down(conn, 1 - side));
                }
            }
        }
        self.lists.retain(|(owner, _, _), _| *owner != node);
        for call in &mut self.calls {
            if call.node == node && call.inc == inc {
                call.done = true;
            }
        }
        let wait = self.pick(100, 6000);
        self.at(wait, Ev::Restart(node));
    }

    /// The faults end; from now on everything has to come to rest.
    pub fn on_calm(&mut self) {
        self.calm = true;
        self.calm_since = self.now;
        self.cut.until = 0;
        self.note(|| "calm".to_owned());
        for node in 0..self.nodes.len() {
            self.nodes[node].blind_until = 0;
            if self.is_hostile(node) {
                // Faults end, so its connections do.
                self.crash(node);
                continue;
            }
            self.restart(node);
            let inc = self.nodes[node].inc;
            if self.nodes[node].role == Role::Worker {
                // After what the last fault has still put on the timeline.
                self.at(5000, Ev::Feed(node, inc, Box::new(Input::Health(true))));
                self.at(5000, Ev::Feed(node, inc, Box::new(Input::Enabled(true))));
            }
        }
        self.at(8000, Ev::Settle);
    }
}
