//! The executor on small contracts: deployment, fees, bounces, action failures, storage rent.

mod common;

use cocoon_devnet::config::{ChainConfig, ConfigOptions};
use cocoon_devnet::executor::{Context, ExecuteError, Executed, execute, nonexistent};
use cocoon_devnet::getter::NO_CONTRACT_EXIT_CODE;
use cocoon_devnet::message::{InternalMessage, external_message, state_init};
use cocoon_devnet::sandbox::{Contract, Inbound};
use cocoon_ton::transaction::{parse_message, parse_transaction};
use cocoon_ton::{Address, Cell, StackValue};
use tycho_types::models::ComputePhaseSkipReason;

use common::*;

const LT: u64 = 5_000_000;
const YEAR: u32 = 365 * 86_400;

fn chain_config() -> ChainConfig {
    ChainConfig::new(&ConfigOptions::new(-217, [1; 32], START)).unwrap()
}

fn wallet(balance: u128) -> Contract {
    Contract {
        address: account(1),
        balance,
        code: open_wallet(),
        data: Cell::default(),
    }
}

fn order_to(to: Address, value: u128, mode: u8) -> Inbound {
    let message = InternalMessage::new(account(1), to, value, Cell::default())
        .build()
        .unwrap();
    Inbound::External {
        body: order(mode, message, 0),
    }
}

#[test]
fn a_transfer_costs_gas_import_and_forwarding() {
    let outcome = wallet(5 * TON)
        .execute(&chain_config(), START, &order_to(account(2), TON, 1))
        .unwrap();
    let executed = &outcome.executed;
    assert_eq!(
        (executed.exit_code, executed.action_result),
        (Some(0), Some(0))
    );
    let [message] = &outcome.messages[..] else {
        panic!("{:?}", outcome.messages)
    };
    assert_eq!((message.value, message.dst), (TON, Some(account(2))));
    // Two thirds of the forward fee travel with the message, one third is taken here.
    assert_eq!(message.fwd_fee, 66_667 - 66_667 * 21_845 / 65_536);
    assert_eq!(
        executed.balance + message.value + message.fwd_fee + executed.total_fees,
        5 * TON
    );
    let parsed = parse_transaction(&executed.transaction).unwrap();
    assert_eq!(parsed.total_fees, executed.total_fees);
    assert_eq!(parsed.account, account(1));
    assert_eq!(parsed.out_msgs, outcome.messages);
}

#[test]
fn too_little_balance_fails_in_the_action_phase() {
    let outcome = wallet(TON)
        .execute(&chain_config(), START, &order_to(account(2), 2 * TON, 1))
        .unwrap();
    assert_eq!(outcome.executed.exit_code, Some(0));
    assert_eq!(outcome.executed.action_result, Some(37));
    assert!(outcome.executed.aborted && outcome.messages.is_empty());
    assert_eq!(outcome.executed.balance + outcome.executed.total_fees, TON);
    // With mode flag 2 the failing message is skipped.
    let outcome = wallet(TON)
        .execute(&chain_config(), START, &order_to(account(2), 2 * TON, 3))
        .unwrap();
    assert_eq!(outcome.executed.action_result, Some(0));
    assert!(!outcome.executed.aborted && outcome.messages.is_empty());
}

fn incoming(code: Cell, value: u128, bounce: bool) -> Result<Executed, ExecuteError> {
    let config = chain_config();
    let contract = Contract {
        code,
        ..wallet(TON)
    };
    contract
        .execute(
            &config,
            START,
            &Inbound::Internal {
                from: account(9),
                value,
                bounce,
                bounced: false,
                body: code_cell_body(),
            },
        )
        .map(|outcome| outcome.executed)
        .map_err(|e| ExecuteError::Invalid(e.to_string()))
}

fn code_cell_body() -> Cell {
    code("0123456789abcdef")
}

#[test]
fn a_failing_contract_bounces_what_is_left() {
    let executed = incoming(thrower(), TON, true).unwrap();
    assert_eq!(executed.exit_code, Some(42));
    assert_eq!(executed.action_result, None);
    assert!(executed.aborted && executed.bounced);
    let message = parse_message(&executed.out_messages[0]).unwrap();
    assert!(message.bounced && !message.bounce);
    assert_eq!(message.dst, Some(account(9)));
    // 32 ones, then the first 256 bits of the body.
    assert_eq!(message.body, code("ffffffff0123456789abcdef"));
    assert_eq!(executed.balance, TON, "the contract itself pays nothing");
    assert_eq!(message.value + message.fwd_fee + executed.total_fees, TON);

    let kept = incoming(thrower(), TON, false).unwrap();
    assert!(kept.aborted && !kept.bounced && kept.out_messages.is_empty());
}

#[test]
fn one_nano_buys_no_gas_and_does_not_bounce() {
    let executed = incoming(thrower(), 1, true).unwrap();
    assert_eq!(executed.skip_reason, Some(ComputePhaseSkipReason::NoGas));
    assert_eq!(executed.exit_code, None);
    assert!(!executed.bounced && executed.out_messages.is_empty());
    assert_eq!(executed.balance, TON + 1);
    assert_eq!(executed.total_fees, 0);
}

#[test]
fn an_external_message_must_be_accepted() {
    let refused = Contract {
        code: thrower(),
        ..wallet(TON)
    };
    let error = refused
        .execute(
            &chain_config(),
            START,
            &Inbound::External {
                body: Cell::default(),
            },
        )
        .unwrap_err();
    assert!(error.to_string().contains("exit code 42"), "{error}");
}

#[test]
fn deploys_with_the_matching_state_only() {
    let config = chain_config();
    let init = state_init(open_wallet(), Cell::default()).unwrap();
    let address = Address::basechain(init.repr_hash().0);
    let deploy = |to: Address| {
        let message = InternalMessage {
            bounce: false,
            state_init: Some(init.clone()),
            ..InternalMessage::new(account(9), to, TON, Cell::default())
        };
        execute(
            &nonexistent(),
            &to,
            &message.build().unwrap(),
            &Context::new(&config, START, LT),
        )
        .unwrap()
    };
    let right = deploy(address);
    assert_eq!(right.exit_code, Some(0));
    assert_eq!(right.balance + right.total_fees, TON);
    let wrong = deploy(account(3));
    assert_eq!(wrong.skip_reason, Some(ComputePhaseSkipReason::BadState));
    assert_eq!(wrong.balance, TON, "coins without bounce flag stay");
}

#[test]
fn nobody_there_bounces() {
    let config = chain_config();
    let message = InternalMessage::new(account(9), account(4), TON, Cell::default());
    let executed = execute(
        &nonexistent(),
        &account(4),
        &message.build().unwrap(),
        &Context::new(&config, START, LT),
    )
    .unwrap();
    assert_eq!(executed.skip_reason, Some(ComputePhaseSkipReason::NoState));
    assert!(executed.bounced);
    assert_eq!(executed.balance, 0);
    assert!(executed.account.load_account().unwrap().is_none());
}

#[test]
fn storage_rent_is_paid_for_the_time_passed() {
    let config = chain_config();
    let contract = wallet(TON);
    let account_before = contract.account(START).unwrap();
    let used = account_before
        .load_account()
        .unwrap()
        .unwrap()
        .storage_stat
        .used;
    let message = InternalMessage::new(account(9), contract.address, TON, Cell::default());
    let executed = execute(
        &account_before,
        &contract.address,
        &message.build().unwrap(),
        &Context::new(&config, START + YEAR, LT),
    )
    .unwrap();
    // Basechain since April 2026: nothing per bit, 135 per cell and second, in 1/65536 nanoTON.
    let cells = u128::from(used.cells.into_inner());
    assert!(cells >= 2);
    let expected = (cells * 135 * u128::from(YEAR)).div_ceil(65_536);
    assert_eq!(executed.storage_fees, expected);
    assert_eq!(executed.balance + executed.total_fees, 2 * TON);
    let paid = executed.account.load_account().unwrap().unwrap();
    assert_eq!(paid.storage_stat.last_paid, START + YEAR);
}

#[test]
fn rent_without_coins_becomes_a_debt_and_freezes() {
    let config = chain_config();
    let contract = wallet(1000);
    let message = InternalMessage::new(account(9), contract.address, TON / 10, Cell::default());
    let run = |years: u32| {
        execute(
            &contract.account(START).unwrap(),
            &contract.address,
            &message.build().unwrap(),
            &Context::new(&config, START + years * YEAR, LT),
        )
        .unwrap()
    };
    // A year costs about 0.0002 TON here: a debt, but far from the 0.1 TON that freeze.
    let debt = run(1);
    let account = debt.account.load_account().unwrap().unwrap();
    assert_eq!(debt.storage_fees, 1000);
    assert!(account.storage_stat.due_payment.is_some());
    assert_eq!(debt.exit_code, Some(0));
}

#[test]
fn get_methods_run_on_the_state() {
    let config = chain_config();
    let contract = Contract {
        code: seven(),
        ..wallet(TON)
    };
    let result = contract
        .get(&config, START, "anything", &[StackValue::int(5)])
        .unwrap();
    assert_eq!(result.exit_code, 0);
    assert_eq!(result.stack.first(), Some(&StackValue::int(5)));
    assert_eq!(result.stack.last(), Some(&StackValue::int(7)));
    assert!(result.gas_used > 0);

    let endless = Contract {
        // CONT { } AGAIN: an endless loop must end with out of gas (-14, written as its complement 13).
        code: code("90ea"),
        ..wallet(TON)
    };
    let result = endless.get(&config, START, "anything", &[]).unwrap();
    assert!(!result.is_success());
    assert!(result.gas_used >= 1_000_000);

    let context = Context::new(&config, START, LT);
    let nobody =
        cocoon_devnet::getter::run_get_method(&nonexistent(), &account(8), 5, &[], &context)
            .unwrap();
    assert_eq!(nobody.exit_code, NO_CONTRACT_EXIT_CODE);
}

#[test]
fn a_message_for_another_account_is_refused() {
    let config = chain_config();
    let message = external_message(&account(2), None, Cell::default()).unwrap();
    let result = execute(
        &wallet(TON).account(START).unwrap(),
        &account(1),
        &message,
        &Context::new(&config, START, LT),
    );
    assert!(matches!(result, Err(ExecuteError::Invalid(_))));
}
