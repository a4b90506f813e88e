//! Executes one message on one account: a pure function from (account, message, context) to a transaction.
//!
//! tycho-executor does the phases. What it does differently from the TON main network is corrected here, so
//! that the transaction cell is the one the official executor would make:
//! * `msg_state_used` and `account_activated` are always written as false;
//! * a bounce without funds names the whole forward fee, not the missing part;
//! * an action argument of 0 is written as absent;
//! * big accounts carry the hash of their storage dictionary.

mod storage_dict;

use cocoon_ton::Address;
use tycho_executor::{
    Executor, ExecutorInspector, ExecutorParams, ExecutorState, TxError, UncommittedTransaction,
};
use tycho_types::cell::{Cell, CellTreeStats, HashBytes, Lazy, Load};
use tycho_types::dict::Dict;
use tycho_types::models::{
    BlockId, BouncePhase, ComputePhase, ComputePhaseSkipReason, IntAddr, LibDescr, MsgInfo,
    OptionalAccount, OrdinaryTxInfo, ShardAccount, StdAddr,
};
use tycho_types::num::Tokens;

use crate::config::ChainConfig;

/// Public libraries of the masterchain that code may refer to.
pub type Libraries = Dict<HashBytes, LibDescr>;

/// The surroundings in which a message is executed.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// Blockchain config.
    pub config: &'a ChainConfig,
    /// Unix time of the block.
    pub now: u32,
    /// First logical time of the block.
    pub block_lt: u64,
    /// The transaction's logical time is at least this.
    pub min_lt: u64,
    /// Random seed of the block.
    pub rand_seed: [u8; 32],
    /// Public libraries.
    pub libraries: Libraries,
    /// The masterchain block before, as contracts may ask for it.
    pub previous_block: Option<BlockId>,
}

impl<'a> Context<'a> {
    /// A context without libraries, previous blocks or entropy, for checks and tests.
    pub fn new(config: &'a ChainConfig, now: u32, lt: u64) -> Self {
        Self {
            config,
            now,
            block_lt: lt,
            min_lt: lt,
            rand_seed: [0; 32],
            libraries: Libraries::new(),
            previous_block: None,
        }
    }
}

/// Why no transaction came out.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// An external message was not accepted; nothing changes.
    #[error("the message was not accepted: {reason}")]
    NotAccepted {
        /// In words.
        reason: String,
        /// Exit code of the contract, if it ran.
        exit_code: Option<i32>,
    },
    /// The message cannot be executed at all.
    #[error("the message is not valid here: {0}")]
    Invalid(String),
}

/// An executed transaction.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The account afterwards; its account cell is empty if it was deleted.
    pub account: ShardAccount,
    /// The transaction cell.
    pub transaction: Cell,
    /// Logical time of the transaction.
    pub lt: u64,
    /// Logical time after the transaction and its messages.
    pub end_lt: u64,
    /// Outgoing message cells, internal and external, in order.
    pub out_messages: Vec<Cell>,
    /// Fees of the transaction in nanoTON, without the forward fees still written in outgoing messages.
    pub total_fees: u128,
    /// Coins destroyed beside the fees (sent to the black hole address).
    pub burned: u128,
    /// Balance afterwards in nanoTON.
    pub balance: u128,
    /// Whether its effects were rolled back.
    pub aborted: bool,
    /// Exit code of the compute phase; absent if it was skipped.
    pub exit_code: Option<i32>,
    /// Why the compute phase was skipped.
    pub skip_reason: Option<ComputePhaseSkipReason>,
    /// Result code of the action phase; absent if there was none.
    pub action_result: Option<i32>,
    /// Gas used.
    pub gas_used: u64,
    /// Storage fees collected in nanoTON.
    pub storage_fees: u128,
    /// Whether the message bounced.
    pub bounced: bool,
}

/// Executes a message on an account.
///
/// `account` may be [`nonexistent`]. The function has no side effects; what it returns is the whole truth.
pub fn execute(
    account: &ShardAccount,
    address: &Address,
    message: &Cell,
    context: &Context<'_>,
) -> Result<Executed, ExecuteError> {
    let is_external = match message_destination(message)? {
        (destination, external) if destination == *address => external,
        (destination, _) => {
            return Err(ExecuteError::Invalid(format!(
                "the message is addressed to {destination}, not to {address}"
            )));
        }
    };
    let std_address = StdAddr::new(address.workchain, HashBytes(address.hash));
    let params = ExecutorParams {
        libraries: context.libraries.clone(),
        rand_seed: HashBytes(context.rand_seed),
        block_unixtime: context.now,
        block_lt: context.block_lt,
        prev_mc_block_id: context.previous_block,
        strict_extra_currency: true,
        ..ExecutorParams::default()
    };
    let parsed = context.config.at(context.now);
    let executor = Executor::new(&params, parsed).with_min_lt(context.min_lt);
    let before = account
        .load_account()
        .map_err(|e| ExecuteError::Invalid(format!("the account cannot be read: {e}")))?;
    let mut state = executor.begin(&std_address, before).map_err(invalid)?;
    let had_code = matches!(state.state, tycho_types::models::AccountState::Active(_));
    let mut inspector = ExecutorInspector::default();
    let mut info =
        match state.run_ordinary_transaction(is_external, message.clone(), Some(&mut inspector)) {
            Ok(info) => info,
            Err(TxError::Skipped) => return Err(not_accepted(had_code, inspector.exit_code)),
            Err(TxError::Fatal(error)) => return Err(invalid(error)),
        };
    correct_phases(&mut info, &state, message);
    state.storage_stat.storage_extra = storage_dict::storage_extra(&state);
    finish(state, account, message, info)
}

fn finish(
    state: ExecutorState<'_>,
    before: &ShardAccount,
    message: &Cell,
    info: OrdinaryTxInfo,
) -> Result<Executed, ExecuteError> {
    let lt = state.start_lt;
    let (exit_code, skip_reason, gas_used) = match &info.compute_phase {
        ComputePhase::Executed(phase) => (Some(phase.exit_code), None, phase.gas_used.into_inner()),
        ComputePhase::Skipped(phase) => (None, Some(phase.reason), 0),
    };
    let action_result = info.action_phase.as_ref().map(|phase| phase.result_code);
    let storage_fees = info
        .storage_phase
        .as_ref()
        .map_or(0, |phase| phase.storage_fees_collected.into_inner());
    let bounced = matches!(info.bounce_phase, Some(BouncePhase::Executed(_)));
    let aborted = info.aborted;
    let output = UncommittedTransaction::with_info(state, before, Some(message.clone()), info)
        .and_then(UncommittedTransaction::commit)
        .map_err(invalid)?;
    Ok(Executed {
        balance: if output.new_state_meta.exists {
            output.new_state_meta.balance.tokens.into_inner()
        } else {
            0
        },
        account: output.new_state,
        transaction: output.transaction.into_inner(),
        lt,
        end_lt: output.transaction_meta.next_lt,
        out_messages: output
            .transaction_meta
            .out_msgs
            .into_iter()
            .map(Lazy::into_inner)
            .collect(),
        total_fees: output.transaction_meta.total_fees.into_inner(),
        burned: output.burned.into_inner(),
        aborted,
        exit_code,
        skip_reason,
        action_result,
        gas_used,
        storage_fees,
        bounced,
    })
}

/// Writes what the official executor writes where tycho differs.
fn correct_phases(info: &mut OrdinaryTxInfo, state: &ExecutorState<'_>, message: &Cell) {
    if let ComputePhase::Executed(phase) = &mut info.compute_phase {
        phase.msg_state_used = false;
        phase.account_activated = false;
    }
    if let Some(action) = &mut info.action_phase
        && action.result_arg == Some(0)
    {
        action.result_arg = None;
    }
    if let Some(BouncePhase::NoFunds(phase)) = &mut info.bounce_phase
        && phase.req_fwd_fees != Tokens::MAX
    {
        let from_masterchain = matches!(
            message.parse::<MsgInfo>(),
            Ok(MsgInfo::Int(info)) if info.src.is_masterchain()
        );
        let prices = state
            .config
            .fwd_prices(state.address.is_masterchain() || from_masterchain);
        phase.req_fwd_fees = prices.compute_fwd_fee(CellTreeStats {
            bit_count: phase.msg_size.bits.into_inner(),
            cell_count: phase.msg_size.cells.into_inner(),
        });
    }
}

fn invalid(error: impl std::fmt::Display) -> ExecuteError {
    // The alternate form of anyhow errors prints the whole chain of causes.
    ExecuteError::Invalid(format!("{error:#}"))
}

fn not_accepted(had_code: bool, exit_code: Option<i32>) -> ExecuteError {
    let reason = match exit_code {
        Some(code) => format!("the contract ended with exit code {code} before accepting it"),
        None if had_code => {
            "the account cannot pay for importing it, or its state does not fit".to_owned()
        }
        None => "there is no contract at this address and the message does not deploy one \
                 (or the account has no coins yet)"
            .to_owned(),
    };
    ExecuteError::NotAccepted { reason, exit_code }
}

/// An account that was never used.
pub fn nonexistent() -> ShardAccount {
    ShardAccount {
        account: Lazy::new(&OptionalAccount::EMPTY).expect("one bit fits into a cell"),
        last_trans_hash: HashBytes::ZERO,
        last_trans_lt: 0,
    }
}

/// Where a message goes and whether it comes from outside. Messages that leave the chain are an error.
pub fn message_destination(message: &Cell) -> Result<(Address, bool), ExecuteError> {
    let mut slice = message
        .as_slice()
        .map_err(|_| ExecuteError::Invalid("a message must be an ordinary cell".to_owned()))?;
    let info = MsgInfo::load_from(&mut slice)
        .map_err(|e| ExecuteError::Invalid(format!("the message header cannot be read: {e}")))?;
    let (destination, external) = match info {
        MsgInfo::Int(info) => (info.dst, false),
        MsgInfo::ExtIn(info) => (info.dst, true),
        MsgInfo::ExtOut(_) => {
            return Err(ExecuteError::Invalid(
                "the message leaves the chain, it cannot be executed".to_owned(),
            ));
        }
    };
    match destination {
        IntAddr::Std(address) if address.anycast.is_none() => {
            Ok((Address::from(&address), external))
        }
        _ => Err(ExecuteError::Invalid(
            "the destination is not a standard address".to_owned(),
        )),
    }
}
