//! The world itself: one life of a client and a worker.

use cocoon_ton::abi::{ClientMessage, ClientState, SignedOp, WorkerState};

use crate::codes::Codes;
use crate::net::{Net, Terms, person};
use crate::world::{Send, TON, World};

#[test]
fn a_life() {
    let net = Net::new(&Codes::built(), Terms::default());
    let mut world = World::new();
    world.install(&net.proxy, TON);
    let (owner, worker_owner, relayer) = (person(1), person(2), person(3));
    let client = net.client(owner);
    let worker = net.worker(worker_owner);
    assert_eq!(
        world.deploy(owner, &client, 8 * TON / 10).exit_code,
        Some(0)
    );
    assert_eq!(
        world.deploy(owner, &worker, 3 * TON / 10).exit_code,
        Some(0)
    );
    let top_up = ClientMessage::TopUp {
        query_id: 1,
        coins: 5 * TON,
        excess_to: owner,
    };
    let txs = world.send(Send::new(
        owner,
        client.address,
        6 * TON,
        top_up.encode().unwrap(),
    ));
    assert!(txs[0].succeeded() && txs[1].succeeded(), "{txs:#?}");
    assert_eq!(world.balance(&net.proxy.address), 6 * TON);
    let payout = net.signed(
        SignedOp::WorkerPayout,
        worker.address,
        100_000_000,
        2,
        relayer,
    );
    let txs = world.send(Send::new(relayer, worker.address, TON, payout));
    assert_eq!(txs.len(), 4);
    assert_eq!(world.balance(&worker_owner), 15 * TON / 10);
    let charge = net.signed(SignedOp::ClientCharge, client.address, 1_000, 2, relayer);
    world.send(Send::new(relayer, client.address, TON, charge));
    let state = ClientState::decode(world.data(&client.address).unwrap()).unwrap();
    assert_eq!(state.balance, 5 * TON - 20_000);
    let state = WorkerState::decode(world.data(&worker.address).unwrap()).unwrap();
    assert_eq!(state.tokens_paid, 100_000_000);
    world.check_conserved().unwrap();
}
