//! Messages that do nothing, however they look, and messages that look different and do the same.

use cocoon_devnet::config::ChainConfig;
use cocoon_devnet::executor::{Context, execute};
use cocoon_devnet::message::InternalMessage;
use cocoon_ton::abi::{ClientLedger, ContractStatus, ProxyMessage, op};
use cocoon_ton::transaction::parse_message;
use cocoon_ton::{Cell, CellBuilder};
use tycho_types::cell::CellSliceParts;
use tycho_types::models::{AccountState, MessageLayout, OwnedMessage};

use super::call::{Body, Call};
use super::cells::{cut, extended};
use super::damage::ignored;
use super::parties::{Net, QUERY_ID, TOKENS, TON};
use super::{Failures, config, rows};
use crate::codes::Codes;

/// A notice of a client or worker contract without anything to do: taken in from anybody, read to the last bit.
pub fn notices_are_read_to_the_end(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    let mut call = rows::named("proxy: close", &net);
    call.from = net.stranger;
    let ledger = ClientLedger {
        status: ContractStatus::Normal,
        balance: TON,
        stake: TON,
        tokens_used: TOKENS,
        secret_hash: [7; 32],
    };
    let notices = [
        ProxyMessage::ClientRequest {
            query_id: QUERY_ID,
            owner: net.client_owner,
            ledger,
            payload: None,
        },
        ProxyMessage::WorkerRequest {
            query_id: QUERY_ID,
            owner: net.worker_owner,
            status: ContractStatus::Normal,
            tokens: TOKENS,
            payload: None,
        },
    ];
    for notice in notices {
        let name = format!("{:#x}", notice.op());
        let body = notice.encode().unwrap();
        let whole = taken_in(&call, &config, body.clone());
        failures.note(|| format!("{name} whole"), whole);
        for bits in 1..body.bit_len() {
            let short = cut(&body, bits, body.reference_count());
            let result = call.refused(&config, short, 9);
            failures.note(|| format!("{name}, {bits} bits"), result);
        }
        for (bits, refs) in [(1, 0), (267, 0), (0, 1)] {
            let result = call.refused(&config, extended(&body, bits, refs), 9);
            failures.note(|| format!("{name}, {bits} bits, {refs} more"), result);
        }
    }
    failures.result()
}

/// A wallet takes in what contracts send back and pay, from anybody and without reading it.
pub fn a_wallet_takes_in_coins(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    let mut call = rows::named("wallet: text b", &net);
    call.from = net.stranger;
    for number in [op::EXCESSES, op::PAYOUT, op::DO_NOT_PROCESS] {
        for (bits, refs) in [(0, 0), (64, 0), (65, 0), (900, 4)] {
            let mut b = CellBuilder::new();
            b.store_u32(number).unwrap();
            let body = extended(&b.build().unwrap(), bits, refs);
            let result = taken_in(&call, &config, body);
            failures.note(|| format!("{number:#x}, {bits} bits, {refs} more"), result);
        }
    }
    failures.result()
}

fn taken_in(call: &Call, config: &ChainConfig, body: Cell) -> Result<(), String> {
    let outcome = call.run_with(config, body).map_err(|e| e.to_string())?;
    ignored(call, &outcome)
}

/// A body in a reference of the message is the same body.
pub fn a_body_in_a_reference_is_the_same(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for row in rows::all() {
        let call = (row.call)(&net);
        if let Body::External(_) = call.body {
            continue;
        }
        let result = [false, true].map(|in_reference| laid_out(&call, &config, in_reference));
        let [inline, reference] = result;
        let same = match (inline, reference) {
            (Some(a), Some(b)) if a == b => Ok(()),
            // The longest bodies do not fit beside the header.
            (None, Some(b)) if b.0 == Some(0) => Ok(()),
            (a, b) => Err(format!("inline {a:?}, in a reference {b:?}")),
        };
        failures.note(|| row.name.to_owned(), same);
    }
    failures.result()
}

/// Exit code, data, and bodies of the messages.
type Effect = (Option<i32>, Option<Cell>, Vec<Cell>);

/// What a call does if its body is inline or in a reference; nothing if it does not fit inline.
fn laid_out(call: &Call, config: &ChainConfig, in_reference: bool) -> Option<Effect> {
    let cell = InternalMessage::new(call.from, call.address, call.value, call.body_cell())
        .build()
        .unwrap();
    let mut message: OwnedMessage = cell.parse().unwrap();
    message.body = CellSliceParts::from(call.body_cell());
    message.layout = Some(MessageLayout {
        init_to_cell: false,
        body_to_cell: in_reference,
    });
    let cell = CellBuilder::build_from(message).ok()?;
    let account = call.contract().account(call.now).unwrap();
    let context = Context::new(config, call.now, 1_000_000);
    let done = execute(&account, &call.address, &cell, &context).unwrap();
    let data = match done.account.load_account().unwrap()?.state {
        AccountState::Active(state) => state.data,
        _ => None,
    };
    let bodies = done
        .out_messages
        .iter()
        .map(|m| parse_message(m).unwrap().body)
        .collect();
    Some((done.exit_code, data, bodies))
}
