//! Links of both kinds, how far their handshakes are, and what comes in on them (protocol.md 3.2 to 3.4, 4.1).

use cocoon_ledger::Coefficient;
use cocoon_ledger::health::Health;
use cocoon_ton::Address;
use cocoon_wire::codes;
use cocoon_wire::msg::common::VersionRange;

use super::core::{Phase, ProxyCore};
use super::stats::Recent;
use crate::link::{LinkId, PeerInfo};
use crate::proto;

/// Highest protocol version spoken here: 2 is the reference's, 3 adds cancellation between our own nodes.
pub const MAX_VERSION: i32 = 3;

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
    /// The proxy contract it was made under; none yet in the first phase.
    pub(super) contract: Option<Address>,
    /// Its contract takes no more work: closed from this time on, as soon as nothing runs.
    pub(super) leave_at_ms: Option<u64>,
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
    /// The proxy contract it was made under; none yet in the first phase.
    pub(super) contract: Option<Address>,
    /// Its contract takes no more work: closed from this time on, as soon as nothing runs.
    pub(super) leave_at_ms: Option<u64>,
    pub(super) peer: PeerInfo,
    pub(super) version: i32,
    pub(super) owner: Address,
    pub(super) full_model: String,
    pub(super) model: String,
    pub(super) coefficient: Coefficient,
    pub(super) limit: u32,
    pub(super) enabled: bool,
    pub(super) running: u32,
    pub(super) health: Health,
    pub(super) recent: Recent,
    pub(super) since_ms: u64,
}

impl LinkState {
    /// The proxy contract it was made under.
    pub(super) fn contract(&self) -> Option<Address> {
        match self {
            LinkState::Client(c) => c.contract,
            LinkState::Worker(w) => w.contract,
        }
    }

    /// When a link to an old contract is to end.
    pub(super) fn leave_at_ms(&self) -> Option<u64> {
        match self {
            LinkState::Client(c) => c.leave_at_ms,
            LinkState::Worker(w) => w.leave_at_ms,
        }
    }

    pub(super) fn new_client(_peer: PeerInfo, now: u64) -> Self {
        LinkState::Client(ClientLink {
            phase: ClientPhase::New,
            contract: None,
            leave_at_ms: None,
            version: 0,
            since_ms: now,
        })
    }

    pub(super) fn new_worker(peer: PeerInfo, now: u64) -> Self {
        LinkState::Worker(Box::new(WorkerLink {
            phase: WorkerPhase::New,
            contract: None,
            leave_at_ms: None,
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
            health: Health::new(),
            recent: Recent::default(),
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
pub(super) type Refusal = (i32, String);

pub(super) fn refuse<T>(code: i32, text: impl Into<String>) -> Result<T, Refusal> {
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
        match self.links.remove(&link) {
            Some(LinkState::Worker(w)) => {
                let owner = w.owner;
                self.remember(*w, link);
                self.fail_requests_of(link);
                self.forget_idle_worker(owner);
            }
            Some(LinkState::Client(_)) => self.fail_requests_of(link),
            None => {}
        }
    }

    /// The proxy contract a link was made under.
    pub(super) fn contract_of(&self, link: LinkId) -> Address {
        let made_under = self.links.get(&link).and_then(LinkState::contract);
        made_under.unwrap_or(self.sc)
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

    pub(super) fn not_participating(&self) -> Result<(), Refusal> {
        if self.disabled.is_some() || self.phase != Phase::Open {
            return refuse(
                codes::NOTREADY,
                "proxy is not participating in this iteration",
            );
        }
        Ok(())
    }

    pub(super) fn proxy_params(&self, version: i32) -> proto::ProxyParams {
        proto::ProxyParams {
            public_key: self.cfg.key.verifying_key().to_bytes(),
            owner: self.cfg.owner.to_text(true, self.cfg.testnet),
            sc: self.cfg_text(self.sc),
            is_test: self.cfg.is_test,
            version,
        }
    }

    /// Contract addresses travel non-bounceable, with the network's flag (3.1).
    pub(super) fn cfg_text(&self, address: Address) -> String {
        address.to_text(false, self.cfg.testnet)
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
