//! Claims, signed payments and the disk (protocol.md 4.3, contracts.md 14.5).

use cocoon_tl::to_boxed;
use cocoon_wire::msg::worker::{self, WorkerQuery};
use cocoon_wire::msg::{proxy, worker as w};

use super::bed::*;
use crate::proto;
use crate::worker::{WorkerCore, WorkerEvent};

fn claims(bed: &Bed) -> (u64, u64, u64) {
    let stats = bed.core.stats();
    let p = &stats["proxies"][0];
    let n = |k: &str| p[k].as_u64().unwrap();
    (n("signed_tokens"), n("saved_tokens"), n("tokens"))
}

/// The handshake up to the comparison.
fn comparing(bed: &mut Bed, link: u64) -> (u64, w::CompareBalanceWithProxy) {
    let fx = bed.up(link);
    let data = bed.connected(3);
    let fx = bed.answer(link, ask(&fx).0, data);
    match asked(&fx) {
        WorkerQuery::CompareBalanceWithProxy(q) => (ask(&fx).0, q),
        _ => panic!("a comparison is asked"),
    }
}

#[test]
fn payments_raise_what_is_known_and_survive_a_crash() {
    let mut bed = Bed::new();
    bed.connect(1, 3, (0, 0, 0));
    assert!(closed(&bed.payment(1, 0, 0, 40)).is_none());
    assert!(closed(&bed.payment(1, 30, 40, 90)).is_none());
    assert_eq!(claims(&bed), (30, 40, 90));
    let mut bed = bed.restarted();
    let (_, q) = comparing(&mut bed, 1);
    let told = (
        q.tokens_committed_to_blockchain,
        q.tokens_committed_to_db,
        q.max_tokens,
    );
    assert_eq!(told, (30, 40, 90));
}

#[test]
fn a_proxy_cannot_go_back_on_a_link() {
    for (signed, db, max, word) in [
        (29, 40, 90, "tokens_committed_to_blockchain is too low"),
        (30, 39, 90, "tokens_committed_to_db is too low"),
        (30, 40, 89, "max_tokens is too low"),
    ] {
        let mut bed = Bed::new();
        bed.connect(1, 3, (30, 40, 90));
        let n = bed.start(1, 3, 1);
        let fx = bed.payment(1, signed, db, max);
        assert!(closed(&fx).unwrap().contains(word));
        assert_eq!(cancelled(&fx), [n]);
        assert_eq!(bed.alarms.len(), 1);
        assert_eq!(claims(&bed), (30, 40, 90));
    }
}

#[test]
fn a_rolled_back_proxy_is_refused_even_after_our_restart() {
    for (signed, db, max, code) in [(29, 40, 90, 0), (30, 39, 90, 1), (30, 40, 89, 0)] {
        let mut bed = Bed::new();
        bed.connect(1, 3, (30, 40, 90));
        let mut bed = bed.restarted();
        let (ticket, _) = comparing(&mut bed, 1);
        let data = bed.compared(signed, db, max, code);
        let fx = bed.answer(1, ticket, data);
        assert!(closed(&fx).unwrap().contains("too low"));
        assert_eq!(bed.alarms.len(), 1);
        assert_eq!(claims(&bed), (30, 40, 90));
    }
}

#[test]
fn totals_lost_before_they_were_saved_are_given_up() {
    let mut bed = Bed::new();
    bed.connect(1, 3, (30, 40, 90));
    bed.down(1);
    let (ticket, _) = comparing(&mut bed, 2);
    let data = bed.compared(30, 50, 60, 1);
    let fx = bed.answer(2, ticket, data);
    let WorkerQuery::ExtendedCompareBalanceWithProxy(q) = asked(&fx) else {
        panic!("the extended comparison follows")
    };
    assert_eq!(q.tokens_committed_to_db, 50);
    let refused = to_boxed(&worker::ExtendedCompareBalanceWithProxyResult { error_code: 5 });
    let ok = to_boxed(&worker::ExtendedCompareBalanceWithProxyResult { error_code: 0 });
    let fx = bed.answer(2, ask(&fx).0, ok);
    assert!(matches!(asked(&fx), WorkerQuery::ProxyHandshakeComplete(_)));
    assert_eq!(claims(&bed), (30, 50, 60));
    // The next one agrees again.
    bed.down(2);
    bed.connect(3, 3, (30, 50, 60));
    assert_eq!(bed.core.ready_links(), 1);
    // A refusal ends it.
    let (ticket, _) = comparing(&mut bed, 4);
    let data = bed.compared(30, 50, 55, 1);
    let fx = bed.answer(4, ticket, data);
    let fx = bed.answer(4, ask(&fx).0, refused);
    assert!(closed(&fx).unwrap().contains("code 5"));
    assert_eq!(claims(&bed), (30, 50, 60));
}

#[test]
fn only_valid_payments_count() {
    let other = payment_for(&Bed::new(), 99);
    for (boc, part) in [
        (None, "no signed payment"),
        (Some(vec![1, 2, 3]), "not a signed payment"),
        (Some(other), "the payment is for contract"),
    ] {
        let mut bed = Bed::new();
        let (ticket, _) = comparing(&mut bed, 1);
        let mut status = bed.status(0, 0, 0);
        status.signed_payment = boc.clone();
        let fx = bed.answer(1, ticket, proto::worker_compare_result(&status, 0));
        let reason = closed(&fx).unwrap();
        assert!(reason.contains(part), "{part}: {reason}");
        assert!(
            bed.disk.is_empty(),
            "a proxy that proves nothing leaves no trace"
        );

        bed.connect(2, 3, (1, 1, 1));
        status.max_tokens = 5;
        let data = proto::worker_request_payment([0; 32], &status, 1, "c");
        assert!(closed(&bed.packet(2, data)).unwrap().contains(part));
        assert_eq!(claims(&bed), (1, 1, 1));
    }
    // Negative amounts are no amounts.
    let mut bed = Bed::new();
    let (ticket, _) = comparing(&mut bed, 1);
    let data = to_boxed(&w::CompareBalanceWithProxyResult {
        signed_payment: proxy::SignedPayment::signed(bed.boc(0)),
        tokens_committed_to_db: -1,
        max_tokens: 0,
        error_code: 0,
    });
    assert!(
        closed(&bed.answer(1, ticket, data))
            .unwrap()
            .contains("impossible")
    );
}

fn payment_for(bed: &Bed, tokens: u64) -> Vec<u8> {
    let op = cocoon_ton::abi::SignedOp::WorkerPayout;
    crate::payment::sign(&bed.key, op, address(70), tokens, 1, address(8)).unwrap()
}

#[test]
fn payments_with_requests_and_alone_are_taken_if_higher() {
    let mut bed = Bed::new();
    bed.connect(1, 3, (10, 10, 10));
    let mut q = query(1, CHAT);
    q.signed_payment = Some(bed.boc(25));
    bed.packet(1, proto::proxy_run_query(3, q));
    assert_eq!(claims(&bed).0, 25);
    // A worthless one does not stop the request.
    let mut q = query(2, CHAT);
    q.signed_payment = Some(payment_for(&bed, 99));
    let fx = bed.packet(1, proto::proxy_run_query(3, q));
    assert!(started(&fx).is_some());
    assert_eq!(bed.alarms.len(), 1);
    assert_eq!(claims(&bed).0, 25);
    let alone = to_boxed(&proxy::SignedPaymentData { data: bed.boc(26) });
    bed.packet(1, alone);
    assert_eq!(claims(&bed).0, 26);
    let lower = to_boxed(&proxy::SignedPaymentData { data: bed.boc(3) });
    assert!(closed(&bed.packet(1, lower)).is_none());
    assert!(closed(&bed.packet(1, to_boxed(&proxy::SignedPaymentEmpty {}))).is_none());
    assert_eq!(claims(&bed).0, 26);
}

#[test]
fn status_is_asked_every_10_to_20_seconds_and_only_raises() {
    let mut bed = Bed::new();
    bed.connect(1, 3, (10, 20, 30));
    let mut at = Vec::new();
    for second in 1..=200u64 {
        let fx = bed.after(1000);
        if !fx.is_empty() {
            let (ticket, _, timeout) = ask(&fx);
            assert!(matches!(asked(&fx), WorkerQuery::UpdatePaymentStatus(_)));
            assert_eq!(timeout, 60_000);
            at.push(second);
            // Lower amounts are ignored here: an answer may be overtaken.
            let status = bed.status(5, 5, 5);
            let fx = bed.answer(1, ticket, proto::worker_payment_status(&status));
            assert!(closed(&fx).is_none());
        }
    }
    assert!(
        at.windows(2).all(|w| (10..=21).contains(&(w[1] - w[0]))),
        "{at:?}"
    );
    assert!(at.len() >= 9);
    assert_eq!(claims(&bed), (10, 20, 30));
    // A silent proxy is not asked twice, and closed by the timeout.
    let fx = loop {
        let fx = bed.after(1000);
        if !fx.is_empty() {
            break fx;
        }
    };
    assert!(bed.after(25_000).is_empty());
    let fx = bed.answered(1, ask(&fx).0, Err(crate::link::AskError::Timeout));
    assert!(closed(&fx).is_some());
}

#[test]
fn links_that_overtake_each_other_are_no_rollback() {
    let mut bed = Bed::new();
    bed.connect(1, 3, (0, 0, 0));
    let (ticket, _) = comparing(&mut bed, 2);
    let compared = bed.compared(0, 0, 10, 0);
    // Said later, heard earlier: link 1 is faster.
    assert!(closed(&bed.payment(1, 5, 10, 50)).is_none());
    let fx = bed.answer(2, ticket, compared);
    let done = to_boxed(&worker::ProxyHandshakeCompleted {});
    bed.answer(2, ask(&fx).0, done);
    assert!(closed(&bed.payment(2, 5, 5, 40)).is_none());
    assert!(closed(&bed.payment(1, 5, 10, 60)).is_none());
    assert_eq!(claims(&bed), (5, 10, 60));
    // Within a link the order holds.
    assert!(closed(&bed.payment(2, 5, 5, 39)).is_some());
}

#[test]
fn damaged_records_are_refused_and_kept() {
    let mut bed = Bed::new();
    bed.connect(1, 3, (10, 20, 30));
    let open = |disk: &std::collections::BTreeMap<String, Vec<u8>>| {
        WorkerCore::new(config(), root(), disk.clone().into_iter().collect(), T0)
    };
    assert!(open(&bed.disk).is_ok());
    let account = bed
        .disk
        .keys()
        .find(|k| k.starts_with("account_"))
        .unwrap()
        .clone();
    let init = bed
        .disk
        .keys()
        .find(|k| k.starts_with("init_"))
        .unwrap()
        .clone();
    for change in [
        (account.clone(), Some(b"{}".to_vec())),
        (init.clone(), Some(vec![1])),
        (init, None),
        ("nonsense".into(), Some(vec![])),
    ] {
        let mut disk = bed.disk.clone();
        match change.1 {
            Some(v) => disk.insert(change.0, v),
            None => disk.remove(&change.0),
        };
        assert!(open(&disk).is_err());
    }
    let mut disk = bed.disk.clone();
    let text = String::from_utf8(disk[&account].clone()).unwrap();
    let swapped = text.replace(
        &hex::encode(bed.boc(10)),
        &hex::encode(payment_for(&bed, 10)),
    );
    assert_ne!(swapped, text);
    disk.insert(account, swapped.into_bytes());
    assert!(open(&disk).is_err());
}

#[test]
fn one_batch_is_written_at_a_time() {
    let mut bed = Bed::new();
    bed.connect(1, 3, (0, 0, 0));
    bed.auto_save = false;
    let saves = |fx: &[crate::worker::WorkerEffect]| {
        fx.iter()
            .filter_map(|e| match e {
                crate::worker::WorkerEffect::Save { number, .. } => Some(*number),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let first = saves(&bed.payment(1, 0, 0, 1));
    assert_eq!(first.len(), 1);
    assert!(saves(&bed.payment(1, 0, 0, 2)).is_empty());
    assert!(saves(&bed.payment(1, 0, 0, 3)).is_empty());
    assert!(saves(&bed.step(WorkerEvent::Saved(99))).is_empty());
    assert_eq!(
        saves(&bed.step(WorkerEvent::Saved(first[0]))),
        [first[0] + 1]
    );
}
