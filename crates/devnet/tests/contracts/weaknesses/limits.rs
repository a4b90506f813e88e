//! What the ABI does not allow to fix, stated exactly, so that nobody claims otherwise. What mitigates each is said
//! in contracts/README.md.

use cocoon_ton::abi::{ContractStatus, SignedOp, op};
use cocoon_ton::{Cell, CellBuilder};
use tycho_types::models::ComputePhaseSkipReason;

use super::scene::{FIFTH, Scene, TERMS, between, equal};
use crate::codes::Codes;
use crate::net::{Terms, person};
use crate::world::{Send, TON};

/// W3: a forced refund is limited to the proxy's stake, which is 0 unless somebody raised it. The rest is gone from
/// the ledger. With enough stake nothing is lost.
pub fn w3_forced_refund_is_limited_to_the_stake(codes: &Codes) -> Result<(), String> {
    for (stake, paid) in [(0, 0), (TON / 4, TON / 4), (TON, TON), (3 * TON, TON)] {
        let mut s = Scene::new(codes, TERMS, TON);
        equal("deposited", s.top_up(TON), Some(0))?;
        if stake > 0 {
            equal("staked", s.raise_proxy_stake(stake), Some(0))?;
        }
        let held = s.proxy_coins();
        equal("held", held, TON + TON + stake)?;
        equal("first step", s.request_refund(), Some(0))?;
        s.world.jump(TERMS.client_delay + 1);
        equal("second step", s.request_refund(), Some(0))?;
        equal("paid", s.sent(&s.client_owner, op::PAYOUT), vec![paid])?;
        equal("ledger", s.client_state().balance, 0)?;
        equal("state", s.client_state().status, ContractStatus::Closed)?;
        equal("stake left", s.proxy_state().stake, stake - paid)?;
        between(
            "proxy holds",
            s.proxy_coins(),
            held - paid - TON / 100,
            held - paid,
        )?;
        equal("grant", s.relay(SignedOp::ClientGrantRefund, 0), Some(1006))?;
    }
    Ok(())
}

/// W6: a payout books revenue whether or not any client was charged, and the owner can take it out of the deposits.
pub fn w6_revenue_needs_no_charge(codes: &Codes) -> Result<(), String> {
    let terms = Terms {
        price: 2,
        fee: 1,
        ..TERMS
    };
    let mut s = Scene::new(codes, terms, TON);
    equal("deposited", s.top_up(5 * TON), Some(0))?;
    equal("paid", s.relay(SignedOp::WorkerPayout, 10_000_000), Some(0))?;
    equal("worker owner has", s.received(&s.worker_owner), 10_000_000)?;
    equal("revenue", s.proxy_state().balance, 10_000_000)?;
    let owner = s.net.proxy_owner;
    equal("withdrawn", s.pay_revenue(s.relayer), Some(0))?;
    equal("proxy owner has", s.received(&owner), 10_000_000)?;
    equal("charged", s.client_state().tokens_used, 0)?;
    equal("ledger", s.client_state().balance, 5 * TON)?;
    equal("proxy holds", s.proxy_coins(), 6 * TON - 20_000_000)
}

/// W7: completing the close pays the whole account to the owner, deposits included. Until then, for the whole delay,
/// every way out works; afterwards none does, and the ledger keeps what cannot be paid.
pub fn w7_the_end_of_a_proxy_takes_everything(codes: &Codes) -> Result<(), String> {
    let op = SignedOp::ProxyCloseComplete;
    let closed = |deposit: u128| -> Result<Scene, String> {
        let mut s = Scene::new(codes, TERMS, TON);
        equal("deposited", s.top_up(deposit), Some(0))?;
        equal("closing", s.close_proxy(), Some(0))?;
        Ok(s)
    };
    // In time: everything comes out, in the last second too.
    let mut s = closed(50 * TON)?;
    equal("withdrawn", s.withdraw(), Some(0))?;
    s.world.jump(TERMS.proxy_delay - 1);
    equal("completed early", s.relay(op, 0), Some(1011))?;
    equal("granted", s.relay(SignedOp::ClientGrantRefund, 0), Some(0))?;
    equal(
        "paid",
        s.sent(&s.client_owner, op::PAYOUT),
        vec![49 * TON, TON],
    )?;

    // Too late.
    let mut s = closed(50 * TON)?;
    s.world.jump(TERMS.proxy_delay);
    equal("completed", s.relay(op, 0), Some(0))?;
    let taken = s.sent(&s.net.proxy_owner, op::PAYOUT);
    between("owner took", taken[0], 51 * TON, 51 * TON + FIFTH)?;
    between("proxy holds", s.proxy_coins(), TON / 100, TON / 100)?;
    equal("withdrawn", s.withdraw(), Some(0))?;
    equal("paid", s.sent(&s.client_owner, op::PAYOUT), vec![])?;
    equal("ledger", s.client_state().balance, 50 * TON)
}

/// W9: a charge above the balance forgives the rest for good; a withdrawal can come before a charge; a stake may be
/// higher than the balance.
pub fn w9_a_shortfall_is_forgiven(codes: &Codes) -> Result<(), String> {
    const TOKENS: u64 = 100_000_000; // 2.5 TON
    let mut s = Scene::new(codes, TERMS, TON);
    equal("deposited", s.top_up(5 * TON), Some(0))?;
    // Used 2.5 TON, and takes 4 TON out before the charge arrives: 1.5 TON are forgiven.
    equal("withdrawn", s.withdraw(), Some(0))?;
    equal("paid", s.sent(&s.client_owner, op::PAYOUT), vec![4 * TON])?;
    equal("charged", s.relay(SignedOp::ClientCharge, TOKENS), Some(0))?;
    equal("ledger", s.client_state().balance, 0)?;
    equal("tokens", s.client_state().tokens_used, TOKENS)?;
    // A new deposit is not charged for the old tokens.
    equal("deposited", s.top_up(2 * TON), Some(0))?;
    equal(
        "charged again",
        s.relay(SignedOp::ClientCharge, TOKENS),
        Some(1000),
    )?;
    equal("ledger", s.client_state().balance, 2 * TON)?;
    let message = cocoon_ton::abi::ClientMessage::IncreaseStake {
        query_id: 1,
        new_stake: 1000 * TON,
        excess_to: s.client_owner,
    };
    let (owner, client) = (s.client_owner, s.client.address);
    let txs = s.send(owner, client, FIFTH, message.encode().unwrap());
    equal("staked", txs[0].exit_code, Some(0))?;
    equal("stake", s.client_state().stake, 1000 * TON)
}

/// W10: a closing client takes deposits. With a dead proxy they come out of its stake only, like the rest (W3).
pub fn w10_a_closing_client_takes_deposits(codes: &Codes) -> Result<(), String> {
    for (stake, paid) in [(0, 0), (3 * TON, 3 * TON)] {
        let mut s = Scene::new(codes, TERMS, TON);
        if stake > 0 {
            equal("staked", s.raise_proxy_stake(stake), Some(0))?;
        }
        equal("first step", s.request_refund(), Some(0))?;
        equal("deposited", s.top_up(3 * TON), Some(0))?;
        equal("ledger", s.client_state().balance, 3 * TON)?;
        equal("withdrawn", s.withdraw(), Some(1006))?;
        s.world.jump(TERMS.client_delay + 1);
        equal("second step", s.request_refund(), Some(0))?;
        equal("paid", s.sent(&s.client_owner, op::PAYOUT), vec![paid])?;
        equal("deposited when closed", s.top_up(TON), Some(1006))?;
    }
    // With a living proxy nothing is lost.
    let mut s = Scene::new(codes, TERMS, TON);
    s.request_refund();
    equal("deposited", s.top_up(3 * TON), Some(0))?;
    equal("granted", s.relay(SignedOp::ClientGrantRefund, 0), Some(0))?;
    equal("paid", s.sent(&s.client_owner, op::PAYOUT), vec![3 * TON])
}

/// W22: a closing proxy sends a deposit straight back to the client's owner, but the client's ledger keeps it, so that
/// it can be taken out once more, from the deposits of others. The vectors fix both messages of the proxy; only
/// paying everybody before the close is signed bounds the loss.
pub fn w22_a_closing_proxy_pays_deposits_twice(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, TON);
    let victim = person(4);
    let theirs = s.net.client(victim);
    s.world.deploy(victim, &theirs, TON);
    let message = cocoon_ton::abi::ClientMessage::TopUp {
        query_id: 1,
        coins: 50 * TON,
        excess_to: victim,
    };
    s.send(victim, theirs.address, 51 * TON, message.encode().unwrap());
    equal("proxy holds", s.proxy_coins(), 51 * TON)?;
    equal("closing", s.close_proxy(), Some(0))?;
    equal("deposited", s.top_up(40 * TON), Some(0))?;
    let back = s.sent(&s.client_owner, op::PAYOUT);
    equal("payouts", back.len(), 1)?;
    between("came back", back[0], 40 * TON - TON / 100, 40 * TON)?;
    equal("ledger", s.client_state().balance, 40 * TON)?;
    equal("withdrawn", s.withdraw(), Some(0))?;
    let twice = s.sent(&s.client_owner, op::PAYOUT);
    equal("came back again", twice[1], 39 * TON)?;
    between(
        "proxy holds",
        s.proxy_coins(),
        12 * TON,
        12 * TON + TON / 100,
    )
}

/// W14: the proxy never asks the root. Here there is none at all, and everything works.
pub fn w14_the_root_is_never_asked(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, TON);
    let root = s.net.root.address;
    equal("deposited", s.top_up(5 * TON), Some(0))?;
    equal("paid", s.relay(SignedOp::WorkerPayout, 1_000_000), Some(0))?;
    equal("owner has", s.received(&s.worker_owner), 20_000_000)?;
    let asked = s.world.log.iter().any(|tx| tx.account == root);
    equal("root asked", asked, false)?;
    equal(
        "stake below the minimum",
        s.proxy_state().stake < TERMS.min_proxy_stake,
        true,
    )
}

/// W15: a message of 1 nanoTON from anybody becomes a transaction of the proxy contract, without effect.
pub fn w15_anybody_makes_transactions(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, TON);
    let proxy = s.net.proxy.address;
    let data = s.world.data(&proxy).cloned();
    let mut b = CellBuilder::new();
    b.store_u32(op::DO_NOT_PROCESS).unwrap();
    for (body, bounce) in [(b.build().unwrap(), true), (Cell::default(), false)] {
        let send = Send {
            bounce,
            ..Send::new(person(9), proxy, 1, body)
        };
        let tx = s.world.run_one(send);
        equal("skipped", tx.skipped, Some(ComputePhaseSkipReason::NoGas))?;
        equal("bounced", tx.out.len(), 0)?;
    }
    equal("data", s.world.data(&proxy).cloned(), data)?;
    between("proxy holds", s.proxy_coins(), TON, TON + 2)
}

/// W16: anybody may pay revenue out, stake and deposit. The coins go where they belong.
pub fn w16_open_operations_serve_the_owner(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, 10 * TON);
    equal("paid", s.relay(SignedOp::WorkerPayout, 10_000_000), Some(0))?;
    let (owner, stranger) = (s.net.proxy_owner, person(9));
    equal("withdrawn by a stranger", s.pay_revenue(stranger), Some(0))?;
    equal("proxy owner has", s.received(&owner), 50_000_000)?;
    between(
        "stranger has",
        s.received(&stranger),
        FIFTH - TON / 50,
        FIFTH,
    )?;
    equal("withdrawn twice", s.pay_revenue(stranger), Some(0))?;
    equal("proxy owner has", s.received(&owner), 50_000_000)?;
    equal(
        "staked by the relayer",
        s.raise_proxy_stake(2 * TON),
        Some(0),
    )?;
    equal("stake", s.proxy_state().stake, 2 * TON)
}

/// W18: the limits that differ, each at its exact place.
pub fn w18_limits_differ(codes: &Codes) -> Result<(), String> {
    // A proxy completes in the second of its unlock time, a client only after it.
    let mut s = Scene::new(codes, TERMS, TON);
    equal("closing", s.close_proxy(), Some(0))?;
    equal("first step", s.request_refund(), Some(0))?;
    s.world.jump(TERMS.client_delay);
    equal("second step", s.request_refund(), Some(1011))?;
    s.world.jump(1);
    equal("second step", s.request_refund(), Some(0))?;
    s.world.jump(TERMS.proxy_delay - TERMS.client_delay - 2);
    equal(
        "completed",
        s.relay(SignedOp::ProxyCloseComplete, 0),
        Some(1011),
    )?;
    s.world.jump(1);
    equal(
        "completed",
        s.relay(SignedOp::ProxyCloseComplete, 0),
        Some(0),
    )?;
    // A client takes exactly the commission, a worker wants more.
    let mut s = Scene::new(codes, TERMS, TON);
    let (relayer, client, worker) = (s.relayer, s.client.address, s.worker.address);
    let charge = s.signed(SignedOp::ClientCharge, 1, relayer);
    let exit = s.send(relayer, client, TON / 10, charge)[0].exit_code;
    equal("charged", exit, Some(0))?;
    let payout = s.signed(SignedOp::WorkerPayout, 1, relayer);
    let exit = s.send(relayer, worker, TON / 10, payout.clone())[0].exit_code;
    equal("paid", exit, Some(1003))?;
    let exit = s.send(relayer, worker, TON / 10 + 1, payout)[0].exit_code;
    equal("paid", exit, Some(0))
}
