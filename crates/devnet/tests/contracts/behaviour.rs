//! Runs the 129 behaviour cases of the contract specification against the compiled contracts of this repository.
//!
//! Each case places the code under test at the given address with the given data and balance, sends one
//! message and compares exit code, action result, data afterwards and outgoing messages. Values are compared
//! where they do not depend on gas, under the prices the vectors were recorded with; a second pass runs under
//! today's prices of the main network. `COCOON_CASE=text` runs only the cases whose name contains the text,
//! `COCOON_GAS=1` prints the gas of every case beside the official builds.

use std::sync::LazyLock;

use cocoon_devnet::config::{ChainConfig, ConfigOptions, Prices};
use cocoon_devnet::executor::ExecuteError;
use cocoon_devnet::sandbox::{Contract, Inbound, Outcome, SandboxError};
use cocoon_ton::{Address, Cell};
use serde_json::Value;
use tycho_types::boc::Boc;
use tycho_types::models::ComputePhaseSkipReason;

use crate::codes::Codes;

const CASES: usize = 129;

/// Cases whose recorded expectation cannot be met by any implementation, with the reason.
///
/// What should happen instead has a test of its own below.
const IMPOSSIBLE: [(&str, &str); 1] = [(
    "wallet.text_w",
    "recorded as not accepted, which an internal message cannot be; section 10.3 says what happens",
)];

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../vectors/contracts.json")).expect("the vectors")
});

fn cases() -> &'static Vec<Value> {
    let cases = VECTORS["behaviour"].as_array().expect("behaviour cases");
    assert_eq!(cases.len(), CASES);
    cases
}

fn config(prices: Prices) -> ChainConfig {
    let mut options = ConfigOptions::new(-217, [1; 32], 1_700_000_000);
    options.prices = prices;
    ChainConfig::new(&options).unwrap()
}

/// The cases of one contract under the prices of the vectors: the first that differs is the error.
pub fn check(codes: &Codes, contract: &str) -> Result<(), String> {
    let config = config(Prices::mainnet_before_2026());
    for case in cases() {
        let name = text(case, "name");
        if text(case, "contract") != contract || IMPOSSIBLE.iter().any(|(case, _)| *case == name) {
            continue;
        }
        let code = codes.of(contract);
        let found = differences(case, code, run_case(case, code, &config), true);
        if !found.is_empty() {
            return Err(format!("case {name}"));
        }
    }
    text_w(codes)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is missing in {value}"))
}

fn cell(value: &Value, key: &str) -> Cell {
    Boc::decode_base64(text(value, key)).unwrap()
}

fn address(value: &Value, key: &str) -> Address {
    Address::parse(text(value, key)).unwrap().address
}

fn number(value: &Value, key: &str) -> u128 {
    text(value, key).parse().unwrap()
}

fn run_case(case: &Value, code: &Cell, config: &ChainConfig) -> Result<Outcome, SandboxError> {
    let account = &case["account"];
    let contract = Contract {
        address: address(account, "address"),
        balance: number(account, "balance"),
        code: code.clone(),
        data: cell(account, "data"),
    };
    let message = &case["in"];
    let inbound = match text(message, "kind") {
        "internal" => Inbound::Internal {
            from: address(message, "from"),
            value: number(message, "value"),
            bounce: message["bounce"].as_bool().unwrap(),
            bounced: message["bounced"].as_bool().unwrap_or(false),
            body: cell(message, "body"),
        },
        "external" => Inbound::External {
            body: cell(message, "body"),
        },
        other => panic!("unknown message kind {other}"),
    };
    let now = u32::try_from(case["now"].as_u64().unwrap()).unwrap();
    contract.execute(config, now, &inbound)
}

/// Differences between what a case expects and what happened.
fn differences(
    case: &Value,
    code: &Cell,
    result: Result<Outcome, SandboxError>,
    compare_values: bool,
) -> Vec<String> {
    let expect = &case["expect"];
    let mut found = Vec::new();
    let expected_exit = expect["exit_code"].as_i64().map(|code| code as i32);
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(SandboxError::Execute(ExecuteError::NotAccepted { exit_code, reason })) => {
            if expect["not_accepted"].as_bool() != Some(true) {
                found.push(format!("not accepted: {reason}"));
            }
            if exit_code != expected_exit {
                found.push(format!(
                    "exit code {exit_code:?}, expected {expected_exit:?}"
                ));
            }
            return found;
        }
        Err(error) => return vec![format!("cannot run: {error}")],
    };
    if expect["not_accepted"].as_bool() == Some(true) {
        found.push(format!(
            "accepted with exit code {:?}, expected no acceptance",
            outcome.executed.exit_code
        ));
    }
    let mut check = |what: &str, got: String, expected: String| {
        if got != expected {
            found.push(format!("{what}: got {got}, expected {expected}"));
        }
    };
    let executed = &outcome.executed;
    check(
        "exit code",
        format!("{:?}", executed.exit_code),
        format!("{expected_exit:?}"),
    );
    let expected_action = expect["action_result"].as_i64().map(|code| code as i32);
    check(
        "action result",
        format!("{:?}", executed.action_result),
        format!("{expected_action:?}"),
    );
    if let Some(aborted) = expect["aborted"].as_bool() {
        check("aborted", executed.aborted.to_string(), aborted.to_string());
    }
    if expect["compute_skipped"].as_str() == Some("no-gas") {
        check(
            "skip reason",
            format!("{:?}", executed.skip_reason),
            format!("{:?}", Some(ComputePhaseSkipReason::NoGas)),
        );
    }
    let data = outcome
        .data
        .as_ref()
        .map(|cell| cell.repr_hash().to_string());
    check(
        "data hash",
        format!("{data:?}"),
        format!("{:?}", Some(text(expect, "data_after_hash"))),
    );
    let changed = outcome.code.as_ref() != Some(code);
    let expected_change = expect["code_changed"].as_bool().unwrap_or(false);
    check(
        "code changed",
        changed.to_string(),
        expected_change.to_string(),
    );
    let expected_messages = expect["out"].as_array().unwrap();
    check(
        "number of messages",
        outcome.messages.len().to_string(),
        expected_messages.len().to_string(),
    );
    for (index, (got, want)) in outcome.messages.iter().zip(expected_messages).enumerate() {
        let mut check = |what: &str, got: String, expected: String| {
            check(&format!("message {index} {what}"), got, expected);
        };
        check(
            "destination",
            format!("{:?}", got.dst.map(|a| a.to_string())),
            format!("{:?}", Some(text(want, "dest"))),
        );
        check(
            "bounce",
            got.bounce.to_string(),
            want["bounce"].as_bool().unwrap().to_string(),
        );
        check(
            "bounced",
            got.bounced.to_string(),
            want["bounced"].as_bool().unwrap_or(false).to_string(),
        );
        check(
            "body",
            got.body.repr_hash().to_string(),
            text(want, "body_hash").to_owned(),
        );
        if compare_values && want["value_depends_on_gas"].as_bool() == Some(false) {
            check(
                "value",
                got.value.to_string(),
                text(want, "value").to_owned(),
            );
        }
    }
    found
}

fn run_all(prices: Prices, compare_values: bool) {
    let codes = Codes::built();
    let config = config(prices);
    let filter = std::env::var("COCOON_CASE").unwrap_or_default();
    let print_gas = std::env::var_os("COCOON_GAS").is_some();

    let mut ran = 0;
    let mut failures = Vec::new();
    for case in cases() {
        let name = text(case, "name");
        if !name.contains(&filter) {
            continue;
        }
        if let Some((_, reason)) = IMPOSSIBLE.iter().find(|(case, _)| *case == name) {
            println!("left out: {name}: {reason}");
            continue;
        }
        let code = codes.of(text(case, "contract"));
        let result = run_case(case, code, &config);
        if print_gas && let Ok(outcome) = &result {
            let expect = &case["expect"];
            println!(
                "{name}: gas {}, FunC {}, Tolk {}",
                outcome.executed.gas_used, expect["gas_func"], expect["gas_tolk"]
            );
        }
        let found = differences(case, code, result, compare_values);
        if !found.is_empty() {
            failures.push(format!("{name}\n    {}", found.join("\n    ")));
        }
        ran += 1;
    }
    assert!(
        failures.is_empty(),
        "{} of {ran} cases differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
    println!("{ran} cases agree");
}

#[test]
fn behaviour_under_the_prices_of_the_vectors() {
    run_all(Prices::mainnet_before_2026(), true);
}

#[test]
fn behaviour_under_the_prices_of_today() {
    run_all(Prices::mainnet(), false);
}

/// The case that no implementation can meet as it was recorded, as section 10.3 has it.
fn text_w(codes: &Codes) -> Result<(), String> {
    let case = cases()
        .iter()
        .find(|case| text(case, "name") == "wallet.text_w")
        .ok_or("no case wallet.text_w")?;
    let config = config(Prices::mainnet());
    let outcome = run_case(case, &codes.wallet, &config).map_err(|e| e.to_string())?;
    let wanted = (Some(0), Some(0), 10_000_000);
    let executed = &outcome.executed;
    let found = (executed.exit_code, executed.action_result, executed.balance);
    let [message] = &outcome.messages[..] else {
        return Err(format!(
            "text w: one message expected, found {:?}",
            outcome.messages
        ));
    };
    let to_owner = message.dst == Some(address(&case["in"], "from"))
        && message.bounce
        && message.body == cell(&case["in"], "body");
    if found != wanted || !to_owner {
        return Err(format!(
            "text w: {found:?}, expected {wanted:?}; {message:?}"
        ));
    }
    Ok(())
}

#[test]
fn wallet_text_w_sends_everything_to_the_owner() {
    text_w(&Codes::built()).unwrap();
}
