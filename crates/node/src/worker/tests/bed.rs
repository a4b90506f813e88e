//! A worker core with a disk that saves at once (or when told) and a proxy that says what the test wants.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_engine::{BackendEvent, HttpRequest};
use cocoon_tl::from_boxed;
use cocoon_ton::abi::{ContractStatus, Params, SignedOp, WorkerState};
use cocoon_ton::{AccountState, AccountStatus, Address, Cell};
use cocoon_wire::msg::{http, worker};
use ed25519_dalek::SigningKey;

use crate::link::{AskError, LinkEffect, LinkEvent, LinkId, PeerInfo};
use crate::payment;
use crate::proto::{self, Answer, FromWorker, PaymentStatus, ProxyParams, WorkerQuery};
use crate::root::RootView;
use crate::worker::{WorkerConfig, WorkerCore, WorkerEffect, WorkerEvent, WorkerSettings};

pub const MODEL: &str = "my/model@c0ffee:11";
pub const IMAGE: [u8; 32] = [9; 32];
pub const T0: u64 = 1_795_000_000_000;

pub fn address(n: u8) -> Address {
    Address::basechain([n; 32])
}

pub fn root() -> RootView {
    RootView {
        owner: None,
        last_proxy_seqno: 1,
        address: address(1),
        version: 5,
        params: Params {
            struct_version: 3,
            params_version: 1,
            unique_id: 13,
            is_test: true,
            price_per_token: 20_000,
            worker_fee_per_token: 10_000,
            prompt_multiplier: 10_000,
            cached_multiplier: 1_000,
            completion_multiplier: 20_000,
            reasoning_multiplier: 10_000,
            proxy_delay: 600,
            client_delay: 300,
            min_proxy_stake: 1_000_000_000,
            min_client_stake: 1_000_000_000,
            proxy_code: Some(Cell::default()),
            worker_code: Some(Cell::default()),
            client_code: Some(Cell::default()),
        },
        proxy_hashes: BTreeSet::from([IMAGE]),
        worker_hashes: BTreeSet::new(),
        model_hashes: BTreeSet::new(),
        proxies: Vec::new(),
    }
}

pub fn config() -> WorkerConfig {
    WorkerConfig {
        owner: address(2),
        wallet: address(3),
        model: MODEL.into(),
        coefficient: 2000,
        max_active_requests: 2,
        proxy_connections: 1,
        is_test: true,
        testnet: true,
        check_hashes: true,
        entropy: [7; 32],
        settings: WorkerSettings {
            // Links leave outdated contracts at once, unless a test wants otherwise.
            outdated_grace_ms: 0,
            ..WorkerSettings::default()
        },
    }
}

pub struct Bed {
    pub core: WorkerCore,
    pub now: u64,
    pub key: SigningKey,
    pub disk: BTreeMap<String, Vec<u8>>,
    pub auto_save: bool,
    pub alarms: Vec<String>,
}

impl Bed {
    pub fn new() -> Self {
        Self::with(config(), BTreeMap::new())
    }

    pub fn with(cfg: WorkerConfig, disk: BTreeMap<String, Vec<u8>>) -> Self {
        let records = disk.clone().into_iter().collect();
        let mut core = WorkerCore::new(cfg, root(), records, T0).unwrap();
        core.handle(T0, WorkerEvent::Health(true));
        Bed {
            core,
            now: T0,
            key: SigningKey::from_bytes(&[5; 32]),
            disk,
            auto_save: true,
            alarms: Vec::new(),
        }
    }

    /// The same worker after a crash: only the disk is left.
    pub fn restarted(self) -> Self {
        Self::with(config(), self.disk)
    }

    pub fn proxy_sc(&self) -> Address {
        let key = self.key.verifying_key().to_bytes();
        root().proxy_contract(address(4), key).unwrap().address
    }

    pub fn worker_sc(&self) -> Address {
        let key = self.key.verifying_key().to_bytes();
        let init = root().worker_contract(self.proxy_sc(), key, address(2));
        init.unwrap().address
    }

    /// One event and, unless the disk is slow, the saves that follow from it.
    pub fn step(&mut self, event: WorkerEvent) -> Vec<WorkerEffect> {
        let mut out = self.core.handle(self.now, event);
        let mut at = 0;
        while at < out.len() {
            match &out[at] {
                WorkerEffect::Save { number, batch } if self.auto_save => {
                    let number = *number;
                    for (key, value) in batch.clone() {
                        match value {
                            Some(v) => self.disk.insert(key, v),
                            None => self.disk.remove(&key),
                        };
                    }
                    out.extend(self.core.handle(self.now, WorkerEvent::Saved(number)));
                }
                WorkerEffect::Alarm(text) => self.alarms.push(text.clone()),
                _ => {}
            }
            at += 1;
        }
        out
    }

    pub fn after(&mut self, ms: u64) -> Vec<WorkerEffect> {
        self.now += ms;
        self.step(WorkerEvent::Tick)
    }

    pub fn up(&mut self, link: u64) -> Vec<WorkerEffect> {
        let peer = PeerInfo {
            image_hash: IMAGE,
            ..Default::default()
        };
        let link = LinkId(link);
        self.step(WorkerEvent::Link(LinkEvent::Up { link, peer }))
    }

    pub fn answer(&mut self, link: u64, ticket: u64, data: Vec<u8>) -> Vec<WorkerEffect> {
        self.answered(link, ticket, Ok(data))
    }

    pub fn answered(
        &mut self,
        link: u64,
        ticket: u64,
        result: Result<Vec<u8>, AskError>,
    ) -> Vec<WorkerEffect> {
        self.step(WorkerEvent::Link(LinkEvent::Answer {
            link: LinkId(link),
            ticket,
            result,
        }))
    }

    pub fn packet(&mut self, link: u64, data: Vec<u8>) -> Vec<WorkerEffect> {
        let link = LinkId(link);
        self.step(WorkerEvent::Link(LinkEvent::Packet { link, data }))
    }

    pub fn down(&mut self, link: u64) -> Vec<WorkerEffect> {
        let (link, reason) = (LinkId(link), "test".into());
        self.step(WorkerEvent::Link(LinkEvent::Down { link, reason }))
    }

    pub fn backend(&mut self, request: u64, event: BackendEvent) -> Vec<WorkerEffect> {
        self.step(WorkerEvent::Backend { request, event })
    }

    // ---- what the proxy says ------------------------------------------------------------------

    pub fn params(&self, version: i32) -> ProxyParams {
        ProxyParams {
            public_key: self.key.verifying_key().to_bytes(),
            owner: address(4).to_text(true, true),
            sc: self.proxy_sc().to_text(false, true),
            is_test: true,
            version,
        }
    }

    pub fn connected(&self, version: i32) -> Vec<u8> {
        let sc = self.worker_sc().to_text(false, true);
        proto::worker_connected(&self.params(version), &sc)
    }

    pub fn boc(&self, tokens: u64) -> Vec<u8> {
        let sc = self.worker_sc();
        payment::sign(&self.key, SignedOp::WorkerPayout, sc, tokens, 1, address(8)).unwrap()
    }

    pub fn status(&self, signed: u64, db: u64, max: u64) -> PaymentStatus {
        PaymentStatus {
            signed_payment: Some(self.boc(signed)),
            db_tokens: db,
            max_tokens: max,
        }
    }

    pub fn compared(&self, signed: u64, db: u64, max: u64, code: i32) -> Vec<u8> {
        proto::worker_compare_result(&self.status(signed, db, max), code)
    }

    pub fn payment(&mut self, link: u64, signed: u64, db: u64, max: u64) -> Vec<WorkerEffect> {
        let status = self.status(signed, db, max);
        let data = proto::worker_request_payment([0; 32], &status, 1, "client");
        self.packet(link, data)
    }

    /// A complete handshake; the effects of its last step.
    pub fn connect(
        &mut self,
        link: u64,
        version: i32,
        amounts: (u64, u64, u64),
    ) -> Vec<WorkerEffect> {
        let fx = self.up(link);
        let data = self.connected(version);
        let fx = self.answer(link, ask(&fx).0, data);
        let data = self.compared(amounts.0, amounts.1, amounts.2, 0);
        let fx = self.answer(link, ask(&fx).0, data);
        let done = cocoon_tl::to_boxed(&worker::ProxyHandshakeCompleted {});
        self.answer(link, ask(&fx).0, done)
    }

    pub fn run(&mut self, link: u64, version: i32, rid: u8, body: &str) -> Vec<WorkerEffect> {
        self.packet(link, proto::proxy_run_query(version, query(rid, body)))
    }

    /// Runs a chat request and returns its number at the backend.
    pub fn start(&mut self, link: u64, version: i32, rid: u8) -> u64 {
        let fx = self.run(link, version, rid, CHAT);
        started(&fx).expect("the request is started").0
    }

    // ---- what the chain says ------------------------------------------------------------------

    pub fn chain(&mut self, state: AccountState) -> Vec<WorkerEffect> {
        let contract = self.worker_sc();
        let state = Box::new(state);
        self.step(WorkerEvent::Contract { contract, state })
    }

    pub fn open_contract(&self, paid: u64, status: ContractStatus) -> AccountState {
        let data = WorkerState {
            owner: address(2),
            proxy: self.proxy_sc(),
            public_key: self.key.verifying_key().to_bytes(),
            status,
            tokens_paid: paid,
            params: root().params.bare_form(),
        };
        AccountState {
            status: AccountStatus::Active,
            data: Some(data.encode().unwrap()),
            ..AccountState::NONEXISTENT
        }
    }
}

pub const CHAT: &str = r#"{"model":"my/model","messages":[{"role":"user","content":"hi"}]}"#;

pub fn http_request(url: &str, body: &str) -> http::Request {
    let header = |name: &str, value: &str| http::Header {
        name: name.into(),
        value: value.into(),
    };
    http::Request {
        method: "POST".into(),
        url: url.into(),
        http_version: "HTTP/1.1".into(),
        headers: vec![
            header("HOST", "x"),
            header("Content-type", "application/json"),
            header("Content-Length", "9999"),
            header("Accept-Encoding", "gzip"),
            header("X-Own", "kept"),
        ],
        payload: body.as_bytes().to_vec(),
    }
}

pub fn query(rid: u8, body: &str) -> WorkerQuery {
    WorkerQuery {
        query: cocoon_tl::to_boxed(&http_request("/v1/chat/completions", body)),
        signed_payment: None,
        coefficient: 1500,
        timeout: 100.0,
        request_id: [rid; 32],
        enable_debug: false,
    }
}

pub fn head(status: u16) -> BackendEvent {
    let h = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    BackendEvent::Head {
        status,
        reason: String::new(),
        headers: vec![
            h("Content-Type", "application/json"),
            h("CONTENT-LENGTH", "5"),
            h("Connection", "close"),
            h("bad name", "x"),
        ],
    }
}

/// The only question among the effects.
pub fn ask(fx: &[WorkerEffect]) -> (u64, Vec<u8>, u64) {
    let mut asks = fx.iter().filter_map(|e| match e {
        WorkerEffect::Link(LinkEffect::Ask {
            ticket,
            data,
            timeout_ms,
            ..
        }) => Some((*ticket, data.clone(), *timeout_ms)),
        _ => None,
    });
    let found = asks.next().expect("a question is asked");
    assert!(asks.next().is_none(), "one question at a time");
    found
}

pub fn asked(fx: &[WorkerEffect]) -> worker::WorkerQuery {
    from_boxed(&ask(fx).1).unwrap()
}

pub fn closed(fx: &[WorkerEffect]) -> Option<String> {
    fx.iter().find_map(|e| match e {
        WorkerEffect::Link(LinkEffect::Close { reason, .. }) => Some(reason.clone()),
        _ => None,
    })
}

pub fn started(fx: &[WorkerEffect]) -> Option<(u64, HttpRequest)> {
    fx.iter().find_map(|e| match e {
        WorkerEffect::Start { request, http, .. } => Some((*request, http.clone())),
        _ => None,
    })
}

pub fn cancelled(fx: &[WorkerEffect]) -> Vec<u64> {
    fx.iter()
        .filter_map(|e| match e {
            WorkerEffect::Cancel { request } => Some(*request),
            _ => None,
        })
        .collect()
}

fn packets(fx: &[WorkerEffect]) -> impl Iterator<Item = FromWorker> {
    fx.iter().filter_map(|e| match e {
        WorkerEffect::Link(LinkEffect::Send { data, .. }) => {
            proto::parse_worker_packet(data).expect("our packets are well formed")
        }
        _ => None,
    })
}

pub fn answers(fx: &[WorkerEffect]) -> Vec<Answer> {
    packets(fx)
        .filter_map(|p| match p {
            FromWorker::Answer(a) => Some(a),
            _ => None,
        })
        .collect()
}

pub fn announced(fx: &[WorkerEffect]) -> (Option<bool>, Option<i32>) {
    packets(fx).fold((None, None), |(e, c), p| match p {
        FromWorker::Enabled(on) => (Some(on), c),
        FromWorker::Coefficient(n) => (e, Some(n)),
        FromWorker::Answer(_) => (e, c),
    })
}

pub struct Sent {
    pub ticket: u64,
    pub to: Address,
    pub value: u64,
    pub bounce: bool,
    pub init: Option<Cell>,
    pub body: Option<Cell>,
}

pub fn transacted(fx: &[WorkerEffect]) -> Option<Sent> {
    fx.iter().find_map(|e| match e {
        WorkerEffect::Transact {
            ticket,
            to,
            value,
            bounce,
            init,
            body,
        } => Some(Sent {
            ticket: *ticket,
            to: *to,
            value: *value,
            bounce: *bounce,
            init: init.clone(),
            body: body.clone(),
        }),
        _ => None,
    })
}
