//! Connections of the model network: dialled, delayed, cut off, broken.

use cocoon_node::link::{AskError, LinkEvent, PeerInfo};
use cocoon_node::proxy::Port;
use rand::Rng;

use super::net::Wire;
use super::node::{Input, Role};
use super::{Ev, Sim, setup, versions};

/// A group of nodes that cannot reach the others for a while. What is sent meanwhile arrives after it: TCP sends again.
#[derive(Default)]
pub struct Cut {
    pub until: u64,
    pub inside: Vec<bool>,
}

impl Sim {
    /// Time on the way: mostly short, sometimes long.
    pub fn latency(&mut self) -> u64 {
        match self.pick(0, 19) {
            0 => self.pick(100, 900),
            _ => self.pick(1, 60),
        }
    }

    /// Whether two nodes cannot reach each other now.
    fn is_cut(&self, a: usize, b: usize) -> bool {
        let inside = &self.cut.inside;
        self.now < self.cut.until && inside[a] != inside[b]
    }

    pub fn on_dial(&mut self, node: usize, inc: u32, proxy: usize) {
        if !self.lives(node, inc) || self.nodes[node].drained || self.draining_since.is_some() {
            return;
        }
        if !self.nodes[proxy].listening
            || self.nodes[proxy].core.is_none()
            || self.is_cut(node, proxy)
        {
            let wait = self.pick(300, 2000);
            return self.at(wait, Ev::Dial(node, inc, proxy));
        }
        let conn = self.connect(node, proxy);
        self.nodes[node].dialled.insert(proxy, conn);
    }

    /// A new connection; both sides hear of it in their own time.
    pub fn connect(&mut self, node: usize, proxy: usize) -> usize {
        let (inc, at) = (self.nodes[node].inc, self.nodes[proxy].inc);
        let conn = self.net.connect((node, inc), (proxy, at));
        for side in 0..2 {
            let wait = self.latency();
            self.net.conns[conn].ends[side].last = self.now + wait;
            self.at(wait, Ev::Up(conn, side));
        }
        conn
    }

    pub fn on_up(&mut self, conn: usize, side: usize) {
        let c = &self.net.conns[conn];
        let (end, other) = (&c.ends[side], &c.ends[1 - side]);
        let (node, link, from) = (end.node, end.link, other.node);
        if !self.lives(node, end.inc) || !end.alive {
            return;
        }
        let role = self.nodes[from].role;
        let image_hash = match role {
            Role::Proxy => setup::PROXY_IMAGE,
            Role::Worker => setup::WORKER_IMAGE,
            Role::Client => [0; 32],
        };
        let peer = PeerInfo {
            image_hash,
            ..Default::default()
        };
        let event = LinkEvent::Up { link, peer };
        if side == 0 {
            return self.feed(node, Input::Link(event));
        }
        // A peer that means harm also knocks at the wrong door.
        let wrong = self.is_hostile(from) && self.rng.random_bool(0.1);
        let port = match (role, wrong) {
            (Role::Worker, false) | (Role::Client, true) => Port::Workers,
            _ => Port::Clients,
        };
        self.feed(node, Input::Accepted(port, event));
    }

    /// Hands something to the network; what is sent into a broken connection is gone.
    pub fn carry(&mut self, conn: usize, from: usize, wire: Wire) {
        let c = &self.net.conns[conn];
        if c.broken || !c.ends[from].alive {
            return;
        }
        let (sender, receiver) = (c.ends[from].node, c.ends[1 - from].node);
        let wire = versions::translate(self, sender, receiver, wire);
        let wire = if self.plan.hostile.is_some() {
            self.overhear(&wire);
            match self
                .is_hostile(sender)
                .then(|| self.corrupt(sender, wire.clone()))
            {
                Some(Some(corrupted)) => corrupted,
                Some(None) => return,
                None => wire,
            }
        } else {
            wire
        };
        self.transmit(conn, from, wire);
    }

    /// Puts bytes on the wire as they are.
    pub fn transmit(&mut self, conn: usize, from: usize, wire: Wire) {
        let wait = self.latency();
        let c = &self.net.conns[conn];
        if c.broken || !c.ends[from].alive {
            return;
        }
        let to = 1 - from;
        let (a, b) = (c.ends[from].node, c.ends[to].node);
        let healed = if self.is_cut(a, b) { self.cut.until } else { 0 };
        let last = &mut self.net.conns[conn].ends[to].last;
        let at = (*last).max(self.now.max(healed) + wait);
        *last = at;
        let delay = at - self.now;
        self.at(delay, Ev::Deliver(conn, to, wire));
    }

    pub fn on_deliver(&mut self, conn: usize, side: usize, wire: Wire) {
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

    pub fn on_down(&mut self, conn: usize, side: usize) {
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
        if !self.forgets_links(node) {
            let reason = "the model network ended it".to_owned();
            self.feed(node, Input::Link(LinkEvent::Down { link, reason }));
        }
        if side == 0 {
            let proxy = self.net.conns[conn].ends[1].node;
            if self.nodes[node].dialled.get(&proxy) == Some(&conn) {
                self.nodes[node].dialled.remove(&proxy);
                let wait = self.pick(100, 2500);
                self.at(wait, Ev::Dial(node, inc, proxy));
            }
        }
    }
}
