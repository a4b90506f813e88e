//! The market at the proxy: waiting, fairness, other workers, wishes. No chain, no sockets; workers and clients are
//! played message by message.

use std::collections::BTreeSet;

use cocoon_tl::{Flags, to_boxed};
use cocoon_ton::abi::Params;
use cocoon_ton::{Address, Cell};
use cocoon_wire::msg::common::VersionRange;
use cocoon_wire::msg::{client, http, proxy as wire, worker};
use ed25519_dalek::SigningKey;
use serde_json::Value;

use super::{Port, ProxyConfig, ProxyCore, ProxyEffect, ProxyEvent, ProxySettings};
use crate::ChainMode;
use crate::link::{LinkEffect, LinkEvent, LinkId, PeerInfo};
use crate::proto::{self, Answer, AnswerKind, FinalInfo, FromProxy, RunQuery};
use crate::root::RootView;
use crate::wishes::Wishes;

const START: u64 = 1_795_366_000_000;
const MODEL: &str = "m";

fn address(n: u8) -> Address {
    Address::basechain([n; 32])
}

fn root() -> RootView {
    let one = cocoon_ton::abi::params::MULTIPLIER_ONE;
    RootView {
        address: address(1),
        version: 3,
        params: Params {
            struct_version: 1,
            params_version: 1,
            unique_id: 13,
            is_test: true,
            price_per_token: 20,
            worker_fee_per_token: 19,
            prompt_multiplier: one,
            cached_multiplier: one,
            completion_multiplier: one,
            reasoning_multiplier: one,
            proxy_delay: 600,
            client_delay: 300,
            min_proxy_stake: 1_000_000_000,
            min_client_stake: 1_000_000_000,
            proxy_code: Some(Cell::default()),
            worker_code: Some(Cell::default()),
            client_code: Some(Cell::default()),
        },
        proxy_hashes: BTreeSet::new(),
        worker_hashes: BTreeSet::new(),
        model_hashes: BTreeSet::new(),
        owner: None,
        last_proxy_seqno: 0,
        proxies: Vec::new(),
    }
}

/// What reached a client about a request.
#[derive(Debug, PartialEq)]
enum Seen {
    Head(i32, Option<String>),
    Part,
    End,
}

struct Bed {
    core: ProxyCore,
    now: u64,
    /// Requests as the workers got them: link, id, seconds.
    asked: Vec<(LinkId, [u8; 32], f64)>,
    cancelled: Vec<(LinkId, [u8; 32])>,
    /// By the client's id of the request.
    seen: Vec<([u8; 32], Seen)>,
}

impl Bed {
    fn new(settings: ProxySettings) -> Self {
        let cfg = ProxyConfig {
            key: SigningKey::from_bytes(&[3; 32]),
            owner: address(2),
            wallet: address(4),
            contracts: ChainMode::Assumed,
            is_test: true,
            testnet: false,
            check_hashes: false,
            entropy: [5; 32],
            settings,
        };
        let mut bed = Bed {
            core: ProxyCore::new(cfg, root(), Vec::new(), START).unwrap(),
            now: START,
            asked: Vec::new(),
            cancelled: Vec::new(),
            seen: Vec::new(),
        };
        let first = bed.core.take_effects();
        bed.carry(first);
        bed.step(ProxyEvent::Tick);
        bed
    }

    fn step(&mut self, event: ProxyEvent) {
        let effects = self.core.handle(self.now, event);
        self.carry(effects);
    }

    fn carry(&mut self, effects: Vec<ProxyEffect>) {
        for effect in effects {
            match effect {
                ProxyEffect::Save { number, .. } => self.step(ProxyEvent::Saved(number)),
                ProxyEffect::Link(LinkEffect::Send { link, data }) => self.sent(link, &data),
                ProxyEffect::Link(LinkEffect::Close { reason, .. }) => panic!("closed: {reason}"),
                ProxyEffect::Halt(reason) => panic!("halts: {reason}"),
                _ => {}
            }
        }
    }

    fn sent(&mut self, link: LinkId, data: &[u8]) {
        use cocoon_tl::from_boxed;
        if link.0 >= 100 {
            match from_boxed::<wire::PacketToWorker>(data).unwrap() {
                wire::PacketToWorker::RunQueryEx(q) => {
                    self.asked.push((link, q.request_id, q.timeout));
                }
                wire::PacketToWorker::CancelQuery(q) => self.cancelled.push((link, q.request_id)),
                _ => {}
            }
            return;
        }
        if let Some(FromProxy::Answer(a)) = proto::parse_packet_to_client(data).unwrap() {
            let id = a.request_id;
            let seen = match a.kind {
                AnswerKind::Head(data) => {
                    let r: http::Response = from_boxed(&data).unwrap();
                    let after = r.headers.iter().find(|h| h.name == "Retry-After");
                    Seen::Head(r.status_code, after.map(|h| h.value.clone()))
                }
                AnswerKind::Part(_) => Seen::Part,
                AnswerKind::Error { text, .. } => panic!("error after the head: {text}"),
            };
            self.seen.push((id, seen));
            if a.fin.is_some() {
                self.seen.push((id, Seen::End));
            }
        }
    }

    fn query<T: cocoon_tl::Boxed>(&mut self, n: u64, query: &T) {
        let (link, data) = (LinkId(n), to_boxed(query));
        self.step(ProxyEvent::Link(LinkEvent::Query { link, id: 1, data }));
    }

    fn up(&mut self, port: Port, n: u64) {
        let (link, peer) = (LinkId(n), PeerInfo::default());
        self.step(ProxyEvent::Accepted(port, LinkEvent::Up { link, peer }));
    }

    fn down(&mut self, n: u64) {
        let (link, reason) = (LinkId(n), String::new());
        self.step(ProxyEvent::Link(LinkEvent::Down { link, reason }));
    }

    /// Link n is a client of owner n.
    fn client(&mut self, n: u8) {
        self.up(Port::Clients, u64::from(n));
        let hello = client::ConnectToProxy {
            params: client::Params {
                flags: Flags::NONE,
                client_owner_address: address(n).to_string(),
                is_test: Some(true),
                versions: versions(),
            },
            min_config_version: 1,
        };
        self.query(u64::from(n), &hello);
        self.query(u64::from(n), &client::AuthorizeWithProxyLong {});
    }

    /// Link 100 + n is a worker of owner 100 + n.
    fn worker(&mut self, n: u8, coefficient: i32, slots: i32) {
        let link = 100 + u64::from(n);
        self.up(Port::Workers, link);
        let hello = worker::ConnectToProxy {
            params: worker::Params {
                flags: Flags::NONE,
                worker_owner_address: address(100 + n).to_string(),
                model: MODEL.into(),
                coefficient,
                setup: Some(worker::WorkerSetup {
                    is_test: true,
                    proxy_cnt: 1,
                    max_active_requests: slots,
                }),
                versions: versions(),
            },
        };
        self.query(link, &hello);
        let zero = worker::CompareBalanceWithProxy {
            tokens_committed_to_blockchain: 0,
            tokens_committed_to_db: 0,
            max_tokens: 0,
        };
        self.query(link, &zero);
        self.query(link, &worker::ProxyHandshakeComplete { is_disabled: false });
    }

    fn ask(&mut self, client: u8, id: u8, wishes: &Wishes) {
        self.ask_for(client, id, wishes, 60.0);
    }

    fn ask_for(&mut self, client: u8, id: u8, wishes: &Wishes, timeout: f64) {
        let query = to_boxed(&http::Request {
            method: "POST".into(),
            url: "/v1/chat/completions".into(),
            http_version: "HTTP/1.1".into(),
            headers: Vec::new(),
            payload: b"{}".to_vec(),
        });
        let run = RunQuery {
            model: MODEL.into(),
            query,
            max_coefficient: 4000,
            max_tokens: 100,
            timeout,
            request_id: [id; 32],
            min_config_version: 1,
            enable_debug: false,
            wishes: wishes.to_wire(),
        };
        let (link, data) = (LinkId(u64::from(client)), proto::client_run_query(3, run));
        self.step(ProxyEvent::Link(LinkEvent::Packet { link, data }));
    }

    fn answer(&mut self, at: usize, kind: AnswerKind, tokens: Option<i64>) {
        let (link, request_id, _) = self.asked[at];
        let fin = tokens.map(|total| FinalInfo {
            tokens: cocoon_ledger::TokensUsed {
                completion: total,
                total,
                ..Default::default()
            },
            ..Default::default()
        });
        let answer = Answer {
            request_id,
            kind,
            fin,
        };
        let data = proto::worker_answer(3, answer);
        self.step(ProxyEvent::Link(LinkEvent::Packet { link, data }));
    }

    fn head(&mut self, at: usize, status: i32, tokens: Option<i64>) {
        let head = http::Response {
            http_version: "HTTP/1.1".into(),
            status_code: status,
            reason: "X".into(),
            headers: Vec::new(),
            payload: b"{}".to_vec(),
        };
        self.answer(at, AnswerKind::Head(to_boxed(&head)), tokens);
    }

    fn fail(&mut self, at: usize, code: i32, text: &str) {
        let kind = AnswerKind::Error {
            code,
            text: text.into(),
            after_head: false,
        };
        self.answer(at, kind, Some(0));
    }

    /// Status of a request, and the hint when to come back.
    fn status(&self, id: u8) -> Option<(i32, Option<String>)> {
        self.seen.iter().find_map(|(i, s)| match s {
            Seen::Head(status, after) if *i == [id; 32] => Some((*status, after.clone())),
            _ => None,
        })
    }

    fn used(&self) -> u64 {
        let clients = self.core.books().clients.values();
        let workers = self.core.books().workers.values();
        let used: u64 = clients.map(|a| a.tracker.max().0).sum();
        assert_eq!(used, workers.map(|a| a.tracker.max().0).sum::<u64>());
        used
    }

    /// Reserved tokens, and requests that run or wait.
    fn open(&self) -> (u64, u32) {
        let all = self.core.books().clients.values();
        all.fold((0, 0), |(r, n), a| (r + a.reserved.0, n + a.running))
    }

    fn stats(&self) -> Value {
        super::stats::stats(&self.core)
    }
}

fn versions() -> Option<VersionRange> {
    Some(VersionRange {
        min_proto_version: 1,
        max_proto_version: 3,
    })
}

fn none() -> Wishes {
    Wishes::default()
}

#[test]
fn a_request_waits_for_a_busy_worker_and_costs_nothing_until_it_runs() {
    let mut bed = Bed::new(ProxySettings::default());
    bed.client(10);
    bed.worker(1, 1000, 1);
    bed.ask(10, 1, &none());
    bed.ask(10, 2, &none());
    assert_eq!((bed.asked.len(), bed.seen.len()), (1, 0));
    let (reserved, count) = bed.open();
    assert!(reserved > 0 && count == 2);
    assert_eq!(bed.stats()["queue"]["waiting"], 1);
    bed.now += 20_000;
    bed.head(0, 200, Some(7));
    assert_eq!(bed.used(), 7);
    // The second has its own time left, not a new one.
    assert_eq!(bed.asked.len(), 2);
    let seconds = bed.asked[1].2;
    assert!((37.9..=38.1).contains(&seconds), "{seconds}");
    bed.head(1, 200, Some(5));
    assert_eq!((bed.used(), bed.open()), (12, (0, 0)));
    assert_eq!(bed.status(2), Some((200, None)));
}

#[test]
fn what_leaves_the_queue_leaves_no_trace() {
    let mut bed = Bed::new(ProxySettings::default());
    bed.client(10);
    bed.client(11);
    bed.worker(1, 1000, 1);
    bed.ask(10, 1, &none());
    bed.ask(10, 2, &none());
    bed.ask(11, 3, &none());
    bed.ask_for(10, 4, &none(), 5.0);
    let one = bed.open().0 / 4;
    let data = proto::client_cancel([2; 32]);
    let link = LinkId(10);
    bed.step(ProxyEvent::Link(LinkEvent::Packet { link, data }));
    assert_eq!(bed.open(), (3 * one, 3), "the caller left");
    bed.down(11);
    assert_eq!(bed.open(), (2 * one, 2), "the link died");
    bed.now += 5_000;
    bed.step(ProxyEvent::Tick);
    assert_eq!(bed.open(), (one, 1), "the time is over");
    assert_eq!(bed.status(4).map(|s| s.0), Some(504));
    bed.head(0, 200, Some(3));
    assert_eq!((bed.asked.len(), bed.used(), bed.open()), (1, 3, (0, 0)));
}

#[test]
fn the_queue_is_bounded_and_says_when_to_come_back() {
    let mut bed = Bed::new(ProxySettings {
        max_queue: 3,
        max_queue_per_client: 2,
        ..ProxySettings::default()
    });
    bed.client(10);
    bed.client(11);
    bed.worker(1, 1000, 1);
    for id in 1..=4 {
        bed.ask(10, id, &none());
    }
    assert_eq!(bed.status(4), Some((429, Some("1".into()))));
    bed.ask(11, 5, &none());
    bed.ask(11, 6, &none());
    assert_eq!(bed.status(6), Some((503, Some("1".into()))));
    assert_eq!((bed.open().1, bed.used()), (4, 0));
    assert_eq!(bed.stats()["queue"]["refused"], 2);
    // Who stops refuses what waits and finishes what runs.
    bed.step(ProxyEvent::Drain);
    assert_eq!(bed.open().1, 1);
    for id in [2, 3, 5] {
        assert_eq!(bed.status(id).map(|s| s.0), Some(503));
    }
}

#[test]
fn clients_take_turns() {
    let mut bed = Bed::new(ProxySettings::default());
    bed.client(10);
    bed.client(11);
    bed.worker(1, 1000, 1);
    for id in 1..=6 {
        bed.ask(10, id, &none());
    }
    bed.now += 1000;
    bed.ask(11, 20, &none());
    bed.ask(11, 21, &none());
    for at in 0..7 {
        bed.head(at, 200, Some(1));
    }
    let order: Vec<u8> = bed
        .seen
        .iter()
        .filter(|(_, s)| *s == Seen::End)
        .map(|(id, _)| id[0])
        .collect();
    // The one who came late with two waits for one of the other's at a time, not for all.
    let place = |id| order.iter().position(|o| *o == id).unwrap();
    assert!(place(20) <= 3 && place(21) <= 5, "{order:?}");
}

#[test]
fn another_worker_answers_while_nothing_was_delivered() {
    for case in 0..4 {
        let mut bed = Bed::new(ProxySettings::default());
        bed.client(10);
        bed.worker(1, 1000, 4);
        bed.worker(2, 1000, 4);
        bed.ask(10, 1, &none());
        let first = bed.asked[0].0;
        match case {
            0 => bed.down(first.0),
            1 => bed.fail(0, 601, "worker: http failed"),
            2 => bed.head(0, 502, None),
            _ => bed.head(0, 503, Some(4)),
        }
        assert_eq!(bed.asked.len(), 2, "case {case}");
        assert_ne!(bed.asked[1].0, first, "case {case}");
        assert!(bed.seen.is_empty(), "case {case}: {:?}", bed.seen);
        assert_eq!(bed.cancelled.len(), usize::from(case >= 2), "case {case}");
        // What the first still says counts for nothing.
        if case != 0 {
            bed.head(0, 200, Some(50));
        }
        bed.head(1, 200, Some(9));
        assert_eq!((bed.used(), bed.open()), (9, (0, 0)), "case {case}");
        assert_eq!(bed.status(1), Some((200, None)), "case {case}");
        assert_eq!(bed.stats()["queue"]["sent_to_another_worker"], 1);
    }
}

#[test]
fn tries_are_bounded_and_the_callers_fault_is_not_tried_again() {
    let mut bed = Bed::new(ProxySettings::default());
    bed.client(10);
    for n in 1..=5 {
        bed.worker(n, 1000, 4);
    }
    bed.ask(10, 1, &none());
    for at in 0..3 {
        bed.fail(at, 601, "worker: http failed");
    }
    assert_eq!(
        bed.asked.len(),
        3,
        "two further workers unless the caller says otherwise"
    );
    assert_eq!(bed.status(1).map(|s| s.0), Some(502));
    let tries: BTreeSet<LinkId> = bed.asked.iter().map(|a| a.0).collect();
    assert_eq!(tries.len(), 3);
    let never = Wishes {
        retries: Some(0),
        ..none()
    };
    bed.ask(10, 2, &never);
    bed.fail(3, 601, "worker: http failed");
    assert_eq!(
        (bed.asked.len(), bed.status(2).map(|s| s.0)),
        (4, Some(502))
    );
    bed.ask(10, 3, &none());
    bed.fail(4, 621, "worker: invalid http request: x");
    assert_eq!(
        (bed.asked.len(), bed.status(3).map(|s| s.0)),
        (5, Some(400))
    );
    assert_eq!((bed.used(), bed.open()), (0, (0, 0)));
}

#[test]
fn a_full_worker_is_asked_again_later() {
    let mut bed = Bed::new(ProxySettings::default());
    bed.client(10);
    bed.worker(1, 1000, 4);
    bed.ask(10, 1, &none());
    bed.fail(0, 602, "too many active queries");
    bed.step(ProxyEvent::Tick);
    assert_eq!(bed.asked.len(), 1, "not at once");
    bed.now += 300;
    bed.step(ProxyEvent::Tick);
    assert_eq!(bed.asked.len(), 2);
    bed.head(1, 200, Some(2));
    assert_eq!((bed.used(), bed.open()), (2, (0, 0)));
}

#[test]
fn callers_choose_by_price_and_by_name() {
    let mut bed = Bed::new(ProxySettings::default());
    bed.client(10);
    bed.worker(1, 2000, 100);
    bed.worker(2, 500, 100);
    bed.worker(3, 1000, 100);
    let cheap = Wishes {
        sort: cocoon_ledger::rank::Sort::Price,
        ..none()
    };
    let only = Wishes {
        allow: vec![address(101)],
        ..none()
    };
    let not = Wishes {
        exclude: vec![address(102), address(103)],
        ..none()
    };
    for (id, (wishes, link)) in (1u8..).zip([(&cheap, 102), (&only, 101), (&not, 101)].repeat(8)) {
        bed.ask(10, id, wishes);
        assert_eq!(
            bed.asked.last().unwrap().0,
            LinkId(link),
            "request {id}: {wishes:?}"
        );
        let at = bed.asked.len() - 1;
        bed.head(at, 200, Some(1));
    }
    let nobody = Wishes {
        allow: vec![address(77)],
        ..none()
    };
    let before = bed.asked.len();
    bed.ask(10, 99, &nobody);
    assert_eq!(
        (bed.status(99).map(|s| s.0), bed.asked.len()),
        (Some(503), before)
    );
}

#[test]
fn a_failing_worker_is_left_alone_even_if_it_reconnects() {
    let mut bed = Bed::new(ProxySettings::default());
    bed.client(10);
    bed.worker(1, 100, 50);
    bed.worker(2, 2000, 50);
    let mut id = 0;
    let mut asked_bad = 0;
    for _ in 0..60 {
        id += 1;
        bed.ask(10, id, &none());
        while let Some(at) = bed.asked.len().checked_sub(1)
            && bed.status(id).is_none()
        {
            if bed.asked[at].0 == LinkId(101) {
                asked_bad += 1;
                bed.fail(at, 601, "broken");
            } else {
                bed.head(at, 200, Some(1));
            }
        }
        assert_eq!(bed.status(id).map(|s| s.0), Some(200));
    }
    assert_eq!(asked_bad, 3, "then it is paused");
    bed.down(101);
    bed.worker(1, 100, 50);
    id += 1;
    bed.ask(10, id, &none());
    assert_eq!(
        bed.asked.last().unwrap().0,
        LinkId(102),
        "its record came back with it"
    );
}
