//! What the contracts must do, in plain Rust, written from contracts.md sections 2 and 6 to 11 and from
//! "Beside the ABI" in contracts/README.md, and not from the Tolk sources. One message in, the verdict out.

mod client;
mod proxy;
mod read;
mod root;
mod wallet;
mod worker;

use cocoon_ton::abi::{
    AbiError, ClientState, OwnerMessage, Params, ProxyState, RootState, WalletState, WorkerState,
};
use cocoon_ton::{Address, Cell};
use ed25519_dalek::{Signature, VerifyingKey};

pub use read::Bits;

/// 0.1 TON: what a call brings beside the amount it moves.
pub const COMMISSION: u128 = 100_000_000;
/// 0.01 TON: kept by root, proxy and closed contracts.
pub const STORAGE: u128 = 10_000_000;
/// 0.11 TON: kept by client and worker contracts.
pub const OWN_FLOOR: u128 = STORAGE + COMMISSION;
/// Below this a node wallet accepts no external message.
pub const WALLET_FLOOR: u128 = 2_000_000_000;
/// The op with which a closed client or worker sends its own coins to its owner (ours, beside the ABI).
pub const SWEEP: u32 = 0x4d7a_36c8;

/// An exit code that is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub i32);

/// Body too short, too long, or an address that is none.
pub const MALFORMED: Exit = Exit(9);
/// Coins that would become negative.
pub const RANGE: Exit = Exit(5);

/// State of one of the five contracts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Root, with its code, which it can change.
    Root(Box<RootState>),
    /// Proxy.
    Proxy(Box<ProxyState>),
    /// Client.
    Client(Box<ClientState>),
    /// Worker.
    Worker(Box<WorkerState>),
    /// Wallet.
    Wallet(Box<WalletState>),
}

impl State {
    /// The storage cell.
    pub fn encode(&self) -> Result<Cell, AbiError> {
        match self {
            Self::Root(s) => s.encode(),
            Self::Proxy(s) => s.encode(),
            Self::Client(s) => s.encode(),
            Self::Worker(s) => s.encode(),
            Self::Wallet(s) => s.encode(),
        }
    }
}

/// A message as a contract sees it.
pub struct Call<'a> {
    /// The contract.
    pub me: Address,
    /// Sender; none for an external message.
    pub from: Option<Address>,
    /// Coins of the message.
    pub value: u128,
    /// Balance when the compute phase starts; contains the value.
    pub balance: u128,
    /// Unix time.
    pub now: u32,
    /// Whether the message came back.
    pub bounced: bool,
    /// Body.
    pub body: &'a Cell,
}

impl Call<'_> {
    /// What the account owned before the message, but at least the floor. The specification adds the storage debt,
    /// which makes a difference only for an account that owns nothing and owes more than its floor.
    pub fn keep(&self, floor: u128) -> u128 {
        self.balance_before().max(floor)
    }

    /// What the account owned before the message.
    pub fn balance_before(&self) -> u128 {
        self.balance.saturating_sub(self.value)
    }
}

/// What a message is worth when it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Exactly this; fees are paid beside it.
    Exactly(u128),
    /// This, fees taken from it.
    LessFees(u128),
    /// All that is not kept.
    Rest,
    /// All that is not kept; if it cannot be sent, it stays and nothing fails.
    RestOrNothing,
}

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Receiver.
    pub to: Address,
    /// Whether it may bounce.
    pub bounce: bool,
    /// Its coins.
    pub worth: Worth,
    /// Its body.
    pub body: Cell,
    /// Whether a failure to send it is passed over.
    pub optional: bool,
}

/// How much the account keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything that is not sent.
    All,
    /// This, or the action phase fails.
    Exactly(u128),
    /// This, or less if there is less.
    AtMost(u128),
}

/// What a contract does with a message that it does not refuse. The state has been changed already.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What stays.
    pub keep: Keep,
    /// What is sent, in order.
    pub sent: Vec<Sent>,
    /// Whether the state stands even if nothing can be sent.
    pub committed: bool,
    /// The exit code: the contract may fail after the point from which its state stands.
    pub exit: i32,
    /// Whether a failed action phase sends the message back.
    pub bounces: bool,
    /// How it ends does not matter, as long as nothing changes and nothing is sent.
    pub indifferent: bool,
    /// New code.
    pub code: Option<Cell>,
}

impl Verdict {
    /// Accepted; the coins stay.
    pub fn silent() -> Self {
        Self::keeping(Keep::All, Vec::new())
    }

    /// Nothing may come of it; no network delivers such a message.
    pub fn indifferent() -> Self {
        Self {
            indifferent: true,
            ..Self::silent()
        }
    }

    /// Accepted, with messages.
    pub fn keeping(keep: Keep, sent: Vec<Sent>) -> Self {
        Self {
            keep,
            sent,
            committed: false,
            exit: 0,
            bounces: false,
            indifferent: false,
            code: None,
        }
    }
}

/// What a contract in this state does with a message. The state is changed only if it returns a verdict.
pub fn receive(state: &mut State, call: &Call<'_>) -> Result<Verdict, Exit> {
    let mut next = state.clone();
    let verdict = receive_unchecked(&mut next, call)?;
    *state = next;
    Ok(verdict)
}

fn receive_unchecked(state: &mut State, call: &Call<'_>) -> Result<Verdict, Exit> {
    let mut body = Bits::new(call.body);
    let Some(from) = call.from else {
        return match state {
            State::Wallet(state) => wallet::external(state, call, body),
            // No other contract has a receiver for external messages.
            _ => Err(Exit(11)),
        };
    };
    if body.is_empty() {
        return Ok(Verdict::silent());
    }
    if call.bounced {
        return match state {
            State::Client(state) => client::bounced(state, call, from, body),
            State::Worker(state) => worker::bounced(state, call, from, body),
            _ => Ok(Verdict::silent()),
        };
    }
    let op = body.u32()?;
    if op == cocoon_ton::abi::op::DO_NOT_PROCESS {
        return Ok(Verdict::silent());
    }
    match state {
        State::Root(state) => root::receive(state, call, from, op, body),
        State::Proxy(state) => proxy::receive(state, call, from, op, body),
        State::Client(state) => client::receive(state, call, from, op, body),
        State::Worker(state) => worker::receive(state, call, op, body),
        State::Wallet(state) => wallet::receive(state, call, from, op, body),
    }
}

/// Leftover coins to whom the caller chose.
fn excess(to: Address, query_id: u64) -> Sent {
    Sent {
        to,
        bounce: false,
        worth: Worth::RestOrNothing,
        body: OwnerMessage::Excesses { query_id }.encode().unwrap(),
        optional: true,
    }
}

/// Coins for an owner.
fn payout(to: Address, worth: Worth, query_id: u64) -> Sent {
    Sent {
        to,
        bounce: false,
        worth,
        body: OwnerMessage::Payout { query_id }.encode().unwrap(),
        optional: false,
    }
}

/// The signed part of an envelope: total and target where the op has them.
struct Opened {
    receiver: Address,
    tail: Cell,
    skip: u16,
}

impl Opened {
    /// The payload behind op and query id.
    fn tail(&self) -> Bits<'_> {
        let mut bits = Bits::new(&self.tail);
        bits.skip(self.skip).expect("op and query id were read");
        bits
    }
}

/// Envelope (section 11): parse 9, signature 1007, op and query id 1005.
fn open(mut body: Bits<'_>, op: u32, query_id: u64, key: &[u8; 32]) -> Result<Opened, Exit> {
    let receiver = body.address()?;
    let signature = body.bytes::<64>()?;
    let payload = body.cell()?;
    body.end()?;
    let valid = VerifyingKey::from_bytes(key).is_ok_and(|key| {
        key.verify_strict(
            payload.repr_hash().as_slice(),
            &Signature::from_bytes(&signature),
        )
        .is_ok()
    });
    if !valid {
        return Err(Exit(1007));
    }
    let mut tail = Bits::new(&payload);
    if tail.u32()? != op || tail.u64()? != query_id {
        return Err(Exit(1005));
    }
    Ok(Opened {
        receiver,
        tail: payload,
        skip: 96,
    })
}

/// Fails unless a condition holds.
fn ensure(condition: bool, code: i32) -> Result<(), Exit> {
    if condition { Ok(()) } else { Err(Exit(code)) }
}

fn params_version(params: &Params) -> Result<(), Exit> {
    ensure(params.struct_version == 3, 1008)
}
