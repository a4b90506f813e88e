//! A node that means harm: an honest core whose words are twisted on the way out, and who says more than it is asked.

use cocoon_node::link::{LinkEffect, LinkId};
use cocoon_ton::abi::ProxyMessage;
use rand::Rng;

use super::bend::{self, Side, Way};
use super::chain::Msg;
use super::net::Wire;
use super::node::Role;
use super::{Ev, Sim, setup};

/// Connections beside the usual ones that a hostile dialler opens at most.
const EXTRA: usize = 4;

fn side(role: Role) -> Side {
    match role {
        Role::Proxy => Side::Proxy,
        Role::Client => Side::Client,
        Role::Worker => Side::Worker,
    }
}

impl Sim {
    /// What passes on any wire is known to the enemy.
    pub fn overhear(&mut self, wire: &Wire) {
        if self.loot.addresses.is_empty() {
            let mut known: Vec<String> = Vec::new();
            for address in self.contracts.keys() {
                known.push(address.to_text(false, true));
                known.push(address.to_text(true, false));
            }
            for node in &self.nodes {
                known.push(setup::owner(node.role, node.n).to_text(false, true));
            }
            self.loot.addresses = known;
        }
        match wire {
            Wire::Packet(data) | Wire::Query(_, data) | Wire::Answer(_, Ok(data)) => {
                self.loot.see(data)
            }
            Wire::Answer(..) => {}
        }
    }

    /// What a hostile node says instead. `None`: nothing.
    pub fn corrupt(&mut self, node: usize, wire: Wire) -> Option<Wire> {
        let role = self.nodes[node].role;
        // Mostly honest, or it would never come far.
        if self.calm || !self.rng.random_bool(0.12) {
            return Some(wire);
        }
        self.figures.attacks += 1;
        if self.rng.random_bool(0.15) {
            return None;
        }
        Some(match wire {
            Wire::Packet(data) => Wire::Packet(self.twist(role, Way::Packet, data)),
            Wire::Query(id, data) => Wire::Query(id, self.twist(role, Way::Query, data)),
            Wire::Answer(id, Ok(data)) => match self.pick(0, 5) {
                0 => Wire::Answer(id, Err((i32::MIN, "\u{7f}".to_owned()))),
                1 => Wire::Answer(id.wrapping_add(1), Ok(data)),
                _ => Wire::Answer(id, Ok(self.twist(role, Way::Answer, data))),
            },
            other => other,
        })
    }

    fn twist(&mut self, role: Role, way: Way, data: Vec<u8>) -> Vec<u8> {
        let (rng, loot) = (&mut self.rng, &self.loot);
        match rng.random_range(0..4) {
            0 => bend::invent(rng, side(role), way, loot),
            1 => loot.message(rng).unwrap_or(data),
            _ => bend::damage(rng, data, loot),
        }
    }

    /// Something nobody asked for.
    pub fn on_hostile(&mut self, node: usize, inc: u32) {
        if !self.lives(node, inc) || self.calm {
            return;
        }
        let wait = self.pick(30, 700);
        self.at(wait, Ev::Hostile(node, inc));
        self.figures.attacks += 1;
        let role = self.nodes[node].role;
        match self.pick(0, 19) {
            0 => return self.attack_chain(node),
            1 | 2 if role != Role::Proxy => return self.dial_more(node),
            _ => {}
        }
        let Some((conn, at)) = self.any_link(node) else {
            return;
        };
        let way = [Way::Packet, Way::Packet, Way::Query][self.pick(0, 2) as usize];
        let (rng, loot) = (&mut self.rng, &self.loot);
        let data = match rng.random_range(0..10) {
            0..=4 => bend::invent(rng, side(role), way, loot),
            5 => loot.message(rng).unwrap_or_default(),
            6 => {
                let data = loot.message(rng).unwrap_or_default();
                bend::damage(rng, data, loot)
            }
            7 => vec![rng.random(); rng.random_range(0..64)],
            8 => vec![0; 70_000],
            // The right thing in the wrong place.
            _ => {
                let sides = [Side::Client, Side::Worker, Side::Proxy];
                let (other, odd) = (sides[rng.random_range(0..3)], rng.random_bool(0.5));
                let way = if odd { Way::Answer } else { way };
                bend::invent(rng, other, way, loot)
            }
        };
        self.note(|| {
            let what = cocoon_wire::msg::catalogue::describe(&data);
            format!("node {node} attacks connection {conn}: {what} as {way:?}")
        });
        let wire = match way {
            Way::Query => Wire::Query(self.rng.random(), data),
            _ => Wire::Packet(data),
        };
        self.transmit(conn, at, wire);
    }

    fn any_link(&mut self, node: usize) -> Option<(usize, usize)> {
        let mut mine = Vec::new();
        for conn in self.net.open() {
            for side in 0..2 {
                if self.net.conns[conn].ends[side].node == node {
                    mine.push((conn, side));
                }
            }
        }
        (!mine.is_empty()).then(|| mine[self.rng.random_range(0..mine.len())])
    }

    /// One more connection, in the hope that somebody keeps something of it.
    fn dial_more(&mut self, node: usize) {
        let proxy = self.rng.random_range(0..self.plan.shape.proxies);
        let open = self.net.open();
        let mine = |c: &&usize| self.net.conns[**c].ends[0].node == node;
        let many = open.iter().filter(mine).count() > EXTRA;
        if many || !self.nodes[proxy].listening || self.nodes[proxy].core.is_none() {
            return;
        }
        let conn = self.connect(node, proxy);
        if self.rng.random_bool(0.5) {
            // Nobody speaks at this end; sooner or later it is gone.
            self.net.conns[conn].ends[0].alive = false;
            self.net.conns[conn].ends[0].downed = true;
            let wait = self.pick(1000, 60_000);
            self.at(wait, Ev::Down(conn, 1));
        }
    }

    /// Messages that claim to come from somebody's contract, from a wallet of its own.
    fn attack_chain(&mut self, node: usize) {
        let proxy = self.rng.random_range(0..self.plan.shape.proxies);
        if proxy == node {
            // What comes from its own wallet is its own word.
            return;
        }
        let dst = setup::proxy_contract(&setup::root(), proxy).0;
        let owner = setup::owner(Role::Client, 0);
        let body = match self.pick(0, 2) {
            0 => ProxyMessage::ClientRequest {
                query_id: 7,
                owner,
                ledger: cocoon_ton::abi::ClientLedger {
                    status: cocoon_ton::abi::ContractStatus::Closed,
                    balance: u128::from(u64::MAX),
                    stake: 1,
                    tokens_used: u64::MAX / 2,
                    secret_hash: [0; 32],
                },
                payload: None,
            },
            1 => ProxyMessage::SaveState(cocoon_ton::abi::message::SaveState {
                query_id: 7,
                seqno: 1_000_000,
                session_hash: [6; 32],
            }),
            _ => ProxyMessage::WorkerRequest {
                query_id: 7,
                owner: setup::owner(Role::Worker, 0),
                status: cocoon_ton::abi::ContractStatus::Closed,
                tokens: u64::MAX / 2,
                payload: None,
            },
        };
        let msg = Msg {
            src: self.nodes[node].wallet,
            dst,
            value: 1,
            bounce: false,
            bounced: false,
            init: None,
            body: body.encode().ok(),
        };
        if let Some(msg) = self.chain.send_from_wallet(msg) {
            self.dispatch(msg);
        }
    }

    /// An effect of a hostile core on a link that does not exist any more is no bug of ours.
    pub fn link_of(effect: &LinkEffect) -> LinkId {
        match effect {
            LinkEffect::Send { link, .. }
            | LinkEffect::Ask { link, .. }
            | LinkEffect::Reply { link, .. }
            | LinkEffect::Close { link, .. } => *link,
        }
    }
}
