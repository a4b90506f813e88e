//! The worker's driver: links, backend, store, chain and clock around the core.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::claims::Role;
use cocoon_attest::hybrid_kem;
use cocoon_engine::{Backend, BackendEvent, HttpRequest};
use cocoon_ton::{AccountState, Address};
use ed25519_dalek::SigningKey;
use rand::Rng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::types::{WorkerConfig, WorkerEffect, WorkerEvent, WorkerSettings};
use super::{RecordsError, WorkerCore};
use crate::claims::{ClaimsSettings, Speaker};
use crate::common::{Clock, NodeError, Timing, spawn_writer};
use crate::link::{LinkEvent, LinkId};
use crate::metrics::{Page, SaveTimer, trace};
use crate::operate::{Done, NotDone};
use crate::peers::{DialConfig, Peers, Way};
use crate::root::RootView;
use crate::settlement::Settlement;
use crate::store::{Change, RoleStore, StoreError};
use crate::wallet::Outgoing;

/// A probe of the backend that takes longer means that it is not well (protocol.md 4.4).
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// Backend events on their way to the core, over all requests: the backends wait when it is full.
const BACKEND_QUEUE: usize = 256;
/// How long the last messages may take to leave after a drain.
const FLUSH: Duration = Duration::from_millis(500);

/// Everything a worker needs.
pub struct WorkerOptions {
    /// Where its contracts and coins are.
    pub settlement: Settlement,
    /// Receives the pay.
    pub owner: Address,
    /// The store's file.
    pub store: PathBuf,
    /// How proxies are reached.
    pub way: Way,
    /// Full model name `base@commit:hash`, or the base name alone.
    pub model: String,
    /// Price factor, thousandths.
    pub coefficient: u32,
    /// Requests running at once.
    pub max_active_requests: u32,
    /// Proxies to keep connected.
    pub proxy_connections: u32,
    /// Test network.
    pub is_test: bool,
    /// Testnet flag of addresses.
    pub testnet: bool,
    /// Compare image hashes of proxies.
    pub check_hashes: bool,
    /// Computes the answers.
    pub backend: Arc<dyn Backend>,
    /// Signs the records of the store.
    pub store_key: SigningKey,
    /// Times and thresholds.
    pub settings: WorkerSettings,
    /// Poll intervals.
    pub timing: Timing,
    /// Signed claims of direct links.
    pub claims: ClaimsSettings,
}

enum Command {
    Stats(oneshot::Sender<serde_json::Value>),
    Page(oneshot::Sender<Page>),
    Spans(oneshot::Sender<trace::Taken>),
    Payout(Address, oneshot::Sender<Done>),
    Event(WorkerEvent),
}

/// A running worker.
pub struct WorkerHandle {
    commands: mpsc::Sender<Command>,
    stopped: watch::Receiver<Option<String>>,
    sealing: Arc<hybrid_kem::SecretKey>,
}

impl WorkerHandle {
    /// The key that bodies for this worker are sealed to. It is made at every start, lives in memory only, and its public
    /// half stands in the worker's claims.
    pub fn sealing_key(&self) -> &Arc<hybrid_kem::SecretKey> {
        &self.sealing
    }

    /// Figures for status pages.
    pub async fn stats(&self) -> serde_json::Value {
        self.ask(Command::Stats)
            .await
            .unwrap_or_else(|| serde_json::json!({"stopped": true}))
    }

    /// Metrics; none once it has stopped.
    pub async fn page(&self) -> Page {
        self.ask(Command::Page)
            .await
            .unwrap_or_else(|| Page::new("worker"))
    }

    /// Requests that ended since the last call; the first call begins to collect.
    pub async fn spans(&self) -> trace::Taken {
        self.ask(Command::Spans).await.unwrap_or_default()
    }

    /// Fetches the pay of the proxy with this contract, or says why not.
    pub async fn payout(&self, proxy: Address) -> Done {
        self.ask(|reply| Command::Payout(proxy, reply))
            .await
            .unwrap_or_else(|| Err(NotDone::Impossible("the worker has stopped".into())))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (tx, rx) = oneshot::channel();
        self.commands.send(command(tx)).await.ok()?;
        rx.await.ok()
    }

    /// Opens or closes the worker for requests.
    pub async fn set_enabled(&self, enabled: bool) {
        self.event(WorkerEvent::SetEnabled(enabled)).await;
    }

    /// Gives the worker up: it takes no more requests, also after a restart, and fetches everything it has earned; or
    /// takes it into use again.
    pub async fn set_closed(&self, closed: bool) {
        self.event(WorkerEvent::SetClosed(closed)).await;
    }

    /// Changes the price factor, thousandths.
    pub async fn set_coefficient(&self, thousandths: u32) {
        self.event(WorkerEvent::SetCoefficient(thousandths)).await;
    }

    /// Takes no new requests, finishes what runs, saves, and ends.
    pub async fn drain(&self) {
        self.event(WorkerEvent::Drain).await;
        self.stopped().await;
    }

    async fn event(&self, event: WorkerEvent) {
        // A worker that has stopped needs no more events.
        let _ = self.commands.send(Command::Event(event)).await;
    }

    /// Waits until the worker has stopped and says why.
    pub async fn stopped(&self) -> String {
        let mut rx = self.stopped.clone();
        match rx.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the worker's task ended".to_owned(),
        }
    }
}

/// Starts a worker; it dials proxies from now on.
pub async fn start(o: WorkerOptions) -> Result<WorkerHandle, NodeError> {
    let root = o.settlement.read_root(o.is_test, &o.way.policies()).await?;
    o.settlement.guard_hashes(o.check_hashes).await?;
    check(&o, &root)?;
    let sealing = hybrid_kem::SecretKey::generate()
        .map_err(|e| NodeError::Config(format!("no key for sealed bodies: {e}")))?;
    let claims = Speaker::new(Role::Worker, &o.settlement, &root, o.claims)
        .await?
        .with_encryption(sealing.public().clone())
        .towards(Role::Proxy, o.way.is_direct())?;
    let (store, records) = RoleStore::open(&o.store, "worker", &o.store_key)?;
    let clock = Clock::default();
    let cfg = WorkerConfig {
        owner: o.owner,
        wallet: o.settlement.wallet(),
        model: o.model,
        coefficient: o.coefficient,
        max_active_requests: o.max_active_requests,
        proxy_connections: o.proxy_connections,
        is_test: o.is_test,
        testnet: o.testnet,
        check_hashes: o.check_hashes,
        entropy: rand::random(),
        settings: o.settings,
    };
    let core = WorkerCore::new(cfg, root.clone(), records, clock.now_ms())
        .map_err(|e: RecordsError| NodeError::Config(e.to_string()))?;
    let (saves, saved) = spawn_writer(store);
    let (peers, links) = Peers::new();
    let (targets, targets_rx) = watch::channel(addresses(&root));
    let (commands, command_queue) = mpsc::channel(16);
    let (stopped_tx, stopped) = watch::channel(None);
    let (backend_tx, backend_events) = mpsc::channel(BACKEND_QUEUE);
    let (health_tx, health) = mpsc::channel(1);
    let (sent_tx, sent) = mpsc::unbounded_channel();
    let (states_tx, states) = mpsc::channel(64);
    let (fresh_roots_tx, fresh_roots) = mpsc::channel(1);
    let dial = DialConfig {
        port: 0,
        way: o.way,
        claims: Some(claims),
        connections: o.proxy_connections as usize,
    };
    let dialler = tokio::spawn(peers.clone().dial(targets_rx, dial));
    let probe = tokio::spawn(probe(o.backend.clone(), health_tx));
    let driver = Driver {
        roots: o.settlement.watch_root(o.timing.root_poll, root),
        account_poll: o.timing.account_poll,
        core,
        clock,
        peers,
        links,
        targets,
        saves: Some(saves),
        saved,
        save_times: SaveTimer::default(),
        commands: command_queue,
        backend: o.backend,
        backend_tx,
        backend_events,
        running: HashMap::new(),
        health,
        settlement: o.settlement,
        sent_tx,
        sent,
        watched: HashMap::new(),
        fresh_roots_tx,
        fresh_roots,
        states_tx,
        states,
        dialler,
        probe,
        stopped: stopped_tx,
    };
    tokio::spawn(driver.run(o.timing.tick));
    Ok(WorkerHandle {
        commands,
        stopped,
        sealing: Arc::new(sealing),
    })
}

/// What can be wrong before anything is started.
fn check(o: &WorkerOptions, root: &RootView) -> Result<(), NodeError> {
    let refuse = |text: String| Err(NodeError::Config(text));
    if let Err(e) = cocoon_ledger::Coefficient::new(o.coefficient) {
        return refuse(format!("coefficient: {e}"));
    }
    if o.model.is_empty() || o.max_active_requests == 0 || o.proxy_connections == 0 {
        return refuse(
            "a worker needs a model name, max_active_requests of at least 1 and proxy_connections of at least 1"
                .into(),
        );
    }
    if o.check_hashes && !root.allows_model(&o.model) {
        warn!(
            "the root contract does not list the model {}: proxies will refuse this worker until it does",
            o.model
        );
    }
    Ok(())
}

/// Where workers connect, from the registry.
fn addresses(root: &RootView) -> Vec<SocketAddr> {
    root.proxies
        .iter()
        .map(|p| SocketAddr::V4(p.workers))
        .collect()
}

/// Probes the backend every 1 to 2 s (protocol.md 4.4) and reports changes.
async fn probe(backend: Arc<dyn Backend>, health: mpsc::Sender<bool>) {
    let mut last = None;
    loop {
        let result = tokio::time::timeout(PROBE_TIMEOUT, backend.healthy()).await;
        let problem = match result {
            Ok(Ok(())) => None,
            Ok(Err(e)) => Some(e),
            Err(_) => Some(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
        };
        let healthy = problem.is_none();
        if last != Some(healthy) {
            match problem {
                None => info!("the backend is ready"),
                Some(e) => warn!("the backend is not ready: {e}"),
            }
            if health.send(healthy).await.is_err() {
                return;
            }
            last = Some(healthy);
        }
        let pause = rand::rng().random_range(1000..2000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Bytes waiting on a link at which the backends behind it stop, far below where the link would be closed.
const FULL_LINK: usize = 4 << 20;
/// How often a full link is looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// The link of a request: a slow one slows down its own backends only, and costs no more memory.
struct Gate {
    peers: Peers,
    link: LinkId,
}

impl Gate {
    async fn room(&self) {
        while self.peers.waiting(self.link) > FULL_LINK {
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }
}

/// Passes the events of one request on; ends when the core cancelled it, which drops the backend's receiver.
async fn forward(
    backend: Arc<dyn Backend>,
    request: u64,
    http: HttpRequest,
    events: mpsc::Sender<(u64, BackendEvent)>,
    gate: Gate,
) {
    let mut answer = backend.start(http);
    while let Some(event) = answer.recv().await {
        gate.room().await;
        let last = matches!(event, BackendEvent::End | BackendEvent::Failed { .. });
        if events.send((request, event)).await.is_err() || last {
            return;
        }
    }
    let failed = BackendEvent::Failed {
        status: 502,
        message: "the backend broke off".to_owned(),
    };
    let _ = events.send((request, failed)).await;
}

struct Driver {
    core: WorkerCore,
    clock: Clock,
    account_poll: Duration,
    roots: watch::Receiver<Arc<RootView>>,
    peers: Peers,
    links: mpsc::Receiver<(usize, LinkEvent)>,
    targets: watch::Sender<Vec<SocketAddr>>,
    saves: Option<mpsc::UnboundedSender<(u64, Vec<Change>)>>,
    saved: mpsc::UnboundedReceiver<Result<u64, StoreError>>,
    save_times: SaveTimer,
    commands: mpsc::Receiver<Command>,
    backend: Arc<dyn Backend>,
    backend_tx: mpsc::Sender<(u64, BackendEvent)>,
    backend_events: mpsc::Receiver<(u64, BackendEvent)>,
    running: HashMap<u64, JoinHandle<()>>,
    health: mpsc::Receiver<bool>,
    settlement: Settlement,
    sent_tx: mpsc::UnboundedSender<(u64, bool)>,
    sent: mpsc::UnboundedReceiver<(u64, bool)>,
    watched: HashMap<Address, JoinHandle<()>>,
    fresh_roots_tx: mpsc::Sender<RootView>,
    fresh_roots: mpsc::Receiver<RootView>,
    states_tx: mpsc::Sender<(Address, AccountState)>,
    states: mpsc::Receiver<(Address, AccountState)>,
    dialler: JoinHandle<()>,
    probe: JoinHandle<()>,
    stopped: watch::Sender<Option<String>>,
}

impl Driver {
    async fn run(mut self, tick: Duration) {
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let first = self.core.take_effects();
        let mut end = self.apply(first);
        while end.is_none() {
            let event = tokio::select! {
                Some((_, event)) = self.links.recv() => WorkerEvent::Link(event),
                Some((request, event)) = self.backend_events.recv() => {
                    if matches!(event, BackendEvent::End | BackendEvent::Failed { .. }) {
                        self.running.remove(&request);
                    }
                    WorkerEvent::Backend { request, event }
                }
                Some(healthy) = self.health.recv() => WorkerEvent::Health(healthy),
                Some(result) = self.saved.recv() => match result {
                    Ok(number) => {
                        self.save_times.end();
                        WorkerEvent::Saved(number)
                    }
                    Err(e) => {
                        end = Some(format!("saving failed: {e}"));
                        continue;
                    }
                },
                Some((ticket, ok)) = self.sent.recv() => WorkerEvent::Transacted { ticket, ok },
                Some(root) = self.fresh_roots.recv() => WorkerEvent::Root(Box::new(root)),
                Some((contract, state)) = self.states.recv() => {
                    WorkerEvent::Contract { contract, state: Box::new(state) }
                }
                Ok(()) = self.roots.changed() => {
                    let root = self.roots.borrow_and_update().clone();
                    self.targets.send_replace(addresses(&root));
                    WorkerEvent::Root(Box::new((*root).clone()))
                }
                Some(command) = self.commands.recv() => match command {
                    Command::Event(event) => event,
                    Command::Stats(reply) => {
                        let _ = reply.send(self.core.stats());
                        continue;
                    }
                    Command::Page(reply) => {
                        let _ = reply.send(self.page());
                        continue;
                    }
                    Command::Spans(reply) => {
                        let _ = reply.send(self.core.meter.spans.take());
                        continue;
                    }
                    Command::Payout(proxy, reply) => {
                        let (now, mode) = (self.clock.now_ms(), self.settlement.mode());
                        let (done, effects) = self.core.operate_payout(now, mode, proxy);
                        let _ = reply.send(done);
                        end = self.apply(effects);
                        continue;
                    }
                },
                _ = ticks.tick() => WorkerEvent::Tick,
            };
            let effects = self.core.handle(self.clock.now_ms(), event);
            end = self.apply(effects);
        }
        self.stop(end.unwrap_or_default()).await;
    }

    async fn stop(mut self, reason: String) {
        self.probe.abort();
        for task in self.running.values().chain(self.watched.values()) {
            task.abort();
        }
        self.peers.close_all("the worker stops");
        // The dialler owns the connections: they get their last bytes out first.
        tokio::time::sleep(FLUSH).await;
        self.dialler.abort();
        // Everything handed to the writer is on disk before we say that we stopped.
        self.saves = None;
        while self.saved.recv().await.is_some() {}
        info!("worker stopped: {reason}");
        let _ = self.stopped.send(Some(reason));
    }

    fn page(&self) -> Page {
        let mut page = Page::new("worker");
        self.core.expose(&mut page);
        self.save_times.expose(&mut page);
        self.peers.doors().expose(&mut page);
        page
    }

    /// Carries out effects; returns the reason if the worker ends.
    fn apply(&mut self, effects: Vec<WorkerEffect>) -> Option<String> {
        let mut end = None;
        for effect in effects {
            match effect {
                WorkerEffect::Link(e) => self.peers.apply(e),
                WorkerEffect::Start {
                    link,
                    request,
                    http,
                } => {
                    let (backend, events) = (self.backend.clone(), self.backend_tx.clone());
                    let gate = Gate {
                        peers: self.peers.clone(),
                        link,
                    };
                    let task = tokio::spawn(forward(backend, request, http, events, gate));
                    self.running.insert(request, task);
                }
                WorkerEffect::Cancel { request } => {
                    if let Some(task) = self.running.remove(&request) {
                        task.abort();
                    }
                }
                WorkerEffect::Watch(contract) => self.watch(contract),
                WorkerEffect::ReadRoot => self.read_root(),
                WorkerEffect::Unwatch(contract) => {
                    if let Some(task) = self.watched.remove(&contract) {
                        task.abort();
                    }
                }
                WorkerEffect::Save { number, batch } => {
                    self.save_times.begin();
                    if let Some(saves) = &self.saves
                        && saves.send((number, batch)).is_err()
                    {
                        end = Some("the store's writer ended".to_owned());
                    }
                }
                WorkerEffect::Transact {
                    ticket,
                    to,
                    value,
                    bounce,
                    init,
                    body,
                } => {
                    let message = Outgoing {
                        to,
                        value: u128::from(value),
                        bounce,
                        init,
                        body,
                    };
                    self.settlement
                        .transact(ticket, message, self.sent_tx.clone());
                }
                WorkerEffect::Drained => end = Some("drained".to_owned()),
                WorkerEffect::Alarm(text) => error!("{text}"),
            }
        }
        end
    }

    /// Reads the root contract beside its poll.
    fn read_root(&self) {
        let (settlement, out) = (self.settlement.clone(), self.fresh_roots_tx.clone());
        tokio::spawn(async move {
            if let Some(root) = settlement.root_now().await {
                // The worker may have stopped.
                let _ = out.send(root).await;
            }
        });
    }

    fn watch(&mut self, contract: Address) {
        let mut states = self.settlement.watch_account(contract, self.account_poll);
        let out = self.states_tx.clone();
        let task = tokio::spawn(async move {
            while let Some(state) = states.recv().await {
                if out.send((contract, state)).await.is_err() {
                    return;
                }
            }
        });
        self.watched.insert(contract, task);
    }
}
