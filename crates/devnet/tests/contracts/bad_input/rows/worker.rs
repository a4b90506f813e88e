//! Operations of the worker contract.

use cocoon_ton::abi::{ContractStatus, WorkerMessage, WorkerState, op};

use super::*;

pub const ROWS: &[Row] = &[
    Row {
        name: "worker: payout",
        call: |n| worker_signed(n, op::WORKER_PAYOUT),
        checks: &[
            CLOSED,
            FORM,
            SIGNATURE,
            ENVELOPE_OP,
            ENVELOPE_ID,
            TAIL,
            NOT_ABOVE,
            TARGET,
            STALE,
            TOO_POOR_TO_RETURN,
        ],
    },
    Row {
        name: "worker: last payout",
        call: |n| worker_signed(n, op::WORKER_LAST_PAYOUT),
        checks: &[
            CLOSED,
            FORM,
            SIGNATURE,
            ENVELOPE_OP,
            ENVELOPE_ID,
            TAIL,
            NOT_ABOVE,
            TARGET,
            FEWER,
            TOO_POOR_TO_RETURN,
        ],
    },
    Row {
        name: "worker: register",
        call: |n| {
            let body = WorkerMessage::Register {
                query_id: QUERY_ID,
                excess_to: n.receiver,
            };
            worker(n, Body::Plain(body.encode().unwrap()))
        },
        checks: &[CLOSED, NOT_ABOVE, OWNER, FORM],
    },
    Row {
        name: "worker: sweep",
        call: |n| {
            let mut call = worker(n, sweep());
            *call.state.status() = ContractStatus::Closed;
            call
        },
        // An open worker knows only its own operations.
        checks: &[
            check("normal", 1012, |c| {
                *c.state.status() = ContractStatus::Normal;
            }),
            FORM,
        ],
    },
];

fn worker(n: &Net, body: Body) -> Call {
    Call {
        address: n.worker,
        code: n.codes.worker.clone(),
        state: State::Worker(WorkerState {
            owner: n.worker_owner,
            proxy: n.proxy,
            public_key: public_key(),
            status: ContractStatus::Normal,
            tokens_paid: TOKENS,
            params: n.params.bare_form(),
        }),
        own: OWN,
        from: n.worker_owner,
        value: VALUE,
        now: NOW,
        body,
        extra_bits: 0,
    }
}

fn worker_signed(n: &Net, op: u32) -> Call {
    let mut call = worker(n, Body::Signed(signed(n, op, n.worker, Some(TOKENS + 1))));
    call.from = n.stranger;
    call
}
