//! The key manager with its driver: askers through a router and over RA-TLS of their own, a store that is killed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use cocoon_attest::frame::{self, Endpoint};
use cocoon_attest::identity::CertificateMode;
use cocoon_attest::measurements::TdxMeasurements;
use cocoon_attest::{KeyName, KeySource, Measurements, Policy, PolicyRules, TlsIdentity, unix_now};
use cocoon_node::key_manager::{
    self, Audience, Done, FetchError, KeyAsker, KeyManagerHandle, KeyManagerOptions, LIFE,
    ManagedKeys,
};
use cocoon_node::peers::{Door, IdentityCell, Way};
use cocoon_node::proxy::Entrance;
use cocoon_node::static_root::{Codes, StaticRoot};
use cocoon_node::{NodeError, RootSource, Timing};
use cocoon_tl::{from_boxed, to_boxed};
use cocoon_ton::{Address, CellBuilder};
use cocoon_wire::QueryFailure;
use cocoon_wire::driver::{self, ConnConfig, PeerEvent, Role};
use cocoon_wire::msg::key_manager::{GetProxyPrivateKeys, GetWorkerPrivateKeys, PrivateKeys};
use ed25519_dalek::SigningKey;
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(30);

/// The machine of a role: its measurements differ in one register.
fn machine(mark: u8) -> TdxMeasurements {
    TdxMeasurements {
        mr_td: [mark; 48],
        ..TdxMeasurements::fake([mark; 64])
    }
}

fn fake_hash() -> [u8; 32] {
    TdxMeasurements::fake([0; 64]).image_hash()
}

fn write_root(dir: &Path, version: u32, proxies: &[[u8; 32]], workers: &[[u8; 32]]) {
    let b64 = |list: &[[u8; 32]]| -> Vec<String> {
        let engine = base64::engine::general_purpose::STANDARD;
        list.iter().map(|h| engine.encode(h)).collect()
    };
    let text = serde_json::json!({
        "proxy_hashes": b64(proxies), "worker_hashes": b64(workers), "version": version,
    });
    // Replaced in one step: the key manager may look at any time.
    std::fs::write(dir.join("root.new"), text.to_string()).unwrap();
    std::fs::rename(dir.join("root.new"), dir.join("root.json")).unwrap();
}

fn source(dir: &Path) -> RootSource {
    let cell = CellBuilder::new().build().unwrap();
    RootSource::Static(StaticRoot {
        path: dir.join("root.json"),
        address: Address::basechain([1; 32]),
        codes: Codes {
            proxy: cell.clone(),
            worker: cell.clone(),
            client: cell,
        },
    })
}

async fn start(dir: &Path, door: Door) -> Result<(KeyManagerHandle, SocketAddr), NodeError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let options = KeyManagerOptions {
        root: source(dir),
        store_key: SigningKey::from_bytes(&[5; 32]),
        store: dir.join("key-manager.redb"),
        askers: Some(Entrance { listener, door }),
        is_test: true,
        check_hashes: true,
        timing: Timing::local(),
    };
    Ok((key_manager::start(options).await?, at))
}

/// A question as a router of the key manager passes it on.
async fn ask_as(
    at: SocketAddr,
    machine: TdxMeasurements,
    question: Vec<u8>,
) -> Result<Vec<u8>, QueryFailure> {
    let mut tcp = TcpStream::connect(at).await.unwrap();
    let info = frame::PeerInfo {
        attestation: Some(Measurements::Tdx(Box::new(machine))),
        collateral_root_hash: [0; 48],
        public_key: [1; 32],
        source: Endpoint::unset(),
        destination: Endpoint::unset(),
    };
    frame::write_frame(&mut tcp, &info).await.unwrap();
    let (handle, mut events) = driver::spawn(tcp, Role::Dialler, ConnConfig::default());
    let first = tokio::time::timeout(LIMIT, events.recv()).await.unwrap();
    assert!(matches!(first, Some(PeerEvent::Ready)), "{first:?}");
    handle.query(question, LIMIT).await
}

fn proxies(min_config_version: i32) -> Vec<u8> {
    to_boxed(&GetProxyPrivateKeys { min_config_version })
}

fn workers(min_config_version: i32) -> Vec<u8> {
    to_boxed(&GetWorkerPrivateKeys { min_config_version })
}

fn seeds(answer: Result<Vec<u8>, QueryFailure>) -> Vec<[u8; 32]> {
    let keys = from_boxed::<PrivateKeys>(&answer.unwrap()).unwrap().keys;
    for key in &keys {
        let left = i64::from(key.valid_until_utime) - unix_now() as i64;
        assert!(left > 0 && left <= LIFE as i64, "{left}");
    }
    keys.iter().map(|k| k.private_key).collect()
}

#[track_caller]
fn refused(answer: Result<Vec<u8>, QueryFailure>, code: i32, text: &str) {
    match answer {
        Err(QueryFailure::Remote {
            code: found,
            message,
        }) => assert_eq!((found, message.as_str()), (code, text)),
        other => panic!("{other:?}"),
    }
}

const BEHIND_ROUTER: Door = Door::Router {
    allow_fake: true,
    user: None,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_and_workers_get_their_keys_and_others_the_exact_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let (proxy, worker) = (machine(1), machine(2));
    write_root(dir.path(), 3, &[proxy.image_hash()], &[worker.image_hash()]);
    let (keys, at) = start(dir.path(), BEHIND_ROUTER).await.unwrap();
    let p = seeds(ask_as(at, proxy.clone(), proxies(3)).await);
    let w = seeds(ask_as(at, worker.clone(), workers(3)).await);
    assert!(p.len() == 1 && w.len() == 1 && p != w);
    refused(
        ask_as(at, worker.clone(), proxies(3)).await,
        602,
        "unknown proxy hash",
    );
    refused(
        ask_as(at, proxy.clone(), workers(3)).await,
        602,
        "unknown worker hash",
    );
    refused(
        ask_as(at, machine(3), workers(0)).await,
        602,
        "unknown worker hash",
    );
    refused(
        ask_as(at, proxy.clone(), vec![1, 2, 3, 4]).await,
        601,
        "unknown query magic",
    );
    refused(
        ask_as(at, proxy.clone(), proxies(4)).await,
        602,
        "active config version is too low",
    );

    // The operator adds a key for both and ends the proxies' first one.
    let Some(Done::Generated(public)) = keys.generate(Audience::BOTH).await else {
        panic!("a key");
    };
    let both = seeds(ask_as(at, proxy.clone(), proxies(3)).await);
    assert_eq!(both.len(), 2);
    let new = both.iter().find(|s| !p.contains(s)).unwrap();
    let shown = SigningKey::from_bytes(new).verifying_key().to_bytes();
    assert_eq!(shown, public);
    let old = SigningKey::from_bytes(&p[0]).verifying_key().to_bytes();
    assert_eq!(keys.remove(old).await, Some(Done::Removed(old)));
    assert_eq!(seeds(ask_as(at, proxy.clone(), proxies(3)).await), [*new]);
    assert_eq!(keys.remove(old).await, Some(Done::Unknown));

    // The proxy's image leaves the list: it gets nothing more, and the next image gets other keys.
    let next = machine(4);
    write_root(dir.path(), 4, &[next.image_hash()], &[worker.image_hash()]);
    let wait = async {
        while keys.stats().await["root_contract_config"]["version"] != 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap();
    refused(
        ask_as(at, proxy, proxies(3)).await,
        602,
        "unknown proxy hash",
    );
    let fresh = seeds(ask_as(at, next, proxies(4)).await);
    assert!(fresh.iter().all(|s| !both.contains(s)));
    // The key for both could be held by the image that left.
    assert_eq!(seeds(ask_as(at, worker, workers(4)).await), w);
    keys.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_survive_a_restart_and_an_older_chain_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = machine(1);
    write_root(dir.path(), 3, &[proxy.image_hash()], &[]);
    let (keys, at) = start(dir.path(), BEHIND_ROUTER).await.unwrap();
    let before = seeds(ask_as(at, proxy.clone(), proxies(3)).await);
    keys.drain().await;
    drop(keys);
    {
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(dir.path().join("key-manager.redb")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }
    let (keys, at) = start(dir.path(), BEHIND_ROUTER).await.unwrap();
    assert_eq!(seeds(ask_as(at, proxy.clone(), proxies(3)).await), before);
    keys.drain().await;
    drop(keys);
    write_root(dir.path(), 2, &[proxy.image_hash()], &[]);
    let error = start(dir.path(), BEHIND_ROUTER).await.err().unwrap();
    let text = error.to_string();
    assert!(
        text.contains("version 2") && text.contains("version 3"),
        "{text}"
    );
}

fn identity() -> IdentityCell {
    IdentityCell::new(TlsIdentity::generate(CertificateMode::FakeTdx, unix_now()).unwrap())
}

fn fake_policy() -> Policy {
    Policy::FakeTdx(PolicyRules {
        allowed_image_hashes: vec![fake_hash()],
        ..PolicyRules::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_fetches_its_keys_over_an_attested_link() {
    let dir = tempfile::tempdir().unwrap();
    write_root(dir.path(), 3, &[fake_hash()], &[[9; 32]]);
    let door = Door::Direct {
        identity: identity(),
        policy: fake_policy(),
        pow_difficulty: 4,
    };
    let (keys, target) = start(dir.path(), door).await.unwrap();
    let asker = |images: Option<BTreeSet<[u8; 32]>>| KeyAsker {
        way: Way::Direct {
            identity: identity(),
            policy: fake_policy(),
            max_pow: 28,
        },
        target,
        images,
    };
    let known = asker(Some(BTreeSet::from([fake_hash()])));
    let list = known.fetch(Audience::PROXIES, 3).await.unwrap();
    assert_eq!(list.len(), 1);
    let source = ManagedKeys {
        asker: known.clone(),
        config_version: 3,
    };
    let named = |text: &str| KeyName::new(text).unwrap();
    let key = source.key(&named("proxy")).await.unwrap();
    assert_eq!(key.expose(), list[0].seed.expose());
    let error = source.key(&named("worker")).await.unwrap_err().to_string();
    assert!(error.contains("unknown worker hash"), "{error}");
    let error = source.key(&named("app")).await.unwrap_err().to_string();
    assert!(error.contains("no key named app"), "{error}");
    let error = known.fetch(Audience::WORKERS, 3).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Refused { code: 602, .. }),
        "{error}"
    );
    // A machine of an allowed policy that is no key manager's gets no question.
    let error = asker(Some(BTreeSet::from([[7; 32]])))
        .fetch(Audience::PROXIES, 3)
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Image { .. }), "{error}");
    assert_eq!(keys.stats().await["stats"]["queries"], 4);
    keys.drain().await;
}
