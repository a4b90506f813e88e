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
                let node = self.rng.random_range(0..self.nodes.len());
                self.crash(node);
            }
            12 | 13 => {
                let w = self.rng.random_range(0..setup::WORKERS);
                let node = setup::index(Role::Worker, w);
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
            _ => {}
        }
        let wait = self.pick(300, 2500);
        self.at(wait, Ev::Chaos);
    }

    /// Kills a node; what was not durable is gone, what the wallet has may go on or not.
    pub fn crash(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        if n.core.take().is_none() {
            return;
        }
        n.listening = false;
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
        self.note(|| "calm".to_owned());
        for node in 0..self.nodes.len() {
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
