//! The key manager's driver: port, store, root configuration, clock and random source around the core.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use cocoon_attest::SecretKey;
use ed25519_dalek::SigningKey;
use rand::TryRngCore;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::types::{Audience, Done, KeyManagerConfig, KeyManagerEffect, KeyManagerEvent};
use super::{KeyManagerCore, RecordsError};
use crate::common::{Clock, NodeError, SaveQueue, SaveReports, Timing, spawn_writer};
use crate::link::LinkEvent;
use crate::peers::{ListenConfig, Peers};
use crate::proxy::Entrance;
use crate::root::RootView;
use crate::root_source::RootSource;
use crate::store::RoleStore;

/// Everything a key manager needs.
pub struct KeyManagerOptions {
    /// Where the root configuration stands.
    pub root: RootSource,
    /// Signs the records of the store.
    pub store_key: SigningKey,
    /// The store's file. It holds keys: its directory should be its owner's only.
    pub store: PathBuf,
    /// Where proxies and workers ask, if anywhere.
    pub askers: Option<Entrance>,
    /// Test network.
    pub is_test: bool,
    /// Compare image hashes of askers with the root's lists.
    pub check_hashes: bool,
    /// Poll intervals.
    pub timing: Timing,
}

enum Command {
    Stats(oneshot::Sender<serde_json::Value>),
    Generate(Audience, oneshot::Sender<Done>),
    Remove([u8; 32], oneshot::Sender<Done>),
    Drain,
}

/// A running key manager.
pub struct KeyManagerHandle {
    commands: mpsc::Sender<Command>,
    stopped: watch::Receiver<Option<String>>,
}

impl KeyManagerHandle {
    /// Figures for status pages; no secrets.
    pub async fn stats(&self) -> serde_json::Value {
        let (tx, rx) = oneshot::channel();
        let _ = self.commands.send(Command::Stats(tx)).await;
        rx.await
            .unwrap_or_else(|_| serde_json::json!({"stopped": true}))
    }

    /// Makes a key; returns when it is on disk, `None` if the key manager has stopped.
    pub async fn generate(&self, audience: Audience) -> Option<Done> {
        let (tx, rx) = oneshot::channel();
        let _ = self.commands.send(Command::Generate(audience, tx)).await;
        rx.await.ok()
    }

    /// Ends a key; returns when that is on disk, `None` if the key manager has stopped.
    pub async fn remove(&self, public: [u8; 32]) -> Option<Done> {
        let (tx, rx) = oneshot::channel();
        let _ = self.commands.send(Command::Remove(public, tx)).await;
        rx.await.ok()
    }

    /// Saves, and ends.
    pub async fn drain(&self) {
        let _ = self.commands.send(Command::Drain).await;
        self.stopped().await;
    }

    /// Waits until the key manager has stopped and says why.
    pub async fn stopped(&self) -> String {
        let mut rx = self.stopped.clone();
        match rx.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the key manager's task ended".to_owned(),
        }
    }
}

/// Starts a key manager; returns once there are keys on disk and askers may come.
pub async fn start(o: KeyManagerOptions) -> Result<KeyManagerHandle, NodeError> {
    let policies: Vec<_> = o.askers.iter().flat_map(|e| e.door.policies()).collect();
    let root = o.root.read(o.is_test, &policies).await?;
    o.root.guard_hashes(o.check_hashes).await?;
    let (store, records) = RoleStore::open(&o.store, "key-manager", &o.store_key)?;
    close_to_others(&o.store);
    let clock = Clock::default();
    let cfg = KeyManagerConfig {
        check_hashes: o.check_hashes,
    };
    let core = KeyManagerCore::new(cfg, root.clone(), records, clock.now_ms())
        .map_err(|e: RecordsError| NodeError::Config(e.to_string()))?;
    let (saves, saved) = spawn_writer(store);
    let (peers, links) = Peers::new();
    let (commands, command_queue) = mpsc::channel(16);
    let (stopped_tx, stopped) = watch::channel(None);
    let (ready_tx, ready) = oneshot::channel();
    let driver = Driver {
        core,
        clock,
        peers,
        links,
        roots: o.root.watch(o.timing.root_poll, root),
        saves: Some(saves),
        saved,
        commands: command_queue,
        tickets: HashMap::new(),
        next_ticket: 0,
        ready: Some(ready_tx),
        askers: o.askers,
        door: None,
        stopped: stopped_tx,
    };
    tokio::spawn(driver.run(o.timing.tick));
    let handle = KeyManagerHandle { commands, stopped };
    tokio::select! {
        // A dropped sender means that it stopped; the reason is the better answer.
        Ok(()) = ready => Ok(handle),
        reason = handle.stopped() => Err(NodeError::Stopped(reason)),
    }
}

/// The store holds secrets.
fn close_to_others(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    if let Err(e) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)) {
        warn!(
            "{} holds keys and could not be closed to others: {e}",
            path.display()
        );
    }
}

struct Driver {
    core: KeyManagerCore,
    clock: Clock,
    peers: Peers,
    links: mpsc::Receiver<(usize, LinkEvent)>,
    roots: watch::Receiver<Arc<RootView>>,
    saves: Option<SaveQueue>,
    saved: SaveReports,
    commands: mpsc::Receiver<Command>,
    tickets: HashMap<u64, oneshot::Sender<Done>>,
    next_ticket: u64,
    ready: Option<oneshot::Sender<()>>,
    askers: Option<Entrance>,
    door: Option<JoinHandle<()>>,
    stopped: watch::Sender<Option<String>>,
}

impl Driver {
    async fn run(mut self, tick: std::time::Duration) {
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let first = self.core.take_effects();
        let mut end = self.apply(first);
        while end.is_none() {
            let event = tokio::select! {
                Some((_, event)) = self.links.recv() => KeyManagerEvent::Link(event),
                Some(result) = self.saved.recv() => match result {
                    Ok(number) => KeyManagerEvent::Saved(number),
                    Err(e) => {
                        end = Some(format!("saving failed: {e}"));
                        continue;
                    }
                },
                Ok(()) = self.roots.changed() => {
                    KeyManagerEvent::Root(Box::new((**self.roots.borrow_and_update()).clone()))
                }
                Some(command) = self.commands.recv() => match command {
                    Command::Stats(reply) => {
                        let _ = reply.send(self.core.stats());
                        continue;
                    }
                    Command::Generate(audience, reply) => {
                        let ticket = self.ticket(reply);
                        KeyManagerEvent::Generate { ticket, audience }
                    }
                    Command::Remove(public, reply) => {
                        let ticket = self.ticket(reply);
                        KeyManagerEvent::Remove { ticket, public }
                    }
                    Command::Drain => KeyManagerEvent::Drain,
                },
                _ = ticks.tick() => KeyManagerEvent::Tick,
            };
            let effects = self.core.handle(self.clock.now_ms(), event);
            end = self.apply(effects);
        }
        if let Some(door) = &self.door {
            door.abort();
        }
        self.peers.close_all("the key manager stops");
        // Everything handed to the writer is on disk before we say that we stopped.
        self.saves = None;
        while self.saved.recv().await.is_some() {}
        let reason = end.unwrap_or_default();
        info!("key manager stopped: {reason}");
        let _ = self.stopped.send(Some(reason));
    }

    fn ticket(&mut self, reply: oneshot::Sender<Done>) -> u64 {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, reply);
        self.next_ticket
    }

    /// Carries out effects, and those that follow from them; returns the reason if the key manager ends.
    fn apply(&mut self, effects: Vec<KeyManagerEffect>) -> Option<String> {
        let mut end = None;
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                KeyManagerEffect::Link(e) => self.peers.apply(e),
                KeyManagerEffect::Draw { draw } => match random() {
                    Ok(seed) => {
                        let event = KeyManagerEvent::Drawn { draw, seed };
                        effects.extend(self.core.handle(self.clock.now_ms(), event));
                    }
                    Err(e) => end = Some(format!("the system gives no random numbers: {e}")),
                },
                KeyManagerEffect::Save { number, batch } => {
                    if let Some(saves) = &self.saves
                        && saves.send((number, batch)).is_err()
                    {
                        end = Some("the store's writer ended".to_owned());
                    }
                }
                KeyManagerEffect::Done { ticket, done } => {
                    if let Some(reply) = self.tickets.remove(&ticket) {
                        let _ = reply.send(done);
                    }
                }
                KeyManagerEffect::Ready => self.open(),
                KeyManagerEffect::Drained => end = Some("drained".to_owned()),
                KeyManagerEffect::Alarm(text) => warn!("{text}"),
            }
        }
        end
    }

    /// Begins to accept askers.
    fn open(&mut self) {
        if let Some(Entrance { listener, door }) = self.askers.take() {
            let cfg = ListenConfig {
                port: 0,
                door,
                claims: None,
            };
            self.door = Some(tokio::spawn(self.peers.clone().listen(listener, cfg)));
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(());
        }
    }
}

fn random() -> Result<SecretKey, rand::rand_core::OsError> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::rngs::OsRng.try_fill_bytes(&mut *bytes)?;
    Ok(SecretKey::new(bytes))
}
