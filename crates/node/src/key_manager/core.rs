//! The key manager's state machine: which keys there are, and who gets them.
//!
//! Nothing here reads a clock, a socket or a random source. A key is given away only when it is on disk: after a crash
//! nobody holds one that the store does not know.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_attest::SecretKey;
use cocoon_tl::{from_boxed, to_boxed};
use cocoon_wire::codes;
use cocoon_wire::msg::key_manager::{KeyManagerQuery, PrivateKey, PrivateKeys};
use serde_json::{Value, json};
use zeroize::Zeroize;

use super::record::{self, CONFIG, Key, LISTS, Lists, RecordsError};
use super::types::{
    Audience, Done, KeyManagerConfig, KeyManagerEffect, KeyManagerEvent, LIFE, MAX_KEYS,
    MAX_WAITING, ROTATE_AHEAD,
};
use crate::link::{LinkEffect, LinkEvent, LinkId, PeerInfo};
use crate::root::RootView;

/// Why a random number was asked for.
struct Wanted {
    audience: Audience,
    ticket: Option<u64>,
}

/// A batch on its way to disk.
struct SavePoint {
    number: u64,
    /// Keys that everybody may know once it is there.
    keys: Vec<[u8; 32]>,
    /// What operators wait for.
    done: Vec<(u64, Done)>,
}

/// A question that waits for a key to be on disk.
struct Waiting {
    link: LinkId,
    id: i64,
    /// Judged again when it is answered.
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
struct Counters {
    queries: u64,
    success: u64,
    failed: u64,
}

/// The key manager.
pub struct KeyManagerCore {
    cfg: KeyManagerConfig,
    root: RootView,
    keys: BTreeMap<[u8; 32], Key>,
    peers: BTreeMap<LinkId, PeerInfo>,
    waiting: Vec<Waiting>,
    draws: BTreeMap<u64, Wanted>,
    next_draw: u64,
    /// Names of records that differ from the disk.
    changed: BTreeSet<String>,
    done: Vec<(u64, Done)>,
    saving: Option<SavePoint>,
    save_no: u64,
    ready: bool,
    draining: bool,
    drained: bool,
    counters: Counters,
    now: u64,
    fx: Vec<KeyManagerEffect>,
}

impl KeyManagerCore {
    /// A key manager with what it remembers. A root configuration older than one it has seen is refused.
    pub fn new(
        cfg: KeyManagerConfig,
        root: RootView,
        records: Vec<(String, Vec<u8>)>,
        now_ms: u64,
    ) -> Result<Self, RecordsError> {
        let stored = record::decode(records)?;
        if let Some(seen) = stored.version
            && i64::from(root.version) < i64::from(seen)
        {
            return Err(RecordsError::OldRoot {
                stored: seen,
                found: root.version,
            });
        }
        let mut core = KeyManagerCore {
            cfg,
            root,
            keys: stored.keys,
            peers: BTreeMap::new(),
            waiting: Vec::new(),
            draws: BTreeMap::new(),
            next_draw: 0,
            changed: BTreeSet::new(),
            done: Vec::new(),
            saving: None,
            save_no: 0,
            ready: false,
            draining: false,
            drained: false,
            counters: Counters::default(),
            now: now_ms / 1000,
            fx: Vec::new(),
        };
        let lists = Lists::of(&core.root);
        if let Some(before) = &stored.lists {
            core.end_keys_of_left(before, &lists);
        }
        if stored.lists.as_ref() != Some(&lists) {
            core.changed.insert(LISTS.to_owned());
        }
        if stored.version != i32::try_from(core.root.version).ok() {
            core.changed.insert(CONFIG.to_owned());
        }
        core.step();
        Ok(core)
    }

    /// Takes what the constructor already wants done.
    pub fn take_effects(&mut self) -> Vec<KeyManagerEffect> {
        std::mem::take(&mut self.fx)
    }

    /// What an event means.
    pub fn handle(&mut self, now_ms: u64, event: KeyManagerEvent) -> Vec<KeyManagerEffect> {
        self.now = now_ms / 1000;
        match event {
            KeyManagerEvent::Link(event) => self.link(event),
            KeyManagerEvent::Tick => {}
            KeyManagerEvent::Root(root) => self.new_root(*root),
            KeyManagerEvent::Drawn { draw, seed } => self.drawn(draw, seed),
            KeyManagerEvent::Generate { ticket, audience } => self.generate(ticket, audience),
            KeyManagerEvent::Remove { ticket, public } => match self.end_key(&public) {
                true => self.done.push((ticket, Done::Removed(public))),
                false => self.report(ticket, Done::Unknown),
            },
            KeyManagerEvent::Saved(number) => self.saved(number),
            KeyManagerEvent::Drain => self.draining = true,
        }
        self.step();
        self.take_effects()
    }

    /// Drops what has ended, asks for what is missing, saves what changed, answers who waits.
    fn step(&mut self) {
        let now = self.now;
        let ended: Vec<[u8; 32]> = self
            .keys
            .iter()
            .filter(|(_, key)| !lives(key, now))
            .map(|(public, _)| *public)
            .collect();
        for public in ended {
            self.end_key(&public);
        }
        if !self.draining {
            for audience in [Audience::PROXIES, Audience::WORKERS] {
                self.renew(audience);
            }
        }
        self.save();
        self.answer_waiting();
        if !self.ready && self.has(Audience::PROXIES) && self.has(Audience::WORKERS) {
            self.ready = true;
            self.fx.push(KeyManagerEffect::Ready);
        }
        if self.draining && !self.drained && self.saving.is_none() {
            self.drained = true;
            self.fx.push(KeyManagerEffect::Drained);
        }
    }

    /// Whether somebody of this audience would get a key now.
    fn has(&self, audience: Audience) -> bool {
        let mut keys = self.keys.values();
        keys.any(|key| key.durable && key.audience.covers(audience) && lives(key, self.now))
    }

    /// Asks for a key if the last one of this audience ends soon and none is on its way.
    fn renew(&mut self, audience: Audience) {
        let enough = self.keys.values().any(|key| {
            key.audience.covers(audience) && lives(key, self.now.saturating_add(ROTATE_AHEAD))
        });
        let asked = self.draws.values().any(|w| w.audience.covers(audience));
        // The wire's seconds end in 2038: a key that would be born dead is not made.
        let possible = seconds(self.now.saturating_add(ROTATE_AHEAD)) < i32::MAX;
        if !enough && !asked && possible {
            self.draw(audience, None);
        }
    }

    fn draw(&mut self, audience: Audience, ticket: Option<u64>) {
        let draw = self.next_draw;
        self.next_draw += 1;
        self.draws.insert(draw, Wanted { audience, ticket });
        self.fx.push(KeyManagerEffect::Draw { draw });
    }

    fn generate(&mut self, ticket: u64, audience: Audience) {
        if self.keys.len() + self.draws.len() < MAX_KEYS {
            self.draw(audience, Some(ticket));
        } else {
            self.report(ticket, Done::Full);
        }
    }

    fn drawn(&mut self, draw: u64, seed: SecretKey) {
        let Some(wanted) = self.draws.remove(&draw) else {
            return;
        };
        let public = record::public_key(&seed);
        let key = Key {
            seed,
            audience: wanted.audience,
            since_version: i32::try_from(self.root.version).unwrap_or(i32::MAX),
            since: seconds(self.now),
            until: seconds(self.now.saturating_add(LIFE)),
            durable: false,
        };
        self.changed.insert(record::key_name(&public));
        self.keys.insert(public, key);
        if let Some(ticket) = wanted.ticket {
            self.done.push((ticket, Done::Generated(public)));
        }
    }

    /// Nobody gets it from now on. Whether there was one.
    fn end_key(&mut self, public: &[u8; 32]) -> bool {
        let known = self.keys.remove(public).is_some();
        if known {
            self.changed.insert(record::key_name(public));
        }
        known
    }

    fn new_root(&mut self, root: RootView) {
        if root.version <= self.root.version {
            return;
        }
        let before = Lists::of(&self.root);
        let lists = Lists::of(&root);
        self.root = root;
        self.changed.insert(CONFIG.to_owned());
        if before != lists {
            self.changed.insert(LISTS.to_owned());
        }
        self.end_keys_of_left(&before, &lists);
    }

    /// An image that is not allowed any more may hold the keys it was given.
    fn end_keys_of_left(&mut self, before: &Lists, now: &Lists) {
        let (proxies, workers) = before.left(now);
        let ended: Vec<[u8; 32]> = self
            .keys
            .iter()
            .filter(|(_, k)| (k.audience.proxies && proxies) || (k.audience.workers && workers))
            .map(|(public, _)| *public)
            .collect();
        if !ended.is_empty() {
            self.fx.push(KeyManagerEffect::Alarm(format!(
                "an image left the root configuration's lists: {} keys that it could hold have ended, new ones are made",
                ended.len()
            )));
        }
        for public in ended {
            self.end_key(&public);
        }
    }

    fn save(&mut self) {
        if self.saving.is_some() || (self.changed.is_empty() && self.done.is_empty()) {
            return;
        }
        self.save_no += 1;
        let mut keys = Vec::new();
        let mut batch = Vec::new();
        let by_name: BTreeMap<String, [u8; 32]> = self
            .keys
            .keys()
            .map(|public| (record::key_name(public), *public))
            .collect();
        for name in std::mem::take(&mut self.changed) {
            let value = match name.as_str() {
                CONFIG => Some(record::encode_config(self.root.version)),
                LISTS => serde_json::to_vec(&Lists::of(&self.root)).ok(),
                _ => by_name.get(&name).and_then(|public| {
                    keys.push(*public);
                    self.keys.get(public).map(record::encode_key)
                }),
            };
            batch.push((name, value));
        }
        self.saving = Some(SavePoint {
            number: self.save_no,
            keys,
            done: std::mem::take(&mut self.done),
        });
        self.fx.push(KeyManagerEffect::Save {
            number: self.save_no,
            batch,
        });
    }

    fn saved(&mut self, number: u64) {
        let Some(point) = self.saving.take_if(|point| point.number == number) else {
            return;
        };
        for public in point.keys {
            if let Some(key) = self.keys.get_mut(&public) {
                key.durable = true;
            }
        }
        for (ticket, done) in point.done {
            self.report(ticket, done);
        }
    }

    fn report(&mut self, ticket: u64, done: Done) {
        self.fx.push(KeyManagerEffect::Done { ticket, done });
    }

    fn link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { link, peer } => {
                self.peers.insert(link, peer);
            }
            LinkEvent::Down { link, .. } => {
                self.peers.remove(&link);
                self.waiting.retain(|w| w.link != link);
            }
            LinkEvent::Query { link, id, data } => self.query(link, id, &data),
            // Nothing is defined that comes one way, and we ask nobody.
            LinkEvent::Packet { .. } | LinkEvent::Answer { .. } => {}
        }
    }

    fn query(&mut self, link: LinkId, id: i64, data: &[u8]) {
        self.counters.queries += 1;
        match self.judge(link, data) {
            Ok(audience) if self.has(audience) => self.answer(link, id, audience),
            Ok(_) if self.waiting.len() < MAX_WAITING => self.waiting.push(Waiting {
                link,
                id,
                data: data.to_vec(),
            }),
            Ok(_) => self.refuse(link, id, codes::NOTREADY, "no key is ready yet".to_owned()),
            Err((code, text)) => self.refuse(link, id, code, text),
        }
    }

    /// Who asks, and whether he may know the keys.
    fn judge(&self, link: LinkId, data: &[u8]) -> Result<Audience, (i32, String)> {
        let query = from_boxed::<KeyManagerQuery>(data).map_err(|e| match e {
            cocoon_tl::TlError::UnknownConstructor { .. } => {
                (codes::FAILURE, "unknown query magic".to_owned())
            }
            other => (codes::NONE, other.to_string()),
        })?;
        let (audience, list, text, version) = match query {
            KeyManagerQuery::GetProxyPrivateKeys(q) => (
                Audience::PROXIES,
                &self.root.proxy_hashes,
                "unknown proxy hash",
                q.min_config_version,
            ),
            KeyManagerQuery::GetWorkerPrivateKeys(q) => (
                Audience::WORKERS,
                &self.root.worker_hashes,
                "unknown worker hash",
                q.min_config_version,
            ),
        };
        let listed = self
            .peers
            .get(&link)
            .is_some_and(|peer| list.contains(&peer.image_hash));
        if self.cfg.check_hashes && !listed {
            return Err((codes::ERROR, text.to_owned()));
        }
        // The asker knows lists that we do not: ours may still hold an image that has left.
        if u32::try_from(version).is_ok_and(|asked| asked > self.root.version) {
            return Err((codes::ERROR, "active config version is too low".to_owned()));
        }
        Ok(audience)
    }

    fn refuse(&mut self, link: LinkId, id: i64, code: i32, text: String) {
        self.counters.failed += 1;
        self.fx.push(KeyManagerEffect::Link(LinkEffect::Reply {
            link,
            id,
            result: Err((code, text)),
        }));
    }

    fn answer(&mut self, link: LinkId, id: i64, audience: Audience) {
        self.counters.success += 1;
        let mut keys: Vec<PrivateKey> = self
            .keys
            .values()
            .filter(|k| k.durable && k.audience.covers(audience) && lives(k, self.now))
            .map(|k| PrivateKey {
                valid_until_utime: k.until,
                private_key: *k.seed.expose(),
            })
            .collect();
        // The one to use first stands first.
        keys.sort_by_key(|k| (std::cmp::Reverse(k.valid_until_utime), k.private_key));
        let mut answer = PrivateKeys { keys };
        let data = to_boxed(&answer);
        for key in &mut answer.keys {
            key.private_key.zeroize();
        }
        self.fx.push(KeyManagerEffect::Link(LinkEffect::Reply {
            link,
            id,
            result: Ok(data),
        }));
    }

    /// Asks every waiting question again: an image may have left its list meanwhile.
    fn answer_waiting(&mut self) {
        for w in std::mem::take(&mut self.waiting) {
            match self.judge(w.link, &w.data) {
                Ok(audience) if self.has(audience) => self.answer(w.link, w.id, audience),
                Ok(_) => self.waiting.push(w),
                Err((code, text)) => self.refuse(w.link, w.id, code, text),
            }
        }
    }

    /// Figures for status pages; no secrets.
    pub fn stats(&self) -> Value {
        let keys: Vec<Value> = self
            .keys
            .iter()
            .map(|(public, key)| {
                json!({
                    "public_key": hex::encode_upper(public),
                    "for_proxies": key.audience.proxies,
                    "for_workers": key.audience.workers,
                    "valid_since_config_version": key.since_version,
                    "valid_since_utime": key.since,
                    "valid_until_utime": key.until,
                    "saved": key.durable,
                })
            })
            .collect();
        json!({
            "role": "key-manager",
            "status": {"enabled": self.ready && !self.draining},
            "stats": self.counters,
            "links": self.peers.len(),
            "check_hashes": self.cfg.check_hashes,
            "root_contract_config": {
                "version": self.root.version,
                "proxy_hashes": Lists::of(&self.root).proxies,
                "worker_hashes": Lists::of(&self.root).workers,
            },
            "keys": keys,
        })
    }
}

/// Whether a key has not ended at this second.
fn lives(key: &Key, at: u64) -> bool {
    u64::try_from(key.until).is_ok_and(|until| at < until)
}

/// Seconds as the wire has them.
fn seconds(unix: u64) -> i32 {
    i32::try_from(unix).unwrap_or(i32::MAX)
}
