//! Following proxies to new contracts, and giving a worker up.

use serde::{Deserialize, Serialize};

use super::core::WorkerCore;
use super::types::WorkerEffect;
use crate::link::LinkId;
use crate::root::RootView;

/// Record of what belongs to no proxy.
pub(super) const META: &str = "meta";
/// Least time between two questions for the root contract beside its poll.
const ROOT_PAUSE_MS: u64 = 2_000;
/// Root configurations kept for requests on older contracts: more than ever live at a time.
const MAX_OLDER: usize = 4;

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

impl WorkerCore {
    /// Takes a newer root configuration, and keeps the one that running contracts were made from.
    pub(super) fn replace_root(&mut self, root: RootView) {
        let moved = root.params.params_version > self.root.params.params_version;
        let before = std::mem::replace(&mut self.root, root);
        if moved {
            self.older.push(before);
            if self.older.len() > MAX_OLDER {
                self.older.remove(0);
            }
        }
    }

    /// The root configuration that the contract behind a link was made from: its prices are those of the requests.
    pub(super) fn root_of(&self, link: LinkId) -> &RootView {
        let version = self
            .links
            .get(&link)
            .and_then(|l| self.accounts.get(l.account.as_ref()?))
            .map(|a| a.params_version);
        let older = |v: u32| self.older.iter().find(|r| r.params.params_version == v);
        version.and_then(older).unwrap_or(&self.root)
    }

    /// Contracts are made from one version of the parameters. Links to older ones serve on until their proxy moves,
    /// and some time at most; each another, so that nobody is left without workers at once (1.9, 11 #38).
    pub(super) fn mark_outdated(&mut self) {
        let (now, current) = (self.now, self.root.params.params_version);
        for (sc, a) in &mut self.accounts {
            if a.params_version < current && a.outdated_since_ms.is_none() {
                a.outdated_since_ms = Some(now);
                if a.kept {
                    self.dirty.insert(*sc);
                }
            }
        }
        let outdated: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, l)| {
                l.leave_at_ms.is_none()
                    && l.account
                        .and_then(|sc| self.accounts.get(&sc))
                        .is_some_and(|a| a.outdated_since_ms.is_some())
            })
            .map(|(link, _)| *link)
            .collect();
        for link in outdated {
            let at = match self.cfg.settings.outdated_grace_ms {
                0 => now,
                grace => now.saturating_add(self.jittered(grace)),
            };
            if let Some(l) = self.links.get_mut(&link) {
                l.leave_at_ms = Some(at);
            }
        }
        self.leave_outdated_links();
    }

    /// Takes links out of service whose time has come; they are closed when nothing runs on them any more.
    pub(super) fn leave_outdated_links(&mut self) {
        let now = self.now;
        let due: Vec<LinkId> = self
            .links
            .iter_mut()
            .filter(|(_, l)| !l.stale && l.leave_at_ms.is_some_and(|t| now >= t))
            .map(|(link, l)| {
                l.stale = true;
                *link
            })
            .collect();
        if due.is_empty() {
            return;
        }
        self.announce();
        for link in due {
            self.close_if_done(link);
        }
    }

    /// A proxy knows a newer root contract than we do.
    pub(super) fn ask_root(&mut self) {
        if self.now >= self.root_asked_ms.saturating_add(ROOT_PAUSE_MS) {
            self.root_asked_ms = self.now;
            self.fx.push(WorkerEffect::ReadRoot);
        }
    }

    /// The operator gives the worker up, or takes it into use again.
    pub(super) fn set_closed(&mut self, closed: bool) {
        if self.closed == closed {
            return;
        }
        self.closed = closed;
        self.dirty_meta = true;
        if closed {
            self.alarm(
                "the worker is closed: it takes no more requests, and fetches what it has earned",
            );
        }
        self.announce();
    }
}
