//! Opening the books: from records on disk to a proxy that goes on where the last process stopped, also when the root's
//! params have changed meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cocoon_ledger::{AdjustedTokens, CommitTracker, SessionCommits};
use cocoon_ton::Address;

use super::accounts::{
    Books, ClientAccount, ClientRecord, Holdings, MetaRecord, WorkerAccount, WorkerRecord,
};
use super::core::{BooksError, Phase, ProxyCore};
use super::near::Near;
use super::old::{OLD, OldContract, params_of};
use super::place::Past;
use super::queue::Queue;
use super::types::{ProxyConfig, ProxyEffect};
use crate::metrics::Meter;
use crate::root::RootView;

impl ProxyCore {
    /// Opens the books of a proxy from its records.
    pub fn new(
        cfg: ProxyConfig,
        root: RootView,
        records: Vec<(String, Vec<u8>)>,
        now_ms: u64,
    ) -> Result<Self, BooksError> {
        let key = cfg.key.verifying_key().to_bytes();
        let next = root.proxy_contract(cfg.owner, key)?.address;
        let records: BTreeMap<String, Vec<u8>> = records.into_iter().collect();
        let bad = |name: &str| BooksError::Record(name.to_owned());
        let address = |name: &str, text: &str| {
            Address::parse(text)
                .map(|p| p.address)
                .map_err(|_| bad(name))
        };
        let mut meta = MetaRecord {
            contract: next.to_string(),
            ..Default::default()
        };
        if let Some(value) = records.get("meta") {
            meta = serde_json::from_slice(value).map_err(|_| bad("meta"))?;
        }
        // The contract in use when the store was written; the root may have moved on since.
        let (sc, current) = if meta.contract == next.to_string() {
            (next, root.clone())
        } else {
            let view = meta
                .params
                .as_deref()
                .and_then(params_of)
                .map(|params| RootView {
                    params,
                    version: meta.root_version,
                    ..root.clone()
                });
            let made = view
                .as_ref()
                .and_then(|v| v.proxy_contract(cfg.owner, key).ok())
                .map(|i| i.address);
            match (made, view) {
                (Some(sc), Some(view)) if sc.to_string() == meta.contract => (sc, view),
                _ => {
                    return Err(BooksError::Contract {
                        found: meta.contract,
                        expected: next.to_string(),
                    });
                }
            }
        };
        let mut old: BTreeMap<Address, OldContract> = BTreeMap::new();
        for (name, value) in &records {
            if let Some(text) = name.strip_prefix(OLD) {
                let contract =
                    OldContract::restored(root.address, value).ok_or_else(|| bad(name))?;
                old.insert(address(name, text)?, contract);
            }
        }
        let mut clients = BTreeMap::new();
        let mut workers = BTreeMap::new();
        for (name, value) in &records {
            if name == "meta" || name.starts_with(OLD) {
                continue;
            }
            let (is_client, contract, owner) = if let Some(text) = name.strip_prefix("client_") {
                (true, sc, address(name, text)?)
            } else if let Some(text) = name.strip_prefix("worker_") {
                (false, sc, address(name, text)?)
            } else {
                let (is_client, contract, owner) =
                    ProxyCore::split_old(name).ok_or_else(|| bad(name))?;
                (is_client, address(name, contract)?, address(name, owner)?)
            };
            let view = if contract == sc && !name.starts_with("old") {
                &current
            } else {
                &old.get(&contract).ok_or_else(|| bad(name))?.root
            };
            if is_client {
                let record: ClientRecord = serde_json::from_slice(value).map_err(|_| bad(name))?;
                let account = ClientAccount {
                    sc: view.client_contract(contract, key, owner)?.address,
                    tracker: CommitTracker::restored(AdjustedTokens(record.used)),
                    record,
                    reserved: AdjustedTokens::ZERO,
                    running: 0,
                    payment: None,
                    pending: None,
                    last_active_ms: now_ms,
                };
                match old.get_mut(&contract).filter(|_| name.starts_with("old")) {
                    Some(o) => o.clients.insert(owner, account),
                    None => clients.insert(owner, account),
                };
            } else {
                let record: WorkerRecord = serde_json::from_slice(value).map_err(|_| bad(name))?;
                let account = WorkerAccount {
                    sc: view.worker_contract(contract, key, owner)?.address,
                    sc_tokens: record.sc_tokens,
                    tracker: CommitTracker::restored(AdjustedTokens(record.tokens)),
                    payment: None,
                    pending: None,
                    last_active_ms: now_ms,
                    closed: record.closed,
                };
                match old.get_mut(&contract).filter(|_| name.starts_with("old")) {
                    Some(o) => o.workers.insert(owner, account),
                    None => workers.insert(owner, account),
                };
            }
        }
        let commits = match meta.commits {
            Some(stored) => SessionCommits::resumed(stored, cfg.entropy),
            None => SessionCommits::new(cfg.entropy),
        };
        let fx = old
            .iter()
            .map(|(contract, o)| ProxyEffect::Watch {
                contract: *contract,
                after_lt: o.cursor_lt,
            })
            .collect();
        let closed_for = meta
            .closed_for
            .filter(|v| current.params.params_version <= *v);
        let mut core = ProxyCore {
            cfg,
            root: current,
            sc,
            books: Books {
                clients,
                workers,
                commits,
            },
            old,
            founding: None,
            closed_for,
            wallet_balance: None,
            chain_time: None,
            links: BTreeMap::new(),
            requests: BTreeMap::new(),
            kept_bytes: 0,
            queue: Queue::default(),
            near: Near::default(),
            past: Past::default(),
            models_seen: BTreeSet::new(),
            phase: Phase::Starting,
            disabled: closed_for.map(|_| "its contract was closed".to_owned()),
            cursor_lt: meta.cursor_lt,
            revenue: 0,
            holds: Holdings::default(),
            withdraw: None,
            now: now_ms,
            fx,
            meter: Meter::default(),
            dirty_clients: BTreeSet::new(),
            dirty_workers: BTreeSet::new(),
            dirty_old: BTreeSet::new(),
            dropped: Vec::new(),
            dirty_meta: true,
            saving: None,
            commit_wanted: true,
            last_commit_ms: 0,
            commit: None,
            held: VecDeque::new(),
            next_ticket: 1,
            draws: 0,
        };
        if let Some(text) = &meta.founding {
            core.restore_founding(text, next);
        }
        if next != sc {
            core.move_to(root);
        }
        core.near = Near::new(core.draw());
        core.maybe_save();
        Ok(core)
    }
}
