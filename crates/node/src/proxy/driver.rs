//! The proxy's driver: sockets, store, chain and clock around the core.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::{Policy, TlsIdentity};
use cocoon_ton::{Address, Chain};
use ed25519_dalek::SigningKey;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::types::{Port, ProxyConfig, ProxyEffect, ProxyEvent, ProxySettings};
use super::{BooksError, ProxyCore};
use crate::common::{Clock, NodeError, SaveQueue, SaveReports, Timing, spawn_writer};
use crate::link::LinkEvent;
use crate::peers::{IdentityCell, ListenConfig, Peers};
use crate::store::RoleStore;
use crate::wallet::{Outgoing, WalletHandle};
use crate::watch::{read_root, watch_account, watch_root, watch_transactions};

const CLIENTS: usize = 0;
const WORKERS: usize = 1;
/// The first state commit goes through a wallet and a block; minutes mean that something is wrong.
const READY_TIMEOUT: Duration = Duration::from_secs(180);

/// Everything a proxy needs.
pub struct ProxyOptions {
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// The root contract.
    pub root: Address,
    /// Signs payments.
    pub key: SigningKey,
    /// Owner of the proxy contract.
    pub owner: Address,
    /// The node's wallet.
    pub wallet: WalletHandle,
    /// The store's file.
    pub store: PathBuf,
    /// Own certificate.
    pub identity: TlsIdentity,
    /// Where workers connect.
    pub workers: TcpListener,
    /// Where clients connect.
    pub clients: TcpListener,
    /// What workers must prove.
    pub workers_policy: Policy,
    /// What clients must prove.
    pub clients_policy: Policy,
    /// Proof of work asked of both.
    pub pow_difficulty: u8,
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
}

enum Command {
    Stats(oneshot::Sender<serde_json::Value>),
    Drain,
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
        let (tx, rx) = oneshot::channel();
        if self.commands.send(Command::Stats(tx)).await.is_err() {
            return serde_json::json!({"stopped": true});
        }
        rx.await
            .unwrap_or_else(|_| serde_json::json!({"stopped": true}))
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
    let root = read_root(o.chain.as_ref(), &o.root)
        .await
        .map_err(|e| NodeError::Root {
            address: o.root.to_string(),
            reason: e.to_string(),
        })?;
    if root.is_test() != o.is_test {
        return Err(NodeError::Config(format!(
            "the root contract is for a {} network, this proxy is configured for a {} one",
            name(root.is_test()),
            name(o.is_test)
        )));
    }
    let network = o.chain.network().await?;
    for policy in [&o.workers_policy, &o.clients_policy] {
        let mainnet = network.global_id == cocoon_ton::chain::MAINNET_GLOBAL_ID;
        cocoon_attest::guard_network(policy, mainnet, root.is_test())
            .map_err(|e| NodeError::Config(e.to_string()))?;
    }
    let (store, records) = RoleStore::open(&o.store, "proxy", &o.key)?;
    let clock = Clock::default();
    let cfg = ProxyConfig {
        key: o.key,
        owner: o.owner,
        wallet: o.wallet.address(),
        is_test: o.is_test,
        testnet: o.testnet,
        check_hashes: o.check_hashes,
        entropy: rand::random(),
        settings: o.settings,
    };
    let core = ProxyCore::new(cfg, root.clone(), records, clock.now_ms()).map_err(|e| match e {
        BooksError::Abi(e) => NodeError::Root {
            address: o.root.to_string(),
            reason: e.to_string(),
        },
        other => NodeError::Config(other.to_string()),
    })?;
    let contract = core.contract();
    let (saves, saved) = spawn_writer(store);
    let (peers, links) = Peers::new();
    let (commands, command_queue) = mpsc::channel(16);
    let (stopped_tx, stopped) = watch::channel(None);
    let (ready_tx, ready) = oneshot::channel();
    let (sent_tx, sent) = mpsc::unbounded_channel();
    let driver = Driver {
        transactions: watch_transactions(
            o.chain.clone(),
            contract,
            core.cursor_lt(),
            o.timing.account_poll,
        ),
        account: watch_account(o.chain.clone(), contract, o.timing.account_poll),
        roots: watch_root(o.chain.clone(), o.root, o.timing.root_poll, root),
        core,
        clock,
        peers,
        links,
        saves: Some(saves),
        saved,
        commands: command_queue,
        sent_tx,
        sent,
        wallet: o.wallet,
        ready: Some(ready_tx),
        listeners: Some((o.clients, o.workers)),
        identity: IdentityCell::new(o.identity),
        policies: (o.clients_policy, o.workers_policy),
        pow_difficulty: o.pow_difficulty,
        tasks: Vec::new(),
        stopped: stopped_tx,
    };
    tokio::spawn(driver.run(o.timing.tick));
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

fn name(is_test: bool) -> &'static str {
    if is_test { "test" } else { "production" }
}

struct Driver {
    core: ProxyCore,
    clock: Clock,
    peers: Peers,
    links: mpsc::Receiver<(usize, LinkEvent)>,
    saves: Option<SaveQueue>,
    saved: SaveReports,
    commands: mpsc::Receiver<Command>,
    sent_tx: mpsc::UnboundedSender<(u64, bool)>,
    sent: mpsc::UnboundedReceiver<(u64, bool)>,
    wallet: WalletHandle,
    ready: Option<oneshot::Sender<()>>,
    listeners: Option<(TcpListener, TcpListener)>,
    identity: IdentityCell,
    policies: (Policy, Policy),
    pow_difficulty: u8,
    tasks: Vec<JoinHandle<()>>,
    transactions: mpsc::Receiver<Vec<cocoon_ton::TxInfo>>,
    account: mpsc::Receiver<cocoon_ton::AccountState>,
    roots: watch::Receiver<Arc<crate::root::RootView>>,
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
                Some((port, event)) = self.links.recv() => match event {
                    LinkEvent::Up { .. } => {
                        let port = if port == CLIENTS { Port::Clients } else { Port::Workers };
                        ProxyEvent::Accepted(port, event)
                    }
                    other => ProxyEvent::Link(other),
                },
                Some(result) = self.saved.recv() => match result {
                    Ok(number) => ProxyEvent::Saved(number as u32),
                    Err(e) => {
                        end = Some(format!("saving failed: {e}"));
                        continue;
                    }
                },
                Some((ticket, ok)) = self.sent.recv() => ProxyEvent::Transacted { ticket, ok },
                Some(txs) = self.transactions.recv() => ProxyEvent::Transactions(txs),
                Some(state) = self.account.recv() => ProxyEvent::Contract(Box::new(state)),
                Ok(()) = self.roots.changed() => ProxyEvent::Root(Box::new((**self.roots.borrow_and_update()).clone())),
                Some(command) = self.commands.recv() => match command {
                    Command::Drain => ProxyEvent::Drain,
                    Command::Stats(reply) => {
                        let _ = reply.send(super::stats::stats(&self.core));
                        continue;
                    }
                },
                _ = ticks.tick() => ProxyEvent::Tick,
            };
            let effects = self.core.handle(self.clock.now_ms(), event);
            end = self.apply(effects);
        }
        for task in &self.tasks {
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

    /// Carries out effects; returns the reason if the proxy ends.
    fn apply(&mut self, effects: Vec<ProxyEffect>) -> Option<String> {
        let mut end = None;
        for effect in effects {
            match effect {
                ProxyEffect::Link(e) => self.peers.apply(e),
                ProxyEffect::Save { number, batch } => {
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
                    let (wallet, sent) = (self.wallet.clone(), self.sent_tx.clone());
                    tokio::spawn(async move {
                        let result = wallet
                            .send(Outgoing {
                                to,
                                value: u128::from(value),
                                bounce: true,
                                init,
                                body,
                            })
                            .await;
                        if let Err(e) = &result {
                            warn!("a message to {to} was not sent: {e}");
                        }
                        let _ = sent.send((ticket, result.is_ok()));
                    });
                }
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

    /// Begins to accept links.
    fn open(&mut self) {
        if let Some((clients, workers)) = self.listeners.take() {
            for (listener, port, policy) in [
                (clients, CLIENTS, self.policies.0.clone()),
                (workers, WORKERS, self.policies.1.clone()),
            ] {
                let cfg = ListenConfig {
                    port,
                    identity: self.identity.clone(),
                    policy,
                    pow_difficulty: self.pow_difficulty,
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
