//! A network on a static root configuration (protocol.md 9.4): the drivers of all three roles on loopback, and a
//! client of the reference's kind, with an empty secret and behind a router, written out step by step.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use cocoon_attest::frame::{self, Endpoint};
use cocoon_attest::identity::CertificateMode;
use cocoon_attest::measurements::TdxMeasurements;
use cocoon_attest::{Measurements, Policy, PolicyRules, TlsIdentity, unix_now};
use cocoon_engine::{Backend, BackendEvent, HttpRequest, ModelInfo};
use cocoon_node::claims::ClaimsSettings;
use cocoon_node::client::{self, ClientOptions};
use cocoon_node::peers::{Door, IdentityCell, Way};
use cocoon_node::proto::{self, AnswerKind, FromProxy};
use cocoon_node::proxy::{self, Entrance, ProxyOptions, ProxySettings};
use cocoon_node::static_root::{Codes, StaticRoot};
use cocoon_node::worker::{self, WorkerOptions};
use cocoon_node::{Settlement, Timing, payment};
use cocoon_tl::{Flags, from_boxed, to_boxed};
use cocoon_ton::abi::SignedOp;
use cocoon_ton::{Address, CellBuilder};
use cocoon_wire::driver::{self, ConnConfig, PeerEvent, PeerHandle, Role};
use cocoon_wire::msg::common::VersionRange;
use cocoon_wire::msg::{client as msg, http};
use ed25519_dalek::SigningKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const MODEL: &str = "echo";
/// A fifth of what the assumed stake of 1 TON covers at the price of 20: reserved fourfold, it is nearly all of it.
const TOKENS: u64 = 10_000_000;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":10000000,"total_tokens":10000000}}"#;
const LIMIT: Duration = Duration::from_secs(30);

struct Echo;

#[async_trait]
impl Backend for Echo {
    fn start(&self, _: HttpRequest) -> mpsc::Receiver<BackendEvent> {
        let (events, queue) = mpsc::channel(4);
        let head = BackendEvent::Head {
            status: 200,
            reason: "OK".into(),
            headers: vec![("Content-Type".into(), "application/json".into())],
        };
        for event in [head, BackendEvent::Body(USAGE.into()), BackendEvent::End] {
            events.try_send(event).unwrap();
        }
        queue
    }

    async fn healthy(&self) -> Result<(), String> {
        Ok(())
    }

    fn models(&self) -> Vec<ModelInfo> {
        Vec::new()
    }

    fn max_active(&self) -> usize {
        8
    }
}

fn address(n: u8) -> Address {
    Address::basechain([n; 32])
}

fn fake_hash() -> [u8; 32] {
    TdxMeasurements::fake([0; 64]).image_hash()
}

fn identity(mode: CertificateMode) -> IdentityCell {
    IdentityCell::new(TlsIdentity::generate(mode, unix_now()).unwrap())
}

fn fake_policy() -> Policy {
    Policy::FakeTdx(PolicyRules {
        allowed_image_hashes: vec![fake_hash()],
        ..PolicyRules::default()
    })
}

fn write_root(path: &Path, version: u32, workers: &TcpListener, clients: &TcpListener) {
    let hash = base64::engine::general_purpose::STANDARD.encode(fake_hash());
    let text = serde_json::json!({
        "proxy_hashes": [hash], "worker_hashes": [hash], "model_hashes": [], "model_types": [MODEL],
        "registered_proxies": [{
            "seqno": 1,
            "address": format!("{} {}", workers.local_addr().unwrap(), clients.local_addr().unwrap()),
        }],
        "price_per_token": 20, "worker_fee_per_token": 19, "last_proxy_seqno": 1,
        "version": version, "params_version": 1,
    });
    std::fs::write(path, text.to_string()).unwrap();
}

fn settlement(dir: &Path, wallet: Address) -> Settlement {
    let code = |n: u8| {
        let mut b = CellBuilder::new();
        b.store_u8(n).unwrap();
        b.build().unwrap()
    };
    let root = StaticRoot {
        path: dir.join("root.json"),
        address: address(1),
        codes: Codes {
            proxy: code(1),
            worker: code(2),
            client: code(3),
        },
    };
    Settlement::Assumed { root, wallet }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

struct Net {
    dir: tempfile::TempDir,
    proxy: proxy::ProxyHandle,
    worker: worker::WorkerHandle,
    clients: std::net::SocketAddr,
    key: SigningKey,
}

fn claims(require: bool) -> ClaimsSettings {
    ClaimsSettings {
        require,
        ..ClaimsSettings::default()
    }
}

/// A proxy whose workers come directly, and a worker. Claims are required where clients come directly too.
async fn network(client_door: Door) -> Net {
    let require = client_door.is_direct();
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::from_bytes(&[5; 32]);
    let (workers, clients) = (listen().await, listen().await);
    let clients_at = clients.local_addr().unwrap();
    write_root(&dir.path().join("root.json"), 1, &workers, &clients);
    let options = ProxyOptions {
        settlement: settlement(dir.path(), address(10)),
        key: key.clone(),
        owner: address(11),
        store: dir.path().join("proxy.redb"),
        workers: Some(Entrance {
            listener: workers,
            door: Door::Direct {
                identity: identity(CertificateMode::FakeTdx),
                policy: fake_policy(),
                pow_difficulty: 4,
            },
        }),
        clients: Some(Entrance {
            listener: clients,
            door: client_door,
        }),
        is_test: true,
        testnet: true,
        check_hashes: true,
        settings: ProxySettings {
            commit_interval_ms: 100,
            ..ProxySettings::default()
        },
        timing: Timing::local(),
        claims: claims(require),
    };
    let proxy = proxy::start(options).await.unwrap();
    let options = WorkerOptions {
        settlement: settlement(dir.path(), address(20)),
        owner: address(21),
        store: dir.path().join("worker.redb"),
        way: Way::Direct {
            identity: identity(CertificateMode::FakeTdx),
            policy: fake_policy(),
            max_pow: 28,
        },
        model: MODEL.into(),
        coefficient: 1000,
        max_active_requests: 8,
        proxy_connections: 1,
        is_test: true,
        testnet: true,
        check_hashes: true,
        backend: Arc::new(Echo),
        store_key: SigningKey::from_bytes(&[6; 32]),
        settings: Default::default(),
        timing: Timing::local(),
        claims: claims(require),
    };
    let worker = worker::start(options).await.unwrap();
    Net {
        dir,
        proxy,
        worker,
        clients: clients_at,
        key,
    }
}

async fn until<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(LIMIT, wait).await.is_ok(),
        "never: {what}"
    );
}

impl Net {
    async fn served(&self) {
        until("a worker serves", || async {
            self.proxy.stats().await["worker_connections"][0]["enabled"] == true
        })
        .await;
    }
}

/// A connection as a router of the proxy passes it on.
async fn through_router(net: &Net) -> (PeerHandle, mpsc::Receiver<PeerEvent>) {
    let mut tcp = TcpStream::connect(net.clients).await.unwrap();
    let info = frame::PeerInfo {
        attestation: Some(Measurements::Tdx(Box::new(TdxMeasurements::fake([0; 64])))),
        collateral_root_hash: [0; 48],
        public_key: [1; 32],
        source: Endpoint::unset(),
        destination: Endpoint::unset(),
    };
    frame::write_frame(&mut tcp, &info).await.unwrap();
    driver::spawn(tcp, Role::Dialler, ConnConfig::default())
}

async fn packet(events: &mut mpsc::Receiver<PeerEvent>) -> FromProxy {
    loop {
        match tokio::time::timeout(LIMIT, events.recv()).await.unwrap() {
            Some(PeerEvent::Packet(data)) => {
                if let Some(p) = proto::parse_packet_to_client(&data).unwrap() {
                    return p;
                }
            }
            Some(PeerEvent::Ready) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn connect_as(handle: &PeerHandle, owner: &str) -> msg::ConnectedToProxy {
    let hello = msg::ConnectToProxy {
        params: msg::Params {
            flags: Flags::NONE,
            client_owner_address: owner.to_owned(),
            is_test: Some(true),
            versions: Some(VersionRange {
                min_proto_version: 1,
                max_proto_version: 2,
            }),
        },
        min_config_version: 1,
    };
    from_boxed(&handle.query(to_boxed(&hello), LIMIT).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_references_kind_is_served_without_a_chain() {
    let net = network(Door::Router {
        allow_fake: true,
        user: None,
    })
    .await;
    net.served().await;
    let (handle, mut events) = through_router(&net).await;
    assert!(matches!(events.recv().await, Some(PeerEvent::Ready)));
    let owner = address(30).to_text(false, true);
    let hello = connect_as(&handle, &owner).await;
    assert_eq!(hello.params.proto_version, Some(2));
    assert_eq!(
        hello.params.proxy_public_key,
        net.key.verifying_key().to_bytes()
    );
    let msg::ProxyConnectionAuth::Short(auth) = hello.auth else {
        panic!("always Short without a chain (9.4)");
    };
    assert_eq!(
        (auth.secret_hash, auth.nonce),
        (payment::secret_hash(b""), 0)
    );
    let short = msg::AuthorizeWithProxyShort { data: Vec::new() };
    let answer = handle.query(to_boxed(&short), LIMIT).await.unwrap();
    let answer: msg::AuthorizationWithProxy = from_boxed(&answer).unwrap();
    assert!(matches!(answer, msg::AuthorizationWithProxy::Success(_)));

    let sc = Address::parse(&hello.client_sc_address).unwrap().address;
    // More than the stake of 1 TON would cover if what is committed did not count as charged.
    for n in 1..=3u8 {
        let run = msg::RunQueryEx {
            model_name: MODEL.into(),
            query: to_boxed(&http::Request {
                method: "POST".into(),
                url: "/v1/chat/completions".into(),
                http_version: "HTTP/1.1".into(),
                headers: Vec::new(),
                payload: br#"{"messages":[],"model":"echo"}"#.to_vec(),
            }),
            max_coefficient: 4000,
            max_tokens: TOKENS as i32,
            timeout: 30.0,
            request_id: [n; 32],
            min_config_version: 1,
            flags: Flags::NONE,
            enable_debug: Some(false),
        };
        handle.send_packet(to_boxed(&run)).unwrap();
        let (mut body, mut total) = (Vec::new(), None);
        while total.is_none() {
            match packet(&mut events).await {
                FromProxy::Answer(a) => {
                    assert_eq!(a.request_id, [n; 32]);
                    match a.kind {
                        AnswerKind::Head(_) => {}
                        AnswerKind::Part(piece) => body.extend(piece),
                        AnswerKind::Error { text, .. } => panic!("{text}"),
                    }
                    total = a.fin.map(|f| f.tokens.total);
                }
                FromProxy::Payment(_) => {}
            }
        }
        assert!(total == Some(TOKENS as i64) && body.len() >= USAGE.len());
        // What was used is committed by itself, and the payment over it is real.
        let used = u64::from(n) * TOKENS;
        until("the usage is signed", || async {
            let ask = handle.query(to_boxed(&msg::UpdatePaymentStatus {}), LIMIT);
            let status: msg::PaymentStatus = from_boxed(&ask.await.unwrap()).unwrap();
            let boc = status.signed_payment.boc().unwrap();
            let key = net.key.verifying_key().to_bytes();
            payment::check(boc, SignedOp::ClientCharge, sc, &key).unwrap() == used
        })
        .await;
    }
    let stats = net.proxy.stats().await;
    assert_eq!(stats["clients"][0]["used_tokens"], 3 * TOKENS);

    // A second connection with another secret takes the long way, which is granted at once.
    let (handle, mut events) = through_router(&net).await;
    assert!(matches!(events.recv().await, Some(PeerEvent::Ready)));
    connect_as(&handle, &owner).await;
    let long = to_boxed(&msg::AuthorizeWithProxyLong {});
    let answer: msg::AuthorizationWithProxy =
        from_boxed(&handle.query(long, LIMIT).await.unwrap()).unwrap();
    assert!(matches!(answer, msg::AuthorizationWithProxy::Success(_)));
    net.worker.drain().await;
    net.proxy.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_answers_and_follows_the_file() {
    let net = network(Door::Direct {
        identity: identity(CertificateMode::FakeTdx),
        policy: Policy::Any,
        pow_difficulty: 4,
    })
    .await;
    let http = listen().await;
    let at = http.local_addr().unwrap();
    let options = ClientOptions {
        settlement: settlement(net.dir.path(), address(40)),
        store: net.dir.path().join("client.redb"),
        store_key: SigningKey::from_bytes(&[7; 32]),
        way: Way::Direct {
            identity: identity(CertificateMode::None),
            policy: fake_policy(),
            max_pow: 28,
        },
        secret: vec![b's'; 32],
        http,
        proxy_connections: 1,
        is_test: true,
        testnet: true,
        check_hashes: true,
        settings: Default::default(),
        timing: Timing::local(),
        claims: claims(true),
        api_keys: Vec::new(),
        pages: None,
    };
    let client = client::start(options).await.unwrap();
    net.served().await;
    until("the client is ready", || async { client.ready() }).await;
    let worker = &net.proxy.stats().await["worker_connections"][0];
    assert_eq!(worker["signed_claims"], true);
    let body = r#"{"model":"echo","messages":[{"role":"user","content":"x"}],"max_tokens":5}"#;
    let mut tcp = TcpStream::connect(at).await.unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tcp.read_to_string(&mut answer);
    tokio::time::timeout(LIMIT, read).await.unwrap().unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"total_tokens\":10000000"),
        "{answer}"
    );

    // A higher version of the file is taken over; a broken one changes nothing.
    let path = net.dir.path().join("root.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, "{").unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    std::fs::write(&path, text.replace("\"version\":1", "\"version\":4")).unwrap();
    until("everybody has version 4", || async {
        let (p, c) = (net.proxy.stats().await, client.stats().await);
        p["root_contract_config"]["version"] == 4 && c["root_contract_config"]["version"] == 4
    })
    .await;
    client.drain().await;
    net.worker.drain().await;
    net.proxy.drain().await;
}

/// The file with other lists of images, under the next version.
fn relist(net: &Net, version: u32, proxies: [u8; 32], workers: [u8; 32]) {
    let path = net.dir.path().join("root.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut root: serde_json::Value = serde_json::from_str(&text).unwrap();
    let base64 = |hash| base64::engine::general_purpose::STANDARD.encode(hash);
    root["version"] = version.into();
    root["proxy_hashes"] = vec![base64(proxies)].into();
    root["worker_hashes"] = vec![base64(workers)].into();
    // In one step, so that nobody reads half of it.
    let beside = net.dir.path().join("root.new");
    std::fs::write(&beside, root.to_string()).unwrap();
    std::fs::rename(&beside, &path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_image_loses_its_connections() {
    let net = network(Door::Direct {
        identity: identity(CertificateMode::FakeTdx),
        policy: Policy::Any,
        pow_difficulty: 4,
    })
    .await;
    let options = ClientOptions {
        settlement: settlement(net.dir.path(), address(40)),
        store: net.dir.path().join("client.redb"),
        store_key: SigningKey::from_bytes(&[7; 32]),
        way: Way::Direct {
            identity: identity(CertificateMode::None),
            policy: fake_policy(),
            max_pow: 28,
        },
        secret: vec![b's'; 32],
        http: listen().await,
        proxy_connections: 1,
        is_test: true,
        testnet: true,
        check_hashes: true,
        settings: Default::default(),
        timing: Timing::local(),
        claims: claims(false),
        api_keys: Vec::new(),
        pages: None,
    };
    let client = client::start(options).await.unwrap();
    let is_enabled = async || {
        let stats = net.proxy.stats().await;
        let workers = stats["worker_connections"].as_array().unwrap().clone();
        workers.iter().any(|w| w["enabled"] == true)
    };
    let (listed, other) = (fake_hash(), [9; 32]);
    net.served().await;
    until("the client is ready", || async { client.ready() }).await;
    // The proxy's image leaves: the client and the worker go.
    relist(&net, 2, other, listed);
    until("the client left", || async { !client.ready() }).await;
    until("the worker left", || async { !is_enabled().await }).await;
    relist(&net, 3, listed, listed);
    until("the client is back", || async { client.ready() }).await;
    until("the worker is back", || async { is_enabled().await }).await;
    // The worker's image leaves: the proxy throws it out, and the client stays.
    relist(&net, 4, listed, other);
    until("the worker is expelled", || async { !is_enabled().await }).await;
    assert!(client.ready());
    client.drain().await;
    net.worker.drain().await;
    net.proxy.drain().await;
}

#[tokio::test]
async fn a_wrong_file_stops_the_start_with_its_name_and_member() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("root.json"), r#"{"version": "x"}"#).unwrap();
    let s = settlement(dir.path(), address(1));
    let error = s.read_root(true, &[]).await.unwrap_err().to_string();
    assert!(
        error.contains("root.json") && error.contains("version"),
        "{error}"
    );
    std::fs::write(dir.path().join("root.json"), "{}").unwrap();
    let error = s.read_root(false, &[]).await.unwrap_err().to_string();
    assert!(error.contains("is_test"), "{error}");
    assert!(s.read_root(true, &[&fake_policy()]).await.is_ok());
}

/// Behind a router there is no TLS connection that claims could be bound to.
#[tokio::test]
async fn claims_cannot_be_required_behind_a_router() {
    let dir = tempfile::tempdir().unwrap();
    let (workers, http) = (listen().await, listen().await);
    write_root(&dir.path().join("root.json"), 1, &workers, &http);
    let options = |require| ProxyOptions {
        settlement: settlement(dir.path(), address(10)),
        key: SigningKey::from_bytes(&[5; 32]),
        owner: address(11),
        store: dir.path().join("proxy.redb"),
        workers: None,
        clients: None,
        is_test: true,
        testnet: true,
        check_hashes: true,
        settings: ProxySettings::default(),
        timing: Timing::local(),
        claims: claims(require),
    };
    let behind = ProxyOptions {
        workers: Some(Entrance {
            listener: workers,
            door: Door::Router {
                allow_fake: true,
                user: None,
            },
        }),
        ..options(true)
    };
    let error = proxy::start(behind).await.err().unwrap().to_string();
    assert!(
        error.contains("required of every worker") && error.contains("router"),
        "{error}"
    );
    proxy::start(options(true)).await.unwrap().drain().await;
}
