//! Handshakes as the dialler, checks of the proxy, and status queries: protocol.md 3.3, 4.1–4.4.

use cocoon_ledger::claims::ComparisonStep;
use cocoon_ledger::{AdjustedTokens, Claims, Coefficient};
use cocoon_tl::{Flags, from_boxed, to_boxed};
use cocoon_ton::Address;
use cocoon_wire::msg::common::VersionRange;
use cocoon_wire::msg::worker;

use super::account::{OnChain, ProxyAccount};
use super::core::{Held, Phase, WorkerCore};
use super::types::WorkerEffect;
use crate::claims::check_payment_key;
use crate::link::{AskError, LinkEffect, LinkId, PeerInfo};

/// Versions offered: 2 is the reference's, 3 adds cancellation between our own nodes.
const VERSIONS: VersionRange = VersionRange {
    min_proto_version: 1,
    max_proto_version: crate::proxy::MAX_VERSION,
};
/// Every handshake step (4.1).
const STEP_TIMEOUT_MS: u64 = 30_000;
/// The payment status (4.3).
const STATUS_TIMEOUT_MS: u64 = 60_000;
/// Proxies remembered at once: each new one costs a deployment, and the registry is far smaller.
const MAX_ACCOUNTS: usize = 4096;

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `worker.connectToProxy` is asked.
    Connect,
    /// `worker.compareBalanceWithProxy` is asked.
    Compare,
    /// `worker.extendedCompareBalanceWithProxy` is asked; the proxy's lower total.
    Extend(AdjustedTokens),
    /// Waiting for the disk.
    Saving,
    /// `worker.proxyHandshakeComplete` is asked.
    Complete,
    /// In service.
    Ready,
}

/// A connection to a proxy.
pub(super) struct ProxyLink {
    pub peer: PeerInfo,
    pub step: Step,
    /// The open question.
    pub ticket: Option<u64>,
    /// Our contract with the proxy, once it is checked.
    pub account: Option<Address>,
    pub version: i32,
    /// What the proxy has shown on this link: packets keep their order within a link only, so this, and not the
    /// record that several links share, is what its later packets must not fall behind.
    pub floor: Claims,
    pub next_status_ms: u64,
    pub told_open: Option<bool>,
    pub told_coefficient: Coefficient,
    /// The contract belongs to outdated parameters: no new requests, closed when the last one ends.
    pub stale: bool,
    /// Its contract is outdated: stale from this time on.
    pub leave_at_ms: Option<u64>,
}

impl ProxyLink {
    pub fn is_ready(&self) -> bool {
        self.step == Step::Ready
    }

    /// Requests and payments may come as soon as the proxy may have answered the last step: the answer and the
    /// packets behind it reach us on different ways.
    pub fn takes_packets(&self) -> bool {
        matches!(self.step, Step::Complete | Step::Ready)
    }
}

/// `worker.enabledDisabled`.
pub(super) fn enabled_disabled(open: bool) -> Vec<u8> {
    to_boxed(&worker::EnabledDisabled {
        disabled: i32::from(!open),
    })
}

pub(super) fn wire(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn tokens_to_wire(t: AdjustedTokens) -> i64 {
    t.to_wire().unwrap_or(i64::MAX)
}

impl WorkerCore {
    pub(super) fn on_up(&mut self, link: LinkId, peer: PeerInfo) {
        if self.phase != Phase::Serving {
            self.fx.push(WorkerEffect::Link(LinkEffect::Close {
                link,
                reason: "the worker shuts down".into(),
            }));
            return;
        }
        let trusted = !self.cfg.check_hashes || self.root.proxy_hashes.contains(&peer.image_hash);
        let hash = hex::encode(peer.image_hash);
        self.links.insert(
            link,
            ProxyLink {
                peer,
                step: Step::Connect,
                ticket: None,
                account: None,
                version: 0,
                floor: Claims::default(),
                next_status_ms: 0,
                told_open: None,
                told_coefficient: self.coefficient,
                stale: false,
                leave_at_ms: None,
            },
        );
        if !trusted {
            self.close(
                link,
                format!("the proxy's image hash {hash} is not in the root contract's list"),
            );
            return;
        }
        let hello = worker::ConnectToProxy {
            params: worker::Params {
                flags: Flags::NONE,
                worker_owner_address: self.cfg.owner.to_text(false, self.cfg.testnet),
                model: self.cfg.model.clone(),
                coefficient: wire(self.coefficient.thousandths()),
                setup: Some(worker::WorkerSetup {
                    is_test: self.cfg.is_test,
                    proxy_cnt: wire(self.cfg.proxy_connections),
                    max_active_requests: wire(self.cfg.max_active_requests),
                }),
                versions: Some(VERSIONS),
            },
        };
        self.ask(link, Step::Connect, to_boxed(&hello), STEP_TIMEOUT_MS);
    }

    fn ask(&mut self, link: LinkId, step: Step, data: Vec<u8>, timeout_ms: u64) {
        let ticket = self.ticket();
        if let Some(l) = self.links.get_mut(&link) {
            l.step = step;
            l.ticket = Some(ticket);
            self.fx.push(WorkerEffect::Link(LinkEffect::Ask {
                link,
                ticket,
                data,
                timeout_ms,
            }));
        }
    }

    pub(super) fn on_answer(
        &mut self,
        link: LinkId,
        ticket: u64,
        result: Result<Vec<u8>, AskError>,
    ) {
        let Some(l) = self.links.get_mut(&link) else {
            return;
        };
        if l.ticket.take_if(|t| *t == ticket).is_none() {
            return;
        }
        let step = l.step;
        let done = result
            .map_err(|e| e.to_string())
            .and_then(|data| match step {
                Step::Connect => self.on_connected(link, &data),
                Step::Compare => self.on_compared(link, &data),
                Step::Extend(max) => self.on_extended(link, max, &data),
                Step::Complete => self.on_completed(link, &data),
                Step::Ready => self.on_status(link, &data),
                Step::Saving => Ok(()),
            });
        if let Err(reason) = done {
            let doing = match step {
                Step::Connect => "the handshake with the proxy",
                Step::Compare | Step::Extend(_) => "comparing amounts with the proxy",
                Step::Saving | Step::Complete => "completing the handshake",
                Step::Ready => "asking the proxy for the payment status",
            };
            self.close(link, format!("{doing} failed: {reason}"));
        }
    }

    /// The checks of 3.3 at the worker; then the amounts are compared.
    fn on_connected(&mut self, link: LinkId, data: &[u8]) -> Result<(), String> {
        let answer: worker::ConnectedToProxy = from_boxed(data).map_err(|e| e.to_string())?;
        let p = answer.params;
        if p.is_test.is_none() && p.proto_version.is_none() {
            return Err("too old proxy".into());
        }
        let is_test = p.is_test.unwrap_or(false);
        if is_test != self.cfg.is_test {
            return Err(format!(
                "test mode mismatch: expected {}, found {is_test}",
                self.cfg.is_test
            ));
        }
        let version = p.proto_version.unwrap_or(0);
        if !(0..=VERSIONS.max_proto_version).contains(&version) {
            return Err(format!(
                "the proxy chose protocol version {version}, offered were {} to {}",
                VERSIONS.min_proto_version, VERSIONS.max_proto_version
            ));
        }
        let proxy_owner = Address::parse(&p.proxy_owner_address)
            .map_err(|e| format!("proxy_owner_address: {e}"))?
            .address;
        let proxy = self.contract_address("proxy_sc_address", &p.proxy_sc_address)?;
        let contract = self.contract_address("worker_sc_address", &answer.worker_sc_address)?;
        let key = p.proxy_public_key;
        let claimed = self.links.get(&link).and_then(|l| l.peer.claims.as_deref());
        check_payment_key(claimed.and_then(|c| c.payment_key), &key)?;
        let known = self
            .accounts
            .iter()
            .find(|(_, a)| a.proxy == proxy && a.owner == self.cfg.owner);
        if let Some((sc, account)) = known {
            if account.proxy_key != key {
                return Err(format!("the key of proxy {proxy} changed"));
            }
            if *sc != contract {
                return Err(format!(
                    "the worker contract at proxy {proxy} changed: expected {sc}, found {contract}"
                ));
            }
        } else {
            self.check_new_proxy(proxy_owner, key, proxy, contract)?;
        }
        let Some(account) = self.accounts.get(&contract) else {
            return Ok(());
        };
        if account.outdated_since_ms.is_some() {
            return Err("the proxy's contract belongs to outdated root parameters".into());
        }
        if account.chain == Some(OnChain::Closed) {
            return Err("our contract with this proxy is closed: nothing could be earned".into());
        }
        let claims = account.claims;
        if let Some(l) = self.links.get_mut(&link) {
            l.version = version;
            l.account = Some(contract);
            l.floor = claims;
        }
        let compare = worker::CompareBalanceWithProxy {
            tokens_committed_to_blockchain: tokens_to_wire(claims.signed()),
            tokens_committed_to_db: tokens_to_wire(claims.db()),
            max_tokens: tokens_to_wire(claims.max()),
        };
        self.ask(link, Step::Compare, to_boxed(&compare), STEP_TIMEOUT_MS);
        Ok(())
    }

    /// Contract addresses are compared with their flags: non-bounceable, with the network's (3.1).
    fn contract_address(&self, field: &str, text: &str) -> Result<Address, String> {
        let parsed = Address::parse(text).map_err(|e| format!("{field}: {e}"))?;
        if parsed.bounceable || parsed.testnet != self.cfg.testnet {
            return Err(format!(
                "{field} has the wrong flags: expected {}, found {}",
                parsed.address.to_text(false, self.cfg.testnet),
                text.chars()
                    .take(cocoon_ton::address::MAX_ADDRESS_CHARS)
                    .collect::<String>()
            ));
        }
        Ok(parsed.address)
    }

    /// A proxy met for the first time: both contracts must be those that follow from root, owners and key.
    fn check_new_proxy(
        &mut self,
        proxy_owner: Address,
        key: [u8; 32],
        proxy: Address,
        contract: Address,
    ) -> Result<(), String> {
        let expected = self
            .root
            .proxy_contract(proxy_owner, key)
            .map_err(|e| e.to_string())?;
        if expected.address != proxy {
            self.ask_root();
            return Err(format!(
                "the proxy's contract does not follow from its owner and key: expected {}, found {proxy}; one side may hold an older root contract",
                expected.address
            ));
        }
        let init = self
            .root
            .worker_contract(proxy, key, self.cfg.owner)
            .map_err(|e| e.to_string())?;
        if init.address != contract {
            return Err(format!(
                "the proxy computed another worker contract: expected {}, found {contract}",
                init.address
            ));
        }
        if self.accounts.len() >= MAX_ACCOUNTS {
            return Err(format!("{MAX_ACCOUNTS} proxies are remembered already"));
        }
        let account = ProxyAccount::new(&self.root, self.cfg.owner, proxy, key, &init, self.now);
        self.accounts.insert(contract, account);
        Ok(())
    }

    fn on_compared(&mut self, link: LinkId, data: &[u8]) -> Result<(), String> {
        let r: worker::CompareBalanceWithProxyResult =
            from_boxed(data).map_err(|e| e.to_string())?;
        // Even an amount of zero is signed (4.3).
        let boc = r.signed_payment.boc().ok_or("no signed payment is shown")?;
        let heard = self.heard(link, Some(boc), r.tokens_committed_to_db, r.max_tokens)?;
        let Some(l) = self.links.get_mut(&link) else {
            return Ok(());
        };
        let step = match l.floor.compare(heard, r.error_code) {
            Ok(step) => step,
            Err(e) => return Err(self.rolled_back(link, e)),
        };
        match step {
            ComparisonStep::Complete => {
                self.learn(link, Some(boc), heard);
                self.ready_to_complete(link);
            }
            ComparisonStep::Extended => {
                let db = l.floor.db();
                let extended = worker::ExtendedCompareBalanceWithProxy {
                    tokens_committed_to_db: tokens_to_wire(db),
                    other: Vec::new(),
                };
                self.learn(link, Some(boc), heard);
                let step = Step::Extend(heard.max());
                self.ask(link, step, to_boxed(&extended), STEP_TIMEOUT_MS);
            }
        }
        Ok(())
    }

    /// The proxy lost totals it had never saved: its lower one is taken over (4.3).
    fn on_extended(
        &mut self,
        link: LinkId,
        max: AdjustedTokens,
        data: &[u8],
    ) -> Result<(), String> {
        let r: worker::ExtendedCompareBalanceWithProxyResult =
            from_boxed(data).map_err(|e| e.to_string())?;
        if r.error_code != 0 {
            return Err(format!(
                "the extended comparison ended with code {}",
                r.error_code
            ));
        }
        let Some(l) = self.links.get_mut(&link) else {
            return Ok(());
        };
        let before = l.floor.max();
        l.floor.accept_lower_max(max);
        if let Some(sc) = l.account
            && let Some(a) = self.accounts.get_mut(&sc)
            // Another link may have brought news meanwhile.
            && a.claims.max() == before
        {
            a.claims.accept_lower_max(max);
            self.touch(sc);
        }
        self.ready_to_complete(link);
        Ok(())
    }

    fn ready_to_complete(&mut self, link: LinkId) {
        let Some(l) = self.links.get_mut(&link) else {
            return;
        };
        l.step = Step::Saving;
        if let Some(sc) = l.account
            && self.accounts.get(&sc).is_some_and(|a| !a.kept)
        {
            self.touch(sc);
        }
        self.after_save(Held::Complete(link));
    }

    pub(super) fn complete_handshake(&mut self, link: LinkId) {
        let open = self.serving();
        let Some(l) = self.links.get_mut(&link) else {
            return;
        };
        if l.step != Step::Saving {
            return;
        }
        l.told_open = Some(open);
        let complete = worker::ProxyHandshakeComplete { is_disabled: !open };
        self.ask(link, Step::Complete, to_boxed(&complete), STEP_TIMEOUT_MS);
    }

    fn on_completed(&mut self, link: LinkId, data: &[u8]) -> Result<(), String> {
        from_boxed::<worker::ProxyHandshakeCompleted>(data).map_err(|e| e.to_string())?;
        let wait = self.jittered(self.cfg.settings.status_interval_ms);
        if let Some(l) = self.links.get_mut(&link) {
            l.step = Step::Ready;
            l.next_status_ms = self.now + wait;
            // Said again, because a change during the last step was not told (11 #36a).
            l.told_open = None;
        }
        self.announce();
        self.close_if_done(link);
        Ok(())
    }

    /// Asks every link in service for the payment status, each at its own pace (4.3).
    pub(super) fn ask_status(&mut self) {
        let now = self.now;
        let due: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, l)| l.is_ready() && l.ticket.is_none() && now >= l.next_status_ms)
            .map(|(link, _)| *link)
            .collect();
        for link in due {
            let wait = self.jittered(self.cfg.settings.status_interval_ms);
            if let Some(l) = self.links.get_mut(&link) {
                l.next_status_ms = now + wait;
            }
            let data = to_boxed(&worker::UpdatePaymentStatus {});
            self.ask(link, Step::Ready, data, STATUS_TIMEOUT_MS);
        }
    }

    fn on_status(&mut self, link: LinkId, data: &[u8]) -> Result<(), String> {
        let r: worker::PaymentStatus = from_boxed(data).map_err(|e| e.to_string())?;
        let boc = r.signed_payment.boc();
        let heard = self.heard(link, boc, r.db_tokens, r.max_tokens)?;
        self.learn(link, boc, heard);
        Ok(())
    }

    pub(super) fn on_down(&mut self, link: LinkId) {
        let Some(l) = self.links.remove(&link) else {
            return;
        };
        self.cancel_requests_of(link, l.account);
        // A proxy that never showed a valid payment leaves no trace.
        if let Some(sc) = l.account
            && self.accounts.get(&sc).is_some_and(|a| !a.kept)
            && !self.links.values().any(|other| other.account == Some(sc))
        {
            self.accounts.remove(&sc);
        }
    }

    /// Closes a link to an outdated contract once nothing runs on it any more.
    pub(super) fn close_if_done(&mut self, link: LinkId) {
        if self.links.get(&link).is_some_and(|l| l.stale)
            && !self.requests.values().any(|r| r.link == link)
        {
            self.close(link, "the root contract has newer parameters");
        }
    }
}
