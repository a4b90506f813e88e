//! The program's `attest collateral` commands, as a person uses them. Whatever comes from a server or a file has to be
//! signed under Intel's root, so a software Intel shows refusals; recorded collateral shows the rest, where it is at hand.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cocoon_softtee::{SoftTdx, TdFields};
use serde_json::Value;

fn cocoon(args: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
    command.args(["attest", "collateral"]).args(args);
    command.arg("--directory").arg(directory).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Collateral of Intel that the library for quotes carries as an example.
fn recorded() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let sources = std::fs::read_dir(home.join("registry/src")).ok()?;
    let name = "dcap-qvl-0.7.1/sample/tdx_quote_collateral.json";
    let mut found = sources.flatten().map(|entry| entry.path().join(name));
    found.find(|path| path.exists())
}

/// A server that answers every request with this status; gives its address.
fn server(status: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = [0; 4_096];
            // The request fits into one read, and what is in it does not matter.
            let _ = stream.read(&mut head);
            let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        }
    });
    format!("http://{address}")
}

#[test]
fn what_cannot_be_fetched_is_said_with_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("new");
    let url = server(404);
    let ask = [
        "fetch",
        "--service",
        &url,
        "--fmspc",
        "90c06f000000",
        "--ca",
        "platform",
    ];
    let output = cocoon(&ask, &directory);
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    for part in [&url[..], "fmspc=90c06f000000", "does not have it"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(directory.is_dir());
    let output = cocoon(&[&ask[..], &["--json"]].concat(), &directory);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["fetched"], serde_json::json!([]));
    let what = &json["failed"][0]["what"];
    assert_eq!(
        what,
        "platform family 90c06f000000 (Intel SGX PCK Platform CA)"
    );
}

#[test]
fn wrong_wishes_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let quote = folder.path().join("quote");
    std::fs::write(
        &quote,
        SoftTdx::new(1_790_000_000).quote(&TdFields::default()),
    )
    .unwrap();
    let quote = quote.to_str().unwrap();
    for (args, word) in [
        (&["fetch"][..], "nothing to fetch"),
        (&["fetch", "--quote", quote], "not the root that is trusted"),
        (
            &["fetch", "--fmspc", "90c06f", "--ca", "platform"],
            "12 hexadecimal digits",
        ),
        (&["fetch", "--fmspc", "90c06f000000"], "--ca"),
        (&["fetch", "--service", "http://192.0.2.1"], "not encrypted"),
        (&["fetch", "--service", "intel"], "is not an address"),
    ] {
        let output = cocoon(args, folder.path());
        let words = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {words}");
        assert!(words.contains(word), "{word}: {words}");
    }
    let output = cocoon(&["list"], &folder.path().join("missing"));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn every_file_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let output = cocoon(&["check"], folder.path());
    assert_eq!(output.status.code(), Some(1), "nothing is not enough");
    put("soft.json", &SoftTdx::new(1_790_000_000).collateral());
    put("half.json", "{");
    let look = |args: &[&str]| {
        let output = cocoon(args, folder.path());
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), json)
    };
    let (code, json) = look(&["check", "--json", "--at", "1790000000"]);
    assert_eq!((code, &json["usable"]), (Some(1), &false.into()));
    let problem = |index: usize| json["files"][index]["problem"].as_str().unwrap();
    assert!(problem(0).contains("cannot be read"), "{json}");
    assert!(problem(1).contains("not genuine"), "{json}");
    assert_eq!(json["files"][1]["fmspc"], "c0c00a000001");
    assert_eq!(
        look(&["list", "--json"]).0,
        Some(0),
        "a list is no judgement"
    );
    let words = text(&cocoon(&["check"], folder.path()).stdout);
    assert!(words.contains("half.json: unreadable"), "{words}");

    let Some(recorded) = recorded() else {
        eprintln!("SKIPPED: the source of the crate dcap-qvl 0.7.1 is not in cargo's registry");
        return;
    };
    std::fs::remove_file(folder.path().join("soft.json")).unwrap();
    std::fs::remove_file(folder.path().join("half.json")).unwrap();
    std::fs::copy(recorded, folder.path().join("intel.json")).unwrap();
    let (code, json) = look(&["check", "--json", "--at", "2025-06-20T00:00:00Z"]);
    assert_eq!(code, Some(0), "{json}");
    assert_eq!(json["files"][0]["issuer"], "Intel SGX PCK Platform CA");
    assert_eq!(json["files"][0]["problem"], Value::Null);
    let (code, json) = look(&["check", "--json", "--at", "2026-06-20T00:00:00Z"]);
    assert_eq!(code, Some(1), "{json}");
    let problem = json["files"][0]["problem"].as_str().unwrap();
    assert!(
        problem.contains("and it is 2026-06-20T00:00:00Z"),
        "{problem}"
    );
}
