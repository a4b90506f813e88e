//! W23: a relayer names a receiver of the leftover coins that cannot be paid.

use cocoon_ton::Address;
use cocoon_ton::abi::{SignedOp, op};

use super::scene::{FIVE_TON_OF_TOKENS, Scene, TERMS, between, equal};
use crate::codes::Codes;
use crate::world::TON;

/// No network has this workchain.
const NOWHERE: Address = Address {
    workchain: 5,
    hash: [0x55; 32],
};

/// W23: the payout is made all the same; the relayer's own leftover coins stay in the proxy contract.
pub fn w23_bad_excess_receiver_does_not_stop_a_payout(codes: &Codes) -> Result<(), String> {
    for op in [SignedOp::WorkerPayout, SignedOp::WorkerLastPayout] {
        let mut s = Scene::new(codes, TERMS, 10 * TON);
        let body = s.signed(op, FIVE_TON_OF_TOKENS, NOWHERE);
        equal("presented", s.present(op, body), Some(0))?;
        equal("owner has", s.received(&s.worker_owner), 5 * TON)?;
        let tokens = s.worker_state().tokens_paid;
        equal("tokens paid", tokens, FIVE_TON_OF_TOKENS)?;
        let left = s.proxy_coins();
        let more = left.saturating_sub(5 * TON);
        between("leftover in the proxy", more, TON / 10, TON / 5)?;
    }
    Ok(())
}

/// W23 for refunds.
pub fn w23_bad_excess_receiver_does_not_stop_a_refund(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, TON);
    equal("deposited", s.top_up(5 * TON), Some(0))?;
    let op = SignedOp::ClientGrantRefund;
    let body = s.signed(op, 0, NOWHERE);
    equal("presented", s.present(op, body), Some(0))?;
    equal(
        "owner was paid",
        s.sent(&s.client_owner, op::PAYOUT),
        vec![5 * TON],
    )?;
    equal("ledger", s.client_state().balance, 0)
}

/// The official behaviour: the proxy's action phase fails, nothing bounces, the totals have advanced.
pub fn w23_lost(codes: &Codes) -> Result<(), String> {
    let mut s = Scene::new(codes, TERMS, 10 * TON);
    let op = SignedOp::WorkerPayout;
    let body = s.signed(op, FIVE_TON_OF_TOKENS, NOWHERE);
    equal("presented", s.present(op, body), Some(0))?;
    equal("owner has", s.received(&s.worker_owner), 0)?;
    equal(
        "tokens paid",
        s.worker_state().tokens_paid,
        FIVE_TON_OF_TOKENS,
    )?;
    equal("again", s.relay(op, FIVE_TON_OF_TOKENS), Some(1000))?;

    let mut s = Scene::new(codes, TERMS, TON);
    s.top_up(5 * TON);
    let op = SignedOp::ClientGrantRefund;
    let body = s.signed(op, 0, NOWHERE);
    equal("presented", s.present(op, body), Some(0))?;
    equal("ledger", s.client_state().balance, 0)?;
    equal(
        "owner was paid",
        s.sent(&s.client_owner, op::PAYOUT),
        vec![],
    )?;
    equal("again", s.relay(op, 0), Some(1006))
}

/// W23 for an owner who cannot be paid, by his own mistake: the failure comes back, and the claim stays.
pub fn w23_an_unpayable_owner_keeps_his_claim(codes: &Codes) -> Result<(), String> {
    let s = unpayable_owner(codes)?;
    equal("tokens paid", s.worker_state().tokens_paid, 0)?;
    equal("revenue", s.proxy_state().balance, 0)?;
    equal("proxy holds", s.proxy_coins(), 10 * TON)
}

/// The official behaviour: the total has advanced, nobody was paid.
pub fn w23_lost_by_unpayable_owner(codes: &Codes) -> Result<(), String> {
    let s = unpayable_owner(codes)?;
    equal(
        "tokens paid",
        s.worker_state().tokens_paid,
        FIVE_TON_OF_TOKENS,
    )?;
    between("proxy holds", s.proxy_coins(), 10 * TON, 10 * TON + TON / 5)
}

fn unpayable_owner(codes: &Codes) -> Result<Scene, String> {
    let mut s = Scene::new(codes, TERMS, 10 * TON);
    s.worker = s.net.worker(NOWHERE);
    s.world.deploy(s.relayer, &s.worker, TON / 2);
    let op = SignedOp::WorkerPayout;
    equal("presented", s.relay(op, FIVE_TON_OF_TOKENS), Some(0))?;
    Ok(s)
}
