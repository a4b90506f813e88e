//! The laws: checked after every step, and once everything has come to rest.

use std::collections::BTreeMap;

use cocoon_node::payment;
use cocoon_tl::{Constructor, from_boxed, peek_id};
use cocoon_ton::abi::{Envelope, SignedOp};
use cocoon_ton::{Address, Cell};
use cocoon_wire::msg::{client, proxy, worker};

use super::Sim;
use super::callers::CANARY;
use super::node::{Core, Role};
use super::setup;

/// What a proxy's disk says of money.
#[derive(Default, Debug, Clone)]
pub struct Durable {
    clients: BTreeMap<Address, u64>,
    workers: BTreeMap<Address, u64>,
}

impl Durable {
    pub fn client(&self, owner: &Address) -> u64 {
        self.clients.get(owner).copied().unwrap_or(0)
    }

    pub fn worker(&self, owner: &Address) -> u64 {
        self.workers.get(owner).copied().unwrap_or(0)
    }

    pub fn clients_total(&self) -> u64 {
        self.clients.values().sum()
    }
}

impl Sim {
    /// A record reached the disk of a proxy.
    pub fn durable_record(&mut self, node: usize, key: &str, value: Option<&[u8]>) {
        let Some(value) = value else {
            return self.fail(format!("proxy {node} deletes record {key}"));
        };
        let json: serde_json::Value = serde_json::from_slice(value).expect("records are JSON");
        let d = &mut self.durable[node];
        let (book, text, field) = if let Some(text) = key.strip_prefix("client_") {
            (&mut d.clients, text, "used")
        } else if let Some(text) = key.strip_prefix("worker_") {
            (&mut d.workers, text, "tokens")
        } else {
            return;
        };
        let owner = Address::parse(text)
            .expect("records name addresses")
            .address;
        let tokens = json[field].as_u64().expect("a total");
        let before = book.insert(owner, tokens).unwrap_or(0);
        if tokens < before {
            self.fail(format!(
                "proxy {node}: {key} fell from {before} to {tokens}"
            ));
        }
    }

    /// The disk of a proxy was replaced.
    pub fn reload_durable(&mut self, node: usize) {
        self.durable[node] = Durable::default();
        self.last_books[node].clear();
        for (key, value) in self.nodes[node].disk.records().clone() {
            self.durable_record(node, &key, Some(&value));
        }
    }

    pub fn check_durable(&mut self, node: usize) {
        let d = &self.durable[node];
        let (c, w): (u64, u64) = (d.clients.values().sum(), d.workers.values().sum());
        if c != w {
            self.fail(format!(
                "proxy {node}: on disk clients used {c} tokens, workers earned {w}"
            ));
        }
    }

    /// The books of a proxy after each of its steps.
    pub fn check_node(&mut self, node: usize) {
        let Some(Core::Proxy(core)) = &self.nodes[node].core else {
            return;
        };
        let d = &self.durable[node];
        let (mut clients, mut workers, mut running) = (0, 0, 0);
        let mut wrong = None;
        let last = &mut self.last_books[node];
        for (owner, a) in &core.books().clients {
            let (signed, db, max) = (a.tracker.signed().0, a.tracker.db().0, a.tracker.max().0);
            let (used, reserved) = last.insert(*owner, (max, a.reserved.0)).unwrap_or((max, 0));
            if max.saturating_sub(used) > reserved {
                wrong = Some(format!(
                    "client {owner} is billed {} tokens, {reserved} were reserved",
                    max - used
                ));
            }
            clients += max;
            running += a.running as usize;
            if !(signed <= db && db <= max && db <= d.client(owner)) {
                wrong = Some(format!(
                    "client {owner}: signed {signed}, db {db}, max {max}, durable {}",
                    d.client(owner)
                ));
            }
            if a.running == 0 && !a.reserved.is_zero() {
                wrong = Some(format!(
                    "client {owner}: {} reserved, nothing runs",
                    a.reserved
                ));
            }
        }
        for (owner, a) in &core.books().workers {
            let (signed, db, max) = (a.tracker.signed().0, a.tracker.db().0, a.tracker.max().0);
            workers += max;
            if !(signed <= db && db <= max && db <= d.worker(owner)) {
                wrong = Some(format!(
                    "worker {owner}: signed {signed}, db {db}, max {max}, durable {}",
                    d.worker(owner)
                ));
            }
        }
        if clients != workers {
            wrong = Some(format!("clients used {clients}, workers earned {workers}"));
        }
        if running != core.running() {
            wrong = Some(format!(
                "{running} requests counted, {} running",
                core.running()
            ));
        }
        if let Some(text) = wrong {
            self.fail(format!("proxy {node}: {text}"));
        }
    }

    /// Coins, and every contract against the books that must justify it.
    pub fn check_chain(&mut self) {
        if let Err(e) = self.chain.check_coins() {
            self.fail(e);
        }
        if let Some(e) = self.chain.broken.pop() {
            self.fail(e);
        }
        let mut wrong = None;
        for (contract, (p, is_client, n)) in &self.contracts {
            let d = &self.durable[*p];
            let (on_chain, saved) = if *is_client {
                (
                    self.chain.charged(*contract),
                    d.client(&setup::owner(Role::Client, *n)),
                )
            } else {
                (
                    self.chain.paid(*contract),
                    d.worker(&setup::owner(Role::Worker, *n)),
                )
            };
            if on_chain > saved && self.must_halt.is_none() {
                wrong = Some(format!(
                    "proxy {p}: {on_chain} tokens settled on chain, {saved} on disk"
                ));
            }
        }
        for c in 0..self.plan.shape.clients {
            let cap: u64 = match self.plan.hostile {
                Some(Role::Client) if self.plan.is_hostile(Role::Client, c) => continue,
                // A lying worker, or one that was told a wrong coefficient, gets what was reserved, and a request is
                // tried on three links at most, on each of them with two more workers.
                Some(Role::Worker | Role::Proxy) => {
                    let mine = self.calls.iter().filter(|call| call.client == c);
                    mine.map(|call| 9 * call.reserve).sum()
                }
                _ => {
                    let mine = self.runs.iter().filter(|r| r.client == Some(c));
                    mine.map(|r| r.cap).sum()
                }
            };
            let charged: u64 = self
                .contracts
                .iter()
                .filter(|(_, (_, is_client, n))| *is_client && *n == c)
                .map(|(sc, _)| self.chain.charged(*sc))
                .sum();
            if charged > cap {
                wrong = Some(format!(
                    "client {c} is charged {charged} tokens, its answers were worth {cap}"
                ));
            }
        }
        if let Some(text) = wrong {
            self.fail(text);
        }
    }

    /// No signature leaves a proxy for more than its disk justifies.
    fn check_signed(&mut self, node: usize, boc: &[u8], db: Option<u64>) {
        let Ok(envelope) = Envelope::from_boc(boc) else {
            return self.fail(format!("proxy {node} shows something that is no payment"));
        };
        let e: Envelope = envelope;
        let Some((p, is_client, n)) = self.contracts.get(&e.payload.target).copied() else {
            return self.fail("a payment for an unknown contract");
        };
        let (op, saved) = if is_client {
            (
                SignedOp::ClientCharge,
                self.durable[p].client(&setup::owner(Role::Client, n)),
            )
        } else {
            (
                SignedOp::WorkerPayout,
                self.durable[p].worker(&setup::owner(Role::Worker, n)),
            )
        };
        if p != node || e.payload.tokens > saved || db.is_some_and(|db| db > saved) {
            return self.fail(format!(
                "proxy {node} shows {} signed, {db:?} saved; {saved} are on its disk",
                e.payload.tokens
            ));
        }
        if self.must_halt == Some(node) {
            return self.fail("a rolled-back proxy signed a payment");
        }
        if self.verified.insert(boc.to_vec()) {
            let key = setup::proxy_key(node).verifying_key().to_bytes();
            if let Err(e) = payment::check(boc, op, e.payload.target, &key) {
                self.fail(format!("proxy {node} shows a worthless payment: {e}"));
            }
        }
    }

    /// Everything a proxy says.
    pub fn check_shown(&mut self, node: usize, data: &[u8]) {
        if self.nodes[node].role != Role::Proxy {
            return;
        }
        let db = |n: i64| Some(n.unsigned_abs());
        let shown = match peek_id(data) {
            Some(proxy::ClientRequestPayment::ID) => {
                from_boxed::<proxy::ClientRequestPayment>(data)
                    .map(|m| (m.signed_payment, db(m.db_tokens)))
            }
            Some(proxy::WorkerRequestPayment::ID) => {
                from_boxed::<proxy::WorkerRequestPayment>(data)
                    .map(|m| (m.signed_payment, db(m.db_tokens)))
            }
            Some(proxy::RunQueryEx::ID) => {
                from_boxed::<proxy::RunQueryEx>(data).map(|m| (m.signed_payment, None))
            }
            Some(proxy::RunQuery::ID) => {
                from_boxed::<proxy::RunQuery>(data).map(|m| (m.signed_payment, None))
            }
            Some(client::PaymentStatus::ID) => from_boxed::<client::PaymentStatus>(data)
                .map(|m| (m.signed_payment, db(m.db_tokens))),
            Some(client::AuthorizationWithProxySuccess::ID) => {
                from_boxed::<client::AuthorizationWithProxySuccess>(data)
                    .map(|m| (m.signed_payment, db(m.tokens_committed_to_db)))
            }
            Some(client::ConnectedToProxy::ID) => {
                from_boxed::<client::ConnectedToProxy>(data).map(|m| (m.signed_payment, None))
            }
            Some(worker::PaymentStatus::ID) => from_boxed::<worker::PaymentStatus>(data)
                .map(|m| (m.signed_payment, db(m.db_tokens))),
            Some(worker::CompareBalanceWithProxyResult::ID) => {
                from_boxed::<worker::CompareBalanceWithProxyResult>(data)
                    .map(|m| (m.signed_payment, db(m.tokens_committed_to_db)))
            }
            _ => return,
        };
        let shown = match shown {
            Ok((payment, db)) => payment.boc().map(|boc| (boc.to_vec(), db)),
            Err(e) => return self.fail(format!("proxy {node} sends what nobody can read: {e}")),
        };
        if let Some((boc, db)) = shown {
            self.check_signed(node, &boc, db);
        }
    }

    /// A record reached the disk of a worker: what a proxy has signed, it must know from now on.
    pub fn promised_record(&mut self, node: usize, key: &str, value: Option<&[u8]>) {
        let Some(contract) = key.strip_prefix("account_") else {
            return;
        };
        let contract = Address::parse(contract)
            .expect("records name contracts")
            .address;
        let signed = value.map_or(0, |v| {
            let json: serde_json::Value = serde_json::from_slice(v).expect("records are JSON");
            json["claims"]["signed"].as_u64().expect("signed claims")
        });
        let before = self.promised.insert((node, contract), signed).unwrap_or(0);
        if signed < before && value.is_some() {
            self.fail(format!(
                "worker {node}: {key} fell from {before} to {signed}"
            ));
        }
    }

    /// A worker compares amounts: at least what its disk has, or its rollback detection is worth nothing.
    pub fn check_asked(&mut self, node: usize, conn: usize, data: &[u8]) {
        let Ok(q) = from_boxed::<worker::CompareBalanceWithProxy>(data) else {
            return;
        };
        let proxy = self.net.conns[conn].ends[1].node;
        let n = self.nodes[node].n;
        let ours = |(_, (p, is_client, m)): &(&Address, &(usize, bool, usize))| {
            *p == proxy && !is_client && *m == n
        };
        let contract = self.contracts.iter().find(ours).map(|(sc, _)| *sc);
        let known = contract.and_then(|sc| self.promised.get(&(node, sc)).copied());
        let shown = q.tokens_committed_to_blockchain.unsigned_abs();
        if shown < known.unwrap_or(0) {
            self.fail(format!(
                "worker {node} shows proxy {proxy} {shown} signed tokens, its disk had {known:?}"
            ));
        }
    }

    /// Text that goes to a log.
    pub fn check_logged(&mut self, text: &str) {
        if text.contains(CANARY) {
            self.fail(format!("a prompt is in a log: {text}"));
        }
    }

    /// A message for the chain, before a wallet has it.
    pub fn check_transact(&mut self, node: usize, to: Address, body: Option<&Cell>) {
        if self.nodes[node].role == Role::Proxy
            && self.contracts.contains_key(&to)
            && let Some(body) = body
        {
            let boc = cocoon_ton::boc::encode(body);
            self.check_signed(node, &boc, None);
        }
    }

    pub fn on_halt(&mut self, node: usize, why: String) {
        self.check_logged(&why);
        self.nodes[node].halted = Some(why.clone());
        if self.must_halt != Some(node) {
            self.fail(format!("proxy {node} halts: {why}"));
        }
    }

    /// Nobody here lies or loses a disk, so nobody may be accused of it.
    pub fn on_alarm(&mut self, node: usize, text: &str) {
        self.check_logged(text);
        let name = (self.nodes[node].role, self.nodes[node].n);
        self.note(|| format!("{name:?} raises an alarm: {text}"));
        // Where somebody lies, alarms are right.
        let expected = text.contains("booked the reservation") || self.plan.hostile.is_some();
        if !expected {
            let name = (self.nodes[node].role, self.nodes[node].n);
            self.fail(format!("{name:?} raises a false alarm: {text}"));
        }
    }
}
