//! Following proxies to new contracts, and giving a client up.
//!
//! When the root's params change, every proxy gets a new contract sooner or later. Until a proxy has moved, its old
//! contract serves on; when it turns us away, requests without an answer yet wait for the new link instead of failing.
//! The old contract's ledger is kept until it is closed on chain, with everything paid back.

use cocoon_ton::{AccountState, Address, Cell};
use serde::{Deserialize, Serialize};

use super::core::ClientCore;
use super::links::no_proxy;
use super::types::{ClientEffect, ClientEvent};
use crate::api_error::ApiError;
use crate::link::LinkId;

/// Stands for the link of a request that waits for one.
pub(super) const NO_LINK: LinkId = LinkId(u64::MAX);
/// Record of what belongs to no proxy.
pub(super) const META: &str = "meta";
/// Links are left after as many windows: founding a contract takes some blocks.
const FOUNDING_WINDOWS: u64 = 2;
/// Between tries for requests that wait.
const UNPARK_MS: u64 = 500;
/// Coins attached to the message that fetches a closed contract's own coins.
pub(super) const SWEEP_VALUE: u128 = cocoon_exit::ATTACHED;
/// Coins of a closed contract that are worth a message, in nanoTON.
pub(super) const WORTH_SWEEPING: u128 = 100_000_000;
/// Least time between two questions for the root contract beside its poll.
const ROOT_PAUSE_MS: u64 = 2_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    closed: bool,
}

pub(super) fn meta_record(closed: bool) -> Vec<u8> {
    // One flag: serialising it cannot fail.
    serde_json::to_vec(&Meta { closed }).unwrap_or_default()
}

pub(super) fn closed_of(value: &[u8]) -> Option<bool> {
    serde_json::from_slice(value).ok().map(|m: Meta| m.closed)
}

/// What callers of a client are told that was given up.
pub(super) fn closed() -> ApiError {
    ApiError::new(
        503,
        "server_error",
        "client_closed",
        "the operator has closed this client and taken its deposit back; `POST /request/return` takes it into use again",
    )
}

/// The message that sends a closed contract's own coins to its owner.
pub(super) fn sweep(query_id: u64, wallet: Address) -> Option<Cell> {
    cocoon_exit::Action::Sweep.body(wallet, query_id).ok()
}

impl ClientCore {
    /// Whether proxies are moving to new contracts, so that no link now need not mean no link soon.
    pub(super) fn is_moving(&self) -> bool {
        let lately = |t: u64| self.now.saturating_sub(t) < self.cfg.settings.park_ms * 4;
        !self.closed
            && (self.turned_away_ms.is_some_and(lately)
                || self
                    .proxies
                    .values()
                    .any(|p| p.outdated_since_ms.is_some_and(lately)))
    }

    /// Whether the proxy behind a link may have moved on.
    pub(super) fn left_behind(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|l| l.version >= 3)
    }

    /// A proxy takes no more requests on this link: the next one will be for its new contract.
    pub(super) fn turned_away(&mut self, id: [u8; 32], link: LinkId) {
        self.turned_away_ms = Some(self.now);
        if let Some(l) = self.links.get_mut(&link) {
            l.ready = false;
            l.leave_ms = Some(self.now);
        }
        self.ask_root();
        self.park(id);
        self.unpark();
    }

    /// A request waits for a link, or for a deposit and workers behind it.
    pub(super) fn park(&mut self, id: [u8; 32]) {
        let Some(run) = self.requests.get_mut(&id) else {
            return;
        };
        let until = *run
            .patience_until
            .get_or_insert(self.now + self.cfg.settings.park_ms);
        let link = std::mem::replace(&mut run.link, NO_LINK);
        if let Some(l) = self.links.get_mut(&link) {
            l.running = l.running.saturating_sub(1);
        }
        self.parked.insert(id, until);
    }

    /// Sends waiting requests on the links that there are.
    pub(super) fn unpark(&mut self) {
        self.next_unpark_ms = self.now + UNPARK_MS;
        let waiting: Vec<[u8; 32]> = self.parked.keys().copied().collect();
        for id in waiting {
            let Some(wishes) = self.requests.get(&id).map(|r| r.request.wishes.clone()) else {
                self.parked.remove(&id);
                continue;
            };
            let link = self.best_link(&wishes, &[]);
            let Some(link) = link.filter(|l| self.has_deposit(*l)) else {
                return;
            };
            self.parked.remove(&id);
            self.send_request(id, link);
        }
    }

    /// Whether a request may still wait.
    pub(super) fn has_patience(&self, id: [u8; 32]) -> bool {
        let run = self.requests.get(&id);
        run.is_some_and(|r| r.patience_until.is_none_or(|t| self.now < t))
    }

    /// Whether our contract behind a link has something to pay with.
    fn has_deposit(&self, link: LinkId) -> bool {
        let record = self
            .links
            .get(&link)
            .and_then(|l| self.proxies.get(&l.proxy?));
        self.root.price().is_zero() || record.is_some_and(|p| p.contract.balance > 0)
    }

    /// A proxy knows a newer root contract than we do.
    pub(super) fn ask_root(&mut self) {
        if self.now >= self.root_asked_ms + ROOT_PAUSE_MS {
            self.root_asked_ms = self.now;
            self.fx.push(ClientEffect::ReadRoot);
        }
    }

    /// Gives links to outdated contracts a time to end at, each another (11 #38). Proxies need some time to found their
    /// new contracts, and serve meanwhile.
    pub(super) fn leave_outdated_links(&mut self) {
        let window = self.cfg.settings.roll_window_ms.max(1);
        let outdated: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, l)| l.leave_ms.is_none())
            .map(|(id, _)| *id)
            .collect();
        for link in outdated {
            let at = self.now + window * FOUNDING_WINDOWS + self.draw_u64() % window;
            if let Some(l) = self.links.get_mut(&link) {
                l.leave_ms = Some(at);
            }
        }
    }

    /// Ends waiting requests whose patience is over, and tries the others again.
    pub(super) fn review_links(&mut self) {
        let now = self.now;
        let given_up: Vec<[u8; 32]> = self
            .parked
            .iter()
            .filter(|(_, until)| now >= **until)
            .map(|(id, _)| *id)
            .collect();
        for id in given_up {
            self.fail(id, no_proxy());
        }
        if now >= self.next_unpark_ms {
            self.unpark();
        }
    }

    /// The operator gives the client up, or takes it into use again.
    pub(super) fn set_closed(&mut self, closed: bool) {
        if self.closed == closed {
            return;
        }
        self.closed = closed;
        self.touch_meta();
        if closed {
            let text = format!(
                "the client is closed: {} deposits are asked back, requests are refused",
                self.proxies.len()
            );
            self.fx.push(ClientEffect::Alarm(text));
            let now = self.now;
            for l in self.links.values_mut() {
                l.ready = false;
                l.leave_ms = Some(now);
            }
        }
        self.review();
    }
}

/// The event for what [`ClientEffect::ReadRoot`] found.
pub(super) fn root_event(root: crate::root::RootView) -> ClientEvent {
    ClientEvent::Root(Box::new(root))
}

/// Event of an account that is watched.
pub(super) fn seen(proxy_sc: Address, account: Address, state: AccountState) -> ClientEvent {
    let state = Box::new(state);
    if account == proxy_sc {
        ClientEvent::ProxyContract { proxy_sc, state }
    } else {
        ClientEvent::Contract { proxy_sc, state }
    }
}
