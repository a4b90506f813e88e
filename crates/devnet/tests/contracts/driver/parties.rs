//! Messages for clients and workers, signed and not, and what pretends to come back to them.
use cocoon_ton::abi::{ClientMessage, SignedOp, WorkerMessage};
use cocoon_ton::{Address, Cell, CellBuilder};
use ed25519_dalek::{Signer, SigningKey};

use super::{anybody, mostly, receiver, value};
use crate::model::SWEEP;
use crate::rng::Rng;
use crate::sim::{Sim, nowhere};
use crate::world::{Send, TON};

/// What most deposits are at most.
const DEPOSIT: u128 = 40 * TON;

pub fn client_message(sim: &Sim, rng: &mut Rng) -> Send {
    let party = rng.pick(&sim.clients).clone();
    let to = party.init.address;
    let from = mostly(rng, party.owner);
    let excess_to = receiver(sim, rng, from);
    let query_id = rng.below(4);
    let state = sim.client(&to);
    let (mut coins, message) = match rng.below(14) {
        0..=3 => {
            let coins = rng.coins(DEPOSIT);
            (
                coins,
                ClientMessage::TopUp {
                    query_id,
                    coins,
                    excess_to,
                },
            )
        }
        4 => {
            let coins = rng.coins(DEPOSIT);
            let secret_hash = [rng.below(256) as u8; 32];
            (
                coins,
                ClientMessage::ChangeSecretHashAndTopUp {
                    query_id,
                    coins,
                    secret_hash,
                    excess_to,
                },
            )
        }
        5 => (
            0,
            ClientMessage::Register {
                query_id,
                nonce: rng.next(),
                excess_to,
            },
        ),
        6 => {
            let secret_hash = [rng.below(256) as u8; 32];
            (
                0,
                ClientMessage::ChangeSecretHash {
                    query_id,
                    secret_hash,
                    excess_to,
                },
            )
        }
        7 => {
            let new_stake = if rng.percent(40) {
                state.stake.saturating_sub(rng.below(2).into())
            } else {
                state.stake + rng.coins(4 * TON)
            };
            (
                0,
                ClientMessage::IncreaseStake {
                    query_id,
                    new_stake,
                    excess_to,
                },
            )
        }
        8 => (
            0,
            ClientMessage::Withdraw {
                query_id,
                excess_to,
            },
        ),
        9 => (
            0,
            ClientMessage::RequestRefund {
                query_id,
                excess_to,
            },
        ),
        10 | 11 => {
            // Around what the deposit covers.
            let most = (state.balance * 5 / 4).checked_div(sim.net.params.price_per_token);
            let tokens = total(rng, state.tokens_used, most.unwrap_or(1_000).max(10));
            let body = signed(sim, rng, SignedOp::ClientCharge, to, tokens, excess_to);
            return Send::new(from, to, value(rng, 0), body);
        }
        12 => {
            let most = state.balance.checked_div(sim.net.params.price_per_token);
            let tokens = total(rng, state.tokens_used, most.unwrap_or(1_000).max(10));
            let body = signed(sim, rng, SignedOp::ClientGrantRefund, to, tokens, excess_to);
            return Send::new(from, to, value(rng, 0), body);
        }
        _ => return Send::new(anybody(rng), to, value(rng, 0), sweep(query_id)),
    };
    // Coins for less than is said.
    if coins > 0 && rng.percent(5) {
        coins -= 1;
    }
    Send::new(from, to, value(rng, coins), message.encode().unwrap())
}

/// A deposit, and the same coins asked back before it can have arrived.
pub fn in_haste(sim: &Sim, rng: &mut Rng) -> [Send; 2] {
    let party = rng.pick(&sim.clients).clone();
    let to = party.init.address;
    let from = if party.owner == nowhere() {
        anybody(rng)
    } else {
        party.owner
    };
    let coins = rng.coins(DEPOSIT);
    let excess_to = from;
    let deposit = ClientMessage::TopUp {
        query_id: 1,
        coins,
        excess_to,
    };
    let back = if rng.percent(60) {
        ClientMessage::Withdraw {
            query_id: 2,
            excess_to,
        }
        .encode()
        .unwrap()
    } else if rng.percent(60) {
        ClientMessage::RequestRefund {
            query_id: 2,
            excess_to,
        }
        .encode()
        .unwrap()
    } else {
        let tokens = sim.client(&to).tokens_used;
        sim.net
            .signed(SignedOp::ClientGrantRefund, to, tokens, 2, excess_to)
    };
    [
        Send::new(from, to, coins + TON, deposit.encode().unwrap()),
        Send::new(from, to, TON, back),
    ]
}

/// The body of the op that empties a closed contract.
pub fn sweep(query_id: u64) -> Cell {
    let mut b = CellBuilder::new();
    b.store_u32(SWEEP).unwrap();
    b.store_u64(query_id).unwrap();
    b.build().unwrap()
}

pub fn worker_message(sim: &Sim, rng: &mut Rng) -> Send {
    let party = rng.pick(&sim.workers).clone();
    let to = party.init.address;
    let from = mostly(rng, party.owner);
    let excess_to = receiver(sim, rng, from);
    let query_id = rng.below(4);
    let op = match rng.below(10) {
        0..=6 => SignedOp::WorkerPayout,
        7 => SignedOp::WorkerLastPayout,
        8 => {
            let body = WorkerMessage::Register {
                query_id,
                excess_to,
            }
            .encode()
            .unwrap();
            return Send::new(from, to, value(rng, 0), body);
        }
        _ => return Send::new(anybody(rng), to, value(rng, 0), sweep(query_id)),
    };
    // Sometimes more than the proxy contract can pay.
    let coins = sim.world.balance(&sim.net.proxy.address) * 9 / 8;
    let most = coins
        .checked_div(sim.net.params.worker_fee_per_token)
        .unwrap_or(1_000);
    let tokens = total(rng, sim.worker(&to).tokens_paid, most.clamp(10, 1 << 60));
    let body = signed(sim, rng, op, to, tokens, excess_to);
    Send::new(from, to, value(rng, 0), body)
}

pub fn forged_bounce(sim: &Sim, rng: &mut Rng) -> Send {
    let party = if rng.percent(50) {
        rng.pick(&sim.clients)
    } else {
        rng.pick(&sim.workers)
    };
    let to = party.init.address;
    // What such a contract really sent before, or might have.
    let real: Vec<Cell> = sim
        .world
        .log
        .iter()
        .filter(|tx| tx.account == to)
        .flat_map(|tx| &tx.out)
        .filter(|m| !m.bounced && m.dst == Some(sim.net.proxy.address))
        .map(|m| m.body.clone())
        .collect();
    let original = if real.is_empty() {
        sweep(1)
    } else {
        rng.pick(&real).clone()
    };
    let mut b = CellBuilder::new();
    b.store_u32(if rng.percent(85) {
        0xffff_fffe
    } else {
        0xffff_ffff
    })
    .unwrap();
    b.store_reference(original).unwrap();
    Send {
        bounce: false,
        bounced: true,
        ..Send::new(anybody(rng), to, value(rng, 0), b.build().unwrap())
    }
}

/// A new total: more, the same, less, or absurd.
fn total(rng: &mut Rng, old: u64, most: u128) -> u64 {
    match rng.below(20) {
        0 => old,
        1 => old.wrapping_sub(1),
        2 => old.wrapping_add(1),
        3 if rng.percent(10) => u64::MAX,
        _ => old.saturating_add(rng.coins(most) as u64),
    }
}

/// A payload with any contents, signed with any key.
pub fn signed(
    sim: &Sim,
    rng: &mut Rng,
    op: SignedOp,
    target: Address,
    tokens: u64,
    to: Address,
) -> Cell {
    let query_id = rng.below(4);
    if rng.percent(80) {
        return sim.net.signed(op, target, tokens, query_id, to);
    }
    let mut inner_op = op.code();
    let mut inner_query = query_id;
    let mut inner_target = target;
    let mut extra = false;
    let mut key = &sim.net.key;
    let wrong = SigningKey::from_bytes(&[0x99; 32]);
    match rng.below(5) {
        0 => inner_op = rng.pick(&SignedOp::ALL).code(),
        1 => inner_query ^= 1,
        2 => inner_target = *rng.pick(&sim.contracts()),
        3 => extra = true,
        _ => key = &wrong,
    }
    let mut b = CellBuilder::new();
    b.store_u32(inner_op).unwrap();
    b.store_u64(inner_query).unwrap();
    if op.has_tokens() {
        b.store_u64(tokens).unwrap();
    }
    store_address(&mut b, &inner_target);
    if extra {
        b.store_bit_one().unwrap();
    }
    let payload = b.build().unwrap();
    let signature = key.sign(payload.repr_hash().as_slice()).to_bytes();
    let mut b = CellBuilder::new();
    b.store_u32(op.code()).unwrap();
    b.store_u64(query_id).unwrap();
    store_address(&mut b, &to);
    b.store_raw(&signature, 512).unwrap();
    b.store_reference(payload).unwrap();
    b.build().unwrap()
}

fn store_address(b: &mut CellBuilder, address: &Address) {
    b.store_uint(0b100, 3).unwrap();
    b.store_u8(address.workchain as u8).unwrap();
    b.store_raw(&address.hash, 256).unwrap();
}
