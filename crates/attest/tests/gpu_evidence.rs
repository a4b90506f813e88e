//! Reports of real NVIDIA GPUs, good and tampered, with the clock frozen.

mod support;

use std::path::Path;

use cocoon_attest::evidence::Verdict;
use cocoon_attest::evidence::gpu::{
    self, Architecture, GpuError, GpuReport, GpuRoot, Mode, nonce_for_key,
};
use cocoon_attest::evidence::gpu_policy::{GpuEvidence, GpuPolicy};
use cocoon_attest::evidence::lists::{AllowList, Bytes};
use cocoon_attest::evidence::rim::Rim;

/// 2026-02-20.
const NOW: u64 = 1_771_545_600;

struct Recorded {
    report: Vec<u8>,
    chain: Vec<u8>,
}

fn recorded(folder: &Path, report: &str, chain: &str) -> Recorded {
    Recorded {
        report: hex::decode(support::text(folder, report).trim()).unwrap(),
        chain: support::bytes(folder, chain),
    }
}

fn hopper(folder: &Path) -> Recorded {
    recorded(
        folder,
        "sdk_hopperAttestationReport.txt",
        "sdk_hopperCertChain.txt",
    )
}

fn rims(folder: &Path) -> Vec<Rim> {
    ["vbios_rim.xml", "sdk_NV_GPU_DRIVER_GH100_550.144.03.xml"]
        .map(|name| Rim::parse(&support::text(folder, name)).unwrap())
        .to_vec()
}

fn judge(
    policy: &GpuPolicy,
    recorded: &Recorded,
    nonce: Option<&Bytes<32>>,
    rims: &[Rim],
) -> Verdict {
    let evidence = GpuEvidence {
        report: &recorded.report,
        chain: &recorded.chain,
        lists: &[],
    };
    policy
        .appraise(evidence, NOW, GpuRoot::NVIDIA, nonce, rims)
        .0
}

fn failed(verdict: &Verdict) -> Vec<&str> {
    verdict.failures().map(|check| check.field).collect()
}

#[test]
fn reports_of_hopper_and_blackwell_are_genuine() {
    let Some(folder) = support::evidence() else {
        return;
    };
    for (report, chain, architecture, driver, vbios) in [
        (
            "sdk_hopperAttestationReport.txt",
            "sdk_hopperCertChain.txt",
            Architecture::Hopper,
            "535.86.09",
            "96.00.5E.00.01",
        ),
        (
            "hopperAttestationReport.txt",
            "hopper_cert_chain_case1.txt",
            Architecture::Hopper,
            "550.90.07",
            "96.00.9F.00.01",
        ),
        (
            "hopper_coco_report1.txt",
            "hopper_coco_certs1.txt",
            Architecture::Hopper,
            "580.95.05",
            "96.00.74.00.1A",
        ),
        (
            "sdk_blackwellAttestationReport.txt",
            "sdk_blackwellCertChain.txt",
            Architecture::Blackwell,
            "575.32",
            "97.00.88.00.0F",
        ),
    ] {
        let recorded = recorded(&folder, report, chain);
        match gpu::verify(&recorded.report, &recorded.chain, &[], NOW, GpuRoot::NVIDIA) {
            Ok(claims) => {
                assert_eq!(claims.architecture, architecture, "{report}");
                assert_eq!(claims.report.driver_version, driver);
                assert_eq!(claims.report.vbios_version, vbios);
                assert_eq!(claims.report.mode, Mode::Single);
                assert_eq!(claims.report.measurements.len(), 64);
                println!("{report}: {} {}", claims.model, claims.device);
            }
            Err(error) => panic!("{report}: {error}"),
        }
    }
}

#[test]
fn a_bad_signature_is_refused() {
    let Some(folder) = support::evidence() else {
        return;
    };
    for chain in [
        "sdk_hopperCertChain.txt",
        "hopper_cert_chain_case1.txt",
        "hopper_coco_certs1.txt",
        "sdk_blackwellCertChain.txt",
    ] {
        let recorded = recorded(
            &folder,
            "sdk_hopperAttestationReportInvalidSignature.txt",
            chain,
        );
        let error =
            gpu::verify(&recorded.report, &recorded.chain, &[], NOW, GpuRoot::NVIDIA).unwrap_err();
        assert_eq!(error, GpuError::Signature, "{chain}");
    }
}

#[test]
fn every_changed_byte_of_report_and_chain_is_refused() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let good = hopper(&folder);
    let refused = |report: &[u8], chain: &[u8]| {
        gpu::verify(report, chain, &[], NOW, GpuRoot::NVIDIA).is_err()
    };
    assert!(!refused(&good.report, &good.chain));
    for at in 0..good.report.len() {
        let mut changed = good.report.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(refused(&changed, &good.chain), "byte {at} of the report");
    }
    // Certificates: every byte of each, put back into PEM.
    let ders: Vec<Vec<u8>> = x509_parser::pem::Pem::iter_from_buffer(&good.chain)
        .map(|pem| pem.unwrap().contents)
        .collect();
    let mut ders = ders;
    assert!(!refused(&good.report, &pem(&ders)));
    for which in 0..ders.len() {
        for at in (0..ders[which].len()).step_by(3) {
            ders[which][at] ^= 1 << (at % 8);
            assert!(
                refused(&good.report, &pem(&ders)),
                "byte {at} of certificate {which}"
            );
            ders[which][at] ^= 1 << (at % 8);
        }
    }
    for cut in [0, 1, 3] {
        assert!(refused(&good.report, &pem(&ders[cut + 1..])));
        assert!(refused(&good.report, &pem(&ders[..4 - cut])));
    }
    assert!(refused(&good.report, b""));
}

fn pem(ders: &[Vec<u8>]) -> Vec<u8> {
    use base64::Engine;
    let encode = |der: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::new();
    for der in ders {
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in encode(der).as_bytes().chunks(64) {
            out.push_str(std::str::from_utf8(line).unwrap());
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out.into_bytes()
}

#[test]
fn zeros_after_a_report_are_padding_and_nothing_else_is() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let mut recorded = hopper(&folder);
    recorded.report.extend([0; 100]);
    GpuReport::parse(&recorded.report).unwrap();
    recorded.report.push(1);
    GpuReport::parse(&recorded.report).unwrap_err();
}

/// The recorded manifests fit the firmware of one report and the driver of none; a manifest for its driver with the
/// values of the report itself stands in for the missing one.
#[test]
fn measurements_are_compared_with_pinned_reference_values() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let recorded = hopper(&folder);
    let mut rims = rims(&folder);
    let mut policy = GpuPolicy {
        rim_sha256: rims.iter().map(|rim| rim.sha256).collect(),
        ..GpuPolicy::default()
    };
    assert_eq!(
        failed(&judge(&policy, &recorded, None, &rims)),
        ["driver reference values"]
    );
    let report = GpuReport::parse(&recorded.report).unwrap();
    let mut driver = rims[1].clone();
    driver.version.clone_from(&report.driver_version);
    for (index, values) in &mut driver.measurements {
        *values = vec![report.measurements[&(index + 1)]];
    }
    rims.push(driver);
    let verdict = judge(&policy, &recorded, None, &rims);
    assert!(verdict.accepted(), "{verdict}");
    // One value of the firmware's manifest changed.
    let mut wrong = rims.clone();
    wrong[0].measurements.get_mut(&2).unwrap()[0] = Bytes([9; 48]);
    assert_eq!(
        failed(&judge(&policy, &recorded, None, &wrong)),
        ["GPU measurements"]
    );
    // Both manifests speak of the same measurement.
    let mut conflict = rims.clone();
    let value = conflict[0].measurements[&2].clone();
    conflict[2].measurements.insert(2, value);
    assert_eq!(
        failed(&judge(&policy, &recorded, None, &conflict)),
        ["reference values agree"]
    );
    // Nobody vouches for the manifests.
    policy.rim_sha256.clear();
    assert_eq!(
        failed(&judge(&policy, &recorded, None, &rims)),
        [
            "driver reference values",
            "VBIOS reference values",
            "GPU measurements"
        ]
    );
}

#[test]
fn every_demand_of_the_policy_can_refuse() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let recorded = hopper(&folder);
    let claims = gpu::verify(&recorded.report, &recorded.chain, &[], NOW, GpuRoot::NVIDIA).unwrap();
    let rims = rims(&folder);
    let base = GpuPolicy {
        rim_sha256: rims.iter().map(|rim| rim.sha256).collect(),
        ..GpuPolicy::default()
    };
    let missing = "driver reference values";
    let only = |text: &str| AllowList::Only(vec![text.to_owned()]);
    type Edit<'a> = &'a dyn Fn(&mut GpuPolicy);
    let cases: &[(&[&str], Edit)] = &[
        (&[missing], &|p| {
            p.models = only(&claims.model);
            p.driver_versions = only("535.86.09");
            p.vbios_versions = only("96.00.5E.00.01");
            p.devices_allowed = only(&claims.device);
        }),
        (&["GPU architecture", missing], &|p| {
            p.architectures = vec![Architecture::Blackwell]
        }),
        (&["GPU model", missing], &|p| p.models = only("GB100")),
        (&["GPU serial", missing], &|p| {
            p.devices_allowed = only("00")
        }),
        (&["GPU not denied", missing], &|p| {
            p.devices_denied = vec![claims.device.clone()]
        }),
        (&["GPU mode", missing], &|p| {
            p.modes = vec![Mode::MultiEncrypted]
        }),
        (&["driver version", missing], &|p| {
            p.driver_versions = only("1")
        }),
        (&["VBIOS version", missing], &|p| {
            p.vbios_versions = only("1")
        }),
    ];
    for (fields, edit) in cases {
        let mut policy = base.clone();
        edit(&mut policy);
        assert_eq!(
            failed(&judge(
                &policy,
                &recorded,
                Some(&claims.report.nonce),
                &rims
            )),
            *fields
        );
    }
    let nonce = nonce_for_key(&[7; 32]);
    assert_eq!(
        failed(&judge(&base, &recorded, Some(&nonce), &rims)),
        ["GPU nonce", missing]
    );
    let error = gpu::verify(
        &recorded.report,
        &recorded.chain,
        &[],
        NOW,
        GpuRoot::pinned([1; 32]),
    )
    .unwrap_err();
    assert!(matches!(error, GpuError::Chain(_)), "{error}");
}
