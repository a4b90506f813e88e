//! The whole way: a peer whose platform is unknown, a refusal that says to try again, and the next try.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cocoon_attest::evidence::TdxVerifier;
use cocoon_attest::evidence::collateral::CollateralStore;
use cocoon_attest::evidence::tdx_policy::TdxPolicy;
use cocoon_attest::profile::report_data;
use cocoon_attest::{AttestError, Policy, PolicyRules};
use cocoon_collateral::{DiskCache, Supplier};
use cocoon_softtee::{SoftTdx, TdFields};

use crate::pcs::{DAY, Intel, NOW, Reply, until};

const KEY: [u8; 32] = [7; 32];

/// A node with its own store and clock.
struct Node {
    store: Arc<CollateralStore>,
    clock: Arc<AtomicU64>,
    policy: Policy,
    supplier: Supplier,
}

impl Node {
    fn new(intel: &Intel, directory: Option<&Path>) -> Self {
        let store = Arc::new(CollateralStore::under(intel.root()));
        let cache = directory.map(|directory| {
            let cache = DiskCache::open(directory).unwrap();
            assert_eq!(cache.load(&store).unwrap().ignored.len(), 0);
            cache
        });
        let clock = Arc::new(AtomicU64::new(NOW));
        let time = clock.clone();
        let now = move || time.load(Ordering::SeqCst);
        let verifier = TdxVerifier::with(
            store.clone(),
            TdxPolicy::default(),
            intel.root(),
            now.clone(),
        );
        let policy = Policy::Tdx(PolicyRules {
            allowed_collateral_root_hashes: vec![intel.tdx.root_hash()],
            ..PolicyRules::default()
        })
        .with_verifier(Arc::new(verifier));
        let fetcher = intel.fetcher_within(Duration::from_secs(60));
        let supplier = Supplier::start(store.clone(), fetcher, cache, Arc::new(now));
        Node {
            store,
            clock,
            policy,
            supplier,
        }
    }

    fn at(&self, now: u64) {
        self.clock.store(now, Ordering::SeqCst);
    }

    /// A peer with a sound quote of this machine.
    fn judge(&self, tdx: &SoftTdx) -> Result<(), AttestError> {
        let quote = tdx.quote(&TdFields {
            report_data: report_data(&KEY),
            ..TdFields::default()
        });
        let evidence = self.policy.evaluate(Some(&quote), &KEY);
        evidence.map(drop).map_err(AttestError::from)
    }

    fn refusal(&self, tdx: &SoftTdx) -> (String, bool) {
        let error = self.judge(tdx).unwrap_err();
        (error.to_string(), error.is_retryable())
    }
}

#[tokio::test]
async fn an_unknown_platform_is_refused_and_its_next_try_succeeds() {
    let intel = Intel::start().await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(&intel, Some(folder.path()));
    let begun = intel.server.requests();
    let (text, is_retryable) = node.refusal(&intel.tdx);
    assert_eq!(begun, 0, "nothing is fetched before somebody needs it");
    assert!(
        text.contains("it is being fetched, so try again") && is_retryable,
        "{text}"
    );
    until("the collateral is there", || node.judge(&intel.tdx).is_ok()).await;
    assert_eq!(intel.server.requests(), 4, "many tries, one fetch");
    // Another process on the same directory needs no service.
    let file = folder.path().join("tdx-c0c00a000001-platform.json");
    until("it is on disk", || file.exists()).await;
    intel.break_with(&Reply::status(500));
    let second = Node::new(&intel, Some(folder.path()));
    second.judge(&intel.tdx).unwrap();
    assert_eq!(intel.server.requests(), 4);
}

#[tokio::test]
async fn what_is_held_is_refreshed_ahead_of_its_end() {
    let mut intel = Intel::start().await;
    let node = Node::new(&intel, None);
    node.judge(&intel.tdx).unwrap_err();
    until("the collateral is there", || node.judge(&intel.tdx).is_ok()).await;
    // A disclosure a day later: the platform is not what it was.
    intel.tdx.evaluation_number = 21;
    intel.tdx.tcb_status = "OutOfDate".to_owned();
    intel.publish(NOW + DAY);
    node.at(NOW + DAY + 60);
    // The driver looks at the clock within a minute; a wish wakes it at once.
    let other = SoftTdx::new(NOW);
    node.judge(&other).unwrap_err();
    node.supplier.wake();
    until("the new ratings count", || node.judge(&intel.tdx).is_err()).await;
    let (text, is_retryable) = node.refusal(&intel.tdx);
    assert!(text.contains("OutOfDate") && !is_retryable, "{text}");
}

#[tokio::test]
async fn without_the_service_the_valid_counts_and_then_the_refusal_says_why() {
    let intel = Intel::start().await;
    let node = Node::new(&intel, None);
    node.judge(&intel.tdx).unwrap_err();
    until("the collateral is there", || node.judge(&intel.tdx).is_ok()).await;
    intel.break_with(&Reply::status(500));
    let end = NOW + 29 * DAY;
    node.at(end - 60);
    node.supplier.wake();
    until("the trouble is known", || {
        !node.supplier.troubles().is_empty()
    })
    .await;
    node.judge(&intel.tdx).unwrap();
    node.at(end);
    let (text, is_retryable) = node.refusal(&intel.tdx);
    for part in [
        "ended at 2026-10-20T",
        "since 2026-10-20T",
        &intel.server.url(),
        "/tdx/certification/v4/tcb?fmspc=c0c00a000001",
        "status 500",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(is_retryable);
    // The service comes back.
    intel.publish(end - 10);
    node.at(end + 1_000);
    node.supplier.wake();
    until("the peer is back", || node.judge(&intel.tdx).is_ok()).await;
    assert_eq!(node.supplier.troubles(), []);
}

/// Anybody can claim any family. Only a certificate under the root makes us ask for one.
#[tokio::test]
async fn made_up_platforms_are_not_asked_for() {
    let intel = Intel::start().await;
    let node = Node::new(&intel, None);
    let stranger = SoftTdx::new(NOW);
    let (text, is_retryable) = node.refusal(&stranger);
    assert!(text.contains("not the root that is trusted"), "{text}");
    assert!(!is_retryable);
    node.judge(&intel.tdx).unwrap_err();
    until("the collateral is there", || node.judge(&intel.tdx).is_ok()).await;
    assert_eq!(intel.server.requests(), 4);
    assert_eq!(node.store.editions().len(), 1);
}

/// A service that shows yesterday's ratings takes nothing back.
#[tokio::test]
async fn an_older_edition_replaces_nothing() {
    let mut intel = Intel::start().await;
    intel.tdx.evaluation_number = 30;
    intel.publish(NOW - DAY);
    let node = Node::new(&intel, None);
    node.judge(&intel.tdx).unwrap_err();
    until("the collateral is there", || node.judge(&intel.tdx).is_ok()).await;
    intel.tdx.evaluation_number = 29;
    intel.publish(NOW - DAY);
    node.at(NOW + 2 * DAY);
    node.supplier.wake();
    until("the old one is seen", || {
        !node.supplier.troubles().is_empty()
    })
    .await;
    let (_, trouble) = node.supplier.troubles().remove(0);
    assert!(trouble.reason.contains("older (evaluation 29"), "{trouble}");
    let held = node.store.edition(&intel.platform()).unwrap();
    assert_eq!(held.tcb_info.evaluation, 30);
    node.judge(&intel.tdx).unwrap();
}
