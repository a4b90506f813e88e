//! The running chain: a thread that makes blocks, and the handle that everybody else holds.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cocoon_ton::Cell;
use ed25519_dalek::SigningKey;
use tokio::sync::watch;
use tycho_types::boc::Boc;

use crate::block::{Block, Supply};
use crate::clock::{Clock, ClockMode};
use crate::config::{ChainConfig, ConfigOptions, SizeLimitsV2};
use crate::error::DevnetError;
use crate::executor::{ExecuteError, message_destination};
use crate::genesis::{GenesisAccount, genesis};
use crate::ledger::{External, State};
use crate::store::{Identity, Store};

/// Global id of a development chain unless the configuration says otherwise; no public network uses it.
pub const DEVNET_GLOBAL_ID: i32 = -217;

/// Time between blocks while there is work.
pub const DEFAULT_BLOCK_INTERVAL: Duration = Duration::from_millis(100);

/// A block is made after this time even without work, so that nodes see the time go on.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// External messages waiting for a block; more are refused until the next block.
pub const MAX_PENDING: usize = 10_000;

/// Stack of the block thread: deep cell trees are released recursively.
const STACK_BYTES: usize = 64 << 20;

/// How to run a chain.
#[derive(Clone, Debug)]
pub struct DevnetConfig {
    /// Accounts of the first block; used only when the store is new.
    pub genesis: Vec<GenesisAccount>,
    /// Global id of the network; an existing store must have the same.
    pub global_id: i32,
    /// Time between blocks while there is work.
    pub block_interval: Duration,
    /// How to tell the time.
    pub clock: ClockMode,
}

impl Default for DevnetConfig {
    fn default() -> Self {
        Self {
            genesis: Vec::new(),
            global_id: DEVNET_GLOBAL_ID,
            block_interval: DEFAULT_BLOCK_INTERVAL,
            clock: ClockMode::Real,
        }
    }
}

/// Why an external message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It is not a BOC, not an external message, or too big.
    #[error("not a usable external message: {0}")]
    Malformed(String),
    /// The contract would not accept it; nothing was stored.
    #[error(transparent)]
    Refused(ExecuteError),
    /// Too many messages wait for the next block.
    #[error("{MAX_PENDING} messages wait already, try again after the next block")]
    Busy,
    /// The chain does not make blocks any more.
    #[error("the chain stands still: {0}")]
    Halted(String),
}

/// An embedded TON chain. Cloning is cheap; the chain stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Devnet {
    pub(crate) inner: Arc<Inner>,
    worker: Arc<Worker>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) state: RwLock<State>,
    pub(crate) store: Store,
    pub(crate) config: ChainConfig,
    pub(crate) clock: Clock,
    pub(crate) identity: Identity,
    block_interval: Duration,
    pending: Mutex<Pending>,
    wake: Condvar,
    head: watch::Sender<u32>,
}

#[derive(Debug, Default)]
struct Pending {
    externals: Vec<External>,
    hashes: HashSet<[u8; 32]>,
    /// A block is wanted although there is no message.
    forced: bool,
    stopping: bool,
    halted: Option<String>,
}

/// Owns the block thread; not known to the thread itself.
#[derive(Debug)]
struct Worker {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    fn stop(&self) {
        lock(&self.inner.pending).stopping = true;
        self.inner.wake.notify_all();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the block thread panicked");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data behind every lock here is replaced whole, so it is sound after a panic too.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Devnet {
    /// Opens the chain in a directory, or makes a new one there, and starts making blocks.
    pub fn open(directory: &Path, config: DevnetConfig) -> Result<Self, DevnetError> {
        let clock = Clock::new(config.clock);
        let (store, loaded) = Store::open(directory)?;
        let (identity, state) = match loaded {
            Some(loaded) => {
                if loaded.identity.global_id != config.global_id {
                    return Err(DevnetError::Network {
                        path: store.path().to_owned(),
                        found: loaded.identity.global_id,
                        expected: config.global_id,
                    });
                }
                let state = State::new(loaded.head, loaded.accounts, loaded.queue);
                check_coins(&state, store.path())?;
                (loaded.identity, state)
            }
            None => {
                let identity = Identity {
                    global_id: config.global_id,
                    validator_seed: random_seed()?,
                    genesis_time: clock.now(),
                };
                let (state, changes) = genesis(&config.genesis, identity.genesis_time)?;
                store.create(&identity, &state.head, &changes)?;
                (identity, state)
            }
        };
        let validator_key = SigningKey::from_bytes(&identity.validator_seed)
            .verifying_key()
            .to_bytes();
        let options = ConfigOptions::new(identity.global_id, validator_key, identity.genesis_time);
        let chain_config = ChainConfig::new(&options)
            .map_err(|e| DevnetError::Genesis(format!("the blockchain config: {e}")))?;
        let (head, _) = watch::channel(state.head.seqno);
        let inner = Arc::new(Inner {
            state: RwLock::new(state),
            store,
            config: chain_config,
            clock,
            identity,
            block_interval: config.block_interval,
            pending: Mutex::new(Pending::default()),
            wake: Condvar::new(),
            head,
        });
        let for_thread = Arc::clone(&inner);
        let thread = std::thread::Builder::new()
            .name("devnet-blocks".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || for_thread.run())
            .map_err(|e| DevnetError::Storage(format!("cannot start the block thread: {e}")))?;
        Ok(Self {
            worker: Arc::new(Worker {
                inner: Arc::clone(&inner),
                thread: Mutex::new(Some(thread)),
            }),
            inner,
        })
    }

    /// Number of the newest block, and every later one.
    pub fn subscribe(&self) -> watch::Receiver<u32> {
        self.inner.head.subscribe()
    }

    /// Where all coins are. `accounts + in_queues + burned_fees` is always `genesis`.
    pub fn total_coins(&self) -> Supply {
        self.inner.read().head.supply
    }

    /// The newest block.
    pub fn head(&self) -> Block {
        self.inner.read().head.clone()
    }

    /// A block by its number.
    pub fn block(&self, seqno: u32) -> Result<Option<Block>, DevnetError> {
        self.inner.store.block(seqno)
    }

    /// The blockchain config.
    pub fn chain_config(&self) -> &ChainConfig {
        &self.inner.config
    }

    /// Global id of the network.
    pub fn global_id(&self) -> i32 {
        self.inner.identity.global_id
    }

    /// Unix time by the chain's clock; blocks are never earlier than the one before.
    pub fn now(&self) -> u32 {
        self.inner.clock.now()
    }

    /// Lets time pass and makes a block at the new time.
    pub fn advance(&self, seconds: u32) {
        self.inner.clock.advance(seconds);
        self.mine();
    }

    /// Makes a block now, even without messages.
    pub fn mine(&self) {
        lock(&self.inner.pending).forced = true;
        self.inner.wake.notify_all();
    }

    /// Takes an external message if the contract accepts it, and returns the hash of its root cell.
    ///
    /// Runs the contract on the calling thread; in async code use the `Chain` trait.
    pub fn send_external(&self, boc: &[u8]) -> Result<[u8; 32], SendError> {
        self.inner.send_external(boc)
    }

    /// Stops making blocks and closes the store. What was committed stays; waiting messages get a last block.
    pub fn shutdown(&self) {
        self.worker.stop();
        self.inner.store.close();
    }
}

impl Inner {
    pub(crate) fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn send_external(&self, boc: &[u8]) -> Result<[u8; 32], SendError> {
        let message = decode_external(boc)?;
        let hash = message.repr_hash().0;
        let (address, external) =
            message_destination(&message).map_err(|e| SendError::Malformed(e.to_string()))?;
        if !external {
            return Err(SendError::Malformed(
                "an internal message cannot be sent from outside".to_owned(),
            ));
        }
        {
            let pending = lock(&self.pending);
            if let Some(reason) = &pending.halted {
                return Err(SendError::Halted(reason.clone()));
            }
            if pending.stopping {
                return Err(SendError::Halted(DevnetError::Stopped.to_string()));
            }
            if pending.hashes.contains(&hash) {
                return Ok(hash);
            }
            if pending.externals.len() >= MAX_PENDING {
                return Err(SendError::Busy);
            }
        }
        let external = External { address, message };
        // The state is copied for the one account only; the check runs without holding any lock.
        let view = {
            let state = self.read();
            let account = state.accounts.get(&address).cloned();
            let mut view = State::new(
                state.head.clone(),
                account.map(|a| (address, a)).into_iter().collect(),
                Default::default(),
            );
            view.head_hash = state.head_hash;
            view
        };
        view.check_external(&self.config, self.clock.now(), &external)
            .map_err(SendError::Refused)?;
        let mut pending = lock(&self.pending);
        if pending.stopping {
            return Err(SendError::Halted(DevnetError::Stopped.to_string()));
        }
        if pending.hashes.insert(hash) {
            pending.externals.push(external);
        }
        drop(pending);
        self.wake.notify_all();
        Ok(hash)
    }

    /// The block thread.
    fn run(&self) {
        let mut last_block = Instant::now()
            .checked_sub(self.block_interval)
            .unwrap_or_else(Instant::now);
        loop {
            let Some((externals, stopping)) = self.wait_for_work(last_block) else {
                return;
            };
            last_block = Instant::now();
            if let Err(error) = self.make_block(externals) {
                tracing::error!(%error, "the chain stands still");
                lock(&self.pending).halted = Some(error.to_string());
                return;
            }
            if stopping {
                return;
            }
        }
    }

    /// Waits until a block is due. `None` means that the thread should end without another block.
    fn wait_for_work(&self, last_block: Instant) -> Option<(Vec<External>, bool)> {
        // Only this thread changes the queue, so this stays true while waiting.
        let busy = self.read().has_work();
        let mut pending = lock(&self.pending);
        loop {
            let waiting = busy || !pending.externals.is_empty();
            if pending.stopping {
                if pending.externals.is_empty() {
                    return None;
                }
                pending.hashes.clear();
                return Some((std::mem::take(&mut pending.externals), true));
            }
            let due = if pending.forced {
                Duration::ZERO
            } else if waiting {
                self.block_interval
            } else {
                HEARTBEAT
            };
            let elapsed = last_block.elapsed();
            if elapsed >= due {
                pending.forced = false;
                pending.hashes.clear();
                return Some((std::mem::take(&mut pending.externals), false));
            }
            let (guard, _) = self
                .wake
                .wait_timeout(pending, due - elapsed)
                .unwrap_or_else(|e| e.into_inner());
            pending = guard;
        }
    }

    fn make_block(&self, externals: Vec<External>) -> Result<(), DevnetError> {
        let draft = {
            let state = self.read();
            state.produce(&self.config, self.clock.now(), externals)?
        };
        // Durable before visible: readers see the block only after it is on disk.
        self.store.commit(&draft.block, &draft.changes)?;
        let seqno = draft.block.seqno;
        self.state
            .write()
            .unwrap_or_else(|e| e.into_inner())
            .apply(draft);
        self.head.send_replace(seqno);
        Ok(())
    }
}

fn decode_external(boc: &[u8]) -> Result<Cell, SendError> {
    let limit = SizeLimitsV2::MAX_EXT_MSG_SIZE as usize;
    if boc.len() > limit {
        return Err(SendError::Malformed(format!(
            "it has {} bytes, at most {limit} are allowed",
            boc.len()
        )));
    }
    let cell =
        Boc::decode(boc).map_err(|e| SendError::Malformed(format!("it is not a BOC: {e}")))?;
    if cell.repr_depth() > SizeLimitsV2::MAX_EXT_MSG_DEPTH {
        return Err(SendError::Malformed(format!(
            "it is {} cells deep, at most {} are allowed",
            cell.repr_depth(),
            SizeLimitsV2::MAX_EXT_MSG_DEPTH
        )));
    }
    Ok(cell)
}

/// Counts all coins of a loaded store against the figures of its newest block.
fn check_coins(state: &State, path: &Path) -> Result<(), DevnetError> {
    let supply = state.head.supply;
    let counted = state.count_coins();
    if counted == Some((supply.accounts, supply.in_queues)) && supply.is_conserved() {
        return Ok(());
    }
    let path: PathBuf = path.to_owned();
    let what = match counted {
        Some((accounts, queue)) => format!(
            "accounts hold {accounts} and messages {queue} nanoTON, but block {} says {} and {}",
            state.head.seqno, supply.accounts, supply.in_queues
        ),
        None => "an account or message cannot be read".to_owned(),
    };
    Err(DevnetError::Corrupted { path, what })
}

/// 32 bytes from the system's random source.
fn random_seed() -> Result<[u8; 32], DevnetError> {
    use std::io::Read;
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .map_err(|e| DevnetError::Genesis(format!("no random numbers from the system: {e}")))?;
    Ok(seed)
}
