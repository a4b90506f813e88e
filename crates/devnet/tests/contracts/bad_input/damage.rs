//! Bodies and payloads cut at every bit, drawn out, and turned bit by bit.

use cocoon_devnet::config::ChainConfig;
use cocoon_devnet::sandbox::Outcome;
use cocoon_ton::Cell;
use cocoon_ton::abi::{ClientMessage, ProxyMessage, RootMessage, WalletMessage, WorkerMessage, op};

use super::call::{Body, Call, State};
use super::cells::{cut, extended, flipped};
use super::parties::{Net, SEED};
use super::{Failures, config, rows};
use crate::codes::Codes;

/// Malformed.
const FORM: i32 = 9;
const BAD_SIGNATURE: i32 = 1007;
/// Wallet: the signature of an external message does not fit.
const BAD_WALLET_SIGNATURE: i32 = 1034;
/// Signature and the three numbers of a wallet's external message.
const EXTERNAL_HEAD: u16 = 512 + 3 * 32;
/// What tycho-vm 0.3.7 reports for an address that is not a standard one; the official machine says 9.
const VM_BAD_ADDRESS: i32 = 12;
/// Bits of a cell.
const MAX_BITS: u16 = 1023;

/// A body that ends early, at any bit or reference, is refused with 9. Without a bit it is a plain transfer.
pub fn cut_bodies_are_refused(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for row in rows::all() {
        let call = (row.call)(&net);
        let external = matches!(call.body, Body::External(_));
        let body = call.body_cell();
        let (bits, refs) = (body.bit_len(), body.reference_count());
        for n in 0..bits {
            let short = cut(&body, n, refs);
            let result = match n {
                0 if !external => transfer(&call, &config, short),
                _ if external && n >= EXTERNAL_HEAD => {
                    call.refused(&config, short, BAD_WALLET_SIGNATURE)
                }
                _ => call.refused(&config, short, FORM),
            };
            failures.note(|| format!("{}, {n} of {bits} bits", row.name), result);
        }
        for n in 0..refs {
            let code = if external { BAD_WALLET_SIGNATURE } else { FORM };
            let result = call.refused(&config, cut(&body, bits, n), code);
            failures.note(|| format!("{}, {n} of {refs} references", row.name), result);
        }
    }
    failures.result()
}

/// A body with anything behind it is refused with 9.
pub fn long_bodies_are_refused(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for row in rows::all() {
        let call = (row.call)(&net);
        let code = match call.body {
            Body::External(_) => BAD_WALLET_SIGNATURE,
            _ => FORM,
        };
        let body = call.body_cell();
        let room = MAX_BITS - body.bit_len();
        for (bits, refs) in [(1, 0), (8, 0), (32, 0), (267, 0), (room, 0), (0, 1), (1, 1)] {
            if bits > room || refs > 4 - body.reference_count() {
                continue;
            }
            let result = call.refused(&config, extended(&body, bits, refs), code);
            failures.note(
                || format!("{}, {bits} bits and {refs} references more", row.name),
                result,
            );
        }
    }
    failures.result()
}

/// What is signed, and what a client or worker contract asks of its proxy, is read to the last bit as well.
pub fn cut_payloads_are_refused(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for row in rows::all() {
        let call = (row.call)(&net);
        let (payload, wrap): (Cell, Box<dyn Fn(Cell) -> Cell>) = match call.body.clone() {
            Body::Signed(signed) => (
                signed.payload(),
                Box::new(move |payload: Cell| {
                    let signature = signed.sign(&payload);
                    signed.envelope(payload, &signature)
                }),
            ),
            Body::Request(request) => (
                request.payload(),
                Box::new(move |payload: Cell| request.body(payload)),
            ),
            Body::Plain(_) | Body::External(_) => continue,
        };
        let bits = payload.bit_len();
        for n in 0..bits {
            let result = call.refused(&config, wrap(cut(&payload, n, 0)), FORM);
            failures.note(
                || format!("{}, {n} of {bits} payload bits", row.name),
                result,
            );
        }
        for (bits, refs) in [(1, 0), (8, 0), (267, 0), (0, 1)] {
            let result = call.refused(&config, wrap(extended(&payload, bits, refs)), FORM);
            failures.note(
                || format!("{}, {bits} bits, {refs} references more", row.name),
                result,
            );
        }
    }
    failures.result()
}

/// Any bit of the signature or of what it covers that is turned, another key, another payload: 1007.
pub fn wrong_signatures_are_refused(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for row in rows::all() {
        let call = (row.call)(&net);
        let Body::Signed(signed) = &call.body else {
            continue;
        };
        let payload = signed.payload();
        let good = signed.sign(&payload);
        for i in 0..good.len() {
            let mut bad = good;
            bad[i] ^= 1 << (i % 8);
            let body = signed.envelope(payload.clone(), &bad);
            let result = call.refused(&config, body, BAD_SIGNATURE);
            failures.note(|| format!("{}, signature byte {i}", row.name), result);
        }
        for bit in 0..payload.bit_len() {
            let body = signed.envelope(flipped(&payload, bit), &good);
            let result = call.refused(&config, body, BAD_SIGNATURE);
            failures.note(|| format!("{}, payload bit {bit}", row.name), result);
        }
        let mut other = signed.clone();
        other.tokens = other.tokens.map(|tokens| tokens + 1);
        other.inner_query_id += 1;
        let mut stranger = signed.clone();
        stranger.seed = SEED + 1;
        for (what, bad) in [
            ("no signature", [0; 64]),
            (
                "the signature of another payload",
                other.sign(&other.payload()),
            ),
            ("the signature of another key", stranger.sign(&payload)),
        ] {
            let body = signed.envelope(payload.clone(), &bad);
            let result = call.refused(&config, body, BAD_SIGNATURE);
            failures.note(|| format!("{}, {what}", row.name), result);
        }
    }
    failures.result()
}

/// Whatever a single turned bit makes of a body: what the ABI of this project cannot read, the contract refuses, and
/// a contract that refuses changes nothing.
pub fn turned_bits_never_slip_through(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for row in rows::all() {
        let call = (row.call)(&net);
        let Body::Plain(body) = &call.body else {
            continue;
        };
        // The op itself: see the unknown operations.
        for bit in 32..body.bit_len() {
            let bad = flipped(body, bit);
            let result = turned(&call, &config, bad);
            failures.note(|| format!("{}, bit {bit}", row.name), result);
        }
    }
    failures.result()
}

fn turned(call: &Call, config: &ChainConfig, body: Cell) -> Result<(), String> {
    let readable = readable(&call.state, &body);
    let outcome = call
        .run_with(config, body)
        .map_err(|e| format!("cannot run: {e}"))?;
    let done = &outcome.executed;
    if done.exit_code == Some(0) && !done.aborted {
        return readable.map_err(|e| format!("accepted, though it cannot be read: {e}"));
    }
    call.untouched(&outcome)?;
    if done.exit_code == Some(0) {
        // The owner may name a mode that does not exist; then nothing is sent and his coins stay in his wallet.
        return match (&call.state, &outcome.messages[..]) {
            (State::Wallet(_), []) => Ok(()),
            (_, sent) => Err(format!("action {:?}, sent {sent:?}", done.action_result)),
        };
    }
    call.returned(&outcome)?;
    match (readable, done.exit_code) {
        (Err(_), Some(FORM | 1004 | VM_BAD_ADDRESS)) => Ok(()),
        (Err(e), exit) => Err(format!("exit {exit:?}, though it cannot be read: {e}")),
        (Ok(()), Some(FORM)) => Err("exit 9, though it can be read".to_owned()),
        (Ok(()), _) => Ok(()),
    }
}

fn readable(state: &State, body: &Cell) -> Result<(), String> {
    if op_of(body) == super::checks::SWEEP {
        return Ok(());
    }
    match state {
        State::Root(_) => RootMessage::decode(body).map(drop),
        State::Proxy(_) => ProxyMessage::decode(body).map(drop),
        State::Client(_) => ClientMessage::decode(body).map(drop),
        State::Worker(_) => WorkerMessage::decode(body).map(drop),
        State::Wallet(_) => WalletMessage::decode(body).map(drop),
    }
    .map_err(|e| e.to_string())
}

fn op_of(body: &Cell) -> u32 {
    body.as_slice().unwrap().load_u32().unwrap()
}

/// The coins stay, nothing else happens.
fn transfer(call: &Call, config: &ChainConfig, body: Cell) -> Result<(), String> {
    let outcome = call
        .run_with(config, body)
        .map_err(|e| format!("cannot run: {e}"))?;
    ignored(call, &outcome)
}

/// Demands that a message was taken in without any effect but its coins.
pub fn ignored(call: &Call, outcome: &Outcome) -> Result<(), String> {
    let done = &outcome.executed;
    if done.exit_code != Some(0) || done.aborted {
        return Err(format!("exit {:?}, expected 0", done.exit_code));
    }
    call.untouched(outcome)?;
    if !outcome.messages.is_empty() {
        return Err(format!("sent {:?}", outcome.messages));
    }
    let expected = call.own + call.value - done.total_fees;
    if done.balance != expected {
        return Err(format!("holds {}, expected {expected}", done.balance));
    }
    Ok(())
}

/// The nonce of a registration is for the proxy node; the proxy contract does not read beyond the payload's op.
pub fn a_register_payload_is_not_read(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    let mut call = rows::named("proxy: client top up", &net);
    call.request().payload_op = op::CLIENT_REQUEST_REGISTER;
    let Body::Request(request) = call.body.clone() else {
        return Err("not a request".to_owned());
    };
    let payload = request.payload();
    for n in 0..=payload.bit_len() {
        let body = request.body(cut(&payload, n, 0));
        let result = match n {
            0..32 => call.refused(&config, body, FORM),
            _ => transfer(&call, &config, body),
        };
        failures.note(|| format!("register payload of {n} bits"), result);
    }
    failures.result()
}
