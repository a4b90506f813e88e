//! The unmodified SNP and GPU verifiers on evidence of software machines, whose roots are named explicitly.

use cocoon_attest::evidence::gpu::{
    self, Architecture, GpuError, GpuReport, GpuRoot, Mode, nonce_for_key,
};
use cocoon_attest::evidence::gpu_policy::{GpuEvidence, GpuPolicy};
use cocoon_attest::evidence::lists::{AllowList, Bytes};
use cocoon_attest::evidence::rim::Rim;
use cocoon_attest::evidence::snp::{self, Generation, SnpChain, SnpError, SnpReport, SnpRoots};
use cocoon_attest::evidence::snp_policy::SnpPolicy;
use cocoon_attest::evidence::{PolicyFile, Verdict};
use cocoon_softtee::{SnpFields, SoftGpu, SoftSnp};
use proptest::prelude::*;

const NOW: u64 = 1_790_000_000;

fn snp_chain(snp: &SoftSnp) -> SnpChain {
    let [ark, ask, vek] = snp.chain();
    SnpChain {
        ark,
        ask,
        vek,
        crl: None,
    }
}

fn snp_roots(snp: &SoftSnp) -> SnpRoots {
    SnpRoots::pinned(Generation::Genoa, snp.root_sha256())
}

fn failed(verdict: &Verdict) -> Vec<&str> {
    verdict.failures().map(|check| check.field).collect()
}

#[test]
fn a_sound_snp_report_is_accepted_and_a_readable_guest_is_not() {
    let snp = SoftSnp::new(NOW);
    let judge = |fields: &SnpFields| {
        let report = snp.report(fields);
        SnpPolicy::default()
            .appraise(
                &report,
                &snp_chain(&snp),
                NOW,
                &snp_roots(&snp),
                Some(&Bytes([0; 64])),
            )
            .0
    };
    let verdict = judge(&SnpFields::default());
    assert!(verdict.accepted(), "{verdict}");
    let policy = |policy| SnpFields {
        policy,
        ..SnpFields::default()
    };
    assert_eq!(failed(&judge(&policy(0x3_0000 | 1 << 19))), ["DEBUG"]);
    assert_eq!(failed(&judge(&policy(0x3_0000 | 1 << 18))), ["MIGRATE_MA"]);
    assert_eq!(failed(&judge(&policy(0x3_0000 | 1 << 21))), ["CXL_ALLOW"]);
    assert_eq!(failed(&judge(&policy(0x1_0000))), ["guest policy"]);
    assert_eq!(
        failed(&judge(&policy(0x3_0000 | 1 << 40))),
        ["guest policy"]
    );
    assert_eq!(
        failed(&judge(&SnpFields {
            vmpl: 1,
            ..SnpFields::default()
        })),
        ["VMPL"]
    );
    assert_eq!(
        failed(&judge(&SnpFields {
            report_data: [1; 64],
            ..SnpFields::default()
        })),
        ["report data"]
    );
}

/// The key is made for one chip at one patch level; a report that claims another is refused although it is signed.
#[test]
fn certificate_and_report_have_to_agree() {
    let snp = SoftSnp::new(NOW);
    let verify = |fields: &SnpFields, roots: &SnpRoots| {
        snp::verify(&snp.report(fields), &snp_chain(&snp), NOW, roots)
    };
    let roots = snp_roots(&snp);
    verify(&SnpFields::default(), &roots).unwrap();
    let mut tcb = SnpFields::default();
    tcb.tcb[7] += 1;
    let mut chip = SnpFields::default();
    chip.chip_id[63] ^= 1;
    let masked = SnpFields {
        chip_id: [0; 64],
        ..SnpFields::default()
    };
    let cpu = SnpFields {
        cpu: (0x1a, 0x02),
        ..SnpFields::default()
    };
    for (what, fields) in [
        ("patch level", tcb),
        ("chip", chip),
        ("chip", masked),
        ("processor", cpu),
    ] {
        match verify(&fields, &roots) {
            Err(SnpError::Mismatch { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{what}: {other:?}"),
        }
    }
    for foreign in [SnpRoots::amd(), snp_roots(&SoftSnp::new(NOW))] {
        let error = verify(&SnpFields::default(), &foreign).unwrap_err();
        assert!(
            error.to_string().contains("not the root that is trusted"),
            "{error}"
        );
    }
    // The root of this generation for another one: names and layouts do not fit.
    let turin = SnpRoots::pinned(Generation::Turin, snp.root_sha256());
    verify(&SnpFields::default(), &turin).unwrap_err();
}

#[test]
fn every_changed_byte_of_report_and_chain_is_refused() {
    let snp = SoftSnp::new(NOW);
    let (roots, mut chain) = (snp_roots(&snp), snp_chain(&snp));
    let report = snp.report(&SnpFields::default());
    for at in 0..report.len() {
        let mut changed = report.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(
            snp::verify(&changed, &chain, NOW, &roots).is_err(),
            "byte {at}"
        );
    }
    type Part = fn(&mut SnpChain) -> &mut Vec<u8>;
    let parts: [Part; 3] = [|c| &mut c.ark, |c| &mut c.ask, |c| &mut c.vek];
    for (which, part) in parts.into_iter().enumerate() {
        for at in 0..part(&mut chain).len() {
            part(&mut chain)[at] ^= 1 << (at % 8);
            assert!(
                snp::verify(&report, &chain, NOW, &roots).is_err(),
                "byte {at} of certificate {which}"
            );
            part(&mut chain)[at] ^= 1 << (at % 8);
        }
    }
    snp::verify(&report, &chain, NOW, &roots).unwrap();
}

struct Gpu {
    soft: SoftGpu,
    policy: GpuPolicy,
    rims: Vec<Rim>,
    lists: Vec<Vec<u8>>,
}

fn gpu() -> Gpu {
    let soft = SoftGpu::new(NOW);
    let rims: Vec<Rim> = soft
        .manifests()
        .iter()
        .map(|text| Rim::parse(text).unwrap())
        .collect();
    let policy = GpuPolicy {
        rim_sha256: rims.iter().map(|rim| rim.sha256).collect(),
        ..GpuPolicy::default()
    };
    Gpu {
        soft,
        policy,
        rims,
        lists: Vec::new(),
    }
}

impl Gpu {
    fn judge(&self, nonce: [u8; 32], expected: [u8; 32]) -> Verdict {
        let (report, chain) = (self.soft.report(&nonce), self.soft.chain());
        let evidence = GpuEvidence {
            report: &report,
            chain: chain.as_bytes(),
            lists: &self.lists,
        };
        let root = GpuRoot::pinned(self.soft.root_sha256());
        self.policy
            .appraise(evidence, NOW, root, Some(&Bytes(expected)), &self.rims)
            .0
    }
}

#[test]
fn a_gpus_report_is_bound_to_the_key() {
    let gpu = gpu();
    let nonce = nonce_for_key(&[1; 32]).0;
    let verdict = gpu.judge(nonce, nonce);
    assert!(verdict.accepted(), "{verdict}");
    assert_eq!(
        failed(&gpu.judge(nonce, nonce_for_key(&[2; 32]).0)),
        ["GPU nonce"]
    );
}

#[test]
fn modes_measurements_and_manifests_count() {
    let mut gpu = gpu();
    gpu.soft.feature_flag = 1;
    assert!(gpu.judge([1; 32], [1; 32]).accepted());
    gpu.soft.feature_flag = 2;
    assert_eq!(failed(&gpu.judge([1; 32], [1; 32])), ["GPU mode"]);
    gpu.soft.feature_flag = 0;
    for index in [0, 1, 35, 63] {
        gpu.soft.measurements[index][47] ^= 1;
        let verdict = gpu.judge([1; 32], [1; 32]);
        assert_eq!(failed(&verdict), ["GPU measurements"]);
        assert!(
            verdict.to_string().contains(&format!("different: {index}")),
            "{verdict}"
        );
        gpu.soft.measurements[index][47] ^= 1;
    }
    gpu.rims.remove(0);
    assert_eq!(
        failed(&gpu.judge([1; 32], [1; 32])),
        ["driver reference values"]
    );
    gpu.rims.clear();
    assert_eq!(
        failed(&gpu.judge([1; 32], [1; 32])),
        [
            "driver reference values",
            "VBIOS reference values",
            "GPU measurements"
        ]
    );
}

const DAY: u64 = 86_400;

/// A list that is there counts whether it is asked for or not; one that is asked for has to be there.
#[test]
fn revoked_authorities_are_refused() {
    let snp = SoftSnp::new(NOW);
    let roots = snp_roots(&snp);
    let report = snp.report(&SnpFields::default());
    let strict = SnpPolicy {
        require_revocation_list: true,
        ..SnpPolicy::default()
    };
    let judge = |policy: &SnpPolicy, crl: Option<Vec<u8>>| {
        let chain = SnpChain {
            crl,
            ..snp_chain(&snp)
        };
        policy.appraise(&report, &chain, NOW, &roots, None).0
    };
    assert_eq!(failed(&judge(&strict, None)), ["revocation list"]);
    let clean = snp.crl(false, NOW - DAY);
    assert!(judge(&strict, Some(clean.clone())).accepted());
    for (list, word) in [
        (snp.crl(true, NOW - DAY), "was revoked by its issuer"),
        (snp.crl(false, NOW - 60 * DAY), "is not of now"),
        (snp.crl(false, NOW + DAY), "is not of now"),
        (SoftSnp::new(NOW).crl(false, NOW - DAY), "is not signed by"),
        (b"junk".to_vec(), "cannot be read"),
        ([&clean[..], &[0]].concat(), "bytes follow"),
    ] {
        let verdict = judge(&SnpPolicy::default(), Some(list));
        assert!(
            !verdict.accepted() && verdict.to_string().contains(word),
            "{word}: {verdict}"
        );
    }
    let mut gpu = gpu();
    gpu.policy.require_revocation_lists = true;
    let judge = |gpu: &Gpu| gpu.judge([1; 32], [1; 32]);
    assert_eq!(failed(&judge(&gpu)), ["GPU revocation lists"]);
    let [model, provisioner] = gpu.soft.crls(false, NOW - DAY);
    // One of the two is not enough, and a forged one under the right name spoils everything.
    gpu.lists = vec![clean];
    assert!(
        judge(&gpu)
            .to_string()
            .contains("a revocation list is not signed by")
    );
    gpu.lists = vec![model];
    assert_eq!(failed(&judge(&gpu)), ["GPU revocation lists"]);
    gpu.lists.push(provisioner);
    assert!(judge(&gpu).accepted(), "{}", judge(&gpu));
    gpu.policy.require_revocation_lists = false;
    for which in [0, 1] {
        gpu.lists = vec![gpu.soft.crls(true, NOW - DAY)[which].clone()];
        assert!(
            judge(&gpu).to_string().contains("was revoked"),
            "{}",
            judge(&gpu)
        );
    }
    gpu.lists = vec![gpu.soft.crls(false, NOW - 60 * DAY)[0].clone()];
    assert!(
        judge(&gpu).to_string().contains("is not of now"),
        "{}",
        judge(&gpu)
    );
}

#[test]
fn every_changed_byte_of_a_gpu_report_is_refused() {
    let gpu = gpu();
    let (report, chain) = (gpu.soft.report(&[1; 32]), gpu.soft.chain());
    let root = GpuRoot::pinned(gpu.soft.root_sha256());
    let claims = gpu::verify(&report, chain.as_bytes(), &[], NOW, root).unwrap();
    assert_eq!(
        (claims.architecture, claims.report.mode),
        (Architecture::Hopper, Mode::Single)
    );
    for at in 0..report.len() {
        let mut changed = report.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(
            gpu::verify(&changed, chain.as_bytes(), &[], NOW, root).is_err(),
            "byte {at}"
        );
    }
    // Of the certificates' text every fifth digit; the label lines carry nothing.
    let label = |at: usize| {
        let start = chain[..at].rfind('\n').map_or(0, |end| end + 1);
        chain[start..].starts_with('-')
    };
    for at in (0..chain.len()).step_by(5).filter(|at| !label(*at)) {
        let mut changed = chain.clone().into_bytes();
        changed[at] = match changed[at] {
            b'A' => b'Q',
            digit if digit.is_ascii_alphanumeric() => b'A',
            _ => continue,
        };
        assert!(
            gpu::verify(&report, &changed, &[], NOW, root).is_err(),
            "byte {at} of the chain"
        );
    }
    let other = GpuRoot::pinned(SoftGpu::new(NOW).root_sha256());
    for foreign in [GpuRoot::NVIDIA, other] {
        let error = gpu::verify(&report, chain.as_bytes(), &[], NOW, foreign).unwrap_err();
        assert!(matches!(error, GpuError::Chain(_)), "{error}");
    }
}

#[test]
fn a_policy_file_decides_about_machines_of_all_makers() {
    let snp = SoftSnp::new(NOW);
    let file = PolicyFile::from_json(
        r#"{"version":1,"policies":[{"name":"p","snp":{"generations":["genoa"],"minimum_tcb":{"genoa":{"microcode":200}}}}]}"#,
    )
    .unwrap();
    let mut policy = file.get("p").unwrap().snp.clone().unwrap();
    let report = snp.report(&SnpFields::default());
    let judge = |policy: &SnpPolicy| {
        policy
            .appraise(&report, &snp_chain(&snp), NOW, &snp_roots(&snp), None)
            .0
    };
    assert!(judge(&policy).accepted());
    policy.minimum_tcb.genoa.microcode = 201;
    assert_eq!(
        failed(&judge(&policy)),
        ["reported TCB", "committed TCB", "launch TCB"]
    );
    policy.minimum_tcb.genoa.microcode = 0;
    policy.chip_id_allowed = AllowList::Only(vec![Bytes([0xc1; 64])]);
    assert!(judge(&policy).accepted());
    policy.chip_id_denied = vec![Bytes([0xc1; 64])];
    assert_eq!(failed(&judge(&policy)), ["CHIP_ID not denied"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reports_of_strangers_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..1_300), at in 0usize..5_000) {
        let _ = SnpReport::parse(&bytes);
        let _ = GpuReport::parse(&bytes);
        let mut report = shared().report(&[1; 32]);
        let at = at % report.len();
        let end = (at + bytes.len()).min(report.len());
        report[at..end].copy_from_slice(&bytes[..end - at]);
        let _ = GpuReport::parse(&report);
        report.truncate(at);
        prop_assert!(GpuReport::parse(&report).is_err());
        let _ = Rim::parse(&String::from_utf8_lossy(&bytes));
        let _ = PolicyFile::from_json(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn manifests_of_strangers_do_no_harm(text in "[<>/=\" A-Za-z0-9?!:-]{0,200}", at in 0usize..10_000) {
        static MANIFEST: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        let mut manifest = MANIFEST.get_or_init(|| shared().manifests()[0].clone()).clone();
        let at = at % manifest.len();
        manifest.insert_str(at, &text);
        let _ = Rim::parse(&manifest);
        manifest.truncate(at);
        let _ = Rim::parse(&manifest);
    }
}

fn shared() -> &'static SoftGpu {
    static GPU: std::sync::OnceLock<SoftGpu> = std::sync::OnceLock::new();
    GPU.get_or_init(|| SoftGpu::new(NOW))
}
