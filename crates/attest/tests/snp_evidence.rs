//! SEV-SNP reports of real AMD machines, good and tampered, with the clock frozen.

mod support;

use std::path::Path;

use cocoon_attest::evidence::Verdict;
use cocoon_attest::evidence::lists::{AllowList, Bytes};
use cocoon_attest::evidence::snp::{
    self, Generation, SigningKey, SnpChain, SnpError, SnpReport, SnpRoots,
};
use cocoon_attest::evidence::snp_policy::SnpPolicy;

/// 2025-06-20: both certificates are valid.
const NOW: u64 = 1_750_377_600;

struct Recorded {
    report: Vec<u8>,
    chain: SnpChain,
}

fn recorded(report: &str, key: &str) -> Option<Recorded> {
    let folder = support::evidence()?;
    Some(Recorded {
        report: support::bytes(&folder, report),
        chain: chain(&folder, key),
    })
}

fn chain(folder: &Path, key: &str) -> SnpChain {
    let pem = support::text(folder, "milan_ask_ark_asvk.pem");
    SnpChain::from_service(&pem, &support::bytes(folder, key)).unwrap()
}

fn vcek() -> Option<Recorded> {
    recorded("test-report.bin", "test-vcek.der")
}

/// Milan is refused by default; its reports serve to prove the rest.
fn with_milan() -> SnpPolicy {
    SnpPolicy {
        generations: vec![Generation::Milan],
        keys: vec![SigningKey::Vcek, SigningKey::Vlek],
        vmpl: vec![0, 1],
        ..SnpPolicy::default()
    }
}

fn judge(policy: &SnpPolicy, recorded: &Recorded) -> Verdict {
    policy
        .appraise(
            &recorded.report,
            &recorded.chain,
            NOW,
            &SnpRoots::amd(),
            None,
        )
        .0
}

#[track_caller]
fn fails(verdict: &Verdict, fields: &[&str]) {
    let failed: Vec<&str> = verdict.failures().map(|check| check.field).collect();
    assert_eq!(failed, fields, "{verdict}");
}

#[test]
fn a_vcek_report_of_milan_is_genuine_and_refused_by_default() {
    let Some(recorded) = vcek() else { return };
    let claims = snp::verify(&recorded.report, &recorded.chain, NOW, &SnpRoots::amd()).unwrap();
    assert_eq!(
        (claims.generation, claims.key),
        (Generation::Milan, SigningKey::Vcek)
    );
    assert_eq!(claims.reported_tcb.microcode, 0x73);
    assert_eq!(
        (claims.reported_tcb.bootloader, claims.reported_tcb.snp),
        (3, 8)
    );
    let verdict = judge(&SnpPolicy::default(), &recorded);
    fails(&verdict, &["processor generation"]);
    assert!(
        verdict.to_string().contains("extracted in software"),
        "{verdict}"
    );
    let verdict = judge(&with_milan(), &recorded);
    assert!(verdict.accepted(), "{verdict}");
}

#[test]
fn a_vlek_report_names_its_provider() {
    let Some(recorded) = recorded("test-vlek-report.bin", "test-vlek.der") else {
        return;
    };
    let claims = snp::verify(&recorded.report, &recorded.chain, NOW, &SnpRoots::amd()).unwrap();
    assert_eq!(claims.key, SigningKey::Vlek);
    assert_eq!(
        claims.provider.as_deref(),
        Some("CN=cc-us-east-2.amazonaws.com")
    );
    assert_eq!(claims.report.cpu, Some((0x19, 1)));
    assert!(judge(&with_milan(), &recorded).accepted());
    let mut policy = with_milan();
    policy.keys = vec![SigningKey::Vcek];
    fails(&judge(&policy, &recorded), &["signing key"]);
    let mut policy = with_milan();
    policy.providers = AllowList::Only(vec!["CN=somebody else".to_owned()]);
    fails(&judge(&policy, &recorded), &["provider"]);
    let mut policy = with_milan();
    policy.vmpl = vec![0];
    fails(&judge(&policy, &recorded), &["VMPL"]);
}

#[test]
fn keys_of_other_chips_are_refused() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let report = support::bytes(&folder, "test-report.bin");
    for key in [
        "test-vcek-invalid-legacy.der",
        "test-vcek-invalid-new.der",
        "test-vlek.der",
    ] {
        let error = snp::verify(&report, &chain(&folder, key), NOW, &SnpRoots::amd()).unwrap_err();
        println!("{key}: {error}");
    }
    // The root of another generation vouches for nothing here.
    let pem = support::text(&folder, "genoa_ask_ark_asvk.pem");
    SnpChain::from_service(&pem, &support::bytes(&folder, "test-vcek.der")).unwrap_err();
    let mut mixed = chain(&folder, "test-vcek.der");
    let genoa = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes())
        .nth(1)
        .unwrap()
        .unwrap();
    mixed.ark = genoa.contents;
    snp::verify(&report, &mixed, NOW, &SnpRoots::amd()).unwrap_err();
}

#[test]
fn every_changed_byte_of_report_and_chain_is_refused() {
    let Some(good) = vcek() else { return };
    let roots = SnpRoots::amd();
    let refused =
        |report: &[u8], chain: &SnpChain| snp::verify(report, chain, NOW, &roots).is_err();
    assert!(!refused(&good.report, &good.chain));
    for at in 0..good.report.len() {
        let mut changed = good.report.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(refused(&changed, &good.chain), "byte {at} of the report");
    }
    type Part = fn(&mut SnpChain) -> &mut Vec<u8>;
    let parts: [(&str, Part); 3] = [
        ("ARK", |c| &mut c.ark),
        ("ASK", |c| &mut c.ask),
        ("VCEK", |c| &mut c.vek),
    ];
    for (name, part) in parts {
        let mut chain = good.chain.clone();
        for at in 0..part(&mut chain).len() {
            part(&mut chain)[at] ^= 1 << (at % 8);
            assert!(refused(&good.report, &chain), "byte {at} of the {name}");
            part(&mut chain)[at] ^= 1 << (at % 8);
        }
        part(&mut chain).push(0);
        assert!(refused(&good.report, &chain), "a byte after the {name}");
    }
    for length in [0, 1, 0x2a0, good.report.len() - 1] {
        assert_eq!(
            SnpReport::parse(&good.report[..length]),
            Err(SnpError::Length(length))
        );
    }
}

#[test]
fn certificates_have_their_time() {
    let Some(recorded) = recorded("test-vlek-report.bin", "test-vlek.der") else {
        return;
    };
    // 2024-12-10T22:14:21Z to 2025-12-10T22:14:21Z.
    for (now, valid) in [
        (1_733_868_860, false),
        (1_733_868_861, true),
        (1_765_404_861, true),
        (1_765_404_862, false),
        (u64::MAX, false),
    ] {
        let result = snp::verify(&recorded.report, &recorded.chain, now, &SnpRoots::amd());
        assert_eq!(result.is_ok(), valid, "{now}: {result:?}");
    }
}

#[test]
fn every_demand_of_the_policy_can_refuse() {
    let Some(recorded) = vcek() else { return };
    let report = SnpReport::parse(&recorded.report).unwrap();
    let claims = snp::verify(&recorded.report, &recorded.chain, NOW, &SnpRoots::amd()).unwrap();
    fn only<const N: usize>(value: Bytes<N>) -> AllowList<Bytes<N>> {
        AllowList::Only(vec![value])
    }
    let mut right = with_milan();
    right.minimum_tcb.milan = claims.reported_tcb;
    right.minimum_guest_svn = report.guest_svn;
    right.measurement = only(report.measurement);
    right.host_data = only(report.host_data);
    right.family_id = only(report.family_id);
    right.image_id = only(report.image_id);
    right.id_key_digest = only(report.id_key_digest);
    right.author_key_digest = only(report.author_key_digest);
    right.chip_id_allowed = only(report.chip_id);
    let data = |data: Bytes<64>| {
        right
            .appraise(
                &recorded.report,
                &recorded.chain,
                NOW,
                &SnpRoots::amd(),
                Some(&data),
            )
            .0
    };
    assert!(
        data(report.report_data).accepted(),
        "{}",
        data(report.report_data)
    );
    fails(&data(Bytes([1; 64])), &["report data"]);
    type Edit<'a> = &'a dyn Fn(&mut SnpPolicy);
    let cases: &[(&[&str], Edit)] = &[
        (&["reported TCB", "committed TCB", "launch TCB"], &|p| {
            p.minimum_tcb.milan.microcode = 0x74
        }),
        (&["SMT"], &|p| p.allow_smt = false),
        (&["SINGLE_SOCKET"], &|p| p.require_single_socket = true),
        (&["CIPHERTEXT_HIDING"], &|p| {
            p.require_ciphertext_hiding = true
        }),
        (&["alias check"], &|p| p.require_alias_check = true),
        (&["VMPL"], &|p| p.vmpl = vec![3]),
        (&["guest SVN"], &|p| {
            p.minimum_guest_svn = report.guest_svn + 1
        }),
        (&["measurement"], &|p| p.measurement = only(Bytes([1; 48]))),
        (&["host data"], &|p| p.host_data = only(Bytes([1; 32]))),
        (&["family ID"], &|p| p.family_id = only(Bytes([9; 16]))),
        (&["image ID"], &|p| p.image_id = only(Bytes([9; 16]))),
        (&["ID key digest"], &|p| {
            p.id_key_digest = only(Bytes([1; 48]))
        }),
        (&["author key digest"], &|p| {
            p.author_key_digest = only(Bytes([1; 48]))
        }),
        (&["CHIP_ID"], &|p| p.chip_id_allowed = only(Bytes([1; 64]))),
        (&["CHIP_ID not denied"], &|p| {
            p.chip_id_denied = vec![report.chip_id]
        }),
    ];
    for (fields, edit) in cases {
        let mut policy = right.clone();
        edit(&mut policy);
        fails(&judge(&policy, &recorded), fields);
    }
}
