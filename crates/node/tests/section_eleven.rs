//! Weaknesses of the reference (protocol.md 11) that ours must not have, each shown at the cores.

mod mini;
#[allow(dead_code)]
mod sim;

use cocoon_ledger::TokensUsed;
use cocoon_node::client::HttpOut;
use cocoon_node::link::{LinkEffect, LinkEvent, LinkId};
use cocoon_node::proto::{self, Answer, AnswerKind, FinalInfo, FromProxy, RunQuery};
use cocoon_node::proxy::Port;
use cocoon_tl::{Flags, from_boxed, to_boxed};
use cocoon_wire::msg::common::VersionRange;
use cocoon_wire::msg::{client, http, proxy, worker};
use mini::{CLIENT, OTHER_WORKER, PROXY, WORKER, World};
use sim::node::{Core, Input};
use sim::setup;

/// Versions up to this one.
fn up_to(version: i32) -> Option<VersionRange> {
    Some(VersionRange {
        min_proto_version: 0,
        max_proto_version: version,
    })
}

/// A client spoken by hand, authorized.
fn client(w: &mut World, n: usize, version: i32) -> LinkId {
    let link = w.dial_raw(Port::Clients);
    let hello = client::ConnectToProxy {
        params: client::Params {
            flags: Flags::NONE,
            client_owner_address: setup::address(0x55, n).to_text(false, true),
            is_test: Some(true),
            versions: up_to(version),
        },
        min_config_version: 1,
    };
    w.query(link, to_boxed(&hello)).unwrap();
    w.query(link, to_boxed(&client::AuthorizeWithProxyLong {}))
        .unwrap();
    link
}

fn worker_hello(w: &mut World, n: usize, version: i32) -> LinkId {
    let link = w.dial_raw(Port::Workers);
    let hello = worker::ConnectToProxy {
        params: worker::Params {
            flags: Flags::NONE,
            worker_owner_address: setup::address(0x56, n).to_text(false, true),
            model: setup::OFFERS[0].0.to_owned(),
            coefficient: 1000,
            setup: Some(worker::WorkerSetup {
                is_test: true,
                proxy_cnt: 1,
                max_active_requests: 4,
            }),
            versions: up_to(version),
        },
    };
    w.query(link, to_boxed(&hello)).unwrap();
    link
}

fn compare(signed: i64, db: i64, max: i64) -> Vec<u8> {
    to_boxed(&worker::CompareBalanceWithProxy {
        tokens_committed_to_blockchain: signed,
        tokens_committed_to_db: db,
        max_tokens: max,
    })
}

fn complete() -> Vec<u8> {
    to_boxed(&worker::ProxyHandshakeComplete { is_disabled: false })
}

/// A worker of model alpha spoken by hand, in service.
fn worker(w: &mut World, n: usize, version: i32) -> LinkId {
    let link = worker_hello(w, n, version);
    w.query(link, compare(0, 0, 0)).unwrap();
    w.query(link, complete()).unwrap();
    link
}

fn ask(rid: u8) -> RunQuery {
    RunQuery {
        model: "alpha".to_owned(),
        query: to_boxed(&http::Request {
            method: "POST".to_owned(),
            url: "/v1/chat/completions".to_owned(),
            http_version: "HTTP/1.1".to_owned(),
            headers: Vec::new(),
            payload: b"{\"model\":\"alpha\",\"messages\":[]}".to_vec(),
        }),
        max_coefficient: 4000,
        max_tokens: 50,
        timeout: 60.0,
        request_id: [rid; 32],
        min_config_version: 1,
        enable_debug: false,
        wishes: Default::default(),
    }
}

/// What went to a link.
fn sent(effects: &[LinkEffect], to: LinkId) -> Vec<Vec<u8>> {
    let one = |e: &LinkEffect| match e {
        LinkEffect::Send { link, data } if *link == to => Some(data.clone()),
        _ => None,
    };
    effects.iter().filter_map(one).collect()
}

fn closed(effects: &[LinkEffect], which: LinkId) -> bool {
    let one = |e: &LinkEffect| matches!(e, LinkEffect::Close { link, .. } if *link == which);
    effects.iter().any(one)
}

/// The id under which a worker got a request.
fn given(effects: &[LinkEffect], to: LinkId) -> Option<[u8; 32]> {
    sent(effects, to)
        .iter()
        .find_map(|data| match from_boxed::<proxy::PacketToWorker>(data) {
            Ok(proxy::PacketToWorker::RunQuery(q)) => Some(q.request_id),
            Ok(proxy::PacketToWorker::RunQueryEx(q)) => Some(q.request_id),
            _ => None,
        })
}

fn answers(effects: &[LinkEffect], to: LinkId) -> Vec<Answer> {
    sent(effects, to)
        .iter()
        .filter_map(|data| match proto::parse_packet_to_client(data) {
            Ok(Some(FromProxy::Answer(a))) => Some(a),
            _ => None,
        })
        .collect()
}

fn usage(n: i64) -> TokensUsed {
    TokensUsed {
        prompt: n,
        cached: 0,
        completion: n,
        reasoning: 0,
        total: 2 * n,
    }
}

fn failed(rid: [u8; 32], tokens: TokensUsed) -> Vec<u8> {
    let answer = Answer {
        request_id: rid,
        kind: AnswerKind::Error {
            code: 601,
            text: "broke".to_owned(),
            after_head: false,
        },
        fin: Some(FinalInfo {
            tokens,
            ..Default::default()
        }),
    };
    proto::worker_answer(2, answer)
}

/// Used tokens of a client spoken by hand, and what it has reserved.
fn account(w: &World, n: usize) -> (u64, u64) {
    let a = &w.proxy().books().clients[&setup::address(0x55, n)];
    (a.tracker.max().0, a.reserved.0)
}

/// 11 #4: a negative budget would enlarge the account.
#[test]
fn negative_budgets_are_refused_and_reserve_nothing() {
    let mut w = World::new();
    let (c, p) = (client(&mut w, 0, 2), worker(&mut w, 0, 2));
    for (max_tokens, max_coefficient) in [(-1, 4000), (i32::MIN, 4000), (50, -1), (50, i32::MIN)] {
        let query = RunQuery {
            max_tokens,
            max_coefficient,
            ..ask(1)
        };
        let fx = w.tell(c, proto::client_run_query(2, query));
        assert_eq!(given(&fx, p), None, "{max_tokens} {max_coefficient}");
        assert!(answers(&fx, c)[0].fin.is_some());
        assert_eq!(account(&w, 0), (0, 0));
    }
    // And none of it stands in the way of an honest one.
    let fx = w.tell(c, proto::client_run_query(2, ask(2)));
    assert!(given(&fx, p).is_some());
}

/// 11 #36: any double was a timeout.
#[test]
fn timeouts_that_are_no_times_are_refused() {
    let mut w = World::new();
    let (c, p) = (client(&mut w, 0, 2), worker(&mut w, 0, 2));
    for timeout in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0] {
        let query = RunQuery { timeout, ..ask(1) };
        let fx = w.tell(c, proto::client_run_query(2, query));
        assert_eq!(given(&fx, p), None, "{timeout}");
        assert_eq!(answers(&fx, c).len(), 1, "{timeout}");
        assert_eq!(account(&w, 0), (0, 0));
    }
    let timeout = 1e300;
    let fx = w.tell(
        c,
        proto::client_run_query(2, RunQuery { timeout, ..ask(1) }),
    );
    assert!(given(&fx, p).is_some(), "cut to the longest time there is");
}

/// 11 #36: nothing limited links that never say who they are.
#[test]
fn links_that_never_finish_their_handshake_end() {
    let mut w = World::new();
    let silent = [w.dial_raw(Port::Clients), w.dial_raw(Port::Workers)];
    let half = worker_hello(&mut w, 0, 2);
    let served = client(&mut w, 0, 2);
    w.raw.clear();
    w.now += 400_000;
    w.feed(PROXY, Input::Tick);
    for link in [silent[0], silent[1], half] {
        assert!(closed(&w.raw, link), "{link}");
    }
    assert!(!closed(&w.raw, served));
}

/// 11 #3 and #6: claims of workers are bounded by the reservation, and nonsense is worth nothing.
#[test]
fn a_worker_gets_at_most_what_was_reserved_and_nothing_for_nonsense() {
    let mut w = World::new();
    let (c, p) = (client(&mut w, 0, 2), worker(&mut w, 0, 2));
    let run = |w: &mut World, n: u8, tokens: TokensUsed| {
        let fx = w.tell(c, proto::client_run_query(2, ask(n)));
        let rid = given(&fx, p).expect("a worker is free");
        let (used, reserved) = account(w, 0);
        w.tell(p, failed(rid, tokens));
        let (after, left) = account(w, 0);
        assert_eq!(left, 0, "the reservation is given back");
        (after - used, reserved)
    };
    let (booked, reserved) = run(&mut w, 1, usage(1 << 40));
    assert_eq!(booked, reserved);
    assert!(reserved > 0 && w.alarms.len() == 1, "{:?}", w.alarms);
    let sum = TokensUsed {
        total: 7,
        ..usage(10)
    };
    for (n, nonsense) in [sum, usage(-5), usage(i64::MAX / 2)]
        .into_iter()
        .enumerate()
    {
        assert_eq!(run(&mut w, 2 + n as u8, nonsense).0, 0, "{nonsense:?}");
    }
    w.others_go_on("after lies");
}

/// 11 #5: what a failed request used is booked for both sides.
#[test]
fn what_a_failed_request_used_is_booked() {
    let mut w = World::new();
    let (c, p) = (client(&mut w, 0, 2), worker(&mut w, 0, 2));
    let fx = w.tell(c, proto::client_run_query(2, ask(1)));
    let rid = given(&fx, p).expect("a worker is free");
    let fx = w.tell(p, failed(rid, usage(12)));
    assert_eq!(account(&w, 0), (24, 0));
    let owner = setup::address(0x56, 0);
    assert_eq!(w.proxy().books().workers[&owner].tracker.max().0, 24);
    assert_eq!(answers(&fx, c).len(), 1);
}

/// 11 #15: an answer counts only on the link that got the request, at the proxy and at the client.
#[test]
fn answers_count_only_on_their_own_link() {
    let mut w = World::new();
    let (c, p, thief) = (
        client(&mut w, 0, 2),
        worker(&mut w, 0, 2),
        worker(&mut w, 1, 2),
    );
    let fx = w.tell(c, proto::client_run_query(2, ask(1)));
    let (rid, other) = match given(&fx, p) {
        Some(rid) => (rid, thief),
        None => (given(&fx, thief).expect("a worker is free"), p),
    };
    let fx = w.tell(other, failed(rid, usage(12)));
    assert!(answers(&fx, c).is_empty());
    assert_eq!((account(&w, 0).0, w.proxy().running()), (0, 1));

    let mut w = World::new();
    w.dial(CLIENT);
    w.drain();
    w.dial(WORKER);
    w.drain();
    let id = w.ask(CLIENT);
    w.step();
    let head = Answer {
        request_id: id,
        kind: AnswerKind::Head(proto::error_response(
            500,
            b"forged",
            cocoon_wire::codes::FAILURE,
            None,
        )),
        fin: Some(FinalInfo::default()),
    };
    let link = LinkId(w.links[CLIENT] + 1000);
    let data = proto::client_answer(2, head);
    w.feed(CLIENT, Input::Link(LinkEvent::Packet { link, data }));
    assert!(w.ends.is_empty(), "somebody else's link");
    w.drain();
    assert!(
        w.ends
            .iter()
            .any(|(i, out)| *i == id && *out == HttpOut::End)
    );
}

/// 11 #20 and #27: a refusal is a whole answer, in words that every version of the client understands.
#[test]
fn refusals_are_whole_answers_in_every_version() {
    for version in 0..=3 {
        let mut w = World::new();
        let c = client(&mut w, 0, version);
        let fx = w.tell(c, proto::client_run_query(version, ask(1)));
        let data = &sent(&fx, c)[0];
        if version == 0 {
            let e = from_boxed::<client::QueryAnswerError>(data).unwrap();
            assert_eq!((e.error_code, e.request_id), (621, [1; 32]));
            continue;
        }
        let m = from_boxed::<client::QueryAnswerEx>(data).unwrap();
        assert!(m.final_info.is_some(), "the last message says so");
        let r = from_boxed::<http::Response>(&m.answer).unwrap();
        assert_eq!((r.status_code, r.http_version.as_str()), (404, "HTTP/1.1"));
        let has = |name: &str| r.headers.iter().any(|h| h.name == name);
        assert!(has("Transfer-Encoding") && !has("Content-Length"));
        let body: serde_json::Value = serde_json::from_slice(&r.payload).unwrap();
        assert!(body["error"]["message"].is_string());
    }
}

/// 11 #21: an error without final info killed the proxy.
#[test]
fn an_error_without_final_info_ends_its_request_only() {
    let mut w = World::new();
    let (c, p) = (client(&mut w, 0, 2), worker(&mut w, 0, 2));
    let fx = w.tell(c, proto::client_run_query(2, ask(1)));
    let rid = given(&fx, p).expect("a worker is free");
    let bare = proxy::QueryAnswerErrorEx {
        request_id: rid,
        error_code: 601,
        error: "x".to_owned(),
        flags: Flags::NONE,
        final_info: None,
    };
    let fx = w.tell(p, to_boxed(&bare));
    assert!(answers(&fx, c)[0].fin.is_some());
    assert_eq!((account(&w, 0), w.proxy().running()), ((0, 0), 0));
    // A message that cannot be read ends the link of its sender, and nothing else.
    let fx = w.tell(p, vec![1, 2, 3]);
    assert!(closed(&fx, p) && !closed(&fx, c));
    w.others_go_on("after a broken packet");
}

/// 11 #22: a worker that claims more than the books have is refused; nothing else happens to the proxy.
#[test]
fn a_worker_that_claims_more_than_the_books_is_refused() {
    for claim in [
        compare(5, 5, 5),
        compare(0, i64::MAX, i64::MAX),
        compare(-1, 0, 0),
    ] {
        let mut w = World::new();
        let p = worker_hello(&mut w, 0, 2);
        assert_eq!(w.query(p, claim).unwrap_err().0, 621);
        w.others_go_on("after a lie");
    }
}

/// 11 #11: the proxy lost totals that it had never saved; the worker gives them up and works again.
#[test]
fn a_worker_ahead_of_the_books_comes_back() {
    let mut w = World::new();
    let (c, p) = (client(&mut w, 0, 2), worker_hello(&mut w, 0, 2));
    let result = w.query(p, compare(0, 0, 9)).unwrap();
    let result = from_boxed::<worker::CompareBalanceWithProxyResult>(&result).unwrap();
    assert_eq!((result.error_code, result.max_tokens), (1, 0));
    let extended = worker::ExtendedCompareBalanceWithProxy {
        tokens_committed_to_db: 0,
        other: Vec::new(),
    };
    w.query(p, to_boxed(&extended)).unwrap();
    w.query(p, complete()).unwrap();
    let fx = w.tell(c, proto::client_run_query(2, ask(1)));
    assert!(given(&fx, p).is_some());
}

/// 11 #29: requests ended with their timeout, not with their connection.
#[test]
fn a_lost_worker_ends_its_requests_at_once() {
    let mut w = World::new();
    let (c, p) = (client(&mut w, 0, 2), worker(&mut w, 0, 2));
    let fx = w.tell(c, proto::client_run_query(2, ask(1)));
    assert!(given(&fx, p).is_some());
    w.raw.clear();
    let reason = String::new();
    w.feed(PROXY, Input::Link(LinkEvent::Down { link: p, reason }));
    w.drain();
    assert_eq!(answers(&w.raw, c).len(), 1);
    assert_eq!((account(&w, 0), w.proxy().running()), ((0, 0), 0));
}

/// 11 #26: an image that leaves the root contract's list gets no more work; nobody dies of it.
#[test]
fn an_image_taken_off_the_list_gets_no_more_work() {
    let mut w = World::new();
    let (c, p) = (client(&mut w, 0, 2), worker(&mut w, 0, 2));
    let mut root = setup::root();
    root.version = 2;
    root.worker_hashes.clear();
    root.proxy_hashes.clear();
    for node in 0..5 {
        w.feed(node, Input::Root(root.clone()));
    }
    w.drain();
    let fx = w.tell(c, proto::client_run_query(2, ask(1)));
    assert_eq!(given(&fx, p), None);
    assert_eq!(answers(&fx, c).len(), 1);
    assert_eq!(w.links[OTHER_WORKER], 0, "workers leave such a proxy");
}

/// A peer may name any owner: what never earned leaves no account behind, in memory or on disk.
#[test]
fn workers_that_never_earned_leave_nothing_behind() {
    let mut w = World::new();
    // Its model's name stays known.
    let first = worker(&mut w, 0, 2);
    let reason = String::new();
    let link = first;
    w.feed(PROXY, Input::Link(LinkEvent::Down { link, reason }));
    let (before, saves) = (w.proxy().footprint(), w.saves);
    for n in 1..50 {
        let p = worker(&mut w, n, 2);
        let reason = String::new();
        w.feed(PROXY, Input::Link(LinkEvent::Down { link: p, reason }));
    }
    w.drain();
    assert_eq!(w.proxy().footprint(), before);
    assert_eq!(w.saves, saves, "nothing went to the disk");
}

/// 11 #24: whoever looks while a handshake is on its way sees a page.
#[test]
fn statistics_can_be_read_at_any_step() {
    let mut w = World::new();
    w.dial(CLIENT);
    let mut looks = 0;
    loop {
        let Core::Client(c) = &w.cores[CLIENT] else {
            unreachable!()
        };
        assert!(c.stats()["proxy_connections"].is_array());
        looks += 1;
        if !w.step() {
            break;
        }
    }
    assert!(looks > 5, "{looks}");
}

/// 11 #42: the reference visits everybody and writes its memory table every second.
#[test]
fn an_idle_proxy_writes_nothing() {
    let mut w = World::new();
    w.others_go_on("before");
    w.now += 60_000;
    w.feed(PROXY, Input::Tick);
    w.drain();
    let saves = w.saves;
    for _ in 0..1000 {
        w.now += 100;
        w.feed(PROXY, Input::Tick);
        w.drain();
    }
    assert_eq!(w.saves, saves);
}

/// 11 #44: a total is signed once, however often it is shown.
#[test]
fn a_total_is_signed_once() {
    let mut w = World::new();
    let p = worker(&mut w, 0, 2);
    let status = to_boxed(&worker::UpdatePaymentStatus {});
    let first = w.query(p, status.clone()).unwrap();
    // Another query id would make another payload.
    assert_eq!(w.query(p, status).unwrap(), first);
}

/// 11 #47: names of headers are the same in any case, and those of one connection end with it.
#[test]
fn names_of_headers_have_no_case() {
    let mut w = World::new();
    let (c, _) = (client(&mut w, 0, 2), w.dial(WORKER));
    w.drain();
    let names = ["CONTENT-LENGTH", "tRANSFER-eNCODING", "connection", "X-Own"];
    let headers = names.map(|name| http::Header {
        name: name.to_owned(),
        value: "5".to_owned(),
    });
    let request = http::Request {
        method: "POST".to_owned(),
        url: "/v1/chat/completions".to_owned(),
        http_version: "HTTP/1.1".to_owned(),
        headers: headers.to_vec(),
        payload: b"{\"model\":\"alpha\",\"messages\":[]}".to_vec(),
    };
    let query = RunQuery {
        query: to_boxed(&request),
        ..ask(1)
    };
    w.tell(c, proto::client_run_query(2, query));
    let left: Vec<&str> = w.asked[0].headers.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(left, ["X-Own"]);
}
