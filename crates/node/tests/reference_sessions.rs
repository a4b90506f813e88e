//! The reference's client and worker, as recorded, against our proxy in a network without a chain: every frame of
//! theirs is taken, and what goes between them through us is what went between them then.

use std::collections::BTreeSet;

use cocoon_node::ChainMode;
use cocoon_node::link::{LinkEffect, LinkEvent, LinkId, PeerInfo};
use cocoon_node::payment;
use cocoon_node::proto::{self, AnswerKind, FromProxy};
use cocoon_node::proxy::{Port, ProxyConfig, ProxyCore, ProxyEffect, ProxyEvent};
use cocoon_node::root::RootView;
use cocoon_tl::from_boxed;
use cocoon_ton::abi::{Params, SignedOp};
use cocoon_ton::{Address, Cell};
use cocoon_wire::msg::{client, http, proxy, tcp, worker};
use ed25519_dalek::SigningKey;
use serde_json::Value;

const SESSIONS: &str = include_str!("../../wire/tests/vectors/recorded-sessions.json");
const CLIENT: LinkId = LinkId(1);
const WORKER: LinkId = LinkId(2);
const NOW: u64 = 1_795_366_000_000;

/// Payloads that one side of a recorded session sent, in their order.
fn sent(session: &str, from: &str) -> Vec<tcp::Payload> {
    let all: Value = serde_json::from_str(SESSIONS).unwrap();
    let sessions = all["sessions"].as_array().unwrap();
    let found = sessions.iter().find(|s| s["name"] == session).unwrap();
    let frames = found["frames"].as_array().unwrap().iter();
    frames
        .filter(|f| f["from"] == from)
        .map(|f| {
            let bytes = hex::decode(f["hex"].as_str().unwrap()).unwrap();
            // Length and sequence number stand before the payload.
            from_boxed(&bytes[8..]).unwrap()
        })
        .collect()
}

fn root() -> RootView {
    let one = cocoon_ton::abi::params::MULTIPLIER_ONE;
    RootView {
        owner: None,
        last_proxy_seqno: 1,
        address: Address::basechain([1; 32]),
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
        proxies: Vec::new(),
    }
}

struct Bed {
    core: ProxyCore,
    key: SigningKey,
}

impl Bed {
    fn new() -> Self {
        let key = SigningKey::from_bytes(&[3; 32]);
        let cfg = ProxyConfig {
            key: key.clone(),
            owner: Address::basechain([2; 32]),
            wallet: Address::basechain([4; 32]),
            contracts: ChainMode::Assumed,
            is_test: true,
            testnet: false,
            check_hashes: false,
            entropy: [5; 32],
            settings: Default::default(),
        };
        let mut bed = Bed {
            core: ProxyCore::new(cfg, root(), Vec::new(), NOW).unwrap(),
            key,
        };
        let first = bed.core.take_effects();
        assert!(bed.carry(first).is_empty());
        for (port, link) in [(Port::Clients, CLIENT), (Port::Workers, WORKER)] {
            let peer = PeerInfo::default();
            let event = ProxyEvent::Accepted(port, LinkEvent::Up { link, peer });
            assert!(bed.step(event).is_empty());
        }
        bed
    }

    fn step(&mut self, event: ProxyEvent) -> Vec<LinkEffect> {
        let effects = self.core.handle(NOW, event);
        self.carry(effects)
    }

    /// A disk that saves at once, and no chain: nothing may be wanted of it.
    fn carry(&mut self, effects: Vec<ProxyEffect>) -> Vec<LinkEffect> {
        let mut out = Vec::new();
        for effect in effects {
            match effect {
                ProxyEffect::Link(LinkEffect::Close { link, reason }) => panic!("{link}: {reason}"),
                ProxyEffect::Link(e) => out.push(e),
                ProxyEffect::Save { number, .. } => {
                    out.extend(self.step(ProxyEvent::Saved(number)))
                }
                ProxyEffect::Ready => {}
                ProxyEffect::Transact { .. } => panic!("a message without a chain"),
                ProxyEffect::Alarm(text) | ProxyEffect::Halt(text) => panic!("{text}"),
                ProxyEffect::Drained => panic!("drained"),
                ProxyEffect::Watch { .. } | ProxyEffect::Unwatch(_) | ProxyEffect::Note(_) => {}
            }
        }
        out
    }

    fn deliver(&mut self, link: LinkId, payload: tcp::Payload) -> Vec<LinkEffect> {
        let event = match payload {
            tcp::Payload::Query(q) => LinkEvent::Query {
                link,
                id: q.id,
                data: q.data,
            },
            tcp::Payload::Packet(p) => LinkEvent::Packet { link, data: p.data },
            // The transport's own frames.
            _ => return Vec::new(),
        };
        self.step(ProxyEvent::Link(event))
    }
}

fn reply(effects: &[LinkEffect]) -> &[u8] {
    match effects {
        [
            LinkEffect::Reply {
                result: Ok(data), ..
            },
        ] => data,
        other => panic!("one answer expected, found {other:?}"),
    }
}

fn packets(effects: Vec<LinkEffect>, to: LinkId) -> Vec<Vec<u8>> {
    effects
        .into_iter()
        .filter_map(|e| match e {
            LinkEffect::Send { link, data } if link == to => Some(data),
            _ => None,
        })
        .collect()
}

fn query_of(payload: &tcp::Payload) -> bool {
    matches!(payload, tcp::Payload::Query(_))
}

/// The request as some proxy passed it to the recorded worker.
fn recorded_run() -> proxy::RunQueryEx {
    let frames = sent("reference_worker_session_v2", "proxy");
    frames
        .iter()
        .find_map(|f| match f {
            tcp::Payload::Packet(p) => from_boxed(&p.data).ok(),
            _ => None,
        })
        .unwrap()
}

#[test]
fn the_references_client_and_worker_meet_through_our_proxy() {
    let mut bed = Bed::new();
    let mut answers = 0;
    let worker_sent = sent("reference_worker_session_v2", "worker");
    for frame in worker_sent.iter().filter(|f| query_of(f)) {
        let effects = bed.deliver(WORKER, frame.clone());
        let data = reply(&effects);
        answers += 1;
        if let Ok(hello) = from_boxed::<worker::ConnectedToProxy>(data) {
            assert_eq!(hello.params.proto_version, Some(2));
            // Non-bounceable, as the reference compares it (3.1).
            assert!(hello.worker_sc_address.starts_with("UQ"));
        }
    }
    assert_eq!(answers, 3);

    let client_sent = sent("reference_client_session_v2", "client");
    let mut run = None;
    for frame in client_sent {
        let is_query = query_of(&frame);
        let effects = bed.deliver(CLIENT, frame.clone());
        if is_query {
            let data = reply(&effects);
            if let Ok(hello) = from_boxed::<client::ConnectedToProxy>(data) {
                assert!(
                    matches!(hello.auth, client::ProxyConnectionAuth::Short(a) if a.nonce == 0)
                );
            }
            if let Ok(answer) = from_boxed::<client::AuthorizationWithProxy>(data) {
                assert!(matches!(answer, client::AuthorizationWithProxy::Success(_)));
            }
        } else if let tcp::Payload::Packet(p) = frame {
            let wanted: client::RunQueryEx = from_boxed(&p.data).unwrap();
            run = Some((wanted, packets(effects, WORKER)));
        }
    }
    let (wanted, forwarded) = run.unwrap();
    let [forwarded] = &forwarded[..] else {
        panic!("one request expected");
    };
    let forwarded: proxy::RunQueryEx = from_boxed(forwarded).unwrap();
    let then = recorded_run();
    assert_eq!(forwarded.query, wanted.query);
    assert!(from_boxed::<http::Request>(&forwarded.query).is_ok());
    assert_eq!(forwarded.query, then.query);
    assert_eq!(forwarded.coefficient, then.coefficient);
    assert_eq!(forwarded.enable_debug, then.enable_debug);
    assert!(
        (forwarded.timeout - then.timeout).abs() < 1e-6,
        "{} {}",
        forwarded.timeout,
        then.timeout
    );

    // The worker's recorded answer, under our request id.
    let mut told = Vec::new();
    let mut paid = Vec::new();
    for frame in worker_sent {
        let tcp::Payload::Packet(p) = frame else {
            continue;
        };
        let at = p
            .data
            .windows(32)
            .position(|w| w == then.request_id)
            .unwrap();
        let mut data = p.data.clone();
        data[at..at + 32].copy_from_slice(&forwarded.request_id);
        let effects = bed.step(ProxyEvent::Link(LinkEvent::Packet { link: WORKER, data }));
        paid.extend(packets(effects.clone(), WORKER));
        told.extend(packets(effects, CLIENT));
    }
    let (mut head, mut body, mut total) = (false, Vec::new(), None);
    for data in told {
        match proto::parse_packet_to_client(&data).unwrap().unwrap() {
            FromProxy::Answer(a) => {
                assert_eq!(a.request_id, wanted.request_id);
                match a.kind {
                    AnswerKind::Head(data) => {
                        let response: http::Response = from_boxed(&data).unwrap();
                        assert_eq!(response.status_code, 200);
                        body.extend(response.payload);
                        head = true;
                    }
                    AnswerKind::Part(piece) => body.extend(piece),
                    AnswerKind::Error { text, .. } => panic!("{text}"),
                }
                total = a.fin.map(|f| f.tokens.total).or(total);
            }
            FromProxy::Payment(p) => assert_eq!(Some(p.max_tokens as i64), total),
        }
    }
    assert!(head && !body.is_empty());
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("hello from fakellm"), "{text}");

    // The worker hears what it has earned, with a payment that it accepts.
    let [data] = &paid[..] else {
        panic!("one payment expected, found {}", paid.len());
    };
    let payment: proxy::WorkerRequestPayment = from_boxed(data).unwrap();
    assert_eq!(Some(payment.request_tokens), total);
    let (_, account) = bed.core.books().workers.iter().next().unwrap();
    let boc = payment.signed_payment.boc().unwrap();
    let key = bed.key.verifying_key().to_bytes();
    payment::check(boc, SignedOp::WorkerPayout, account.sc, &key).unwrap();
    assert_eq!(bed.core.running(), 0);
}

/// Both recorded sessions of hand-written clients, versions 0 and 2: every query is answered as the reference did.
#[test]
fn recorded_clients_get_answers_of_the_same_kinds() {
    for session in ["client_session_v2", "client_session_v0"] {
        let mut bed = Bed::new();
        for frame in sent("reference_worker_session_v2", "worker") {
            if query_of(&frame) {
                bed.deliver(WORKER, frame);
            }
        }
        let theirs = sent(session, "proxy");
        let mut queries = 0;
        for frame in sent(session, "client") {
            let tcp::Payload::Query(q) = &frame else {
                continue;
            };
            let id = q.id;
            let effects = bed.deliver(CLIENT, frame.clone());
            let ours = match &effects[..] {
                [LinkEffect::Reply { result, .. }] => result,
                other => panic!("{session}: {other:?}"),
            };
            let same = theirs.iter().any(|t| match (t, ours) {
                (tcp::Payload::QueryAnswer(a), Ok(data)) => a.id == id && a.data[..4] == data[..4],
                (tcp::Payload::QueryError(e), Err((code, text))) => {
                    e.id == id && (e.code, &e.message) == (*code, text)
                }
                _ => false,
            });
            assert!(
                same,
                "{session}: query {queries} is answered in another way: {ours:?}"
            );
            queries += 1;
        }
        assert!(queries >= 6, "{session}: {queries}");
    }
}
