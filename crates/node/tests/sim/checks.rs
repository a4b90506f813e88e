//! The laws: checked after every step, and once everything has come to rest.

use std::collections::BTreeMap;

use cocoon_node::payment;
use cocoon_node::proto::{self, FromProxy};
use cocoon_tl::from_boxed;
use cocoon_ton::abi::{Envelope, SignedOp};
use cocoon_ton::{Address, Cell};
use cocoon_wire::msg::{client, proxy, worker};

use super::chain::Kind;
use super::node::{Core, Input, Role};
use super::setup::{self, CLIENTS, PRICE, PROXIES, TON, WORKERS};
use super::{Ev, Sim};

/// How long the network may take to come to rest: longer than the longest timeout of a handshake twice over.
const REST_MS: u64 = 1_200_000;
/// How long shutting down may take.
const DRAIN_MS: u64 = 60_000;

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
        for (key, value) in self.nodes[node].disk.clone() {
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
        for (owner, a) in &core.books().clients {
            let (signed, db, max) = (a.tracker.signed().0, a.tracker.db().0, a.tracker.max().0);
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
        for c in 0..CLIENTS {
            let cap: u64 = self
                .runs
                .iter()
                .filter(|r| r.client == c)
                .map(|r| r.cap)
                .sum();
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
        let shown = if let Ok(Some(FromProxy::Payment(s))) = proto::parse_packet_to_client(data) {
            s.signed_payment.map(|boc| (boc, Some(s.db_tokens)))
        } else if let Ok(p) = from_boxed::<proxy::PacketToWorker>(data) {
            match p {
                proxy::PacketToWorker::WorkerRequestPayment(p) => p
                    .signed_payment
                    .boc()
                    .map(|b| (b.to_vec(), db(p.db_tokens))),
                proxy::PacketToWorker::RunQueryEx(q) => {
                    q.signed_payment.boc().map(|b| (b.to_vec(), None))
                }
                _ => None,
            }
        } else if let Ok(s) = from_boxed::<client::PaymentStatus>(data) {
            s.signed_payment
                .boc()
                .map(|b| (b.to_vec(), db(s.db_tokens)))
        } else if let Ok(client::AuthorizationWithProxy::Success(s)) = from_boxed(data) {
            let saved = db(s.tokens_committed_to_db);
            s.signed_payment.boc().map(|b| (b.to_vec(), saved))
        } else if let Ok(s) = from_boxed::<client::ConnectedToProxy>(data) {
            s.signed_payment.boc().map(|b| (b.to_vec(), None))
        } else if let Ok(s) = from_boxed::<worker::PaymentStatus>(data) {
            s.signed_payment
                .boc()
                .map(|b| (b.to_vec(), db(s.db_tokens)))
        } else if let Ok(s) = from_boxed::<worker::CompareBalanceWithProxyResult>(data) {
            let saved = db(s.tokens_committed_to_db);
            s.signed_payment.boc().map(|b| (b.to_vec(), saved))
        } else {
            None
        };
        if let Some((boc, db)) = shown {
            self.check_signed(node, &boc, db);
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
        self.nodes[node].halted = Some(why.clone());
        if self.must_halt != Some(node) {
            self.fail(format!("proxy {node} halts: {why}"));
        }
    }

    /// Nobody here lies or loses a disk, so nobody may be accused of it.
    pub fn on_alarm(&mut self, node: usize, text: &str) {
        let expected = text.contains("booked the reservation");
        if !expected {
            let name = (self.nodes[node].role, self.nodes[node].n);
            self.fail(format!("{name:?} raises a false alarm: {text}"));
        }
    }

    // ---- at rest ------------------------------------------------------------------------------

    pub fn on_settle(&mut self) {
        if let Some(since) = self.draining_since {
            let left: Vec<_> = self
                .nodes
                .iter()
                .filter(|n| !n.drained)
                .map(|n| (n.role, n.n))
                .collect();
            self.done = left.is_empty();
            if !self.done && self.now - since > DRAIN_MS {
                return self.fail(format!("told to drain, but {left:?} do not end"));
            }
        } else {
            self.check_bounds();
            let open = self.unsettled();
            if open.is_empty() {
                self.draining_since = Some(self.now);
                self.note(|| "settled; draining".to_owned());
                for node in 0..self.nodes.len() {
                    self.feed(node, Input::Drain);
                }
            } else if self.now - self.calm_since > REST_MS {
                return self.fail(format!("no rest after {REST_MS} ms: {}", open.join("; ")));
            }
        }
        self.at(2000, Ev::Settle);
    }

    /// Everything has an end.
    fn check_bounds(&mut self) {
        if let Some(i) = self
            .calls
            .iter()
            .position(|c| !c.done && self.now > c.deadline)
        {
            self.fail(format!("call {i} got no end in time"));
        }
        if self.lists.values().any(|deadline| self.now > *deadline) {
            self.fail("a list of models was never answered");
        }
    }

    /// What is not yet as it must be in the end.
    fn unsettled(&self) -> Vec<String> {
        let mut open = Vec::new();
        for node in &self.nodes {
            let name = format!("{:?} {}", node.role, node.n);
            match &node.core {
                None => open.push(format!("{name} is down")),
                Some(Core::Client(c)) => {
                    let s = c.stats();
                    let links = s["proxy_connections"]
                        .as_array()
                        .map_or(0, |l| l.iter().filter(|l| l["is_ready"] == true).count());
                    if links != PROXIES || s["running_requests"] != 0 {
                        open.push(format!(
                            "{name}: {links} links, {} running",
                            s["running_requests"]
                        ));
                    }
                }
                Some(Core::Worker(w)) => {
                    if w.ready_links() != PROXIES || w.running() != 0 {
                        open.push(format!(
                            "{name}: {} links, {} running",
                            w.ready_links(),
                            w.running()
                        ));
                    }
                }
                Some(Core::Proxy(p)) => {
                    let reserved: u64 = p.books().clients.values().map(|a| a.reserved.0).sum();
                    let counted: u32 = p.books().clients.values().map(|a| a.running).sum();
                    if p.running() != 0 || reserved != 0 || counted != 0 {
                        open.push(format!(
                            "{name}: {} running, {reserved} reserved",
                            p.running()
                        ));
                    }
                }
            }
        }
        for (contract, (p, is_client, n)) in &self.contracts {
            let Some(Core::Proxy(core)) = &self.nodes[*p].core else {
                continue;
            };
            let role = if *is_client {
                Role::Client
            } else {
                Role::Worker
            };
            let owner = setup::owner(role, *n);
            let (tracker, settled) = if *is_client {
                let a = core.books().clients.get(&owner);
                (a.map(|a| &a.tracker), self.chain.charged(*contract))
            } else {
                let a = core.books().workers.get(&owner);
                (a.map(|a| &a.tracker), self.chain.paid(*contract))
            };
            let (signed, max) = tracker.map_or((0, 0), |t| (t.signed().0, t.max().0));
            if signed != max || settled != max {
                open.push(format!(
                    "proxy {p}, {role:?} {n}: booked {max}, signed {signed}, settled {settled}"
                ));
            }
        }
        if open.is_empty() {
            open.extend((0..PROXIES).filter_map(|p| self.deposits(p).err()));
        }
        open
    }

    /// The proxy contract holds what it must: uncharged deposits and its revenue; what left it was paid out.
    fn deposits(&self, p: usize) -> Result<(), String> {
        let (sc, _) = setup::proxy_contract(&setup::root(), p);
        let account = &self.chain.accounts[&sc];
        let Kind::Proxy(s) = &account.kind else {
            return Err("no proxy contract".to_owned());
        };
        let mut deposits = 0;
        let (mut used, mut paid) = (0, 0);
        for (contract, (of, is_client, _)) in &self.contracts {
            if *of != p {
                continue;
            }
            match self.chain.accounts.get(contract).map(|a| &a.kind) {
                Some(Kind::Client(c)) if *is_client => {
                    deposits += c.balance;
                    used += c.tokens_used;
                }
                Some(Kind::Worker(w)) => paid += w.tokens_paid,
                _ => {}
            }
        }
        // One TON was there before; notices add a nanoTON each.
        let needed = TON + deposits + s.balance + u128::from(used - paid) * PRICE;
        let spare = account.balance.checked_sub(needed);
        match spare {
            Some(s) if s < TON / 2 => Ok(()),
            _ => Err(format!(
                "proxy contract {p} holds {}, expected {needed}",
                account.balance
            )),
        }
    }

    /// Workers earned nothing that no answer was worth.
    pub fn check_earned(&self) -> Result<(), String> {
        for w in 0..WORKERS {
            let cap: u64 = self
                .runs
                .iter()
                .filter(|r| r.worker == w)
                .map(|r| r.cap)
                .sum();
            let owner = setup::owner(Role::Worker, w);
            let earned: u64 = self.durable.iter().map(|d| d.worker(&owner)).sum();
            if earned > cap {
                return Err(format!(
                    "worker {w} earned {earned}, its answers were worth {cap}"
                ));
            }
        }
        Ok(())
    }
}
