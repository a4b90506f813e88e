//! Records of the key manager: the reference's values (`keyManagerDb.*`) under the reference's names, and one of ours.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_attest::SecretKey;
use cocoon_tl::{from_boxed, to_boxed};
use cocoon_wire::msg::key_manager_db as db;
use ed25519_dalek::SigningKey;
use zeroize::{Zeroize, Zeroizing};

use super::types::Audience;

pub(super) const CONFIG: &str = "config";
pub(super) const LISTS: &str = "lists";
const KEY: &str = "key_";

/// The store cannot be used with this network. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// A record cannot be read.
    #[error(
        "record \"{0}\" of the key manager's store cannot be read; nothing was changed: restore the file from a copy, or start with another --data-dir (every node then gets new keys)"
    )]
    Record(String),
    /// The root configuration is older than one that was seen here.
    #[error(
        "the root configuration has version {found}, but this key manager has already seen version {stored}: its source is behind or was rolled back; wait until it has caught up, or correct --chain"
    )]
    OldRoot {
        /// Seen before.
        stored: i32,
        /// What the source says now.
        found: u32,
    },
}

/// A key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub seed: SecretKey,
    pub audience: Audience,
    pub since_version: i32,
    pub since: i32,
    pub until: i32,
    /// It is on disk: only then may anybody learn it.
    pub durable: bool,
}

/// Which images could fetch keys; kept to notice one that left while we were away.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lists {
    pub proxies: BTreeSet<String>,
    pub workers: BTreeSet<String>,
}

impl Lists {
    pub fn of(root: &crate::root::RootView) -> Self {
        let texts = |set: &BTreeSet<[u8; 32]>| set.iter().map(hex::encode).collect();
        Lists {
            proxies: texts(&root.proxy_hashes),
            workers: texts(&root.worker_hashes),
        }
    }

    /// Whose images have left since `self`.
    pub fn left(&self, now: &Lists) -> (bool, bool) {
        (
            !self.proxies.is_subset(&now.proxies),
            !self.workers.is_subset(&now.workers),
        )
    }
}

/// What stands in the store.
#[derive(Default)]
pub(super) struct Stored {
    pub version: Option<i32>,
    pub lists: Option<Lists>,
    pub keys: BTreeMap<[u8; 32], Key>,
}

/// The public key of a seed.
pub(super) fn public_key(seed: &SecretKey) -> [u8; 32] {
    SigningKey::from_bytes(seed.expose())
        .verifying_key()
        .to_bytes()
}

pub(super) fn key_name(public: &[u8; 32]) -> String {
    format!("{KEY}{}", hex::encode_upper(public))
}

pub(super) fn encode_key(key: &Key) -> Vec<u8> {
    let mut record = db::Key {
        private_key: *key.seed.expose(),
        for_proxies: key.audience.proxies,
        for_workers: key.audience.workers,
        valid_since_config_version: key.since_version,
        valid_since_utime: key.since,
        valid_until_utime: key.until,
    };
    let out = to_boxed(&record);
    record.private_key.zeroize();
    out
}

pub(super) fn encode_config(version: u32) -> Vec<u8> {
    to_boxed(&db::ConfigV1 {
        root_contract_version: i32::try_from(version).unwrap_or(i32::MAX),
    })
}

/// Reads all records; an unknown one is an error, because it may mean something.
pub(super) fn decode(records: Vec<(String, Vec<u8>)>) -> Result<Stored, RecordsError> {
    let mut stored = Stored::default();
    for (name, value) in records {
        let value = Zeroizing::new(value);
        let bad = || RecordsError::Record(name.clone());
        match name.as_str() {
            CONFIG => match from_boxed::<db::Config>(&value).map_err(|_| bad())? {
                db::Config::Empty(_) => {}
                db::Config::V1(config) => stored.version = Some(config.root_contract_version),
            },
            LISTS => stored.lists = Some(serde_json::from_slice(&value).map_err(|_| bad())?),
            _ => {
                let public = name.strip_prefix(KEY).ok_or_else(bad)?;
                let mut record: db::Key = from_boxed(&value).map_err(|_| bad())?;
                let key = Key {
                    seed: SecretKey::new(Zeroizing::new(record.private_key)),
                    audience: Audience {
                        proxies: record.for_proxies,
                        workers: record.for_workers,
                    },
                    since_version: record.valid_since_config_version,
                    since: record.valid_since_utime,
                    until: record.valid_until_utime,
                    durable: true,
                };
                record.private_key.zeroize();
                let own = public_key(&key.seed);
                if public != hex::encode_upper(own) || !(record.for_proxies || record.for_workers) {
                    return Err(bad());
                }
                stored.keys.insert(own, key);
            }
        }
    }
    Ok(stored)
}
