//! How a run ends: everything has an answer, every token is booked, signed and settled, every coin is where it belongs.

use super::chain::Kind;
use super::node::{Core, Input, Role};
use super::setup::{self, PRICE, TON};
use super::{Ev, Sim};

/// How long the network may take to come to rest: longer than the longest timeout of a handshake twice over.
const REST_MS: u64 = 1_200_000;
/// How long shutting down may take.
const DRAIN_MS: u64 = 60_000;

impl Sim {
    pub fn on_settle(&mut self) {
        if let Some(since) = self.draining_since {
            let left: Vec<_> = self
                .nodes
                .iter()
                .filter(|n| !n.drained && !self.plan.is_hostile(n.role, n.n))
                .map(|n| (n.role, n.n))
                .collect();
            self.done = left.is_empty();
            if !self.done && self.now - since > DRAIN_MS {
                return self.fail(format!("told to drain, but {left:?} do not end"));
            }
        } else {
            self.check_ends();
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
    fn check_ends(&mut self) {
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
        let hostile = |role: Role, n: usize| self.plan.is_hostile(role, n);
        let proxies = self.plan.shape.proxies - usize::from(self.plan.hostile == Some(Role::Proxy));
        for node in self.nodes.iter().filter(|n| !hostile(n.role, n.n)) {
            let name = format!("{:?} {}", node.role, node.n);
            match &node.core {
                None => open.push(format!("{name} is down")),
                Some(Core::Client(c)) => {
                    let s = c.stats();
                    let links = s["proxy_connections"]
                        .as_array()
                        .map_or(0, |l| l.iter().filter(|l| l["is_ready"] == true).count());
                    if links != proxies || s["running_requests"] != 0 {
                        open.push(format!(
                            "{name}: {links} links, {} running",
                            s["running_requests"]
                        ));
                    }
                }
                Some(Core::Worker(w)) => {
                    if w.ready_links() != proxies || w.running() != 0 {
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
            if hostile(role, *n) || hostile(Role::Proxy, *p) {
                continue;
            }
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
            open.extend((0..proxies).filter_map(|p| self.deposits(p).err()));
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
        // A hostile client may be charged later than the worker is paid, out of its deposit.
        let needed =
            TON + deposits + s.balance + u128::from(used) * PRICE - u128::from(paid) * PRICE;
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
        for w in 0..self.plan.shape.workers {
            // A lying proxy may have told it another coefficient.
            let told = self.plan.hostile == Some(Role::Proxy);
            if told || self.plan.is_hostile(Role::Worker, w) {
                continue;
            }
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
