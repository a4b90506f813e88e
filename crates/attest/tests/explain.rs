//! What `cocoon attest explain` says about software machines and about recorded evidence.

mod support;

use cocoon_attest::evidence::explain::{ExplainError, Explanation, Files, Roots};
use cocoon_attest::evidence::gpu::{GpuRoot, nonce_for_key};
use cocoon_attest::evidence::snp::{Generation, SnpRoots};
use cocoon_attest::evidence::tdx::TdxRoot;
use cocoon_attest::evidence::{EvidencePolicy, PolicyFile};
use cocoon_attest::profile::{CertificateParams, report_data};
use cocoon_softtee::{SnpFields, SoftGpu, SoftSnp, SoftTdx, TdFields};
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};

const NOW: u64 = 1_790_000_000;

fn policy(json: &str) -> EvidencePolicy {
    let text = format!("{{\"version\":1,\"policies\":[{json}]}}");
    PolicyFile::from_json(&text).unwrap().policies()[0].clone()
}

fn failed(explanation: &Explanation) -> Vec<&str> {
    let sections = explanation.evidence.iter();
    sections
        .flat_map(|section| section.checks.failures())
        .map(|check| check.field)
        .collect()
}

/// A peer's certificate with its quote, its GPU and everything needed to judge both.
#[test]
fn a_peer_with_a_gpu_passes_and_each_missing_part_is_named() {
    let (tdx, gpu) = (SoftTdx::new(NOW), SoftGpu::new(NOW));
    let roots = Roots {
        tdx: TdxRoot::pinned(tdx.root_sha256()),
        gpu: GpuRoot::pinned(gpu.root_sha256()),
        ..Roots::default()
    };
    let key = SigningKey::from_bytes(&[4; 32]);
    let public = key.verifying_key().to_bytes();
    let quote = tdx.quote(&TdFields {
        report_data: report_data(&public),
        ..TdFields::default()
    });
    let certificate = |quote: &[u8]| {
        let params = CertificateParams {
            key: &key,
            serial: [1; 16],
            not_before: NOW,
            validity: 3_600,
            quote: Some(quote),
        };
        params.to_der()
    };
    let manifests = gpu.manifests();
    let pins: Vec<String> = manifests
        .iter()
        .map(|text| format!("\"{}\"", hex::encode(Sha256::digest(text))))
        .collect();
    let with_gpu = policy(&format!(
        "{{\"name\":\"gpu\",\"tdx\":{{}},\"gpu\":{{\"rim_sha256\":[{}]}}}}",
        pins.join(",")
    ));
    let add_all = |quote: &[u8], nonce: &[u8; 32]| {
        let mut files = Files::new();
        assert_eq!(
            files.add("cert", &certificate(quote)).unwrap(),
            "peer's certificate"
        );
        assert_eq!(
            files
                .add("collateral", tdx.collateral().as_bytes())
                .unwrap(),
            "TDX collateral"
        );
        assert_eq!(
            files
                .add("report", hex::encode(gpu.report(nonce)).as_bytes())
                .unwrap(),
            "GPU report"
        );
        assert_eq!(
            files.add("chain", gpu.chain().as_bytes()).unwrap(),
            "GPU certificate chain"
        );
        for manifest in &manifests {
            assert_eq!(
                files.add("rim", manifest.as_bytes()).unwrap(),
                "GPU reference manifest"
            );
        }
        files
    };
    let nonce = nonce_for_key(&public).0;
    let explanation = add_all(&quote, &nonce)
        .explain(&with_gpu, NOW, &roots)
        .unwrap();
    assert!(explanation.accepted, "{explanation}");
    let text = explanation.to_string();
    assert!(
        text.contains("TDX quote (cert) passes") && text.contains("GPU report (report) passes"),
        "{text}"
    );
    assert!(
        text.contains("is accepted") && !text.contains("FAIL"),
        "{text}"
    );
    // Somebody else's GPU, and a quote for somebody else's key.
    let explanation = add_all(&quote, &[1; 32])
        .explain(&with_gpu, NOW, &roots)
        .unwrap();
    assert_eq!(failed(&explanation), ["GPU nonce"]);
    let stolen = tdx.quote(&TdFields::default());
    let explanation = add_all(&stolen, &nonce)
        .explain(&with_gpu, NOW, &roots)
        .unwrap();
    assert_eq!(failed(&explanation), ["report data"]);
    // No GPU at all, a quote without collateral, a fake quote.
    let mut files = Files::new();
    files.add("cert", &certificate(&quote)).unwrap();
    let explanation = files.explain(&with_gpu, NOW, &roots).unwrap();
    assert_eq!(
        failed(&explanation),
        ["quote signatures and collateral", "GPU"]
    );
    let text = explanation.to_string();
    assert!(
        text.contains("no collateral is loaded for platform family c0c00a000001"),
        "{text}"
    );
    assert!(text.contains("only claimed"), "{text}");
    assert!(
        text.contains("expected: a GPU report") && text.contains("REFUSED"),
        "{text}"
    );
    let mut files = Files::new();
    files.add("cert", &certificate(&[7; 64])).unwrap();
    let explanation = files
        .explain(&EvidencePolicy::strict(), NOW, &roots)
        .unwrap();
    assert!(
        explanation.to_string().contains("anybody can make"),
        "{explanation}"
    );
    // For machines: the same, field by field.
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["accepted"], false);
    assert_eq!(json["evidence"][0]["checks"][0]["field"], "quote");
    assert_eq!(json["evidence"][0]["checks"][0]["passed"], false);
}

#[test]
fn an_snp_guest_is_explained() {
    let snp = SoftSnp::new(NOW);
    let roots = Roots {
        snp: SnpRoots::pinned(Generation::Genoa, snp.root_sha256()),
        ..Roots::default()
    };
    let [ark, ask, vek] = snp.chain();
    let pem = x509_pem(&[ask, ark]);
    let mut files = Files::new();
    let debug = SnpFields {
        policy: 0xb_0000,
        ..SnpFields::default()
    };
    assert_eq!(files.add("r", &snp.report(&debug)).unwrap(), "SNP report");
    let error = files
        .explain(&EvidencePolicy::strict(), NOW, &roots)
        .unwrap_err();
    assert!(matches!(error, ExplainError::Missing(_)), "{error}");
    assert_eq!(files.add("k", &vek).unwrap(), "SNP key certificate");
    assert_eq!(
        files.add("c", pem.as_bytes()).unwrap(),
        "SNP certificate chain"
    );
    let explanation = files
        .explain(&EvidencePolicy::strict(), NOW, &roots)
        .unwrap();
    assert_eq!(failed(&explanation), ["DEBUG"]);
    let explanation = files
        .explain(&policy(r#"{"name":"t","tdx":{}}"#), NOW, &roots)
        .unwrap();
    assert_eq!(failed(&explanation), ["kind of machine"]);
    let explanation = files
        .explain(&EvidencePolicy::strict(), NOW, &Roots::default())
        .unwrap();
    assert_eq!(
        failed(&explanation),
        ["report signature and chain", "DEBUG"]
    );
}

fn x509_pem(ders: &[Vec<u8>]) -> String {
    use base64::Engine;
    ders.iter()
        .map(|der| {
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        })
        .collect()
}

#[test]
fn what_is_not_evidence_is_said_so() {
    let mut files = Files::new();
    for (bytes, word) in [
        (&b"hello"[..], "cannot tell"),
        (b"", "cannot tell"),
        (b"{}", "cannot be read"),
        (b"<x/>", "no Meta"),
        (b"-----BEGIN CERTIFICATE-----\nx", "no certificate"),
        (&[0x30, 0x03, 1, 2, 3], "cannot tell"),
    ] {
        let error = files.add("f", bytes).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    let error = files
        .explain(&EvidencePolicy::strict(), NOW, &Roots::default())
        .unwrap_err();
    assert!(matches!(error, ExplainError::NoEvidence));
    let snp = SoftSnp::new(NOW).report(&SnpFields::default());
    files.add("a", &snp).unwrap();
    assert!(matches!(
        files.add("b", &snp),
        Err(ExplainError::Second { .. })
    ));
}

/// Every recorded file is recognised, and the peer it belongs to gets the verdict it deserves.
#[test]
fn recorded_evidence_is_recognised() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let explain = |names: &[&str], now: u64| {
        let mut files = Files::new();
        for name in names {
            files.add(name, &support::bytes(&folder, name)).unwrap();
        }
        files
            .explain(&EvidencePolicy::strict(), now, &Roots::default())
            .unwrap()
    };
    let explanation = explain(
        &["test-report.bin", "test-vcek.der", "milan_ask_ark_asvk.pem"],
        1_750_377_600,
    );
    assert_eq!(failed(&explanation), ["processor generation"]);
    let explanation = explain(&["tdx_quote_4.dat"], NOW);
    assert_eq!(
        failed(&explanation),
        ["quote signatures and collateral", "TD attributes"]
    );
    assert!(explanation.to_string().contains("DEBUG"), "{explanation}");
    let gpu = explain(
        &[
            "hopper_coco_report1.txt",
            "hopper_coco_certs1.txt",
            "vbios_rim.xml",
            "sdk_NV_GPU_DRIVER_GH100_550.144.03.xml",
        ],
        NOW,
    );
    assert!(
        failed(&gpu).contains(&"machine") && failed(&gpu).contains(&"driver reference values"),
        "{gpu}"
    );
    if let Some(samples) = support::samples() {
        let mut files = Files::new();
        files
            .add("q", &support::bytes(&samples, "tdx_quote_td15ex"))
            .unwrap();
        files
            .add(
                "c",
                &support::bytes(&samples, "tdx_quote_td15ex_collateral.json"),
            )
            .unwrap();
        let explanation = files
            .explain(&EvidencePolicy::strict(), 1_792_454_400, &Roots::default())
            .unwrap();
        assert!(explanation.accepted, "{explanation}");
        println!("{explanation}");
    }
}
