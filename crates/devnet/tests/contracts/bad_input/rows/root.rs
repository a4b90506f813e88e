//! Operations of the root contract.

use cocoon_ton::abi::{NetAddress, RootMessage, RootState};
use cocoon_ton::{Cell, CellBuilder};

use super::*;

pub const ROWS: &[Row] = &[
    Row {
        name: "root: add worker hash",
        call: |n| {
            root(
                n,
                RootMessage::AddWorkerHash {
                    query_id: QUERY_ID,
                    hash: [9; 32],
                },
            )
        },
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: delete worker hash",
        call: |n| {
            root(
                n,
                RootMessage::DeleteWorkerHash {
                    query_id: QUERY_ID,
                    hash: [1; 32],
                },
            )
        },
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: add model hash",
        call: |n| {
            root(
                n,
                RootMessage::AddModelHash {
                    query_id: QUERY_ID,
                    hash: [9; 32],
                },
            )
        },
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: delete model hash",
        call: |n| {
            root(
                n,
                RootMessage::DeleteModelHash {
                    query_id: QUERY_ID,
                    hash: [2; 32],
                },
            )
        },
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: add proxy hash",
        call: |n| {
            root(
                n,
                RootMessage::AddProxyHash {
                    query_id: QUERY_ID,
                    hash: [9; 32],
                },
            )
        },
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: delete proxy hash",
        call: |n| {
            root(
                n,
                RootMessage::DeleteProxyHash {
                    query_id: QUERY_ID,
                    hash: [3; 32],
                },
            )
        },
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: register proxy",
        call: |n| {
            root(
                n,
                RootMessage::RegisterProxy {
                    query_id: QUERY_ID,
                    address: net_address(),
                },
            )
        },
        // The type bit decides how the rest is to be read, so it comes before the length.
        checks: &[OWNER, check("type bit 1", 1004, |c| flip(c, 96)), FORM],
    },
    Row {
        name: "root: update proxy",
        call: |n| {
            root(
                n,
                RootMessage::UpdateProxy {
                    query_id: QUERY_ID,
                    seqno: 4,
                    address: net_address(),
                },
            )
        },
        checks: &[
            OWNER,
            check("type bit 1", 1004, |c| flip(c, 128)),
            FORM,
            check("number never given", 2000, |c| flip(c, 127)),
        ],
    },
    Row {
        name: "root: unregister proxy",
        call: |n| {
            root(
                n,
                RootMessage::UnregisterProxy {
                    query_id: QUERY_ID,
                    seqno: 4,
                },
            )
        },
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: change price",
        call: |n| root(n, change_price(30, 30)),
        checks: &[
            OWNER,
            FORM,
            check("worker fee above the price", 2001, |c| {
                plain(c, change_price(30, 31));
            }),
        ],
    },
    Row {
        name: "root: change params",
        call: |n| root(n, change_params([30, 30], [1, 1], [1, 1])),
        checks: &[
            OWNER,
            FORM,
            check("worker fee above the price", 2001, |c| {
                plain(c, change_params([30, 31], [1, 1], [1, 1]));
            }),
            check("no proxy delay", 2001, |c| {
                plain(c, change_params([30, 30], [0, 1], [1, 1]));
            }),
            check("no client delay", 2001, |c| {
                plain(c, change_params([30, 30], [1, 0], [1, 1]));
            }),
            check("no proxy stake", 2001, |c| {
                plain(c, change_params([30, 30], [1, 1], [0, 1]));
            }),
            check("no client stake", 2001, |c| {
                plain(c, change_params([30, 30], [1, 1], [1, 0]));
            }),
        ],
    },
    Row {
        name: "root: replace contract codes",
        call: |n| {
            let [proxy, worker, client] = [1, 2, 3].map(some_cell);
            root(
                n,
                RootMessage::ReplaceContractCodes {
                    query_id: QUERY_ID,
                    proxy,
                    worker,
                    client,
                },
            )
        },
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: replace code",
        call: |n| {
            root(
                n,
                RootMessage::ReplaceCode {
                    query_id: QUERY_ID,
                    code: some_cell(4),
                },
            )
        },
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: replace data and code",
        call: |n| {
            let [data, code] = [5, 6].map(some_cell);
            root(
                n,
                RootMessage::ReplaceDataAndCode {
                    query_id: QUERY_ID,
                    data,
                    code,
                },
            )
        },
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: reset",
        call: |n| root(n, RootMessage::Reset { query_id: QUERY_ID }),
        checks: &[OWNER, FORM],
    },
    Row {
        name: "root: change owner",
        call: |n| {
            root(
                n,
                RootMessage::ChangeOwner {
                    query_id: QUERY_ID,
                    owner: n.stranger,
                },
            )
        },
        checks: &[OWNER, FORM],
    },
];

fn root(n: &Net, message: RootMessage) -> Call {
    let mut state = RootState::empty(n.root_owner, n.params.clone());
    state.version = 41;
    state.worker_hashes.insert([1; 32]);
    state.model_hashes.insert([2; 32]);
    state.proxy_hashes.insert([3; 32]);
    state.last_proxy_seqno = 4;
    state.proxies.insert(4, net_address());
    Call {
        address: n.root,
        code: n.codes.root.clone(),
        state: State::Root(state),
        own: OWN,
        from: n.root_owner,
        value: TON / 20,
        now: NOW,
        body: Body::Plain(message.encode().unwrap()),
        extra_bits: 0,
    }
}

fn net_address() -> NetAddress {
    NetAddress::new("203.0.113.5:9002 203.0.113.5:9003").unwrap()
}

fn change_price(price: u128, fee: u128) -> RootMessage {
    RootMessage::ChangePrice {
        query_id: QUERY_ID,
        price_per_token: price,
        worker_fee_per_token: fee,
    }
}

fn change_params(prices: [u128; 2], delays: [u32; 2], stakes: [u128; 2]) -> RootMessage {
    RootMessage::ChangeParams {
        query_id: QUERY_ID,
        price_per_token: prices[0],
        worker_fee_per_token: prices[1],
        proxy_delay: delays[0],
        client_delay: delays[1],
        min_proxy_stake: stakes[0],
        min_client_stake: stakes[1],
    }
}

fn plain(call: &mut Call, message: RootMessage) {
    call.body = Body::Plain(message.encode().unwrap());
}

fn flip(call: &mut Call, bit: u16) {
    call.body = Body::Plain(flipped(&call.body.cell(), bit));
}

fn some_cell(byte: u8) -> Cell {
    let mut b = CellBuilder::new();
    b.store_u8(byte).unwrap();
    b.build().unwrap()
}
