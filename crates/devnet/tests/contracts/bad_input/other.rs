//! Bad input that is no damage: unknown operations, too few coins, messages that came back, old params.

use cocoon_devnet::config::ChainConfig;
use cocoon_devnet::sandbox::{Inbound, SandboxError};
use cocoon_ton::abi::op;
use cocoon_ton::{Cell, CellBuilder};

use super::call::{Body, Call, State};
use super::cells::{cut, extended};
use super::checks::SWEEP;
use super::damage::ignored;
use super::parties::{Net, QUERY_ID, SEED, TON, party};
use super::{Failures, config, rows};
use crate::codes::Codes;

/// Numbers that no contract handles: reserved, known to nodes only, and of the later root.
const NOWHERE: [u32; 6] = [
    0x9f1e_69dc,
    0x2911_1ceb,
    op::ROOT_ADD_PUBLIC_KEY,
    op::ROOT_ADD_PUBLIC_KEY_SIGNED,
    op::ROOT_CHANGE_KEY_MANAGER,
    0xffff_ffff,
];

/// A good call of each contract, what it answers to an unknown operation, and what it handles.
const CONTRACTS: [(&str, i32, &[u32]); 5] = [
    (
        "client: withdraw",
        1012,
        &[
            op::CLIENT_TOP_UP,
            op::CLIENT_CHANGE_SECRET_HASH_AND_TOP_UP,
            op::CLIENT_REGISTER,
            op::CLIENT_CHANGE_SECRET_HASH,
            op::CLIENT_INCREASE_STAKE,
            op::CLIENT_WITHDRAW,
            op::CLIENT_REQUEST_REFUND,
            op::CLIENT_CHARGE,
            op::CLIENT_GRANT_REFUND,
            SWEEP,
        ],
    ),
    (
        "worker: register",
        1012,
        &[
            op::WORKER_REGISTER,
            op::WORKER_PAYOUT,
            op::WORKER_LAST_PAYOUT,
            SWEEP,
        ],
    ),
    (
        "proxy: close",
        1012,
        &[
            op::TEXT,
            op::WORKER_REQUEST,
            op::CLIENT_REQUEST,
            op::PROXY_PAY_REVENUE,
            op::PROXY_INCREASE_STAKE,
            op::PROXY_CLOSE,
            op::PROXY_CLOSE_SIGNED,
            op::PROXY_CLOSE_COMPLETE,
        ],
    ),
    (
        "root: reset",
        1012,
        &[
            op::ROOT_ADD_WORKER_HASH,
            op::ROOT_DELETE_WORKER_HASH,
            op::ROOT_ADD_MODEL_HASH,
            op::ROOT_DELETE_MODEL_HASH,
            op::ROOT_ADD_PROXY_HASH,
            op::ROOT_DELETE_PROXY_HASH,
            op::ROOT_REGISTER_PROXY,
            op::ROOT_UNREGISTER_PROXY,
            op::ROOT_UPDATE_PROXY,
            op::ROOT_CHANGE_PRICE,
            op::ROOT_CHANGE_PARAMS,
            op::ROOT_REPLACE_CONTRACT_CODES,
            op::ROOT_REPLACE_CODE,
            op::ROOT_REPLACE_DATA_AND_CODE,
            op::ROOT_RESET,
            op::ROOT_CHANGE_OWNER,
        ],
    ),
    (
        "wallet: text b",
        1041,
        &[op::TEXT, op::WALLET_SEND, op::EXCESSES, op::PAYOUT],
    ),
];

/// Operations of other contracts, and numbers of nobody, from the owner himself.
pub fn unknown_operations_are_refused(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    let numbers = op::NAMES.iter().map(|(number, _)| *number).chain(NOWHERE);
    for number in numbers.filter(|n| *n != op::DO_NOT_PROCESS) {
        for (row, code, handled) in &CONTRACTS {
            if handled.contains(&number) {
                continue;
            }
            let call = rows::named(row, &net);
            for more in [0, 267] {
                let body = extended(&head(number), more, 0);
                let result = call.refused(&config, body, *code);
                failures.note(|| format!("{number:#x} to {row}"), result);
            }
            // The wallet's commands need no query id; everywhere else its lack is noticed first.
            if *code == 1012 {
                let result = call.refused(&config, cut(&head(number), 95, 0), 9);
                failures.note(|| format!("{number:#x} without query id to {row}"), result);
            }
        }
    }
    failures.result()
}

fn head(number: u32) -> Cell {
    let mut b = CellBuilder::new();
    b.store_u32(number).unwrap();
    b.store_u64(QUERY_ID).unwrap();
    b.build().unwrap()
}

/// Do-not-process with anything behind it is taken in by every contract, from anybody.
pub fn do_not_process_is_never_read(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for (row, _, _) in &CONTRACTS {
        let mut call = rows::named(row, &net);
        call.from = net.stranger;
        for (bits, refs) in [(0, 0), (1, 0), (64, 0), (900, 0), (500, 4)] {
            let number = cut(&head(op::DO_NOT_PROCESS), 32, 0);
            let result = call
                .run_with(&config, extended(&number, bits, refs))
                .map_err(|e| e.to_string())
                .and_then(|outcome| ignored(&call, &outcome));
            failures.note(|| format!("{row}: {bits} bits, {refs} references"), result);
        }
    }
    failures.result()
}

/// Whatever the value: the whole operation or nothing of it. Operations with a least value take no less.
pub fn little_value_never_does_half_the_work(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    let values = (0..9)
        .flat_map(|p| [1, 2, 5].map(|n| n * 10_u128.pow(p)))
        .chain([0, TON / 10 - 1, TON / 10, TON / 10 + 1]);
    for value in values.filter(|v| *v <= TON) {
        for row in rows::all() {
            let mut call = (row.call)(&net);
            if let Body::External(_) = call.body {
                continue;
            }
            let enough = call.value;
            call.value = value;
            let result = half(
                &call,
                &config,
                enough,
                row.checks.iter().any(|c| c.code == 1003),
            );
            failures.note(|| format!("{} with {value} nanoTON", row.name), result);
        }
    }
    failures.result()
}

fn half(call: &Call, config: &ChainConfig, enough: u128, has_least: bool) -> Result<(), String> {
    let outcome = call.run(config).map_err(|e| e.to_string())?;
    let done = &outcome.executed;
    if !done.aborted {
        return match has_least && call.value + TON / 20 < enough {
            true => Err("accepted below the least value".to_owned()),
            false => Ok(()),
        };
    }
    call.untouched(&outcome)?;
    if outcome.messages.iter().any(|m| !m.bounced) {
        return Err(format!("failed, but sent {:?}", outcome.messages));
    }
    // What cannot go back stays, less the fees; the contract's own coins pay for nothing.
    if done.balance < call.own {
        return Err(format!("held {}, holds {}", call.own, done.balance));
    }
    Ok(())
}

/// Messages that came back change nothing, unless they carry the whole of a request that moved coins.
pub fn returned_messages_change_nothing(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for row in rows::all() {
        let call = (row.call)(&net);
        if let Body::External(_) = call.body {
            continue;
        }
        let body = call.body_cell();
        for body in [body.clone(), old_bounce(&body), cut(&body, 31, 0)] {
            let result = returned(&call, &config, body);
            failures.note(|| row.name.to_owned(), result);
        }
    }
    failures.result()
}

/// The bounce of a network without full bodies: a mark and the first 256 bits.
fn old_bounce(body: &Cell) -> Cell {
    let mut b = CellBuilder::new();
    b.store_u32(u32::MAX).unwrap();
    b.store_slice(body.as_slice().unwrap().get_prefix(256, 0))
        .unwrap();
    b.build().unwrap()
}

/// A request that came back counts only if it comes from the proxy, whole, and marked by the chain.
pub fn only_the_proxy_returns_requests(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for (request, ledger) in [
        ("proxy: client top up", "client: withdraw"),
        ("proxy: client refund, granted", "client: withdraw"),
        ("proxy: client refund, forced", "client: withdraw"),
        ("proxy: worker payout", "worker: register"),
    ] {
        let request_body = rows::named(request, &net).body_cell();
        let mut call = rows::named(ledger, &net);
        let mut b = CellBuilder::new();
        b.store_u32(u32::MAX - 1).unwrap();
        b.store_reference(request_body).unwrap();
        let body = b.build().unwrap();
        if let State::Worker(state) = &mut call.state {
            // What the request would take back must have been paid before.
            state.tokens_paid = u64::from(u32::MAX);
        }
        let strangers = [
            net.stranger,
            call.from,
            call.address,
            net.client,
            net.worker,
        ];
        for from in strangers.into_iter().chain([net.proxy]) {
            call.from = from;
            let result = returned(&call, &config, body.clone());
            let result = match from == net.proxy {
                true => match result {
                    Err(_) => Ok(()),
                    Ok(()) => Err("the proxy's own is not believed".to_owned()),
                },
                false => result,
            };
            failures.note(|| format!("{request} from {from}"), result);
        }
    }
    failures.result()
}

/// A message with the mark of a bounce, which must be taken in without effect.
fn returned(call: &Call, config: &ChainConfig, body: Cell) -> Result<(), String> {
    let inbound = Inbound::Internal {
        from: call.from,
        value: call.value,
        bounce: false,
        bounced: true,
        body,
    };
    let outcome = call
        .contract()
        .execute(config, call.now, &inbound)
        .map_err(|e| e.to_string())?;
    ignored(call, &outcome)
}

/// The mark of a bounce cannot be forged: whoever sends it, it arrives without.
pub fn a_bounce_cannot_be_forged(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut call = rows::named("wallet: send", &net);
    let message = cocoon_devnet::message::InternalMessage {
        bounced: true,
        ..cocoon_devnet::message::InternalMessage::new(
            net.wallet,
            net.client,
            TON / 10,
            Cell::default(),
        )
    };
    let body = cocoon_ton::abi::WalletMessage::Send {
        query_id: QUERY_ID,
        mode: 0,
        message: message.build().unwrap(),
    };
    call.body = Body::Plain(body.encode().unwrap());
    let outcome = call.run(&config).map_err(|e| e.to_string())?;
    match &outcome.messages[..] {
        [sent] if sent.dst == Some(net.client) && !sent.bounced => Ok(()),
        other => Err(format!("sent {other:?}")),
    }
}

/// Operations that read the params refuse any structure version but 3.
pub fn other_params_versions_are_refused(codes: &Codes) -> Result<(), String> {
    const READERS: [&str; 9] = [
        "client: charge",
        "client: grant refund",
        "client: request refund, first step",
        "worker: payout",
        "worker: last payout",
        "proxy: close",
        "proxy: close, signed",
        "root: change price",
        "root: change params",
    ];
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    for name in READERS {
        for version in [0, 1, 2, 4] {
            let mut call = rows::named(name, &net);
            if let State::Root(_) = call.state
                && version == 4
            {
                continue; // Another layout: it has a key registry.
            }
            call.state.params().struct_version = version;
            let result = call.refused(&config, call.body_cell(), 1008);
            failures.note(|| format!("{name}, version {version}"), result);
        }
    }
    failures.result()
}

/// A signed external message that is cut behind its head is spent: it cannot come again.
pub fn a_broken_external_is_spent(codes: &Codes) -> Result<(), String> {
    use ed25519_dalek::Signer;
    let (config, net) = (config(), Net::new(codes));
    let mut call = rows::named("wallet: external", &net);
    let external = call.external().clone();
    let mut b = CellBuilder::new();
    b.store_u32(external.subwallet).unwrap();
    b.store_u32(external.valid_until).unwrap();
    b.store_u32(external.seqno).unwrap();
    // A message, but no mode for it.
    b.store_reference(external.message).unwrap();
    let part = b.build().unwrap();
    let signature = super::parties::key(SEED)
        .sign(part.repr_hash().as_slice())
        .to_bytes();
    let mut b = CellBuilder::new();
    b.store_raw(&signature, 512).unwrap();
    b.store_slice(part.as_slice().unwrap()).unwrap();
    let body = b.build().unwrap();
    let outcome = call
        .run_with(&config, body.clone())
        .map_err(|e| e.to_string())?;
    let (exit, data) = (outcome.executed.exit_code, outcome.data);
    if exit != Some(9) || !outcome.messages.is_empty() {
        return Err(format!("exit {exit:?}, sent {:?}", outcome.messages));
    }
    call.state.wallet().seqno += 1;
    if data != Some(call.contract().data) {
        return Err("the seqno was not spent".to_owned());
    }
    match call.run_with(&config, body) {
        Err(SandboxError::Execute(_)) => Ok(()),
        other => Err(format!("accepted again: {other:?}")),
    }
}

/// Nobody can close or empty a contract with a message to himself.
pub fn strangers_get_nothing(codes: &Codes) -> Result<(), String> {
    let (config, net) = (config(), Net::new(codes));
    let mut failures = Failures::default();
    let open_to_all = |name: &str| {
        [
            "client: top up",
            "client: charge",
            "client: grant refund",
            "client: sweep",
            "worker: payout",
            "worker: last payout",
            "worker: sweep",
            "proxy: pay revenue",
            "proxy: increase stake",
            "proxy: close, signed",
            "proxy: complete close, signed",
        ]
        .contains(&name)
    };
    for row in rows::all() {
        let mut call = (row.call)(&net);
        if matches!(call.body, Body::External(_)) || open_to_all(row.name) {
            continue;
        }
        for stranger in [net.stranger, net.receiver, call.address, party(0)] {
            call.from = stranger;
            let result = match call.run(&config) {
                Ok(outcome) if outcome.executed.exit_code == Some(0) => Err("accepted".to_owned()),
                Ok(outcome) => call.untouched(&outcome),
                Err(error) => Err(error.to_string()),
            };
            failures.note(|| format!("{} from {stranger}", row.name), result);
        }
    }
    failures.result()
}
