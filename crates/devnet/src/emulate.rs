//! Runs messages on a copy of some accounts: a chain in memory that nobody else sees.
//!
//! It is the devnet's own block maker with the contract code found on the real chain, so what comes out is what that
//! chain would do with the same message at the same time. Nothing is ever sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cocoon_ton::abi::AbiError;
use cocoon_ton::amount::MAX_NANO;
use cocoon_ton::transaction::parse_transaction_of;
use cocoon_ton::{AccountState, AccountStatus, Address, Cell, TxInfo};
use tycho_types::models::{AccountState as RawState, StateInit};

use crate::block::{Block, Supply};
use crate::config::ChainConfig;
use crate::error::DevnetError;
use crate::executor::{ExecuteError, message_destination};
use crate::ledger::{External, State};
use crate::sandbox::account_with_state;

/// Blocks that one message may take until everything it caused has arrived. A chain of Cocoon's contracts takes one;
/// contracts that call each other for ever must end.
pub const MAX_BLOCKS: usize = 32;

/// An account as it was read from a chain.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where.
    pub address: Address,
    /// Its state.
    pub state: AccountState,
    /// Unix time up to which its storage is paid: that of its last transaction.
    pub last_paid: u32,
}

/// Why an emulation came to no result.
#[derive(Debug, thiserror::Error)]
pub enum EmulateError {
    /// The contract did not accept the external message.
    #[error(transparent)]
    Refused(#[from] ExecuteError),
    /// A message has no end.
    #[error("messages are still under way after {MAX_BLOCKS} blocks")]
    Endless,
    /// A message stopped the executor.
    #[error("a message cannot be executed")]
    Stuck,
    /// A frozen account has no state that could be run.
    #[error("the account {0} is frozen")]
    Frozen(Address),
    /// A cell cannot be built or read.
    #[error("a cell cannot be built or read: {0}")]
    Cell(#[from] tycho_types::error::Error),
    /// A transaction cannot be read.
    #[error("a transaction cannot be read: {0}")]
    Transaction(#[from] AbiError),
    /// The block maker failed.
    #[error(transparent)]
    Chain(#[from] DevnetError),
}

/// A chain in memory. A clone goes its own way.
#[derive(Clone)]
pub struct Emulator {
    state: State,
    config: Arc<ChainConfig>,
}

impl Emulator {
    /// A chain that knows these accounts only; every other one does not exist there.
    pub fn new(config: Arc<ChainConfig>, accounts: &[Snapshot]) -> Result<Self, EmulateError> {
        let mut states = HashMap::new();
        let mut coins = 0u128;
        let mut lt = 0;
        for account in accounts {
            let state = match account.state.status {
                AccountStatus::Nonexistent => continue,
                AccountStatus::Uninit => RawState::Uninit,
                AccountStatus::Active => RawState::Active(StateInit {
                    code: account.state.code.clone(),
                    data: account.state.data.clone(),
                    ..StateInit::default()
                }),
                AccountStatus::Frozen => return Err(EmulateError::Frozen(account.address)),
            };
            if account.state.balance > MAX_NANO {
                return Err(tycho_types::error::Error::IntOverflow.into());
            }
            let shard_account = account_with_state(
                &account.address,
                account.state.balance,
                state,
                account.last_paid,
            )?;
            coins = coins.saturating_add(account.state.balance);
            lt = lt.max(account.state.last_lt);
            states.insert(account.address, shard_account);
        }
        let head = Block {
            seqno: 0,
            prev_hash: [0; 32],
            // Time is an argument of every message.
            utime: 0,
            start_lt: lt,
            end_lt: lt,
            supply: Supply {
                accounts: coins,
                in_queues: 0,
                burned_fees: 0,
                genesis: coins,
            },
            transactions: Vec::new(),
        };
        Ok(Self {
            state: State::new(head, states, BTreeMap::new()),
            config,
        })
    }

    /// Executes an external message at a time, and everything that follows from it, in the order of the chain.
    ///
    /// A time before that of the last message counts as that one.
    pub fn send(&mut self, now: u32, message: Cell) -> Result<Vec<TxInfo>, EmulateError> {
        let (address, _) = message_destination(&message)?;
        let external = External { address, message };
        self.state.check_external(&self.config, now, &external)?;
        let mut externals = vec![external];
        let mut transactions = Vec::new();
        for _ in 0..MAX_BLOCKS {
            let draft = self
                .state
                .produce(&self.config, now, std::mem::take(&mut externals))?;
            for (address, _, cell) in &draft.changes.transactions {
                transactions.push(parse_transaction_of(address.workchain, cell)?);
            }
            self.state.apply(draft);
            if !self.state.stuck.is_empty() {
                return Err(EmulateError::Stuck);
            }
            if !self.state.has_work() {
                return Ok(transactions);
            }
        }
        Err(EmulateError::Endless)
    }

    /// An account as it stands now.
    pub fn account(&self, address: &Address) -> Result<AccountState, EmulateError> {
        let account = self.state.account(address);
        let Some(loaded) = account.load_account()? else {
            return Ok(AccountState::NONEXISTENT);
        };
        let (status, code, data) = match loaded.state {
            RawState::Uninit => (AccountStatus::Uninit, None, None),
            RawState::Active(state) => (AccountStatus::Active, state.code, state.data),
            RawState::Frozen(_) => (AccountStatus::Frozen, None, None),
        };
        Ok(AccountState {
            status,
            balance: loaded.balance.tokens.into_inner(),
            code,
            data,
            last_lt: account.last_trans_lt,
            last_hash: account.last_trans_hash.0,
        })
    }

    /// Coins that were taken as fees since the beginning, in nanoTON.
    pub fn fees(&self) -> u128 {
        self.state.head.supply.burned_fees
    }
}
