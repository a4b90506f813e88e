//! Operations of the wallet contract.

use cocoon_ton::Cell;
use cocoon_ton::abi::{WalletMessage, WalletState};

use super::*;

pub const ROWS: &[Row] = &[
    Row {
        name: "wallet: send",
        call: |n| {
            let message = outgoing(n);
            let body = WalletMessage::Send {
                query_id: QUERY_ID,
                mode: 64,
                message,
            };
            wallet(n, Body::Plain(body.encode().unwrap()))
        },
        checks: &[WALLET_OWNER, FORM],
    },
    Row {
        name: "wallet: text w",
        call: |n| wallet(n, text(b'w')),
        checks: &[WALLET_OWNER, FORM, WALLET_TEXT],
    },
    Row {
        name: "wallet: text b",
        call: |n| wallet(n, text(b'b')),
        checks: &[WALLET_OWNER, FORM, WALLET_TEXT],
    },
    Row {
        name: "wallet: text u",
        call: |n| {
            let mut call = wallet(n, text(b'u'));
            call.state.wallet().status = 1;
            call
        },
        checks: &[WALLET_OWNER, FORM, WALLET_TEXT],
    },
    Row {
        name: "wallet: external",
        call: |n| {
            let body = External {
                subwallet: 0,
                valid_until: NOW + 1,
                seqno: 5,
                seed: SEED,
                message: outgoing(n),
            };
            wallet(n, Body::External(body))
        },
        checks: &[
            check("expired", 1030, |c| c.external().valid_until = NOW),
            check("blocked", 1031, |c| c.state.wallet().status = 1),
            check("wrong seqno", 1032, |c| c.external().seqno = 4),
            check("wrong subwallet", 1033, |c| c.external().subwallet = 1),
            check("signed with another key", 1034, |c| {
                c.external().seed = SEED + 1
            }),
            check("below 2 TON", 1035, |c| c.own = 2 * TON - 1),
        ],
    },
];

const WALLET_OWNER: Check = check("not the owner", 1040, STRANGER);
const WALLET_TEXT: Check = check("unknown character", 1041, |c| c.body = text(b'x'));

fn wallet(n: &Net, body: Body) -> Call {
    Call {
        address: n.wallet,
        code: n.codes.wallet.clone(),
        state: State::Wallet(WalletState {
            seqno: 5,
            subwallet: 0,
            public_key: public_key(),
            status: 0,
            owner: n.wallet_owner,
        }),
        own: 5 * TON,
        from: n.wallet_owner,
        value: VALUE,
        now: NOW,
        body,
        extra_bits: 0,
    }
}

fn outgoing(n: &Net) -> Cell {
    cocoon_devnet::message::InternalMessage::new(n.wallet, n.stranger, TON / 10, Cell::default())
        .build()
        .unwrap()
}
