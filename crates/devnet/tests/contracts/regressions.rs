//! What the random lives found, as short sequences of its own.

use cocoon_ton::abi::{ClientMessage, ClientState, ContractStatus, SignedOp, WorkerState};
use cocoon_ton::{Address, Cell};

use crate::codes::Codes;
use crate::net::{Net, Terms, person};
use crate::world::{Send, TON, World};

fn top_up(coins: u128, excess_to: Address) -> Cell {
    ClientMessage::TopUp {
        query_id: 1,
        coins,
        excess_to,
    }
    .encode()
    .unwrap()
}

fn withdraw(excess_to: Address) -> Cell {
    ClientMessage::Withdraw {
        query_id: 2,
        excess_to,
    }
    .encode()
    .unwrap()
}

fn client(world: &World, address: &Address) -> ClientState {
    ClientState::decode(world.data(address).unwrap()).unwrap()
}

/// A deposit at a proxy that does not exist, withdrawn before its bounce is back, must not become money when the
/// withdrawal bounces too: the proxy may be deployed later and hold the coins of others.
#[test]
fn a_deposit_that_came_back_is_not_withdrawn_as_well() {
    let net = Net::new(&Codes::built(), Terms::default());
    let mut world = World::new();
    let owner = person(1);
    let init = net.client(owner);
    world.install(&init, 8 * TON / 10);
    world.push(Send::new(
        owner,
        init.address,
        41 * TON,
        top_up(40 * TON, owner),
    ));
    world.push(Send::new(owner, init.address, TON, withdraw(owner)));
    world.run();
    let state = client(&world, &init.address);
    assert_eq!((state.balance, state.status), (0, ContractStatus::Closed));
    assert!(
        world.balance(&owner) > 41 * TON,
        "all coins but fees came back"
    );
    // The proxy appears, with coins. Nothing opens the client again.
    world.install(&net.proxy, 100 * TON);
    world.send(Send::new(owner, init.address, TON, withdraw(owner)));
    let refund = ClientMessage::RequestRefund {
        query_id: 3,
        excess_to: owner,
    };
    world.jump(net.params.client_delay + 1);
    world.send(Send::new(
        owner,
        init.address,
        TON,
        refund.encode().unwrap(),
    ));
    let grant = net.signed(SignedOp::ClientGrantRefund, init.address, 0, 4, owner);
    world.send(Send::new(owner, init.address, TON, grant));
    assert!(world.balance(&net.proxy.address) >= 100 * TON);
    world.check_conserved().unwrap();
}

/// No value that a relayer can choose makes a payout disappear on the way through a worker contract without coins.
#[test]
fn a_poor_worker_contract_loses_no_payout() {
    let net = Net::new(&Codes::built(), Terms::default());
    let (owner, relayer) = (person(2), person(3));
    let mut paid = 0;
    for own in [1, TON / 100, TON / 10] {
        let mut ready = World::new();
        ready.install(&net.proxy, 10 * TON);
        let init = net.worker(owner);
        ready.install(&init, own);
        for extra in 0..400 {
            let mut world = ready.clone();
            let value = TON / 10 + 1 + extra * 300_000;
            let body = net.signed(
                SignedOp::WorkerPayout,
                init.address,
                100_000_000,
                2,
                relayer,
            );
            world.send(Send::new(relayer, init.address, value, body));
            let data = world.data(&init.address).unwrap();
            let tokens = WorkerState::decode(data).unwrap().tokens_paid;
            assert_eq!(
                world.balance(&owner),
                u128::from(tokens) * net.params.worker_fee_per_token,
                "own coins {own}, value {value}"
            );
            paid += u32::from(tokens > 0);
        }
    }
    assert!(paid > 0, "no value was enough");
}
