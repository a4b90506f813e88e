//! Reads transaction and message cells into the types of the `Chain` trait.

use cocoon_ton::{Address, MsgInfo as MessageInfo, TxInfo as TransactionInfo};
use tycho_types::cell::{Cell, CellBuilder, CellSlice, Load};
use tycho_types::error::Error;
use tycho_types::models::{ComputePhase, IntAddr, MsgInfo, Transaction, TxInfo};

/// Reads a transaction of an account in `workchain` (the cell does not name it).
pub fn parse_transaction(cell: &Cell, workchain: i8) -> Result<TransactionInfo, Error> {
    let transaction = cell.parse::<Transaction>()?;
    let (aborted, compute, action) = match transaction.load_info()? {
        TxInfo::Ordinary(info) => (info.aborted, info.compute_phase, info.action_phase),
        TxInfo::TickTock(info) => (info.aborted, info.compute_phase, info.action_phase),
    };
    let mut out_msgs = Vec::new();
    for message in transaction.out_msgs.values() {
        out_msgs.push(parse_message(&message?)?);
    }
    Ok(TransactionInfo {
        account: Address {
            workchain,
            hash: transaction.account.0,
        },
        lt: transaction.lt,
        hash: cell.repr_hash().0,
        prev_lt: transaction.prev_trans_lt,
        prev_hash: transaction.prev_trans_hash.0,
        utime: transaction.now,
        total_fees: transaction.total_fees.tokens.into_inner(),
        aborted,
        compute_exit_code: match compute {
            ComputePhase::Executed(phase) => Some(phase.exit_code),
            ComputePhase::Skipped(_) => None,
        },
        action_result_code: action.map(|phase| phase.result_code),
        in_msg: transaction.in_msg.as_ref().map(parse_message).transpose()?,
        out_msgs,
        boc: cell.clone(),
    })
}

/// Reads a message cell.
pub fn parse_message(cell: &Cell) -> Result<MessageInfo, Error> {
    let mut slice = cell.as_slice()?;
    let info = MsgInfo::load_from(&mut slice)?;
    let (body, init) = body_and_init(slice)?;
    let mut message = MessageInfo {
        src: None,
        dst: None,
        value: 0,
        bounce: false,
        bounced: false,
        fwd_fee: 0,
        ihr_fee: 0,
        created_lt: 0,
        body,
        hash: cell.repr_hash().0,
        init,
    };
    match info {
        MsgInfo::Int(info) => {
            message.src = standard(&info.src);
            message.dst = standard(&info.dst);
            message.value = info.value.tokens.into_inner();
            message.bounce = info.bounce;
            message.bounced = info.bounced;
            message.fwd_fee = info.fwd_fee.into_inner();
            message.ihr_fee = info.extra_flags.as_stored().into_inner();
            message.created_lt = info.created_lt;
        }
        MsgInfo::ExtIn(info) => message.dst = standard(&info.dst),
        MsgInfo::ExtOut(info) => {
            message.src = standard(&info.src);
            message.created_lt = info.created_lt;
        }
    }
    Ok(message)
}

/// Body in a cell of its own, and whether there is a StateInit.
fn body_and_init(mut slice: CellSlice<'_>) -> Result<(Cell, bool), Error> {
    let init = slice.load_bit()?;
    if init {
        if slice.load_bit()? {
            slice.load_reference()?;
        } else {
            tycho_types::models::StateInit::load_from(&mut slice)?;
        }
    }
    let body = if slice.load_bit()? {
        slice.load_reference_cloned()?
    } else {
        CellBuilder::build_from(slice)?
    };
    Ok((body, init))
}

fn standard(address: &IntAddr) -> Option<Address> {
    match address {
        IntAddr::Std(address) => Some(Address::from(address)),
        IntAddr::Var(_) => None,
    }
}
