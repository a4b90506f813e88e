//! Links to proxies: handshake, authorization, payment status, worker lists (protocol.md 3.2–3.10).

use std::collections::BTreeMap;

use cocoon_ledger::health::Health;
use cocoon_ledger::{AdjustedTokens, Claims};
use cocoon_tl::{Flags, from_boxed, to_boxed};
use cocoon_ton::Address;
use cocoon_ton::abi::SignedOp;
use cocoon_wire::msg::client as msg;
use cocoon_wire::msg::common::VersionRange;
use cocoon_wire::msg::market;
use cocoon_wire::msg::proxy::Params;

use super::core::{ClientCore, Contract, ProxyRecord};
use super::exit::ExitCheck;
use super::types::{ClientEffect, ModelOffer, WorkerOffer};
use crate::api_error::ApiError;
use crate::claims::check_payment_key;
use crate::link::{AskError, LinkId, PeerInfo};
use crate::payment;
use crate::proto::{self, FromProxy, PaymentStatus};
use crate::proxy::MAX_VERSION;

/// Timeouts of protocol.md 10.
const CONNECT_MS: u64 = 30_000;
const AUTHORIZE_MS: u64 = 300_000;
const STATUS_MS: u64 = 60_000;
const LIST_MS: u64 = 10_000;

/// What an open query of ours is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Connect,
    Authorize,
    Status,
    List,
}

/// A link to a proxy.
#[derive(Debug)]
pub(super) struct Link {
    pub peer: PeerInfo,
    pub proxy: Option<Address>,
    pub version: i32,
    pub ready: bool,
    pub questions: BTreeMap<u64, Question>,
    pub next_status_ms: u64,
    pub running: u32,
    /// When it is renewed, after the root's parameters changed.
    pub leave_ms: Option<u64>,
    /// A request got no answer, and a question is out to see whether the proxy is alive.
    pub probed: bool,
}

impl Link {
    pub fn is_ready(&self) -> bool {
        self.ready
    }
}

impl ClientCore {
    pub(super) fn on_up(&mut self, link: LinkId, peer: &PeerInfo) {
        if self.closed {
            self.links.insert(link, new_link(peer));
            return self.close(link, "the operator has closed this client");
        }
        if self.cfg.check_hashes && !self.root.proxy_hashes.contains(&peer.image_hash) {
            self.links.insert(link, new_link(peer));
            self.close(
                link,
                format!(
                    "the proxy's image hash {} is not on the root contract's list",
                    hex::encode(peer.image_hash)
                ),
            );
            return;
        }
        let connect = msg::ConnectToProxy {
            params: msg::Params {
                flags: Flags::NONE,
                client_owner_address: self.cfg.wallet.to_text(false, self.cfg.testnet),
                is_test: Some(self.cfg.is_test),
                versions: Some(VersionRange {
                    min_proto_version: 1,
                    max_proto_version: MAX_VERSION,
                }),
            },
            min_config_version: self.root.version as i32,
        };
        let ticket = self.ask(link, to_boxed(&connect), CONNECT_MS);
        let mut l = new_link(peer);
        l.questions.insert(ticket, Question::Connect);
        self.links.insert(link, l);
    }

    /// Closes the links to proxies whose image is not on the root's list any longer.
    pub(super) fn expel_unlisted(&mut self) {
        if !self.cfg.check_hashes {
            return;
        }
        let unlisted: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, l)| !self.root.proxy_hashes.contains(&l.peer.image_hash))
            .map(|(link, _)| *link)
            .collect();
        for link in unlisted {
            self.close(link, "the proxy's image left the root contract's list");
        }
    }

    pub(super) fn on_down(&mut self, link: LinkId) {
        if let Some(gone) = self.links.remove(&link) {
            let lost: Vec<u64> = self
                .lists
                .iter()
                .filter(|(_, (l, _))| *l == link)
                .map(|(t, _)| *t)
                .collect();
            for ticket in lost {
                if let Some((_, caller)) = self.lists.remove(&ticket) {
                    self.fx.push(ClientEffect::Models(caller, Err(no_proxy())));
                }
            }
            self.link_lost(link, gone.proxy);
        }
    }

    pub(super) fn on_answer(
        &mut self,
        link: LinkId,
        ticket: u64,
        result: Result<Vec<u8>, AskError>,
    ) {
        let Some(question) = self
            .links
            .get_mut(&link)
            .and_then(|l| l.questions.remove(&ticket))
        else {
            return;
        };
        let outcome = match (question, result) {
            (Question::List, result) => {
                self.on_list(ticket, result);
                Ok(())
            }
            (_, Err(e)) => Err(e.to_string()),
            (Question::Connect, Ok(data)) => self.on_connected(link, &data),
            (Question::Authorize, Ok(data)) => self.on_authorized(link, &data),
            (Question::Status, Ok(data)) => {
                if let Some(l) = self.links.get_mut(&link) {
                    l.probed = false;
                }
                match from_boxed::<msg::PaymentStatus>(&data) {
                    Ok(s) => {
                        self.on_claims(link, s.signed_payment.boc(), s.db_tokens, s.max_tokens);
                        Ok(())
                    }
                    Err(e) => Err(format!("unreadable payment status: {e}")),
                }
            }
        };
        if let Err(reason) = outcome {
            self.close(link, format!("{question:?} failed: {reason}"));
        }
    }

    /// The checks of 3.3 at C, then authorization.
    fn on_connected(&mut self, link: LinkId, data: &[u8]) -> Result<(), String> {
        let m: msg::ConnectedToProxy = from_boxed(data).map_err(|e| e.to_string())?;
        let version = m.params.proto_version.unwrap_or(0);
        if !(0..=MAX_VERSION).contains(&version) {
            return Err(format!(
                "the proxy chose protocol version {version}, 0 to {MAX_VERSION} were possible"
            ));
        }
        let claimed = self.links.get(&link).and_then(|l| l.peer.claims.as_deref());
        check_payment_key(
            claimed.and_then(|claims| claims.payment_key),
            &m.params.proxy_public_key,
        )?;
        let sc = self.check_proxy(&m.params)?;
        let client_sc = self.parse_contract(&m.client_sc_address, "client")?;
        let expected = self
            .root
            .client_contract(sc, m.params.proxy_public_key, self.cfg.wallet)
            .map_err(|e| e.to_string())?;
        if client_sc != expected.address {
            return Err(format!(
                "the proxy names {client_sc} as our contract, by our root configuration it is {}",
                expected.address
            ));
        }
        let owner = Address::parse(&m.params.proxy_owner_address)
            .map_err(|e| e.to_string())?
            .address;
        if let Some(known) = self.proxies.get(&sc) {
            if known.public_key != m.params.proxy_public_key || known.client_sc != client_sc {
                return Err("the proxy changed its key or addresses".to_owned());
            }
        } else {
            let record = ProxyRecord {
                public_key: m.params.proxy_public_key,
                owner,
                sc,
                client_sc,
                claims: Claims::default(),
                payment: None,
                contract: Contract::first(self.cfg.contracts),
                outstanding: None,
                proxy_contract: None,
                exit: ExitCheck::default(),
                register: None,
                params_version: self.root.params.params_version,
                outdated_since_ms: None,
                swept: false,
                health: Health::new(),
            };
            self.proxies.insert(sc, record);
            self.touch(sc);
            self.fx.push(ClientEffect::Watch {
                proxy_sc: sc,
                address: client_sc,
            });
        }
        if let Some(l) = self.links.get_mut(&link) {
            l.proxy = Some(sc);
            l.version = version;
        }
        if let Some(boc) = m.signed_payment.boc() {
            self.take_payment(sc, boc);
        }
        let own_hash = payment::secret_hash(&self.cfg.secret);
        let (ask, nonce) = match m.auth {
            msg::ProxyConnectionAuth::Short(a) if a.secret_hash == own_hash => (
                to_boxed(&msg::AuthorizeWithProxyShort {
                    data: self.cfg.secret.clone(),
                }),
                None,
            ),
            msg::ProxyConnectionAuth::Short(a) => {
                (to_boxed(&msg::AuthorizeWithProxyLong {}), Some(a.nonce))
            }
            msg::ProxyConnectionAuth::Long(a) => {
                (to_boxed(&msg::AuthorizeWithProxyLong {}), Some(a.nonce))
            }
        };
        if let Some(nonce) = nonce
            && let Some(p) = self.proxies.get_mut(&sc)
        {
            p.register = Some(nonce as u64);
        }
        let ticket = self.ask(link, ask, AUTHORIZE_MS);
        if let Some(l) = self.links.get_mut(&link) {
            l.questions.insert(ticket, Question::Authorize);
        }
        self.review();
        Ok(())
    }

    /// Flags, test mode, and that the proxy contract is the one its key and owner give.
    fn check_proxy(&mut self, p: &Params) -> Result<Address, String> {
        if p.is_test.is_none() && p.proto_version.is_none() {
            return Err("too old proxy".to_owned());
        }
        if p.is_test.unwrap_or(false) != self.cfg.is_test {
            return Err("test mode mismatch".to_owned());
        }
        let sc = self.parse_contract(&p.proxy_sc_address, "proxy")?;
        let owner = Address::parse(&p.proxy_owner_address)
            .map_err(|e| e.to_string())?
            .address;
        let expected = self
            .root
            .proxy_contract(owner, p.proxy_public_key)
            .map_err(|e| e.to_string())?
            .address;
        if sc != expected {
            self.ask_root();
            return Err(format!(
                "the proxy names {sc} as its contract, by our root configuration it is {expected}"
            ));
        }
        Ok(sc)
    }

    /// A contract address of the proxy; form and network flag matter (3.1).
    fn parse_contract(&self, text: &str, what: &str) -> Result<Address, String> {
        let p = Address::parse(text).map_err(|e| format!("{what} contract address: {e}"))?;
        if p.bounceable || p.testnet != self.cfg.testnet {
            return Err(format!(
                "the {what} contract address must be non-bounceable with the flag of this network, found {text}"
            ));
        }
        Ok(p.address)
    }

    fn on_authorized(&mut self, link: LinkId, data: &[u8]) -> Result<(), String> {
        match from_boxed::<msg::AuthorizationWithProxy>(data).map_err(|e| e.to_string())? {
            msg::AuthorizationWithProxy::Failed(f) => {
                Err(format!("{} (code {})", f.error, f.error_code))
            }
            msg::AuthorizationWithProxy::Success(s) => {
                self.on_claims(
                    link,
                    s.signed_payment.boc(),
                    s.tokens_committed_to_db,
                    s.max_tokens,
                );
                let next = self.next_status();
                if let Some(l) = self.links.get_mut(&link) {
                    l.ready = true;
                    l.next_status_ms = next;
                    if let Some(p) = l.proxy.and_then(|sc| self.proxies.get_mut(&sc)) {
                        p.register = None;
                    }
                }
                self.unpark();
                Ok(())
            }
        }
    }

    fn next_status(&mut self) -> u64 {
        let base = self.cfg.settings.status_interval_ms.max(3);
        self.now + base * 2 / 3 + self.draw_u64() % (base * 2 / 3)
    }

    pub(super) fn ask_status(&mut self, link: LinkId, timeout_ms: u64) {
        let ticket = self.ask(link, to_boxed(&msg::UpdatePaymentStatus {}), timeout_ms);
        if let Some(l) = self.links.get_mut(&link) {
            l.questions.insert(ticket, Question::Status);
        }
    }

    pub(super) fn ask_statuses(&mut self) {
        let due: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, l)| l.ready && self.now >= l.next_status_ms)
            .map(|(id, _)| *id)
            .collect();
        for link in due {
            self.ask_status(link, STATUS_MS);
            let next = self.next_status();
            if let Some(l) = self.links.get_mut(&link) {
                l.next_status_ms = next;
            }
        }
    }

    pub(super) fn on_packet(&mut self, link: LinkId, data: &[u8]) {
        match proto::parse_packet_to_client(data) {
            Ok(Some(FromProxy::Answer(a))) => self.on_query_answer(link, a),
            Ok(Some(FromProxy::Payment(PaymentStatus {
                signed_payment,
                db_tokens,
                max_tokens,
            }))) => {
                self.on_claims(
                    link,
                    signed_payment.as_deref(),
                    db_tokens as i64,
                    max_tokens as i64,
                );
            }
            Ok(None) => {}
            Err(e) => self.close(link, format!("malformed packet from the proxy: {e}")),
        }
    }

    /// Raises the three amounts; lower ones are ignored (3.8).
    fn on_claims(&mut self, link: LinkId, boc: Option<&[u8]>, db: i64, max: i64) {
        let Some(sc) = self.links.get(&link).and_then(|l| l.proxy) else {
            return;
        };
        if let Some(boc) = boc {
            self.take_payment(sc, boc);
        }
        let tokens = |n: i64| AdjustedTokens(n.max(0).unsigned_abs());
        if let Some(p) = self.proxies.get_mut(&sc)
            && p.claims
                .merge(Claims::raised(p.claims.signed(), tokens(db), tokens(max)))
        {
            self.touch(sc);
        }
    }

    /// Keeps a payment if it is valid and newer; others are dropped with a note.
    fn take_payment(&mut self, sc: Address, boc: &[u8]) {
        let Some(p) = self.proxies.get_mut(&sc) else {
            return;
        };
        match payment::check(boc, SignedOp::ClientCharge, p.client_sc, &p.public_key) {
            Ok(tokens) => {
                let signed = AdjustedTokens(tokens);
                if signed > p.claims.signed() || p.payment.is_none() {
                    p.claims
                        .merge(Claims::raised(signed, p.claims.db(), p.claims.max()));
                    p.payment = Some(boc.to_vec());
                    self.touch(sc);
                }
            }
            Err(e) => self.fx.push(ClientEffect::Alarm(format!(
                "proxy {sc} sent a worthless payment: {e}"
            ))),
        }
    }

    // ---- lists --------------------------------------------------------------------------------

    pub(super) fn on_models(&mut self, caller: u64) {
        let Some((link, version)) = self
            .links
            .iter()
            .find(|(_, l)| l.ready)
            .map(|(id, l)| (*id, l.version))
        else {
            self.fx.push(ClientEffect::Models(caller, Err(no_proxy())));
            return;
        };
        let data = if version == 0 {
            to_boxed(&msg::GetWorkerTypes {})
        } else if version >= 3 {
            to_boxed(&market::GetWorkerTypesV3 {})
        } else {
            to_boxed(&msg::GetWorkerTypesV2 {})
        };
        let ticket = self.ask(link, data, LIST_MS);
        if let Some(l) = self.links.get_mut(&link) {
            l.questions.insert(ticket, Question::List);
        }
        self.lists.insert(ticket, (link, caller));
    }

    fn on_list(&mut self, ticket: u64, result: Result<Vec<u8>, AskError>) {
        let Some((link, caller)) = self.lists.remove(&ticket) else {
            return;
        };
        let version = self.links.get(&link).map_or(0, |l| l.version);
        let offers = match result {
            Err(e) => Err(ApiError::new(
                504,
                "server_error",
                "timeout",
                format!("the proxy gave no list of models: {e}"),
            )),
            Ok(data) => read_list(version, &data).map_err(|e| {
                ApiError::new(
                    502,
                    "server_error",
                    "bad_proxy",
                    format!("the proxy's list of models is unreadable: {e}"),
                )
            }),
        };
        self.fx.push(ClientEffect::Models(caller, offers));
    }
}

fn new_link(peer: &PeerInfo) -> Link {
    Link {
        peer: peer.clone(),
        proxy: None,
        version: 0,
        ready: false,
        questions: BTreeMap::new(),
        next_status_ms: u64::MAX,
        running: 0,
        leave_ms: None,
        probed: false,
    }
}

pub(super) fn no_proxy() -> ApiError {
    ApiError::new(
        503,
        "server_error",
        "no_proxy",
        "no proxy is connected and ready yet; `cocoon status` shows what it waits for, try again in a few seconds",
    )
}

fn read_list(version: i32, data: &[u8]) -> Result<Vec<ModelOffer>, cocoon_tl::TlError> {
    if version == 0 {
        let list: msg::WorkerTypes = from_boxed(data)?;
        return Ok(list
            .types
            .into_iter()
            .map(|t| ModelOffer {
                id: t.name,
                workers: Vec::new(),
            })
            .collect());
    }
    let positive = |n: i32| n.max(0).unsigned_abs();
    if version >= 3 {
        let list: market::WorkerTypesV3 = from_boxed(data)?;
        let offer = |w: market::WorkerInstanceV3| WorkerOffer {
            coefficient: positive(w.coefficient),
            running_requests: positive(w.active_requests),
            max_running_requests: positive(w.max_active_requests),
            owner: Some(w.owner_address),
            first_byte_ms: w.first_byte_ms.map(positive),
            tokens_per_second: w
                .token_us
                .filter(|us| *us > 0)
                .map(|us| (1e7 / f64::from(us)).round() / 10.0),
            error_rate: Some(f64::from(w.failed_permille) / 1000.0),
        };
        let model = |t: market::WorkerTypeV3| ModelOffer {
            id: t.name,
            workers: t.workers.into_iter().map(offer).collect(),
        };
        return Ok(list.types.into_iter().map(model).collect());
    }
    let list: msg::WorkerTypesV2 = from_boxed(data)?;
    let offer = |w: msg::WorkerInstanceV2| WorkerOffer {
        coefficient: positive(w.coefficient),
        running_requests: positive(w.active_requests),
        max_running_requests: positive(w.max_active_requests),
        owner: None,
        first_byte_ms: None,
        tokens_per_second: None,
        error_rate: None,
    };
    Ok(list
        .types
        .into_iter()
        .map(|t| ModelOffer {
            id: t.name,
            workers: t.workers.into_iter().map(offer).collect(),
        })
        .collect())
}
