//! Runs one contract in isolation: code and data at an address, one message in, everything that comes out.

use cocoon_ton::{Address, GetResult, MsgInfo, StackValue};
use tycho_types::cell::{Cell, CellBuilder, Lazy};
use tycho_types::error::Error;
use tycho_types::models::{
    Account, AccountState, CurrencyCollection, OptionalAccount, ShardAccount, StateInit,
    StorageInfo, StorageUsed,
};
use tycho_types::num::{Tokens, VarUint56};

use crate::config::ChainConfig;
use crate::executor::{Context, ExecuteError, Executed, execute};
use crate::getter::{GetMethodError, method_id, run_get_method};
use crate::message::{InternalMessage, external_message, int_address};
use cocoon_ton::transaction::parse_message;

/// A contract under test.
#[derive(Clone, Debug)]
pub struct Contract {
    /// Where it lives; need not follow from code and data.
    pub address: Address,
    /// Balance in nanoTON.
    pub balance: u128,
    /// Code.
    pub code: Cell,
    /// Data.
    pub data: Cell,
}

/// A message for the contract under test.
#[derive(Clone, Debug)]
pub enum Inbound {
    /// From another contract.
    Internal {
        /// Sender.
        from: Address,
        /// Attached nanoTON.
        value: u128,
        /// Whether it should come back if the contract fails.
        bounce: bool,
        /// Whether it is a message that came back.
        bounced: bool,
        /// Body.
        body: Cell,
    },
    /// From outside.
    External {
        /// Body.
        body: Cell,
    },
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The transaction with all its figures.
    pub executed: Executed,
    /// Code afterwards, if the account is still active.
    pub code: Option<Cell>,
    /// Data afterwards, if the account is still active.
    pub data: Option<Cell>,
    /// Outgoing messages, in order.
    pub messages: Vec<MsgInfo>,
}

/// Why the sandbox could not run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The executor refused; for an external message that was not accepted this is the result.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// A get-method could not start.
    #[error(transparent)]
    GetMethod(#[from] GetMethodError),
    /// A cell cannot be built or read.
    #[error("a cell of the test cannot be built or read: {0}")]
    Cell(#[from] Error),
    /// A message that was sent cannot be read.
    #[error("a message that the contract sent cannot be read: {0}")]
    Message(#[from] cocoon_ton::abi::AbiError),
}

impl Contract {
    /// The account as it would stand on the chain, with storage paid until `now`.
    pub fn account(&self, now: u32) -> Result<ShardAccount, Error> {
        active_account(
            &self.address,
            self.balance,
            StateInit {
                code: Some(self.code.clone()),
                data: Some(self.data.clone()),
                ..StateInit::default()
            },
            now,
        )
    }

    /// Executes a message at a time.
    pub fn execute(
        &self,
        config: &ChainConfig,
        now: u32,
        inbound: &Inbound,
    ) -> Result<Outcome, SandboxError> {
        let message = match inbound {
            Inbound::Internal {
                from,
                value,
                bounce,
                bounced,
                body,
            } => InternalMessage {
                bounce: *bounce,
                bounced: *bounced,
                created_at: now,
                ..InternalMessage::new(*from, self.address, *value, body.clone())
            }
            .build()?,
            Inbound::External { body } => external_message(&self.address, None, body.clone())?,
        };
        let context = Context::new(config, now, SANDBOX_LT);
        let executed = execute(&self.account(now)?, &self.address, &message, &context)?;
        let (code, data) = match executed.account.load_account()?.map(|a| a.state) {
            Some(AccountState::Active(state)) => (state.code, state.data),
            _ => (None, None),
        };
        let messages = executed
            .out_messages
            .iter()
            .map(parse_message)
            .collect::<Result<_, _>>()?;
        Ok(Outcome {
            executed,
            code,
            data,
            messages,
        })
    }

    /// Runs a get-method at a time.
    pub fn get(
        &self,
        config: &ChainConfig,
        now: u32,
        method: &str,
        arguments: &[StackValue],
    ) -> Result<GetResult, SandboxError> {
        let context = Context::new(config, now, SANDBOX_LT);
        Ok(run_get_method(
            &self.account(now)?,
            &self.address,
            method_id(method),
            arguments,
            &context,
        )?)
    }
}

/// Logical time of sandbox transactions; any number above that of the account.
const SANDBOX_LT: u64 = 1_000_000;

/// An active account with a correct storage record.
pub(crate) fn active_account(
    address: &Address,
    balance: u128,
    state: StateInit,
    last_paid: u32,
) -> Result<ShardAccount, Error> {
    account_with_state(address, balance, AccountState::Active(state), last_paid)
}

/// An account in any state with a correct storage record.
pub(crate) fn account_with_state(
    address: &Address,
    balance: u128,
    state: AccountState,
    last_paid: u32,
) -> Result<ShardAccount, Error> {
    let mut account = Account {
        address: int_address(address),
        storage_stat: StorageInfo {
            used: StorageUsed::ZERO,
            last_paid,
            ..StorageInfo::default()
        },
        last_trans_lt: 0,
        balance: CurrencyCollection::from(Tokens::new(balance)),
        state,
    };
    account.storage_stat.used = storage_used(&account)?;
    Ok(ShardAccount {
        account: Lazy::new(&OptionalAccount(Some(account)))?,
        last_trans_hash: Default::default(),
        last_trans_lt: 0,
    })
}

/// `StorageUsed::compute` of tycho-types 0.3.6 returns an error for every valid result, hence this.
fn storage_used(account: &Account) -> Result<StorageUsed, Error> {
    let storage =
        CellBuilder::build_from((account.last_trans_lt, &account.balance, &account.state))?;
    let stats = storage
        .compute_unique_stats(usize::MAX)
        .ok_or(Error::Cancelled)?;
    Ok(StorageUsed {
        cells: VarUint56::new(stats.cell_count),
        bits: VarUint56::new(stats.bit_count),
    })
}
