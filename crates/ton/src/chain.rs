//! The blockchain as a node sees it: one trait, implemented by the devnet, by liteservers and by HTTP gateways.

use num_bigint::BigInt;
use tycho_types::cell::Cell;

use crate::address::Address;

/// Global id of the TON main network.
pub const MAINNET_GLOBAL_ID: i32 = -239;
/// Global id of the public test network.
pub const TESTNET_GLOBAL_ID: i32 = -3;

/// Access to one TON network.
///
/// Nothing here is cached by contract: an answer is as fresh as the source's last block.
#[async_trait::async_trait]
pub trait Chain: Send + Sync {
    /// Which network this is, and how far it has come.
    async fn network(&self) -> Result<NetworkInfo, ChainError>;

    /// State of an account. An account that was never used is [`AccountStatus::Nonexistent`], not an error.
    async fn account(&self, address: &Address) -> Result<AccountState, ChainError>;

    /// Transactions of an account with a logical time above `after_lt`, oldest first, at most `limit`.
    ///
    /// They follow each other without a gap, so that the reader may go on from the last one.
    async fn transactions(
        &self,
        address: &Address,
        after_lt: u64,
        limit: usize,
    ) -> Result<Vec<TxInfo>, ChainError>;

    /// Runs a get-method. A failing method is an answer with its exit code, not an error.
    async fn run_get_method(
        &self,
        address: &Address,
        name: &str,
        args: Vec<StackValue>,
    ) -> Result<GetResult, ChainError>;

    /// Sends an external message and returns the hash of its root cell.
    ///
    /// Success means that the message was taken over for delivery, not that a transaction happened.
    async fn send(&self, external_boc: Vec<u8>) -> Result<[u8; 32], ChainError>;
}

/// Why the chain could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChainError {
    /// No answer from the source: network, server or start-up trouble.
    #[error("the TON source cannot be reached: {0}")]
    Unavailable(String),
    /// No answer in time.
    #[error("the TON source did not answer in time: {0}")]
    Timeout(String),
    /// The source asks to slow down.
    #[error("the TON source limits requests: {0}")]
    RateLimited(String),
    /// The message was refused, for example because the wallet contract did not accept it.
    #[error("the network refused the message: {reason}{}", exit_code_hint(.exit_code))]
    Rejected {
        /// What the source said.
        reason: String,
        /// Exit code of the contract that did not accept it, if known.
        exit_code: Option<i32>,
    },
    /// The question makes no sense, for example an unreadable message.
    #[error("the request to the TON source is wrong: {0}")]
    BadRequest(String),
    /// What is asked for is not kept any more or does not exist yet.
    #[error("the TON source does not have this: {0}")]
    NotFound(String),
    /// The answer cannot be understood or contradicts itself.
    #[error("the TON source sent a malformed answer: {0}")]
    Malformed(String),
    /// The source serves another network than the one wanted.
    #[error("wrong TON network: expected global id {expected}, found {found}")]
    WrongNetwork {
        /// Global id that was wanted.
        expected: i32,
        /// Global id that is served.
        found: i32,
    },
    /// A failure inside the source itself, for example of its store.
    #[error("the TON source failed: {0}")]
    Internal(String),
}

impl ChainError {
    /// Whether the same request may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Timeout(_) | Self::RateLimited(_) | Self::Internal(_) => {
                true
            }
            // Another server of the same network may know more or answer properly.
            Self::NotFound(_) | Self::Malformed(_) => true,
            Self::Rejected { .. } | Self::BadRequest(_) | Self::WrongNetwork { .. } => false,
        }
    }
}

fn exit_code_hint(code: &Option<i32>) -> String {
    code.map_or_else(String::new, |code| format!(" (exit code {code})"))
}

/// Which network, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkInfo {
    /// -239 for the main network, -3 for the test network, another number for a development network.
    pub global_id: i32,
    /// Sequence number of the newest masterchain block.
    pub seqno: u32,
    /// Unix time of that block in seconds.
    pub utime: u32,
}

/// Whether an account exists, and in what form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountStatus {
    /// Never used.
    Nonexistent,
    /// Holds coins, but no contract yet.
    Uninit,
    /// A working contract.
    Active,
    /// Put to sleep for storage debt; only a hash of its state is left.
    Frozen,
}

/// State of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountState {
    /// Whether it exists.
    pub status: AccountStatus,
    /// Coins in nanoTON.
    pub balance: u128,
    /// Contract code, if active.
    pub code: Option<Cell>,
    /// Contract data, if active.
    pub data: Option<Cell>,
    /// Logical time of the last transaction, 0 if none.
    pub last_lt: u64,
    /// Hash of the last transaction, zeros if none.
    pub last_hash: [u8; 32],
}

impl AccountState {
    /// An account that was never used.
    pub const NONEXISTENT: Self = Self {
        status: AccountStatus::Nonexistent,
        balance: 0,
        code: None,
        data: None,
        last_lt: 0,
        last_hash: [0; 32],
    };
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxInfo {
    /// Whose transaction.
    pub account: Address,
    /// Logical time.
    pub lt: u64,
    /// Hash of the transaction cell.
    pub hash: [u8; 32],
    /// Logical time of the account's transaction before, 0 if none.
    pub prev_lt: u64,
    /// Hash of the account's transaction before.
    pub prev_hash: [u8; 32],
    /// Unix time in seconds.
    pub utime: u32,
    /// Fees in nanoTON taken by this transaction; forward fees of its messages are not in it.
    pub total_fees: u128,
    /// Whether its effects were rolled back.
    pub aborted: bool,
    /// Exit code of the compute phase; absent if the phase was skipped (for example without gas).
    pub compute_exit_code: Option<i32>,
    /// Result of the action phase; absent if there was none.
    pub action_result_code: Option<i32>,
    /// The message that caused it; absent for ticks.
    pub in_msg: Option<MsgInfo>,
    /// Messages it sent, in order.
    pub out_msgs: Vec<MsgInfo>,
    /// The transaction cell itself.
    pub boc: Cell,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsgInfo {
    /// Sender; absent for an external message coming in.
    pub src: Option<Address>,
    /// Receiver; absent for an external message going out.
    pub dst: Option<Address>,
    /// Attached coins in nanoTON, 0 for external messages.
    pub value: u128,
    /// Whether it should come back if the receiver fails.
    pub bounce: bool,
    /// Whether it is such a message coming back.
    pub bounced: bool,
    /// Forward fee in nanoTON, as written in the header.
    pub fwd_fee: u128,
    /// Instant routing fee in nanoTON, as written in the header.
    pub ihr_fee: u128,
    /// Logical time of creation, 0 for external messages coming in.
    pub created_lt: u64,
    /// Body, in a cell of its own whether it was inline or in a reference.
    pub body: Cell,
    /// Hash of the whole message cell.
    pub hash: [u8; 32],
    /// Whether it carries a StateInit.
    pub init: bool,
}

/// A value on the stack of a get-method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackValue {
    /// Nothing.
    Null,
    /// Not a number: the result of a failed quiet operation.
    Nan,
    /// A signed number of up to 257 bits.
    Int(BigInt),
    /// A cell.
    Cell(Cell),
    /// A slice, its remaining bits and references in a cell of their own.
    Slice(Cell),
    /// An unfinished cell.
    Builder(Cell),
    /// Several values.
    Tuple(Vec<StackValue>),
}

impl StackValue {
    /// A number.
    pub fn int(value: impl Into<BigInt>) -> Self {
        Self::Int(value.into())
    }

    /// A 256-bit unsigned number from its big-endian bytes, as hashes and keys are passed.
    pub fn u256(bytes: &[u8; 32]) -> Self {
        Self::Int(BigInt::from_bytes_be(num_bigint::Sign::Plus, bytes))
    }

    /// The number, if it is one.
    pub fn as_int(&self) -> Option<&BigInt> {
        match self {
            Self::Int(value) => Some(value),
            _ => None,
        }
    }

    /// The number, if it is one and not negative and fits.
    pub fn as_u128(&self) -> Option<u128> {
        u128::try_from(self.as_int()?).ok()
    }

    /// The number, if it is one and fits.
    pub fn as_i64(&self) -> Option<i64> {
        i64::try_from(self.as_int()?).ok()
    }

    /// The number as 32 big-endian bytes, if it is one, not negative and fits.
    pub fn as_u256(&self) -> Option<[u8; 32]> {
        let (sign, bytes) = self.as_int()?.to_bytes_be();
        if sign == num_bigint::Sign::Minus || bytes.len() > 32 {
            return None;
        }
        let mut out = [0u8; 32];
        out[32 - bytes.len()..].copy_from_slice(&bytes);
        Some(out)
    }

    /// The cell of a cell, slice or builder.
    pub fn as_cell(&self) -> Option<&Cell> {
        match self {
            Self::Cell(cell) | Self::Slice(cell) | Self::Builder(cell) => Some(cell),
            _ => None,
        }
    }

    /// The standard address in a slice or cell, if that is all there is.
    pub fn as_address(&self) -> Option<Address> {
        use tycho_types::cell::Load;
        let mut slice = self.as_cell()?.as_slice().ok()?;
        let address = tycho_types::models::StdAddr::load_from(&mut slice).ok()?;
        let whole = slice.is_data_empty() && slice.is_refs_empty() && address.anycast.is_none();
        whole.then(|| Address::from(&address))
    }
}

/// What a get-method returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetResult {
    /// 0 or 1 for success.
    pub exit_code: i32,
    /// Results, the deepest first (the order in which the contract's documentation lists them).
    pub stack: Vec<StackValue>,
    /// Gas used.
    pub gas_used: u64,
}

impl GetResult {
    /// Whether the method succeeded.
    pub fn is_success(&self) -> bool {
        matches!(self.exit_code, 0 | 1)
    }
}
