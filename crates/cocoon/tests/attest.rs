//! The program's `attest` commands, as a person uses them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use cocoon_softtee::{SoftTdx, TdFields};
use serde_json::Value;

fn cocoon(args: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
    command.arg("attest").args(args).args(files);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The program trusts Intel's root only, so a software machine shows a refusal with everything around it.
#[test]
fn a_refusal_is_explained_in_words_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tdx = SoftTdx::new(1_790_000_000);
    let fields = TdFields {
        td_attributes: (1 << 28) | 1,
        ..TdFields::default()
    };
    fs::write(at("quote"), hex::encode(tdx.quote(&fields))).unwrap();
    fs::write(at("collateral"), tdx.collateral()).unwrap();
    fs::write(
        at("policy"),
        r#"{"version":1,"policies":[{"name":"a","tdx":{}},{"name":"b","snp":{}}]}"#,
    )
    .unwrap();
    let (quote, collateral, policy) = (at("quote"), at("collateral"), at("policy"));
    let output = cocoon(
        &["explain", "--at", "2026-09-21T14:13:20Z"],
        &[&quote, &collateral],
    );
    let words = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(
        words.contains("not signed under the expected root certificate"),
        "{words}"
    );
    assert!(
        words.contains("FAIL  TD attributes") && words.contains("DEBUG"),
        "{words}"
    );
    assert!(
        words.contains("ok    MRSEAM") && words.contains("is REFUSED"),
        "{words}"
    );
    let policy_option = policy.to_str().unwrap();
    let args = [
        "explain",
        "--json",
        "--policy",
        policy_option,
        "--name",
        "b",
        "--at",
        "1790000000",
    ];
    let output = cocoon(&args, &[&quote]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["accepted"], &json["policy"]),
        (&false.into(), &"b".into())
    );
    assert_eq!(json["evidence"][0]["checks"][0]["field"], "kind of machine");
    assert_eq!(json["at"], "2026-09-21T14:13:20Z");
    for (args, word) in [
        (&["explain", "--policy", policy_option][..], "a, b"),
        (
            &["explain", "--policy", policy_option, "--name", "c"],
            "a, b",
        ),
        (&["explain", "--at", "yesterday"], "Unix seconds"),
        (
            &["explain", "--policy", collateral.to_str().unwrap()],
            "unknown field",
        ),
    ] {
        let output = cocoon(args, &[&quote]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            text(&output.stderr).contains(word),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
    let output = cocoon(&["explain"], &[&policy]);
    assert_eq!(output.status.code(), Some(2));
    let output = cocoon(&["measure", "quote", "--json"], &[&quote]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        json["image_hash"],
        "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61"
    );
}

#[test]
fn configurations_and_models_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, contents: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("spec/app.json", "{\"a\": 1}\n", 0o644);
    write("spec/init", "#!/bin/bash\necho hi\n", 0o755);
    write("spec/sub-a", "y\n", 0o644);
    write("spec/sub.txt", "", 0o644);
    write("spec/sub/x.txt", "x", 0o644);
    let output = cocoon(&["measure", "config"], &[&folder.path().join("spec")]);
    let words = text(&output.stdout);
    assert!(
        words.contains("9db6ae79ef4fdf3e49564a0e57e8fbc59a89c3deaf7a03b59c9ee3a93c75e190"),
        "{words}"
    );
    assert!(
        words.contains("98de818bd24380130ad315b2917542c70baea113f6f618b0c7e42a4cfc266dc0"),
        "{words}"
    );
    write("model/config.json", "{}", 0o644);
    let model = folder.path().join("model");
    let output = cocoon(
        &["measure", "model", "--json", "--name", "org/name@0123"],
        &[&model],
    );
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let root = json["verity_root"].as_str().unwrap();
    assert_eq!(json["model"], format!("org/name@0123:{root}"));
    assert_eq!(json["data_blocks"], 3);
    let output = cocoon(&["measure", "model", "--name", "org/name"], &[&model]);
    assert_eq!(output.status.code(), Some(2));
    let output = cocoon(&["measure", "config"], &[&folder.path().join("nothing")]);
    assert_eq!(output.status.code(), Some(1));
}
