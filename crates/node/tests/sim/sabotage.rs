//! Bugs put in on purpose, between a core and its world: each breaks one law, and the simulation has to notice.

use cocoon_engine::HttpRequest;
use cocoon_node::client::{HttpOut, NewRequest};
use cocoon_node::payment;
use cocoon_node::store::Change;
use cocoon_tl::{from_boxed, to_boxed};
use cocoon_ton::abi::{Envelope, SignedOp, SignedPayload};
use cocoon_wire::msg::proxy::{SignedPayment, WorkerRequestPayment};
use rand::Rng;
use serde_json::Value;

use super::node::{Core, Input, Role};
use super::{Sim, setup};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A proxy signs totals that are not on its disk yet.
    SignsUnsaved,
    /// A proxy books an answer twice for its client.
    BooksTwice,
    /// A proxy forgets to book an answer that it passes on.
    ForgetsBooking,
    /// A client asks again after its caller got the first byte.
    RetriesAfterFirstByte,
    /// A disk loses a batch that it had confirmed.
    LosesConfirmedWrite,
    /// A disk takes a half written batch for a whole one.
    KeepsTornBatch,
    /// A worker forgets at a crash what its proxies have signed.
    WorkerForgets,
    /// A proxy keeps connections that are gone.
    KeepsLinks,
    /// A client has no clock: nothing ever times out.
    ForgetsDeadlines,
    /// A worker logs what it is asked.
    LogsPrompts,
    /// A client panics when a caller leaves.
    Panics,
}

impl Sabotage {
    pub const ALL: [Sabotage; 11] = [
        Sabotage::SignsUnsaved,
        Sabotage::BooksTwice,
        Sabotage::ForgetsBooking,
        Sabotage::RetriesAfterFirstByte,
        Sabotage::LosesConfirmedWrite,
        Sabotage::KeepsTornBatch,
        Sabotage::WorkerForgets,
        Sabotage::KeepsLinks,
        Sabotage::ForgetsDeadlines,
        Sabotage::LogsPrompts,
        Sabotage::Panics,
    ];

    /// Words of the law that it breaks, as the failure names it; one of them must be there.
    pub fn found_by(self) -> &'static [&'static str] {
        match self {
            Sabotage::SignsUnsaved => &["are on its disk"],
            Sabotage::BooksTwice => &["on disk clients used"],
            Sabotage::ForgetsBooking => &["durable", "are on its disk"],
            Sabotage::RetriesAfterFirstByte => &["two heads"],
            Sabotage::LosesConfirmedWrite => &["fell from", "rolled back", "durable", "on disk"],
            Sabotage::KeepsTornBatch => &["on disk clients used"],
            Sabotage::WorkerForgets => &["its disk had"],
            Sabotage::KeepsLinks => &["links"],
            Sabotage::ForgetsDeadlines => &["no end in time"],
            Sabotage::LogsPrompts => &["a prompt is in a log"],
            Sabotage::Panics => &["panicked"],
        }
    }
}

impl Sim {
    fn broken(&self, what: Sabotage) -> bool {
        self.plan.sabotage == Some(what)
    }

    /// Before a core sees it. `None`: it never does.
    pub fn sabotage_input(&mut self, node: usize, input: Input) -> Option<Input> {
        match (self.plan.sabotage, &input, self.nodes[node].role) {
            (Some(Sabotage::ForgetsDeadlines), Input::Tick, Role::Client) => None,
            (Some(Sabotage::Panics), Input::Cancel(_), _) => panic!("the sabotaged core gives up"),
            _ => Some(input),
        }
    }

    pub fn forgets_links(&self, node: usize) -> bool {
        self.broken(Sabotage::KeepsLinks) && self.nodes[node].role == Role::Proxy
    }

    /// A batch on its way to the disk.
    pub fn sabotage_batch(&mut self, node: usize, mut batch: Vec<Change>) -> Vec<Change> {
        let money = |key: &str| key.starts_with("client_") || key.starts_with("worker_");
        if self.nodes[node].role != Role::Proxy {
            return batch;
        }
        if self.broken(Sabotage::ForgetsBooking) && self.rng.random_bool(0.3) {
            batch.retain(|(key, _)| !money(key));
        }
        if self.broken(Sabotage::BooksTwice) {
            for (key, value) in &mut batch {
                let used = |v: &[u8]| {
                    let json: Value = serde_json::from_slice(v).ok()?;
                    json["used"].as_u64()
                };
                let before = self.nodes[node].disk.records().get(key);
                let before = before.and_then(|v| used(v)).unwrap_or(0);
                let now = value.as_deref().and_then(used).unwrap_or(0);
                if key.starts_with("client_")
                    && now > before
                    && let Some(v) = value
                    && let Ok(mut json) = serde_json::from_slice::<Value>(v)
                {
                    json["used"] = (now + (now - before)).into();
                    *v = json.to_string().into_bytes();
                }
            }
        }
        batch
    }

    /// Before a batch is applied: the state that a lying disk goes back to.
    pub fn sabotage_commit(&mut self, node: usize) {
        if self.broken(Sabotage::LosesConfirmedWrite) && self.nodes[node].role == Role::Proxy {
            self.nodes[node].older = Some(self.nodes[node].disk.clone());
        }
    }

    /// Before a node reads its disk.
    pub fn sabotage_start(&mut self, node: usize) {
        let role = self.nodes[node].role;
        if let Some(older) = self.nodes[node].older.take() {
            self.nodes[node].disk = older;
        }
        if self.broken(Sabotage::KeepsTornBatch) && role == Role::Proxy {
            for (key, value) in self.nodes[node].disk.recover_badly() {
                self.durable_record(node, &key, value.as_deref());
            }
            self.check_durable(node);
        }
        if self.broken(Sabotage::WorkerForgets) && role == Role::Worker {
            let keys: Vec<String> = self.nodes[node].disk.records().keys().cloned().collect();
            for key in keys {
                self.nodes[node].disk.remove(&key);
            }
        }
    }

    /// A packet on its way out.
    pub fn sabotage_packet(&mut self, node: usize, data: Vec<u8>) -> Vec<u8> {
        let Some(Core::Proxy(core)) = &self.nodes[node].core else {
            return data;
        };
        if !self.broken(Sabotage::SignsUnsaved) {
            return data;
        }
        let Ok(mut m) = from_boxed::<WorkerRequestPayment>(&data) else {
            return data;
        };
        let envelope = m
            .signed_payment
            .boc()
            .map(Envelope::<SignedPayload>::from_boc);
        let Some(Ok(e)) = envelope else {
            return data;
        };
        let target = e.payload.target;
        let account = core.books().workers.values().find(|a| a.sc == target);
        let total = account.map_or(0, |a| a.tracker.max().0);
        let key = setup::proxy_key(self.nodes[node].n);
        let signed = payment::sign(&key, SignedOp::WorkerPayout, target, total, 1, e.excess_to);
        if let Ok(boc) = signed {
            m.signed_payment = SignedPayment::signed(boc);
        }
        to_boxed(&m)
    }

    /// A backend is started.
    pub fn sabotage_start_run(&mut self, node: usize, http: &HttpRequest) {
        if self.broken(Sabotage::LogsPrompts) {
            let text = format!("asked: {}", String::from_utf8_lossy(&http.body));
            self.on_alarm(node, &text);
        }
    }

    /// A request as a caller made it.
    pub fn sabotage_keep(&mut self, call: usize, r: &NewRequest) {
        if self.broken(Sabotage::RetriesAfterFirstByte) {
            self.calls[call].again = Some(Box::new(NewRequest {
                id: r.id,
                model: r.model.clone(),
                query: r.query.clone(),
                wishes: r.wishes.clone(),
                ..*r
            }));
        }
    }

    /// Something for a caller. True: he does not get it.
    pub fn sabotage_http(&mut self, node: usize, call: usize, out: &HttpOut) -> bool {
        let c = &mut self.calls[call];
        let began = c.status.is_some() && !c.done;
        let failed = began && matches!(out, HttpOut::Fail(_));
        let Some(again) = c.again.take_if(|_| failed) else {
            return false;
        };
        let (inc, input) = (self.nodes[node].inc, Input::Request(*again));
        self.at(1, super::Ev::Feed(node, inc, Box::new(input)));
        true
    }
}
