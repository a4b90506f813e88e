//! Writes the seed corpora, from our own machines and vectors: nobody else's evidence is in them.
//!
//! `cargo test -p cocoon-hostile --test corpus -- --ignored write_the_seed_corpora`. The keys are new each time, so the
//! files change; they are committed once and only made again when a format grows.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_attest::measurements::TdxMeasurements;
use cocoon_attest::sealing::TdReport;
use cocoon_attest::sealing::message::GetPersistentKey;
use cocoon_attest::{CertificateMode, KeyName, Measurements, TlsIdentity, frame, pow};
use cocoon_hostile::{NOW, TARGETS};
use cocoon_softtee::{EnclaveFields, SnpFields, SoftGpu, SoftSnp, SoftTdx, TdFields};
use cocoon_wire::conn::{Conn, Role};
use serde_json::Value;

fn vectors(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// A seed whose name begins with `good` has to be accepted.
fn write(target: &str, name: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|t| t.name == target).unwrap();
    assert!(
        (found.run)(bytes) || !name.starts_with("good"),
        "{target}/{name}"
    );
    let folder = super::corpus(target);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), bytes).unwrap();
}

#[test]
#[ignore = "writes fuzz/corpus"]
fn write_the_seed_corpora() {
    evidence();
    peers();
    texts();
    network();
}

fn evidence() {
    let tdx = SoftTdx::new(NOW);
    for version in [4, 5] {
        let fields = TdFields {
            version,
            ..TdFields::default()
        };
        write(
            "tdx_quote",
            &format!("good-v{version}"),
            &tdx.quote(&fields),
        );
    }
    let enclave = tdx.enclave_quote(&EnclaveFields::default());
    write("tdx_quote", "enclave", &enclave);
    write("collateral", "good", tdx.collateral().as_bytes());
    let snp = SoftSnp::new(NOW);
    write("snp_report", "good", &snp.report(&SnpFields::default()));
    for (name, der) in ["good-root", "good-middle", "good-leaf"]
        .iter()
        .zip(snp.chain())
    {
        write("certificate_chain", name, &der);
    }
    write("certificate_chain", "list", &snp.crl(true, NOW));
    let gpu = SoftGpu::new(NOW);
    write("gpu_report", "good", &gpu.report(&[1; 32]));
    write("certificate_chain", "pem", gpu.chain().as_bytes());
    for (name, text) in ["good-driver", "good-firmware"].iter().zip(gpu.manifests()) {
        write("rim", name, text.as_bytes());
    }
    let log = &vectors("attest/tests/vectors/image_identity.json")["ccel_event_log"];
    let log = hex::decode(log["log_hex"].as_str().unwrap()).unwrap();
    write("event_log", "good", &log);
}

fn peers() {
    for (name, mode) in [
        ("good-none", CertificateMode::None),
        ("good-fake", CertificateMode::FakeTdx),
    ] {
        let identity = TlsIdentity::from_seed(&[3; 32], [5; 16], mode, NOW).unwrap();
        write("certificate", name, identity.certificate_der());
    }
    let challenge = pow::Challenge::random(8).unwrap();
    let nonce = challenge.solve(28, || false).unwrap();
    let mut both = challenge.to_bytes().to_vec();
    both.extend(pow::response_to_bytes(nonce));
    write("pow", "good", &both);
    let tdx = TdxMeasurements::fake([7; 64]);
    for (name, attestation) in [
        ("good-none", None),
        ("good-tdx", Some(Measurements::Tdx(Box::new(tdx)))),
    ] {
        let info = frame::PeerInfo {
            attestation,
            collateral_root_hash: [1; 48],
            public_key: [2; 32],
            source: frame::Endpoint::unset(),
            destination: frame::Endpoint::unset(),
        };
        write("attestation_frame", name, &info.encode()[4..]);
    }
    let address = [5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0x2a, 0xf9];
    write("socks5", "good-ip4", &address);
    let mut named = b"\x05\x01\x02\x01\x03tdx\x01p\x05\x01\x00\x03\x09".to_vec();
    named.extend(b"localhost\x00\x50");
    write("socks5", "good-name", &named);
    let all = vectors("attest/tests/vectors/sealing.json");
    let answer = hex::decode(all["seal"]["response"]["frame_hex"].as_str().unwrap()).unwrap();
    write("sealing", "good-answer", &answer[4..]);
    let report = STANDARD
        .decode(all["td_report"]["report_b64"].as_str().unwrap())
        .unwrap();
    write("sealing", "good-report", &report);
    let request = GetPersistentKey {
        report: TdReport::parse(&report).unwrap(),
        public_key: [9; 64],
        name: KeyName::disk_encryption(),
    };
    write("sealing", "good-request", &request.encode());
}

fn texts() {
    let policy =
        r#"{"version": 1, "policies": [{"name": "p", "tdx": {"minimum_evaluation_number": 17}}]}"#;
    write("policy_file", "good", policy.as_bytes());
    let router = r#"{"policies": [{"name": "p", "type": "any"}], "ports": [{"port": 8116, "type": "socks5", "policy_name": "p"}]}"#;
    write("router_file", "good", router.as_bytes());
    let chat = r#"{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "stream": true, "stream_options": {"include_usage": true}}"#;
    write("http_request", "good-chat", chat.as_bytes());
    let ours = r#"{"model": "m", "messages": [], "max_coefficient": 2500, "timeout": 30}"#;
    write("http_request", "ours", ours.as_bytes());
    let completion = r#"{"model": "m", "prompt": ["x", "y"], "n": 2, "timeout": 30}"#;
    write("http_request", "completion", completion.as_bytes());
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":1}}}"#;
    write("usage", "good-json", usage.as_bytes());
    let stream = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}}}}]}}\n\ndata: {usage}\n\ndata: [DONE]\n\n"
    );
    write("usage", "good-stream", stream.as_bytes());
}

fn network() {
    for case in vectors("wire/tests/vectors/protocol.json")
        .as_array()
        .into_iter()
        .flatten()
    {
        let name = case["name"].as_str().unwrap_or_default();
        let bytes = case["hex"].as_str().and_then(|text| hex::decode(text).ok());
        if let Some(bytes) = bytes.filter(|b| cocoon_hostile::wire_message(b)) {
            write("wire_message", &format!("good-{name}"), &bytes);
        }
    }
    let now = Duration::ZERO;
    let mut peer = Conn::new(Role::Dialler, 7, now);
    let hello = peer.take_output();
    write("wire_stream", "good-hello", &hello);
    let mut acceptor = Conn::new(Role::Acceptor, 1, now);
    acceptor.receive(now, &hello);
    peer.receive(now, &acceptor.take_output());
    peer.send_packet(vec![1, 2, 3, 4]).unwrap();
    let mut talk = hello;
    talk.extend(peer.take_output());
    write("wire_stream", "good-packet", &talk);
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/build");
    for entry in std::fs::read_dir(contracts).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "boc") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).unwrap();
            write("boc", &format!("good-{name}"), &bytes);
        }
    }
}
