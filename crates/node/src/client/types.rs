//! What goes into the client's core and what comes out of it.

use cocoon_exit::Plan;
use cocoon_ledger::settle;
use cocoon_ton::{AccountState, Address, Cell};
use serde::{Deserialize, Serialize};

use super::exit::Judgement;
use crate::api_error::ApiError;
use crate::link::{LinkEffect, LinkEvent};
use crate::root::RootView;
use crate::settlement::ChainMode;
use crate::store::Change;
use crate::wishes::Wishes;

/// Who this client is.
pub struct ClientConfig {
    /// The node's wallet contract: owner of the client contracts and identity towards proxies (protocol.md 3.1).
    pub wallet: Address,
    /// Whether contracts are read from a chain.
    pub contracts: ChainMode,
    /// Proves the client to proxies that know its hash from the chain. Never empty.
    pub secret: Vec<u8>,
    /// Must equal the root contract's and every proxy's.
    pub is_test: bool,
    /// Testnet flag of addresses.
    pub testnet: bool,
    /// Compare proxies' image hashes with the root's list.
    pub check_hashes: bool,
    /// Seed of every random number the core needs. Fresh per process.
    pub entropy: [u8; 32],
    /// Times and thresholds.
    pub settings: ClientSettings,
}

/// Times in milliseconds and amounts in nanoTON. The defaults are those of the reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSettings {
    /// When it is worth going to the chain.
    pub settle: settle::ClientSettings,
    /// Coins attached to a message to the own contract, beside a top-up.
    pub message_value: u64,
    /// Coins attached to a registration.
    pub register_value: u64,
    /// Coins for a new contract.
    pub deploy_value: u64,
    /// Payment status is asked for this often.
    pub status_interval_ms: u64,
    /// After a change of the root's parameters links are renewed within this time, each at a moment of its own.
    pub roll_window_ms: u64,
    /// How long a request waits for a link while proxies move to new contracts.
    pub park_ms: u64,
    /// Deposit also where the worst way out loses more than fees: where the proxy's stake does not cover the deposit.
    pub accept_exit_risk: bool,
}

impl Default for ClientSettings {
    fn default() -> Self {
        const TON: u64 = 1_000_000_000;
        ClientSettings {
            settle: settle::ClientSettings::default(),
            message_value: TON * 7 / 10,
            register_value: TON,
            deploy_value: TON * 8 / 10,
            status_interval_ms: 15_000,
            roll_window_ms: 10_000,
            park_ms: 30_000,
            accept_exit_risk: false,
        }
    }
}

/// A request of an HTTP caller, read and priced.
pub struct NewRequest {
    /// 32 random bytes; names the request in every later event and effect.
    pub id: [u8; 32],
    /// Base model name.
    pub model: String,
    /// Boxed `http.request`.
    pub query: Vec<u8>,
    /// Highest acceptable coefficient.
    pub max_coefficient: u32,
    /// Output budget over all choices.
    pub max_tokens: u32,
    /// Time for the whole answer.
    pub timeout_ms: u64,
    /// Debug data wanted.
    pub enable_debug: bool,
    /// What is wanted of the worker.
    pub wishes: Wishes,
}

/// Everything that can happen to a client.
pub enum ClientEvent {
    /// Something on a link.
    Link(LinkEvent),
    /// Time passed.
    Tick,
    /// The root contract was read.
    Root(Box<RootView>),
    /// A caller wants an answer.
    Request(Box<NewRequest>),
    /// The caller of this request left.
    Cancel([u8; 32]),
    /// A caller wants the list of models; the answer comes with the same ticket.
    Models(u64),
    /// State of one of our contracts, by proxy contract.
    Contract {
        /// The proxy contract our contract belongs to.
        proxy_sc: Address,
        /// Its state.
        state: Box<AccountState>,
    },
    /// State of a proxy's contract.
    ProxyContract {
        /// The contract.
        proxy_sc: Address,
        /// Its state.
        state: Box<AccountState>,
    },
    /// A message asked for with [`ClientEffect::Transact`] went out, or did not.
    Transacted {
        /// Ticket of the effect.
        ticket: u64,
        /// Whether the wallet's transaction carried it.
        ok: bool,
    },
    /// What [`ClientEffect::Judge`] found out.
    Judged {
        /// Ticket of the effect.
        ticket: u64,
        /// The result.
        judgement: Judgement,
    },
    /// The batch with this number is durable.
    Saved(u64),
    /// Whether the operator gives this client up: running requests end, deposits are asked back, no new ones are made.
    SetClosed(bool),
    /// Take no new requests, finish what runs.
    Drain,
}

/// One model on offer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelOffer {
    /// Base name.
    pub id: String,
    /// Its workers, cheapest first.
    pub workers: Vec<WorkerOffer>,
}

/// One worker on offer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerOffer {
    /// Price factor, thousandths.
    pub coefficient: u32,
    /// Running requests.
    pub running_requests: u32,
    /// Its limit at this proxy.
    pub max_running_requests: u32,
    /// Its owner, where the proxy tells: the name for `provider.allow` and `provider.exclude`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Mean time to the first byte, where the proxy has measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u32>,
    /// Tokens a second of one answer, where the proxy has measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Share of recent requests that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
}

/// What a caller gets, in order: a head, pieces, an end; or a failure at any point.
#[derive(Clone, PartialEq)]
pub enum HttpOut {
    /// Status and headers.
    Head {
        /// HTTP status.
        status: u16,
        /// Headers, hop-by-hop ones removed.
        headers: Vec<(String, String)>,
    },
    /// A piece of body.
    Body(Vec<u8>),
    /// The answer is complete.
    End,
    /// It failed; before the head this is the whole answer.
    Fail(ApiError),
}

/// Everything a client can want.
pub enum ClientEffect {
    /// Something on a link.
    Link(LinkEffect),
    /// Something for a caller.
    Http([u8; 32], HttpOut),
    /// The list asked for with this ticket.
    Models(u64, Result<Vec<ModelOffer>, ApiError>),
    /// Poll this contract of ours and its proxy's, and report them as [`ClientEvent::Contract`] and
    /// [`ClientEvent::ProxyContract`].
    Watch {
        /// The proxy contract it belongs to.
        proxy_sc: Address,
        /// Our contract.
        address: Address,
    },
    /// Poll them no more.
    Unwatch {
        /// The proxy contract it belonged to.
        proxy_sc: Address,
    },
    /// Read the root contract now: a proxy knows more of it than we do.
    ReadRoot,
    /// Write a batch durably, then report [`ClientEvent::Saved`].
    Save {
        /// Number of the batch.
        number: u64,
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
        value: u128,
        /// Bounceable.
        bounce: bool,
        /// StateInit, for a deployment.
        init: Option<Cell>,
        /// Body; `None` for an empty one.
        body: Option<Cell>,
    },
    /// Find out what the worst way out loses after a plan, and report [`ClientEvent::Judged`].
    Judge {
        /// Reported back.
        ticket: u64,
        /// Our contract.
        contract: Address,
        /// What is planned.
        plan: Plan,
    },
    /// Nothing runs any more after [`ClientEvent::Drain`].
    Drained,
    /// Something an operator should see.
    Alarm(String),
}
