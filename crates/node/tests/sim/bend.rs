//! Messages of peers that mean harm: real ones replayed and damaged, and new ones with figures nobody should believe.

use std::collections::VecDeque;

use cocoon_ledger::TokensUsed;
use cocoon_node::proto::{self, Answer, AnswerKind, FinalInfo, FromProxy, PaymentStatus};
use cocoon_node::wishes::WireWishes;
use cocoon_tl::{Flags, from_boxed, to_boxed};
use cocoon_wire::msg::common::VersionRange;
use cocoon_wire::msg::{catalogue, client, common, http, proxy, worker};
use rand::Rng;
use rand::seq::IndexedRandom;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Worker,
    Proxy,
}

/// How it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Packet,
    Query,
    Answer,
}

/// How many of each kind a thief remembers.
const KEPT: usize = 48;
const ANY: [u8; 32] = [9; 32];

/// What was seen on any wire.
#[derive(Default)]
pub struct Loot {
    messages: VecDeque<Vec<u8>>,
    ids: VecDeque<[u8; 32]>,
    payments: VecDeque<Vec<u8>>,
    /// Addresses in the forms of the wire.
    pub addresses: Vec<String>,
}

fn keep<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() >= KEPT {
        list.pop_front();
    }
    list.push_back(item);
}

impl Loot {
    /// Remembers a message, and the ids and payments in it.
    pub fn see(&mut self, data: &[u8]) {
        if data.len() < 4096 {
            keep(&mut self.messages, data.to_vec());
        }
        if let Ok(Some(packet)) = proto::parse_client_packet(data) {
            let (proto::ClientPacket::Run(proto::RunQuery { request_id: id, .. })
            | proto::ClientPacket::Cancel(id)) = packet;
            keep(&mut self.ids, id);
        } else if let Ok(Some(FromProxy::Payment(p))) = proto::parse_packet_to_client(data) {
            self.payments.extend(p.signed_payment);
        } else if let Ok(proxy::PacketToWorker::RunQueryEx(q)) = from_boxed(data) {
            keep(&mut self.ids, q.request_id);
        } else if let Ok(proxy::PacketToWorker::RunQuery(q)) = from_boxed(data) {
            keep(&mut self.ids, q.request_id);
        } else if let Ok(proxy::PacketToWorker::WorkerRequestPayment(p)) = from_boxed(data) {
            self.payments
                .extend(p.signed_payment.boc().map(<[u8]>::to_vec));
        }
        while self.payments.len() > KEPT {
            self.payments.pop_front();
        }
    }

    /// A message somebody sent before.
    pub fn message(&self, rng: &mut impl Rng) -> Option<Vec<u8>> {
        let i = rng.random_range(0..self.messages.len().max(1));
        self.messages.get(i).cloned()
    }

    /// A payment somebody was shown before.
    pub fn payment(&self, rng: &mut impl Rng) -> Option<Vec<u8>> {
        let i = rng.random_range(0..self.payments.len().max(1));
        self.payments.get(i).cloned()
    }

    fn id(&self, rng: &mut impl Rng) -> [u8; 32] {
        let i = rng.random_range(0..self.ids.len() + 1);
        self.ids.get(i).copied().unwrap_or(ANY)
    }

    fn address(&self, rng: &mut impl Rng) -> String {
        match rng.random_range(0..8) {
            0 => String::new(),
            1 => "x".repeat(48),
            _ => self.addresses.choose(rng).cloned().unwrap_or_default(),
        }
    }
}

const INTS: [i32; 8] = [0, 1, -1, 7, 1000, i32::MAX, i32::MIN, 999_999_999];
const LONGS: [i64; 9] = [
    0,
    1,
    -1,
    i64::MIN,
    i64::MAX,
    1 << 48,
    1_000_000,
    i32::MAX as i64,
    -1_000_000,
];
const DOUBLES: [f64; 9] = [
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    -1.0,
    0.0,
    -0.0,
    1e308,
    1e-300,
    5.0,
];

fn int(rng: &mut impl Rng) -> i32 {
    INTS[rng.random_range(0..INTS.len())]
}

fn long(rng: &mut impl Rng) -> i64 {
    LONGS[rng.random_range(0..LONGS.len())]
}

fn double(rng: &mut impl Rng) -> f64 {
    DOUBLES[rng.random_range(0..DOUBLES.len())]
}

/// Damages a message: bits, length, numbers at their limits, another's id, another's constructor.
pub fn damage(rng: &mut impl Rng, mut data: Vec<u8>, loot: &Loot) -> Vec<u8> {
    for _ in 0..rng.random_range(1..3) {
        let words = data.len() / 4;
        if words == 0 {
            return data;
        }
        let at = 4 * rng.random_range(0..words);
        match rng.random_range(0..8) {
            0 => data[at] ^= 1 << rng.random_range(0..8),
            1 => data.truncate(at),
            2 => data.extend([0; 4]),
            3 => put(&mut data, at, &int(rng).to_le_bytes()),
            4 => put(&mut data, at, &long(rng).to_le_bytes()),
            5 => put(&mut data, at, &double(rng).to_le_bytes()),
            6 => put(&mut data, at, &loot.id(rng)),
            _ => {
                let entry =
                    &catalogue::CONSTRUCTORS[rng.random_range(0..catalogue::CONSTRUCTORS.len())];
                put(&mut data, at.min(4) / 4 * at, &entry.id.to_le_bytes());
            }
        }
    }
    data
}

fn put(data: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in data[at..].iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// Something well-formed that this side could send this way, with figures nobody should believe.
pub fn invent(rng: &mut impl Rng, side: Side, way: Way, loot: &Loot) -> Vec<u8> {
    match (side, way) {
        (Side::Client, Way::Packet) => client_packet(rng, loot),
        (Side::Client, _) => client_query(rng, loot),
        (Side::Worker, Way::Packet) => worker_packet(rng, loot),
        (Side::Worker, _) => worker_query(rng, loot),
        (Side::Proxy, Way::Packet) => proxy_packet(rng, loot),
        (Side::Proxy, _) => proxy_answer(rng, loot),
    }
}

/// Bodies of requests that are hard to swallow.
fn body(rng: &mut impl Rng) -> Vec<u8> {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    match rng.random_range(0..10) {
        0 => Vec::new(),
        1 => b"{".to_vec(),
        2 => b"{\"model\":\"alpha\",\"model\":\"beta\",\"max_tokens\":5}".to_vec(),
        3 => format!("{{\"model\":\"alpha\",\"messages\":{}}}", deep(500)).into_bytes(),
        4 => b"{\"model\":\"alpha\",\"max_tokens\":1e999}".to_vec(),
        5 => b"{\"model\":\"alpha\",\"max_tokens\":-5,\"n\":1000000}".to_vec(),
        6 => b"3".to_vec(),
        7 => vec![0xff; 40],
        8 => format!("{{\"model\":\"alpha\",\"messages\":\"{}\"}}", "x".repeat(9000)).into_bytes(),
        _ => b"{\"model\":\"alpha\",\"messages\":[{\"role\":\"user\",\"content\":\"client 0\"}],\"max_tokens\":3}".to_vec(),
    }
}

fn http_request(rng: &mut impl Rng) -> Vec<u8> {
    if rng.random_bool(0.1) {
        return vec![1; 12];
    }
    let text = |rng: &mut _, usual: &str| match Rng::random_range(rng, 0..6) {
        0 => String::new(),
        1 => "a\r\nb: c".to_owned(),
        _ => usual.to_owned(),
    };
    to_boxed(&http::Request {
        method: text(rng, "POST"),
        url: text(rng, "/v1/chat/completions"),
        http_version: text(rng, "HTTP/1.1"),
        headers: vec![http::Header {
            name: text(rng, "Content-Type"),
            value: text(rng, "application/json"),
        }],
        payload: body(rng),
    })
}

fn http_response(rng: &mut impl Rng) -> Vec<u8> {
    if rng.random_bool(0.1) {
        return vec![2; 8];
    }
    to_boxed(&http::Response {
        http_version: ["HTTP/1.1", "HTTP/9", ""][rng.random_range(0..3)].to_owned(),
        status_code: [200, 404, 0, -1, 99, 1000, i32::MAX][rng.random_range(0..7)],
        reason: "x\r\ny".to_owned(),
        headers: vec![http::Header {
            name: "Set:Cookie".to_owned(),
            value: "a\nb".to_owned(),
        }],
        payload: vec![b'z'; rng.random_range(0..200)],
    })
}

/// Half of the time none.
fn wishes<R: Rng>(rng: &mut R, loot: &Loot) -> WireWishes {
    if rng.random_bool(0.5) {
        return WireWishes::default();
    }
    let list = |rng: &mut R| -> Vec<String> {
        // More than a request may name, now and then.
        let count = if rng.random_bool(0.1) { 65 } else { 2 };
        (0..rng.random_range(0..=count))
            .map(|_| loot.address(rng))
            .collect()
    };
    WireWishes {
        sort: int(rng),
        retries: int(rng),
        allow: list(rng),
        exclude: list(rng),
    }
}

fn client_packet(rng: &mut impl Rng, loot: &Loot) -> Vec<u8> {
    if rng.random_bool(0.15) {
        return proto::client_cancel(loot.id(rng));
    }
    let usual = rng.random_bool(0.5);
    let query = proto::RunQuery {
        model: ["alpha", "beta", "ghost", ""][rng.random_range(0..4)].to_owned(),
        query: http_request(rng),
        max_coefficient: if usual { 4000 } else { int(rng) },
        max_tokens: if usual { 9 } else { int(rng) },
        timeout: if rng.random_bool(0.5) {
            4.0
        } else {
            double(rng)
        },
        request_id: if rng.random_bool(0.5) {
            loot.id(rng)
        } else {
            rng.random()
        },
        min_config_version: if usual { 1 } else { int(rng) },
        enable_debug: rng.random(),
        wishes: wishes(rng, loot),
    };
    proto::client_run_query(rng.random_range(0..4), query)
}

fn versions(rng: &mut impl Rng) -> Option<VersionRange> {
    rng.random_bool(0.8).then(|| VersionRange {
        min_proto_version: rng.random_range(-1..4),
        max_proto_version: [0, 1, 2, 3, 9, -1, i32::MAX][rng.random_range(0..7)],
    })
}

fn client_query(rng: &mut impl Rng, loot: &Loot) -> Vec<u8> {
    match rng.random_range(0..9) {
        0 | 1 => to_boxed(&client::ConnectToProxy {
            params: client::Params {
                flags: Flags::NONE,
                client_owner_address: loot.address(rng),
                is_test: [Some(true), Some(false), None][rng.random_range(0..3)],
                versions: versions(rng),
            },
            min_config_version: if rng.random_bool(0.7) { 1 } else { int(rng) },
        }),
        2 => to_boxed(&client::AuthorizeWithProxyShort {
            data: vec![1; rng.random_range(0..40)],
        }),
        3 => to_boxed(&client::AuthorizeWithProxyLong {}),
        4 => to_boxed(&client::UpdatePaymentStatus {}),
        5 => to_boxed(&client::GetWorkerTypes {}),
        6 => to_boxed(&client::GetWorkerTypesV2 {}),
        7 => to_boxed(&client::RequestRefund {}),
        _ => to_boxed(&common::TestQuery { id: long(rng) }),
    }
}

fn usage(rng: &mut impl Rng) -> TokensUsed {
    let mut t = TokensUsed {
        prompt: long(rng),
        cached: long(rng),
        completion: long(rng),
        reasoning: long(rng),
        total: long(rng),
    };
    if rng.random_bool(0.6) {
        // Consistent, but perhaps far more than was reserved.
        let most = [0, 5, 400, 1 << 40][rng.random_range(0..4)];
        t = TokensUsed {
            prompt: most,
            cached: 0,
            completion: most,
            reasoning: 0,
            total: 2 * most,
        };
    }
    t
}

fn answer(rng: &mut impl Rng, loot: &Loot) -> Answer {
    let kind = match rng.random_range(0..4) {
        0 => AnswerKind::Head(http_response(rng)),
        1 | 2 => AnswerKind::Part(vec![b'q'; rng.random_range(0..60)]),
        _ => AnswerKind::Error {
            code: int(rng),
            text: "\u{1b}[31m".repeat(rng.random_range(0..9)),
            after_head: rng.random(),
        },
    };
    let fin = FinalInfo {
        tokens: usage(rng),
        worker_debug: rng.random_bool(0.2).then(|| "{\"x".to_owned()),
        proxy_debug: rng.random_bool(0.2).then(|| "[".to_owned()),
        proxy_start: double(rng),
        proxy_end: double(rng),
        worker_start: double(rng),
        worker_end: double(rng),
    };
    Answer {
        request_id: loot.id(rng),
        kind,
        fin: rng.random_bool(0.5).then_some(fin),
    }
}

fn worker_packet(rng: &mut impl Rng, loot: &Loot) -> Vec<u8> {
    match rng.random_range(0..8) {
        0 => to_boxed(&worker::EnabledDisabled { disabled: int(rng) }),
        1 => to_boxed(&worker::NewCoefficient {
            new_coefficient: int(rng),
        }),
        _ => proto::worker_answer(rng.random_range(0..4), answer(rng, loot)),
    }
}

fn worker_query(rng: &mut impl Rng, loot: &Loot) -> Vec<u8> {
    match rng.random_range(0..6) {
        0 | 1 => to_boxed(&worker::ConnectToProxy {
            params: worker::Params {
                flags: Flags::NONE,
                worker_owner_address: loot.address(rng),
                model: ["alpha@c0ffee:01", "beta@c0ffee:02", "", "evil@1:2"]
                    [rng.random_range(0..4)]
                .to_owned(),
                coefficient: int(rng),
                setup: rng.random_bool(0.9).then(|| worker::WorkerSetup {
                    is_test: rng.random_bool(0.9),
                    proxy_cnt: int(rng),
                    max_active_requests: int(rng),
                }),
                versions: versions(rng),
            },
        }),
        2 => to_boxed(&worker::CompareBalanceWithProxy {
            tokens_committed_to_blockchain: long(rng),
            tokens_committed_to_db: long(rng),
            max_tokens: long(rng),
        }),
        3 => to_boxed(&worker::ExtendedCompareBalanceWithProxy {
            tokens_committed_to_db: long(rng),
            other: vec![3; rng.random_range(0..20)],
        }),
        4 => to_boxed(&worker::ProxyHandshakeComplete {
            is_disabled: rng.random(),
        }),
        _ => to_boxed(&worker::UpdatePaymentStatus {}),
    }
}

fn payment(rng: &mut impl Rng, loot: &Loot) -> proxy::SignedPayment {
    match loot.payment(rng) {
        Some(boc) if rng.random_bool(0.5) => proxy::SignedPayment::signed(boc),
        Some(boc) if rng.random_bool(0.7) => proxy::SignedPayment::signed(damage(rng, boc, loot)),
        Some(_) => proxy::SignedPayment::signed(vec![7; 30]),
        None => proxy::SignedPayment::EMPTY,
    }
}

fn proxy_packet(rng: &mut impl Rng, loot: &Loot) -> Vec<u8> {
    let signed_payment = payment(rng, loot);
    match rng.random_range(0..8) {
        0 | 1 => proto::client_answer(rng.random_range(0..4), answer(rng, loot)),
        2 => to_boxed(&proxy::ClientRequestPayment {
            request_id: loot.id(rng),
            signed_payment,
            db_tokens: long(rng),
            max_tokens: long(rng),
            request_tokens: long(rng),
        }),
        3 => to_boxed(&proxy::WorkerRequestPayment {
            request_id: loot.id(rng),
            signed_payment,
            db_tokens: long(rng),
            max_tokens: long(rng),
            request_tokens: long(rng),
            request_client_owner: loot.address(rng),
        }),
        4 => match signed_payment {
            proxy::SignedPayment::Signed(p) => to_boxed(&p),
            proxy::SignedPayment::Empty(p) => to_boxed(&p),
        },
        5 => proto::proxy_cancel(loot.id(rng)),
        _ => {
            let query = proto::WorkerQuery {
                query: http_request(rng),
                signed_payment: signed_payment.boc().map(<[u8]>::to_vec),
                coefficient: if rng.random_bool(0.5) {
                    1000
                } else {
                    long(rng)
                },
                timeout: if rng.random_bool(0.5) {
                    3.0
                } else {
                    double(rng)
                },
                request_id: loot.id(rng),
                enable_debug: rng.random(),
            };
            proto::proxy_run_query(rng.random_range(0..4), query)
        }
    }
}

fn proxy_answer(rng: &mut impl Rng, loot: &Loot) -> Vec<u8> {
    let signed_payment = payment(rng, loot);
    let params = proxy::Params {
        flags: Flags::NONE,
        proxy_public_key: loot.id(rng),
        proxy_owner_address: loot.address(rng),
        proxy_sc_address: loot.address(rng),
        is_test: [Some(true), Some(false), None][rng.random_range(0..3)],
        proto_version: [None, Some(2), Some(3), Some(4), Some(-1)][rng.random_range(0..5)],
    };
    match rng.random_range(0..9) {
        0 => to_boxed(&client::ConnectedToProxy {
            params,
            client_sc_address: loot.address(rng),
            auth: client::ProxyConnectionAuthLong { nonce: long(rng) }.into(),
            signed_payment,
        }),
        1 => to_boxed(&client::AuthorizationWithProxySuccess {
            signed_payment,
            tokens_committed_to_db: long(rng),
            max_tokens: long(rng),
        }),
        2 => to_boxed(&client::AuthorizationWithProxyFailed {
            error_code: int(rng),
            error: "no".to_owned(),
        }),
        3 => to_boxed(&worker::ConnectedToProxy {
            params,
            worker_sc_address: loot.address(rng),
        }),
        4 => to_boxed(&worker::CompareBalanceWithProxyResult {
            signed_payment,
            tokens_committed_to_db: long(rng),
            max_tokens: long(rng),
            error_code: int(rng),
        }),
        5 => to_boxed(&worker::ExtendedCompareBalanceWithProxyResult {
            error_code: int(rng),
        }),
        6 => proto::worker_payment_status(&PaymentStatus {
            signed_payment: signed_payment.boc().map(<[u8]>::to_vec),
            db_tokens: long(rng).unsigned_abs(),
            max_tokens: long(rng).unsigned_abs(),
        }),
        7 => proto::client_payment_status(&PaymentStatus {
            signed_payment: signed_payment.boc().map(<[u8]>::to_vec),
            db_tokens: long(rng).unsigned_abs(),
            max_tokens: long(rng).unsigned_abs(),
        }),
        _ => to_boxed(&client::WorkerTypesV2 {
            types: vec![client::WorkerTypeV2 {
                name: "alpha".to_owned(),
                workers: vec![client::WorkerInstanceV2 {
                    flags: Flags::NONE,
                    coefficient: int(rng),
                    active_requests: int(rng),
                    max_active_requests: int(rng),
                }],
            }],
        }),
    }
}
