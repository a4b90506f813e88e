//! The streaming counter on bodies as servers send them.

use cocoon_ledger::usage::{MAX_HOLD, Mode, Multipliers, Prices, UsageCounter};
use cocoon_ledger::{Coefficient, ModelTokens, NanoTon};

fn counter() -> UsageCounter {
    let prices = Prices {
        multipliers: Multipliers::default(),
        price_per_token: NanoTon(2),
        coefficient: Coefficient::ONE,
    };
    UsageCounter::new(Mode::Streaming, prices)
}

/// Runs a body through in one piece and byte by byte; both must agree.
fn run(body: &str) -> (String, UsageCounter) {
    let mut whole = counter();
    let mut out = whole.push(body.as_bytes());
    out.extend(whole.finish());
    let mut single = counter();
    let mut single_out = Vec::new();
    for byte in body.bytes() {
        single_out.extend(single.push(&[byte]));
    }
    single_out.extend(single.finish());
    assert_eq!(single_out, out);
    assert_eq!(
        (single.raw(), single.delivered_chunks()),
        (whole.raw(), whole.delivered_chunks())
    );
    (String::from_utf8(out).unwrap(), whole)
}

const USAGE: &str = r#"{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}"#;
const BILLED: &str = r#"{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"completion_total_cost":14,"prompt_total_cost":10,"total_cost":24}"#;

#[test]
fn events_pass_unmodified_but_for_costs() {
    for end in ["\n", "\r\n", "\r"] {
        let body = format!(
            ": keep-alive\n\nid: 1\ndata: {{\"choices\":[{{\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}}}}]}}\n\n\
             data: {{\"choices\":[{{\"delta\":{{\"content\":\"Hi\"}}}}],\"usage\":null}}\n\n\
             data:{{\"choices\":[],\"usage\":{USAGE}}}\n\ndata: [DONE]\n\n"
        )
        .replace('\n', end);
        let (out, counter) = run(&body);
        assert_eq!(out, body.replace(USAGE, BILLED));
        assert_eq!(counter.usage().total, 12);
        assert_eq!(counter.delivered_chunks(), 1);
        assert!(!counter.truncated_scan());
    }
}

#[test]
fn data_over_several_lines_is_one_value() {
    let body = "data: {\"usage\":\r\ndata:  {\"prompt_tokens\":3,\r\ndata: \"completion_tokens\":4 }\r\ndata: }\r\n\r\n";
    let (out, counter) = run(body);
    assert_eq!(counter.usage().total, 7);
    assert_eq!(
        out,
        body.replace(
            "4 }",
            "4 ,\"completion_total_cost\":8,\"prompt_total_cost\":6,\"total_cost\":14}"
        )
    );
}

#[test]
fn pieces_leave_at_once() {
    let mut counter = counter();
    let first = b"data: {\"choices\":[{\"delta\":{\"content\":\"Hel";
    assert_eq!(counter.push(first), first);
    let plain = b"lo\"}}]}\n\ndata: {\"usage\":";
    assert_eq!(counter.push(plain), plain);
    assert_eq!(counter.push(b"{\"prompt_tokens\":1"), b"");
    assert!(
        counter
            .push(b"}")
            .starts_with(b"{\"prompt_tokens\":1,\"completion_total_cost\":0")
    );
}

#[test]
fn plain_and_newline_delimited_json() {
    let body = format!("{{\"id\": 1.0, \"usage\" : {USAGE} }}\n");
    assert_eq!(run(&body).0, body.replace(USAGE, BILLED));
    let body = format!("{{\"delta\":\"a\"}}\n{{\"us\\u0061ge\":{USAGE}}}{{\"x\":[1]}}\n");
    let (out, counter) = run(&body);
    assert_eq!(out, body.replace(USAGE, BILLED));
    assert_eq!(counter.usage().total, 12);
}

#[test]
fn cumulative_usage_counts_once() {
    let event = |n: u64| format!("data: {{\"usage\":{{\"completion_tokens\":{n}}}}}\n\n");
    let (_, counter) = run(&[event(1), event(5), event(3)].concat());
    assert_eq!(counter.raw().completion, ModelTokens(5));
}

#[test]
fn usage_elsewhere_is_no_usage() {
    for body in [
        format!("{{\"choices\":[{{\"usage\":{USAGE}}}]}}"),
        format!("[{{\"usage\":{USAGE}}}]"),
        format!("data: text {{\"usage\":{USAGE}}}\n\n"),
        "{\"text\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":5}\"}".to_owned(),
        "{\"usage\":null}{\"usage\":[1]}{\"usage\":7}".to_owned(),
        "{\"usage\":{\"prompt_tokens\":-4,\"completion_tokens\":2.5}}".to_owned(),
        "42".to_owned(),
        "-1e999".to_owned(),
        "Internal Server Error".to_owned(),
        "{\"usage\":{\"prompt_tokens\":5]".to_owned(),
    ] {
        let (out, counter) = run(&body);
        assert_eq!(out, body);
        assert_eq!(counter.usage().total, 0, "{body}");
    }
}

#[test]
fn costs_of_another_meter_are_replaced() {
    let (out, _) = run(r#"{"usage":{"total_cost":999,"prompt_tokens":5}}"#);
    assert_eq!(
        out,
        r#"{"usage":{"completion_total_cost":0,"prompt_tokens":5,"prompt_total_cost":10,"total_cost":10}}"#
    );
}

#[test]
fn a_break_bills_what_was_delivered() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}},{\"delta\":{\"tool_calls\":[{}]}}]}\n\n";
    let (_, counter) = run(&event.repeat(3));
    assert_eq!(counter.usage().total, 0);
    assert_eq!(counter.delivered_chunks(), 6);
    assert_eq!(counter.usage_at_break().completion, 6);
    let text = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
    assert_eq!(run(text).1.delivered_chunks(), 1);
}

/// The caller has seen the costs in the last usage object; leaving before the connection's end does not change them.
#[test]
fn a_break_after_the_usage_bills_the_usage() {
    let text = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
    let usage =
        |n: u64| format!("data: {{\"usage\":{{\"completion_tokens\":{n}}},\"choices\":[]}}\n\n");
    let at_break = |body: &str| run(body).1.usage_at_break().completion;
    assert_eq!(at_break(&[&text.repeat(2), &usage(1) as &str].concat()), 1);
    // Pieces after a report are not in it.
    assert_eq!(
        at_break(&[&usage(4), &text.repeat(3) as &str].concat()),
        4 + 3
    );
    // A figure that is repeated says nothing of what came in between.
    assert_eq!(
        at_break(&[text, &usage(1), text, text, &usage(1)].concat()),
        1 + 2
    );
    assert_eq!(at_break(&[&usage(0), text, text].concat()), 2);
    // Continuous reports: each counts the piece beside it, before or behind.
    let before = r#"data: {"choices":[{"text":"a"}],"usage":{"completion_tokens":6}}"#;
    let behind = r#"data: {"usage":{"completion_tokens":6},"choices":[{"text":"a"}]}"#;
    for event in [before, behind] {
        assert_eq!(at_break(&format!("{text}{event}\n\n")), 6, "{event}");
        assert_eq!(at_break(&format!("{event}\n\n{text}")), 7, "{event}");
    }
}

#[test]
fn a_broken_event_does_not_hide_the_next() {
    for broken in [
        "data: {\"a\":\n\n",
        "data: {\"usage\":{\"prompt_tokens\":9\n\n",
        "data: {]\n\n",
        "{\"a\":\"\n",
    ] {
        let (out, counter) = run(&format!("{broken}data: {{\"usage\":{USAGE}}}\n\n"));
        let expected = if broken.starts_with("data") || broken.ends_with('\n') {
            12
        } else {
            0
        };
        assert_eq!(counter.usage().total, expected, "{broken:?} -> {out:?}");
    }
}

#[test]
fn a_huge_usage_object_passes_and_is_flagged() {
    let body = format!(
        "{{\"usage\":{{\"x\":\"{}\",\"prompt_tokens\":5}}}}",
        "y".repeat(MAX_HOLD)
    );
    let (out, counter) = run(&body);
    assert_eq!(out, body);
    assert!(counter.truncated_scan());
    let deep = "[".repeat(100_000);
    assert!(run(&deep).1.truncated_scan());
}

/// A quadratic counter would look at 10^11 bytes here.
#[test]
fn time_is_linear_in_the_body() {
    let value = format!("{{\"text\":\"{}\",\"usage\":{USAGE}}}", "y".repeat(4 << 20));
    for mode in [Mode::Streaming, Mode::Reference] {
        let prices = Prices {
            multipliers: Multipliers::default(),
            price_per_token: NanoTon(2),
            coefficient: Coefficient::ONE,
        };
        let mut counter = UsageCounter::new(mode, prices);
        let started = std::time::Instant::now();
        for piece in value.as_bytes().chunks(64) {
            counter.push(piece);
        }
        assert_eq!(counter.usage().total, 12);
        assert!(started.elapsed().as_secs() < 10);
    }
}
