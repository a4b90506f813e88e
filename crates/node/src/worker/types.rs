//! What goes into the worker's core and what comes out of it.

use cocoon_engine::{BackendEvent, HttpRequest};
use cocoon_ledger::settle;
use cocoon_ton::{AccountState, Address, Cell};
use serde::{Deserialize, Serialize};

use crate::link::{LinkEffect, LinkEvent, LinkId};
use crate::root::RootView;
use crate::store::Change;

/// Who this worker is and what it offers.
#[derive(Clone)]
pub struct WorkerConfig {
    /// Receives the pay; part of every contract address.
    pub owner: Address,
    /// The node's own wallet: sends messages, receives excesses.
    pub wallet: Address,
    /// Full model name `base@commit:hash`, or the base name alone.
    pub model: String,
    /// Price factor at start, thousandths.
    pub coefficient: u32,
    /// Requests running at once over all proxies.
    pub max_active_requests: u32,
    /// How many proxies are dialled; each gets its share of the limit.
    pub proxy_connections: u32,
    /// Must equal the root contract's and every proxy's.
    pub is_test: bool,
    /// Testnet flag of addresses.
    pub testnet: bool,
    /// Compare image hashes of proxies with the root's list.
    pub check_hashes: bool,
    /// Seed of the jitter. Fresh per process.
    pub entropy: [u8; 32],
    /// Times and thresholds.
    pub settings: WorkerSettings,
}

/// Times in milliseconds and amounts in nanoTON. The defaults are those of the reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerSettings {
    /// When a signed payment is worth presenting on chain.
    pub settle: settle::WorkerSettings,
    /// Coins attached to a payout message.
    pub message_value: u64,
    /// Coins attached to the deployment of a worker contract.
    pub deploy_value: u64,
    /// Least time between two payment status queries on a link; the real one is up to twice as long.
    pub status_interval_ms: u64,
    /// Least time between two looks at a proxy record; the real one is up to twice as long.
    pub review_interval_ms: u64,
    /// How long the chain may take to show the effect of a message after the wallet has sent it.
    pub notice_wait_ms: u64,
    /// Longest time for one request; longer timeouts are cut.
    pub max_timeout_ms: u64,
    /// Links to outdated contracts go out of service after one to two times this.
    pub outdated_grace_ms: u64,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        const TON: u64 = 1_000_000_000;
        WorkerSettings {
            settle: settle::WorkerSettings::default(),
            message_value: TON / 2,
            deploy_value: TON * 3 / 10,
            status_interval_ms: 10_000,
            review_interval_ms: 10_000,
            notice_wait_ms: 60_000,
            max_timeout_ms: 3_600_000,
            outdated_grace_ms: 60_000,
        }
    }
}

/// Everything that can happen to a worker.
#[derive(Debug)]
pub enum WorkerEvent {
    /// Something on a link to a proxy.
    Link(LinkEvent),
    /// Time passed; sent about ten times a second.
    Tick,
    /// The root contract was read.
    Root(Box<RootView>),
    /// The backend of a request made progress.
    Backend {
        /// Number given with [`WorkerEffect::Start`].
        request: u64,
        /// What it did.
        event: BackendEvent,
    },
    /// The backend was probed.
    Health(bool),
    /// State of a contract that is watched.
    Contract {
        /// Which.
        contract: Address,
        /// As read.
        state: Box<AccountState>,
    },
    /// A message asked for with [`WorkerEffect::Transact`] went out, or did not.
    Transacted {
        /// Ticket of the effect.
        ticket: u64,
        /// Whether the wallet's transaction carried it.
        ok: bool,
    },
    /// The batch with this number is durable.
    Saved(u64),
    /// The operator opens or closes the worker for requests.
    SetEnabled(bool),
    /// Whether the operator gives this worker up: no more work, everything earned is fetched.
    SetClosed(bool),
    /// The operator changes the price factor, thousandths.
    SetCoefficient(u32),
    /// Stop taking requests, finish what runs.
    Drain,
}

/// Everything a worker can want.
#[derive(Debug)]
pub enum WorkerEffect {
    /// Something on a link.
    Link(LinkEffect),
    /// Start the backend; its events come back as [`WorkerEvent::Backend`].
    Start {
        /// Where the answer goes: the backend waits while that link is full.
        link: LinkId,
        /// Unique for the life of the core.
        request: u64,
        /// What to compute.
        http: HttpRequest,
    },
    /// Stop the backend; nothing more is wanted of this request.
    Cancel {
        /// Which.
        request: u64,
    },
    /// Poll this contract and report it as [`WorkerEvent::Contract`], at once and on every change.
    Watch(Address),
    /// Poll it no more.
    Unwatch(Address),
    /// Read the root contract now: a proxy knows more of it than we do.
    ReadRoot,
    /// Write a batch durably, then report [`WorkerEvent::Saved`].
    Save {
        /// Number of the batch.
        number: u64,
        /// Its records.
        batch: Vec<Change>,
    },
    /// Send a message from the node's wallet, then report [`WorkerEvent::Transacted`].
    Transact {
        /// Reported back.
        ticket: u64,
        /// Receiver.
        to: Address,
        /// Coins attached, nanoTON.
        value: u64,
        /// Whether the coins come back if the receiver fails.
        bounce: bool,
        /// StateInit, for a deployment.
        init: Option<Cell>,
        /// Body; `None` for an empty one.
        body: Option<Cell>,
    },
    /// Nothing runs any more after [`WorkerEvent::Drain`].
    Drained,
    /// Something an operator should see.
    Alarm(String),
}
