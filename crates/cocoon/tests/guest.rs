//! `cocoon attest host`, `quote`, `gpu` and `extend` on recorded trees: what is there is shown, what is missing is named.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn cocoon(args: &[&str], root: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
    command.arg("attest").args(args);
    if args[0] != "gpu" {
        command.arg("--root").arg(root);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn put(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A TDX guest whose registers hold what the specification's event log leads to.
fn guest(root: &Path) {
    let vectors: Value = serde_json::from_str(include_str!(
        "../../attest/tests/vectors/image_identity.json"
    ))
    .unwrap();
    let case = &vectors["ccel_event_log"];
    let log = hex::decode(case["log_hex"].as_str().unwrap()).unwrap();
    let mut table = vec![0; 56];
    table[..4].copy_from_slice(b"CCEL");
    (table[4], table[36]) = (56, 2);
    table[40..48].copy_from_slice(&(log.len() as u64).to_le_bytes());
    put(root, "sys/firmware/acpi/tables/CCEL", &table);
    put(root, "sys/firmware/acpi/tables/data/CCEL", &log);
    put(
        root,
        "proc/cpuinfo",
        b"flags\t\t: fpu hypervisor tdx_guest\n",
    );
    put(root, "proc/sys/kernel/osrelease", b"6.16.3\n");
    put(
        root,
        "proc/mounts",
        b"none /sys/kernel/config configfs rw 0 0\n",
    );
    let registers = "sys/devices/virtual/misc/tdx_guest/measurements";
    for name in ["mrtd:sha384", "mrconfigid", "mrowner", "mrownerconfig"] {
        put(root, &format!("{registers}/{name}"), &[0; 48]);
    }
    for (index, value) in case["replayed_rtmr"].as_array().unwrap().iter().enumerate() {
        let value = hex::decode(value.as_str().unwrap()).unwrap();
        put(root, &format!("{registers}/rtmr{index}:sha384"), &value);
    }
}

#[test]
fn a_guest_is_described() {
    let dir = tempfile::tempdir().unwrap();
    guest(dir.path());
    let output = cocoon(&["host"], dir.path());
    let words = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for word in [
        "Intel TDX guest",
        "6.16.3",
        "explains all four registers",
        "Image hash",
        "CONFIG_TSM_REPORTS",
    ] {
        assert!(words.contains(word), "{word}: {words}");
    }
    let output = cocoon(&["host", "--json"], dir.path());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["kind"], "tdx_guest");
    assert_eq!(json["event_log_replay"]["explains_registers"], true);
    assert_eq!(json["rtmr"].as_array().unwrap().len(), 4);
    assert_eq!(json["image_hash"].as_str().unwrap().len(), 64);
    // Text events that were never measured do not fit.
    let events = dir.path().join("events");
    fs::write(&events, "cocoon:tdx_inited\n").unwrap();
    let output = cocoon(
        &["host", "--json", "--events", events.to_str().unwrap()],
        dir.path(),
    );
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["event_log_replay"]["explains_registers"], false);
    let output = cocoon(&["host", "--events", "/nowhere/at/all"], dir.path());
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_ordinary_machine_is_told_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "proc/cpuinfo", b"flags\t\t: fpu\n");
    let output = cocoon(&["host"], dir.path());
    let words = text(&output.stdout);
    assert!(output.status.success());
    assert!(
        words.contains("no confidential machine") && words.contains("prove nothing itself"),
        "{words}"
    );
    for (args, words) in [
        (
            &["quote"][..],
            &[
                "CONFIG_TSM_REPORTS",
                "modprobe tdx_guest",
                "cocoon attest host",
            ][..],
        ),
        (&["quote", "--kind", "snp"], &["modprobe sev-guest"]),
        (
            &["extend", "cocoon:x"],
            &["Linux 6.16", "CONFIG_TSM_MEASUREMENTS"],
        ),
    ] {
        let output = cocoon(args, dir.path());
        let found = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{found}");
        for word in words {
            assert!(found.contains(word), "{word}: {found}");
        }
    }
    // Without a GPU in confidential mode, and without the feature, the way there is named.
    let out = dir.path().join("gpu");
    let output = cocoon(&["gpu", out.to_str().unwrap()], dir.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("GPU"),
        "{}",
        text(&output.stderr)
    );
    assert!(!out.exists());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let long = "00".repeat(65);
    for args in [
        &["quote", "--report-data", "xyz"][..],
        &["quote", "--report-data", &long],
        &["extend"],
        &["extend", "x", "--register", "0"],
        &["extend", "--digest", "00"],
        &["gpu", "x", "--nonce", "00"],
    ] {
        let output = cocoon(args, dir.path());
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}

/// A plain file is no register: what was written is not what an extension leaves, and that is an error.
#[test]
fn an_extension_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    guest(dir.path());
    let log = dir.path().join("log");
    let args = [
        "extend",
        "cocoon:tdx_inited",
        "--events",
        log.to_str().unwrap(),
    ];
    let output = cocoon(&args, dir.path());
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("RTMR3 does not hold"), "{words}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "cocoon:tdx_inited\n");
}

/// A node that demands quotes shows one, so outside a guest it does not start, and says what is missing. (The machines
/// that run these tests are no TDX guests.)
#[test]
fn a_node_that_shall_prove_itself_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::write(at("root.json"), "{}").unwrap();
    let address = format!("0:{}", "11".repeat(32));
    let start = |attestation: &str, certificate: &str| {
        let config = serde_json::json!({
            "is_test": true, "is_testnet": true, "direct": true, "owner_address": address,
            "root_contract_address": address, "attestation": attestation, "certificate": certificate,
        });
        fs::write(at("proxy.json"), config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
        command.args([
            "proxy",
            "--config",
            &at("proxy.json"),
            "--data-dir",
            &at("data"),
        ]);
        let chain = format!("static:{}", at("root.json"));
        let output = command.args(["--chain", &chain]).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    for (attestation, certificate) in [("tdx", ""), ("fake_tdx", "tdx")] {
        let (code, words) = start(attestation, certificate);
        assert_eq!(code, Some(1), "{words}");
        assert!(
            words.contains("no TDX guest") && words.contains("cocoon attest host"),
            "{words}"
        );
    }
    let (code, words) = start("tdx", "fake_tdx");
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("'certificate'"), "{words}");
}
