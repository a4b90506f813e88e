//! Handshakes, status queries and worker announcements: protocol.md 3.3–3.5, 4.1–4.4.

use cocoon_ton::Address;
use cocoon_wire::codes;

use super::accounts::{ClientAccount, ClientRecord, WorkerAccount};
use super::core::{Phase, ProxyCore};
use crate::link::{LinkId, PeerInfo};
use crate::payment;
use crate::proto::{self, FromWorker, PaymentStatus};
use crate::root::base_model;
use cocoon_ledger::claims::{Claims, ProxyComparison};
use cocoon_ledger::stats::{AverageTime, Decaying};
use cocoon_ledger::{AdjustedTokens, Coefficient, CommitTracker};
use cocoon_tl::{from_boxed, to_boxed};
use cocoon_wire::msg::client::{self, ClientQuery};
use cocoon_wire::msg::common::VersionRange;
use cocoon_wire::msg::worker::{self, WorkerQuery};

/// Highest protocol version spoken here: 2 is the reference's, 3 adds cancellation between our own nodes.
pub const MAX_VERSION: i32 = 3;
/// A failure of a worker is half forgotten after a few minutes.
const FAILURE_MEMORY_S: f64 = 600.0;
/// Model names are text of peers: longer ones are nonsense.
const MAX_MODEL_NAME: usize = 1024;

/// A link and how far its handshake is.
pub enum LinkState {
    /// From the clients' port.
    Client(ClientLink),
    /// From the workers' port.
    Worker(Box<WorkerLink>),
}

/// Phases of protocol.md 3.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientPhase {
    /// Nothing was said yet.
    New,
    /// The contract was named; the client has to prove that it owns it.
    Auth {
        /// Owner claimed.
        owner: Address,
        /// Number the owner has to send through the chain.
        nonce: u64,
        /// The open authorizeWithProxyLong query.
        waiting: Option<i64>,
        /// The chain showed the registration.
        registered: bool,
    },
    /// Authorized.
    Ok {
        /// The client.
        owner: Address,
    },
}

/// A client's connection.
pub struct ClientLink {
    pub(super) phase: ClientPhase,
    pub(super) version: i32,
    pub(super) since_ms: u64,
}

/// Phases of protocol.md 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerPhase {
    /// Nothing was said yet.
    New,
    /// Amounts are to be compared.
    Compare,
    /// The worker knows more than we do.
    CompareExt,
    /// Waiting for the last step.
    Finishing,
    /// Ready.
    Ok,
}

/// A worker's connection.
pub struct WorkerLink {
    pub(super) phase: WorkerPhase,
    pub(super) peer: PeerInfo,
    pub(super) version: i32,
    pub(super) owner: Address,
    pub(super) full_model: String,
    pub(super) model: String,
    pub(super) coefficient: Coefficient,
    pub(super) limit: u32,
    pub(super) enabled: bool,
    pub(super) running: u32,
    pub(super) times: AverageTime,
    pub(super) failures: Decaying,
    pub(super) since_ms: u64,
}

impl LinkState {
    pub(super) fn new_client(_peer: PeerInfo, now: u64) -> Self {
        LinkState::Client(ClientLink {
            phase: ClientPhase::New,
            version: 0,
            since_ms: now,
        })
    }

    pub(super) fn new_worker(peer: PeerInfo, now: u64) -> Self {
        LinkState::Worker(Box::new(WorkerLink {
            phase: WorkerPhase::New,
            peer,
            version: 0,
            owner: Address {
                workchain: 0,
                hash: [0; 32],
            },
            full_model: String::new(),
            model: String::new(),
            coefficient: Coefficient::ZERO,
            limit: 0,
            enabled: false,
            running: 0,
            times: AverageTime::new(),
            failures: Decaying::new(FAILURE_MEMORY_S),
            since_ms: now,
        }))
    }
}

/// Negotiation of 3.4: the highest version both sides know.
pub(super) fn choose_version(range: Option<VersionRange>) -> Option<i32> {
    let (min, max) = range.map_or((0, 0), |r| (r.min_proto_version, r.max_proto_version));
    (max >= 0 && min <= MAX_VERSION && min <= max).then(|| max.min(MAX_VERSION))
}

/// Why a handshake step failed: code and text of the `tcp.queryError`.
type Refusal = (i32, String);

fn refuse<T>(code: i32, text: impl Into<String>) -> Result<T, Refusal> {
    Err((code, text.into()))
}

impl ProxyCore {
    pub(super) fn on_query(&mut self, link: LinkId, id: i64, data: &[u8]) {
        let result = match self.links.get(&link) {
            None => return,
            Some(LinkState::Client(_)) => self.client_query(link, id, data),
            Some(LinkState::Worker(_)) => self.worker_query(link, id, data),
        };
        if let Err((code, text)) = result {
            self.refuse(link, id, code, text);
        }
    }

    pub(super) fn on_packet(&mut self, link: LinkId, data: &[u8]) {
        match self.links.get(&link) {
            None => {}
            Some(LinkState::Client(_)) => self.client_packet(link, data),
            Some(LinkState::Worker(w)) if w.phase == WorkerPhase::Ok => {
                self.worker_packet(link, data)
            }
            Some(LinkState::Worker(_)) => {}
        }
    }

    pub(super) fn on_down(&mut self, link: LinkId) {
        if self.links.remove(&link).is_some() {
            self.fail_requests_of(link);
        }
    }

    pub(super) fn expire_handshakes(&mut self) {
        let limit = self.cfg.settings.handshake_timeout_ms;
        let now = self.now;
        let late: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, s)| match s {
                LinkState::Client(c) => {
                    !matches!(c.phase, ClientPhase::Ok { .. })
                        && now.saturating_sub(c.since_ms) > limit
                }
                LinkState::Worker(w) => {
                    w.phase != WorkerPhase::Ok && now.saturating_sub(w.since_ms) > limit
                }
            })
            .map(|(l, _)| *l)
            .collect();
        for link in late {
            self.close(link, "the handshake was not finished in time");
        }
    }

    fn not_participating(&self) -> Result<(), Refusal> {
        if self.disabled.is_some() || self.phase != Phase::Open {
            return refuse(
                codes::NOTREADY,
                "proxy is not participating in this iteration",
            );
        }
        Ok(())
    }

    fn proxy_params(&self, version: i32) -> proto::ProxyParams {
        proto::ProxyParams {
            public_key: self.cfg.key.verifying_key().to_bytes(),
            owner: self.cfg.owner.to_text(true, self.cfg.testnet),
            sc: self.cfg_text(self.sc),
            is_test: self.cfg.is_test,
            version,
        }
    }

    /// Contract addresses travel non-bounceable, with the network's flag (3.1).
    fn cfg_text(&self, address: Address) -> String {
        address.to_text(false, self.cfg.testnet)
    }

    // ---- clients ------------------------------------------------------------------------------

    fn client_query(&mut self, link: LinkId, id: i64, data: &[u8]) -> Result<(), Refusal> {
        let Some(LinkState::Client(c)) = self.links.get(&link) else {
            return Ok(());
        };
        let phase = c.phase.clone();
        match (phase, from_boxed::<ClientQuery>(data)) {
            (ClientPhase::New, Ok(ClientQuery::ConnectToProxy(q))) => {
                self.client_connect(link, id, q)
            }
            (
                ClientPhase::Auth {
                    owner,
                    nonce,
                    waiting,
                    registered,
                },
                Ok(ClientQuery::AuthorizeWithProxyLong(_)),
            ) => {
                if waiting.is_some() {
                    return refuse(0, "duplicate auth message");
                }
                if registered {
                    self.authorized(link, owner, Some(id));
                } else if let Some(LinkState::Client(c)) = self.links.get_mut(&link) {
                    c.phase = ClientPhase::Auth {
                        owner,
                        nonce,
                        waiting: Some(id),
                        registered,
                    };
                }
                Ok(())
            }
            (ClientPhase::Auth { owner, .. }, Ok(ClientQuery::AuthorizeWithProxyShort(q))) => {
                let secret = q.data;
                let known = self
                    .books
                    .clients
                    .get(&owner)
                    .map(|a| a.record.secret_hash.clone());
                if known.as_deref() != Some(hex::encode(payment::secret_hash(&secret)).as_str())
                    || secret.is_empty()
                {
                    // An empty secret is public knowledge (11 #1): whoever has none must use the long way.
                    return refuse(0, "sha256 mismatch");
                }
                self.authorized(link, owner, Some(id));
                Ok(())
            }
            (
                ClientPhase::Ok { .. },
                Ok(
                    ClientQuery::ConnectToProxy(_)
                    | ClientQuery::AuthorizeWithProxyLong(_)
                    | ClientQuery::AuthorizeWithProxyShort(_),
                ),
            ) => refuse(0, "already authorized"),
            (ClientPhase::Ok { owner }, Ok(ClientQuery::UpdatePaymentStatus(_))) => {
                let status = self.client_status(owner);
                self.reply(link, id, proto::client_payment_status(&status));
                Ok(())
            }
            (ClientPhase::Ok { .. }, Ok(ClientQuery::GetWorkerTypes(_))) => {
                let list = self.worker_types();
                let data = proto::worker_types_v0(&list);
                self.reply(link, id, data);
                Ok(())
            }
            (ClientPhase::Ok { .. }, Ok(ClientQuery::GetWorkerTypesV2(_))) => {
                let list = self.worker_types();
                self.reply(link, id, proto::worker_types_v2(&list));
                Ok(())
            }
            (_, Ok(ClientQuery::UpdatePaymentStatus(_))) => {
                self.reply_error(
                    link,
                    id,
                    codes::PROTOVIOLATION,
                    "client request from non-ready connection",
                );
                Ok(())
            }
            (_, Ok(ClientQuery::GetWorkerTypes(_) | ClientQuery::GetWorkerTypesV2(_))) => {
                self.reply_error(
                    link,
                    id,
                    codes::PROTOVIOLATION,
                    "expected client connection",
                );
                Ok(())
            }
            (
                ClientPhase::Ok { .. },
                Ok(ClientQuery::RequestRefund(_))
                | Err(cocoon_tl::TlError::UnknownConstructor { .. }),
            ) => {
                self.reply_error(link, id, 0, "Lost promise");
                Ok(())
            }
            (_, Ok(_)) => refuse(
                codes::PROTOVIOLATION,
                "unexpected query in this state of the handshake",
            ),
            (_, Err(e)) => refuse(0, e.to_string()),
        }
    }

    fn client_connect(
        &mut self,
        link: LinkId,
        id: i64,
        q: client::ConnectToProxy,
    ) -> Result<(), Refusal> {
        let Some(is_test) = q.params.is_test else {
            return refuse(codes::ERROR, "tool old client");
        };
        if is_test != self.cfg.is_test {
            return refuse(codes::ERROR, "test mode mismatch");
        }
        let Ok(owner) = Address::parse(&q.params.client_owner_address).map(|p| p.address) else {
            return refuse(0, "Failed to parse account address");
        };
        if q.min_config_version as u32 > self.root.version {
            return refuse(codes::ERROR, "active config version is too low");
        }
        let Some(version) = choose_version(q.params.versions) else {
            return refuse(
                codes::PROTOVIOLATION,
                "cannot choose common protocol version",
            );
        };
        if self
            .books
            .clients
            .get(&owner)
            .is_some_and(|a| matches!(a.record.status, 1 | 2))
        {
            return refuse(codes::ERROR, "client is closing");
        }
        self.not_participating()?;
        let key = self.cfg.key.verifying_key().to_bytes();
        let sc = self
            .root
            .client_contract(self.sc, key, owner)
            .map_err(|e| (codes::FAILURE, e.to_string()))?
            .address;
        let nonce = loop {
            let n = self.draw_u64();
            let taken = self.links.values().any(|l| matches!(l, LinkState::Client(ClientLink { phase: ClientPhase::Auth { nonce, .. }, .. }) if *nonce == n));
            if !taken {
                break n;
            }
        };
        // The hash of the empty string is no secret, so such a client proves itself through the chain (11 #1).
        let secret = self
            .books
            .clients
            .get(&owner)
            .map(|a| a.record.secret_hash.clone());
        let auth = match secret.as_deref().and_then(payment::parse_hash) {
            Some(hash) if hash != [0; 32] && hash != payment::secret_hash(b"") => {
                client::ProxyConnectionAuthShort {
                    secret_hash: hash,
                    nonce: nonce as i64,
                }
                .into()
            }
            _ => client::ProxyConnectionAuthLong {
                nonce: nonce as i64,
            }
            .into(),
        };
        let signed = self
            .books
            .clients
            .contains_key(&owner)
            .then(|| self.client_payment(owner))
            .flatten();
        let data = proto::client_connected(
            &self.proxy_params(version),
            &self.cfg_text(sc),
            auth,
            signed,
        );
        if let Some(LinkState::Client(c)) = self.links.get_mut(&link) {
            c.version = version;
            c.phase = ClientPhase::Auth {
                owner,
                nonce,
                waiting: None,
                registered: false,
            };
        }
        self.reply(link, id, data);
        Ok(())
    }

    /// Completes authorization, answering the open query if there is one.
    pub(super) fn authorized(&mut self, link: LinkId, owner: Address, query: Option<i64>) {
        if let Err((_, text)) = self.ensure_client(owner) {
            self.close(link, text);
            return;
        }
        let status = self.client_status(owner);
        if let Some(id) = query {
            self.reply(link, id, proto::client_authorized(&status));
            if let Some(LinkState::Client(c)) = self.links.get_mut(&link) {
                c.phase = ClientPhase::Ok { owner };
            }
        }
    }

    /// The account of a client, made when the chain or a handshake first shows it.
    pub(super) fn ensure_client(&mut self, owner: Address) -> Result<(), Refusal> {
        if !self.books.clients.contains_key(&owner) {
            let key = self.cfg.key.verifying_key().to_bytes();
            let sc = self
                .root
                .client_contract(self.sc, key, owner)
                .map_err(|e| (codes::FAILURE, e.to_string()))?
                .address;
            let stake = self.root.params.min_client_stake;
            self.books.clients.insert(
                owner,
                ClientAccount {
                    sc,
                    record: ClientRecord {
                        stake,
                        ..Default::default()
                    },
                    tracker: CommitTracker::new(),
                    reserved: AdjustedTokens::ZERO,
                    running: 0,
                    payment: None,
                    pending: None,
                    last_active_ms: self.now,
                },
            );
            self.touch_client(owner);
        }
        Ok(())
    }

    pub(super) fn client_status(&mut self, owner: Address) -> PaymentStatus {
        let signed_payment = self.client_payment(owner);
        let (db, max) = self
            .books
            .clients
            .get(&owner)
            .map_or((0, 0), |a| (a.tracker.db().0, a.tracker.max().0));
        PaymentStatus {
            signed_payment,
            db_tokens: db,
            max_tokens: max,
        }
    }

    fn worker_types(&self) -> proto::WorkerTypes {
        let mut types: proto::WorkerTypes = self
            .models_seen
            .iter()
            .map(|m| (m.clone(), Vec::new()))
            .collect();
        for state in self.links.values() {
            if let LinkState::Worker(w) = state
                && w.phase == WorkerPhase::Ok
                && let Some(list) = types.get_mut(&w.model)
            {
                list.push(proto::WorkerInstance {
                    coefficient: w.coefficient.thousandths(),
                    active_requests: w.running,
                    max_active_requests: w.limit,
                    enabled: w.enabled && self.worker_allowed(w),
                });
            }
        }
        for list in types.values_mut() {
            list.sort_by_key(|i| i.coefficient);
        }
        types
    }

    // ---- workers ------------------------------------------------------------------------------

    /// Whether the root still lists this worker's image and model.
    pub(super) fn worker_allowed(&self, w: &WorkerLink) -> bool {
        !self.cfg.check_hashes
            || (self.root.worker_hashes.contains(&w.peer.image_hash)
                && self.root.allows_model(&w.full_model))
    }

    fn worker_query(&mut self, link: LinkId, id: i64, data: &[u8]) -> Result<(), Refusal> {
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
                    let model = w.model.clone();
                    self.models_seen.insert(model);
                }
                Ok(())
            }
            (WorkerPhase::Ok, WorkerQuery::UpdatePaymentStatus(_)) => {
                let status = self.worker_status(owner);
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
            w.owner = owner;
            w.model = base_model(&q.model).to_owned();
            w.full_model = q.model;
            w.coefficient = coefficient;
            w.limit = (basic.max_active_requests as u32).div_ceil(basic.proxy_cnt as u32);
        }
        self.reply(link, id, data);
        Ok(())
    }

    /// The account of a worker, made on its first visit.
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
            self.touch_worker(owner);
        }
        Ok(())
    }

    fn worker_compare(
        &mut self,
        link: LinkId,
        id: i64,
        owner: Address,
        q: &worker::CompareBalanceWithProxy,
    ) -> Result<(), Refusal> {
        let status = self.worker_status(owner);
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

    pub(super) fn worker_status(&mut self, owner: Address) -> PaymentStatus {
        let signed_payment = self.worker_payment(owner);
        let (db, max) = self
            .books
            .workers
            .get(&owner)
            .map_or((0, 0), |a| (a.tracker.db().0, a.tracker.max().0));
        PaymentStatus {
            signed_payment,
            db_tokens: db,
            max_tokens: max,
        }
    }

    fn worker_packet(&mut self, link: LinkId, data: &[u8]) {
        let Some(LinkState::Worker(w)) = self.links.get_mut(&link) else {
            return;
        };
        match proto::parse_worker_packet(data) {
            Ok(Some(FromWorker::Enabled(enabled))) => w.enabled = enabled,
            Ok(Some(FromWorker::Coefficient(c))) => match Coefficient::from_wire(i64::from(c)) {
                Ok(c) => w.coefficient = c,
                Err(e) => self.close(link, format!("the worker sent a wrong coefficient: {e}")),
            },
            Ok(Some(FromWorker::Answer(answer))) => self.on_answer(link, answer),
            Ok(None) => {}
            Err(e) => self.close(link, format!("malformed packet from a worker: {e}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_negotiated_as_in_3_4() {
        for (range, chosen) in [
            (None, Some(0)),
            (Some((0, 0)), Some(0)),
            (Some((1, 2)), Some(2)),
            (Some((0, 1)), Some(1)),
            (Some((1, 3)), Some(3)),
            (Some((2, 9)), Some(3)),
            (Some((4, 9)), None),
            (Some((-3, -1)), None),
        ] {
            let range = range.map(|(min, max)| VersionRange {
                min_proto_version: min,
                max_proto_version: max,
            });
            assert_eq!(choose_version(range), chosen, "{range:?}");
        }
    }
}
