//! The proxy's driver: sockets, store, chain and clock around the core.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::ClaimsProfile;
use cocoon_attest::claims::Role;
use cocoon_ton::{AccountState, Address, TxInfo};
use ed25519_dalek::SigningKey;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::operate::Wish;
use super::types::{Port, ProxyConfig, ProxyEffect, ProxyEvent, ProxySettings};
use super::{BooksError, ProxyCore};
use crate::claims::{ClaimsSettings, Speaker};
use crate::common::{Clock, NodeError, SaveQueue, SaveReports, Timing, spawn_writer};
use crate::link::LinkEvent;
use crate::metrics::{Page, SaveTimer, trace};
use crate::operate::{Done, NotDone};
use crate::peers::{Door, ListenConfig, Peers};
use crate::settlement::Settlement;
use crate::store::RoleStore;
use crate::wallet::{Condition, Outgoing};
use crate::watch::{BATCH, check_page};

const CLIENTS: usize = 0;
const WORKERS: usize = 1;
/// The first state commit goes through a wallet and a block; minutes mean that something is wrong.
const READY_TIMEOUT: Duration = Duration::from_secs(180);

/// Everything a proxy needs.
pub struct ProxyOptions {
    /// Where its contracts and coins are.
    pub settlement: Settlement,
    /// Signs payments.
    pub key: SigningKey,
    /// Owner of the proxy contract.
    pub owner: Address,
    /// The store's file.
    pub store: PathBuf,
    /// Where workers connect, if anywhere.
    pub workers: Option<Entrance>,
    /// Where clients connect, if anywhere.
    pub clients: Option<Entrance>,
    /// Test network.
    pub is_test: bool,
    /// Testnet flag of addresses.
    pub testnet: bool,
    /// Compare image and model hashes.
    pub check_hashes: bool,
    /// Times and thresholds.
    pub settings: ProxySettings,
    /// Poll intervals.
    pub timing: Timing,
    /// Signed claims of direct links.
    pub claims: ClaimsSettings,
}

/// A port and how peers come in there.
pub struct Entrance {
    /// The port.
    pub listener: TcpListener,
    /// Direct, or from a router.
    pub door: Door,
}

enum Command {
    Stats(oneshot::Sender<serde_json::Value>),
    Page(oneshot::Sender<Page>),
    Spans(oneshot::Sender<trace::Taken>),
    Operate(Wish, oneshot::Sender<Done>),
    Drain,
    Close,
}

/// A running proxy.
pub struct ProxyHandle {
    contract: Address,
    commands: mpsc::Sender<Command>,
    stopped: watch::Receiver<Option<String>>,
}

impl ProxyHandle {
    /// Its contract.
    pub fn contract(&self) -> Address {
        self.contract
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
            .unwrap_or_else(|| Page::new("proxy"))
    }

    /// Requests that ended since the last call; the first call begins to collect.
    pub async fn spans(&self) -> trace::Taken {
        self.ask(Command::Spans).await.unwrap_or_default()
    }

    /// Does what the operator asks, or says why not.
    pub async fn operate(&self, wish: Wish) -> Done {
        self.ask(|reply| Command::Operate(wish, reply))
            .await
            .unwrap_or_else(|| Err(NotDone::Impossible("the proxy has stopped".into())))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (tx, rx) = oneshot::channel();
        self.commands.send(command(tx)).await.ok()?;
        rx.await.ok()
    }

    /// Gives up the contract for good: finishes what runs, pays clients and workers, closes it. The proxy lives on until
    /// that is done, also through restarts, and takes requests again when the root's params change.
    pub async fn close(&self) {
        let _ = self.commands.send(Command::Close).await;
    }

    /// Takes no new requests, finishes what runs, saves, and ends.
    pub async fn drain(&self) {
        let _ = self.commands.send(Command::Drain).await;
        self.stopped().await;
    }

    /// Waits until the proxy has stopped and says why.
    pub async fn stopped(&self) -> String {
        let mut rx = self.stopped.clone();
        match rx.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the proxy's task ended".to_owned(),
        }
    }
}

/// Starts a proxy; returns once it accepts links.
pub async fn start(o: ProxyOptions) -> Result<ProxyHandle, NodeError> {
    let entrances = [&o.workers, &o.clients].into_iter().flatten();
    let policies: Vec<_> = entrances.flat_map(|e| e.door.policies()).collect();
    let root = o.settlement.read_root(o.is_test, &policies).await?;
    o.settlement.guard_hashes(o.check_hashes).await?;
    let speaker = Speaker::new(Role::Proxy, &o.settlement, &root, o.claims)
        .await?
        .with_payment_key(o.key.clone());
    let claims = |peer, entrance: &Option<Entrance>| {
        // Where nobody comes in, nothing is to be required.
        let direct = entrance.as_ref().is_none_or(|e| e.door.is_direct());
        speaker.towards(peer, direct)
    };
    let client_claims = claims(Role::Client, &o.clients)?;
    let worker_claims = claims(Role::Worker, &o.workers)?;
    let (store, records) = RoleStore::open(&o.store, "proxy", &o.key)?;
    let clock = Clock::default();
    let cfg = ProxyConfig {
        key: o.key,
        owner: o.owner,
        wallet: o.settlement.wallet(),
        contracts: o.settlement.mode(),
        is_test: o.is_test,
        testnet: o.testnet,
        check_hashes: o.check_hashes,
        entropy: rand::random(),
        settings: o.settings,
    };
    let mut core =
        ProxyCore::new(cfg, root.clone(), records, clock.now_ms()).map_err(|e| match e {
            BooksError::Abi(e) => o.settlement.bad_root(e.to_string()),
            other => NodeError::Config(other.to_string()),
        })?;
    let contract = core.contract();
    let first = catch_up(&o.settlement, &mut core, &clock).await?;
    let (saves, saved) = spawn_writer(store);
    let (peers, links) = Peers::new();
    let (commands, command_queue) = mpsc::channel(16);
    let (stopped_tx, stopped) = watch::channel(None);
    let (ready_tx, ready) = oneshot::channel();
    let (sent_tx, sent) = mpsc::unbounded_channel();
    let (seen_tx, seen) = mpsc::channel(64);
    let mut driver = Driver {
        seen_tx,
        seen,
        watched: HashMap::new(),
        clock_task: None,
        wallet: None,
        account_poll: o.timing.account_poll,
        roots: o.settlement.watch_root(o.timing.root_poll, root),
        core,
        clock,
        peers,
        links,
        saves: Some(saves),
        saved,
        save_times: SaveTimer::default(),
        commands: command_queue,
        sent_tx,
        sent,
        settlement: o.settlement,
        ready: Some(ready_tx),
        entrances: [
            (CLIENTS, o.clients, client_claims),
            (WORKERS, o.workers, worker_claims),
        ],
        tasks: Vec::new(),
        stopped: stopped_tx,
    };
    for (contract, after_lt) in driver.core.cursors() {
        driver.watch(contract, after_lt);
    }
    tokio::spawn(driver.run(o.timing.tick, first));
    let handle = ProxyHandle {
        contract,
        commands,
        stopped,
    };
    tokio::select! {
        // A dropped sender means that the proxy stopped; the reason is the better answer.
        Ok(()) = ready => {}
        reason = handle.stopped() => return Err(NodeError::Stopped(reason)),
        () = tokio::time::sleep(READY_TIMEOUT) => {
            return Err(NodeError::Timeout(format!(
                "the proxy's first state commit was not seen on chain within {} s; check the wallet's balance and the contract {contract}",
                READY_TIMEOUT.as_secs()
            )));
        }
    }
    Ok(handle)
}

/// Reads what the chain shows of the contracts before anything is saved or sent. A store that was put back is found out
/// here: its first state commit would make the newest copy look like a foreign one.
async fn catch_up(
    settlement: &Settlement,
    core: &mut ProxyCore,
    clock: &Clock,
) -> Result<Vec<ProxyEffect>, NodeError> {
    let mut effects = core.take_effects();
    let Some(chain) = settlement.chain() else {
        return Ok(effects);
    };
    for (contract, mut cursor) in core.cursors() {
        let head = chain.account(&contract).await?.last_lt;
        while cursor < head {
            let page = chain.transactions(&contract, cursor, BATCH).await?;
            check_page(&page, &contract, cursor)?;
            let Some(last) = page.last() else { break };
            cursor = last.lt;
            for effect in core.handle(clock.now_ms(), ProxyEvent::Transactions(page)) {
                match effect {
                    ProxyEffect::Halt(reason) => return Err(NodeError::Stopped(reason)),
                    other => effects.push(other),
                }
            }
        }
    }
    Ok(effects)
}

/// What the watchers report.
enum Seen {
    Transactions(Vec<TxInfo>),
    Account(Address, Box<AccountState>),
    Time(u32),
}

struct Driver {
    core: ProxyCore,
    clock: Clock,
    peers: Peers,
    links: mpsc::Receiver<(usize, LinkEvent)>,
    saves: Option<SaveQueue>,
    saved: SaveReports,
    save_times: SaveTimer,
    commands: mpsc::Receiver<Command>,
    sent_tx: mpsc::UnboundedSender<(u64, bool)>,
    sent: mpsc::UnboundedReceiver<(u64, bool)>,
    settlement: Settlement,
    ready: Option<oneshot::Sender<()>>,
    entrances: [(usize, Option<Entrance>, Arc<ClaimsProfile>); 2],
    tasks: Vec<JoinHandle<()>>,
    seen_tx: mpsc::Sender<Seen>,
    seen: mpsc::Receiver<Seen>,
    /// What is watched, by contract.
    watched: HashMap<Address, [JoinHandle<()>; 2]>,
    /// Reads the chain's clock while somebody waits for it.
    clock_task: Option<JoinHandle<()>>,
    /// Coins in the wallet, as the core knows them.
    wallet: Option<u128>,
    account_poll: Duration,
    roots: watch::Receiver<Arc<crate::root::RootView>>,
    stopped: watch::Sender<Option<String>>,
}

impl Driver {
    async fn run(mut self, tick: Duration, first: Vec<ProxyEffect>) {
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut end = self.apply(first);
        while end.is_none() {
            let event = tokio::select! {
                Some((port, event)) = self.links.recv() => match event {
                    LinkEvent::Up { .. } => {
                        let port = if port == CLIENTS { Port::Clients } else { Port::Workers };
                        ProxyEvent::Accepted(port, event)
                    }
                    other => ProxyEvent::Link(other),
                },
                Some(result) = self.saved.recv() => match result {
                    Ok(number) => {
                        self.save_times.end();
                        ProxyEvent::Saved(number as u32)
                    }
                    Err(e) => {
                        end = Some(format!("saving failed: {e}"));
                        continue;
                    }
                },
                Some((ticket, ok)) = self.sent.recv() => ProxyEvent::Transacted { ticket, ok },
                Some(seen) = self.seen.recv() => match seen {
                    Seen::Transactions(txs) => ProxyEvent::Transactions(txs),
                    Seen::Account(contract, state) => ProxyEvent::OtherContract { contract, state },
                    Seen::Time(utime) => ProxyEvent::ChainTime(utime),
                },
                Ok(()) = self.roots.changed() => ProxyEvent::Root(Box::new((**self.roots.borrow_and_update()).clone())),
                Some(command) = self.commands.recv() => match command {
                    Command::Drain => ProxyEvent::Drain,
                    Command::Close => ProxyEvent::Close,
                    Command::Stats(reply) => {
                        let _ = reply.send(super::stats::stats(&self.core));
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
                    Command::Operate(wish, reply) => {
                        let (done, effects) = self.core.operate(self.clock.now_ms(), wish);
                        let _ = reply.send(done);
                        end = self.apply(effects);
                        continue;
                    }
                },
                _ = ticks.tick() => ProxyEvent::Tick,
            };
            let effects = self.core.handle(self.clock.now_ms(), event);
            end = self.apply(effects);
            end = self.report_wallet().or(end);
        }
        for task in self
            .tasks
            .iter()
            .chain(self.watched.values().flatten())
            .chain(&self.clock_task)
        {
            task.abort();
        }
        self.peers.close_all("the proxy stops");
        // Everything handed to the writer is on disk before we say that we stopped.
        self.saves = None;
        while self.saved.recv().await.is_some() {}
        let reason = end.unwrap_or_default();
        info!("proxy stopped: {reason}");
        let _ = self.stopped.send(Some(reason));
    }

    fn page(&self) -> Page {
        let mut page = Page::new("proxy");
        super::stats::expose(&self.core, &mut page);
        self.save_times.expose(&mut page);
        self.peers.doors().expose(&mut page);
        page
    }

    /// Carries out effects; returns the reason if the proxy ends.
    fn apply(&mut self, effects: Vec<ProxyEffect>) -> Option<String> {
        let mut end = None;
        for effect in effects {
            match effect {
                ProxyEffect::Link(e) => self.peers.apply(e),
                ProxyEffect::Save { number, batch } => {
                    self.save_times.begin();
                    if let Some(saves) = &self.saves {
                        let _ = saves.send((u64::from(number), batch));
                    }
                }
                ProxyEffect::Transact {
                    ticket,
                    to,
                    value,
                    init,
                    body,
                } => {
                    let message = Outgoing {
                        to,
                        value: u128::from(value),
                        bounce: true,
                        init,
                        body,
                    };
                    self.settlement
                        .transact(ticket, message, self.sent_tx.clone());
                }
                ProxyEffect::Watch { contract, after_lt } => {
                    self.watch(contract, after_lt);
                    self.watch_clock();
                }
                ProxyEffect::Unwatch(contract) => {
                    for task in self.watched.remove(&contract).into_iter().flatten() {
                        task.abort();
                    }
                }
                ProxyEffect::Note(text) => info!("{text}"),
                ProxyEffect::Ready => self.open(),
                ProxyEffect::Drained => end = Some("drained".to_owned()),
                ProxyEffect::Halt(reason) => {
                    error!("the proxy halts: {reason}");
                    end = Some(reason);
                }
                ProxyEffect::Alarm(text) => warn!("{text}"),
            }
        }
        end
    }

    /// Tells the core when the wallet's balance has changed.
    fn report_wallet(&mut self) -> Option<String> {
        let Settlement::OnChain { wallet, .. } = &self.settlement else {
            return None;
        };
        let status = wallet.status();
        if status.condition == Condition::Starting || self.wallet == Some(status.balance) {
            return None;
        }
        self.wallet = Some(status.balance);
        let effects = self
            .core
            .handle(self.clock.now_ms(), ProxyEvent::Wallet(status.balance));
        self.apply(effects)
    }

    /// Follows a contract and its transactions.
    fn watch(&mut self, contract: Address, after_lt: u64) {
        let every = self.account_poll;
        let mut txs = self
            .settlement
            .watch_transactions(contract, after_lt, every);
        let out = self.seen_tx.clone();
        let transactions = tokio::spawn(async move {
            while let Some(batch) = txs.recv().await {
                if out.send(Seen::Transactions(batch)).await.is_err() {
                    return;
                }
            }
        });
        let mut states = self.settlement.watch_account(contract, every);
        let out = self.seen_tx.clone();
        let account = tokio::spawn(async move {
            while let Some(state) = states.recv().await {
                let seen = Seen::Account(contract, Box::new(state));
                if out.send(seen).await.is_err() {
                    return;
                }
            }
        });
        let before = self.watched.insert(contract, [transactions, account]);
        for task in before.into_iter().flatten() {
            task.abort();
        }
    }

    /// Delays of contracts end by the chain's clock.
    fn watch_clock(&mut self) {
        let (Some(chain), None) = (self.settlement.chain().cloned(), &self.clock_task) else {
            return;
        };
        let (every, out) = (self.account_poll, self.seen_tx.clone());
        self.clock_task = Some(tokio::spawn(async move {
            loop {
                if let Ok(network) = chain.network().await
                    && out.send(Seen::Time(network.utime)).await.is_err()
                {
                    return;
                }
                tokio::time::sleep(every).await;
            }
        }));
    }

    /// Begins to accept links.
    fn open(&mut self) {
        for (port, entrance, claims) in &mut self.entrances {
            if let Some(Entrance { listener, door }) = entrance.take() {
                let cfg = ListenConfig {
                    port: *port,
                    door,
                    claims: Some(claims.clone()),
                };
                self.tasks
                    .push(tokio::spawn(self.peers.clone().listen(listener, cfg)));
            }
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(());
        }
    }
}
