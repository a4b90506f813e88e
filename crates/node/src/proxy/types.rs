//! What goes into the proxy's core and what comes out of it.

use cocoon_ledger::settle;
use cocoon_ton::{AccountState, Address, Cell, TxInfo};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::moving::ClosingSettings;
use crate::link::{LinkEffect, LinkEvent};
use crate::root::RootView;
use crate::settlement::ChainMode;
use crate::store::Change;

/// Which listening port a link came in on; that alone decides the peer's role (protocol.md 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Clients dial here.
    Clients,
    /// Workers dial here.
    Workers,
}

/// Who this proxy is.
pub struct ProxyConfig {
    /// Signs payments; its public key is part of every contract address.
    pub key: SigningKey,
    /// Owner of the proxy contract.
    pub owner: Address,
    /// The node's own wallet: sends messages, receives excesses.
    pub wallet: Address,
    /// Whether contracts are read from a chain.
    pub contracts: ChainMode,
    /// Must equal the root contract's and every peer's.
    pub is_test: bool,
    /// Testnet flag of addresses.
    pub testnet: bool,
    /// Compare image and model hashes of workers with the root's lists.
    pub check_hashes: bool,
    /// Seed of every random number the core needs; also the session hash. Fresh per process.
    pub entropy: [u8; 32],
    /// Times and thresholds.
    pub settings: ProxySettings,
}

/// Times in milliseconds and amounts in nanoTON. The defaults are those of the reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxySettings {
    /// Least time between two state commits.
    pub commit_interval_ms: u64,
    /// When it is worth going to the chain.
    pub settle: settle::ProxySettings,
    /// Coins attached to a message to a client or worker contract.
    pub message_value: u64,
    /// Coins attached to a withdrawal.
    pub withdraw_value: u64,
    /// Requests of one client at a time.
    pub max_running_per_client: u32,
    /// Longest timeout a client may ask for; longer ones are cut.
    pub max_timeout_ms: u64,
    /// Requests that may wait for a busy worker.
    pub max_queue: usize,
    /// Of these, requests of one client.
    pub max_queue_per_client: usize,
    /// Bytes of all requests that wait.
    pub max_queue_bytes: usize,
    /// Bytes of running requests that are kept to be sent to another worker; beyond, a request is not tried again.
    pub max_kept_bytes: usize,
    /// Unauthorized links are closed after this time.
    pub handshake_timeout_ms: u64,
    /// NanoTON of stake that a new contract gets, if not the usual ([`default_stake`](super::default_stake)).
    pub stake: Option<u128>,
    /// Leaving a contract.
    pub closing: ClosingSettings,
}

impl Default for ProxySettings {
    fn default() -> Self {
        const TON: u64 = 1_000_000_000;
        ProxySettings {
            commit_interval_ms: 30_000,
            settle: settle::ProxySettings::default(),
            message_value: TON * 7 / 10,
            withdraw_value: TON / 5,
            max_running_per_client: 1024,
            max_timeout_ms: 3_600_000,
            max_queue: 1024,
            max_queue_per_client: 256,
            max_queue_bytes: 128 << 20,
            max_kept_bytes: 256 << 20,
            handshake_timeout_ms: 320_000,
            stake: None,
            closing: ClosingSettings::default(),
        }
    }
}

/// Everything that can happen to a proxy.
#[derive(Debug)]
pub enum ProxyEvent {
    /// A new link came up on a port. Other link events follow as [`ProxyEvent::Link`].
    Accepted(Port, LinkEvent),
    /// Anything else on a link.
    Link(LinkEvent),
    /// Time passed; sent about ten times a second.
    Tick,
    /// The root contract was read.
    Root(Box<RootView>),
    /// The batch with this number is durable.
    Saved(u32),
    /// New transactions of a contract, oldest first.
    Transactions(Vec<TxInfo>),
    /// State of the own contract.
    Contract(Box<AccountState>),
    /// State of another contract that [`ProxyEffect::Watch`] named.
    OtherContract {
        /// Which.
        contract: Address,
        /// As read.
        state: Box<AccountState>,
    },
    /// Coins in the node's wallet, nanoTON.
    Wallet(u128),
    /// The chain's clock, Unix seconds.
    ChainTime(u32),
    /// Give up the contract: finish what runs, pay everybody, close it, and take no more requests until the root's
    /// params change.
    Close,
    /// A message asked for with [`ProxyEffect::Transact`] went out, or did not.
    Transacted {
        /// Ticket of the effect.
        ticket: u64,
        /// Whether the wallet's transaction carried it.
        ok: bool,
    },
    /// Stop taking requests, finish what runs.
    Drain,
}

/// Everything a proxy can want.
#[derive(Debug)]
pub enum ProxyEffect {
    /// Something on a link.
    Link(LinkEffect),
    /// Write a batch durably, then report [`ProxyEvent::Saved`].
    Save {
        /// Number of the batch.
        number: u32,
        /// Its records.
        batch: Vec<Change>,
    },
    /// Send a message from the node's wallet.
    Transact {
        /// Reported back.
        ticket: u64,
        /// Receiver.
        to: Address,
        /// Coins attached, nanoTON.
        value: u64,
        /// StateInit, for a deployment.
        init: Option<Cell>,
        /// Body; `None` for an empty one.
        body: Option<Cell>,
    },
    /// Report this contract and its transactions too. A contract that is watched already is read again from there.
    Watch {
        /// Which.
        contract: Address,
        /// Logical time of the last transaction that is known.
        after_lt: u64,
    },
    /// Report this contract no more.
    Unwatch(Address),
    /// Something worth a line in the log.
    Note(String),
    /// The first state commit was seen on chain: links may come in.
    Ready,
    /// Nothing runs any more after [`ProxyEvent::Drain`].
    Drained,
    /// The proxy must stop: its state and the chain contradict each other.
    Halt(String),
    /// Something an operator should see.
    Alarm(String),
}
