//! The unmodified TDX verifier and policy on quotes of a software TDX, whose root is named explicitly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cocoon_attest::evidence::collateral::{CollateralStore, TdxCollateral};
use cocoon_attest::evidence::lists::{AllowList, Bytes};
use cocoon_attest::evidence::tdx::{self, TcbStatus, TdxError, TdxRoot};
use cocoon_attest::evidence::tdx_policy::TdxPolicy;
use cocoon_attest::evidence::{TdxVerifier, Verdict};
use cocoon_attest::profile::report_data;
use cocoon_attest::{Measurements, Policy, PolicyRefusal, PolicyRules};
use cocoon_softtee::{SoftTdx, TdFields};
use proptest::prelude::*;

const NOW: u64 = 1_790_000_000;
const DAY: u64 = 86_400;
const KEY: [u8; 32] = [9; 32];

fn fields() -> TdFields {
    TdFields {
        report_data: report_data(&KEY),
        ..TdFields::default()
    }
}

fn collateral(tdx: &SoftTdx) -> TdxCollateral {
    TdxCollateral::from_json(&tdx.collateral()).unwrap()
}

fn root(tdx: &SoftTdx) -> TdxRoot {
    TdxRoot::pinned(tdx.root_sha256())
}

fn judge(tdx: &SoftTdx, fields: &TdFields) -> Verdict {
    TdxPolicy::default()
        .appraise(&tdx.quote(fields), &collateral(tdx), NOW, root(tdx))
        .0
}

#[track_caller]
fn refused(verdict: &Verdict, word: &str) {
    assert!(!verdict.accepted(), "accepted, {word} expected");
    let text = verdict.to_string();
    assert!(text.contains(word), "{word} expected in: {text}");
}

#[test]
fn sound_quotes_of_both_versions_are_accepted() {
    let tdx = SoftTdx::new(NOW);
    for version in [4, 5] {
        let fields = TdFields {
            version,
            ..fields()
        };
        let quote = tdx.quote(&fields);
        let claims = tdx::verify(&quote, &collateral(&tdx), NOW, root(&tdx), false).unwrap();
        assert_eq!(claims.tcb_status, TcbStatus::UpToDate);
        assert_eq!(claims.root_hash, tdx.root_hash());
        assert_eq!(claims.collateral_expires, NOW + 29 * DAY);
        let verdict = judge(&tdx, &fields);
        assert!(verdict.accepted(), "{verdict}");
    }
}

/// The whole point of a pinned root: neither Intel's verifier nor that of another software machine accepts it.
#[test]
fn nobody_else_accepts_a_software_quote() {
    let (tdx, other) = (SoftTdx::new(NOW), SoftTdx::new(NOW));
    let quote = tdx.quote(&fields());
    for foreign in [TdxRoot::INTEL, root(&other)] {
        let error = tdx::verify(&quote, &collateral(&tdx), NOW, foreign, false).unwrap_err();
        assert!(matches!(error, TdxError::Root { .. }), "{error}");
    }
    // Collateral of the one for the quote of the other, under either root.
    for root in [root(&tdx), root(&other)] {
        tdx::verify(&quote, &collateral(&other), NOW, root, false).unwrap_err();
    }
}

#[test]
fn what_the_host_could_read_is_refused() {
    let tdx = SoftTdx::new(NOW);
    let with = |td_attributes| {
        judge(
            &tdx,
            &TdFields {
                td_attributes,
                ..fields()
            },
        )
    };
    for bit in (0..8).chain([29]) {
        refused(&with((1 << 28) | (1 << bit)), "TD attributes");
    }
    for bit in [8, 15, 23, 40, 61] {
        refused(&with((1 << 28) | (1u64 << bit)), "TD attributes");
    }
    refused(&with(0), "TD attributes");
    refused(&with((1 << 28) | (1 << 18)), "TD attributes");
    assert!(with((1 << 28) | (1 << 30) | (1 << 63)).accepted());
    refused(
        &judge(
            &tdx,
            &TdFields {
                xfam: 0xe7 | 1 << 8,
                ..fields()
            },
        ),
        "XFAM",
    );
    refused(
        &judge(
            &tdx,
            &TdFields {
                xfam: 0xe6,
                ..fields()
            },
        ),
        "XFAM",
    );
    refused(
        &judge(
            &tdx,
            &TdFields {
                mr_signer_seam: [1; 48],
                ..fields()
            },
        ),
        "MRSIGNERSEAM",
    );
}

#[test]
fn a_service_domain_has_to_be_named() {
    let tdx = SoftTdx::new(NOW);
    let fields = TdFields {
        version: 5,
        mr_service_td: [7; 48],
        ..fields()
    };
    refused(&judge(&tdx, &fields), "MRSERVICETD");
    let named = |value| TdxPolicy {
        mr_service_td: AllowList::Only(vec![Bytes(value)]),
        ..TdxPolicy::default()
    };
    let judge = |policy: TdxPolicy| {
        policy
            .appraise(&tdx.quote(&fields), &collateral(&tdx), NOW, root(&tdx))
            .0
    };
    assert!(
        judge(named([7; 48])).accepted(),
        "{}",
        judge(named([7; 48]))
    );
    refused(&judge(named([8; 48])), "MRSERVICETD");
}

#[test]
fn ratings_and_revocations_count() {
    let mut tdx = SoftTdx::new(NOW);
    for status in [
        "OutOfDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "OutOfDateConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
    ] {
        tdx.tcb_status = status.to_owned();
        refused(&judge(&tdx, &fields()), &format!("found {status}"));
    }
    tdx.tcb_status = "Revoked".to_owned();
    refused(&judge(&tdx, &fields()), "Revoked");
    tdx.tcb_status = "NoSuchStatus".to_owned();
    refused(&judge(&tdx, &fields()), "TcbInfo");
    tdx.tcb_status = "UpToDate".to_owned();
    tdx.advisories = vec!["INTEL-SA-99999".to_owned()];
    assert!(judge(&tdx, &fields()).accepted());
    let strict = TdxPolicy {
        refused_advisories: vec!["intel-sa-99999".to_owned()],
        ..TdxPolicy::default()
    };
    let quote = tdx.quote(&fields());
    refused(
        &strict
            .appraise(&quote, &collateral(&tdx), NOW, root(&tdx))
            .0,
        "open advisories",
    );
    let newer = TdxPolicy {
        minimum_evaluation_number: 21,
        ..TdxPolicy::default()
    };
    refused(
        &newer.appraise(&quote, &collateral(&tdx), NOW, root(&tdx)).0,
        "at least 21",
    );
    tdx.revoked = true;
    refused(&judge(&tdx, &fields()), "CertRevoked");
    tdx.revoked = false;
    tdx.ca_revoked = true;
    refused(&judge(&tdx, &fields()), "CertRevoked");
}

#[test]
fn every_changed_byte_of_a_quote_is_refused() {
    let tdx = SoftTdx::new(NOW);
    let (quote, collateral) = (tdx.quote(&fields()), collateral(&tdx));
    let pem = quote.windows(5).position(|w| w == b"-----").unwrap();
    let refused = |quote: &[u8]| tdx::verify(quote, &collateral, NOW, root(&tdx), false).is_err();
    assert!(!refused(&quote));
    for at in 0..pem {
        let mut changed = quote.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(refused(&changed), "byte {at}");
    }
    // Of the certificates' text every third digit; digits differ in a way that no reader of base64 overlooks.
    for at in (pem..quote.len() - 30).step_by(3) {
        let mut changed = quote.clone();
        changed[at] = match changed[at] {
            b'A' => b'Q',
            digit if digit.is_ascii_alphanumeric() => b'A',
            _ => continue,
        };
        assert!(refused(&changed), "byte {at}");
    }
    for length in [0, 1, 47, 48, 632, 700, quote.len() - 1] {
        assert!(refused(&quote[..length]), "{length}");
    }
}

struct Node {
    tdx: SoftTdx,
    store: Arc<CollateralStore>,
    clock: Arc<AtomicU64>,
    verifier: Arc<TdxVerifier>,
}

fn node() -> Node {
    let tdx = SoftTdx::new(NOW);
    let store = Arc::new(CollateralStore::under(root(&tdx)));
    let clock = Arc::new(AtomicU64::new(NOW));
    let time = clock.clone();
    let now = move || time.load(Ordering::Relaxed);
    let verifier = TdxVerifier::with(store.clone(), TdxPolicy::default(), root(&tdx), now);
    Node {
        tdx,
        store,
        clock,
        verifier: Arc::new(verifier),
    }
}

impl Node {
    fn policy(&self) -> Policy {
        Policy::Tdx(PolicyRules {
            allowed_collateral_root_hashes: vec![self.tdx.root_hash()],
            ..PolicyRules::default()
        })
        .with_verifier(self.verifier.clone())
    }

    fn evaluate(&self, fields: &TdFields) -> Result<[u8; 32], String> {
        let evidence = self.policy().evaluate(Some(&self.tdx.quote(fields)), &KEY);
        evidence
            .map(|evidence| {
                assert!(!evidence.fake);
                assert_eq!(evidence.collateral_root_hash, self.tdx.root_hash());
                evidence
                    .measurements
                    .as_ref()
                    .map(Measurements::image_hash)
                    .unwrap()
            })
            .map_err(|error| error.to_string())
    }
}

#[test]
fn the_policy_of_a_connection_verifies_with_preloaded_collateral() {
    let node = node();
    let error = node.evaluate(&fields()).unwrap_err();
    assert!(
        error.contains("no collateral is loaded for platform family c0c00a000001"),
        "{error}"
    );
    node.store.insert(collateral(&node.tdx)).unwrap();
    let fake = cocoon_attest::measurements::TdxMeasurements::fake([0; 64]);
    assert_eq!(node.evaluate(&fields()).unwrap(), fake.image_hash());
    // The same evidence for another key, in another domain, or under Intel's root only.
    let error = node
        .evaluate(&TdFields {
            report_data: [1; 64],
            ..fields()
        })
        .unwrap_err();
    assert!(error.contains("not for the key"), "{error}");
    let error = node
        .evaluate(&TdFields {
            td_attributes: (1 << 28) | 1,
            ..fields()
        })
        .unwrap_err();
    assert!(error.contains("DEBUG"), "{error}");
    let quote = node.tdx.quote(&fields());
    let intel = Policy::Tdx(PolicyRules::default()).with_verifier(node.verifier.clone());
    let error = intel.evaluate(Some(&quote), &KEY).unwrap_err();
    assert!(
        matches!(error, PolicyRefusal::CollateralRoot { .. }),
        "{error}"
    );
    let unarmed = Policy::Tdx(PolicyRules::default());
    let error = unarmed.evaluate(Some(&quote), &KEY).unwrap_err();
    assert!(
        matches!(error, PolicyRefusal::TdxUnsupported { .. }),
        "{error}"
    );
}

#[test]
fn a_verification_is_not_kept_beyond_the_collaterals_life() {
    let node = node();
    node.store.insert(collateral(&node.tdx)).unwrap();
    let quote = node.tdx.quote(&fields());
    let check = |at: u64| {
        node.clock.store(at, Ordering::Relaxed);
        node.verifier
            .check(&quote)
            .map(|_| ())
            .map_err(|verdict| verdict.to_string())
    };
    check(NOW).unwrap();
    // Close to the end, so that the hour would reach beyond it.
    let end = NOW + 29 * DAY;
    check(end - 10).unwrap();
    check(end - 1).unwrap();
    assert!(check(end).unwrap_err().contains("CrlExpired"));
    // The blockchain's time counts when the host turns the clock back.
    check(NOW).unwrap();
    node.verifier.note_time(end + 1);
    check(NOW).unwrap_err();
    // New collateral brings the peer back, if it is as good as the old one.
    let fresh = |issued| TdxCollateral::from_json(&node.tdx.collateral_at(issued)).unwrap();
    node.store.insert(fresh(end)).unwrap();
    check(NOW).unwrap();
    let error = node.store.insert(fresh(NOW)).unwrap_err().to_string();
    assert!(error.contains("older"), "{error}");
}

/// Whoever stands between us and the service can neither forge an edition nor spoil a part of a true one.
#[test]
fn only_signed_collateral_gets_into_the_store() {
    let node = node();
    let genuine = node.tdx.collateral();
    let insert = |text: &str| node.store.insert(TdxCollateral::from_json(text).unwrap());
    insert(&genuine).unwrap();
    let bundle: serde_json::Value = serde_json::from_str(&genuine).unwrap();
    let forged = |field: &str, edit: &dyn Fn(&str) -> String| {
        let mut bundle = bundle.clone();
        bundle[field] = edit(bundle[field].as_str().unwrap()).into();
        insert(&bundle.to_string()).unwrap_err().to_string()
    };
    let newer = |text: &str| {
        text.replace(
            "\"tcbEvaluationDataNumber\":20",
            "\"tcbEvaluationDataNumber\":99",
        )
    };
    assert!(forged("tcb_info", &newer).contains("the TCB info is not signed"));
    assert!(forged("qe_identity", &newer).contains("quoting enclave is not signed"));
    let other = SoftTdx::new(NOW);
    let theirs: serde_json::Value = serde_json::from_str(&other.collateral()).unwrap();
    for field in [
        "pck_crl",
        "root_ca_crl",
        "tcb_info_signature",
        "qe_identity_signature",
    ] {
        let error = forged(field, &|_| theirs[field].as_str().unwrap().to_owned());
        assert!(error.contains("is not signed by"), "{field}: {error}");
    }
    for field in [
        "pck_crl_issuer_chain",
        "tcb_info_issuer_chain",
        "qe_identity_issuer_chain",
    ] {
        let error = forged(field, &|_| theirs[field].as_str().unwrap().to_owned());
        assert!(
            error.contains("not the root that is trusted"),
            "{field}: {error}"
        );
        forged(field, &|_| String::new());
    }
    let error = insert(&other.collateral()).unwrap_err().to_string();
    assert!(error.contains("not the root that is trusted"), "{error}");
    node.verifier.check(&node.tdx.quote(&fields())).unwrap();
}

#[test]
fn a_directory_of_collateral_is_read_whole_or_not_at_all() {
    let node = node();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    assert_eq!(node.store.fill(folder.path()).unwrap(), 0);
    write("a.json", &node.tdx.collateral_at(NOW - DAY));
    write("b.json", &node.tdx.collateral_at(NOW - 2 * DAY));
    write("notes.txt", "no collateral");
    assert_eq!(
        node.store.fill(folder.path()).unwrap(),
        1,
        "the older edition is passed over"
    );
    node.verifier.check(&node.tdx.quote(&fields())).unwrap();
    // Intel's store does not take it.
    let error = CollateralStore::load(folder.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("is not genuine"), "{error}");
    write("c.json", "{}");
    let error = node.store.fill(folder.path()).unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
    node.store.fill(&folder.path().join("missing")).unwrap_err();
}

/// A platform that Intel distrusts loses its place with the next collateral, although its quote was verified before.
#[test]
fn new_ratings_end_what_was_kept() {
    let mut node = node();
    node.store.insert(collateral(&node.tdx)).unwrap();
    let quote = node.tdx.quote(&fields());
    node.verifier.check(&quote).unwrap();
    node.tdx.evaluation_number = 21;
    node.tdx.tcb_status = "OutOfDate".to_owned();
    node.store.insert(collateral(&node.tdx)).unwrap();
    refused(&node.verifier.check(&quote).unwrap_err(), "OutOfDate");
}

#[test]
fn the_clock_cannot_go_behind_the_collateral() {
    let tdx = SoftTdx::new(NOW);
    let collateral = TdxCollateral::from_json(&tdx.collateral_at(NOW)).unwrap();
    let error = tdx::verify(
        &tdx.quote(&fields()),
        &collateral,
        NOW - 1,
        root(&tdx),
        false,
    )
    .unwrap_err();
    assert!(error.to_string().contains("future"), "{error}");
    tdx::verify(&tdx.quote(&fields()), &collateral, NOW, root(&tdx), false).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes of a stranger: no panic, no acceptance.
    #[test]
    fn any_bytes_are_no_quote(bytes in prop::collection::vec(any::<u8>(), 0..3_000), at in 0usize..5_000, cut in 0usize..5_000) {
        let tdx = shared();
        let collateral = collateral(tdx);
        prop_assert!(tdx::verify(&bytes, &collateral, NOW, root(tdx), false).is_err());
        let mut quote = tdx.quote(&fields());
        let at = at % quote.len();
        let end = (at + bytes.len()).min(quote.len());
        let before = quote.clone();
        quote[at..end].copy_from_slice(&bytes[..end - at]);
        prop_assert!(quote[..end.min(1_200)] == before[..end.min(1_200)] || tdx::verify(&quote, &collateral, NOW, root(tdx), true).is_err());
        quote.truncate(cut % before.len());
        prop_assert!(tdx::verify(&quote, &collateral, NOW, root(tdx), true).is_err());
        let _ = tdx::platform(&quote);
    }

    #[test]
    fn any_text_is_no_collateral(text in ".{0,300}", at in 0usize..20_000) {
        let _ = TdxCollateral::from_json(&text);
        let mut damaged = shared().collateral();
        let at = (0..=at % damaged.len()).rev().find(|at| damaged.is_char_boundary(*at)).unwrap_or(0);
        damaged.insert_str(at, &text);
        let _ = TdxCollateral::from_json(&damaged);
        damaged.truncate(at);
        prop_assert!(TdxCollateral::from_json(&damaged).is_err());
    }
}

fn shared() -> &'static SoftTdx {
    static TDX: std::sync::OnceLock<SoftTdx> = std::sync::OnceLock::new();
    TDX.get_or_init(|| SoftTdx::new(NOW))
}
