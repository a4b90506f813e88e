//! Quotes of real Intel machines, good and tampered, with the clock frozen.

mod support;

use cocoon_attest::evidence::Verdict;
use cocoon_attest::evidence::collateral::{CollateralStore, ServiceAnswers, TdxCollateral};
use cocoon_attest::evidence::lists::{AllowList, Bytes, Mask};
use cocoon_attest::evidence::tdx::{self, TcbStatus, TdxClaims, TdxError, TdxRoot};
use cocoon_attest::evidence::tdx_policy::TdxPolicy;
use cocoon_attest::measurements::TdxMeasurements;
use cocoon_attest::policy::INTEL_ROOT_HASH;
use serde_json::Value;

/// 2026-02-20, inside the life of `tdx_quote_outdated_collateral.json`.
const FEBRUARY: u64 = 1_771_545_600;
/// 2025-06-20, inside the life of `tdx_quote_collateral.json`.
const JUNE: u64 = 1_750_377_600;
/// 2026-10-20, inside the life of `tdx_quote_td15ex_collateral.json`.
const OCTOBER: u64 = 1_792_454_400;

fn collateral(name: &str) -> Option<TdxCollateral> {
    let text = support::text(&support::samples()?, name);
    Some(TdxCollateral::from_json(&text).unwrap())
}

fn sample(name: &str) -> Option<(Vec<u8>, TdxCollateral)> {
    let quote = support::bytes(&support::samples()?, name);
    Some((quote, collateral(&format!("{name}_collateral.json"))?))
}

/// The reference's quote and the collateral that fits it.
fn reference() -> Option<(Vec<u8>, TdxCollateral)> {
    let quote = support::bytes(&support::evidence()?, "tdx_quote_reference.dat");
    Some((quote, collateral("tdx_quote_outdated_collateral.json")?))
}

fn appraise(quote: &[u8], collateral: &TdxCollateral, now: u64) -> (Verdict, Option<TdxClaims>) {
    TdxPolicy::default().appraise(quote, collateral, now, TdxRoot::INTEL)
}

#[track_caller]
fn refused(verdict: &Verdict, word: &str) {
    assert!(!verdict.accepted(), "accepted, {word} expected");
    let text = verdict.to_string();
    assert!(text.contains(word), "{word} expected in: {text}");
}

#[test]
fn a_v4_quote_is_up_to_date() {
    let Some((quote, collateral)) = sample("tdx_quote") else {
        return;
    };
    let (verdict, claims) = appraise(&quote, &collateral, JUNE);
    assert!(verdict.accepted(), "{verdict}");
    let claims = claims.unwrap();
    assert_eq!(claims.tcb_status, TcbStatus::UpToDate);
    assert!(claims.advisory_ids.is_empty());
    assert_eq!(claims.evaluation_number, 17);
    assert_eq!(claims.fmspc.to_string(), "b0c06f000000");
    assert_eq!(claims.root_hash, INTEL_ROOT_HASH);
    assert_eq!(
        hex::encode(claims.body.measurements.image_hash()),
        "b260fa9168ca9f28e7f15f128a45ac31c419705b31a60feac30b322ee06bc752"
    );
}

#[test]
fn an_extended_tdx_1_5_quote_is_up_to_date() {
    let Some((quote, collateral)) = sample("tdx_quote_td15ex") else {
        return;
    };
    let (verdict, claims) = appraise(&quote, &collateral, OCTOBER);
    assert!(verdict.accepted(), "{verdict}");
    let claims = claims.unwrap();
    assert_eq!(claims.body.mr_service_td, Some([0; 48]));
    assert_eq!(claims.body.current_service_td, Some([0; 48]));
    assert_eq!(
        hex::encode(claims.body.measurements.image_hash()),
        "828898d0193ff4cbc40f8a6510c9c70136035d828c8525de40ec3ed71b52ca4f"
    );
}

/// The same machine under the ratings of another month: four weaknesses were published in between.
#[test]
fn a_quote_goes_out_of_date_with_the_collateral() {
    let Some((quote, _)) = sample("tdx_quote") else {
        return;
    };
    let collateral = collateral("tdx_quote_td15ex_collateral.json").unwrap();
    let (verdict, claims) = appraise(&quote, &collateral, OCTOBER);
    refused(&verdict, "TCB status: expected UpToDate, found OutOfDate");
    let claims = claims.unwrap();
    assert_eq!(claims.tcb_status, TcbStatus::OutOfDate);
    assert_eq!(claims.advisory_ids.len(), 4, "{:?}", claims.advisory_ids);
    // A network may decide to live with it, and may except single weaknesses from that.
    let mut lenient = TdxPolicy {
        tcb_statuses: vec![TcbStatus::UpToDate, TcbStatus::OutOfDate],
        ..TdxPolicy::default()
    };
    let judge = |policy: &TdxPolicy| {
        policy
            .appraise(&quote, &collateral, OCTOBER, TdxRoot::INTEL)
            .0
    };
    assert!(judge(&lenient).accepted(), "{}", judge(&lenient));
    lenient.refused_advisories = vec![claims.advisory_ids[2].to_lowercase()];
    refused(&judge(&lenient), "open advisories");
}

#[test]
fn a_tdx_1_5_quote_without_a_level_is_refused() {
    let Some((quote, collateral)) = sample("tdx_quote_outdated") else {
        return;
    };
    let (verdict, claims) = appraise(&quote, &collateral, FEBRUARY);
    refused(&verdict, "No matching TCB level");
    assert!(claims.is_none());
    // What it claims is shown nevertheless.
    let shown = verdict.checks().iter().any(|check| {
        check.field == "image hash"
            && check.found == "571b21ee55a24c3adab8b2ff2973b1fce7de566dedbacc3b31e7bb82fe168913"
    });
    assert!(shown);
}

#[test]
fn the_references_quote_within_the_window_of_its_collateral() {
    let Some((quote, collateral)) = reference() else {
        return;
    };
    let (verdict, claims) = appraise(&quote, &collateral, FEBRUARY);
    assert!(verdict.accepted(), "{verdict}");
    assert_eq!(
        hex::encode(claims.unwrap().body.measurements.image_hash()),
        "04b3afd931d28680af91a15b09d672c40ad6b141f7f9089a8d67d595220f7436"
    );
    for (now, word) in [
        (1_774_396_800, "expired"),
        (1_764_547_200, "in the future"),
        (1_771_412_331 - 1, "in the future"), // a second before the TCB info was issued
        (1_774_003_275, "CrlExpired"),        // the revocation list's next update
        (0, "refused"),
        (u64::MAX, "refused"),
    ] {
        let (verdict, claims) = appraise(&quote, &collateral, now);
        refused(&verdict, word);
        assert!(claims.is_none(), "{now}");
    }
    for now in [1_771_412_331, 1_774_003_274] {
        assert!(appraise(&quote, &collateral, now).0.accepted(), "{now}");
    }
}

#[test]
fn trailing_zeros_are_padding_and_nothing_else_is() {
    let Some((quote, collateral)) = reference() else {
        return;
    };
    let judge = |quote: &[u8]| appraise(quote, &collateral, FEBRUARY).0;
    let end = quote.len() - 70;
    assert!(judge(&quote[..end]).accepted());
    refused(&judge(&quote[..end - 1]), "signature data");
    let mut changed = quote.clone();
    changed[end + 69] = 1;
    refused(&judge(&changed), "70 bytes other than zero padding");
    let mut long = quote;
    long.resize(cocoon_attest::quote::MAX_QUOTE_LEN, 0);
    assert!(judge(&long).accepted());
    long.push(0);
    refused(&judge(&long), "more than the limit");
}

/// Every byte of header, body, signatures, enclave report and key; every seventh of the certificates' PEM.
#[test]
fn every_changed_byte_of_a_quote_is_refused() {
    let Some((quote, collateral)) = reference() else {
        return;
    };
    let pem = quote.windows(5).position(|w| w == b"-----").unwrap();
    // The label after the last certificate ends no text that anybody reads.
    let end = quote.len() - 70 - "-----END CERTIFICATE-----\n".len();
    let fixed = (0..pem).chain((pem..end).step_by(7));
    let mut seen = 0;
    for at in fixed {
        let mut changed = quote.clone();
        changed[at] ^= 1 << (at % 8);
        let refused = tdx::verify(&changed, &collateral, FEBRUARY, TdxRoot::INTEL, false).is_err();
        // A PEM text has characters that carry nothing (line ends, labels); what they carry must be unchanged then.
        let same = at >= pem && same_chain(&changed[pem..], &quote[pem..]);
        assert!(refused || same, "byte {at}");
        seen += 1;
    }
    assert!(seen > 1_500, "{seen}");
}

fn same_chain(a: &[u8], b: &[u8]) -> bool {
    // Line ends and other bytes that a reader of base64 skips.
    let text = |bytes: &[u8]| -> Vec<u8> {
        let meaningful = |b: &u8| b.is_ascii_alphanumeric() || b"+/=-".contains(b);
        bytes.iter().copied().filter(meaningful).collect()
    };
    text(a) == text(b)
}

/// A sample of all parts of the collateral; the texts are signed to the last space.
#[test]
fn changed_collateral_is_refused() {
    let Some((quote, _)) = reference() else {
        return;
    };
    let folder = support::samples().unwrap();
    let text = support::text(&folder, "tdx_quote_outdated_collateral.json");
    let original: Value = serde_json::from_str(&text).unwrap();
    for field in [
        "root_ca_crl",
        "pck_crl",
        "tcb_info",
        "tcb_info_signature",
        "qe_identity",
        "qe_identity_signature",
    ] {
        let value = original[field].as_str().unwrap();
        for step in 0..40 {
            let at = value.len() * step / 40;
            let mut changed = value.as_bytes().to_vec();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let mut bundle = original.clone();
            bundle[field] = String::from_utf8(changed).unwrap().into();
            let Ok(collateral) = TdxCollateral::from_json(&bundle.to_string()) else {
                continue;
            };
            let verdict = appraise(&quote, &collateral, FEBRUARY).0;
            assert!(!verdict.accepted(), "{field} at {at}");
        }
    }
}

#[test]
fn a_domain_in_debug_mode_is_refused() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let quote = support::bytes(&folder, "tdx_quote_4.dat");
    let Some(collateral) = collateral("tdx_quote_outdated_collateral.json") else {
        return;
    };
    let (verdict, claims) = appraise(&quote, &collateral, FEBRUARY);
    refused(&verdict, "DEBUG");
    assert!(claims.is_none());
}

#[test]
fn a_v5_quote_of_tdx_1_5_is_judged_by_its_familys_collateral() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let quote = support::bytes(&folder, "tdx_quote_5.dat");
    let Some(collateral) = collateral("tdx_quote_outdated_collateral.json") else {
        return;
    };
    assert_eq!(tdx::platform(&quote).unwrap().fmspc, collateral.fmspc());
    let (verdict, claims) = appraise(&quote, &collateral, FEBRUARY);
    // Genuine or not: its platform is older than any that Intel rates, and a service domain is bound to it.
    refused(&verdict, "No matching TCB level");
    refused(&verdict, "MRSERVICETD: expected 0000");
    assert!(claims.is_none());
    let other = support::bytes(&folder, "tdx_quote_6.dat");
    refused(&appraise(&other, &collateral, FEBRUARY).0, "Fmspc mismatch");
}

#[test]
fn unverified_bodies_agree_with_the_expected_claims() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let expected: Value =
        serde_json::from_str(&support::text(&folder, "parse_tdx_claims_expected.json")).unwrap();
    let wanted = &expected["quote"]["body"];
    let body = tdx::unverified_body(&support::bytes(&folder, "tdx_quote_4.dat")).unwrap();
    let text = |key: &str| wanted[key].as_str().unwrap().to_owned();
    assert_eq!(hex::encode(body.measurements.mr_td), text("mr_td"));
    assert_eq!(hex::encode(body.mr_seam), text("mr_seam"));
    assert_eq!(
        hex::encode(body.measurements.report_data),
        text("report_data")
    );
    for (index, rtmr) in body.measurements.rtmr.iter().enumerate() {
        assert_eq!(hex::encode(rtmr), text(&format!("rtmr_{index}")));
    }
    // Nobody recorded collateral for these two.
    for name in ["quote-report.json", "tdx-lite-getquote.json"] {
        let file: Value = serde_json::from_str(&support::text(&folder, name)).unwrap();
        let quote = hex::decode(file["quote"].as_str().unwrap()).unwrap();
        let body = tdx::unverified_body(&quote).unwrap();
        assert_eq!(
            hex::encode(body.measurements.report_data),
            file["report_data"].as_str().unwrap(),
            "{name}"
        );
    }
}

/// The family's TCB info and the enclave's identity as the service answers them, with the other parts of a bundle.
#[test]
fn answers_of_the_service_are_taken_apart() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let Some(samples) = support::samples() else {
        return;
    };
    let text = support::text(&samples, "tdx_quote_outdated_collateral.json");
    let bundle: Value = serde_json::from_str(&text).unwrap();
    let part = |key: &str| bundle[key].as_str().unwrap();
    let escape = |pem: &str| pem.replace('\n', "%0A").replace(' ', "%20");
    let (root_crl, pck_crl) = (
        hex::decode(part("root_ca_crl")).unwrap(),
        hex::decode(part("pck_crl")).unwrap(),
    );
    let chains = [
        "pck_crl_issuer_chain",
        "tcb_info_issuer_chain",
        "qe_identity_issuer_chain",
    ]
    .map(|key| escape(part(key)));
    let wrap = |name: &str, text: &str, signature: &str| {
        format!(
            "{{\"{name}\":{},\"signature\":\"{}\"}}",
            part(text),
            part(signature)
        )
    };
    let own_tcb = wrap("tcbInfo", "tcb_info", "tcb_info_signature");
    let own_qe = wrap("enclaveIdentity", "qe_identity", "qe_identity_signature");
    let answers = |tcb_info, qe_identity| {
        TdxCollateral::from_service(&ServiceAnswers {
            root_ca_crl: &root_crl,
            pck_crl: &pck_crl,
            pck_crl_issuer_chain: &chains[0],
            tcb_info,
            tcb_info_issuer_chain: &chains[1],
            qe_identity,
            qe_identity_issuer_chain: &chains[2],
        })
    };
    let same = answers(&own_tcb, &own_qe).unwrap();
    assert_eq!(same.hash(), TdxCollateral::from_json(&text).unwrap().hash());
    // Recorded answers for another family, of a time when the revocation lists were not out yet.
    let recorded = answers(
        &support::text(&folder, "tcbInfo.json"),
        &support::text(&folder, "enclaveIdentity.json"),
    )
    .unwrap();
    assert_eq!(recorded.fmspc().to_string(), "00a06d080000");
    let quote = support::bytes(&folder, "tdx_quote_6.dat");
    refused(
        // 2025-11-01: the ratings are of that time, the revocation lists of the following year.
        &appraise(&quote, &recorded, 1_762_000_000).0,
        "Is the clock wrong?",
    );
}

#[test]
fn every_demand_of_the_policy_can_refuse() {
    let Some((quote, collateral)) = reference() else {
        return;
    };
    let claims = appraise(&quote, &collateral, FEBRUARY).1.unwrap();
    let judge = |edit: &dyn Fn(&mut TdxPolicy)| {
        let mut policy = TdxPolicy::default();
        edit(&mut policy);
        policy
            .appraise(&quote, &collateral, FEBRUARY, TdxRoot::INTEL)
            .0
    };
    fn only<const N: usize>(value: [u8; N]) -> AllowList<Bytes<N>> {
        AllowList::Only(vec![Bytes(value)])
    }
    let m: TdxMeasurements = claims.body.measurements.clone();
    let everything_right = judge(&|p| {
        p.minimum_evaluation_number = claims.evaluation_number;
        p.td_attributes_allowed = Mask(1 << 28);
        p.xfam_allowed = Mask(claims.body.xfam);
        p.minimum_tee_tcb_svn = Bytes(claims.body.tee_tcb_svn);
        p.mr_seam = only(claims.body.mr_seam);
        p.mr_td = only(m.mr_td);
        p.mr_config_id = only(m.mr_config_id);
        p.mr_owner = only(m.mr_owner);
        p.mr_owner_config = only(m.mr_owner_config);
        p.rtmr0 = only(m.rtmr[0]);
        p.rtmr1 = only(m.rtmr[1]);
        p.rtmr2 = only(m.rtmr[2]);
        p.rtmr3 = only(m.rtmr[3]);
        p.image_hashes = only(m.image_hash());
        p.ppid_allowed = AllowList::Only(vec![claims.ppid]);
        p.ppid_denied = vec![Bytes([7; 16])];
        p.refused_advisories = vec!["INTEL-SA-00001".to_owned()];
    });
    assert!(everything_right.accepted(), "{everything_right}");
    type Edit<'a> = &'a dyn Fn(&mut TdxPolicy);
    let cases: &[(&str, Edit)] = &[
        ("TCB status", &|p| {
            p.tcb_statuses = vec![TcbStatus::ConfigurationNeeded]
        }),
        ("TCB evaluation number", &|p| {
            p.minimum_evaluation_number = 19
        }),
        ("TD attributes", &|p| {
            p.td_attributes_required = Mask((1 << 28) | (1 << 30))
        }),
        ("XFAM", &|p| p.xfam_allowed = Mask(7)),
        ("TEE TCB SVN", &|p| p.minimum_tee_tcb_svn = Bytes([8; 16])),
        ("MRSEAM", &|p| p.mr_seam = only([1; 48])),
        ("MRSIGNERSEAM", &|p| p.mr_signer_seam = only([1; 48])),
        ("MRSERVICETD", &|p| p.mr_service_td = only([1; 48])),
        ("MRTD", &|p| p.mr_td = only([1; 48])),
        ("MRCONFIGID", &|p| p.mr_config_id = only([1; 48])),
        ("MROWNER", &|p| p.mr_owner = only([1; 48])),
        ("MROWNERCONFIG", &|p| p.mr_owner_config = only([1; 48])),
        ("RTMR0", &|p| p.rtmr0 = only([1; 48])),
        ("RTMR1", &|p| p.rtmr1 = only([1; 48])),
        ("RTMR2", &|p| p.rtmr2 = only([1; 48])),
        ("RTMR3", &|p| p.rtmr3 = only([1; 48])),
        ("image hash", &|p| p.image_hashes = only([1; 32])),
        ("PPID", &|p| p.ppid_allowed = only([1; 16])),
        ("PPID not denied", &|p| p.ppid_denied = vec![claims.ppid]),
        ("policy", &|p| p.td_attributes_allowed = Mask(u64::MAX)),
    ];
    for (field, edit) in cases {
        let verdict = judge(edit);
        let failed: Vec<&str> = verdict.failures().map(|check| check.field).collect();
        assert_eq!(failed, [*field], "{verdict}");
    }
    for (field, on, edit) in [
        (
            "dynamic platform",
            claims.dynamic_platform,
            (|p| p.allow_dynamic_platform = false) as fn(&mut TdxPolicy),
        ),
        ("cached keys", claims.cached_keys, |p| {
            p.allow_cached_keys = false
        }),
        ("SMT", claims.smt, |p| p.allow_smt = false),
    ] {
        assert_eq!(judge(&edit).accepted(), !on, "{field}");
    }
}

#[test]
fn another_root_is_not_intels() {
    let Some((quote, collateral)) = reference() else {
        return;
    };
    let other = TdxRoot::pinned([7; 32]);
    let error = tdx::verify(&quote, &collateral, FEBRUARY, other, false).unwrap_err();
    assert!(matches!(error, TdxError::Root { .. }), "{error}");
}

#[test]
fn the_store_keeps_the_newest() {
    let (Some(old), Some(new)) = (
        collateral("tdx_quote_collateral.json"),
        collateral("tdx_quote_td15ex_collateral.json"),
    ) else {
        return;
    };
    let Some((quote, _)) = sample("tdx_quote") else {
        return;
    };
    let platform = tdx::platform(&quote).unwrap();
    assert_eq!(
        platform.issuer.as_deref(),
        Some("Intel SGX PCK Platform CA")
    );
    let store = CollateralStore::new();
    let find = || {
        store
            .find(platform.fmspc, platform.issuer.as_deref())
            .map(|c| c.hash())
    };
    assert_eq!(find(), None);
    store.insert(old.clone()).unwrap();
    assert_eq!(find(), Some(old.hash()));
    store.insert(new.clone()).unwrap();
    let error = store.insert(old).unwrap_err().to_string();
    assert!(error.contains("older"), "{error}");
    assert_eq!(find(), Some(new.hash()));
}
