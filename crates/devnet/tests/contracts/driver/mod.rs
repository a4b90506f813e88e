//! Chooses what happens next: valid and hostile messages from everybody.

mod others;
mod parties;

use cocoon_ton::abi::SignedOp;
use cocoon_ton::{Address, Cell, CellBuilder};

pub use parties::sweep;

use crate::model::{COMMISSION, OWN_FLOOR};
use crate::rng::Rng;
use crate::sim::{Sim, Spent, nowhere, people};
use crate::world::{Send, TON};
use others::{governance, proxy_message, wallet_message, wallet_transfer};
use parties::{client_message, forged_bounce, worker_message};

/// Does one random thing.
pub fn step(sim: &mut Sim, rng: &mut Rng) -> Result<(), String> {
    match rng.below(100) {
        0..=51 => {
            let send = message(sim, rng);
            let send = damage(rng, send);
            deliver(sim, rng, send)
        }
        52..=58 => replay(sim, rng),
        59..=67 => jump(sim, rng),
        68..=75 => wallet_transfer(sim, rng),
        76..=78 => impoverish(sim, rng),
        79..=81 => deploy(sim, rng),
        82..=86 => governance(sim, rng),
        87..=94 => burst(sim, rng),
        _ => {
            let send = forged_bounce(sim, rng);
            deliver(sim, rng, send)
        }
    }
}

/// Mostly until all is quiet; sometimes several messages are under way at once, in any order.
fn deliver(sim: &mut Sim, rng: &mut Rng, send: Send) -> Result<(), String> {
    let signed = is_signed(sim, &send);
    let alone = sim.world.in_flight().next().is_none();
    let first = sim.world.log.len();
    sim.push(send.clone());
    if rng.percent(75) {
        sim.run()?;
        let txs = &sim.world.log[first..];
        let worked = alone && txs[0].succeeded() && txs.iter().all(|tx| !tx.bounced);
        if signed && worked {
            sim.spent.push(Spent::Signed(send));
        }
        return Ok(());
    }
    for _ in 0..rng.below(3) {
        let pick = rng.next() as usize;
        sim.step(pick)?;
    }
    Ok(())
}

/// Several messages for clients and workers before any of them has had its effect, then in some order.
fn burst(sim: &mut Sim, rng: &mut Rng) -> Result<(), String> {
    if rng.percent(50) {
        for send in parties::in_haste(sim, rng) {
            sim.push(send);
        }
    }
    for _ in 0..1 + rng.below(4) {
        let send = if rng.percent(75) {
            client_message(sim, rng)
        } else {
            worker_message(sim, rng)
        };
        sim.push(send);
    }
    for _ in 0..rng.below(12) {
        let pick = rng.next() as usize;
        sim.step(pick)?;
    }
    sim.run()
}

fn is_signed(sim: &Sim, send: &Send) -> bool {
    let code = crate::world::op(&send.body);
    sim.contracts().contains(&send.to) && code.and_then(SignedOp::from_code).is_some()
}

/// Someone to get leftover coins: mostly who asks, sometimes somebody who cannot be paid, or a contract.
fn receiver(sim: &Sim, rng: &mut Rng, asks: Address) -> Address {
    match rng.below(10) {
        0..=5 => asks,
        6 => nowhere(),
        7 => *rng.pick(&people()),
        _ => *rng.pick(&sim.contracts()),
    }
}

/// Coins for a call that moves `amount`: enough, just enough, just not enough, or hardly anything.
fn value(rng: &mut Rng, amount: u128) -> u128 {
    match rng.below(16) {
        0 => amount + COMMISSION,
        1 => (amount + COMMISSION).saturating_sub(1),
        2 => amount + COMMISSION + 1,
        3 => *rng.pick(&[1, 5_000, 60_000, 400_000, 1_000_000, 3_000_000, 20_000_000]),
        4 => amount,
        // Around the floor of the contracts that carry.
        5 => amount + COMMISSION + rng.coins(4_000_000),
        6 => amount + OWN_FLOOR + COMMISSION,
        _ => amount + 7 * TON / 10,
    }
}

fn anybody(rng: &mut Rng) -> Address {
    *rng.pick(&people()[..3])
}

fn mostly(rng: &mut Rng, right: Address) -> Address {
    // Nobody speaks from a workchain that does not exist.
    if rng.percent(88) && right != nowhere() {
        right
    } else {
        anybody(rng)
    }
}

fn message(sim: &Sim, rng: &mut Rng) -> Send {
    match rng.below(100) {
        0..=44 => client_message(sim, rng),
        45..=69 => worker_message(sim, rng),
        70..=92 => proxy_message(sim, rng),
        _ => wallet_message(sim, rng),
    }
}

fn replay(sim: &mut Sim, rng: &mut Rng) -> Result<(), String> {
    if sim.history.is_empty() {
        return Ok(());
    }
    let mut send = rng.pick(&sim.history).clone();
    if rng.percent(30) {
        send.value = value(rng, 0);
    }
    if rng.percent(30) {
        send.from = anybody(rng);
    }
    deliver(sim, rng, send)
}

fn jump(sim: &mut Sim, rng: &mut Rng) -> Result<(), String> {
    let params = &sim.net.params;
    let delay = *rng.pick(&[params.client_delay, params.proxy_delay]);
    let seconds = *rng.pick(&[
        1,
        60,
        delay.saturating_sub(1),
        delay,
        delay + 1,
        100 * 86_400,
    ]);
    sim.trace.push(format!("{seconds} s pass"));
    sim.world.jump(seconds);
    Ok(())
}

/// Rent and bad luck: a client or worker contract is left with little. Nothing may be under way.
fn impoverish(sim: &mut Sim, rng: &mut Rng) -> Result<(), String> {
    sim.run()?;
    let parties: Vec<_> = sim.clients.iter().chain(&sim.workers).cloned().collect();
    let address = rng.pick(&parties).init.address;
    if sim.world.data(&address).is_none() {
        return Ok(());
    }
    let coins = *rng.pick(&[0, 1, TON / 1000, TON / 100, TON / 10, OWN_FLOOR, TON]);
    sim.trace.push(format!(
        "{} is left with {coins} nanoTON",
        sim.name(&address)
    ));
    sim.world.set_balance(&address, coins);
    sim.run()
}

/// Deploys a contract, which may exist already.
fn deploy(sim: &mut Sim, rng: &mut Rng) -> Result<(), String> {
    let mut inits: Vec<_> = sim
        .clients
        .iter()
        .chain(&sim.workers)
        .map(|party| party.init.clone())
        .collect();
    inits.push(sim.net.proxy.clone());
    let init = rng.pick(&inits).clone();
    let send = Send {
        bounce: false,
        init: Some(init.cell.clone()),
        ..Send::new(
            people()[0],
            init.address,
            *rng.pick(&[TON / 100, 8 * TON / 10]),
            Cell::default(),
        )
    };
    deliver(sim, rng, send)
}

/// Cuts a body short, makes it longer, or changes a bit, now and then.
fn damage(rng: &mut Rng, mut send: Send) -> Send {
    if rng.percent(4) {
        send.bounce = false;
    }
    if !rng.percent(10) {
        return send;
    }
    let slice = send.body.as_slice_allow_exotic();
    let bits = slice.size_bits();
    let mut b = CellBuilder::new();
    match rng.below(3) {
        0 => {
            let left = rng.below(u64::from(bits) + 1) as u16;
            let refs = if rng.percent(50) {
                slice.size_refs()
            } else {
                0
            };
            b.store_slice(slice.get_prefix(left, refs)).unwrap();
        }
        1 => {
            b.store_slice(slice).unwrap();
            if rng.percent(50) || bits >= 1000 {
                let _ = b.store_reference(Cell::default());
            } else {
                b.store_uint(rng.below(256), 8).unwrap();
            }
        }
        _ => {
            // Behind the op: what a wallet is told to send is left alone, the model knows only well-formed orders.
            if bits > 40 && slice.size_refs() == 0 {
                let at = 32 + rng.below(u64::from(bits) - 32) as u16;
                let flipped = u64::from(!slice.get_bit(at).unwrap());
                b.store_slice(slice.get_prefix(at, 0)).unwrap();
                b.store_uint(flipped, 1).unwrap();
                let mut rest = slice;
                rest.skip_first(at + 1, 0).unwrap();
                b.store_slice(rest).unwrap();
            } else {
                b.store_slice(slice).unwrap();
            }
        }
    }
    send.body = b.build().unwrap();
    send
}
