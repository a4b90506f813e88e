//! Get-methods: reads a contract by running it on its own state, with the gas limit that liteservers use.

use cocoon_ton::{Address, BigInt, GetResult, StackValue};
use tycho_types::cell::{Cell, CellBuilder, HashBytes};
use tycho_types::crc::crc_16;
use tycho_types::models::{AccountState, CurrencyCollection, IntAddr, ShardAccount, StdAddr};
use tycho_types::num::Tokens;
use tycho_vm::{
    GasParams, OwnedCellSlice, RcStackValue, SafeRc, SmcInfoBase, Stack, StackValueType, VmState,
    VmVersion,
};

use crate::executor::Context;

/// Gas for one get-method: what public liteservers grant.
pub const GET_METHOD_GAS: u64 = 1_000_000;

/// Exit code that stands for "there is no contract": what liteservers and toncenter report.
pub const NO_CONTRACT_EXIT_CODE: i32 = -256;

/// Nesting of tuples in arguments and results; deeper values are cut to null. A VM cannot nest deeper than its
/// gas allows, but a reader's stack must not depend on that.
const MAX_TUPLE_DEPTH: usize = 64;

/// Why a get-method could not be started.
#[derive(Debug, thiserror::Error)]
pub enum GetMethodError {
    /// An argument does not fit into the VM.
    #[error("argument {index} does not fit: {reason}")]
    Argument {
        /// Counted from 0.
        index: usize,
        /// In words.
        reason: &'static str,
    },
    /// The account's state cannot be read.
    #[error("the account cannot be read: {0}")]
    Account(tycho_types::error::Error),
}

/// Number of a method with this name: CRC-16 of the name with bit 16 set.
pub fn method_id(name: &str) -> u32 {
    u32::from(crc_16(name.as_bytes())) | 0x1_0000
}

/// Runs a get-method on an account. Without a contract the exit code is [`NO_CONTRACT_EXIT_CODE`].
pub fn run_get_method(
    account: &ShardAccount,
    address: &Address,
    method: u32,
    arguments: &[StackValue],
    context: &Context<'_>,
) -> Result<GetResult, GetMethodError> {
    let loaded = account.load_account().map_err(GetMethodError::Account)?;
    let no_contract = GetResult {
        exit_code: NO_CONTRACT_EXIT_CODE,
        stack: Vec::new(),
        gas_used: 0,
    };
    let Some(loaded) = loaded else {
        return Ok(no_contract);
    };
    let AccountState::Active(state) = &loaded.state else {
        return Ok(no_contract);
    };
    let Some(code) = state.code.clone() else {
        return Ok(no_contract);
    };

    let mut stack = Vec::with_capacity(arguments.len() + 1);
    for (index, argument) in arguments.iter().enumerate() {
        stack
            .push(to_vm(argument, 0).map_err(|reason| GetMethodError::Argument { index, reason })?);
    }
    stack.push(SafeRc::new_dyn_value(BigInt::from(method)));

    let parsed = context.config.at(context.now);
    let std_address = StdAddr::new(address.workchain, HashBytes(address.hash));
    let info = SmcInfoBase::new()
        .with_now(context.now)
        .with_block_lt(context.block_lt)
        .with_tx_lt(context.min_lt)
        .with_mixed_rand_seed(&HashBytes(context.rand_seed), &HashBytes(address.hash))
        .with_account_balance(loaded.balance.clone())
        .with_account_addr(IntAddr::Std(std_address))
        .with_config(context.config.params().clone())
        .require_ton_v4()
        .with_code(code.clone())
        .with_message_balance(CurrencyCollection::ZERO)
        .with_storage_fees(Tokens::ZERO)
        .require_ton_v6()
        .with_unpacked_config(parsed.unpacked.as_tuple())
        .with_due_payment(loaded.storage_stat.due_payment.unwrap_or_default())
        .require_ton_v11();

    let libraries = (&state.libraries, &context.libraries);
    let mut vm = VmState::builder()
        .with_smc_info(info)
        .with_version(VmVersion::LATEST_TON)
        .with_code(code)
        .with_data(state.data.clone().unwrap_or_default())
        .with_libraries(&libraries)
        .with_init_selector(false)
        .with_raw_stack(SafeRc::new(Stack::with_items(stack)))
        .with_gas(GasParams {
            max: GET_METHOD_GAS,
            limit: GET_METHOD_GAS,
            credit: 0,
            price: parsed.gas_prices(address.workchain == -1).gas_price,
        })
        .build();
    let exit_code = !vm.run();
    Ok(GetResult {
        exit_code,
        stack: vm
            .stack
            .items
            .iter()
            .map(|value| from_vm(value, 0))
            .collect(),
        gas_used: vm.gas.consumed(),
    })
}

fn to_vm(value: &StackValue, depth: usize) -> Result<RcStackValue, &'static str> {
    Ok(match value {
        StackValue::Null => Stack::make_null(),
        StackValue::Nan => Stack::make_nan(),
        StackValue::Int(number) => {
            // 257 bits with sign: from -2^256 to 2^256 - 1.
            let limit = BigInt::from(1u8) << 256usize;
            if number >= &limit || number < &-limit {
                return Err("a number has more than 257 bits");
            }
            SafeRc::new_dyn_value(number.clone())
        }
        StackValue::Cell(cell) => SafeRc::new_dyn_value(cell.clone()),
        StackValue::Slice(cell) => {
            SafeRc::new_dyn_value(OwnedCellSlice::new_allow_exotic(cell.clone()))
        }
        StackValue::Builder(cell) => {
            let mut builder = CellBuilder::new();
            builder
                .store_slice(cell.as_slice_allow_exotic())
                .map_err(|_| "a builder cannot hold this cell")?;
            SafeRc::new_dyn_value(builder)
        }
        StackValue::Tuple(items) => {
            if items.len() > 255 {
                return Err("a tuple has more than 255 items");
            }
            if depth >= MAX_TUPLE_DEPTH {
                return Err("tuples are nested too deeply");
            }
            let items: Vec<RcStackValue> = items
                .iter()
                .map(|item| to_vm(item, depth + 1))
                .collect::<Result<_, _>>()?;
            SafeRc::new_dyn_value(items)
        }
    })
}

fn from_vm(value: &RcStackValue, depth: usize) -> StackValue {
    if let Some(number) = value.as_int() {
        StackValue::Int(number.clone())
    } else if let Some(cell) = value.as_cell() {
        StackValue::Cell(cell.clone())
    } else if let Some(slice) = value.as_cell_slice() {
        CellBuilder::build_from(slice.apply()).map_or(StackValue::Null, StackValue::Slice)
    } else if let Some(builder) = value.as_cell_builder() {
        builder
            .clone()
            .build()
            .map_or(StackValue::Null, |cell: Cell| StackValue::Builder(cell))
    } else if let Some(items) = value.as_tuple() {
        if depth >= MAX_TUPLE_DEPTH {
            return StackValue::Null;
        }
        StackValue::Tuple(items.iter().map(|item| from_vm(item, depth + 1)).collect())
    } else if value.raw_ty() == StackValueType::Int as u8 {
        StackValue::Nan
    } else {
        // Null, or a continuation, which has no form outside the VM.
        StackValue::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_numbers_follow_the_name() {
        assert_eq!(method_id("seqno"), 85143);
        assert_eq!(method_id("get_cocoon_data"), 96613);
        assert_eq!(method_id("get_cocoon_proxy_data"), 97687);
        assert_eq!(method_id("get_owner_address"), 114_619);
    }

    #[test]
    fn numbers_are_bounded() {
        let too_big = StackValue::Int(BigInt::from(1u8) << 256usize);
        assert!(to_vm(&too_big, 0).is_err());
        let smallest = StackValue::Int(-(BigInt::from(1u8) << 256usize));
        assert_eq!(from_vm(&to_vm(&smallest, 0).unwrap(), 0), smallest);
        assert_eq!(
            from_vm(&to_vm(&StackValue::Nan, 0).unwrap(), 0),
            StackValue::Nan
        );
    }
}
