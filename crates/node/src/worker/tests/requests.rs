//! Requests from admission to the books (protocol.md 4.5, 6, 7).

use cocoon_engine::BackendEvent;
use cocoon_ledger::usage::Mode;
use cocoon_ledger::{Coefficient, TokensUsed, UsageCounter};
use cocoon_tl::from_boxed;
use cocoon_wire::msg::http;

use super::bed::*;
use crate::link::LinkId;
use crate::proto::{self, Answer, AnswerKind};
use crate::worker::{WorkerEffect, WorkerEvent};

fn ready() -> Bed {
    let mut bed = Bed::new();
    bed.connect(1, 3, (0, 0, 0));
    bed
}

fn body(piece: &str) -> BackendEvent {
    BackendEvent::Body(piece.as_bytes().to_vec().into())
}

/// What the ledger makes of the same body at the coefficient of the request.
fn ledger(pieces: &[&str], coefficient: u32) -> (Vec<u8>, TokensUsed) {
    let prices = root().prices(Coefficient::new(coefficient).unwrap());
    let mut counter = UsageCounter::new(Mode::Streaming, prices);
    let mut out = Vec::new();
    for p in pieces {
        out.extend(counter.push(p.as_bytes()));
    }
    out.extend(counter.finish());
    (out, counter.usage())
}

fn text(answers: &[Answer]) -> Vec<u8> {
    let part = |a: &Answer| match &a.kind {
        AnswerKind::Part(data) => data.clone(),
        _ => Vec::new(),
    };
    answers.iter().flat_map(part).collect()
}

fn error(a: &Answer) -> (i32, &str) {
    match &a.kind {
        AnswerKind::Error { code, text, .. } => (*code, text),
        _ => panic!("expected an error"),
    }
}

const STREAM: [&str; 4] = [
    "data: {\"choices\":[{\"delta\":{\"content\":\"he\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"y\"}}]}\n\ndata: {\"choi",
    "ces\":[],\"usage\":{\"prompt_tokens\":170,\"completion_tokens\":33,\"prompt_tokens_details\":{\"cached_tokens\":20}}}\n\n",
    "data: [DONE]\n\n",
];

#[test]
fn a_plain_answer_is_billed_as_the_ledger_says() {
    for version in 0..=3 {
        let mut bed = Bed::new();
        bed.connect(1, version, (0, 0, 0));
        let fx = bed.run(1, version, 7, CHAT);
        let (n, http) = started(&fx).unwrap();
        assert_eq!(
            (http.method.as_str(), http.url.as_str()),
            ("POST", "/v1/chat/completions")
        );
        let names: Vec<&str> = http.headers.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["Content-type", "X-Own"]);
        bed.now += 1500;
        let fx = bed.backend(n, head(200));
        let [
            Answer {
                kind: AnswerKind::Head(data),
                fin: None,
                request_id,
            },
        ] = &answers(&fx)[..]
        else {
            panic!("a head alone")
        };
        assert_eq!(*request_id, [7; 32]);
        let response: http::Response = from_boxed(data).unwrap();
        let headers: Vec<String> = response
            .headers
            .iter()
            .map(|h| format!("{}: {}", h.name, h.value))
            .collect();
        assert_eq!(
            headers,
            [
                "Content-Type: application/json",
                "Transfer-Encoding: chunked",
                "X-Cocoon-Worker-Start: 1795000000.000000",
                "X-Cocoon-Worker-End: 1795000001.500000",
            ]
        );
        assert_eq!(
            (response.status_code, response.reason.as_str()),
            (200, "OK")
        );
        let json = r#"{"id":"x","usage":{"prompt_tokens":170,"completion_tokens":10}}"#;
        let mut got = bed.backend(n, body(json));
        got.extend(bed.backend(n, BackendEvent::End));
        let got = answers(&got);
        let (bytes, usage) = ledger(&[json], 1500);
        assert_eq!(text(&got), bytes);
        let fin = got.last().unwrap().fin.clone().unwrap();
        assert_eq!(fin.tokens, usage);
        assert!(usage.total > 0);
        assert_eq!(fin.worker_debug, None);
        assert_eq!(
            fin.worker_end,
            if version >= 2 { 1_795_000_001.5 } else { 0.0 }
        );
        assert!(got[..got.len() - 1].iter().all(|a| a.fin.is_none()));
        assert_eq!(bed.core.running(), 0);
        // What comes afterwards is nobody's.
        assert!(bed.backend(n, body("late")).is_empty());
    }
}

#[test]
fn a_stream_passes_piece_by_piece() {
    let mut bed = ready();
    let mut q = query(1, &CHAT.replace("\"model\"", "\"stream\":true,\"model\""));
    q.enable_debug = true;
    let fx = bed.packet(1, proto::proxy_run_query(3, q));
    let (n, http) = started(&fx).unwrap();
    assert!(
        String::from_utf8(http.body.to_vec())
            .unwrap()
            .contains("include_usage")
    );
    bed.backend(n, head(200));
    let first = answers(&bed.backend(n, body(STREAM[0])));
    assert_eq!(
        text(&first),
        STREAM[0].as_bytes(),
        "the first token is not held back"
    );
    let mut all = first;
    for piece in &STREAM[1..] {
        all.extend(answers(&bed.backend(n, body(piece))));
    }
    all.extend(answers(&bed.backend(n, BackendEvent::End)));
    let (bytes, usage) = ledger(&STREAM, 1500);
    assert_eq!(text(&all), bytes);
    let fin = all.last().unwrap().fin.clone().unwrap();
    assert_eq!(fin.tokens, usage);
    assert_eq!((usage.prompt, usage.cached, usage.completion), (225, 3, 99));
    assert!(fin.worker_debug.unwrap().contains("worker_stats"));
}

#[test]
fn refusals_have_codes_texts_and_final_info() {
    let chat = |b: &str| query(9, b);
    let mut bad_url = query(9, CHAT);
    bad_url.query = cocoon_tl::to_boxed(&http_request("/v1/other", CHAT));
    let mut header = http_request("/v1/chat/completions", CHAT);
    header.headers[4].value = "a\r\nX-Evil: 1".into();
    let mut bad_header = query(9, CHAT);
    bad_header.query = cocoon_tl::to_boxed(&header);
    let q = |f: &dyn Fn(&mut proto::WorkerQuery)| {
        let mut q = query(9, CHAT);
        f(&mut q);
        q
    };
    for (q, code, part) in [
        (
            bad_url,
            621,
            "worker: invalid http request: unsupported method",
        ),
        (bad_header, 621, "worker: invalid http request: a header"),
        (
            chat("[]"),
            621,
            "worker: invalid http request: expected json object",
        ),
        (
            chat(&CHAT.replace("my/model", "other")),
            621,
            "model name mismatch",
        ),
        (
            chat(&CHAT.replace("\"model\"", "\"odd\":1,\"model\"")),
            621,
            "unknown option 'odd'",
        ),
        (
            q(&|q| q.query = vec![1, 2, 3, 4]),
            621,
            "worker: invalid http request: ",
        ),
        (q(&|q| q.coefficient = -1), 621, "coefficient"),
        (q(&|q| q.coefficient = 1 << 40), 621, "coefficient"),
        (q(&|q| q.timeout = f64::NAN), 621, "timeout"),
        (q(&|q| q.timeout = f64::INFINITY), 621, "timeout"),
        (q(&|q| q.timeout = -1.0), 621, "timeout"),
        (q(&|q| q.timeout = 0.0), 621, "timeout"),
    ] {
        let mut bed = ready();
        let fx = bed.packet(1, proto::proxy_run_query(3, q));
        assert!(started(&fx).is_none(), "{part}");
        let got = answers(&fx);
        let (found, text) = error(&got[0]);
        assert_eq!(found, code);
        assert!(text.contains(part), "{part}: {text}");
        assert_eq!(got[0].fin.clone().unwrap().tokens, TokensUsed::default());
        assert_eq!(bed.core.ready_links(), 1);
    }
}

#[test]
fn the_limit_counts_all_links() {
    let mut bed = ready();
    bed.connect(2, 2, (0, 0, 0));
    let a = bed.start(1, 3, 1);
    bed.start(2, 2, 1);
    let got = answers(&bed.run(2, 2, 3, CHAT));
    assert_eq!(error(&got[0]), (602, "too many active queries"));
    bed.backend(a, head(200));
    bed.backend(a, BackendEvent::End);
    bed.start(1, 3, 4);
}

#[test]
fn an_id_cannot_be_used_twice_at_a_time() {
    let mut bed = ready();
    let n = bed.start(1, 3, 1);
    let fx = bed.run(1, 3, 1, CHAT);
    assert!(closed(&fx).is_some());
    assert_eq!(cancelled(&fx), [n]);
}

#[test]
fn the_alarm_rings_before_the_proxys_with_what_was_used() {
    let mut bed = ready();
    let n = bed.start(1, 3, 1);
    bed.backend(n, head(200));
    bed.backend(n, body(STREAM[0]));
    bed.backend(n, body(STREAM[0]));
    assert!(answers(&bed.after(94_900)).is_empty());
    let fx = bed.after(100);
    let got = answers(&fx);
    assert_eq!(error(&got[0]), (652, "worker: timeout"));
    assert_eq!(cancelled(&fx), [n]);
    // Two pieces of output at least, times 1.5 times 2.
    assert_eq!(got[0].fin.clone().unwrap().tokens.total, 6);
    // Before the head nothing was given.
    bed.start(1, 3, 2);
    let got = answers(&bed.after(95_000));
    assert_eq!(got[0].fin.clone().unwrap().tokens, TokensUsed::default());
}

#[test]
fn endless_timeouts_are_cut() {
    let mut bed = ready();
    let mut q = query(1, CHAT);
    q.timeout = 1e300;
    bed.packet(1, proto::proxy_run_query(3, q));
    bed.after(3_600_000);
    assert_eq!(bed.core.running(), 0);
}

#[test]
fn callers_can_leave_in_version_3_only() {
    let mut bed = ready();
    bed.connect(2, 2, (0, 0, 0));
    let (a, _) = (bed.start(1, 3, 1), bed.start(2, 2, 2));
    bed.backend(a, head(200));
    bed.backend(a, body(STREAM[0]));
    assert!(bed.packet(2, proto::proxy_cancel([2; 32])).is_empty());
    assert!(
        bed.packet(1, proto::proxy_cancel([2; 32])).is_empty(),
        "another link's request"
    );
    let fx = bed.packet(1, proto::proxy_cancel([1; 32]));
    assert_eq!(cancelled(&fx), [a]);
    let got = answers(&fx);
    assert_eq!(error(&got[0]).0, 653);
    assert_eq!(got[0].fin.clone().unwrap().tokens.total, 3);
    assert_eq!(bed.core.running(), 1);
}

#[test]
fn a_lost_link_takes_its_requests_with_it() {
    let mut bed = ready();
    bed.connect(2, 2, (0, 0, 0));
    let (a, b) = (bed.start(1, 3, 1), bed.start(2, 2, 1));
    let fx = bed.down(1);
    assert_eq!(cancelled(&fx), [a]);
    assert!(answers(&fx).is_empty());
    let fx = bed.backend(b, head(200));
    assert_eq!(answers(&fx).len(), 1);
    assert!(
        matches!(&fx[0], WorkerEffect::Link(crate::link::LinkEffect::Send { link, .. }) if *link == LinkId(2))
    );
}

#[test]
fn failures_of_the_backend_are_told_apart() {
    for (status, code) in [
        (503, 651),
        (502, 601),
        (504, 652),
        (400, 621),
        (429, 621),
        (500, 601),
        (0, 601),
    ] {
        for version in [0, 3] {
            let mut bed = Bed::new();
            bed.connect(1, version, (0, 0, 0));
            let n = bed.start(1, version, 1);
            let message = "the engine is loading".to_owned();
            let got = answers(&bed.backend(n, BackendEvent::Failed { status, message }));
            assert_eq!(error(&got[0]), (code, "worker: the engine is loading"));
            assert_eq!(got[0].fin.clone().unwrap().tokens, TokensUsed::default());
            assert_eq!(bed.core.running(), 0);
        }
    }
    let mut bed = Bed::new();
    bed.connect(1, 0, (0, 0, 0));
    let n = bed.start(1, 0, 1);
    bed.backend(n, head(200));
    bed.backend(n, body(STREAM[0]));
    let got = answers(&bed.backend(
        n,
        BackendEvent::Failed {
            status: 502,
            message: String::new(),
        },
    ));
    assert!(matches!(
        &got[0].kind,
        AnswerKind::Error {
            code: 601,
            after_head: true,
            ..
        }
    ));
    assert_eq!(got[0].fin.clone().unwrap().tokens.total, 3);
}

#[test]
fn a_backend_out_of_order_is_stopped() {
    for events in [
        vec![body("x")],
        vec![BackendEvent::End],
        vec![head(200), head(200)],
        vec![head(9)],
    ] {
        let mut bed = ready();
        let n = bed.start(1, 3, 1);
        let mut fx = Vec::new();
        for e in events {
            fx = bed.backend(n, e);
        }
        assert_eq!(error(&answers(&fx)[0]).0, 601);
        assert_eq!(cancelled(&fx), [n]);
    }
}

#[test]
fn large_pieces_are_cut() {
    let mut bed = ready();
    let n = bed.start(1, 3, 1);
    bed.backend(n, head(200));
    let big = "x".repeat(5 << 20);
    let mut fx = bed.backend(n, body(&big));
    fx.extend(bed.backend(n, BackendEvent::End));
    let got = answers(&fx);
    assert!(got.len() >= 5);
    assert_eq!(text(&got).len(), big.len());
    assert!(
        got.iter()
            .all(|a| text(std::slice::from_ref(a)).len() <= 1 << 20)
    );
}

#[test]
fn requests_wait_for_nobody_but_are_refused_when_the_root_moved_on() {
    let mut bed = ready();
    let n = bed.start(1, 3, 1);
    let mut next = root();
    next.version += 1;
    next.params.params_version += 1;
    let fx = bed.step(WorkerEvent::Root(Box::new(next)));
    assert_eq!(announced(&fx).0, Some(false));
    assert!(closed(&fx).is_none(), "a running request is finished");
    assert_eq!(error(&answers(&bed.run(1, 3, 2, CHAT))[0]).0, 651);
    bed.backend(n, head(200));
    let fx = bed.backend(n, BackendEvent::End);
    assert!(closed(&fx).is_some());
}
