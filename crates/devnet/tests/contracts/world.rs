//! A small deterministic world of accounts over the executor: balances, code, a clock, a queue of messages, bounces.
//!
//! Coins enter it by [`World::push`] only (the sender of a hand-made message is outside), and every coin is
//! accounted for after every transaction. Cloning a world is cheap: cells are shared.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cocoon_devnet::config::{ChainConfig, ConfigOptions, Prices};
use cocoon_devnet::executor::{Context, ExecuteError, execute, nonexistent};
use cocoon_devnet::getter::{method_id, run_get_method};
use cocoon_devnet::message::external_message;
use cocoon_devnet::sandbox::Contract;
use cocoon_ton::abi::StateInit;
use cocoon_ton::transaction::parse_message;
use cocoon_ton::{Address, Cell, GetResult, MsgInfo, StackValue};
use tycho_types::cell::{CellBuilder, CellSliceParts};
use tycho_types::models::{
    AccountState, ComputePhaseSkipReason, IntAddr, IntMsgInfo, MessageLayout, OwnedMessage,
    ShardAccount, StdAddr,
};
use tycho_types::num::Tokens;

/// Time at which every world begins.
pub const START: u32 = 1_790_000_000;
/// NanoTON in a TON.
pub const TON: u128 = 1_000_000_000;
/// A chain of messages longer than this does not end.
const MAX_RUN: usize = 10_000;

/// A message to be put into the world by hand, from anybody.
#[derive(Clone, Debug)]
pub struct Send {
    /// Sender; needs no account.
    pub from: Address,
    /// Receiver.
    pub to: Address,
    /// Attached nanoTON, created for this message.
    pub value: u128,
    /// Whether it comes back if the receiver fails.
    pub bounce: bool,
    /// Whether it pretends to be a message that came back. No real network delivers that from a stranger.
    pub bounced: bool,
    /// StateInit to deploy with.
    pub init: Option<Cell>,
    /// Body.
    pub body: Cell,
}

impl Send {
    /// A bounceable message.
    pub fn new(from: Address, to: Address, value: u128, body: Cell) -> Self {
        Self {
            from,
            to,
            value,
            bounce: true,
            bounced: false,
            init: None,
            body,
        }
    }
}

/// What an account is at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// NanoTON.
    pub balance: u128,
    /// Code, if it is an active contract.
    pub code: Option<Cell>,
    /// Data, if it is an active contract.
    pub data: Option<Cell>,
    /// Storage debt in nanoTON.
    pub due: u128,
}

/// A transaction that happened.
#[derive(Clone, Debug)]
pub struct Tx {
    /// Whose.
    pub account: Address,
    /// When.
    pub now: u32,
    /// The message that caused it; external ones have no sender.
    pub message: MsgInfo,
    /// First 32 bits of the body.
    pub op: Option<u32>,
    /// Exit code; none if the compute phase was skipped.
    pub exit_code: Option<i32>,
    /// Why it was skipped.
    pub skipped: Option<ComputePhaseSkipReason>,
    /// Result of the action phase, if there was one.
    pub action_result: Option<i32>,
    /// Whether the message went back.
    pub bounced: bool,
    /// What the gas cost in nanoTON.
    pub gas_fees: u128,
    /// Rent paid in nanoTON.
    pub storage_fees: u128,
    /// The account before.
    pub before: Snapshot,
    /// The account after.
    pub after: Snapshot,
    /// Messages sent, in order; a bounce is among them.
    pub out: Vec<MsgInfo>,
}

impl Tx {
    /// Whether compute and action phase went well.
    pub fn succeeded(&self) -> bool {
        self.exit_code == Some(0) && self.action_result == Some(0)
    }
}

#[derive(Clone, Debug)]
struct Held {
    shard: ShardAccount,
    snapshot: Snapshot,
}

#[derive(Clone, Debug)]
struct InFlight {
    cell: Cell,
    info: MsgInfo,
}

/// The world.
#[derive(Clone)]
pub struct World {
    config: Arc<ChainConfig>,
    now: u32,
    lt: u64,
    accounts: BTreeMap<Address, Held>,
    queue: VecDeque<InFlight>,
    /// Everything that happened.
    pub log: Vec<Tx>,
    /// Coins put into the world.
    pub minted: u128,
    /// Fees taken from it.
    pub fees: u128,
    /// Coins destroyed.
    pub burned: u128,
}

impl World {
    /// An empty world with today's prices of the main network.
    pub fn new() -> Self {
        Self::with_prices(Prices::mainnet())
    }

    /// An empty world with other prices.
    pub fn with_prices(prices: Prices) -> Self {
        let mut options = ConfigOptions::new(-217, [1; 32], 1_700_000_000);
        options.prices = prices;
        Self {
            config: Arc::new(ChainConfig::new(&options).unwrap()),
            now: START,
            lt: 1_000_000,
            accounts: BTreeMap::new(),
            queue: VecDeque::new(),
            log: Vec::new(),
            minted: 0,
            fees: 0,
            burned: 0,
        }
    }

    /// Unix time.
    pub fn now(&self) -> u32 {
        self.now
    }

    /// Lets time pass.
    pub fn jump(&mut self, seconds: u32) {
        self.now = self.now.saturating_add(seconds);
    }

    /// Puts a contract at its address as if it had been deployed long ago with this balance.
    pub fn install(&mut self, init: &StateInit, balance: u128) {
        let contract = Contract {
            address: init.address,
            balance,
            code: init.code.clone(),
            data: init.data.clone(),
        };
        let before = self.balance(&init.address);
        self.minted = self.minted + balance - before;
        let shard = contract.account(self.now).unwrap();
        self.accounts.insert(
            init.address,
            Held {
                snapshot: snapshot(&shard),
                shard,
            },
        );
    }

    /// Deploys a contract with a message, as a node's wallet does.
    pub fn deploy(&mut self, from: Address, init: &StateInit, value: u128) -> Tx {
        self.run_one(Send {
            bounce: false,
            init: Some(init.cell.clone()),
            ..Send::new(from, init.address, value, Cell::default())
        })
    }

    /// Changes the balance of an existing account by hand.
    pub fn set_balance(&mut self, address: &Address, balance: u128) {
        let held = self.accounts.get(address).expect("the account exists");
        let snapshot = held.snapshot.clone();
        self.minted = self.minted + balance - snapshot.balance;
        let contract = Contract {
            address: *address,
            balance,
            code: snapshot.code.expect("an active contract"),
            data: snapshot.data.expect("an active contract"),
        };
        let shard = contract.account(self.now).unwrap();
        self.accounts.insert(
            *address,
            Held {
                snapshot: crate::world::snapshot(&shard),
                shard,
            },
        );
    }

    /// Coins of an account.
    pub fn balance(&self, address: &Address) -> u128 {
        self.accounts.get(address).map_or(0, |a| a.snapshot.balance)
    }

    /// Data of an active contract.
    pub fn data(&self, address: &Address) -> Option<&Cell> {
        self.accounts.get(address)?.snapshot.data.as_ref()
    }

    /// An account as it is now; empty if it does not exist.
    pub fn account(&self, address: &Address) -> Snapshot {
        self.accounts
            .get(address)
            .map(|a| a.snapshot.clone())
            .unwrap_or_default()
    }

    /// Puts a message into the queue.
    pub fn push(&mut self, send: Send) {
        self.minted += send.value;
        // The body in a reference, as the nodes' wallets write it; contracts write theirs inline.
        let cell = CellBuilder::build_from(OwnedMessage {
            info: tycho_types::models::MsgInfo::Int(IntMsgInfo {
                ihr_disabled: true,
                bounce: send.bounce,
                bounced: send.bounced,
                src: int_address(&send.from),
                dst: int_address(&send.to),
                value: Tokens::new(send.value).into(),
                created_lt: self.lt,
                created_at: self.now,
                ..IntMsgInfo::default()
            }),
            init: send.init.map(|cell| cell.parse().unwrap()),
            body: CellSliceParts::from(send.body),
            layout: Some(MessageLayout {
                init_to_cell: true,
                body_to_cell: true,
            }),
        })
        .unwrap();
        self.lt += 1;
        let info = parse_message(&cell).unwrap();
        self.queue.push_back(InFlight { cell, info });
    }

    /// Messages on their way.
    pub fn in_flight(&self) -> impl Iterator<Item = &MsgInfo> {
        self.queue.iter().map(|m| &m.info)
    }

    /// Delivers one message. `pick` chooses among the messages that may be next: only those between the same two
    /// accounts must keep their order. Nothing happens in an empty queue.
    pub fn step(&mut self, pick: usize) -> Option<&Tx> {
        if self.queue.is_empty() {
            return None;
        }
        let chosen = &self.queue[pick % self.queue.len()].info;
        let route = (chosen.src, chosen.dst);
        let first = self
            .queue
            .iter()
            .position(|m| (m.info.src, m.info.dst) == route)?;
        let message = self.queue.remove(first)?;
        self.fees += message.info.fwd_fee;
        self.deliver(message)
            .expect("an internal message is always executed");
        self.log.last()
    }

    /// Delivers, oldest first, until nothing is on its way. Returns what happened.
    pub fn run(&mut self) -> &[Tx] {
        let from = self.log.len();
        while self.step(0).is_some() {
            assert!(self.log.len() - from < MAX_RUN, "messages without end");
        }
        &self.log[from..]
    }

    /// Sends one message and runs until all that follows from it has happened.
    pub fn send(&mut self, send: Send) -> &[Tx] {
        self.push(send);
        self.run()
    }

    /// Sends one message, runs everything, and returns the first transaction.
    pub fn run_one(&mut self, send: Send) -> Tx {
        self.send(send)[0].clone()
    }

    /// Sends an external message; an error means that it was not accepted, with the exit code.
    /// What the contract sends stays in the queue.
    pub fn external(
        &mut self,
        to: Address,
        init: Option<&Cell>,
        body: Cell,
    ) -> Result<&Tx, Option<i32>> {
        let cell = external_message(&to, init, body).unwrap();
        let info = parse_message(&cell).unwrap();
        match self.deliver(InFlight { cell, info }) {
            Ok(()) => Ok(self.log.last().unwrap()),
            Err(ExecuteError::NotAccepted { exit_code, .. }) => Err(exit_code),
            Err(error) => panic!("{error}"),
        }
    }

    fn deliver(&mut self, message: InFlight) -> Result<(), ExecuteError> {
        let address = message
            .info
            .dst
            .expect("a message of this world has a receiver");
        let empty;
        let (shard, before) = match self.accounts.get(&address) {
            Some(held) => (&held.shard, held.snapshot.clone()),
            None => {
                empty = nonexistent();
                (&empty, Snapshot::default())
            }
        };
        let context = Context::new(&self.config, self.now, self.lt);
        let done = execute(shard, &address, &message.cell, &context)?;
        self.lt = self.lt.max(done.end_lt);
        let after = snapshot(&done.account);
        let mut out = Vec::new();
        let mut sent = 0;
        for cell in &done.out_messages {
            let info = parse_message(cell).unwrap();
            sent += info.value + info.fwd_fee;
            out.push(info.clone());
            self.queue.push_back(InFlight {
                cell: cell.clone(),
                info,
            });
        }
        assert_eq!(
            before.balance + message.info.value,
            after.balance + done.total_fees + done.burned + sent,
            "a transaction of {address} made or lost coins"
        );
        let prices = self.config.at(self.now).gas_prices(address.workchain == -1);
        let gas_fees = if done.exit_code.is_some() {
            prices.compute_gas_fee(done.gas_used).into_inner()
        } else {
            0
        };
        self.fees += done.total_fees;
        self.burned += done.burned;
        self.log.push(Tx {
            account: address,
            now: self.now,
            op: op(&message.info.body),
            message: message.info,
            exit_code: done.exit_code,
            skipped: done.skip_reason,
            action_result: done.action_result,
            bounced: done.bounced,
            gas_fees,
            storage_fees: done.storage_fees,
            before,
            after: after.clone(),
            out,
        });
        self.accounts.insert(
            address,
            Held {
                shard: done.account,
                snapshot: after,
            },
        );
        Ok(())
    }

    /// Every coin that was put in is on an account, on its way, or was taken as a fee.
    pub fn check_conserved(&self) -> Result<(), String> {
        let held: u128 = self.accounts.values().map(|a| a.snapshot.balance).sum();
        let moving: u128 = self
            .queue
            .iter()
            .map(|m| m.info.value + m.info.fwd_fee)
            .sum();
        let found = held + moving + self.fees + self.burned;
        if found == self.minted {
            return Ok(());
        }
        Err(format!(
            "coins not conserved: {} put in, {held} held + {moving} moving + {} fees + {} burned = {found}",
            self.minted, self.fees, self.burned
        ))
    }

    /// Runs a get-method.
    pub fn get(&self, address: &Address, method: &str, arguments: &[StackValue]) -> GetResult {
        let shard = self
            .accounts
            .get(address)
            .map_or_else(nonexistent, |a| a.shard.clone());
        let context = Context::new(&self.config, self.now, self.lt);
        run_get_method(&shard, address, method_id(method), arguments, &context).unwrap()
    }
}

fn int_address(address: &Address) -> IntAddr {
    IntAddr::Std(StdAddr::from(*address))
}

/// First 32 bits of a body.
pub fn op(body: &Cell) -> Option<u32> {
    body.as_slice().ok()?.load_u32().ok()
}

fn snapshot(shard: &ShardAccount) -> Snapshot {
    let Some(account) = shard.load_account().unwrap() else {
        return Snapshot::default();
    };
    let (code, data) = match account.state {
        AccountState::Active(state) => (state.code, state.data),
        _ => (None, None),
    };
    Snapshot {
        balance: account.balance.tokens.into_inner(),
        code,
        data,
        due: account
            .storage_stat
            .due_payment
            .map_or(0, |due| due.into_inner()),
    }
}
