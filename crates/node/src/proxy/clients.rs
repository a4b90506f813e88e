//! Handshakes, authorization and status queries of clients: protocol.md 3.3 to 3.5, 3.8 and 3.10.

use cocoon_ledger::{AdjustedTokens, CommitTracker};
use cocoon_tl::from_boxed;
use cocoon_ton::Address;
use cocoon_wire::codes;
use cocoon_wire::msg::client::{self, ClientQuery};

use super::accounts::{ClientAccount, ClientRecord};
use super::core::ProxyCore;
use super::links::{
    ClientLink, ClientPhase, LinkState, Refusal, WorkerPhase, choose_version, refuse,
};
use crate::link::LinkId;
use crate::payment;
use crate::proto::{self, PaymentStatus};
use crate::settlement::ChainMode;

/// What a client can pay for where nothing is paid: 10⁶ TON at a price of 1 nanoTON (9.4).
const ASSUMED_TOKENS: u128 = 1_000_000_000_000_000;

impl ProxyCore {
    pub(super) fn client_query(
        &mut self,
        link: LinkId,
        id: i64,
        data: &[u8],
    ) -> Result<(), Refusal> {
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
                // Without a chain there is nothing to wait for (9.4).
                if registered || self.cfg.contracts == ChainMode::Assumed {
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
                let public = secret.is_empty() && self.cfg.contracts == ChainMode::Live;
                if public
                    || known.as_deref() != Some(hex::encode(payment::secret_hash(&secret)).as_str())
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
                let contract = self.contract_of(link);
                let status = self.client_status(contract, owner);
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
            (ClientPhase::Ok { .. }, Ok(ClientQuery::GetWorkerTypesV3(_))) => {
                let list = self.worker_types();
                self.reply(link, id, proto::worker_types_v3(&list));
                Ok(())
            }
            (
                _,
                Ok(
                    ClientQuery::GetWorkerTypes(_)
                    | ClientQuery::GetWorkerTypesV2(_)
                    | ClientQuery::GetWorkerTypesV3(_),
                ),
            ) => {
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
        if self.cfg.contracts == ChainMode::Assumed {
            self.ensure_client(owner)?;
        }
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
            Some(secret_hash) if self.cfg.contracts == ChainMode::Assumed => {
                client::ProxyConnectionAuthShort {
                    secret_hash,
                    nonce: 0,
                }
                .into()
            }
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
            .then(|| self.client_payment(self.sc, owner))
            .flatten();
        let data = proto::client_connected(
            &self.proxy_params(version),
            &self.cfg_text(sc),
            auth,
            signed,
        );
        if let Some(LinkState::Client(c)) = self.links.get_mut(&link) {
            c.version = version;
            c.contract = Some(self.sc);
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
        let status = self.client_status(self.sc, owner);
        if let Some(id) = query {
            self.reply(link, id, proto::client_authorized(&status));
            if let Some(LinkState::Client(c)) = self.links.get_mut(&link) {
                c.phase = ClientPhase::Ok { owner };
            }
        }
    }

    /// The account of a client, made when the chain or a handshake first shows it.
    pub(super) fn ensure_client(&mut self, owner: Address) -> Result<(), Refusal> {
        self.ensure_client_at(self.sc, owner)
    }

    /// The same at one of our contracts: somebody may pay into an old one before it is closed.
    pub(super) fn ensure_client_at(&mut self, at: Address, owner: Address) -> Result<(), Refusal> {
        if self.client_at(at, owner).is_none() {
            let key = self.cfg.key.verifying_key().to_bytes();
            let sc = self
                .view_of(at)
                .client_contract(at, key, owner)
                .map_err(|e| (codes::FAILURE, e.to_string()))?
                .address;
            let stake = self.root.params.min_client_stake;
            let record = match self.cfg.contracts {
                ChainMode::Live => ClientRecord {
                    stake,
                    ..Default::default()
                },
                ChainMode::Assumed => ClientRecord {
                    stake,
                    // So many tokens whatever they cost (9.4).
                    balance: self.root.price().0.saturating_mul(ASSUMED_TOKENS),
                    secret_hash: hex::encode(payment::secret_hash(b"")),
                    ..Default::default()
                },
            };
            let clients = match self.old.get_mut(&at) {
                Some(old) => &mut old.clients,
                None => &mut self.books.clients,
            };
            clients.insert(
                owner,
                ClientAccount {
                    sc,
                    record,
                    tracker: CommitTracker::new(),
                    reserved: AdjustedTokens::ZERO,
                    running: 0,
                    payment: None,
                    pending: None,
                    last_active_ms: self.now,
                },
            );
            self.touch_client_at(at, owner);
        }
        Ok(())
    }

    pub(super) fn client_status(&mut self, contract: Address, owner: Address) -> PaymentStatus {
        let signed_payment = self.client_payment(contract, owner);
        let (db, max) = self
            .client_at(contract, owner)
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
                && w.leave_at_ms.is_none()
                && let Some(list) = types.get_mut(&w.model)
            {
                let ms = |v: Option<f64>, factor: f64| v.map(|v| (v * factor) as u32);
                list.push(proto::WorkerInstance {
                    owner: self.cfg_text(w.owner),
                    failed_permille: (w.health.error_rate(self.now) * 1000.0) as u32,
                    first_byte_ms: ms(w.health.first_byte_ms(), 1.0),
                    token_us: ms(w.health.token_ms(), 1000.0),
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
}
