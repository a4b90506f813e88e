//! Following the chain by polling: the root contract, an account's state, an account's transactions.
//!
//! A watcher is a task that ends when its receiver is dropped. On errors it keeps what it had, comes back after
//! growing pauses, warns once per outage and tells how old its newest look is ([`Staleness`]).

mod backoff;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cocoon_ton::abi::AbiError;
use cocoon_ton::{AccountState, AccountStatus, Address, Chain, ChainError, TxInfo};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

pub(crate) use self::backoff::Backoff;
use crate::root::RootView;

/// Transactions read at once, and at most in one delivery.
pub const BATCH: usize = 64;
/// First pause after a failure; a faster poll pauses no longer than its own period.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// Longest pause after failures, unless the poll itself is slower. Staleness limits of the roles start at 600 s.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A chain that does not answer for this long is treated as one that cannot be reached.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the root contract cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WatchError {
    /// The TON source failed.
    #[error("cannot read {address}: {source}")]
    Chain {
        /// What was read.
        address: Address,
        /// Why not.
        source: ChainError,
    },
    /// No contract is there.
    #[error(
        "there is no root contract at {address}, the account is {status:?}; check the address and the network"
    )]
    NoContract {
        /// The account.
        address: Address,
        /// What it is.
        status: AccountStatus,
    },
    /// Some other contract is there, or one of another version.
    #[error(
        "the contract at {address} is not a root contract of a known version: {source}; check the address"
    )]
    NotRoot {
        /// The account.
        address: Address,
        /// What cannot be read.
        source: AbiError,
    },
}

impl WatchError {
    /// Whether the same request may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Chain { source, .. } if source.is_retryable())
    }
}

/// When a watcher last had an answer from the chain. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Staleness(Arc<Mutex<Look>>);

#[derive(Debug)]
struct Look {
    success: Instant,
    trouble: Option<String>,
}

impl Staleness {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Look {
            success: Instant::now(),
            trouble: None,
        })))
    }

    fn look(&self) -> std::sync::MutexGuard<'_, Look> {
        // Both fields are replaced whole, so they are sound after a panic too.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Time since the last answer; since the start if there was none yet.
    pub fn age(&self) -> Duration {
        self.look().success.elapsed()
    }

    /// When the last answer came.
    pub fn last_success(&self) -> Instant {
        self.look().success
    }

    /// What is wrong now, if anything.
    pub fn trouble(&self) -> Option<String> {
        self.look().trouble.clone()
    }
}

/// Reads the root contract once.
pub async fn read_root(chain: &dyn Chain, root: &Address) -> Result<RootView, WatchError> {
    let address = *root;
    let state = limited(chain.account(root))
        .await
        .map_err(|source| WatchError::Chain { address, source })?;
    match (&state.data, state.status) {
        (Some(data), AccountStatus::Active) => RootView::decode(address, data)
            .map_err(|source| WatchError::NotRoot { address, source }),
        (_, status) => Err(WatchError::NoContract { address, status }),
    }
}

/// Follows the root contract, from a first look on. The last good view stays while the chain fails.
pub fn watch_root(
    chain: Arc<dyn Chain>,
    root: Address,
    every: Duration,
    first: RootView,
) -> watch::Receiver<Arc<RootView>> {
    watch_root_tracked(chain, root, every, first).0
}

/// [`watch_root`], and how fresh the view is.
///
/// Only a higher version replaces the view; an equal one merely refreshes it, and a lower one comes from a source
/// that lags. Whether a change can be lived with, for example of the test flag, is for the role to decide.
pub fn watch_root_tracked(
    chain: Arc<dyn Chain>,
    root: Address,
    every: Duration,
    first: RootView,
) -> (watch::Receiver<Arc<RootView>>, Staleness) {
    let mut outage = Outage::new("the root contract", root, every);
    let staleness = outage.staleness.clone();
    let mut version = first.version;
    let (sender, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        let mut pause = every;
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = sleep(pause) => {}
            }
            pause = match read_root(&*chain, &root).await {
                Ok(view) if view.version < version => outage.failed(&format!(
                    "the TON source shows version {} of the root contract, but {version} was there already",
                    view.version
                )),
                Ok(view) => {
                    outage.succeeded();
                    if view.version > version {
                        version = view.version;
                        sender.send_replace(Arc::new(view));
                    }
                    every
                }
                Err(error) => outage.failed(&error),
            };
        }
    });
    (receiver, staleness)
}

/// Follows an account: its state at the start, and whenever it has a new last transaction.
///
/// A slow receiver misses states in between, never the newest one.
pub fn watch_account(
    chain: Arc<dyn Chain>,
    address: Address,
    every: Duration,
) -> mpsc::Receiver<AccountState> {
    watch_account_tracked(chain, address, every).0
}

/// [`watch_account`], and how fresh the state is.
pub fn watch_account_tracked(
    chain: Arc<dyn Chain>,
    address: Address,
    every: Duration,
) -> (mpsc::Receiver<AccountState>, Staleness) {
    let mut outage = Outage::new("the account", address, every);
    let staleness = outage.staleness.clone();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut known: Option<u64> = None;
        // Room first, then the look: what is delivered is as new as can be.
        while let Ok(room) = sender.reserve().await {
            let state = loop {
                let pause = match limited(chain.account(&address)).await {
                    Ok(state) if known.is_some_and(|lt| state.last_lt < lt) => {
                        outage.failed(&"the TON source shows an older state than before")
                    }
                    Ok(state) => {
                        outage.succeeded();
                        if known.is_none_or(|lt| state.last_lt > lt) {
                            break state;
                        }
                        every
                    }
                    Err(error) => outage.failed(&error),
                };
                tokio::select! {
                    () = sender.closed() => return,
                    () = sleep(pause) => {}
                }
            };
            known = Some(state.last_lt);
            room.send(state);
            tokio::select! {
                () = sender.closed() => return,
                () = sleep(every) => {}
            }
        }
    });
    (receiver, staleness)
}

/// Follows an account's transactions above a logical time: oldest first, none skipped, none repeated, at most
/// [`BATCH`] at once. Batches are never empty. Nothing is read ahead of a slow receiver.
pub fn watch_transactions(
    chain: Arc<dyn Chain>,
    address: Address,
    after_lt: u64,
    every: Duration,
) -> mpsc::Receiver<Vec<TxInfo>> {
    watch_transactions_tracked(chain, address, after_lt, every).0
}

/// [`watch_transactions`], and how fresh the reading is.
pub fn watch_transactions_tracked(
    chain: Arc<dyn Chain>,
    address: Address,
    mut after_lt: u64,
    every: Duration,
) -> (mpsc::Receiver<Vec<TxInfo>>, Staleness) {
    let mut outage = Outage::new("the transactions", address, every);
    let staleness = outage.staleness.clone();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok(room) = sender.reserve().await {
            let batch = loop {
                let read = limited(chain.transactions(&address, after_lt, BATCH))
                    .await
                    .and_then(|page| check_page(&page, &address, after_lt).map(|()| page));
                let pause = match read {
                    Ok(page) => {
                        outage.succeeded();
                        if !page.is_empty() {
                            break page;
                        }
                        every
                    }
                    Err(error) => outage.failed(&error),
                };
                tokio::select! {
                    () = sender.closed() => return,
                    () = sleep(pause) => {}
                }
            };
            after_lt = batch.last().map_or(after_lt, |tx| tx.lt);
            let more = batch.len() >= BATCH;
            room.send(batch);
            if more {
                continue;
            }
            tokio::select! {
                () = sender.closed() => return,
                () = sleep(every) => {}
            }
        }
    });
    (receiver, staleness)
}

/// Whether a page follows `after_lt` without a gap, in order, and is of this account.
///
/// Each transaction names the one before it, so a source cannot leave one out by mistake.
pub(crate) fn check_page(
    page: &[TxInfo],
    address: &Address,
    after_lt: u64,
) -> Result<(), ChainError> {
    let mut last: Option<u64> = None;
    for tx in page {
        if tx.account != *address {
            return Err(ChainError::Malformed(format!(
                "a transaction of {} among those of {address}",
                tx.account
            )));
        }
        let follows = match last {
            // The caller's time need not be that of a transaction.
            None => tx.lt > after_lt && tx.prev_lt <= after_lt,
            Some(last) => tx.lt > last && tx.prev_lt == last,
        };
        if !follows {
            return Err(ChainError::Malformed(format!(
                "the transaction at logical time {} of {address} follows {}, expected one that follows {}",
                tx.lt,
                tx.prev_lt,
                last.unwrap_or(after_lt)
            )));
        }
        last = Some(tx.lt);
    }
    Ok(())
}

async fn limited<T>(call: impl Future<Output = Result<T, ChainError>>) -> Result<T, ChainError> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| {
        Err(ChainError::Timeout(format!(
            "no answer within {} s",
            CALL_TIMEOUT.as_secs()
        )))
    })
}

/// Success and failure of one watcher: pauses, the log, and the figure for status pages.
struct Outage {
    what: &'static str,
    address: Address,
    backoff: Backoff,
    staleness: Staleness,
}

impl Outage {
    fn new(what: &'static str, address: Address, every: Duration) -> Self {
        Self {
            what,
            address,
            backoff: Backoff::new(
                every.min(BACKOFF_BASE),
                every.max(BACKOFF_MAX),
                rand::random(),
            ),
            staleness: Staleness::new(),
        }
    }

    /// Books a failure and says how long to wait. Only the first one of an outage is a warning.
    fn failed(&mut self, error: &dyn std::fmt::Display) -> Duration {
        let (what, address) = (self.what, self.address);
        let text = error.to_string();
        let first = self
            .staleness
            .look()
            .trouble
            .replace(text.clone())
            .is_none();
        if first {
            tracing::warn!(%address, error = %text, "cannot follow {what}; trying again until it works");
        } else {
            tracing::debug!(%address, error = %text, "still cannot follow {what}");
        }
        self.backoff.next()
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        let mut look = self.staleness.look();
        look.success = Instant::now();
        if look.trouble.take().is_some() {
            drop(look);
            tracing::info!(address = %self.address, "following {} again", self.what);
        }
    }
}
