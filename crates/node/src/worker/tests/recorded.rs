//! The worker's side of a session recorded with the reference proxy: its real frames against our core.

use cocoon_engine::BackendEvent;
use cocoon_tl::from_boxed;
use cocoon_ton::Address;
use cocoon_wire::msg::{tcp, worker};
use serde_json::Value;

use super::bed::*;
use crate::worker::account::ProxyAccount;
use crate::worker::core::WorkerCore;
use crate::worker::{WorkerConfig, WorkerEffect};

const SESSIONS: &str = include_str!("../../../../wire/tests/vectors/recorded-sessions.json");

/// Payloads of the proxy in the recorded order.
fn frames() -> Vec<tcp::Payload> {
    let all: Value = serde_json::from_str(SESSIONS).unwrap();
    let session = all["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["name"] == "worker_session_v2")
        .unwrap();
    let of_proxy = |f: &&Value| f["from"] == "proxy";
    session["frames"]
        .as_array()
        .unwrap()
        .iter()
        .filter(of_proxy)
        .map(|f| {
            let bytes = hex::decode(f["hex"].as_str().unwrap()).unwrap();
            // Length and sequence number stand before the payload.
            from_boxed(&bytes[8..]).unwrap()
        })
        .collect()
}

#[test]
fn the_reference_proxys_frames_are_accepted() {
    let frames = frames();
    let hello = frames.iter().find_map(|f| match f {
        tcp::Payload::QueryAnswer(a) => from_boxed::<worker::ConnectedToProxy>(&a.data).ok(),
        _ => None,
    });
    let hello = hello.unwrap();
    let parse = |text: &str| Address::parse(text).unwrap().address;
    let sc = parse(&hello.worker_sc_address);

    let mut bed = Bed::new();
    let cfg = WorkerConfig {
        owner: parse("UQAEgCu5iCOMecwp0KHI3tm7xyitXlu-wq6vVI2ROwuhwkDj"),
        model: "My/Model@c0ffee:11".into(),
        testnet: false,
        max_active_requests: 3,
        ..config()
    };
    bed.core = WorkerCore::new(cfg.clone(), root(), Vec::new(), T0).unwrap();
    // The root address and codes of that network are not recorded, so the contracts cannot be computed again: the
    // proxy counts as known, which checks key and addresses against the record.
    let proxy = parse(&hello.params.proxy_sc_address);
    let key = hello.params.proxy_public_key;
    let init = root().worker_contract(proxy, key, cfg.owner).unwrap();
    let mut account = ProxyAccount::new(&root(), cfg.owner, proxy, key, &init, T0);
    account.kept = true;
    bed.core.accounts.insert(sc, account);

    let mut fx = bed.up(1);
    let (mut errors, mut runs) = (0, 0);
    for frame in frames {
        match frame {
            tcp::Payload::QueryAnswer(a) => {
                // The status was asked by hand in the recording; here it is due by the clock.
                if bed.core.ready_links() == 1 {
                    fx = bed.after(20_000);
                }
                fx = bed.answer(1, ask(&fx).0, a.data);
            }
            tcp::Payload::Packet(p) => {
                fx = bed.packet(1, p.data);
                if let Some((n, http)) = started(&fx) {
                    runs += 1;
                    assert_eq!(http.url, "/v1/chat/completions");
                    bed.backend(n, head(200));
                    let usage = r#"{"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
                    bed.backend(n, BackendEvent::Body(usage.into()));
                    let end = answers(&bed.backend(n, BackendEvent::End));
                    let tokens = end.last().unwrap().fin.clone().unwrap().tokens;
                    // At the coefficient of the recorded request, 2000.
                    assert_eq!((tokens.prompt, tokens.completion), (14, 12));
                } else {
                    errors += answers(&fx).len();
                }
            }
            _ => continue,
        }
        assert_eq!(closed(&fx), None);
        assert!(!fx.iter().any(|e| matches!(e, WorkerEffect::Alarm(_))));
    }
    assert_eq!((runs, errors), (3, 0));
    assert_eq!(bed.core.ready_links(), 1);
    let account = &bed.core.accounts[&sc];
    assert_eq!(
        (account.claims.max().0, account.claims.signed().0),
        (1141, 0)
    );
    assert!(
        account.payment.is_some(),
        "the real signed payment verified"
    );
}
