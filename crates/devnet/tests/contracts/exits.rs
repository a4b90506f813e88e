//! The way out, tried on copies: the proxy is dead for ever, nothing is signed any more.

use cocoon_ton::abi::{ClientMessage, ContractStatus, SignedOp};
use cocoon_ton::wallet::InternalMessage;
use cocoon_ton::{Address, Cell};

use crate::driver::sweep;
use crate::model::{STORAGE, State};
use crate::net::person;
use crate::rng::Rng;
use crate::sim::{Party, Sim, Spent, nowhere};
use crate::world::{Send, TON};

/// What the exits came to, to see that they were worth trying.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Clients whose owner got everything.
    pub whole: usize,
    /// Clients whose owner got less than the ledger said because the proxy's stake was smaller (W3).
    pub short_of_stake: usize,
    /// Clients and workers whose proxy contract lacks the coins or is gone; their ledgers keep what they are owed.
    pub unpaid: usize,
    /// Workers that were paid.
    pub workers: usize,
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.whole += other.whole;
        self.short_of_stake += other.short_of_stake;
        self.unpaid += other.unpaid;
        self.workers += other.workers;
    }
}

/// What an owner attaches to a call.
const CALL: u128 = 7 * TON / 10;
/// Rent of the proxy contract until its next transaction is less, and so is what it keeps for itself.
const RENT: u128 = TON / 20;
/// More than any call costs in fees, the bounce and a payout to the masterchain included.
const FEES: u128 = 3 * TON / 100;

/// Sends everything that had its effect again; no contract may change, only fees are taken.
pub fn replays_change_nothing(sim: &Sim) -> Result<(), String> {
    let mut copy = sim.clone();
    for spent in &sim.spent {
        let before: Vec<Option<Cell>> = data(&copy);
        match spent {
            Spent::Signed(send) => {
                // Anybody can send it, with enough coins.
                let again = Send {
                    from: person(0x39),
                    value: TON,
                    bounce: true,
                    ..send.clone()
                };
                copy.send(again)?;
            }
            Spent::External(to, body) => {
                copy.external(*to, body.clone())?;
                copy.run()?;
            }
        }
        if data(&copy) != before {
            return Err(format!("a replay changed something: {spent:?}"));
        }
    }
    Ok(())
}

fn data(sim: &Sim) -> Vec<Option<Cell>> {
    sim.contracts()
        .iter()
        .map(|a| sim.world.data(a).cloned())
        .collect()
}

/// Everybody takes out what he can, in any order, on a copy of the world.
pub fn everybody_leaves(sim: &Sim, rng: &mut Rng) -> Result<Tally, String> {
    let mut copy = sim.clone();
    copy.trace
        .push("--- everybody leaves, on a copy".to_owned());
    leave(&mut copy, rng).map_err(|error| {
        let from = sim.trace.len();
        format!("leaving: {error}\n{}", copy.trace[from..].join("\n"))
    })
}

fn leave(sim: &mut Sim, rng: &mut Rng) -> Result<Tally, String> {
    let mut tally = Tally::default();
    sim.run()?;
    let mut clients: Vec<usize> = (0..sim.clients.len()).collect();
    if rng.percent(50) {
        clients.reverse();
    }
    for index in clients {
        client_leaves(sim, index, rng, &mut tally)?;
    }
    for index in 0..sim.workers.len() {
        worker_leaves(sim, index, &mut tally)?;
    }
    for index in 0..sim.wallets.len() {
        wallet_leaves(sim, index)?;
    }
    Ok(tally)
}

/// Coins that the proxy contract can pay out.
fn payable(sim: &Sim) -> u128 {
    if sim.proxy_works() {
        sim.world.balance(&sim.net.proxy.address)
    } else {
        0
    }
}

fn gained(sim: &Sim, owner: &Address, from: usize) -> u128 {
    sim.world.log[from..]
        .iter()
        .filter(|tx| tx.account == sim.net.proxy.address)
        .flat_map(|tx| &tx.out)
        .filter(|m| {
            m.dst == Some(*owner) && crate::world::op(&m.body) == Some(cocoon_ton::abi::op::PAYOUT)
        })
        .map(|m| m.value)
        .sum()
}

/// First and second step of the refund. The owner gets what exceeds the client's stake, and of the rest what the
/// proxy's stake covers; W3 is the documented bound. If the proxy contract lacks the coins (payouts without charges,
/// deposits counted twice, or a completed close: W6, W22, W7), the ledger keeps what was not paid.
fn client_leaves(
    sim: &mut Sim,
    index: usize,
    rng: &mut Rng,
    tally: &mut Tally,
) -> Result<(), String> {
    let party = sim.clients[index].clone();
    let address = party.init.address;
    if sim.world.data(&address).is_none() {
        return Ok(());
    }
    let start = sim.client(&address).clone();
    if start.status == ContractStatus::Closed {
        return residue_leaves(sim, address, party.owner);
    }
    if party.owner == nowhere() {
        // Such an owner can say nothing.
        return Ok(());
    }
    let (first, began, coins) = (sim.world.log.len(), sim.world.now(), payable(sim));
    if start.status == ContractStatus::Normal {
        first_step(sim, &party)?;
    }
    let unlock = sim.client(&address).unlock_time;
    let wait = unlock.saturating_sub(sim.world.now()) + 1;
    sim.world.jump(wait);
    sim.trace.push(format!("{wait} s pass"));
    let charged = last_charge(sim, address, rng)?;
    let rest = sim.client(&address).balance;
    let stake = sim.proxy().map_or(0, |proxy| proxy.stake);
    let forced = rest.min(stake);
    pays(sim, &party.owner, forced, |sim| ask_refund(sim, &party))?;

    let paid = gained(sim, &party.owner, first);
    let now = sim.client(&address).clone();
    let closed = now.status == ContractStatus::Closed;
    // What he did not get is still his, unless the stake was too small for it.
    let forgiven = if closed { rest - forced } else { 0 };
    let lost = (start.balance - charged).checked_sub(paid + now.balance);
    if lost != Some(forgiven) {
        return Err(format!(
            "{lost:?} nanoTON lost, {forgiven} by W3; {start:?} became {now:?}"
        ));
    }
    let promised = (start.balance - charged).min(stake);
    if coins >= start.balance + RENT && paid < promised {
        return Err(format!("the owner got {paid} of {promised}"));
    }
    if sim.world.now() - began > sim.net.params.client_delay + 1 {
        return Err("the way out took longer than the client's delay".to_owned());
    }
    if !closed {
        tally.unpaid += usize::from(now.balance > 0);
        return Ok(());
    }
    if forgiven > 0 {
        tally.short_of_stake += 1;
    } else {
        tally.whole += usize::from(paid > 0);
    }
    residue_leaves(sim, address, party.owner)
}

fn ask_refund(sim: &mut Sim, party: &Party) -> Result<(), String> {
    let body = ClientMessage::RequestRefund {
        query_id: 9,
        excess_to: party.owner,
    };
    let address = party.init.address;
    sim.send(Send::new(
        party.owner,
        address,
        CALL,
        body.encode().unwrap(),
    ))
}

/// What exceeds the client's stake comes at once, and the delay begins.
fn first_step(sim: &mut Sim, party: &Party) -> Result<(), String> {
    let address = party.init.address;
    let state = sim.client(&address);
    let above = state.balance.saturating_sub(state.stake);
    pays(sim, &party.owner, above, |sim| ask_refund(sim, party))?;
    if sim.client(&address).status == ContractStatus::Normal {
        // The proxy cannot pay that, now or ever. With a stake that covers all, nothing exceeds it, and the second step
        // is within reach.
        let raise = ClientMessage::IncreaseStake {
            query_id: 8,
            new_stake: sim.client(&address).balance,
            excess_to: party.owner,
        };
        let body = raise.encode().unwrap();
        sim.send(Send::new(party.owner, address, CALL, body))?;
        ask_refund(sim, party)?;
    }
    if sim.client(&address).status != ContractStatus::Closing {
        return Err("the first step did not begin closing".to_owned());
    }
    Ok(())
}

/// The last thing the proxy signed may be presented by anybody at the worst moment. Returns what it took.
fn last_charge(sim: &mut Sim, address: Address, rng: &mut Rng) -> Result<u128, String> {
    let state = sim.client(&address);
    let (before, used) = (state.balance, state.tokens_used);
    if let Some(most) = before.checked_div(sim.net.params.price_per_token)
        && rng.percent(40)
    {
        let relayer = person(0x39);
        let total = used.saturating_add(1 + rng.coins(most) as u64);
        let body = sim
            .net
            .signed(SignedOp::ClientCharge, address, total, 9, relayer);
        sim.send(Send::new(relayer, address, CALL, body))?;
    }
    Ok(before - sim.client(&address).balance)
}

/// A request must pay exactly this to the owner if the proxy contract has the coins, and nothing else otherwise.
fn pays(
    sim: &mut Sim,
    owner: &Address,
    owed: u128,
    request: impl FnOnce(&mut Sim) -> Result<(), String>,
) -> Result<(), String> {
    let (first, coins) = (sim.world.log.len(), payable(sim));
    request(sim)?;
    let paid = gained(sim, owner, first);
    let must = *owner != nowhere() && owed + RENT <= coins;
    if paid != owed && (paid != 0 || must) {
        return Err(format!("{paid} were paid, owed are {owed} of {coins}"));
    }
    Ok(())
}

/// The own coins of a closed contract go to its owner, whoever asks; nobody else can have them.
fn residue_leaves(sim: &mut Sim, address: Address, owner: Address) -> Result<(), String> {
    let before = sim.world.balance(&address);
    let first = sim.world.log.len();
    sim.send(Send::new(person(0x39), address, CALL, sweep(1)))?;
    let got: u128 = sim.world.log[first..]
        .iter()
        .flat_map(|tx| &tx.out)
        .filter(|m| m.dst == Some(owner))
        .map(|m| m.value)
        .sum();
    let there = (before + CALL).saturating_sub(STORAGE + FEES);
    if owner != nowhere() && got < there {
        return Err(format!("{got} of {there} left the closed contract"));
    }
    Ok(())
}

/// Whatever is signed is paid to the token, or can be presented again.
fn worker_leaves(sim: &mut Sim, index: usize, tally: &mut Tally) -> Result<(), String> {
    let party = sim.workers[index].clone();
    let address = party.init.address;
    if sim.world.data(&address).is_none() {
        return Ok(());
    }
    let start = sim.worker(&address).clone();
    if start.status == ContractStatus::Closed {
        return residue_leaves(sim, address, party.owner);
    }
    if start.tokens_paid > u64::MAX - 2000 {
        return Ok(());
    }
    let fee = sim.net.params.worker_fee_per_token;
    let total = start.tokens_paid + 1000;
    let last = index.is_multiple_of(2);
    let op = if last {
        SignedOp::WorkerLastPayout
    } else {
        SignedOp::WorkerPayout
    };
    let body = sim.net.signed(op, address, total, 9, party.owner);
    let owed = 1000 * fee;
    let first = sim.world.log.len();
    pays(sim, &party.owner, owed, |sim| {
        sim.send(Send::new(person(0x39), address, CALL, body))
    })?;
    let paid = gained(sim, &party.owner, first);
    let now = sim.worker(&address).clone();
    let done = now.tokens_paid == total;
    let wanted = if done { owed } else { 0 };
    if paid != wanted || !done && now.tokens_paid != start.tokens_paid {
        return Err(format!("{paid} paid, {start:?} became {now:?}"));
    }
    if done {
        tally.workers += 1;
    } else {
        tally.unpaid += 1;
    }
    if now.status == ContractStatus::Closed {
        residue_leaves(sim, address, party.owner)?;
    }
    Ok(())
}

/// The owner of a wallet takes everything, blocked or not.
fn wallet_leaves(sim: &mut Sim, index: usize) -> Result<(), String> {
    let party = sim.wallets[index].clone();
    let address = party.init.address;
    let before = sim.world.balance(&address);
    let to = person(0x38);
    let everything = InternalMessage {
        to,
        value: 0,
        bounce: false,
        init: None,
        body: None,
    };
    let body = cocoon_ton::abi::WalletMessage::Send {
        query_id: 1,
        mode: 128,
        message: everything.encode().unwrap(),
    };
    let had = sim.world.balance(&to);
    sim.send(Send::new(party.owner, address, TON, body.encode().unwrap()))?;
    let got = sim.world.balance(&to) - had;
    if got + FEES < before + TON || sim.world.balance(&address) != 0 {
        return Err(format!(
            "{got} of {before} and {TON} came out of the wallet"
        ));
    }
    let Some(State::Wallet(_)) = sim.checker.state(&address) else {
        return Err("the wallet is gone".to_owned());
    };
    Ok(())
}
