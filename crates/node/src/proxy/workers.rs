//! Handshakes, comparisons and announcements of workers: protocol.md 4.1 to 4.4.

use cocoon_ledger::claims::{Claims, ProxyComparison};
use cocoon_ledger::{AdjustedTokens, Coefficient, CommitTracker};
use cocoon_tl::{from_boxed, to_boxed};
use cocoon_ton::Address;
use cocoon_wire::codes;
use cocoon_wire::msg::worker::{self, WorkerQuery};

use super::accounts::WorkerAccount;
use super::core::ProxyCore;
use super::links::{LinkState, Refusal, WorkerLink, WorkerPhase, choose_version, refuse};
use crate::link::LinkId;
use crate::proto::{self, FromWorker, PaymentStatus};
use crate::root::base_model;

/// Model names are text of peers: longer ones are nonsense.
const MAX_MODEL_NAME: usize = 1024;
/// Model names remembered at once; where hashes are not checked any peer can invent some.
const MAX_MODELS: usize = 4096;

impl ProxyCore {
    /// Whether the root still lists this worker's image and model.
    pub(super) fn worker_allowed(&self, w: &WorkerLink) -> bool {
        !self.cfg.check_hashes
            || (self.root.worker_hashes.contains(&w.peer.image_hash)
                && self.root.allows_model(&w.full_model))
    }

    /// Closes the links of workers whose image is not on the root's list any longer. (One whose model left it gets no
    /// more requests and stays, as in the reference.)
    pub(super) fn expel_unlisted(&mut self) {
        if !self.cfg.check_hashes {
            return;
        }
        let unlisted: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, state)| match state {
                LinkState::Worker(w) => !self.root.worker_hashes.contains(&w.peer.image_hash),
                LinkState::Client(_) => false,
            })
            .map(|(link, _)| *link)
            .collect();
        for link in unlisted {
            self.close(link, "the worker's image left the root contract's list");
        }
    }

    pub(super) fn worker_query(
        &mut self,
        link: LinkId,
        id: i64,
        data: &[u8],
    ) -> Result<(), Refusal> {
        let Some(LinkState::Worker(w)) = self.links.get(&link) else {
            return Ok(());
        };
        let (phase, owner) = (w.phase, w.owner);
        let query = match from_boxed::<WorkerQuery>(data) {
            Ok(q) => q,
            Err(cocoon_tl::TlError::UnknownConstructor { .. }) if phase == WorkerPhase::Ok => {
                self.reply_error(link, id, 0, "Lost promise");
                return Ok(());
            }
            Err(e) => return refuse(0, e.to_string()),
        };
        match (phase, query) {
            (WorkerPhase::New, WorkerQuery::ConnectToProxy(q)) => self.worker_connect(link, id, q),
            (WorkerPhase::Compare, WorkerQuery::CompareBalanceWithProxy(q)) => {
                self.worker_compare(link, id, owner, &q)
            }
            (WorkerPhase::CompareExt, WorkerQuery::ExtendedCompareBalanceWithProxy(_)) => {
                self.reply(
                    link,
                    id,
                    to_boxed(&worker::ExtendedCompareBalanceWithProxyResult { error_code: 0 }),
                );
                Ok(())
            }
            // After the extended step the reference never advances (4.3); accepting the last step here heals that.
            (
                WorkerPhase::Finishing | WorkerPhase::CompareExt,
                WorkerQuery::ProxyHandshakeComplete(q),
            ) => {
                let is_disabled = q.is_disabled;
                self.reply(link, id, to_boxed(&worker::ProxyHandshakeCompleted {}));
                if let Some(LinkState::Worker(w)) = self.links.get_mut(&link) {
                    w.phase = WorkerPhase::Ok;
                    w.enabled = !is_disabled;
                    // Whoever reconnects does not get rid of his record.
                    if let Some(health) = self.past.take(&w.owner) {
                        w.health = health;
                    }
                    let model = w.model.clone();
                    if self.models_seen.len() >= MAX_MODELS {
                        let served = |name: &String| {
                            self.links
                                .values()
                                .any(|l| matches!(l, LinkState::Worker(w) if w.model == *name))
                        };
                        self.models_seen.retain(served);
                    }
                    self.models_seen.insert(model);
                    self.queue.changed = true;
                }
                Ok(())
            }
            (WorkerPhase::Ok, WorkerQuery::UpdatePaymentStatus(_)) => {
                let contract = self.contract_of(link);
                let status = self.worker_status(contract, owner);
                self.reply(link, id, proto::worker_payment_status(&status));
                Ok(())
            }
            _ => refuse(
                codes::PROTOVIOLATION,
                "unexpected query in this state of the handshake",
            ),
        }
    }

    fn worker_connect(
        &mut self,
        link: LinkId,
        id: i64,
        q: worker::ConnectToProxy,
    ) -> Result<(), Refusal> {
        let Some(LinkState::Worker(w)) = self.links.get(&link) else {
            return Ok(());
        };
        if self.cfg.check_hashes && !self.root.worker_hashes.contains(&w.peer.image_hash) {
            return refuse(
                codes::PROTOVIOLATION,
                format!(
                    "invalid worker image hash {}",
                    hex::encode_upper(w.peer.image_hash)
                ),
            );
        }
        let q = q.params;
        let Some(basic) = q.setup else {
            return refuse(codes::ERROR, "too old worker");
        };
        if basic.is_test != self.cfg.is_test {
            return refuse(codes::ERROR, "test mode mismatch");
        }
        if q.model.is_empty() || q.model.len() > MAX_MODEL_NAME {
            return refuse(codes::PROTOVIOLATION, "invalid worker hash or worker type");
        }
        let Ok(coefficient) = Coefficient::from_wire(i64::from(q.coefficient)) else {
            return refuse(codes::PROTOVIOLATION, "invalid coefficient value");
        };
        if basic.max_active_requests < 1 {
            return refuse(codes::PROTOVIOLATION, "invalid max_active_requests value");
        }
        if basic.proxy_cnt < 1 {
            return refuse(codes::PROTOVIOLATION, "invalid proxy_cnt value");
        }
        if self.cfg.check_hashes && !self.root.allows_model(&q.model) {
            return refuse(
                codes::PROTOVIOLATION,
                format!("invalid worker model '{}'", q.model),
            );
        }
        let Some(version) = choose_version(q.versions) else {
            return refuse(
                codes::PROTOVIOLATION,
                "cannot choose common protocol version",
            );
        };
        let Ok(owner) = Address::parse(&q.worker_owner_address).map(|p| p.address) else {
            return refuse(0, "Failed to parse account address");
        };
        self.not_participating()?;
        self.ensure_worker(owner)?;
        let Some(sc) = self.books.workers.get(&owner).map(|a| a.sc) else {
            return Ok(());
        };
        let data = proto::worker_connected(&self.proxy_params(version), &self.cfg_text(sc));
        if let Some(LinkState::Worker(w)) = self.links.get_mut(&link) {
            w.phase = WorkerPhase::Compare;
            w.version = version;
            w.contract = Some(self.sc);
            w.owner = owner;
            w.model = base_model(&q.model).to_owned();
            w.full_model = q.model;
            w.coefficient = coefficient;
            w.limit = (basic.max_active_requests as u32).div_ceil(basic.proxy_cnt as u32);
        }
        self.reply(link, id, data);
        Ok(())
    }

    /// The account of a worker, made on its first visit. It reaches the disk with the first tokens: a peer that names
    /// ever new owners leaves nothing behind.
    pub(super) fn ensure_worker(&mut self, owner: Address) -> Result<(), Refusal> {
        if !self.books.workers.contains_key(&owner) {
            let key = self.cfg.key.verifying_key().to_bytes();
            let sc = self
                .root
                .worker_contract(self.sc, key, owner)
                .map_err(|e| (codes::FAILURE, e.to_string()))?
                .address;
            self.books.workers.insert(
                owner,
                WorkerAccount {
                    sc,
                    sc_tokens: 0,
                    tracker: CommitTracker::new(),
                    payment: None,
                    pending: None,
                    last_active_ms: self.now,
                    closed: false,
                },
            );
        }
        Ok(())
    }

    /// Forgets an account that says nothing once no link uses it any more.
    pub(super) fn forget_idle_worker(&mut self, owner: Address) {
        let used = |l: &LinkState| matches!(l, LinkState::Worker(w) if w.owner == owner);
        let idle = self.books.workers.get(&owner).is_some_and(|a| {
            a.tracker.max().is_zero() && a.sc_tokens == 0 && a.pending.is_none() && !a.closed
        });
        if idle
            && !self.links.values().any(used)
            && !self.requests.values().any(|r| r.worker == owner)
        {
            self.books.workers.remove(&owner);
        }
    }

    fn worker_compare(
        &mut self,
        link: LinkId,
        id: i64,
        owner: Address,
        q: &worker::CompareBalanceWithProxy,
    ) -> Result<(), Refusal> {
        let status = self.worker_status(self.sc, owner);
        let ours = self
            .books
            .workers
            .get(&owner)
            .map(|a| a.tracker.claims())
            .unwrap_or_default();
        let tokens = |n: i64| {
            AdjustedTokens::from_wire(n).map_err(|e| (codes::PROTOVIOLATION, e.to_string()))
        };
        let theirs = Claims::raised(
            tokens(q.tokens_committed_to_blockchain)?,
            tokens(q.tokens_committed_to_db)?,
            tokens(q.max_tokens)?,
        );
        let (error_code, phase) = match ours.judge_worker(&theirs) {
            ProxyComparison::Agrees => (0, WorkerPhase::Finishing),
            ProxyComparison::WorkerAhead => (1, WorkerPhase::CompareExt),
            ProxyComparison::LostState => {
                // The worker holds a claim that these books do not know: either it lies, or we were rolled back (4.3).
                let text = format!(
                    "worker {owner} shows claims above the books: {theirs:?} against {ours:?}"
                );
                self.fx.push(super::types::ProxyEffect::Alarm(text));
                return refuse(
                    codes::PROTOVIOLATION,
                    "claimed amounts are above the proxy's books",
                );
            }
        };
        self.reply(link, id, proto::worker_compare_result(&status, error_code));
        if let Some(LinkState::Worker(w)) = self.links.get_mut(&link) {
            w.phase = phase;
        }
        Ok(())
    }

    pub(super) fn worker_status(&mut self, contract: Address, owner: Address) -> PaymentStatus {
        let signed_payment = self.worker_payment(contract, owner);
        let (db, max) = self
            .worker_at(contract, owner)
            .map_or((0, 0), |a| (a.tracker.db().0, a.tracker.max().0));
        PaymentStatus {
            signed_payment,
            db_tokens: db,
            max_tokens: max,
        }
    }

    pub(super) fn worker_packet(&mut self, link: LinkId, data: &[u8]) {
        let Some(LinkState::Worker(w)) = self.links.get_mut(&link) else {
            return;
        };
        match proto::parse_worker_packet(data) {
            Ok(Some(FromWorker::Enabled(enabled))) => {
                w.enabled = enabled;
                self.queue.changed = true;
            }
            Ok(Some(FromWorker::Coefficient(c))) => match Coefficient::from_wire(i64::from(c)) {
                Ok(c) => {
                    w.coefficient = c;
                    self.queue.changed = true;
                }
                Err(e) => self.close(link, format!("the worker sent a wrong coefficient: {e}")),
            },
            Ok(Some(FromWorker::Answer(answer))) => self.on_answer(link, answer),
            Ok(None) => {}
            Err(e) => self.close(link, format!("malformed packet from a worker: {e}")),
        }
    }
}
