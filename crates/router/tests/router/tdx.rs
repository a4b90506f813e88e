//! The whole way with evidence in the real format: quotes of a software TDX under policy `tdx`, checked by the
//! unmodified verifier with that root named.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cocoon_attest::evidence::TdxVerifier;
use cocoon_attest::evidence::collateral::{CollateralStore, TdxCollateral};
use cocoon_attest::evidence::tdx::TdxRoot;
use cocoon_attest::evidence::tdx_policy::TdxPolicy;
use cocoon_attest::frame::read_frame;
use cocoon_attest::{Policy, PolicyRules, QuoteSource, QuoteSourceError, unix_now};
use cocoon_router::certificate::SharedQuotes;
use cocoon_router::policies::Policies;
use cocoon_router::{CertificateSource, Limits, Options, Settings};
use cocoon_softtee::{SoftTdx, TdFields};
use tokio::net::TcpStream;

use crate::scene::*;

const DAY: u64 = 86_400;

/// A confidential machine: quotes for whatever key it is asked about.
struct Machine {
    platform: Arc<SoftTdx>,
    attributes: u64,
}

impl QuoteSource for Machine {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, QuoteSourceError> {
        let sound = TdFields::default();
        Ok(self.platform.quote(&TdFields {
            report_data: *report_data,
            td_attributes: sound.td_attributes | self.attributes,
            ..sound
        }))
    }
}

struct World {
    platform: Arc<SoftTdx>,
    verifier: Arc<TdxVerifier>,
    /// Seconds by which the verifier's clock is ahead.
    ahead: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        let platform = SoftTdx::new(unix_now());
        let root = TdxRoot::pinned(platform.root_sha256());
        let store = CollateralStore::under(root);
        let collateral = TdxCollateral::from_json(&platform.collateral()).unwrap();
        store.insert(collateral).unwrap();
        let ahead = Arc::new(AtomicU64::new(0));
        let offset = ahead.clone();
        let clock = move || unix_now() + offset.load(Ordering::Relaxed);
        let verifier = TdxVerifier::with(Arc::new(store), TdxPolicy::default(), root, clock);
        World {
            platform: Arc::new(platform),
            verifier: Arc::new(verifier),
            ahead,
        }
    }

    fn policies(&self, edit: impl FnOnce(&mut PolicyRules)) -> Policies {
        let mut rules = PolicyRules {
            allowed_collateral_root_hashes: vec![self.platform.root_hash()],
            ..PolicyRules::default()
        };
        edit(&mut rules);
        let tdx = Policy::Tdx(rules).with_verifier(self.verifier.clone());
        [("tdx".to_owned(), tdx)].into()
    }

    /// A router in a machine whose domain has these attribute bits.
    async fn router(&self, attributes: u64, edit: impl FnOnce(&mut Options)) -> Running {
        let options = options(|o| {
            (o.serialize_info, o.cert_mode) = (true, None);
            edit(o);
        });
        let root: String = hex::encode(self.platform.root_hash());
        let options = Options {
            collateral_hash: Some(root),
            ..options
        };
        let mut settings = Settings::assemble(&options, None).unwrap();
        settings.verify_with(&self.verifier);
        settings.certificate = CertificateSource::Attested(SharedQuotes(Arc::new(Machine {
            platform: self.platform.clone(),
            attributes,
        })));
        run(settings).await
    }

    async fn pair(&self, backend: SocketAddr, limits: impl Fn(&mut Limits)) -> (Running, Running) {
        let server = self
            .router(0, |o| {
                o.reverse = vec![format!("0:{backend}@tdx")];
                limits(&mut o.limits);
            })
            .await;
        let near = self
            .router(0, |o| {
                o.forward = vec![format!("0:{}@tdx", server.address())]
            })
            .await;
        (server, near)
    }
}

#[tokio::test]
async fn both_ends_prove_their_image_and_an_image_that_is_removed_is_expelled() {
    let world = World::new();
    let mut backend = echo(true).await;
    let (server, near) = world.pair(backend.address, |_| {}).await;
    let mut app = near.tcp().await;
    let here = read_frame(&mut app).await.unwrap();
    let there = backend.connections.recv().await.unwrap().unwrap();
    for seen in [&here, &there] {
        assert_eq!(seen.collateral_root_hash, world.platform.root_hash());
        assert_ne!(seen.image_hash(), [0; 32]);
    }
    assert_eq!(here.public_key, server.handle.identity().public_key());
    assert_eq!(there.public_key, near.handle.identity().public_key());
    ping(&mut app, b"attested").await;
    // The image leaves the list of the server's side, and with it goes the connection.
    let image = there.image_hash();
    let listed = world.policies(|rules| rules.allowed_image_hashes = vec![image]);
    server.handle.set_policies(listed);
    ping(&mut app, b"listed").await;
    let removed = world.policies(|rules| rules.allowed_image_hashes = vec![[1; 32]]);
    server.handle.set_policies(removed);
    assert_eq!(rest(&mut app).await, b"");
    server.until("the expulsion", |c| c.expelled == 1).await;
}

#[tokio::test]
async fn who_proves_nothing_or_may_be_debugged_is_refused() {
    let world = World::new();
    let mut backend = echo(true).await;
    let (server, _near) = world.pair(backend.address, |_| {}).await;
    for identity in [plain(), fake()] {
        let (mut stream, _) = server.peer(&identity).await;
        assert_eq!(rest(&mut stream).await, b"");
    }
    // The host can read the memory of a domain with the attribute DEBUG.
    let debug = world
        .router(1, |o| {
            o.forward = vec![format!("0:{}@tdx", server.address())];
        })
        .await;
    let mut app = TcpStream::connect(debug.address()).await.unwrap();
    // Its own side accepts the server and may announce it before the server has judged.
    let _ = rest(&mut app).await;
    server.until("the refusals", |c| c.refused_peers == 3).await;
    // A platform that another root vouches for.
    let stranger = World::new();
    let foreign = stranger
        .router(0, |o| {
            o.forward = vec![format!("0:{}@any", server.address())];
        })
        .await;
    let mut app = foreign.tcp().await;
    let _ = rest(&mut app).await;
    server.until("the refusal", |c| c.refused_peers == 4).await;
    assert_eq!(server.counters().established, 0);
    assert!(backend.connections.try_recv().is_err());
}

/// Evidence is good as long as its collateral: a living connection does not outlive it by more than a look.
#[tokio::test]
async fn collateral_that_ends_ends_living_connections() {
    let world = World::new();
    let backend = echo(true).await;
    let (server, near) = world
        .pair(backend.address, |limits| {
            limits.recheck = std::time::Duration::from_millis(50);
        })
        .await;
    let mut app = near.tcp().await;
    read_frame(&mut app).await.unwrap();
    ping(&mut app, b"fresh").await;
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    ping(&mut app, b"judged again and accepted").await;
    world.ahead.store(60 * DAY, Ordering::Relaxed);
    assert_eq!(rest(&mut app).await, b"");
    server.until("the expulsion", |c| c.expelled == 1).await;
    near.until("the end", |c| c.active == 0).await;
}
