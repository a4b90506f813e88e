//! Holds every transaction of a world against the model.

use std::collections::BTreeMap;

use cocoon_ton::abi::{AbiError, StateInit};
use cocoon_ton::{Address, Cell, MsgInfo};
use tycho_types::models::ComputePhaseSkipReason;

use crate::model::{Call, Exit, Keep, Sent, State, Verdict, Worth, receive};
use crate::world::{Snapshot, Tx};

/// No operation needs more gas than this buys, even at the prices before 2026 (nanoTON); only messages below it may run out of gas.
const ENOUGH_FOR_GAS: u128 = 5_000_000;
/// Upper bound of what forwarding one message costs, the masterchain included (nanoTON).
const FORWARDING: u128 = 20_000_000;
/// The VM ran out of gas.
const OUT_OF_GAS: [i32; 2] = [-14, 13];

/// What the model knows of a contract.
#[derive(Clone, Debug)]
pub struct Known {
    /// State as the model has it.
    pub state: State,
    /// Code as it must be.
    pub code: Cell,
}

/// The model's contracts.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    known: BTreeMap<Address, Known>,
}

impl Checker {
    /// Learns a contract before it is deployed.
    pub fn know(&mut self, init: &StateInit, state: State) -> Result<(), AbiError> {
        assert_eq!(state.encode()?, init.data, "the model's layout");
        let code = init.code.clone();
        self.known.insert(init.address, Known { state, code });
        Ok(())
    }

    /// The model's state of a contract.
    pub fn state(&self, address: &Address) -> Option<&State> {
        self.known.get(address).map(|known| &known.state)
    }

    /// Checks a transaction and follows it. Call this for every transaction, in order.
    pub fn check(&mut self, tx: &Tx) -> Result<(), String> {
        let Some(known) = self.known.get_mut(&tx.account) else {
            return stranger(tx);
        };
        if tx.after.code.is_none() {
            return not_deployed(tx);
        }
        follow(known, tx)?;
        let data = known.state.encode().map_err(|e| e.to_string())?;
        if tx.after.data.as_ref() != Some(&data) {
            return Err(format!(
                "data differs from the model\n  model {:?}\n  chain {}",
                known.state,
                shown(&tx.after)
            ));
        }
        if tx.after.code.as_ref() != Some(&known.code) {
            return Err("code differs from the model".to_owned());
        }
        Ok(())
    }

    /// An external message was not accepted, with this exit code.
    pub fn check_refused(
        &self,
        to: &Address,
        account: &Snapshot,
        now: u32,
        body: &Cell,
        exit: Option<i32>,
    ) -> Result<(), String> {
        let Some(known) = self.known.get(to) else {
            return Ok(());
        };
        // Too poor to pay for taking it in.
        if exit.is_none_or(|exit| OUT_OF_GAS.contains(&exit)) && account.balance < FORWARDING {
            return Ok(());
        }
        // Rent and the import fee are paid before the contract looks at its balance.
        let mut verdict = None;
        for paid in [0, FORWARDING] {
            let call = Call {
                me: *to,
                from: None,
                value: 0,
                balance: account.balance.saturating_sub(paid),
                now,
                bounced: false,
                body,
            };
            match receive(&mut known.state.clone(), &call) {
                Err(Exit(code)) if exit == Some(code) => return Ok(()),
                other => verdict = Some(other),
            }
        }
        Err(format!(
            "external message refused with {exit:?}, the model says {verdict:?}"
        ))
    }
}

fn shown(account: &Snapshot) -> String {
    let cell = account.data.as_ref().expect("active");
    use cocoon_ton::abi::{ClientState, ProxyState, WorkerState};
    if let Ok(state) = ClientState::decode(cell) {
        return format!("{state:?}");
    }
    if let Ok(state) = WorkerState::decode(cell) {
        return format!("{state:?}");
    }
    if let Ok(state) = ProxyState::decode(cell) {
        return format!("{state:?}");
    }
    format!("{cell:?}")
}

/// Somebody without a contract takes what comes without a way back, and sends the rest back.
fn stranger(tx: &Tx) -> Result<(), String> {
    if tx.out.iter().any(|m| !m.bounced) {
        return Err("an account without a contract sent something".to_owned());
    }
    Ok(())
}

fn not_deployed(tx: &Tx) -> Result<(), String> {
    if tx.skipped.is_none() {
        return Err("a contract that is not deployed did something".to_owned());
    }
    stranger(tx)
}

fn follow(known: &mut Known, tx: &Tx) -> Result<(), String> {
    let message = &tx.message;
    let external = message.src.is_none();
    // Storage is paid before the value arrives if the message may bounce, and after it otherwise.
    let balance = (tx.before.balance + message.value)
        .checked_sub(tx.storage_fees)
        .ok_or("more rent than coins")?;
    // Without a way back, rent that the account cannot pay is taken from the message.
    let value = message.value.min(balance);
    if let Some(reason) = tx.skipped {
        return if reason == ComputePhaseSkipReason::NoGas && value < ENOUGH_FOR_GAS {
            Ok(())
        } else {
            Err(format!("skipped: {reason:?}"))
        };
    }
    let exit = tx.exit_code.ok_or("no exit code")?;
    if OUT_OF_GAS.contains(&exit) {
        return if !external && value < ENOUGH_FOR_GAS {
            no_way_but_back(tx)?;
            Ok(())
        } else {
            Err(format!("out of gas with {} nanoTON", message.value))
        };
    }
    let call = Call {
        me: tx.account,
        from: message.src,
        value,
        balance,
        now: tx.now,
        bounced: message.bounced,
        body: &message.body,
    };
    let mut state = known.state.clone();
    let verdict = match receive(&mut state, &call) {
        Err(Exit(code)) => {
            // tycho-vm ends with 12 where an address has an anycast prefix; the official VM with 9.
            if exit != code && (exit, code) != (12, 9) {
                return Err(format!("exit code {exit}, the model says {code}"));
            }
            refused(tx, balance)?;
            return Ok(());
        }
        Ok(verdict) => verdict,
    };
    if verdict.indifferent {
        no_way_but_back(tx)?;
        return Ok(());
    }
    if exit != verdict.exit {
        return Err(format!("exit code {exit}, the model accepts: {verdict:?}"));
    }
    let can = affordable(&verdict, balance.saturating_sub(tx.gas_fees));
    if tx.action_result == Some(0) {
        if can == Some(false) {
            return Err(format!("more was sent than there is: {verdict:?}"));
        }
        sent_as_told(tx, &verdict, balance)?;
        known.state = state;
        if let Some(code) = verdict.code {
            known.code = code;
        }
        return Ok(());
    }
    if can == Some(true) {
        return Err(format!(
            "action phase failed ({:?}), the model sends {verdict:?}",
            tx.action_result
        ));
    }
    if verdict.committed {
        known.state = state;
        return Ok(());
    }
    if verdict.bounces && message.bounce && message.value > enough_to_bounce(tx) && !tx.bounced {
        return Err("the action phase failed without a bounce".to_owned());
    }
    no_way_but_back(tx)?;
    Ok(())
}

/// Nothing leaves but the message itself on its way back.
fn no_way_but_back(tx: &Tx) -> Result<(), String> {
    if tx
        .out
        .iter()
        .any(|m| !m.bounced || Some(m.value) > Some(tx.message.value))
    {
        return Err("a failed message sent something".to_owned());
    }
    Ok(())
}

/// Coins with which a message surely finds its way back.
fn enough_to_bounce(tx: &Tx) -> u128 {
    let far = tx.message.src.is_some_and(|a| a.workchain != 0);
    ENOUGH_FOR_GAS + if far { FORWARDING } else { 0 }
}

fn refused(tx: &Tx, balance: u128) -> Result<(), String> {
    no_way_but_back(tx)?;
    let message = &tx.message;
    if message.src.is_none() {
        return Err("a refused external message made a transaction".to_owned());
    }
    if message.bounce && message.value > enough_to_bounce(tx) && !tx.bounced {
        return Err("a refused message did not bounce".to_owned());
    }
    let expected = if tx.bounced {
        // With a way back, rent is never taken from the message.
        balance - message.value
    } else {
        balance - tx.gas_fees
    };
    if tx.after.balance != expected {
        return Err(format!(
            "a refused message left {} nanoTON, expected {expected}",
            tx.after.balance
        ));
    }
    Ok(())
}

fn payable(to: &Address) -> bool {
    to.workchain == 0 || to.workchain == -1
}

/// Whether the action phase can succeed; none if it is too close to say without the price of forwarding.
fn affordable(verdict: &Verdict, coins: u128) -> Option<bool> {
    let kept = match verdict.keep {
        Keep::Exactly(kept) => kept,
        Keep::All | Keep::AtMost(_) => 0,
    };
    let mut needed = kept;
    let mut messages = 0;
    let mut close = false;
    for sent in verdict.sent.iter().filter(|sent| !sent.optional) {
        if !payable(&sent.to) {
            return Some(false);
        }
        messages += 1;
        match sent.worth {
            Worth::Exactly(coins) => needed = needed.saturating_add(coins),
            Worth::LessFees(coins) => {
                needed = needed.saturating_add(coins);
                // Its own fees may be more than it is worth.
                close |= coins < FORWARDING;
            }
            Worth::Rest | Worth::RestOrNothing => {}
        }
    }
    if coins < needed {
        Some(false)
    } else if close {
        None
    } else if messages == 0 || coins >= needed.saturating_add(FORWARDING * messages) {
        Some(true)
    } else {
        None
    }
}

fn sent_as_told(tx: &Tx, verdict: &Verdict, balance: u128) -> Result<(), String> {
    let mut out = tx.out.iter();
    let mut next = out.next();
    let mut rest_sent = false;
    for sent in &verdict.sent {
        // Of two orders alike but for the coins, the first may be left out.
        if next.filter(|m| same(m, sent)).is_none() {
            if sent.optional {
                continue;
            }
            return Err(format!("sent {next:?}, the model sends {sent:?}"));
        }
        rest_sent |= matches!(sent.worth, Worth::Rest | Worth::RestOrNothing);
        next = out.next();
    }
    if let Some(extra) = next {
        return Err(format!("sent more than the model: {extra:?}"));
    }
    let after = tx.after.balance;
    let right = match verdict.keep {
        Keep::Exactly(kept) if rest_sent => after == kept,
        Keep::Exactly(kept) => kept <= after && after <= balance - tx.gas_fees,
        // 0.01 TON at most; a message that takes all leaves no more than that.
        Keep::AtMost(kept) => !rest_sent || after == kept.min(balance),
        Keep::All => !rest_sent || after == 0,
    };
    if !right {
        return Err(format!(
            "{after} nanoTON are left, the model keeps {:?} of {balance}",
            verdict.keep
        ));
    }
    // A receiver that exists always gets the rest if it is worth sending.
    if let Keep::Exactly(kept) | Keep::AtMost(kept) = verdict.keep
        && !rest_sent
        && let Some(last) = verdict.sent.last()
        && payable(&last.to)
        && after > kept + FORWARDING
    {
        return Err(format!(
            "{} nanoTON were not sent to {}",
            after - kept,
            last.to
        ));
    }
    Ok(())
}

fn same(message: &MsgInfo, sent: &Sent) -> bool {
    message.dst == Some(sent.to)
        && message.bounce == sent.bounce
        && !message.bounced
        && message.body == sent.body
        && match sent.worth {
            Worth::Exactly(coins) => message.value == coins,
            // What is written in the message is two thirds of the forward fee.
            Worth::LessFees(coins) => {
                message.value <= coins && coins - message.value <= message.fwd_fee * 2
            }
            Worth::Rest | Worth::RestOrNothing => true,
        }
}
