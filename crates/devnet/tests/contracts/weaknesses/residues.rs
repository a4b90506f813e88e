//! W4 and W19: the coins of the client and worker contracts themselves.

use cocoon_ton::abi::{ContractStatus, SignedOp, op};

use super::scene::{FIFTH, FIVE_TON_OF_TOKENS, STORAGE, Scene, TERMS, between, equal};
use crate::codes::Codes;
use crate::world::TON;

/// The whole way of a grant refund or last payout.
const FEES: u128 = TON / 40;

/// W4: whoever relays a grant refund gets no more than he attached; the 0.8 TON of the deployment stay.
pub fn w4_grant_refund_keeps_the_residue(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, TON);
    let residue = s.world.balance(&s.client.address);
    equal("granted", s.relay(SignedOp::ClientGrantRefund, 0), Some(0))?;
    between("relayer got", s.received(&s.relayer), FIFTH - FEES, FIFTH)?;
    equal(
        "client contract holds",
        s.world.balance(&s.client.address),
        residue,
    )?;
    swept(&mut s, true, residue)
}

/// The official behaviour: 0.976 TON for a relayer who attached 0.2 TON.
pub fn w4_lost_by_grant_refund(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, TON);
    let before = (s.world.balance(&s.client.address), s.world.fees);
    equal("granted", s.relay(SignedOp::ClientGrantRefund, 0), Some(0))?;
    let fees = s.world.fees - before.1;
    let got = s.received(&s.relayer);
    equal("relayer got", got, FIFTH + before.0 - STORAGE - fees)?;
    // Which is 0.976 TON with the fees of the official builds; ours are lower.
    between("relayer got", got, 976 * TON / 1000, 990 * TON / 1000)
}

/// W4 for the last payout of a worker.
pub fn w4_last_payout_keeps_the_residue(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, 10 * TON);
    let residue = s.world.balance(&s.worker.address);
    let op = SignedOp::WorkerLastPayout;
    equal("paid", s.relay(op, FIVE_TON_OF_TOKENS), Some(0))?;
    equal(
        "owner was paid",
        s.sent(&s.worker_owner, op::PAYOUT),
        vec![5 * TON],
    )?;
    between("relayer got", s.received(&s.relayer), FIFTH - FEES, FIFTH)?;
    equal(
        "worker contract holds",
        s.world.balance(&s.worker.address),
        residue,
    )?;
    swept(&mut s, false, residue)
}

/// The official behaviour: the relayer gets the 0.3 TON of the deployment too.
pub fn w4_lost_by_last_payout(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, 10 * TON);
    let before = (s.world.balance(&s.worker.address), s.world.fees);
    let op = SignedOp::WorkerLastPayout;
    equal("paid", s.relay(op, FIVE_TON_OF_TOKENS), Some(0))?;
    let fees = s.world.fees - before.1;
    let got = s.received(&s.relayer);
    equal("relayer got", got, FIFTH + before.0 - STORAGE - fees)?;
    between("relayer got", got, 47 * TON / 100, 49 * TON / 100)
}

/// W19: a client that forced its refund gets the coins of its contract as well; the contract lives on with 0.01 TON.
pub fn w19_forced_refund_frees_the_residue(codes: &Codes) -> Result<(), String> {
    let mut s = forced_out(codes)?;
    let residue = s.world.balance(&s.client.address);
    between(
        "client contract holds",
        residue,
        79 * TON / 100,
        80 * TON / 100,
    )?;
    swept(&mut s, true, residue)
}

/// The official behaviour: nothing moves them any more.
pub fn w19_lost(codes: &Codes) -> Result<(), String> {
    let mut s = forced_out(codes)?;
    let residue = s.world.balance(&s.client.address);
    let client = s.client.address;
    for exit in [
        s.sweep(client),
        s.withdraw(),
        s.request_refund(),
        s.top_up(TON),
        s.relay(SignedOp::ClientCharge, 1),
        s.relay(SignedOp::ClientGrantRefund, 1),
    ] {
        if !matches!(exit, Some(1006 | 1012)) {
            return Err(format!("something worked: exit {exit:?}"));
        }
    }
    equal("client contract holds", s.world.balance(&client), residue)
}

/// The same for a worker, whose last payout leaves its coins behind.
pub fn w19_lost_by_worker(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, 10 * TON);
    equal("paid", s.relay(SignedOp::WorkerLastPayout, 1), Some(0))?;
    let worker = s.worker.address;
    let residue = s.world.balance(&worker);
    equal("swept", s.sweep(worker), Some(1006))?;
    equal("paid again", s.relay(SignedOp::WorkerPayout, 2), Some(1006))?;
    equal("worker contract holds", s.world.balance(&worker), residue)
}

fn forced_out(codes: &Codes) -> Result<Scene, String> {
    let mut s = Scene::new(codes, TERMS, TON);
    equal("deposited", s.top_up(TON), Some(0))?;
    equal("staked", s.raise_proxy_stake(TON), Some(0))?;
    equal("first step", s.request_refund(), Some(0))?;
    s.world.jump(TERMS.client_delay + 1);
    equal("second step", s.request_refund(), Some(0))?;
    equal(
        "owner was paid",
        s.sent(&s.client_owner, op::PAYOUT),
        vec![TON],
    )?;
    equal("state", s.client_state().status, ContractStatus::Closed)?;
    Ok(s)
}

/// Anybody can make a closed contract give its coins to its owner, all but the storage, once and to nobody else.
fn swept(s: &mut Scene, client: bool, residue: u128) -> Result<(), String> {
    let (contract, owner) = match client {
        true => (s.client.address, s.client_owner),
        false => (s.worker.address, s.worker_owner),
    };
    let (before, fees, relayer) = (s.received(&owner), s.world.fees, s.received(&s.relayer));
    equal("swept", s.sweep(contract), Some(0))?;
    let fees = s.world.fees - fees;
    let got = s.received(&owner) - before;
    equal("owner got", got, residue + FIFTH - STORAGE - fees)?;
    equal("contract holds", s.world.balance(&contract), STORAGE)?;
    equal("relayer got", s.received(&s.relayer), relayer)?;
    // Still there, so that nobody can deploy it afresh and present old totals.
    let state = s.world.data(&contract).is_some();
    equal("contract is there", state, true)
}
