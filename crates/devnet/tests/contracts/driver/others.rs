//! Messages for the proxy, the wallets and the root.
use cocoon_ton::abi::{
    ClientLedger, ClientRequestPayload, ContractStatus, NetAddress, ProxyMessage, RootMessage,
    SaveState, SignedOp, TextCommand, WalletMessage, WorkerRequestPayload,
};
use cocoon_ton::wallet::{InternalMessage, Outgoing, Transfer};
use cocoon_ton::{Cell, CellBuilder};
use ed25519_dalek::{Signer, SigningKey};

use super::parties::{signed, sweep};
use super::{deliver, mostly, receiver, value};
use crate::rng::Rng;
use crate::sim::{Sim, Spent, nowhere, people};
use crate::world::{Send, TON};

pub fn proxy_message(sim: &Sim, rng: &mut Rng) -> Send {
    let to = sim.net.proxy.address;
    let from = mostly(rng, sim.net.proxy_owner);
    let excess_to = receiver(sim, rng, from);
    let query_id = rng.below(4);
    let closing = sim
        .proxy()
        .is_some_and(|proxy| proxy.status == ContractStatus::Closing);
    let choice = if closing && rng.percent(40) {
        13
    } else {
        rng.below(30)
    };
    let (coins, body) = match choice {
        0..=4 => (
            0,
            ProxyMessage::PayRevenue {
                query_id,
                excess_to,
            }
            .encode()
            .unwrap(),
        ),
        5..=10 => {
            let coins = rng.coins(5 * TON);
            (
                coins,
                ProxyMessage::IncreaseStake {
                    query_id,
                    coins,
                    excess_to,
                }
                .encode()
                .unwrap(),
            )
        }
        11 | 29 => (
            0,
            ProxyMessage::Close {
                query_id,
                excess_to,
            }
            .encode()
            .unwrap(),
        ),
        12 => (0, signed(sim, rng, SignedOp::ProxyClose, to, 0, excess_to)),
        13 | 14 => (
            0,
            signed(sim, rng, SignedOp::ProxyCloseComplete, to, 0, excess_to),
        ),
        15..=20 => {
            let character = *rng.pick(b"wwwwcxu");
            (
                0,
                ProxyMessage::Text(TextCommand { character })
                    .encode()
                    .unwrap(),
            )
        }
        21 => {
            let save = SaveState {
                query_id,
                seqno: 7,
                session_hash: [9; 32],
            };
            (0, ProxyMessage::SaveState(save).encode().unwrap())
        }
        _ => return forged_request(sim, rng),
    };
    Send::new(from, to, value(rng, coins), body)
}

/// A request to the proxy that no client or worker contract has sent.
fn forged_request(sim: &Sim, rng: &mut Rng) -> Send {
    let to = sim.net.proxy.address;
    let client = rng.pick(&sim.clients).clone();
    let worker = rng.pick(&sim.workers).clone();
    // The same account number in another workchain, an owner, a stranger.
    let mut twin = if rng.percent(50) {
        client.init.address
    } else {
        worker.init.address
    };
    twin.workchain = -1;
    let from = *rng.pick(&[
        twin,
        client.owner,
        worker.owner,
        people()[0],
        sim.net.proxy_owner,
    ]);
    let from = if from == nowhere() { people()[1] } else { from };
    let coins = rng.coins(20 * TON);
    let excess_to = from;
    let query_id = 1;
    let payload = match rng.below(5) {
        0 => Some(ClientRequestPayload::TopUp { coins, excess_to }),
        1 => Some(ClientRequestPayload::RefundGranted { coins, excess_to }),
        2 => Some(ClientRequestPayload::RefundForced { coins, excess_to }),
        3 => Some(ClientRequestPayload::Register { nonce: 5 }),
        _ => None,
    };
    let message = if rng.percent(60) {
        let ledger = ClientLedger {
            status: ContractStatus::Normal,
            balance: coins,
            stake: 0,
            tokens_used: 1,
            secret_hash: [0; 32],
        };
        ProxyMessage::ClientRequest {
            query_id,
            owner: client.owner,
            ledger,
            payload,
        }
    } else {
        let payload = WorkerRequestPayload::Payout {
            worker_part: coins,
            proxy_part: coins / 2,
            excess_to,
        };
        ProxyMessage::WorkerRequest {
            query_id,
            owner: worker.owner,
            status: ContractStatus::Normal,
            tokens: 5,
            payload: rng.percent(80).then_some(payload),
        }
    };
    Send::new(from, to, value(rng, 0), message.encode().unwrap())
}

/// What a wallet is told to send: never to another contract of the network, so that the tests alone move coins there.
fn wallet_order(sim: &Sim, rng: &mut Rng) -> (u8, InternalMessage) {
    let to = match rng.below(6) {
        0 => nowhere(),
        1 => sim.net.proxy.address,
        _ => *rng.pick(&people()),
    };
    let order = InternalMessage {
        to,
        value: *rng.pick(&[0, 1, TON / 10, TON, 30 * TON, 400 * TON]),
        bounce: rng.percent(50),
        init: None,
        body: rng.percent(50).then(|| sweep(3)),
    };
    (*rng.pick(&[0, 1, 3, 128]), order)
}

pub fn wallet_message(sim: &Sim, rng: &mut Rng) -> Send {
    let party = rng.pick(&sim.wallets).clone();
    let to = party.init.address;
    let from = mostly(rng, party.owner);
    let message = if rng.percent(40) {
        let (mode, order) = wallet_order(sim, rng);
        WalletMessage::Send {
            query_id: 1,
            mode,
            message: order.encode().unwrap(),
        }
    } else {
        WalletMessage::Text(TextCommand {
            character: *rng.pick(b"wbubuxu"),
        })
    };
    Send::new(from, to, value(rng, 0), message.encode().unwrap())
}

pub fn wallet_transfer(sim: &mut Sim, rng: &mut Rng) -> Result<(), String> {
    let party = rng.pick(&sim.wallets).clone();
    let to = party.init.address;
    if sim.world.data(&to).is_none() {
        return Ok(());
    }
    if rng.percent(15) && !sim.externals.is_empty() {
        let (to, body) = rng.pick(&sim.externals).clone();
        sim.external(to, body)?;
        return sim.run();
    }
    let state = sim.wallet(&to).clone();
    let now = sim.world.now();
    let messages = (0..rng.below(5))
        .map(|_| {
            let (mode, order) = wallet_order(sim, rng);
            Outgoing {
                mode,
                message: order.encode().unwrap(),
            }
        })
        .collect();
    let mut transfer = Transfer {
        subwallet: state.subwallet,
        valid_until: now + 3600,
        seqno: state.seqno,
        messages,
    };
    let mut key = sim.hot_key.clone();
    match rng.below(24) {
        0 => transfer.seqno += 1,
        1 => transfer.seqno = transfer.seqno.wrapping_sub(1),
        2 => transfer.valid_until = now,
        3 => transfer.valid_until = now + 1,
        4 => transfer.subwallet += 1,
        5 => key = SigningKey::from_bytes(&[0x78; 32]),
        _ => {}
    }
    let body = if rng.percent(5) {
        without_mode(&transfer, &key)
    } else {
        crate::net::transfer(transfer, &key)
    };
    if sim.external(to, body.clone())? {
        sim.spent.push(Spent::External(to, body));
    }
    sim.run()
}

pub fn governance(sim: &mut Sim, rng: &mut Rng) -> Result<(), String> {
    let to = sim.net.root.address;
    let owner = sim.root().owner;
    let from = mostly(rng, owner);
    let query_id = rng.below(4);
    let hash = [rng.below(5) as u8; 32];
    let registered = sim.root().proxies.keys().next().copied();
    let seqno = match registered {
        Some(seqno) if rng.percent(60) => seqno,
        _ => rng.below(4) as u32,
    };
    let texts = ["203.0.113.5:9002", "203.0.113.5:9002 203.0.113.6:9003", ""];
    let address = NetAddress::new(texts[rng.below(3) as usize]).unwrap();
    let price = rng.coins(1000);
    let fee = rng.coins(price + 1 + price / 4);
    let codes = &sim.net.codes;
    let message = match rng.below(16) {
        0 => RootMessage::AddWorkerHash { query_id, hash },
        1 => RootMessage::DeleteWorkerHash { query_id, hash },
        2 => RootMessage::AddModelHash { query_id, hash },
        3 => RootMessage::DeleteModelHash { query_id, hash },
        4 => RootMessage::AddProxyHash { query_id, hash },
        5 => RootMessage::DeleteProxyHash { query_id, hash },
        6 | 7 => RootMessage::RegisterProxy { query_id, address },
        8 => RootMessage::UnregisterProxy { query_id, seqno },
        9 => RootMessage::UpdateProxy {
            query_id,
            seqno,
            address,
        },
        10 => RootMessage::ChangePrice {
            query_id,
            price_per_token: price,
            worker_fee_per_token: fee,
        },
        11 => RootMessage::ChangeParams {
            query_id,
            price_per_token: price,
            worker_fee_per_token: fee,
            proxy_delay: rng.below(3) as u32,
            client_delay: rng.below(6) as u32,
            min_proxy_stake: rng.below(6).into(),
            min_client_stake: rng.below(6).into(),
        },
        12 => RootMessage::ReplaceContractCodes {
            query_id,
            proxy: codes.proxy.clone(),
            worker: codes.client.clone(),
            client: codes.worker.clone(),
        },
        13 => RootMessage::ReplaceCode {
            query_id,
            code: codes.root.clone(),
        },
        14 => RootMessage::ChangeOwner {
            query_id,
            owner: *rng.pick(&[people()[0], people()[2], sim.net.root_owner]),
        },
        _ if rng.percent(50) => RootMessage::Reset { query_id },
        _ => RootMessage::ReplaceDataAndCode {
            query_id,
            data: sim.net.root.data.clone(),
            code: codes.root.clone(),
        },
    };
    let coins = *rng.pick(&[TON / 100, TON / 100, TON / 20, 1, 100_000]);
    let mut send = Send::new(from, to, coins, message.encode().unwrap());
    // A net address with the wrong type, which no typed message can carry.
    if rng.percent(8) {
        let mut b = CellBuilder::new();
        b.store_u32(cocoon_ton::abi::op::ROOT_REGISTER_PROXY)
            .unwrap();
        b.store_u64(query_id).unwrap();
        b.store_u8(0x80).unwrap();
        send.body = b.build().unwrap();
    } else if rng.percent(8) {
        let slice = send.body.as_slice_allow_exotic();
        let left = rng.below(u64::from(slice.size_bits()) + 1) as u16;
        let mut b = CellBuilder::new();
        b.store_slice(slice.get_prefix(left, 0)).unwrap();
        send.body = b.build().unwrap();
    }
    deliver(sim, rng, send)
}

/// A signed transfer with a message but no mode for it: it fails after it was accepted.
fn without_mode(transfer: &Transfer, key: &SigningKey) -> Cell {
    let mut part = CellBuilder::new();
    part.store_u32(transfer.subwallet).unwrap();
    part.store_u32(transfer.valid_until).unwrap();
    part.store_u32(transfer.seqno).unwrap();
    part.store_reference(Cell::default()).unwrap();
    let part = part.build().unwrap();
    let mut b = CellBuilder::new();
    let signature = key.sign(part.repr_hash().as_slice()).to_bytes();
    b.store_raw(&signature, 512).unwrap();
    b.store_slice(part.as_slice_allow_exotic()).unwrap();
    b.build().unwrap()
}
