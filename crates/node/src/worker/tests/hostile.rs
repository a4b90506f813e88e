//! Whatever a proxy sends, the worker neither panics nor leaves the protocol.

use cocoon_engine::BackendEvent;
use proptest::prelude::*;

use super::bed::*;
use crate::link::{AskError, LinkEvent, LinkId};
use crate::proto;
use crate::worker::{WorkerEffect, WorkerEvent};

/// A valid packet, so that damage reaches the depths of the parsers.
fn packet(bed: &Bed, kind: u8) -> Vec<u8> {
    match kind % 5 {
        0 => proto::proxy_run_query(0, query(kind, CHAT)),
        1 => proto::proxy_run_query(3, query(kind, CHAT)),
        2 => proto::proxy_cancel([kind; 32]),
        3 => proto::worker_request_payment([1; 32], &bed.status(5, 6, 7), 1, "c"),
        _ => bed.connected(3),
    }
}

fn damaged(mut data: Vec<u8>, at: usize, bit: u8, cut: usize) -> Vec<u8> {
    let len = data.len();
    data[at % len] ^= 1 << (bit % 8);
    data.truncate(len - cut % len);
    data
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_packets_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bed = Bed::new();
        bed.connect(1, 3, (0, 0, 0));
        bed.packet(1, data.clone());
        bed.up(2);
        bed.packet(2, data.clone());
        let (link, id) = (LinkId(2), 1);
        bed.step(WorkerEvent::Link(LinkEvent::Query { link, id, data }));
    }

    #[test]
    fn damaged_packets_never_panic(
        kind in 0u8..5, at in any::<usize>(), bit in any::<u8>(), cut in 0usize..3,
    ) {
        let mut bed = Bed::new();
        bed.connect(1, 3, (0, 0, 0));
        bed.packet(1, damaged(packet(&bed, kind), at, bit, cut * cut * 8));
        // A live link still works, a closed one is gone: nothing in between. The id differs from the packet's,
        // because a reused one closes the link.
        let ready = bed.core.ready_links();
        let fx = bed.run(1, 3, 200, CHAT);
        prop_assert_eq!(started(&fx).is_some() || !answers(&fx).is_empty(), ready == 1);
    }

    #[test]
    fn damaged_answers_never_panic(
        step in 0u8..4, at in any::<usize>(), bit in any::<u8>(), cut in 0usize..3,
    ) {
        let mut bed = Bed::new();
        let mut fx = bed.up(1);
        for now in 0..4 {
            let data = match now {
                0 => bed.connected(3),
                1 => bed.compared(0, 0, 0, 0),
                2 => cocoon_tl::to_boxed(&cocoon_wire::msg::worker::ProxyHandshakeCompleted {}),
                _ => proto::worker_payment_status(&bed.status(0, 0, 9)),
            };
            let data = if now == step { damaged(data, at, bit, cut * 8) } else { data };
            fx = bed.answer(1, ask(&fx).0, data);
            if closed(&fx).is_some() {
                prop_assert_eq!(bed.core.stats()["links"].as_u64(), Some(0));
                break;
            }
            if now == 2 {
                fx = bed.after(20_000);
            }
        }
    }

    /// Any order of events: no panic, no leak of requests, and money only for what is on disk.
    #[test]
    fn any_order_of_events(events in proptest::collection::vec((0u8..16, 0u64..4, any::<u8>()), 0..80)) {
        let mut bed = Bed::new();
        let (mut tickets, mut numbers) = (vec![0u64], vec![0u64]);
        for (kind, link, n) in events {
            bed.now += 700;
            let pick = |list: &Vec<u64>| list[n as usize % list.len()];
            let (ticket, number) = (pick(&tickets), pick(&numbers));
            let fx = match kind {
                0 => bed.up(link),
                1 => { let d = bed.connected(i32::from(n % 4)); bed.answer(link, ticket, d) }
                2 => { let d = bed.compared(u64::from(n), u64::from(n), u64::from(n), i32::from(n % 2)); bed.answer(link, ticket, d) }
                3 => bed.answer(link, ticket, cocoon_tl::to_boxed(&cocoon_wire::msg::worker::ProxyHandshakeCompleted {})),
                4 => bed.run(link, 3, n, CHAT),
                5 => bed.down(link),
                6 => bed.backend(number, head(200)),
                7 => bed.backend(number, BackendEvent::Body(vec![n; 9].into())),
                8 => bed.backend(number, BackendEvent::End),
                9 => bed.backend(number, BackendEvent::Failed { status: 500, message: "x".into() }),
                10 => bed.after(u64::from(n) * 1000),
                11 => bed.payment(link, u64::from(n) * 100_000, u64::from(n) * 100_000, u64::from(n) * 100_000),
                12 => { let s = bed.open_contract(u64::from(n), cocoon_ton::abi::ContractStatus::Normal); bed.chain(s) }
                13 => bed.step(WorkerEvent::Transacted { ticket, ok: n % 2 == 0 }),
                14 => bed.answered(link, ticket, Err(AskError::Timeout)),
                _ => bed.connect_if_possible(link),
            };
            for e in &fx {
                match e {
                    WorkerEffect::Start { request, .. } => numbers.push(*request),
                    WorkerEffect::Link(crate::link::LinkEffect::Ask { ticket, .. }) | WorkerEffect::Transact { ticket, .. } => tickets.push(*ticket),
                    _ => {}
                }
            }
            prop_assert!(bed.core.running() <= 2);
        }
        for link in 0..4 {
            bed.down(link);
        }
        prop_assert_eq!(bed.core.running(), 0);
        bed.restarted();
    }
}

impl Bed {
    /// A handshake as far as it goes.
    fn connect_if_possible(&mut self, link: u64) -> Vec<WorkerEffect> {
        self.down(link);
        let stats = self.core.stats();
        let n = |k: &str| stats["proxies"][0][k].as_u64().unwrap_or(0);
        let amounts = (n("signed_tokens"), n("saved_tokens"), n("tokens"));
        self.connect(link, 3, amounts)
    }
}
