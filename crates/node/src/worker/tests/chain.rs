//! Deployment, payouts and forgetting (protocol.md 4.7, contracts.md 14.3).

use cocoon_ton::abi::{ContractStatus, Envelope, StateInit};
use cocoon_ton::{AccountState, AccountStatus};

use super::bed::*;
use crate::worker::{WorkerEffect, WorkerEvent};

const HOUR: u64 = 3_600_000;

/// A worker that earned 30000 tokens (0.3 TON) and whose contract is open.
fn earned() -> Bed {
    let mut bed = Bed::new();
    bed.connect(1, 3, (30_000, 30_000, 30_000));
    bed
}

/// Ticks as in life until something is sent or the time is over.
fn wait(bed: &mut Bed, ms: u64) -> Option<Sent> {
    let until = bed.now + ms;
    while bed.now < until {
        let step = 1000.min(until - bed.now);
        if let Some(sent) = transacted(&bed.after(step)) {
            return Some(sent);
        }
    }
    None
}

#[test]
fn a_missing_contract_is_deployed_once() {
    let mut bed = earned();
    assert!(
        wait(&mut bed, 60_000).is_none(),
        "nothing before the chain was seen"
    );
    let sent = transacted(&bed.chain(AccountState::NONEXISTENT)).unwrap();
    assert_eq!(
        (sent.to, sent.value, sent.bounce),
        (bed.worker_sc(), 300_000_000, false)
    );
    assert!(sent.body.is_none());
    let init = StateInit::decode(&sent.init.unwrap()).unwrap();
    assert_eq!(init.address, bed.worker_sc());
    bed.step(WorkerEvent::Transacted {
        ticket: sent.ticket,
        ok: true,
    });
    assert!(wait(&mut bed, 55_000).is_none());
    let open = bed.open_contract(0, ContractStatus::Normal);
    bed.chain(open);
    assert!(
        wait(&mut bed, HOUR / 2).is_none(),
        "0.3 TON are not worth it before an hour of rest"
    );
}

#[test]
fn a_refused_message_is_tried_again_ever_more_slowly() {
    let mut bed = earned();
    let first = transacted(&bed.chain(AccountState::NONEXISTENT)).unwrap();
    let t0 = bed.now;
    bed.step(WorkerEvent::Transacted {
        ticket: first.ticket,
        ok: false,
    });
    let second = wait(&mut bed, 90_000).unwrap();
    assert!(bed.now - t0 >= 60_000);
    // Sent, but without any effect on the chain.
    bed.step(WorkerEvent::Transacted {
        ticket: second.ticket,
        ok: true,
    });
    let t1 = bed.now;
    wait(&mut bed, 5 * 60_000).unwrap();
    assert!(
        bed.now - t1 >= 180_000,
        "60 s for the notice, then 120 s of back-off"
    );
}

#[test]
fn payouts_go_to_the_own_wallet_when_they_are_worth_it() {
    let mut bed = earned();
    let open = bed.open_contract(0, ContractStatus::Normal);
    assert!(transacted(&bed.chain(open)).is_none());
    let sent = wait(&mut bed, HOUR + 30_000).unwrap();
    assert_eq!(
        (sent.to, sent.value, sent.bounce),
        (bed.worker_sc(), 500_000_000, true)
    );
    assert!(sent.init.is_none());
    let envelope: Envelope = Envelope::decode(&sent.body.unwrap()).unwrap();
    assert_eq!(
        (envelope.excess_to, envelope.payload.tokens),
        (address(3), 30_000)
    );
    envelope
        .verify(&bed.key.verifying_key().to_bytes())
        .unwrap();
    // One at a time.
    bed.payment(1, 2_000_000, 2_000_000, 2_000_000);
    assert!(wait(&mut bed, 60_000).is_none());
    bed.step(WorkerEvent::Transacted {
        ticket: sent.ticket,
        ok: true,
    });
    assert!(wait(&mut bed, 30_000).is_none());
    // Its effect frees the next, which is above 10 TON now.
    let open = bed.open_contract(30_000, ContractStatus::Normal);
    let sent = transacted(&bed.chain(open)).unwrap();
    let envelope: Envelope = Envelope::decode(&sent.body.unwrap()).unwrap();
    assert_eq!(envelope.payload.tokens, 2_000_000);
    let open = bed.open_contract(2_000_000, ContractStatus::Normal);
    assert!(transacted(&bed.chain(open)).is_none());
    assert!(wait(&mut bed, 2 * HOUR).is_none());
}

#[test]
fn a_payment_is_presented_only_once_it_is_on_disk() {
    let mut bed = earned();
    let open = bed.open_contract(0, ContractStatus::Normal);
    bed.chain(open);
    bed.auto_save = false;
    let fx = bed.payment(1, 5_000_000, 5_000_000, 5_000_000);
    let number = fx.iter().find_map(|e| match e {
        WorkerEffect::Save { number, .. } => Some(*number),
        _ => None,
    });
    assert!(wait(&mut bed, 120_000).is_none());
    bed.step(WorkerEvent::Saved(number.unwrap()));
    assert!(wait(&mut bed, 30_000).is_some());
}

#[test]
fn nothing_is_lost_by_a_restart() {
    let bed = earned();
    let mut bed = bed.restarted();
    // Watched from the first moment, without any link.
    let mut core = crate::worker::WorkerCore::new(
        config(),
        root(),
        bed.disk.clone().into_iter().collect(),
        T0,
    )
    .unwrap();
    let sc = bed.worker_sc();
    assert!(matches!(core.take_effects()[..], [WorkerEffect::Watch(a)] if a == sc));
    let open = bed.open_contract(0, ContractStatus::Normal);
    bed.chain(open);
    let sent = wait(&mut bed, HOUR + 30_000).unwrap();
    let envelope: Envelope = Envelope::decode(&sent.body.unwrap()).unwrap();
    assert_eq!(envelope.payload.tokens, 30_000);
    // What was paid before the restart is not presented again.
    let mut bed = bed.restarted();
    let paid = bed.open_contract(30_000, ContractStatus::Normal);
    bed.chain(paid);
    assert!(wait(&mut bed, 2 * HOUR).is_none());
}

#[test]
fn an_outdated_contract_is_emptied_and_forgotten() {
    let mut bed = earned();
    let open = bed.open_contract(0, ContractStatus::Normal);
    bed.chain(open);
    let mut next = root();
    next.version += 1;
    next.params.params_version += 1;
    // Idle: the link goes at once; the contract waits half the client delay for the last signature.
    let fx = bed.step(WorkerEvent::Root(Box::new(next.clone())));
    assert!(closed(&fx).is_some());
    assert!(wait(&mut bed, 149_000).is_none());
    let sent = wait(&mut bed, 30_000).unwrap();
    bed.step(WorkerEvent::Transacted {
        ticket: sent.ticket,
        ok: true,
    });
    let paid = bed.open_contract(30_000, ContractStatus::Normal);
    let fx = bed.chain(paid);
    let sc = bed.worker_sc();
    assert!(
        fx.iter()
            .any(|e| matches!(e, WorkerEffect::Unwatch(a) if *a == sc))
    );
    assert!(bed.disk.is_empty());
    // The same contract again is refused: it does not follow from the new parameters.
    let fx = bed.up(2);
    let data = bed.connected(3);
    assert!(closed(&bed.answer(2, ask(&fx).0, data)).is_some());
}

#[test]
fn an_outdated_contract_that_was_never_deployed_still_pays() {
    let bed = earned();
    let mut next = root();
    next.version += 1;
    next.params.params_version += 1;
    let mut bed = bed.restarted();
    bed.step(WorkerEvent::Root(Box::new(next)));
    bed.chain(AccountState::NONEXISTENT);
    let sent = wait(&mut bed, 180_000).unwrap();
    let init = StateInit::decode(&sent.init.unwrap()).unwrap();
    assert_eq!(
        init.address,
        bed.worker_sc(),
        "made from the old parameters"
    );
    bed.step(WorkerEvent::Transacted {
        ticket: sent.ticket,
        ok: true,
    });
    let open = bed.open_contract(0, ContractStatus::Normal);
    assert!(transacted(&bed.chain(open)).unwrap().body.is_some());
}

#[test]
fn no_work_for_a_closed_contract() {
    let mut bed = earned();
    bed.down(1);
    let over = bed.open_contract(30_000, ContractStatus::Closed);
    assert!(transacted(&bed.chain(over)).is_none());
    let fx = bed.up(2);
    let data = bed.connected(3);
    let fx = bed.answer(2, ask(&fx).0, data);
    assert!(closed(&fx).unwrap().contains("closed"));
    assert!(!bed.disk.is_empty());
}

#[test]
fn strange_contracts_raise_one_alarm() {
    let mut bed = earned();
    let frozen = AccountState {
        status: AccountStatus::Frozen,
        ..AccountState::NONEXISTENT
    };
    assert!(transacted(&bed.chain(frozen.clone())).is_none());
    bed.chain(frozen);
    let foreign = AccountState {
        status: AccountStatus::Active,
        data: Some(cocoon_ton::Cell::default()),
        ..AccountState::NONEXISTENT
    };
    bed.chain(foreign);
    assert_eq!(bed.alarms.len(), 1);
    assert!(wait(&mut bed, 2 * HOUR).is_none());
}

/// The proxy could not pay and the contract took the payout back (W1): the same payment is presented again.
#[test]
fn a_payout_that_was_taken_back_is_presented_again() {
    let mut bed = earned();
    let at = |bed: &Bed, paid, last_lt| AccountState {
        last_lt,
        ..bed.open_contract(paid, ContractStatus::Normal)
    };
    let open = at(&bed, 0, 10);
    bed.chain(open);
    let sent = wait(&mut bed, HOUR + 30_000).unwrap();
    bed.step(WorkerEvent::Transacted {
        ticket: sent.ticket,
        ok: true,
    });
    let paid = at(&bed, 30_000, 20);
    bed.chain(paid);
    // An older state from a slow source says nothing; a newer one does.
    let old = at(&bed, 0, 10);
    bed.chain(old);
    assert!(wait(&mut bed, 2 * HOUR).is_none());
    let taken_back = at(&bed, 0, 30);
    let sent = transacted(&bed.chain(taken_back)).or_else(|| wait(&mut bed, HOUR));
    let envelope: Envelope = Envelope::decode(&sent.unwrap().body.unwrap()).unwrap();
    assert_eq!(envelope.payload.tokens, 30_000);
}
