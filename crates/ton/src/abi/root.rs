//! Storage of the root contract: the registry and the params (contracts.md, sections 6.1 and 13.2).

use std::collections::{BTreeMap, BTreeSet};

use tycho_types::cell::{Cell, CellBuilder, CellSlice, HashBytes, Store};
use tycho_types::dict::{Dict, RawIter, StoreDictKey};

use super::codec::{Field, Reader, Writer};
use super::error::AbiError;
use super::net_address::NetAddress;
use super::params::Params;
use crate::address::Address;

/// Entries read from one dictionary. Far above any real registry, and it stops a dictionary whose
/// cells refer to each other from unfolding without end.
pub const MAX_REGISTRY_ENTRIES: usize = 100_000;
/// From this structure version on the root has a third reference.
const KEY_REGISTRY_VERSION: u8 = 4;

/// A 256-bit hash.
pub type Hash = [u8; 32];

/// State of the root contract: everything the nodes of a network agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootState {
    /// Governance.
    pub owner: Address,
    /// Counter of all changes.
    pub version: u32,
    /// Images that may run as a proxy.
    pub proxy_hashes: BTreeSet<Hash>,
    /// Where the registered proxies can be reached, by their sequence number.
    pub proxies: BTreeMap<u32, NetAddress>,
    /// Sequence numbers of entries in the address list that have another form than a net address.
    /// Nodes skip them; a state that has some cannot be written.
    pub unreadable_proxies: BTreeSet<u32>,
    /// The last sequence number given to a proxy.
    pub last_proxy_seqno: u32,
    /// Images that may run as a worker.
    pub worker_hashes: BTreeSet<Hash>,
    /// Models that may be served: SHA-256 of the model type string.
    pub model_hashes: BTreeSet<Hash>,
    /// Params in the full form.
    pub params: Params,
    /// Keys of the key manager; there exactly if the params have structure version 4.
    pub keys: Option<KeyRegistry>,
}

/// The third reference of a root of structure version 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRegistry {
    /// Registered public keys.
    pub keys: BTreeMap<Hash, KeyEntry>,
    /// Ed25519 key of the key manager.
    pub manager_public_key: Hash,
    /// Where the key manager can be reached: `host:port`.
    pub manager_address: NetAddress,
}

/// What is known of a registered public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// What the key is for.
    pub key_type: u8,
    /// Unix time in seconds after which it is swept.
    pub expire_at: u32,
}

impl RootState {
    /// The state of a root without any registry entries.
    pub fn empty(owner: Address, params: Params) -> Self {
        Self {
            owner,
            version: 0,
            proxy_hashes: BTreeSet::new(),
            proxies: BTreeMap::new(),
            unreadable_proxies: BTreeSet::new(),
            last_proxy_seqno: 0,
            worker_hashes: BTreeSet::new(),
            model_hashes: BTreeSet::new(),
            params,
            keys: None,
        }
    }

    /// Writes the storage cell.
    pub fn encode(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("root state");
        w.address(&self.owner);
        w.uint(self.version.into(), 32);
        w.built(self.encode_registry());
        w.built(self.params.encode());
        let needs_keys = self.params.struct_version >= KEY_REGISTRY_VERSION;
        match &self.keys {
            Some(keys) if needs_keys => w.built(keys.encode()),
            None if !needs_keys => {}
            keys => w.fail(AbiError::Value {
                field: "key registry",
                found: u128::from(keys.is_some()),
                expected: "to be present exactly with structure version 4",
            }),
        }
        w.finish()
    }

    fn encode_registry(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("root registry");
        if let Some(seqno) = self.unreadable_proxies.first() {
            w.fail(AbiError::Value {
                field: "unreadable proxies",
                found: u128::from(*seqno),
                expected: "none: entries that were skipped cannot be written back",
            });
        }
        w.maybe_cell(hash_set(&self.proxy_hashes)?.as_ref());
        let mut proxies = Vec::with_capacity(self.proxies.len());
        for (seqno, address) in &self.proxies {
            let mut entry = Writer::new("net address");
            address.put(&mut entry, "net address");
            proxies.push((*seqno, entry.finish()?));
        }
        w.maybe_cell(dictionary(&proxies)?.as_ref());
        w.uint(self.last_proxy_seqno.into(), 32);
        w.maybe_cell(hash_set(&self.worker_hashes)?.as_ref());
        w.maybe_cell(hash_set(&self.model_hashes)?.as_ref());
        w.finish()
    }

    /// Reads the storage cell. Anything left over is an error; a single unreadable proxy entry is not.
    pub fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "root state")?;
        let owner = r.address("owner")?;
        let version = r.uint("version", 32)? as u32;
        let registry = r.cell("registry")?;
        let params = Params::decode(&r.cell("params")?)?;
        let keys = if params.struct_version >= KEY_REGISTRY_VERSION {
            Some(KeyRegistry::decode(&r.cell("key registry")?)?)
        } else {
            None
        };
        r.end()?;

        let mut r = Reader::new(&registry, "root registry")?;
        let proxy_hashes = load_hash_set(&mut r, "proxy hashes")?;
        let mut proxies = BTreeMap::new();
        let mut unreadable_proxies = BTreeSet::new();
        entries(r.maybe_cell("proxies")?, "proxies", 32, |mut key, value| {
            let seqno = key.uint("proxy seqno", 32)? as u32;
            let mut value = Reader::over(value, "net address");
            let address = NetAddress::get(&mut value, "net address");
            match address.and_then(|address| value.end().map(|()| address)) {
                Ok(address) => drop(proxies.insert(seqno, address)),
                Err(_) => drop(unreadable_proxies.insert(seqno)),
            }
            Ok(())
        })?;
        let last_proxy_seqno = r.uint("last proxy seqno", 32)? as u32;
        let worker_hashes = load_hash_set(&mut r, "worker hashes")?;
        let model_hashes = load_hash_set(&mut r, "model hashes")?;
        r.end()?;
        Ok(Self {
            owner,
            version,
            proxy_hashes,
            proxies,
            unreadable_proxies,
            last_proxy_seqno,
            worker_hashes,
            model_hashes,
            params,
            keys,
        })
    }
}

impl KeyRegistry {
    fn encode(&self) -> Result<Cell, AbiError> {
        let mut keys = Vec::with_capacity(self.keys.len());
        for (key, entry) in &self.keys {
            let mut w = Writer::new("key entry");
            w.uint(entry.key_type.into(), 8);
            w.uint(entry.expire_at.into(), 32);
            keys.push((HashBytes(*key), w.finish()?));
        }
        let mut w = Writer::new("key registry");
        w.maybe_cell(dictionary(&keys)?.as_ref());
        w.raw(&self.manager_public_key);
        self.manager_address.put(&mut w, "key manager address");
        w.finish()
    }

    fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "key registry")?;
        let mut keys = BTreeMap::new();
        let root = r.maybe_cell("public keys")?;
        entries(root, "public keys", 256, |mut key, value| {
            let mut value = Reader::over(value, "key entry");
            let entry = KeyEntry {
                key_type: value.uint("key type", 8)? as u8,
                expire_at: value.uint("expire at", 32)? as u32,
            };
            value.end()?;
            keys.insert(key.bytes("public key")?, entry);
            Ok(())
        })?;
        let manager_public_key = r.bytes("key manager public key")?;
        let manager_address = NetAddress::get(&mut r, "key manager address")?;
        r.end()?;
        Ok(Self {
            keys,
            manager_public_key,
            manager_address,
        })
    }
}

fn hash_set(hashes: &BTreeSet<Hash>) -> Result<Option<Cell>, AbiError> {
    let entries: Vec<_> = hashes
        .iter()
        .map(|hash| (HashBytes(*hash), Cell::default()))
        .collect();
    dictionary(&entries)
}

/// A dictionary whose values are the contents of the given cells.
fn dictionary<K: StoreDictKey + Copy + Ord>(
    entries: &[(K, Cell)],
) -> Result<Option<Cell>, AbiError> {
    let mut dict = Dict::<K, Inline<'_>>::new();
    for (key, value) in entries {
        dict.set(*key, Inline(value))
            .map_err(|source| AbiError::DoesNotFit {
                what: "root registry",
                source,
            })?;
    }
    Ok(dict.into_root())
}

/// Stores the content of a cell in place.
struct Inline<'a>(&'a Cell);

impl Store for Inline<'_> {
    fn store_into(
        &self,
        builder: &mut CellBuilder,
        _: &dyn tycho_types::cell::CellContext,
    ) -> Result<(), tycho_types::error::Error> {
        builder.store_slice(self.0.as_slice()?)
    }
}

fn load_hash_set(r: &mut Reader<'_>, field: &'static str) -> Result<BTreeSet<Hash>, AbiError> {
    let mut hashes = BTreeSet::new();
    entries(r.maybe_cell(field)?, field, 256, |mut key, value| {
        Reader::over(value, "registry entry").end()?;
        hashes.insert(key.bytes(field)?);
        Ok(())
    })?;
    Ok(hashes)
}

fn entries(
    root: Option<Cell>,
    field: &'static str,
    key_bits: u16,
    mut each: impl FnMut(Reader<'_>, CellSlice<'_>) -> Result<(), AbiError>,
) -> Result<(), AbiError> {
    for (count, entry) in RawIter::new(&root, key_bits).enumerate() {
        if count >= MAX_REGISTRY_ENTRIES {
            return Err(AbiError::TooManyEntries {
                field,
                limit: MAX_REGISTRY_ENTRIES,
            });
        }
        let (key, value) = entry.map_err(|source| AbiError::Field { field, source })?;
        each(Reader::over(key.as_data_slice(), field), value)?;
    }
    Ok(())
}
