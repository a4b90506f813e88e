//! The callers of the clients' HTTP endpoints: what they ask, and what they must get.

use cocoon_ledger::Coefficient;
use cocoon_ledger::reserve::Demand;
use cocoon_node::client::{HttpOut, NewRequest};
use cocoon_tl::to_boxed;
use cocoon_wire::msg::http;
use rand::Rng;
use serde_json::json;

use super::node::{Core, Input, Role};
use super::{Ev, Sim, setup};

/// A request and its answer so far.
pub struct Call {
    pub node: usize,
    pub inc: u32,
    pub client: usize,
    pub id: [u8; 32],
    /// Nothing may take longer.
    pub deadline: u64,
    /// The most that one attempt may cost.
    pub reserve: u64,
    /// The same request once more, for a client that is broken on purpose.
    pub again: Option<Box<NewRequest>>,
    pub status: Option<u16>,
    pub body: Vec<u8>,
    pub done: bool,
}

/// Beyond the caller's own time: the client's grace and its clock.
const PATIENCE_MS: u64 = 500 + 1500;
/// In every prompt; must appear nowhere else.
pub const CANARY: &str = "canary-in-the-prompt";

impl Sim {
    pub fn on_call(&mut self, client: usize) {
        if self.calm {
            return;
        }
        let wait = self.pick(50, 1000);
        self.at(wait, Ev::Call(client));
        let node = self.index(Role::Client, client);
        if self.nodes[node].core.is_none() {
            return;
        }
        let model = match self.pick(0, 24) {
            0 => "ghost",
            1..=15 => "alpha",
            // The second worker is the first that has it.
            _ if self.plan.shape.workers < 2 => "alpha",
            _ => "beta",
        };
        let max_tokens: u32 = match self.pick(0, 29) {
            0 => 40_000,
            _ => self.rng.random_range(1..400),
        };
        let body = json!({
            "model": model,
            "messages": [{"role": "user", "content": format!("client {client} {CANARY}")}],
            "max_tokens": max_tokens,
            "stream": self.rng.random_bool(0.6),
        });
        let query = to_boxed(&http::Request {
            method: "POST".to_owned(),
            url: "/v1/chat/completions".to_owned(),
            http_version: "HTTP/1.1".to_owned(),
            headers: vec![http::Header {
                name: "Content-Type".to_owned(),
                value: "application/json".to_owned(),
            }],
            payload: body.to_string().into_bytes(),
        });
        let timeout_ms = match self.pick(0, 9) {
            _ if !self.plan.faults => 60_000,
            0 => self.pick(50, 800),
            _ => self.pick(3000, 15_000),
        };
        let demand = Demand {
            query_bytes: query.len() as u64,
            max_tokens: u64::from(max_tokens),
            n: 1,
            max_coefficient: Coefficient::new(4000).expect("a coefficient"),
        };
        let reserve = demand.to_reserve(&setup::root().multipliers()).0;
        let request = NewRequest {
            id: self.rng.random(),
            model: model.to_owned(),
            query,
            max_coefficient: if self.rng.random_bool(0.04) {
                900
            } else {
                4000
            },
            max_tokens,
            timeout_ms,
            enable_debug: self.rng.random_bool(0.1),
            wishes: Default::default(),
        };
        let call = self.calls.len();
        self.call_ids.insert(request.id, call);
        self.calls.push(Call {
            node,
            inc: self.nodes[node].inc,
            client,
            id: request.id,
            deadline: self.now + timeout_ms + PATIENCE_MS,
            reserve,
            again: None,
            status: None,
            body: Vec::new(),
            done: false,
        });
        self.sabotage_keep(call, &request);
        self.figures.requests += 1;
        if self.plan.faults && self.rng.random_bool(0.12) {
            let wait = self.pick(5, 2500);
            self.at(wait, Ev::CancelCall(call));
        }
        self.feed(node, Input::Request(request));
    }

    pub fn on_cancel_call(&mut self, call: usize) {
        let c = &mut self.calls[call];
        let (node, inc, id) = (c.node, c.inc, c.id);
        if c.done {
            return;
        }
        c.done = true;
        self.figures.cancelled += 1;
        if self.lives(node, inc) {
            self.feed(node, Input::Cancel(id));
        }
    }

    pub fn on_models(&mut self, client: usize) {
        if self.calm {
            return;
        }
        self.at(4000, Ev::Models(client));
        let node = self.index(Role::Client, client);
        if let Some(Core::Client(_)) = &self.nodes[node].core {
            let (inc, ticket) = (self.nodes[node].inc, self.now);
            self.lists.insert((node, inc, ticket), self.now + 11_000);
            self.feed(node, Input::Models(ticket));
        }
    }

    /// Order and number of what a caller gets; a complete answer must be booked durably before it ends.
    pub fn on_http(&mut self, node: usize, id: [u8; 32], out: HttpOut) {
        let Some(call) = self.call_ids.get(&id).copied() else {
            return self.fail("an answer for nobody");
        };
        if self.sabotage_http(node, call, &out) {
            return;
        }
        let c = &mut self.calls[call];
        if c.done || c.node != node {
            return self.fail(format!("call {call} gets something after its end"));
        }
        match out {
            HttpOut::Head { status, .. } => {
                if c.status.replace(status).is_some() {
                    self.fail(format!("call {call} gets two heads"));
                }
            }
            HttpOut::Body(piece) => {
                c.body.extend(piece);
                if c.status.is_none() {
                    self.fail(format!("call {call} gets a body before the head"));
                }
            }
            HttpOut::Fail(error) => {
                self.note(|| format!("call {call} fails: {error:?}"));
                let c = &mut self.calls[call];
                c.done = true;
                self.figures.failed += 1;
            }
            HttpOut::End => {
                c.done = true;
                let (status, client) = (c.status, c.client);
                let body = std::mem::take(&mut c.body);
                match status {
                    None => self.fail(format!("call {call} ends before its head")),
                    Some(200) => self.on_complete(call, client, &body),
                    Some(status) => {
                        let text = String::from_utf8_lossy(&body).into_owned();
                        self.note(|| format!("call {call} gets {status}: {text}"));
                        self.figures.failed += 1;
                    }
                }
            }
        }
    }

    fn on_complete(&mut self, call: usize, client: usize, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let run = text
            .split("\"run-")
            .nth(1)
            .and_then(|t| t.split('"').next())
            .and_then(|n| n.parse::<usize>().ok());
        let Some(run) = run.and_then(|n| self.runs.get(n)) else {
            // Only a broken backend's answer has no name.
            return;
        };
        // A hostile client may have asked what another one had asked.
        let asked = !self.is_hostile(self.index(Role::Client, client));
        let honest = asked && self.plan.hostile.is_none_or(|r| r == Role::Client);
        if run.client != Some(client) && honest {
            return self.fail(format!("call {call} gets the answer of another client"));
        }
        let Some(cost) = run.exact else {
            return;
        };
        self.figures.answered += 1;
        if !honest {
            return;
        }
        self.delivered[client] += cost;
        let owner = setup::owner(Role::Client, client);
        let booked: u64 = self.durable.iter().map(|d| d.client(&owner)).sum();
        if booked < self.delivered[client] && self.must_halt.is_none() {
            let delivered = self.delivered[client];
            self.fail(format!(
                "call {call} ended, client {client} has answers for {delivered} tokens, but only {booked} are durable"
            ));
        }
    }
}
