//! The client's driver: HTTP callers, sockets, store, chain and clock around the core.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cocoon_attest::claims::Role;
use cocoon_ton::Address;
use ed25519_dalek::SigningKey;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::ClientCore;
use super::api;
use super::closing::{root_event, seen};
use super::exit::{Judgement, judge};
use super::operate::Wish;
use super::types::{
    ClientConfig, ClientEffect, ClientEvent, ClientSettings, HttpOut, ModelOffer, NewRequest,
};
use crate::api_error::ApiError;
use crate::claims::{ClaimsSettings, Speaker};
use crate::common::{Clock, NodeError, SaveQueue, SaveReports, Timing, no_delay, spawn_writer};
use crate::metrics::{Outcome, Page, SaveTimer, trace};
use crate::operate::{Done, NotDone};
use crate::peers::{DialConfig, Peers, Way};
use crate::root::RootView;
use crate::settlement::Settlement;
use crate::store::RoleStore;
use crate::wallet::Outgoing;

/// Body bytes that may wait for a slow caller; beyond, the request is cancelled instead of growing.
const MAX_WAITING: usize = 8 << 20;
/// What a waiting piece costs beside its bytes: a peer that sends single bytes must not get around the limit.
const PIECE_COST: usize = 128;
/// A judgement takes a few reads of the chain and a fraction of a second of computing.
const JUDGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Shortest secret that is accepted.
const MIN_SECRET: usize = 16;

/// Everything a client needs.
pub struct ClientOptions {
    /// Where its contracts and coins are; the wallet owns the client contracts.
    pub settlement: Settlement,
    /// The store's file.
    pub store: PathBuf,
    /// Signs the store's records.
    pub store_key: SigningKey,
    /// How proxies are reached.
    pub way: Way,
    /// Proves the client to proxies; at least 16 bytes.
    pub secret: Vec<u8>,
    /// Where callers connect.
    pub http: TcpListener,
    /// Proxies to be connected to.
    pub proxy_connections: u32,
    /// Test network.
    pub is_test: bool,
    /// Testnet flag of addresses.
    pub testnet: bool,
    /// Compare proxies' image hashes.
    pub check_hashes: bool,
    /// Times and thresholds.
    pub settings: ClientSettings,
    /// Poll intervals.
    pub timing: Timing,
    /// Signed claims of direct links.
    pub claims: ClaimsSettings,
    /// Keys that callers must show; none asks for none.
    pub api_keys: Vec<String>,
    /// The operator's pages beside the endpoint, without fallbacks; they do their own checks.
    pub pages: Option<axum::Router>,
}

/// Price per token and what is on offer.
type Offers = Result<(u128, Vec<ModelOffer>), ApiError>;

/// What the HTTP side wants of the core.
pub(super) enum ApiCommand {
    Request(Box<NewRequest>, mpsc::UnboundedSender<HttpOut>),
    Cancel([u8; 32]),
    Taken([u8; 32], usize),
    Models(oneshot::Sender<Offers>),
    /// A call that never became a request: it was wrong, or showed no key.
    Refused(Outcome),
    Stats(oneshot::Sender<serde_json::Value>),
    SetClosed(bool),
    Page(oneshot::Sender<Page>),
    Spans(oneshot::Sender<trace::Taken>),
    Operate(Wish, Address, oneshot::Sender<Done>),
    Drain,
}

/// The way to the core.
#[derive(Clone)]
pub(super) struct ApiQueue(mpsc::UnboundedSender<ApiCommand>);

fn stopping() -> ApiError {
    ApiError::new(
        503,
        "server_error",
        "shutting_down",
        "the client is stopping",
    )
}

impl ApiQueue {
    pub async fn send(&self, command: ApiCommand) -> Result<(), ApiError> {
        self.0.send(command).map_err(|_| stopping())
    }

    pub async fn models(&self) -> Offers {
        let (tx, rx) = oneshot::channel();
        self.send(ApiCommand::Models(tx)).await?;
        rx.await.map_err(|_| stopping())?
    }

    pub async fn stats(&self) -> serde_json::Value {
        self.ask(ApiCommand::Stats)
            .await
            .unwrap_or_else(|| serde_json::json!({"ready": false, "stopped": true}))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> ApiCommand) -> Option<T> {
        let (tx, rx) = oneshot::channel();
        self.0.send(command(tx)).ok()?;
        rx.await.ok()
    }

    /// Counts a call that never became a request.
    pub fn refused(&self, outcome: Outcome) {
        let _ = self.0.send(ApiCommand::Refused(outcome));
    }
}

/// Cancels a request when its caller leaves: dropped without [`CallGuard::done`].
pub(super) struct CallGuard {
    queue: ApiQueue,
    id: [u8; 32],
    done: bool,
}

impl CallGuard {
    pub fn new(queue: ApiQueue, id: [u8; 32]) -> Self {
        CallGuard {
            queue,
            id,
            done: false,
        }
    }

    /// The caller took this many bytes.
    pub fn taken(&self, bytes: usize) {
        let _ = self.queue.0.send(ApiCommand::Taken(self.id, bytes));
    }

    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.queue.0.send(ApiCommand::Cancel(self.id));
        }
    }
}

/// A running client.
pub struct ClientHandle {
    queue: ApiQueue,
    ready: Arc<AtomicBool>,
    stopped: watch::Receiver<Option<String>>,
}

impl ClientHandle {
    /// Whether a request sent now has somewhere to go.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Figures for status pages.
    pub async fn stats(&self) -> serde_json::Value {
        self.queue.stats().await
    }

    /// Metrics; none once it has stopped.
    pub async fn page(&self) -> Page {
        let page = self.queue.ask(ApiCommand::Page).await;
        page.unwrap_or_else(|| Page::new("client"))
    }

    /// Requests that ended since the last call; the first call begins to collect.
    pub async fn spans(&self) -> trace::Taken {
        self.queue.ask(ApiCommand::Spans).await.unwrap_or_default()
    }

    /// Does what the operator asks with the proxy of this contract, or says why not.
    pub async fn operate(&self, wish: Wish, proxy: Address) -> Done {
        self.queue
            .ask(|reply| ApiCommand::Operate(wish, proxy, reply))
            .await
            .unwrap_or_else(|| Err(NotDone::Impossible("the client has stopped".into())))
    }

    /// The models on offer.
    pub async fn models(&self) -> Result<Vec<ModelOffer>, ApiError> {
        self.queue.models().await.map(|(_, m)| m)
    }

    /// Gives the client up: asks every deposit back and refuses requests, also after a restart; or takes it into use
    /// again.
    pub async fn set_closed(&self, closed: bool) {
        let _ = self.queue.send(ApiCommand::SetClosed(closed)).await;
    }

    /// Takes no new requests, finishes what runs, and ends.
    pub async fn drain(&self) {
        let _ = self.queue.send(ApiCommand::Drain).await;
        self.stopped().await;
    }

    /// Waits until the client has stopped and says why.
    pub async fn stopped(&self) -> String {
        let mut rx = self.stopped.clone();
        match rx.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the client's task ended".to_owned(),
        }
    }
}

/// Starts a client; its endpoint answers at once, requests work as soon as a proxy is ready.
pub async fn start(o: ClientOptions) -> Result<ClientHandle, NodeError> {
    if o.secret.len() < MIN_SECRET {
        return Err(NodeError::Config(format!(
            "the client's secret has {} bytes, expected at least {MIN_SECRET}: whoever guesses it spends this client's deposit",
            o.secret.len()
        )));
    }
    let root = o.settlement.read_root(o.is_test, &o.way.policies()).await?;
    o.settlement.guard_hashes(o.check_hashes).await?;
    let speaker = Speaker::new(Role::Client, &o.settlement, &root, o.claims).await?;
    let claims = speaker.towards(Role::Proxy, o.way.is_direct())?;
    let (store, records) = RoleStore::open(&o.store, "client", &o.store_key)?;
    let clock = Clock::default();
    let cfg = ClientConfig {
        wallet: o.settlement.wallet(),
        contracts: o.settlement.mode(),
        secret: o.secret,
        is_test: o.is_test,
        testnet: o.testnet,
        check_hashes: o.check_hashes,
        entropy: rand::random(),
        settings: o.settings,
    };
    let core =
        ClientCore::new(cfg, root.clone(), records, clock.now_ms()).map_err(NodeError::Config)?;
    let (saves, saved) = spawn_writer(store);
    let (peers, links) = Peers::new();
    let (targets_tx, targets) = watch::channel(client_targets(&root));
    let dial = DialConfig {
        port: 0,
        way: o.way,
        claims: Some(claims),
        connections: o.proxy_connections as usize,
    };
    let (api_tx, commands) = mpsc::unbounded_channel();
    let queue = ApiQueue(api_tx);
    let router = api::router(queue.clone(), o.api_keys, o.pages);
    let server = tokio::spawn(async move {
        if let Err(e) = axum::serve(no_delay(o.http), router).await {
            error!("the client's HTTP server ended: {e}");
        }
    });
    let (stopped_tx, stopped) = watch::channel(None);
    let ready = Arc::new(AtomicBool::new(false));
    let (sent_tx, sent) = mpsc::unbounded_channel();
    let (contracts_tx, contracts) = mpsc::channel(64);
    let (judged_tx, judged) = mpsc::unbounded_channel();
    let driver = Driver {
        core,
        clock,
        roots: o.settlement.watch_root(o.timing.root_poll, root),
        targets: targets_tx,
        tasks: vec![server, tokio::spawn(peers.clone().dial(targets, dial))],
        peers,
        links,
        saves: Some(saves),
        saved,
        save_times: SaveTimer::default(),
        commands,
        callers: HashMap::new(),
        lists: HashMap::new(),
        next_list: 0,
        sent_tx,
        sent,
        contracts_tx,
        contracts,
        judged_tx,
        judged,
        settlement: o.settlement,
        account_poll: o.timing.account_poll,
        watched: HashMap::new(),
        ready: ready.clone(),
        stopped: stopped_tx,
    };
    tokio::spawn(driver.run(o.timing.tick));
    Ok(ClientHandle {
        queue,
        ready,
        stopped,
    })
}

fn client_targets(root: &RootView) -> Vec<SocketAddr> {
    root.proxies
        .iter()
        .map(|p| SocketAddr::V4(p.clients))
        .collect()
}

/// A caller waiting for its answer.
struct Caller {
    out: mpsc::UnboundedSender<HttpOut>,
    waiting: AtomicUsize,
}

struct Driver {
    core: ClientCore,
    clock: Clock,
    peers: Peers,
    links: mpsc::Receiver<(usize, crate::link::LinkEvent)>,
    roots: watch::Receiver<Arc<RootView>>,
    targets: watch::Sender<Vec<SocketAddr>>,
    saves: Option<SaveQueue>,
    saved: SaveReports,
    save_times: SaveTimer,
    commands: mpsc::UnboundedReceiver<ApiCommand>,
    callers: HashMap<[u8; 32], Caller>,
    lists: HashMap<u64, oneshot::Sender<Offers>>,
    next_list: u64,
    sent_tx: mpsc::UnboundedSender<(u64, bool)>,
    sent: mpsc::UnboundedReceiver<(u64, bool)>,
    contracts_tx: mpsc::Sender<ClientEvent>,
    contracts: mpsc::Receiver<ClientEvent>,
    judged_tx: mpsc::UnboundedSender<(u64, Judgement)>,
    judged: mpsc::UnboundedReceiver<(u64, Judgement)>,
    settlement: Settlement,
    account_poll: Duration,
    tasks: Vec<JoinHandle<()>>,
    /// By proxy contract.
    watched: HashMap<Address, [JoinHandle<()>; 2]>,
    ready: Arc<AtomicBool>,
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
                Some((_, event)) = self.links.recv() => Some(ClientEvent::Link(event)),
                Some(command) = self.commands.recv() => self.on_command(command),
                Some(result) = self.saved.recv() => match result {
                    Ok(number) => {
                        self.save_times.end();
                        Some(ClientEvent::Saved(number))
                    }
                    Err(e) => {
                        end = Some(format!("saving failed: {e}"));
                        None
                    }
                },
                Some((ticket, ok)) = self.sent.recv() => Some(ClientEvent::Transacted { ticket, ok }),
                Some((ticket, judgement)) = self.judged.recv() => Some(ClientEvent::Judged { ticket, judgement }),
                Some(event) = self.contracts.recv() => Some(event),
                Ok(()) = self.roots.changed() => {
                    let root = (**self.roots.borrow_and_update()).clone();
                    self.targets.send_replace(client_targets(&root));
                    Some(ClientEvent::Root(Box::new(root)))
                }
                _ = ticks.tick() => Some(ClientEvent::Tick),
            };
            if let Some(event) = event {
                let effects = self.core.handle(self.clock.now_ms(), event);
                end = self.apply(effects).or(end);
            }
            self.ready.store(self.core.is_ready(), Ordering::Relaxed);
        }
        self.ready.store(false, Ordering::Relaxed);
        for task in self.tasks.iter().chain(self.watched.values().flatten()) {
            task.abort();
        }
        self.peers.close_all("the client stops");
        self.saves = None;
        while self.saved.recv().await.is_some() {}
        let reason = end.unwrap_or_default();
        info!("client stopped: {reason}");
        let _ = self.stopped.send(Some(reason));
    }

    fn on_command(&mut self, command: ApiCommand) -> Option<ClientEvent> {
        match command {
            ApiCommand::Request(request, out) => {
                self.callers.insert(
                    request.id,
                    Caller {
                        out,
                        waiting: AtomicUsize::new(0),
                    },
                );
                Some(ClientEvent::Request(request))
            }
            ApiCommand::Cancel(id) => {
                self.callers.remove(&id);
                Some(ClientEvent::Cancel(id))
            }
            ApiCommand::Taken(id, bytes) => {
                if let Some(c) = self.callers.get(&id) {
                    c.waiting.fetch_sub(bytes + PIECE_COST, Ordering::Relaxed);
                }
                None
            }
            ApiCommand::Models(reply) => {
                self.next_list += 1;
                self.lists.insert(self.next_list, reply);
                Some(ClientEvent::Models(self.next_list))
            }
            ApiCommand::Stats(reply) => {
                let mut stats = self.core.stats();
                stats["ready"] = serde_json::json!(self.core.is_ready());
                let _ = reply.send(stats);
                None
            }
            ApiCommand::SetClosed(closed) => Some(ClientEvent::SetClosed(closed)),
            ApiCommand::Refused(outcome) => {
                self.core.meter.refuse(self.clock.now_ms(), outcome);
                None
            }
            ApiCommand::Page(reply) => {
                let _ = reply.send(self.page());
                None
            }
            ApiCommand::Spans(reply) => {
                let _ = reply.send(self.core.meter.spans.take());
                None
            }
            ApiCommand::Operate(wish, proxy, reply) => {
                let (done, effects) = self.core.operate(self.clock.now_ms(), wish, proxy);
                let _ = reply.send(done);
                // Deposits and refunds do not end a client.
                let _ = self.apply(effects);
                None
            }
            ApiCommand::Drain => Some(ClientEvent::Drain),
        }
    }

    fn page(&self) -> Page {
        let mut page = Page::new("client");
        self.core.expose(&mut page);
        self.save_times.expose(&mut page);
        self.peers.doors().expose(&mut page);
        page
    }

    fn apply(&mut self, effects: Vec<ClientEffect>) -> Option<String> {
        let mut end = None;
        let mut too_slow = Vec::new();
        for effect in effects {
            match effect {
                ClientEffect::Link(e) => self.peers.apply(e),
                ClientEffect::Http(id, out) => {
                    let Some(c) = self.callers.get(&id) else {
                        continue;
                    };
                    let size = if let HttpOut::Body(b) = &out {
                        b.len() + PIECE_COST
                    } else {
                        0
                    };
                    let last = matches!(out, HttpOut::End | HttpOut::Fail(_));
                    if c.waiting.fetch_add(size, Ordering::Relaxed) + size > MAX_WAITING {
                        too_slow.push(id);
                        continue;
                    }
                    let gone = c.out.send(out).is_err();
                    if last || gone {
                        self.callers.remove(&id);
                    }
                }
                ClientEffect::Models(ticket, offers) => {
                    if let Some(reply) = self.lists.remove(&ticket) {
                        let price = self.core.root().price().0;
                        let _ = reply.send(offers.map(|o| (price, o)));
                    }
                }
                ClientEffect::Watch { proxy_sc, address } => self.watch(proxy_sc, address),
                ClientEffect::Unwatch { proxy_sc } => {
                    for task in self.watched.remove(&proxy_sc).into_iter().flatten() {
                        task.abort();
                    }
                }
                ClientEffect::ReadRoot => self.read_root(),
                ClientEffect::Save { number, batch } => {
                    self.save_times.begin();
                    if let Some(saves) = &self.saves {
                        let _ = saves.send((number, batch));
                    }
                }
                ClientEffect::Transact {
                    ticket,
                    to,
                    value,
                    bounce,
                    init,
                    body,
                } => {
                    let message = Outgoing {
                        to,
                        value,
                        bounce,
                        init,
                        body,
                    };
                    self.settlement
                        .transact(ticket, message, self.sent_tx.clone());
                }
                ClientEffect::Judge {
                    ticket,
                    contract,
                    plan,
                } => {
                    let judged = self.judged_tx.clone();
                    // A deposit is judged only where there is a chain to make it on.
                    let Some(chain) = self.settlement.chain().cloned() else {
                        let unknown = Judgement::Unknown("there is no chain".to_owned());
                        let _ = judged.send((ticket, unknown));
                        continue;
                    };
                    tokio::spawn(async move {
                        let judging = judge(chain.as_ref(), contract, plan);
                        let judgement = tokio::time::timeout(JUDGE_TIMEOUT, judging)
                            .await
                            .unwrap_or_else(|_| {
                                Judgement::Unknown("the chain does not answer in time".to_owned())
                            });
                        let _ = judged.send((ticket, judgement));
                    });
                }
                ClientEffect::Drained => end = Some("drained".to_owned()),
                ClientEffect::Alarm(text) => warn!("{text}"),
            }
        }
        for id in too_slow {
            if let Some(c) = self.callers.remove(&id) {
                let e = ApiError::new(
                    503,
                    "server_error",
                    "too_slow",
                    "the caller reads too slowly, the answer was broken off",
                );
                let _ = c.out.send(HttpOut::Fail(e));
            }
            let effects = self
                .core
                .handle(self.clock.now_ms(), ClientEvent::Cancel(id));
            end = self.apply(effects).or(end);
        }
        end
    }

    /// Watches a contract of ours, and the proxy's, which says when it is time to leave.
    fn watch(&mut self, proxy_sc: Address, address: Address) {
        let tasks = [address, proxy_sc].map(|account| {
            let mut states = self.settlement.watch_account(account, self.account_poll);
            let out = self.contracts_tx.clone();
            tokio::spawn(async move {
                while let Some(state) = states.recv().await {
                    if out.send(seen(proxy_sc, account, state)).await.is_err() {
                        return;
                    }
                }
            })
        });
        let before = self.watched.insert(proxy_sc, tasks);
        for task in before.into_iter().flatten() {
            task.abort();
        }
    }

    /// Reads the root contract beside its poll.
    fn read_root(&self) {
        let (settlement, out) = (self.settlement.clone(), self.contracts_tx.clone());
        tokio::spawn(async move {
            if let Some(root) = settlement.root_now().await {
                // The client may have stopped.
                let _ = out.send(root_event(root)).await;
            }
        });
    }
}
