//! Five cores that talk to each other without delay, one message at a time: a proxy, a client and a worker to be
//! worked on, and a pair beside them that must not notice.
#![allow(dead_code)]

use std::collections::VecDeque;

use cocoon_engine::{BackendEvent, HttpRequest};
use cocoon_node::ChainMode;
use cocoon_node::client::{ClientConfig, ClientCore, ClientSettings, HttpOut, NewRequest};
use cocoon_node::link::{AskError, LinkEffect, LinkEvent, LinkId, PeerInfo};
use cocoon_node::proxy::{Port, ProxyConfig, ProxyCore, ProxySettings};
use cocoon_node::worker::{WorkerConfig, WorkerCore, WorkerSettings};
use cocoon_tl::to_boxed;
use cocoon_wire::msg::http;
use serde_json::json;

use crate::sim::Sim;
use crate::sim::backend::Usage;
use crate::sim::node::{Core, Input, Output};
use crate::sim::setup;

/// The one under attack, and the pair that must not notice.
pub const PROXY: usize = 0;
pub const CLIENT: usize = 1;
pub const WORKER: usize = 2;
pub const OTHER_CLIENT: usize = 3;
pub const OTHER_WORKER: usize = 4;

pub const USAGE: Usage = Usage {
    prompt: 7,
    cached: 2,
    completion: 11,
    reasoning: 3,
};

pub fn build(node: usize, entropy: u8) -> Core {
    let (root, entropy, wallet) = (setup::root(), [entropy; 32], setup::address(0x70, node));
    let (is_test, testnet, check_hashes) = (true, true, true);
    let contracts = ChainMode::Assumed;
    match node {
        PROXY => {
            let cfg = ProxyConfig {
                key: setup::proxy_key(0),
                owner: setup::address(0x71, 0),
                wallet,
                contracts,
                is_test,
                testnet,
                check_hashes,
                entropy,
                settings: ProxySettings::default(),
            };
            Core::Proxy(Box::new(ProxyCore::new(cfg, root, Vec::new(), 0).unwrap()))
        }
        CLIENT | OTHER_CLIENT => {
            let cfg = ClientConfig {
                wallet,
                contracts,
                secret: Vec::new(),
                is_test,
                testnet,
                check_hashes,
                entropy,
                settings: ClientSettings::default(),
            };
            Core::Client(Box::new(ClientCore::new(cfg, root, Vec::new(), 0).unwrap()))
        }
        _ => {
            // The first two offers are of different models, so that each client has its worker.
            let (model, coefficient) = setup::OFFERS[usize::from(node == OTHER_WORKER)];
            let cfg = WorkerConfig {
                owner: wallet,
                wallet,
                model: model.to_owned(),
                coefficient,
                max_active_requests: 4,
                proxy_connections: 1,
                is_test,
                testnet,
                check_hashes,
                entropy,
                settings: WorkerSettings::default(),
            };
            Core::Worker(Box::new(WorkerCore::new(cfg, root, Vec::new(), 0).unwrap()))
        }
    }
}

/// Five cores that talk to each other without delay, one message at a time.
pub struct World {
    pub cores: Vec<Core>,
    /// By node: the end of its newest link, of which the proxy has the next number.
    pub links: Vec<u64>,
    next_link: u64,
    pub queue: VecDeque<(usize, Input)>,
    pub now: u64,
    /// What callers got.
    pub ends: Vec<([u8; 32], HttpOut)>,
    /// What the proxy did on links that no core is behind.
    pub raw: Vec<LinkEffect>,
    pub alarms: Vec<String>,
    /// Batches that went to disks.
    pub saves: usize,
    /// What backends were asked.
    pub asked: Vec<HttpRequest>,
    requests: u8,
}

impl World {
    pub fn new() -> Self {
        let mut w = World {
            cores: (0..5).map(|n| build(n, n as u8)).collect(),
            links: vec![0; 5],
            next_link: 1,
            queue: VecDeque::new(),
            now: 1_000_000,
            ends: Vec::new(),
            raw: Vec::new(),
            alarms: Vec::new(),
            saves: 0,
            asked: Vec::new(),
            requests: 0,
        };
        for node in 0..5 {
            let first = w.cores[node].first();
            w.apply(node, first);
        }
        for worker in [WORKER, OTHER_WORKER] {
            w.queue.push_back((worker, Input::Health(true)));
        }
        w.drain();
        w.dial(OTHER_CLIENT);
        w.dial(OTHER_WORKER);
        w.drain();
        w
    }

    /// The node on the other end of a link, and the other end's number.
    pub fn other(&self, node: usize, link: LinkId) -> Option<(usize, LinkId)> {
        if node != PROXY {
            return (self.links[node] == link.0).then_some((PROXY, LinkId(link.0 + 1)));
        }
        let end = link.0.wrapping_sub(1);
        let peer = (1..5).find(|n| self.links[*n] == end && end > 0)?;
        Some((peer, LinkId(end)))
    }

    pub fn dial(&mut self, node: usize) {
        let link = self.next_link;
        self.next_link += 2;
        self.links[node] = link;
        let role = if node == CLIENT || node == OTHER_CLIENT {
            (Port::Clients, [0; 32])
        } else {
            (Port::Workers, setup::WORKER_IMAGE)
        };
        let up = |link: u64, image_hash| LinkEvent::Up {
            link: LinkId(link),
            peer: PeerInfo {
                image_hash,
                ..Default::default()
            },
        };
        let accepted = Input::Accepted(role.0, up(link + 1, role.1));
        self.queue.push_back((PROXY, accepted));
        self.queue
            .push_back((node, Input::Link(up(link, setup::PROXY_IMAGE))));
    }

    pub fn apply(&mut self, node: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Link(effect) => self.carry(node, effect),
                Output::Save { number, .. } => {
                    self.saves += 1;
                    self.queue.push_back((node, Input::Saved(number)));
                }
                Output::Start(request, http) => {
                    self.asked.push(http);
                    let text = json!({"usage": {
                        "prompt_tokens": USAGE.prompt,
                        "completion_tokens": USAGE.completion,
                        "prompt_tokens_details": {"cached_tokens": USAGE.cached},
                        "completion_tokens_details": {"reasoning_tokens": USAGE.reasoning},
                    }});
                    let head = BackendEvent::Head {
                        status: 200,
                        reason: String::new(),
                        headers: Vec::new(),
                    };
                    let body = BackendEvent::Body(text.to_string().into());
                    for event in [head, body, BackendEvent::End] {
                        self.queue
                            .push_back((node, Input::Backend { request, event }));
                    }
                }
                Output::Http(id, out) => self.ends.push((id, out)),
                Output::Alarm(text) => self.alarms.push(text),
                Output::Halt(why) => panic!("node {node} halts: {why}"),
                _ => {}
            }
        }
    }

    pub fn carry(&mut self, node: usize, effect: LinkEffect) {
        let Some((peer, link)) = self.other(node, Sim::link_of(&effect)) else {
            return self.raw.push(effect);
        };
        let event = match effect {
            LinkEffect::Send { data, .. } => LinkEvent::Packet { link, data },
            LinkEffect::Ask { ticket, data, .. } => LinkEvent::Query {
                link,
                id: ticket as i64,
                data,
            },
            LinkEffect::Reply { id, result, .. } => LinkEvent::Answer {
                link,
                ticket: id as u64,
                result: result.map_err(|(code, message)| AskError::Remote { code, message }),
            },
            LinkEffect::Close { reason, .. } => {
                self.links[if node == PROXY { peer } else { node }] = 0;
                LinkEvent::Down { link, reason }
            }
        };
        self.queue.push_back((peer, Input::Link(event)));
    }

    pub fn feed(&mut self, node: usize, input: Input) {
        self.now += 1;
        let outputs = self.cores[node].handle(self.now, input);
        self.apply(node, outputs);
    }

    /// One delivery; false if nothing is on its way.
    pub fn step(&mut self) -> bool {
        let Some((node, input)) = self.queue.pop_front() else {
            return false;
        };
        self.feed(node, input);
        true
    }

    pub fn drain(&mut self) {
        while self.step() {}
    }

    /// A link to the proxy that the test speaks on by hand.
    pub fn dial_raw(&mut self, port: Port) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 2;
        let peer = PeerInfo {
            image_hash: setup::WORKER_IMAGE,
            ..Default::default()
        };
        self.feed(PROXY, Input::Accepted(port, LinkEvent::Up { link, peer }));
        link
    }

    /// Sends a packet by hand; what the proxy does on links without a core.
    pub fn tell(&mut self, link: LinkId, data: Vec<u8>) -> Vec<LinkEffect> {
        self.raw.clear();
        self.feed(PROXY, Input::Link(LinkEvent::Packet { link, data }));
        self.drain();
        std::mem::take(&mut self.raw)
    }

    /// Asks by hand; the answer, or code and text of the refusal.
    pub fn query(&mut self, link: LinkId, data: Vec<u8>) -> Result<Vec<u8>, (i32, String)> {
        self.raw.clear();
        self.feed(PROXY, Input::Link(LinkEvent::Query { link, id: 5, data }));
        self.drain();
        let replies = std::mem::take(&mut self.raw);
        let reply = replies.into_iter().find_map(|e| match e {
            LinkEffect::Reply {
                link: l, result, ..
            } if l == link => Some(result),
            _ => None,
        });
        reply.expect("every query is answered")
    }

    /// Cuts a node's link.
    pub fn hang_up(&mut self, node: usize) {
        let end = std::mem::take(&mut self.links[node]);
        if end > 0 {
            let reason = String::new();
            let down = |link| LinkEvent::Down {
                link: LinkId(link),
                reason: reason.clone(),
            };
            let (far, near) = (down(end + 1), down(end));
            self.queue.push_back((PROXY, Input::Link(far)));
            self.queue.push_back((node, Input::Link(near)));
        }
    }

    pub fn ask(&mut self, client: usize) -> [u8; 32] {
        self.requests = self.requests.wrapping_add(1);
        let model = if client == CLIENT { "alpha" } else { "beta" };
        let body = json!({"model": model, "messages": [], "max_tokens": 20});
        let query = to_boxed(&http::Request {
            method: "POST".to_owned(),
            url: "/v1/chat/completions".to_owned(),
            http_version: "HTTP/1.1".to_owned(),
            headers: Vec::new(),
            payload: body.to_string().into_bytes(),
        });
        let mut id = [self.requests; 32];
        id[0] = client as u8;
        let request = NewRequest {
            id,
            model: model.to_owned(),
            query,
            max_coefficient: 4000,
            max_tokens: 20,
            timeout_ms: 1 << 40,
            enable_debug: true,
            wishes: Default::default(),
        };
        self.queue.push_back((client, Input::Request(request)));
        id
    }

    pub fn proxy(&self) -> &ProxyCore {
        match &self.cores[PROXY] {
            Core::Proxy(p) => p,
            _ => unreachable!(),
        }
    }

    /// Used tokens of the other client, and of all clients and workers.
    pub fn books(&self) -> (u64, u64, u64) {
        let b = self.proxy().books();
        let other = setup::address(0x70, OTHER_CLIENT);
        let one = b.clients.get(&other).map_or(0, |a| a.tracker.max().0);
        let clients = b.clients.values().map(|a| a.tracker.max().0).sum();
        (
            one,
            clients,
            b.workers.values().map(|a| a.tracker.max().0).sum(),
        )
    }

    /// The pair beside is served as if nothing had happened, and pays what its answer costs.
    pub fn others_go_on(&mut self, what: &str) {
        let before = self.books().0;
        let id = self.ask(OTHER_CLIENT);
        self.drain();
        let end = self
            .ends
            .iter()
            .rev()
            .find(|(i, _)| *i == id)
            .map(|(_, o)| o);
        assert!(matches!(end, Some(HttpOut::End)), "{what}: no answer");
        let cost = USAGE.cost(setup::OFFERS[1].1);
        let (after, clients, workers) = self.books();
        assert_eq!(after - before, cost, "{what}: wrong bill");
        assert_eq!(clients, workers, "{what}: the books contradict themselves");
        assert!(
            self.proxy().footprint().links <= 4,
            "{what}: links are kept"
        );
        self.ends.clear();
    }

    /// New victims, linked up to a number of deliveries after their dials, with a request on its way at the end.
    pub fn victims_at(&mut self, steps: usize) -> bool {
        for node in [CLIENT, WORKER] {
            self.hang_up(node);
            self.drain();
            self.cores[node] = build(node, self.requests);
        }
        self.queue.push_back((WORKER, Input::Health(true)));
        self.drain();
        self.dial(WORKER);
        self.dial(CLIENT);
        let mut asked = false;
        for _ in 0..steps {
            if !self.step() {
                if asked {
                    return false;
                }
                asked = true;
                self.ask(CLIENT);
            }
        }
        true
    }

    /// Hands a message to a node as if the other end of its link had sent it, in each way that there is.
    pub fn inject(&mut self, to: usize, from: usize, way: usize, data: Vec<u8>) {
        let end = self.links[if to == PROXY { from } else { to }];
        if end == 0 {
            return;
        }
        let link = LinkId(if to == PROXY { end + 1 } else { end });
        let event = match way {
            0 => LinkEvent::Packet { link, data },
            1 => LinkEvent::Query { link, id: -7, data },
            // In place of the answer that is on its way, or to a question nobody asked.
            _ => {
                let mine = |(node, input): &&mut (usize, Input)| matches!(input, Input::Link(LinkEvent::Answer { link: l, .. }) if *node == to && *l == link);
                if let Some((_, Input::Link(LinkEvent::Answer { result, .. }))) =
                    self.queue.iter_mut().find(mine)
                {
                    *result = Ok(data);
                    return;
                }
                LinkEvent::Answer {
                    link,
                    ticket: 1,
                    result: Ok(data),
                }
            }
        };
        self.feed(to, Input::Link(event));
    }
}
