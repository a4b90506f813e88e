//! Operations of the proxy contract.

use cocoon_ton::abi::{ContractStatus, ProxyMessage, ProxyState, op};

use super::*;

pub const ROWS: &[Row] = &[
    Row {
        name: "proxy: worker payout",
        call: |n| Call {
            from: n.worker,
            ..proxy(
                n,
                Body::Request(Request {
                    op: op::WORKER_REQUEST,
                    owner: n.worker_owner,
                    payload_op: op::WORKER_REQUEST_PAYOUT,
                    coins: vec![AMOUNT, TON],
                    receiver: n.receiver,
                    payload_extra_bits: 0,
                }),
            )
        },
        checks: &[
            FORM,
            SENDER,
            WORKCHAIN,
            PAYLOAD_OP,
            PAYLOAD_FORM,
            CLOSED,
            INSOLVENT,
        ],
    },
    Row {
        name: "proxy: client top up",
        call: |n| Call {
            value: AMOUNT + VALUE,
            ..client_request(n, op::CLIENT_REQUEST_TOP_UP)
        },
        checks: &[FORM, SENDER, WORKCHAIN, PAYLOAD_OP, PAYLOAD_FORM],
    },
    Row {
        name: "proxy: client refund, granted",
        call: |n| client_request(n, op::CLIENT_REQUEST_REFUND_GRANTED),
        checks: &[
            FORM,
            SENDER,
            WORKCHAIN,
            PAYLOAD_OP,
            PAYLOAD_FORM,
            CLOSED,
            INSOLVENT,
        ],
    },
    Row {
        name: "proxy: client refund, forced",
        call: |n| client_request(n, op::CLIENT_REQUEST_REFUND_FORCED),
        checks: &[
            FORM,
            SENDER,
            WORKCHAIN,
            PAYLOAD_OP,
            PAYLOAD_FORM,
            CLOSED,
            INSOLVENT,
        ],
    },
    Row {
        name: "proxy: pay revenue",
        call: |n| {
            let body = ProxyMessage::PayRevenue {
                query_id: QUERY_ID,
                excess_to: n.receiver,
            };
            proxy(n, Body::Plain(body.encode().unwrap()))
        },
        checks: &[FORM, LOW_VALUE, CLOSED, INSOLVENT],
    },
    Row {
        name: "proxy: increase stake",
        call: |n| {
            let body = ProxyMessage::IncreaseStake {
                query_id: QUERY_ID,
                coins: AMOUNT,
                excess_to: n.receiver,
            };
            Call {
                value: AMOUNT + VALUE,
                ..proxy(n, Body::Plain(body.encode().unwrap()))
            }
        },
        checks: &[FORM, LOW_VALUE_AND_AMOUNT, CLOSED],
    },
    Row {
        name: "proxy: close, signed",
        call: |n| {
            proxy(
                n,
                Body::Signed(signed(n, op::PROXY_CLOSE_SIGNED, n.proxy, None)),
            )
        },
        checks: &[
            FORM,
            SIGNATURE,
            ENVELOPE_OP,
            ENVELOPE_ID,
            TAIL,
            LOW_VALUE,
            CLOSING,
            TARGET,
        ],
    },
    Row {
        name: "proxy: complete close, signed",
        call: |n| {
            let body = signed(n, op::PROXY_CLOSE_COMPLETE, n.proxy, None);
            let mut call = proxy(n, Body::Signed(body));
            *call.state.status() = ContractStatus::Closing;
            call.state.proxy().unlock_time = NOW;
            call
        },
        checks: &[
            FORM,
            SIGNATURE,
            ENVELOPE_OP,
            ENVELOPE_ID,
            TAIL,
            LOW_VALUE,
            NORMAL,
            TARGET,
            check("not yet", 1011, |c| c.state.proxy().unlock_time = NOW + 1),
        ],
    },
    Row {
        name: "proxy: close",
        call: |n| {
            let body = ProxyMessage::Close {
                query_id: QUERY_ID,
                excess_to: n.receiver,
            };
            proxy(n, Body::Plain(body.encode().unwrap()))
        },
        checks: &[FORM, LOW_VALUE, CLOSING, OWNER],
    },
    Row {
        name: "proxy: text c",
        call: |n| proxy(n, text(b'c')),
        checks: &[FORM, LOW_VALUE, CLOSING, OWNER],
    },
    Row {
        name: "proxy: text w",
        call: |n| proxy(n, text(b'w')),
        checks: &[FORM, LOW_VALUE, CLOSED, OWNER, INSOLVENT],
    },
];

pub fn proxy(n: &Net, body: Body) -> Call {
    Call {
        address: n.proxy,
        code: n.codes.proxy.clone(),
        state: State::Proxy(ProxyState {
            owner: n.proxy_owner,
            public_key: public_key(),
            root: n.root,
            status: ContractStatus::Normal,
            balance: 3 * TON,
            stake: 6 * TON,
            unlock_time: 0,
            params: n.params.proxy_form(),
        }),
        own: 100 * TON,
        from: n.proxy_owner,
        value: VALUE,
        now: NOW,
        body,
        extra_bits: 0,
    }
}

fn client_request(n: &Net, payload_op: u32) -> Call {
    Call {
        from: n.client,
        ..proxy(
            n,
            Body::Request(Request {
                op: op::CLIENT_REQUEST,
                owner: n.client_owner,
                payload_op,
                coins: vec![AMOUNT],
                receiver: n.receiver,
                payload_extra_bits: 0,
            }),
        )
    }
}
