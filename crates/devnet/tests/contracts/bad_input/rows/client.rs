//! Operations of the client contract.

use cocoon_ton::abi::{ClientMessage, ClientState, ContractStatus, op};

use super::*;

pub const ROWS: &[Row] = &[
    Row {
        name: "client: top up",
        call: |n| {
            let body = ClientMessage::TopUp {
                query_id: QUERY_ID,
                coins: AMOUNT,
                excess_to: n.receiver,
            };
            Call {
                from: n.stranger,
                value: AMOUNT + VALUE,
                ..client(n, body)
            }
        },
        checks: &[FORM, CLOSED, LOW_VALUE_AND_AMOUNT, POOR],
    },
    Row {
        name: "client: change secret hash and top up",
        call: |n| {
            let body = ClientMessage::ChangeSecretHashAndTopUp {
                query_id: QUERY_ID,
                coins: AMOUNT,
                secret_hash: [0xaa; 32],
                excess_to: n.receiver,
            };
            Call {
                value: AMOUNT + VALUE,
                ..client(n, body)
            }
        },
        checks: &[FORM, CLOSED, LOW_VALUE_AND_AMOUNT, POOR, OWNER],
    },
    Row {
        name: "client: register",
        call: |n| {
            let body = ClientMessage::Register {
                query_id: QUERY_ID,
                nonce: 99,
                excess_to: n.receiver,
            };
            client(n, body)
        },
        checks: &[FORM, CLOSED, LOW_VALUE, POOR, OWNER],
    },
    Row {
        name: "client: change secret hash",
        call: |n| {
            let body = ClientMessage::ChangeSecretHash {
                query_id: QUERY_ID,
                secret_hash: [0xaa; 32],
                excess_to: n.receiver,
            };
            client(n, body)
        },
        checks: &[FORM, CLOSED, LOW_VALUE, POOR, OWNER],
    },
    Row {
        name: "client: increase stake",
        call: |n| {
            let body = ClientMessage::IncreaseStake {
                query_id: QUERY_ID,
                new_stake: AMOUNT,
                excess_to: n.receiver,
            };
            client(n, body)
        },
        checks: &[
            FORM,
            CLOSED,
            LOW_VALUE,
            POOR,
            OWNER,
            check("not above the old stake", 1003, |c| {
                c.state.client().stake = AMOUNT;
            }),
        ],
    },
    Row {
        name: "client: withdraw",
        call: |n| {
            let body = ClientMessage::Withdraw {
                query_id: QUERY_ID,
                excess_to: n.receiver,
            };
            client(n, body)
        },
        checks: &[
            FORM,
            CLOSING,
            LOW_VALUE,
            POOR,
            FUNDS_OWNER,
            check("nothing above the stake", 1001, |c| {
                let client = c.state.client();
                client.balance = client.stake;
            }),
        ],
    },
    // Ours: a refund that bounced has reopened the client, unlocked long ago.
    Row {
        name: "client: withdraw, reopened",
        call: |n| {
            let body = ClientMessage::Withdraw {
                query_id: QUERY_ID,
                excess_to: n.receiver,
            };
            let mut call = client(n, body);
            let state = call.state.client();
            state.status = ContractStatus::Closing;
            state.unlock_time = 1;
            call
        },
        checks: &[
            FORM,
            check("closing as usual", 1006, |c| {
                c.state.client().unlock_time = 2;
            }),
            LOW_VALUE,
            POOR,
            FUNDS_OWNER,
        ],
    },
    Row {
        name: "client: request refund, first step",
        call: |n| client(n, request_refund(n)),
        checks: &[FORM, CLOSED, LOW_VALUE, POOR, FUNDS_OWNER],
    },
    Row {
        name: "client: request refund, second step",
        call: |n| {
            let mut call = client(n, request_refund(n));
            let state = call.state.client();
            state.status = ContractStatus::Closing;
            state.unlock_time = NOW - 1;
            call
        },
        checks: &[
            FORM,
            CLOSED,
            LOW_VALUE,
            POOR,
            FUNDS_OWNER,
            // Strictly later: a client still waits at the very second.
            check("not yet", 1011, |c| c.state.client().unlock_time = NOW),
        ],
    },
    Row {
        name: "client: charge",
        call: |n| client_signed(n, op::CLIENT_CHARGE),
        checks: &[
            FORM,
            SIGNATURE,
            ENVELOPE_OP,
            ENVELOPE_ID,
            TAIL,
            CLOSED,
            LOW_VALUE,
            POOR,
            STALE,
            TARGET,
        ],
    },
    Row {
        name: "client: grant refund",
        call: |n| client_signed(n, op::CLIENT_GRANT_REFUND),
        checks: &[
            FORM,
            SIGNATURE,
            ENVELOPE_OP,
            ENVELOPE_ID,
            TAIL,
            check("closed and empty", 1006, |c| {
                let client = c.state.client();
                client.status = ContractStatus::Closed;
                client.balance = 0;
            }),
            LOW_VALUE,
            POOR,
            FEWER,
            TARGET,
        ],
    },
    Row {
        name: "client: sweep",
        call: |n| {
            let mut call = client(n, sweep());
            *call.state.status() = ContractStatus::Closed;
            call
        },
        checks: &[NORMAL, FORM],
    },
];

fn client(n: &Net, body: impl Into<Body>) -> Call {
    Call {
        address: n.client,
        code: n.codes.client.clone(),
        state: State::Client(ClientState {
            owner: n.client_owner,
            proxy: n.proxy,
            public_key: public_key(),
            status: ContractStatus::Normal,
            balance: 10 * TON,
            stake: TON,
            tokens_used: TOKENS,
            unlock_time: 0,
            secret_hash: [0; 32],
            params: n.params.bare_form(),
        }),
        own: OWN,
        from: n.client_owner,
        value: VALUE,
        now: NOW,
        body: body.into(),
        extra_bits: 0,
    }
}

fn client_signed(n: &Net, op: u32) -> Call {
    let mut call = client(n, Body::Signed(signed(n, op, n.client, Some(TOKENS + 1))));
    call.from = n.stranger;
    call
}

fn request_refund(n: &Net) -> ClientMessage {
    ClientMessage::RequestRefund {
        query_id: QUERY_ID,
        excess_to: n.receiver,
    }
}

impl From<ClientMessage> for Body {
    fn from(message: ClientMessage) -> Self {
        Self::Plain(message.encode().unwrap())
    }
}
