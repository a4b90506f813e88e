//! Handshakes: what is asked, what is checked, what is told (protocol.md 3.3, 4.1–4.4).

use std::sync::Arc;

use cocoon_attest::VerifiedClaims;
use cocoon_attest::claims::{Network, ProtocolRange, Role, RootContract};
use cocoon_tl::to_boxed;
use cocoon_wire::msg::worker::{self, WorkerQuery};

use super::bed::*;
use crate::link::{AskError, LinkEffect, LinkEvent, LinkId, PeerInfo};
use crate::proto;
use crate::worker::{WorkerEffect, WorkerEvent};

#[test]
fn a_good_proxy_comes_into_service() {
    let mut bed = Bed::new();
    let fx = bed.up(1);
    assert_eq!(ask(&fx).2, 30_000);
    let WorkerQuery::ConnectToProxy(q) = asked(&fx) else {
        panic!("the first question is connectToProxy")
    };
    assert_eq!(
        q.params.worker_owner_address,
        address(2).to_text(false, true)
    );
    assert_eq!(
        (q.params.model.as_str(), q.params.coefficient),
        (MODEL, 2000)
    );
    let setup = q.params.setup.unwrap();
    assert_eq!(
        (setup.is_test, setup.proxy_cnt, setup.max_active_requests),
        (true, 1, 2)
    );
    let versions = q.params.versions.unwrap();
    assert_eq!(
        (versions.min_proto_version, versions.max_proto_version),
        (1, 3)
    );

    let data = bed.connected(3);
    let fx = bed.answer(1, ask(&fx).0, data);
    let WorkerQuery::CompareBalanceWithProxy(q) = asked(&fx) else {
        panic!("then the comparison")
    };
    assert_eq!((q.tokens_committed_to_blockchain, q.max_tokens), (0, 0));

    // The last step waits for the disk.
    bed.auto_save = false;
    let data = bed.compared(0, 0, 0, 0);
    let fx = bed.answer(1, ask(&fx).0, data);
    let sc = bed.worker_sc();
    assert!(
        fx.iter()
            .any(|e| matches!(e, WorkerEffect::Watch(a) if *a == sc))
    );
    let [WorkerEffect::Save { number, batch }] = &fx[1..] else {
        panic!("only a save, found {fx:?}")
    };
    assert_eq!(batch.len(), 2);
    let number = *number;
    bed.auto_save = true;
    let fx = bed.step(WorkerEvent::Saved(number));
    let WorkerQuery::ProxyHandshakeComplete(q) = asked(&fx) else {
        panic!("then the last step")
    };
    assert!(!q.is_disabled);
    assert_eq!(bed.core.ready_links(), 0);
    let fx = bed.answer(1, ask(&fx).0, to_boxed(&worker::ProxyHandshakeCompleted {}));
    // Appendix A, worker 6.
    assert_eq!(announced(&fx), (Some(true), None));
    assert_eq!(bed.core.ready_links(), 1);
}

/// The payment key that a proxy proved in its claims is the one it has to name.
#[test]
fn the_payment_key_is_the_one_of_the_claims() {
    for (right, asked_on) in [(true, true), (false, false)] {
        let mut bed = Bed::new();
        let mut key = bed.key.verifying_key().to_bytes();
        key[0] ^= u8::from(!right);
        let claims = VerifiedClaims {
            time: 0,
            role: Role::Proxy,
            network: Network {
                global_id: -3,
                is_test: true,
            },
            root: RootContract {
                workchain: 0,
                hash: [0; 32],
            },
            protocol: ProtocolRange { min: 0, max: 3 },
            encryption: None,
            payment_key: Some(key),
            gpus: Vec::new(),
            gpu_digest: None,
        };
        let peer = PeerInfo {
            image_hash: IMAGE,
            claims: Some(Arc::new(claims)),
            ..Default::default()
        };
        let link = LinkId(1);
        let fx = bed.step(WorkerEvent::Link(LinkEvent::Up { link, peer }));
        let data = bed.connected(3);
        let fx = bed.answer(1, ask(&fx).0, data);
        let closed = fx.iter().find_map(|e| match e {
            WorkerEffect::Link(LinkEffect::Close { reason, .. }) => Some(reason.clone()),
            _ => None,
        });
        match asked_on {
            true => assert!(matches!(
                asked(&fx),
                WorkerQuery::CompareBalanceWithProxy(_)
            )),
            false => assert!(closed.unwrap().contains("its signed claims prove")),
        }
    }
}

#[test]
fn a_change_during_the_last_step_is_told() {
    let mut bed = Bed::new();
    let fx = bed.up(1);
    let data = bed.connected(2);
    let fx = bed.answer(1, ask(&fx).0, data);
    let data = bed.compared(0, 0, 0, 0);
    let last = bed.answer(1, ask(&fx).0, data);
    assert_eq!(
        announced(&bed.step(WorkerEvent::Health(false))),
        (None, None)
    );
    bed.step(WorkerEvent::SetCoefficient(2100));
    let fx = bed.answer(
        1,
        ask(&last).0,
        to_boxed(&worker::ProxyHandshakeCompleted {}),
    );
    assert_eq!(announced(&fx), (Some(false), Some(2100)));
    assert_eq!(
        announced(&bed.step(WorkerEvent::Health(true))),
        (Some(true), None)
    );
    assert_eq!(
        announced(&bed.step(WorkerEvent::Health(true))),
        (None, None)
    );
    assert_eq!(
        announced(&bed.step(WorkerEvent::SetEnabled(false))),
        (Some(false), None)
    );
    // Out of range: refused with an alarm, nothing is told.
    assert_eq!(
        announced(&bed.step(WorkerEvent::SetCoefficient(u32::MAX))),
        (None, None)
    );
    assert_eq!(bed.alarms.len(), 1);
}

#[test]
fn foreign_images_are_refused_before_a_word() {
    let mut bed = Bed::new();
    let fx = bed.step(WorkerEvent::Link(LinkEvent::Up {
        link: LinkId(1),
        peer: PeerInfo::default(),
    }));
    assert!(closed(&fx).unwrap().contains("image hash"));
    assert_eq!(fx.len(), 1);
    // And a listed one is cut off when it leaves the list.
    bed.connect(2, 3, (0, 0, 0));
    let mut root = root();
    root.version += 1;
    root.proxy_hashes.clear();
    let fx = bed.step(WorkerEvent::Root(Box::new(root)));
    assert!(closed(&fx).is_some());
    assert_eq!(bed.core.ready_links(), 0);
}

#[test]
fn every_untruth_of_a_proxy_closes_the_link() {
    let bed = Bed::new();
    let sc = bed.worker_sc();
    let (good, plain) = (sc.to_text(false, true), bed.params(2));
    let p = |change: &dyn Fn(&mut proto::ProxyParams)| {
        let mut params = plain.clone();
        change(&mut params);
        proto::worker_connected(&params, &good)
    };
    let with_sc = |text: String| proto::worker_connected(&plain, &text);
    let mut no_flags = worker::ConnectedToProxy {
        params: plain.to_wire(),
        worker_sc_address: good.clone(),
    };
    no_flags.params.is_test = None;
    no_flags.params.proto_version = None;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("test mode mismatch", p(&|p| p.is_test = false)),
        ("protocol version 4", p(&|p| p.version = 4)),
        ("proxy_owner_address", p(&|p| p.owner = "nonsense".into())),
        ("proxy_sc_address", p(&|p| p.sc = String::new())),
        (
            "wrong flags",
            p(&|p| p.sc = bed.proxy_sc().to_text(true, true)),
        ),
        (
            "wrong flags",
            p(&|p| p.sc = bed.proxy_sc().to_text(false, false)),
        ),
        ("wrong flags", p(&|p| p.sc = bed.proxy_sc().to_string())),
        (
            "does not follow",
            p(&|p| p.sc = address(50).to_text(false, true)),
        ),
        ("does not follow", p(&|p| p.public_key = [3; 32])),
        (
            "does not follow",
            p(&|p| p.owner = address(51).to_text(true, true)),
        ),
        (
            "another worker contract",
            with_sc(address(52).to_text(false, true)),
        ),
        ("wrong flags", with_sc(sc.to_text(true, true))),
        ("too old proxy", to_boxed(&no_flags)),
        ("failed", vec![1, 2, 3]),
    ];
    for (part, data) in cases {
        let mut bed = Bed::new();
        let fx = bed.up(1);
        let fx = bed.answer(1, ask(&fx).0, data);
        let reason = closed(&fx).unwrap_or_else(|| panic!("{part}: not closed"));
        assert!(reason.contains(part), "{part}: {reason}");
        assert!(bed.disk.is_empty());
        assert_eq!(bed.core.stats()["proxies"].as_array().unwrap().len(), 0);
    }
}

#[test]
fn unanswered_steps_close_the_link() {
    for error in [
        AskError::Timeout,
        AskError::Closed,
        AskError::Remote {
            code: 651,
            message: "proxy is not participating in this iteration".into(),
        },
    ] {
        let mut bed = Bed::new();
        let fx = bed.up(1);
        let fx = bed.answered(1, ask(&fx).0, Err(error.clone()));
        assert!(closed(&fx).unwrap().contains(&error.to_string()));
        assert_eq!(bed.core.stats()["links"], 0);
    }
    // Answers to other questions change nothing.
    let mut bed = Bed::new();
    let fx = bed.up(1);
    assert!(bed.answer(1, ask(&fx).0 + 1, vec![0]).is_empty());
    assert!(bed.answer(2, ask(&fx).0, vec![0]).is_empty());
}

#[test]
fn a_known_proxy_must_stay_the_same() {
    let mut bed = Bed::new();
    bed.connect(1, 3, (0, 0, 0));
    bed.down(1);
    let fx = bed.up(2);
    let data = proto::worker_connected(&bed.params(3), &address(60).to_text(false, true));
    let fx = bed.answer(2, ask(&fx).0, data);
    assert!(closed(&fx).unwrap().contains("changed"));
    let fx = bed.up(3);
    let mut params = bed.params(3);
    params.public_key = [1; 32];
    let data = proto::worker_connected(&params, &bed.worker_sc().to_text(false, true));
    let fx = bed.answer(3, ask(&fx).0, data);
    assert!(closed(&fx).unwrap().contains("changed"));
    // The honest one still comes back, in any version.
    for (link, version) in [(4, 0), (5, 1), (6, 2), (7, 3)] {
        assert_eq!(
            announced(&bed.connect(link, version, (0, 0, 0))).0,
            Some(true)
        );
    }
}

#[test]
fn a_draining_worker_takes_no_links() {
    let mut bed = Bed::new();
    bed.connect(1, 3, (0, 0, 0));
    let rid = bed.start(1, 3, 1);
    let fx = bed.step(WorkerEvent::Drain);
    assert_eq!(announced(&fx).0, Some(false));
    assert!(closed(&bed.up(2)).is_some());
    let fx = bed.run(1, 3, 2, CHAT);
    let a = &answers(&fx)[0];
    assert!(matches!(
        &a.kind,
        proto::AnswerKind::Error { code: 651, .. }
    ));
    bed.backend(rid, head(200));
    let fx = bed.backend(rid, cocoon_engine::BackendEvent::End);
    assert!(matches!(fx.last(), Some(WorkerEffect::Drained)));
    assert!(closed(&fx).is_some());
    assert!(bed.step(WorkerEvent::Tick).is_empty());
}
