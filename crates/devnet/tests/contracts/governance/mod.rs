//! Governance by many: a root whose owner is a 2-of-3 multisignature contract (contracts/examples/multisig.tolk), its
//! signers three node wallets. Everything goes through real messages, from the wallets' external ones on.

mod council;

use cocoon_ton::Address;
use cocoon_ton::abi::RootMessage;
use cocoon_ton::wallet::InternalMessage;

use self::council::*;
use crate::codes::Codes;
use crate::net::person;
use crate::world::{Send, TON};

fn new_price() -> RootMessage {
    RootMessage::ChangePrice {
        query_id: 2,
        price_per_token: 30,
        worker_fee_per_token: 28,
    }
}

listed_tests! {
    two_of_three_change_the_network = crate::governance::two_of_three_change_the_network;
    one_alone_changes_nothing = crate::governance::one_alone_changes_nothing;
    an_expired_order_is_dead = crate::governance::an_expired_order_is_dead;
    the_root_refuses_bad_params_from_a_majority_too =
        crate::governance::the_root_refuses_bad_params_from_a_majority_too;
    signers_change_by_an_order_only = crate::governance::signers_change_by_an_order_only;
    open_orders_are_limited = crate::governance::open_orders_are_limited;
}

/// Prices, params and an image hash change by the second confirmation; the old owner has nothing to say any more.
pub fn two_of_three_change_the_network(codes: &Codes) -> Result<(), String> {
    let mut c = Council::governing(codes)?;
    let before = c.root();
    let root = c.net.root.address;
    let alone = c.send(0, root, new_price().encode().unwrap());
    equal("old owner", exit_at(&alone, root), Some(1010))?;

    equal("proposed", c.propose(0, &new_price()), Some(0))?;
    equal("unchanged", c.root(), before.clone())?;
    equal("confirmed", c.confirm(2, 0), Some(0))?;
    let after = c.root();
    equal("price", after.params.price_per_token, 30)?;
    equal("fee", after.params.worker_fee_per_token, 28)?;
    equal(
        "params version",
        after.params.params_version,
        before.params.params_version + 1,
    )?;
    equal("version", after.version, before.version + 1)?;

    let hash = [0xab; 32];
    let add = RootMessage::AddWorkerHash { query_id: 3, hash };
    equal("proposed", c.propose(1, &add), Some(0))?;
    equal("confirmed", c.confirm(0, 1), Some(0))?;
    equal("listed", c.root().worker_hashes.contains(&hash), true)?;

    let params = RootMessage::ChangeParams {
        query_id: 4,
        price_per_token: 40,
        worker_fee_per_token: 39,
        proxy_delay: 7200,
        client_delay: 3600,
        min_proxy_stake: 50 * TON,
        min_client_stake: 5 * TON,
    };
    equal("proposed", c.propose(2, &params), Some(0))?;
    equal("confirmed", c.confirm(1, 2), Some(0))?;
    let after = c.root();
    equal("stake", after.params.min_proxy_stake, 50 * TON)?;
    equal("version", after.version, before.version + 3)?;

    // An executed order is gone, and the root is handed on as it came.
    equal("confirmed late", c.confirm(0, 2), Some(UNKNOWN_ORDER))?;
    let owner = person(0x99);
    equal(
        "proposed",
        c.propose(0, &RootMessage::ChangeOwner { query_id: 5, owner }),
        Some(0),
    )?;
    equal("confirmed", c.confirm(1, 3), Some(0))?;
    equal("owner", c.root().owner, owner)?;
    equal("figures", c.figures(), [2, 4, 0])?;
    c.world.check_conserved()
}

/// Neither a repeated vote, nor a stranger, nor somebody who pretends to be the contract.
pub fn one_alone_changes_nothing(codes: &Codes) -> Result<(), String> {
    let mut c = Council::governing(codes)?;
    let before = c.root();
    equal("proposed", c.propose(0, &new_price()), Some(0))?;
    for _ in 0..3 {
        equal("voted twice", c.confirm(0, 0), Some(CONFIRMED_ALREADY))?;
    }
    let (multisig, stranger) = (c.multisig.address, person(0xe0));
    let mut b = head(CONFIRM);
    b.store_u32(0).unwrap();
    let vote = Send::new(stranger, multisig, TON, b.build().unwrap());
    equal(
        "stranger",
        c.world.run_one(vote).exit_code,
        Some(NOT_A_SIGNER),
    )?;
    equal("no such order", c.confirm(1, 1), Some(UNKNOWN_ORDER))?;
    equal("root", c.root(), before)?;
    equal("figures", c.figures(), [2, 1, 1])?;
    // It is still open for the second one.
    equal("confirmed", c.confirm(1, 0), Some(0))?;
    equal("price", c.root().params.price_per_token, 30)
}

/// The last second counts; after it nobody can execute the order, and anybody can clear it away.
pub fn an_expired_order_is_dead(codes: &Codes) -> Result<(), String> {
    let mut c = Council::governing(codes)?;
    let before = c.root();
    equal("proposed", c.propose(0, &new_price()), Some(0))?;
    equal("proposed", c.propose(0, &new_price()), Some(0))?;
    let drop = |c: &mut Council, order: u32| {
        let mut b = head(DROP);
        b.store_u32(order).unwrap();
        let to = c.multisig.address;
        let send = Send::new(person(0xe0), to, TON, b.build().unwrap());
        c.world.run_one(send).exit_code
    };
    c.world.jump(OPEN_FOR);
    equal("dropped early", drop(&mut c, 0), Some(NOT_EXPIRED))?;
    equal("confirmed in time", c.confirm(1, 0), Some(0))?;
    let between = c.root();
    equal("version", between.version, before.version + 1)?;
    c.world.jump(1);
    equal("confirmed late", c.confirm(1, 1), Some(EXPIRED))?;
    equal("root", c.root(), between)?;
    equal("dropped", drop(&mut c, 1), Some(0))?;
    equal("dropped twice", drop(&mut c, 1), Some(UNKNOWN_ORDER))?;
    equal("figures", c.figures(), [2, 2, 0])
}

/// A majority can be wrong as well: the root refuses, nothing changes, the coins come back to the contract.
pub fn the_root_refuses_bad_params_from_a_majority_too(codes: &Codes) -> Result<(), String> {
    let mut c = Council::governing(codes)?;
    let before = c.root();
    let params =
        |prices: [u128; 2], delays: [u32; 2], stakes: [u128; 2]| RootMessage::ChangeParams {
            query_id: 1,
            price_per_token: prices[0],
            worker_fee_per_token: prices[1],
            proxy_delay: delays[0],
            client_delay: delays[1],
            min_proxy_stake: stakes[0],
            min_client_stake: stakes[1],
        };
    let bad = [
        RootMessage::ChangePrice {
            query_id: 1,
            price_per_token: 30,
            worker_fee_per_token: 31,
        },
        params([30, 31], [1, 1], [1, 1]),
        params([30, 30], [0, 1], [1, 1]),
        params([30, 30], [1, 0], [1, 1]),
        params([30, 30], [1, 1], [0, 1]),
        params([30, 30], [1, 1], [1, 0]),
    ];
    for (order, message) in (0..).zip(&bad) {
        equal("proposed", c.propose(0, message), Some(0))?;
        let log = c.world.log.len();
        equal("confirmed", c.confirm(1, order), Some(0))?;
        let root = c.net.root.address;
        equal("root", exit_at(&c.world.log[log..], root), Some(2001))?;
        let last = c
            .world
            .log
            .last()
            .map(|tx| (tx.account, tx.message.bounced));
        equal("came back", last, Some((c.multisig.address, true)))?;
        equal("state", c.root(), before.clone())?;
    }
    // The limits themselves are allowed.
    equal(
        "proposed",
        c.propose(0, &params([30, 30], [1, 1], [1, 1])),
        Some(0),
    )?;
    equal("confirmed", c.confirm(1, bad.len() as u32), Some(0))?;
    equal("version", c.root().version, before.version + 1)
}

/// The signers can be replaced, by the votes of the old ones; their open orders fall with them.
pub fn signers_change_by_an_order_only(codes: &Codes) -> Result<(), String> {
    let mut c = Council::governing(codes)?;
    let to = c.multisig.address;
    let addresses: Vec<Address> = c.members.iter().map(|m| m.wallet.address).collect();
    let change = |threshold: u8, signers: &[(Address, u8)]| {
        let mut b = head(CHANGE_SIGNERS);
        store_signers(&mut b, threshold, signers);
        InternalMessage::call(to, TON / 20, b.build().unwrap())
    };
    let new = [(addresses[1], 0), (addresses[2], 1)];
    let direct = change(2, &new).body.unwrap();
    let txs = c.send(0, to, direct);
    equal("by a signer alone", exit_at(&txs, to), Some(NOT_ITSELF))?;

    let unusable = [
        change(0, &new),
        change(3, &new),
        change(1, &[]),
        change(1, &[(addresses[0], 4), (addresses[1], 4)]),
        change(1, &[(addresses[0], 32)]),
    ];
    let mut order = 0;
    for call in unusable {
        equal("proposed", c.propose_call(0, &call), Some(0))?;
        let log = c.world.log.len();
        equal("confirmed", c.confirm(1, order), Some(0))?;
        let exits: Vec<_> = c.world.log[log..]
            .iter()
            .filter(|tx| tx.account == to && tx.op == Some(CHANGE_SIGNERS))
            .map(|tx| tx.exit_code)
            .collect();
        equal("unusable signers", exits, vec![Some(BAD_SIGNERS)])?;
        order += 1;
    }

    equal("proposed", c.propose(0, &new_price()), Some(0))?;
    let stale = order;
    equal("proposed", c.propose_call(1, &change(2, &new)), Some(0))?;
    equal("confirmed", c.confirm(2, stale + 1), Some(0))?;
    equal("figures", c.figures(), [2, stale + 2, 0])?;
    equal("old order", c.confirm(1, stale), Some(UNKNOWN_ORDER))?;
    equal("old signer", c.propose(0, &new_price()), Some(NOT_A_SIGNER))?;
    equal("new signer", c.propose(1, &new_price()), Some(0))?;
    equal("new signer", c.confirm(2, stale + 2), Some(0))?;
    equal("price", c.root().params.price_per_token, 30)
}

/// A signer whose key was stolen cannot fill the contract; when his orders have expired there is room again.
pub fn open_orders_are_limited(codes: &Codes) -> Result<(), String> {
    let mut c = Council::governing(codes)?;
    for _ in 0..MAX_OPEN_ORDERS {
        equal("proposed", c.propose(0, &new_price()), Some(0))?;
    }
    equal(
        "one more",
        c.propose(1, &new_price()),
        Some(TOO_MANY_ORDERS),
    )?;
    equal(
        "figures",
        c.figures(),
        [2, MAX_OPEN_ORDERS, MAX_OPEN_ORDERS],
    )?;
    equal("confirmed", c.confirm(1, 3), Some(0))?;
    equal("one more", c.propose(1, &new_price()), Some(0))
}
