//! The node's wallet: sends messages in order, each at most once, and says when the chain carried them
//! (contracts.md, sections 10 and 14.2).
//!
//! Messages wait in a queue and leave in batches of up to four. One external message is in flight at a time; the
//! same bytes go out again every 30 s. A batch is settled by the wallet's own transactions, read without a gap:
//! one whose inbound body is ours says message by message what left. If the wallet's seqno passes without such a
//! transaction, our external can never be accepted any more, and the batch is signed anew.
//!
//! **Nothing is stored on disk**, because the seqno guards: of all externals signed for one seqno, by this
//! process, an earlier one or a second one with the same key, the contract accepts at most one. After a crash the
//! batch in flight may still be accepted until its hour has passed, or until the new process has used the seqno.
//! So whoever asks for messages must look at the chain first after a restart, as the roles do: they send again
//! only what their contracts do not show yet, and the contracts take totals, not increments.
//!
//! The state machine is in `wallet/core.rs`, without clock, randomness or I/O; `wallet/driver.rs` runs it on a
//! [`Chain`].

mod core;
mod driver;
mod flight;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cocoon_ton::abi::StateInit;
use cocoon_ton::amount::NANO_PER_TON;
use cocoon_ton::wallet::{FEE_RESERVE, InternalMessage, LOW_BALANCE, MAX_COINS};
use cocoon_ton::{Address, Cell, Chain, boc};
use ed25519_dalek::SigningKey;
use tokio::sync::{mpsc, oneshot, watch};

/// Messages that may wait; a node has a handful, so a full queue means that something runs in circles.
pub const MAX_QUEUE: usize = 10_000;
/// Bytes of one message: four of them, the signature and a StateInit fit into the 65,535 bytes of an external.
pub const MAX_MESSAGE_BYTES: usize = 15_000;
/// Depth of one message: the external adds two levels, and the network allows 512.
pub const MAX_MESSAGE_DEPTH: u16 = 500;
/// How long [`WalletHandle::close`] waits for the external in flight. A block takes seconds.
pub const CLOSE_GRACE: Duration = Duration::from_secs(10);
/// Requests between the handles and the task; the queue itself is [`MAX_QUEUE`] long.
const CHANNEL: usize = 64;

/// What a wallet needs to work.
#[derive(Clone)]
pub struct WalletConfig {
    /// The hot key of the node.
    pub key: SigningKey,
    /// Code, first data and address; attached to externals while the seqno is 0, so that the wallet deploys itself.
    pub init: StateInit,
    /// Nothing is sent below this balance in nanoTON. `cocoon_ton::wallet::MIN_BALANCE` is the least that works.
    pub min_balance: u128,
    /// Time between looks at the wallet's account.
    pub poll: Duration,
}

impl fmt::Debug for WalletConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalletConfig")
            .field("key", &"(secret)")
            .field("address", &self.init.address)
            .field("min_balance", &self.min_balance)
            .field("poll", &self.poll)
            .finish()
    }
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Receiver.
    pub to: Address,
    /// Coins in nanoTON. Fees come out of them, unless the value is the 1 nanoTON of a mere notice.
    pub value: u128,
    /// Whether it should come back if the receiver fails.
    pub bounce: bool,
    /// StateInit cell of a contract to deploy.
    pub init: Option<Cell>,
    /// Body; none means an empty body.
    pub body: Option<Cell>,
}

impl From<InternalMessage> for Outgoing {
    fn from(m: InternalMessage) -> Self {
        Self {
            to: m.to,
            value: m.value,
            bounce: m.bounce,
            init: m.init,
            body: m.body,
        }
    }
}

/// Proof that the wallet's transaction carried a message. It says nothing about success at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Logical time of the wallet's transaction.
    pub tx_lt: u64,
    /// Hash of the wallet's transaction.
    pub tx_hash: [u8; 32],
    /// Unix time of the wallet's transaction in seconds.
    pub utime: u32,
    /// Hash of the message as the chain carries it: the receiver's transaction has it inbound.
    pub message_hash: [u8; 32],
    /// Coins in nanoTON that arrive with it, forward fees taken off.
    pub value: u128,
}

/// Why a message was not sent. Unless [`WalletError::may_still_arrive`], it certainly was not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    /// The message cannot be written.
    #[error("the message to {to} cannot be sent: {reason}")]
    InvalidMessage {
        /// Receiver.
        to: Address,
        /// What is wrong with it.
        reason: String,
    },
    /// More coins than one external may carry.
    #[error(
        "the message carries {} TON, but at most {} TON leave the wallet at once; split it",
        .value / NANO_PER_TON, .limit / NANO_PER_TON
    )]
    TooManyCoins {
        /// Coins in nanoTON.
        value: u128,
        /// Most that is allowed, in nanoTON.
        limit: u128,
    },
    /// [`MAX_QUEUE`] messages wait already.
    #[error(
        "{MAX_QUEUE} messages wait in the wallet already; look at its balance and the TON connection"
    )]
    QueueFull,
    /// The owner has blocked the hot key.
    #[error(
        "the wallet {address} is blocked by its owner; unblock it with a message with the text \"u\" from the owner"
    )]
    Blocked {
        /// The wallet.
        address: Address,
    },
    /// The contract has another key than the node.
    #[error(
        "the wallet {address} does not take this node's key; check that the key and the owner in the \
         configuration are those it was created with"
    )]
    WrongKey {
        /// The wallet.
        address: Address,
    },
    /// Some other contract lives at the address.
    #[error(
        "the account {address} is not a wallet of this kind: {reason}; check the address and the wallet code"
    )]
    NotAWallet {
        /// The account.
        address: Address,
        /// What does not fit.
        reason: String,
    },
    /// The network refuses the external message again and again, for a reason the node cannot cure.
    #[error("the network refuses the wallet's message: {reason}{}; see the wallet's account in an explorer",
        .exit_code.map_or_else(String::new, |code| format!(" (exit code {code})")))]
    Rejected {
        /// What the source said.
        reason: String,
        /// Exit code of the wallet contract, if known.
        exit_code: Option<i32>,
    },
    /// The wallet's transaction went through without this message.
    #[error(
        "the wallet's transaction {} left this message out: not enough coins for it, or it is malformed",
        hex::encode(.tx_hash)
    )]
    LeftOut {
        /// The wallet's transaction.
        tx_hash: [u8; 32],
    },
    /// The wallet's transaction failed as a whole, and the seqno has been used up since.
    #[error(
        "the wallet's transaction {} failed (exit code {exit_code:?}, action result {action_code:?}); most often \
         the balance was too small",
        hex::encode(.tx_hash)
    )]
    Aborted {
        /// The wallet's transaction.
        tx_hash: [u8; 32],
        /// Exit code of the contract.
        exit_code: Option<i32>,
        /// Result of sending the messages.
        action_code: Option<i32>,
    },
    /// The wallet was closed before the message was signed.
    #[error("the node is stopping, the message was not sent")]
    Closed,
    /// The wallet was closed while the message was in flight.
    #[error(
        "the node stopped before the chain showed the message; it may still be carried out within an hour"
    )]
    Unconfirmed,
}

impl WalletError {
    /// Whether the network had the message and may still carry it out.
    pub fn may_still_arrive(&self) -> bool {
        matches!(self, Self::Unconfirmed)
    }
}

/// Whether the wallet can send, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The account was not read yet.
    Starting,
    /// It can send.
    Ready,
    /// It waits for coins.
    LowBalance {
        /// Balance in nanoTON from which it goes on.
        needed: u128,
    },
    /// The owner has blocked the hot key.
    Blocked,
    /// The contract has another key than the node.
    WrongKey,
    /// Some other contract lives at the address.
    NotAWallet(String),
    /// The account is frozen for storage debt.
    Frozen,
    /// The TON source fails; the other figures are the last good ones.
    SourceTrouble(String),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("not read yet"),
            Self::Ready => f.write_str("ready"),
            Self::LowBalance { needed } => {
                let (whole, rest) = (needed / NANO_PER_TON, needed % NANO_PER_TON);
                write!(
                    f,
                    "waits until the balance reaches {whole}.{rest:09} TON; send coins to it"
                )
            }
            Self::Blocked => f.write_str("blocked by its owner; unblock it with the text \"u\""),
            Self::WrongKey => f.write_str("the contract has another key than this node"),
            Self::NotAWallet(reason) => write!(f, "not a wallet of this kind: {reason}"),
            Self::Frozen => {
                f.write_str("frozen for storage debt; its owner must send coins and its StateInit")
            }
            Self::SourceTrouble(reason) => write!(f, "no fresh figures: {reason}"),
        }
    }
}

/// The wallet at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletStatus {
    /// Coins in nanoTON, as last read.
    pub balance: u128,
    /// Number of the next external message, as last read.
    pub seqno: u32,
    /// Messages that wait.
    pub queued: usize,
    /// Messages in the external that waits for its transaction.
    pub in_flight: usize,
    /// Whether it can send.
    pub condition: Condition,
}

impl WalletStatus {
    /// Whether the operator should send coins soon.
    pub fn is_low(&self) -> bool {
        self.condition != Condition::Starting && self.balance < LOW_BALANCE
    }
}

enum Request {
    Send {
        message: InternalMessage,
        done: oneshot::Sender<Result<Sent, WalletError>>,
    },
    Close,
}

/// A running wallet. Cloning is cheap; the wallet closes when the last clone is dropped.
#[derive(Clone)]
pub struct WalletHandle {
    address: Address,
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<WalletStatus>,
}

impl fmt::Debug for WalletHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalletHandle")
            .field("address", &self.address)
            .field("status", &*self.status.borrow())
            .finish()
    }
}

impl WalletHandle {
    /// Starts the wallet's task on the current tokio runtime.
    pub fn spawn(chain: Arc<dyn Chain>, cfg: WalletConfig) -> Self {
        let address = cfg.init.address;
        let core = core::Core::new(cfg, rand::random());
        let (requests, receiver) = mpsc::channel(CHANNEL);
        let (sender, status) = watch::channel(core.status());
        tokio::spawn(driver::run(core, chain, receiver, sender));
        Self {
            address,
            requests,
            status,
        }
    }

    /// Where the wallet is.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Queues a message and waits until a transaction of the wallet carried it, however long coins or the chain
    /// take. Dropping the future does not take the message back.
    pub async fn send(&self, m: Outgoing) -> Result<Sent, WalletError> {
        let message = checked(m)?;
        let (done, result) = oneshot::channel();
        let request = Request::Send { message, done };
        self.requests
            .send(request)
            .await
            .map_err(|_| WalletError::Closed)?;
        // The task answers every request it took; it vanishes only together with the runtime.
        result.await.unwrap_or(Err(WalletError::Unconfirmed))
    }

    /// The wallet as last read.
    pub fn status(&self) -> WalletStatus {
        self.status.borrow().clone()
    }

    /// The wallet's status and every change of it.
    pub fn watch_status(&self) -> watch::Receiver<WalletStatus> {
        self.status.clone()
    }

    /// Waits until the wallet can send, as a node does at start-up.
    pub async fn ready(&self) -> Result<(), WalletError> {
        let mut status = self.status.clone();
        status
            .wait_for(|status| status.condition == Condition::Ready)
            .await
            .map(|_| ())
            .map_err(|_| WalletError::Closed)
    }

    /// Closes the wallet: takes no more messages, gives up those that wait, and waits for the external in flight,
    /// at most [`CLOSE_GRACE`].
    pub async fn close(&self) {
        // An error means that it is closed already.
        let _ = self.requests.send(Request::Close).await;
        let mut status = self.status.clone();
        while status.changed().await.is_ok() {}
    }
}

/// A message that surely fits into an external.
fn checked(m: Outgoing) -> Result<InternalMessage, WalletError> {
    let limit = MAX_COINS - FEE_RESERVE;
    if m.value > limit {
        return Err(WalletError::TooManyCoins {
            value: m.value,
            limit,
        });
    }
    let invalid = |reason| WalletError::InvalidMessage { to: m.to, reason };
    let message = InternalMessage {
        to: m.to,
        value: m.value,
        bounce: m.bounce,
        init: m.init,
        body: m.body,
    };
    let cell = message.encode().map_err(|e| invalid(e.to_string()))?;
    let depth = cell.repr_depth();
    if depth > MAX_MESSAGE_DEPTH {
        return Err(invalid(format!(
            "it is {depth} cells deep, at most {MAX_MESSAGE_DEPTH} are possible"
        )));
    }
    let bytes = boc::encode(&cell).len();
    if bytes > MAX_MESSAGE_BYTES {
        return Err(invalid(format!(
            "it has {bytes} bytes, at most {MAX_MESSAGE_BYTES} are possible"
        )));
    }
    Ok(message)
}
