//! Bad input: every operation of section 3, spoilt in every way that its checks name, cut at every bit, drawn out,
//! signed wrongly, underpaid. The exit codes are those of the specification, nothing changes, the coins go back.

mod call;
mod cells;
mod checks;
mod damage;
mod other;
mod parties;
mod quiet;
mod rows;

use cocoon_devnet::config::{ChainConfig, ConfigOptions};
use cocoon_ton::abi::op;

use self::call::Call;
pub use self::cells::store_address;
use self::parties::Net;
use crate::codes::Codes;

fn config() -> ChainConfig {
    ChainConfig::new(&ConfigOptions::new(-217, [1; 32], 1_700_000_000)).unwrap()
}

/// Collects what is wrong, so that one run shows all of it.
#[derive(Default)]
struct Failures {
    found: Vec<String>,
    checked: usize,
}

/// Failures beyond this are only counted.
const SHOWN: usize = 20;

impl Failures {
    fn note(&mut self, what: impl FnOnce() -> String, result: Result<(), String>) {
        self.checked += 1;
        if let Err(error) = result {
            self.found.push(format!("{}: {error}", what()));
        }
    }

    fn result(self) -> Result<(), String> {
        if self.found.is_empty() {
            return match self.checked {
                0 => Err("nothing was checked".to_owned()),
                _ => Ok(()),
            };
        }
        let count = self.found.len();
        let shown: Vec<_> = self.found.into_iter().take(SHOWN).collect();
        Err(format!(
            "{count} of {} differ:\n{}",
            self.checked,
            shown.join("\n")
        ))
    }
}

/// Without this the refusals would prove nothing: each call, left as it is, does something.
pub fn good_calls_are_accepted(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for row in rows::all() {
        let call = (row.call)(&net);
        failures.note(|| row.name.to_owned(), accepted(&call, &config));
    }
    failures.result()
}

fn accepted(call: &Call, config: &ChainConfig) -> Result<(), String> {
    let outcome = call.run(config).map_err(|e| e.to_string())?;
    let done = &outcome.executed;
    if (done.exit_code, done.action_result, done.aborted) != (Some(0), Some(0), false) {
        return Err(format!(
            "exit {:?}, action {:?}",
            done.exit_code, done.action_result
        ));
    }
    let quiet = outcome.messages.is_empty();
    if call.untouched(&outcome).is_ok() && quiet {
        return Err("accepted, but nothing happened".to_owned());
    }
    Ok(())
}

/// Numbers that are no operation of a contract of structure version 3.
const NO_OPERATIONS: [u32; 13] = [
    op::EXCESSES,
    op::PAYOUT,
    op::DO_NOT_PROCESS,
    op::SAVE_STATE,
    op::ROOT_ADD_PUBLIC_KEY,
    op::ROOT_ADD_PUBLIC_KEY_SIGNED,
    op::ROOT_CHANGE_KEY_MANAGER,
    // Inside a request.
    op::WORKER_REQUEST_PAYOUT,
    op::CLIENT_REQUEST_TOP_UP,
    op::CLIENT_REQUEST_REGISTER,
    op::CLIENT_REQUEST_REFUND_GRANTED,
    op::CLIENT_REQUEST_REFUND_FORCED,
    checks::SWEEP,
];

/// No operation of section 3 is forgotten in the table.
pub fn every_operation_has_a_row(codes: &Codes) -> Result<(), String> {
    let net = Net::new(codes);
    let mut failures = Failures::default();
    let rows: Vec<u32> = rows::all()
        .map(|row| (row.call)(&net).body_cell())
        .map(|body| body.as_slice().unwrap().load_u32().unwrap())
        .collect();
    for (number, name) in op::NAMES {
        let found = rows.contains(number) || NO_OPERATIONS.contains(number);
        let result = found.then_some(()).ok_or_else(|| "has no row".to_owned());
        failures.note(|| (*name).to_owned(), result);
    }
    failures.result()
}

/// Each check with its exit code, and each pair: the one that comes first in the specification decides.
pub fn each_check_alone_and_before_the_next(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for row in rows::all() {
        for (i, first) in row.checks.iter().enumerate() {
            let mut call = (row.call)(&net);
            (first.spoil)(&mut call);
            let alone = call.refused(&config, call.body_cell(), first.code);
            failures.note(|| format!("{}: {}", row.name, first.name), alone);
            for second in &row.checks[i + 1..] {
                let mut call = (row.call)(&net);
                (second.spoil)(&mut call);
                (first.spoil)(&mut call);
                let both = call.refused(&config, call.body_cell(), first.code);
                failures.note(
                    || format!("{}: {} and {}", row.name, first.name, second.name),
                    both,
                );
            }
        }
    }
    failures.result()
}

listed_tests! {
    good_calls_are_accepted = crate::bad_input::good_calls_are_accepted;
    each_check_alone_and_before_the_next = crate::bad_input::each_check_alone_and_before_the_next;
    cut_bodies_are_refused = damage::cut_bodies_are_refused;
    long_bodies_are_refused = damage::long_bodies_are_refused;
    cut_payloads_are_refused = damage::cut_payloads_are_refused;
    wrong_signatures_are_refused = damage::wrong_signatures_are_refused;
    turned_bits_never_slip_through = damage::turned_bits_never_slip_through;
    a_register_payload_is_not_read = damage::a_register_payload_is_not_read;
    unknown_operations_are_refused = other::unknown_operations_are_refused;
    do_not_process_is_never_read = other::do_not_process_is_never_read;
    little_value_never_does_half_the_work = other::little_value_never_does_half_the_work;
    returned_messages_change_nothing = other::returned_messages_change_nothing;
    only_the_proxy_returns_requests = other::only_the_proxy_returns_requests;
    a_bounce_cannot_be_forged = other::a_bounce_cannot_be_forged;
    other_params_versions_are_refused = other::other_params_versions_are_refused;
    a_body_in_a_reference_is_the_same = quiet::a_body_in_a_reference_is_the_same;
    a_broken_external_is_spent = other::a_broken_external_is_spent;
    strangers_get_nothing = other::strangers_get_nothing;
    notices_are_read_to_the_end = quiet::notices_are_read_to_the_end;
    a_wallet_takes_in_coins = quiet::a_wallet_takes_in_coins;
    every_operation_has_a_row = crate::bad_input::every_operation_has_a_row;
}
