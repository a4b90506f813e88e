//! Transactions and messages as the chain stores them, read into what nodes look at.

use tycho_types::cell::Cell;
use tycho_types::models::{ComputePhase, Transaction, TxInfo as Phases};

use crate::abi::{AbiError, Reader};
use crate::address::Address;
use crate::chain::{MsgInfo, TxInfo};

/// Reads a transaction cell of a basechain account.
///
/// The cell itself does not say the workchain; pass another address's workchain by [`parse_transaction_of`].
pub fn parse_transaction(cell: &Cell) -> Result<TxInfo, AbiError> {
    parse_transaction_of(0, cell)
}

/// Reads a transaction cell of an account in the given workchain.
pub fn parse_transaction_of(workchain: i8, cell: &Cell) -> Result<TxInfo, AbiError> {
    let malformed = |source| AbiError::Field {
        field: "transaction",
        source,
    };
    let tx = cell.parse::<Transaction>().map_err(malformed)?;
    let (compute, action, aborted) = match tx.load_info().map_err(malformed)? {
        Phases::Ordinary(info) => (info.compute_phase, info.action_phase, info.aborted),
        Phases::TickTock(info) => (info.compute_phase, info.action_phase, info.aborted),
    };
    let mut out_msgs = Vec::new();
    for entry in tx.out_msgs.values() {
        // The count in a transaction has 15 bits; the dictionary cannot unfold beyond its keys.
        out_msgs.push(parse_message(&entry.map_err(malformed)?)?);
    }
    Ok(TxInfo {
        account: Address {
            workchain,
            hash: tx.account.0,
        },
        lt: tx.lt,
        hash: cell.repr_hash().0,
        prev_lt: tx.prev_trans_lt,
        prev_hash: tx.prev_trans_hash.0,
        utime: tx.now,
        total_fees: tx.total_fees.tokens.into_inner(),
        aborted,
        compute_exit_code: match compute {
            ComputePhase::Executed(phase) => Some(phase.exit_code),
            ComputePhase::Skipped(_) => None,
        },
        action_result_code: action.map(|phase| phase.result_code),
        in_msg: tx.in_msg.as_ref().map(parse_message).transpose()?,
        out_msgs,
        boc: cell.clone(),
    })
}

/// Reads a message cell. Addresses that are not standard read as absent.
pub fn parse_message(cell: &Cell) -> Result<MsgInfo, AbiError> {
    let mut r = Reader::new(cell, "message")?;
    let mut message = MsgInfo {
        src: None,
        dst: None,
        value: 0,
        bounce: false,
        bounced: false,
        fwd_fee: 0,
        ihr_fee: 0,
        created_lt: 0,
        body: Cell::default(),
        hash: cell.repr_hash().0,
        init: false,
    };
    if !r.bit("message kind")? {
        r.bit("instant routing flag")?;
        message.bounce = r.bit("bounce flag")?;
        message.bounced = r.bit("bounced flag")?;
        message.src = address(&mut r, "source")?;
        message.dst = address(&mut r, "destination")?;
        message.value = r.coins("value")?;
        r.maybe_cell("extra currencies")?;
        message.ihr_fee = r.coins("instant routing fee")?;
        message.fwd_fee = r.coins("forward fee")?;
        message.created_lt = r.uint("created lt", 64)?;
        r.uint("created at", 32)?;
    } else if !r.bit("message kind")? {
        message.src = address(&mut r, "source")?;
        message.dst = address(&mut r, "destination")?;
        r.coins("import fee")?;
    } else {
        message.src = address(&mut r, "source")?;
        message.dst = address(&mut r, "destination")?;
        message.created_lt = r.uint("created lt", 64)?;
        r.uint("created at", 32)?;
    }
    message.init = r.bit("StateInit flag")?;
    if message.init {
        skip_state_init(&mut r)?;
    }
    message.body = if r.bit("body place")? {
        let body = r.cell("body")?;
        r.end()?;
        body
    } else {
        r.rest()?
    };
    Ok(message)
}

fn address(r: &mut Reader<'_>, field: &'static str) -> Result<Option<Address>, AbiError> {
    match r.uint(field, 2)? {
        0b00 => Ok(None),
        0b01 => {
            let length = r.uint(field, 9)? as u16;
            r.skip(field, length)?;
            Ok(None)
        }
        kind => {
            let anycast = r.bit(field)?;
            if anycast {
                let depth = r.uint(field, 5)? as u16;
                r.skip(field, depth)?;
            }
            if kind == 0b10 {
                let workchain = r.uint(field, 8)? as u8 as i8;
                let hash = r.bytes(field)?;
                return Ok((!anycast).then_some(Address { workchain, hash }));
            }
            let length = r.uint(field, 9)? as u16;
            r.skip(field, 32 + length)?;
            Ok(None)
        }
    }
}

fn skip_state_init(r: &mut Reader<'_>) -> Result<(), AbiError> {
    let field = "StateInit";
    if r.bit(field)? {
        r.cell(field)?;
        return Ok(());
    }
    if r.bit(field)? {
        // Split depth.
        r.skip(field, 5)?;
    }
    if r.bit(field)? {
        // Tick and tock.
        r.skip(field, 2)?;
    }
    for part in ["code", "data", "libraries"] {
        r.maybe_cell(part)?;
    }
    Ok(())
}
