//! The life of a proxy's contract on a small model of the chain: new root params, every payment before the close, a
//! crash after every step (protocol.md 5.8, contracts.md 14.7 and W22).

mod world;

use cocoon_node::proxy::ProxyEvent;
use cocoon_ton::Address;
use cocoon_ton::abi::{ContractStatus, ProxyMessage};

use world::{DELAY, DEPOSIT, REVENUE, TON, USED, World, address, root};

/// Everybody got what was his, once, before the close; and nothing of it is left on disk.
fn check_end(world: &World, old: Address) {
    let log = &world.log;
    let refund = DEPOSIT - u128::from(USED - 40) * 20;
    assert_eq!(
        world.count(&format!("refund {refund} at {USED}")),
        1,
        "{log:?}"
    );
    assert_eq!(world.count(&format!("payout {}", USED - 40)), 1, "{log:?}");
    assert_eq!(world.count(&format!("revenue {REVENUE}")), 1, "{log:?}");
    assert_eq!(
        (world.count("close"), world.count("complete")),
        (1, 1),
        "{log:?}"
    );
    let close = world.place("close");
    for paid in ["refund", "payout", "revenue"] {
        assert!(world.place(paid) < close, "{paid} after the close: {log:?}");
    }
    assert!(close < world.place("complete"));
    assert_ne!(world.core.contract(), old);
    let left: Vec<&String> = world.disk.keys().filter(|k| k.starts_with("old")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn everybody_is_paid_before_the_close() {
    let mut world = World::new();
    world.settle();
    assert_eq!(world.log, Vec::<String>::new(), "nothing was due");
    let old = world.core.contract();
    world.move_root(2);
    assert_eq!(
        world.core.contract(),
        old,
        "it serves until the next one is ready"
    );
    world.settle();
    check_end(&world, old);
    let stake = world.proxies[&world.core.contract()].0.stake;
    assert_eq!(stake, 2 * TON, "the usual stake of the new contract");
    assert!(
        world.place("stake") < world.place("refund"),
        "{:?}",
        world.log
    );
    assert!(world.core.books().clients.is_empty());
}

#[test]
fn a_kill_after_every_step_changes_nothing() {
    let steps = {
        let mut world = World::new();
        world.settle();
        world.move_root(2);
        let mut steps = 0;
        while world.count("complete") == 0 {
            if world.step() {
                steps += 1;
            } else {
                world.now += 60_000;
                world.tell();
            }
        }
        steps
    };
    assert!(steps >= 7, "{steps}");
    for kill in 0..=steps {
        let mut world = World::new();
        world.settle();
        let old = world.core.contract();
        world.move_root(2);
        let mut done = 0;
        while done < kill {
            if world.step() {
                done += 1;
            } else {
                world.now += 60_000;
                world.tell();
            }
        }
        world.restart();
        world.settle();
        check_end(&world, old);
    }
}

#[test]
fn two_changes_in_a_row_leave_no_stake_behind() {
    let mut world = World::new();
    world.settle();
    let first = world.core.contract();
    world.move_root(2);
    // The second contract is deployed and gets its stake; before it is used, the root moves on, and the process dies.
    while world.count("stake") == 0 {
        if !world.step() {
            world.tell();
        }
    }
    world.queue.clear();
    let second = *world.proxies.keys().find(|sc| **sc != first).unwrap();
    world.root = root(3);
    world.restart();
    world.settle();
    let third = world.core.contract();
    assert!(third != first && third != second);
    for old in [first, second] {
        assert_eq!(
            world.proxies[&old].0.status,
            ContractStatus::Closed,
            "{:?}",
            world.log
        );
    }
    assert!(world.disk.keys().all(|k| !k.starts_with("old")));
}

#[test]
fn a_deposit_that_comes_late_is_refunded_while_the_contract_is_open() {
    let mut world = World::new();
    world.settle();
    let old = world.core.contract();
    world.move_root(2);
    while world.core.contract() == old {
        if !world.step() {
            world.tell();
        }
    }
    world.top_up(old, address(77), 3 * TON);
    world.settle();
    assert_eq!(
        world.count(&format!("refund {} at 0", 3 * TON)),
        1,
        "{:?}",
        world.log
    );
    assert!(world.place(&format!("refund {}", 3 * TON)) < world.place("close"));
}

#[test]
fn a_deposit_at_a_closing_contract_is_never_refunded_twice() {
    let mut world = World::new();
    world.settle();
    let old = world.core.contract();
    world.move_root(2);
    while world.count("close") == 0 {
        if !world.step() {
            world.tell();
        }
    }
    // The contract pays it back at once, and the client's ledger counts it all the same (W22).
    world.top_up(old, address(77), 3 * TON);
    world.restart();
    world.settle();
    assert_eq!(
        world.count(&format!("refund {}", 3 * TON)),
        0,
        "{:?}",
        world.log
    );
    assert_eq!(world.count("complete"), 1, "it does not hold up the end");
    assert!(
        world
            .alarms
            .iter()
            .any(|a| a.contains("topped up at the closing contract"))
    );
}

#[test]
fn an_owner_who_closes_on_chain_is_followed() {
    let mut world = World::new();
    world.settle();
    let sc = world.core.contract();
    let (state, _) = world.proxies.get_mut(&sc).unwrap();
    state.status = ContractStatus::Closing;
    state.unlock_time = u32::try_from(world.now / 1000).unwrap() + DELAY;
    let close = ProxyMessage::Close {
        query_id: 1,
        excess_to: address(2),
    };
    world.transaction(sc, address(2), &close, true);
    world.tell();
    world.settle();
    let refund = DEPOSIT - u128::from(USED - 40) * 20;
    assert_eq!(
        world.count(&format!("refund {refund}")),
        1,
        "{:?}",
        world.log
    );
    assert_eq!((world.count("payout 60"), world.count("complete")), (1, 1));
    // It stays closed through a restart, and comes back with newer params.
    world.restart();
    world.settle();
    assert_eq!(world.count("deploy"), 0);
    world.move_root(2);
    world.settle();
    assert_ne!(world.core.contract(), sc);
    assert_eq!(world.count("deploy"), 1);
}

#[test]
fn the_operator_closes_the_contract() {
    let mut world = World::new();
    world.settle();
    let sc = world.core.contract();
    world.handle(ProxyEvent::Close);
    world.tell();
    world.restart();
    world.settle();
    assert_eq!((world.count("close"), world.count("complete")), (1, 1));
    assert!(world.place("refund") < world.place("close"));
    assert_eq!(world.core.contract(), sc, "there is no successor yet");
    assert_eq!(world.count("deploy"), 0);
    // Its books are put away: what a client's contract still says of it is compared with nothing and stops nobody.
    world.top_up(sc, address(9), TON);
    world.settle();
    assert_eq!(world.count("refund"), 1, "{:?}", world.log);
}

#[test]
fn too_few_coins_for_the_new_stake_stop_nothing() {
    let mut world = World::new();
    world.settle();
    let old = world.core.contract();
    world.wallet = TON;
    world.move_root(2);
    world.settle();
    assert_eq!(world.core.contract(), old, "the old contract serves on");
    assert_eq!(world.log, Vec::<String>::new());
    assert!(
        world.alarms.iter().any(|a| a.contains("send coins to")),
        "{:?}",
        world.alarms
    );
    world.wallet = 100 * TON;
    world.settle();
    check_end(&world, old);
}
