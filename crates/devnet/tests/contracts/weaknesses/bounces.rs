//! W1, W2 and W8: what the ledgers do when the proxy refuses, cannot pay, or does not exist.

use cocoon_ton::abi::{ClientMessage, ContractStatus, SignedOp, op};

use super::scene::{FIFTH, FIVE_TON_OF_TOKENS, Scene, TERMS, between, equal};
use crate::codes::Codes;
use crate::net::Terms;
use crate::world::{Send, TON};

/// No message of a few hops costs more.
const FEES: u128 = TON / 20;
/// Unlock time of a client that a bounced refund has reopened.
const LONG_AGO: u32 = 1;

/// W1: 5 TON owed to a worker, 1 TON in the proxy contract. A payout that was not made is payable later, once.
pub fn w1_unpaid_payout_stays_payable(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, TON);
    let op = SignedOp::WorkerPayout;
    let body = s.signed(op, FIVE_TON_OF_TOKENS, s.relayer);
    let residue = s.world.balance(&s.worker.address);
    equal("presented", s.present(op, body.clone()), Some(0))?;
    equal("tokens paid", s.worker_state().tokens_paid, 0)?;
    equal("owner has", s.received(&s.worker_owner), 0)?;
    equal("proxy contract holds", s.proxy_coins(), TON)?;
    equal(
        "worker contract holds",
        s.world.balance(&s.worker.address),
        residue,
    )?;
    between(
        "relayer got back",
        s.received(&s.relayer),
        FIFTH - FEES,
        FIFTH,
    )?;

    s.fund_proxy(10 * TON);
    equal("presented again", s.present(op, body.clone()), Some(0))?;
    equal("owner has", s.received(&s.worker_owner), 5 * TON)?;
    equal("revenue", s.proxy_state().balance, 5 * TON / 4)?;
    equal("presented a third time", s.present(op, body), Some(1000))?;
    equal("owner has", s.received(&s.worker_owner), 5 * TON)
}

/// The official behaviour: the same payout is lost for good.
pub fn w1_lost(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, TON);
    let op = SignedOp::WorkerPayout;
    let body = s.signed(op, FIVE_TON_OF_TOKENS, s.relayer);
    equal("presented", s.present(op, body.clone()), Some(0))?;
    equal(
        "tokens paid",
        s.worker_state().tokens_paid,
        FIVE_TON_OF_TOKENS,
    )?;
    s.fund_proxy(10 * TON);
    equal("presented again", s.present(op, body), Some(1000))?;
    equal("owner has", s.received(&s.worker_owner), 0)
}

/// W1 for the last payout: the contract is open again, and closes when it has paid.
pub fn w1_unpaid_last_payout_reopens(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, TON);
    let op = SignedOp::WorkerLastPayout;
    let body = s.signed(op, FIVE_TON_OF_TOKENS, s.relayer);
    s.present(op, body.clone());
    equal("tokens paid", s.worker_state().tokens_paid, 0)?;
    equal("state", s.worker_state().status, ContractStatus::Normal)?;
    s.fund_proxy(10 * TON);
    equal("presented again", s.present(op, body.clone()), Some(0))?;
    equal("owner has", s.received(&s.worker_owner), 5 * TON)?;
    equal("state", s.worker_state().status, ContractStatus::Closed)?;
    equal("presented a third time", s.present(op, body), Some(1006))
}

/// W1 with a payout in between: what the proxy could pay stays paid, only the other is taken back.
pub fn w1_a_later_payout_survives_the_bounce(codes: &Codes) -> Result<(), String> {
    const MORE: u64 = FIVE_TON_OF_TOKENS + 10_000_000; // 0.2 TON
    let mut s = Scene::new(codes, TERMS, TON);
    let op = SignedOp::WorkerPayout;
    let (relayer, worker) = (s.relayer, s.worker.address);
    let dear = s.signed(op, FIVE_TON_OF_TOKENS, relayer);
    let small = s.signed(op, MORE, relayer);
    s.world
        .push(Send::new(relayer, worker, FIFTH, dear.clone()));
    s.world
        .push(Send::new(relayer, worker, FIFTH, small.clone()));
    // Both reach the worker before the first one's bounce does.
    s.world.run();
    equal("owner has", s.received(&s.worker_owner), TON / 5)?;
    equal("tokens paid", s.worker_state().tokens_paid, 10_000_000)?;
    s.fund_proxy(10 * TON);
    // In any order, and as often as anybody likes: the total is paid once.
    equal("the dear one again", s.present(op, dear.clone()), Some(0))?;
    equal("owner has", s.received(&s.worker_owner), 5 * TON)?;
    equal("the small one again", s.present(op, small.clone()), Some(0))?;
    equal("owner has", s.received(&s.worker_owner), 5 * TON + TON / 5)?;
    equal("the dear one", s.present(op, dear), Some(1000))?;
    equal("the small one", s.present(op, small), Some(1000))?;
    equal("revenue", s.proxy_state().balance, u128::from(MORE) * 5)
}

/// W2: a refund of 5 TON, 1 TON in the proxy contract. The ledger keeps it, and both ways out stay open.
pub fn w2_unpaid_refund_stays_in_the_ledger(codes: &Codes) -> Result<(), String> {
    let op = SignedOp::ClientGrantRefund;
    let mut s = drained(codes)?;
    equal("granted", s.relay(op, 0), Some(0))?;
    equal("ledger", s.client_state().balance, 5 * TON)?;
    equal("state", s.client_state().status, ContractStatus::Closing)?;
    equal(
        "owner was paid",
        s.sent(&s.client_owner, op::PAYOUT),
        vec![],
    )?;
    between(
        "relayer got back",
        s.received(&s.relayer),
        FIFTH - FEES,
        FIFTH,
    )?;
    s.fund_proxy(10 * TON);
    equal("granted again", s.relay(op, 0), Some(0))?;
    equal(
        "owner was paid",
        s.sent(&s.client_owner, op::PAYOUT),
        vec![5 * TON],
    )?;
    equal("ledger", s.client_state().balance, 0)?;
    equal("granted a third time", s.relay(op, 0), Some(1006))
}

/// The official behaviour: the deposit is lost, a second grant is refused.
pub fn w2_lost(codes: &Codes) -> Result<(), String> {
    let op = SignedOp::ClientGrantRefund;
    let mut s = drained(codes)?;
    equal("granted", s.relay(op, 0), Some(0))?;
    equal("ledger", s.client_state().balance, 0)?;
    equal("state", s.client_state().status, ContractStatus::Closed)?;
    s.fund_proxy(10 * TON);
    equal("granted again", s.relay(op, 0), Some(1006))?;
    equal(
        "owner was paid",
        s.sent(&s.client_owner, op::PAYOUT),
        vec![],
    )
}

/// W2 for the other two refunds: what exceeds the stake, and what is forced.
pub fn w2_unpaid_withdrawals_stay_in_the_ledger(codes: &Codes) -> Result<(), String> {
    let mut s = drained(codes)?;
    equal("withdrawn", s.withdraw(), Some(0))?;
    equal("ledger", s.client_state().balance, 5 * TON)?;
    equal("state", s.client_state().status, ContractStatus::Normal)?;

    // The first step: as if it had not been made.
    let mut s = drained(codes)?;
    equal("first step", s.request_refund(), Some(0))?;
    equal("ledger", s.client_state().balance, 5 * TON)?;
    equal("state", s.client_state().status, ContractStatus::Normal)?;
    equal("unlock time", s.client_state().unlock_time, 0)?;

    // The second step.
    let mut s = Scene::new(codes, TERMS, TON);
    equal("deposited", s.top_up(5 * TON), Some(0))?;
    equal("staked", s.raise_proxy_stake(5 * TON), Some(0))?;
    equal("first step", s.request_refund(), Some(0))?;
    let proxy = s.net.proxy.address;
    s.world.set_balance(&proxy, TON / 2);
    s.world.jump(TERMS.client_delay + 1);
    equal("second step", s.request_refund(), Some(0))?;
    equal("ledger", s.client_state().balance, TON)?;
    equal("state", s.client_state().status, ContractStatus::Closing)?;
    equal("unlock time", s.client_state().unlock_time, LONG_AGO)?;
    equal("proxy stake", s.proxy_state().stake, 5 * TON)?;
    s.fund_proxy(10 * TON);
    equal("second step again", s.request_refund(), Some(0))?;
    equal(
        "owner was paid",
        s.sent(&s.client_owner, op::PAYOUT),
        vec![4 * TON, TON],
    )
}

/// W2 with a proxy that dies after it could not pay a grant: when its contract has coins again, the owner takes out
/// what exceeds his stake at once, and of the stake what the proxy's own covers (W3).
pub fn w2_every_way_out_is_open_after_a_bounce(codes: &Codes) -> Result<(), String> {
    for (stake, forced) in [(0, 0), (2 * TON, TON)] {
        let mut s = drained(codes)?;
        if stake > 0 {
            equal("staked", s.raise_proxy_stake(stake), Some(0))?;
        }
        equal("granted", s.relay(SignedOp::ClientGrantRefund, 0), Some(0))?;
        equal("ledger", s.client_state().balance, 5 * TON)?;
        equal("unlock time", s.client_state().unlock_time, LONG_AGO)?;
        // Still nothing there: every attempt comes back, and changes nothing.
        for _ in 0..2 {
            equal("withdrawn in vain", s.withdraw(), Some(0))?;
            equal("ledger", s.client_state().balance, 5 * TON)?;
            equal("state", s.client_state().status, ContractStatus::Closing)?;
        }
        s.fund_proxy(10 * TON);
        equal("withdrawn", s.withdraw(), Some(0))?;
        equal("forced", s.request_refund(), Some(0))?;
        let paid = vec![4 * TON, forced];
        equal("owner was paid", s.sent(&s.client_owner, op::PAYOUT), paid)?;
        equal("ledger", s.client_state().balance, 0)?;
        equal("state", s.client_state().status, ContractStatus::Closed)?;
    }
    Ok(())
}

/// A client with 5 TON in its ledger whose proxy contract is down to 1 TON.
fn drained(codes: &Codes) -> Result<Scene, String> {
    let mut s = Scene::new(codes, TERMS, TON);
    equal("deposited", s.top_up(5 * TON), Some(0))?;
    equal("ledger", s.client_state().balance, 5 * TON)?;
    let proxy = s.net.proxy.address;
    s.world.set_balance(&proxy, TON);
    Ok(s)
}

/// W8: 5 TON sent to a proxy that does not exist, or refuses, come back to who sent them; the ledger follows.
pub fn w8_bounced_deposit_leaves_the_ledger(codes: &Codes) -> Result<(), String> {
    for mut s in [Scene::without_proxy(codes, TERMS), stranger_to_proxy(codes)] {
        let residue = s.world.balance(&s.client.address);
        equal("deposited", s.top_up(5 * TON), Some(0))?;
        equal("ledger", s.client_state().balance, 0)?;
        equal(
            "client contract holds",
            s.world.balance(&s.client.address),
            residue,
        )?;
        let sent = 5 * TON + TON * 7 / 10;
        between(
            "owner got back",
            s.received(&s.client_owner),
            sent - FEES,
            sent,
        )?;
    }
    Ok(())
}

/// W8 with a withdrawal on the heels of the deposit, before it bounces: a refund of coins that no proxy ever had must
/// not become a deposit when it comes back. The client closes for good; every coin goes home.
pub fn w8_a_spent_deposit_closes_the_client(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::without_proxy(codes, TERMS);
    let (owner, client) = (s.client_owner, s.client.address);
    let residue = s.world.balance(&client);
    let deposit = ClientMessage::TopUp {
        query_id: 1,
        coins: 5 * TON,
        excess_to: owner,
    };
    let withdraw = ClientMessage::Withdraw {
        query_id: 2,
        excess_to: owner,
    };
    let sent = 6 * TON + FIFTH;
    for (value, message) in [(6 * TON, deposit), (FIFTH, withdraw)] {
        let body = message.encode().unwrap();
        s.world.push(Send::new(owner, client, value, body));
    }
    s.world.run();
    let state = s.client_state();
    equal("ledger", state.balance, 0)?;
    equal("state", state.status, ContractStatus::Closed)?;
    equal("unlock time", state.unlock_time, u32::MAX)?;
    between("owner got back", s.received(&owner), sent - FEES, sent)?;
    equal("client contract holds", s.world.balance(&client), residue)?;
    // Nothing opens it again, and its own coins still go to the owner.
    equal(
        "granted",
        s.relay(SignedOp::ClientGrantRefund, 0),
        Some(1006),
    )?;
    equal("forced", s.request_refund(), Some(1006))?;
    equal("swept", s.sweep(client), Some(0))?;
    let all = sent + residue + 3 * FIFTH;
    between(
        "owner got back",
        s.received(&owner),
        sent + residue - FEES,
        all,
    )
}

/// The official behaviour: the coins stay in the client contract, the ledger says that they are deposited.
pub fn w8_lost(codes: &Codes) -> Result<(), String> {
    for mut s in [Scene::without_proxy(codes, TERMS), stranger_to_proxy(codes)] {
        equal("deposited", s.top_up(5 * TON), Some(0))?;
        equal("ledger", s.client_state().balance, 5 * TON)?;
        equal("owner got back", s.received(&s.client_owner), 0)?;
        // 6.5 TON were attached in all, the deployment included.
        let held = s.world.balance(&s.client.address);
        between(
            "client contract holds",
            held,
            648 * TON / 100,
            650 * TON / 100,
        )?;
    }
    Ok(())
}

/// A proxy that was deployed with other params stands at the address: it does not know the client.
fn stranger_to_proxy(codes: &Codes) -> Scene {
    let other = Terms {
        client_delay: TERMS.client_delay + 1,
        ..TERMS
    };
    let mut s = Scene::without_proxy(codes, TERMS);
    let foreign = crate::net::Net::new(codes, other);
    let mut init = foreign.proxy;
    init.address = s.net.proxy.address;
    s.world.install(&init, TON);
    s
}
