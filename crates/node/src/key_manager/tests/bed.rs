//! A core with a disk, a clock and a random source that the test moves.

use std::collections::BTreeMap;

use cocoon_attest::SecretKey;
use cocoon_tl::{from_boxed, to_boxed};
use cocoon_ton::Address;
use cocoon_wire::msg::key_manager::{
    GetProxyPrivateKeys, GetWorkerPrivateKeys, PrivateKey, PrivateKeys,
};
use zeroize::Zeroizing;

use crate::key_manager::{
    Done, KeyManagerConfig, KeyManagerCore, KeyManagerEffect, KeyManagerEvent, RecordsError,
};
use crate::link::{LinkEffect, LinkEvent, LinkId, PeerInfo};
use crate::root::RootView;
use crate::static_root::{self, Codes};

pub(super) const START: u64 = 1_765_000_000;
pub(super) const PROXY: [u8; 32] = [0xa1; 32];
pub(super) const WORKER: [u8; 32] = [0xa2; 32];

pub(super) fn root(version: u32, proxies: &[[u8; 32]], workers: &[[u8; 32]]) -> RootView {
    use base64::Engine;
    let b64 = |list: &[[u8; 32]]| -> Vec<String> {
        let engine = base64::engine::general_purpose::STANDARD;
        list.iter().map(|h| engine.encode(h)).collect()
    };
    let text = serde_json::json!({
        "proxy_hashes": b64(proxies), "worker_hashes": b64(workers), "version": version,
    });
    let cell = cocoon_ton::CellBuilder::new().build().unwrap();
    let codes = Codes {
        proxy: cell.clone(),
        worker: cell.clone(),
        client: cell,
    };
    static_root::parse(&text.to_string(), Address::basechain([9; 32]), &codes)
        .unwrap()
        .0
}

pub(super) type Disk = BTreeMap<String, Vec<u8>>;
pub(super) type Reply = (LinkId, i64, Result<Vec<u8>, (i32, String)>);

/// A core with a disk and a random source; the disk writes when the test says so.
pub(super) struct Bed {
    pub(super) core: KeyManagerCore,
    pub(super) disk: Disk,
    pub(super) now: u64,
    pub(super) batch: Option<(u64, Vec<crate::store::Change>)>,
    pub(super) seeds: u8,
    pub(super) replies: Vec<Reply>,
    pub(super) done: Vec<(u64, Done)>,
    pub(super) ready: bool,
    pub(super) drained: bool,
    pub(super) alarms: Vec<String>,
}

impl Bed {
    pub(super) fn try_new(
        root: RootView,
        disk: Disk,
        now: u64,
        seeds: u8,
    ) -> Result<Bed, RecordsError> {
        let records = disk.clone().into_iter().collect();
        let cfg = KeyManagerConfig { check_hashes: true };
        let mut core = KeyManagerCore::new(cfg, root, records, now * 1000)?;
        let first = core.take_effects();
        let mut bed = Bed {
            core,
            disk,
            now,
            batch: None,
            seeds,
            replies: Vec::new(),
            done: Vec::new(),
            ready: false,
            drained: false,
            alarms: Vec::new(),
        };
        bed.apply(first);
        Ok(bed)
    }

    pub(super) fn new() -> Bed {
        Bed::try_new(root(3, &[PROXY], &[WORKER]), Disk::new(), START, 0).unwrap()
    }

    /// The same machine after a kill: what was on disk, and nothing else.
    pub(super) fn killed(self, root: RootView) -> Result<Bed, RecordsError> {
        Bed::try_new(root, self.disk, self.now, self.seeds)
    }

    pub(super) fn apply(&mut self, effects: Vec<KeyManagerEffect>) {
        for effect in effects {
            match effect {
                KeyManagerEffect::Draw { draw } => {
                    self.seeds += 1;
                    let seed = SecretKey::new(Zeroizing::new([self.seeds; 32]));
                    self.event(KeyManagerEvent::Drawn { draw, seed });
                }
                KeyManagerEffect::Save { number, batch } => {
                    assert!(self.batch.is_none(), "one batch at a time");
                    self.batch = Some((number, batch));
                }
                KeyManagerEffect::Link(LinkEffect::Reply { link, id, result }) => {
                    self.replies.push((link, id, result));
                }
                KeyManagerEffect::Link(other) => panic!("{other:?}"),
                KeyManagerEffect::Done { ticket, done } => self.done.push((ticket, done)),
                KeyManagerEffect::Ready => self.ready = true,
                KeyManagerEffect::Drained => self.drained = true,
                KeyManagerEffect::Alarm(text) => self.alarms.push(text),
            }
        }
    }

    pub(super) fn event(&mut self, event: KeyManagerEvent) {
        let effects = self.core.handle(self.now * 1000, event);
        self.apply(effects);
    }

    /// The disk catches up.
    pub(super) fn flush(&mut self) {
        while let Some((number, batch)) = self.batch.take() {
            for (name, value) in batch {
                match value {
                    Some(value) => self.disk.insert(name, value),
                    None => self.disk.remove(&name),
                };
            }
            self.event(KeyManagerEvent::Saved(number));
        }
    }

    pub(super) fn after(&mut self, seconds: u64) {
        self.now += seconds;
        self.event(KeyManagerEvent::Tick);
        self.flush();
    }

    pub(super) fn up(&mut self, link: u64, image_hash: [u8; 32]) {
        self.event(KeyManagerEvent::Link(LinkEvent::Up {
            link: LinkId(link),
            peer: PeerInfo {
                image_hash,
                ..PeerInfo::default()
            },
        }));
    }

    pub(super) fn query(&mut self, link: u64, data: Vec<u8>) {
        self.event(KeyManagerEvent::Link(LinkEvent::Query {
            link: LinkId(link),
            id: 7,
            data,
        }));
    }

    pub(super) fn ask(
        &mut self,
        link: u64,
        data: Vec<u8>,
    ) -> Result<Vec<PrivateKey>, (i32, String)> {
        self.query(link, data);
        let (to, id, result) = self.replies.pop().expect("an answer");
        assert_eq!((to, id), (LinkId(link), 7));
        result.map(|data| from_boxed::<PrivateKeys>(&data).unwrap().keys)
    }

    pub(super) fn public_keys(&self) -> Vec<(String, bool, bool, u64)> {
        let stats = self.core.stats();
        let of = |v: &serde_json::Value| {
            (
                v["public_key"].as_str().unwrap().to_owned(),
                v["for_proxies"].as_bool().unwrap(),
                v["for_workers"].as_bool().unwrap(),
                v["valid_until_utime"].as_u64().unwrap(),
            )
        };
        stats["keys"].as_array().unwrap().iter().map(of).collect()
    }
}

pub(super) fn proxies(min_config_version: i32) -> Vec<u8> {
    to_boxed(&GetProxyPrivateKeys { min_config_version })
}

pub(super) fn workers(min_config_version: i32) -> Vec<u8> {
    to_boxed(&GetWorkerPrivateKeys { min_config_version })
}

pub(super) fn served() -> Bed {
    let mut bed = Bed::new();
    bed.flush();
    bed.up(1, PROXY);
    bed.up(2, WORKER);
    bed.up(3, [3; 32]);
    bed
}
