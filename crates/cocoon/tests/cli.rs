//! The built program against bad input: every message names what was expected and found and what to do, and nothing
//! is deleted or changed.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A loaded machine starts a network within seconds; this long means that it hangs.
const READY: Duration = Duration::from_secs(120);

/// A directory of a test. It stays when the test fails, and the message says where.
struct Scene {
    root: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self {
            root: dir.path().to_owned(),
            _dir: Some(dir),
        }
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("create a directory");
        std::fs::write(&path, content).expect("write a file");
        path
    }

    fn cocoon(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("run cocoon")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
        command
            .arg("--data-dir")
            .arg(self.data())
            .args(args)
            .current_dir(&self.root)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Starts a network on free ports.
    fn up(&self) -> Running {
        let mut args = vec!["up", "--json"];
        args.extend(FREE_PORTS);
        let log = std::fs::File::create(self.root.join("up.log")).expect("create a log");
        let child = self
            .command(&args)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start cocoon");
        Running { child }
    }

    fn wait_ready(&self, running: &mut Running) {
        let started = Instant::now();
        // A file of a network before this one is removed before the new one is founded; its pid tells them apart.
        let pid = format!("\"pid\": {}", running.child.id());
        while !std::fs::read_to_string(self.data().join("network.json"))
            .is_ok_and(|text| text.contains(&pid))
        {
            let ended = running.child.try_wait().expect("look at cocoon");
            assert!(
                ended.is_none() && started.elapsed() < READY,
                "the network is not ready ({ended:?}); logs: {} and {}\n{}",
                self.root.join("up.log").display(),
                self.data().join("logs/cocoon.log").display(),
                std::fs::read_to_string(self.root.join("up.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All files but the lock and the logs.
    fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.root, &mut files);
        files.retain(|path, _| {
            !path.ends_with("lock") && !path.components().any(|c| c.as_os_str() == "logs")
        });
        files
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self._dir.take()
        {
            eprintln!(
                "the files of the failed test stay in {}",
                dir.keep().display()
            );
        }
    }
}

fn collect(dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).expect("read a directory") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path.clone(), std::fs::read(&path).expect("read a file"));
        }
    }
}

struct Running {
    child: Child,
}

impl Running {
    /// SIGTERM, and the exit code.
    fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("run kill").success());
        self.child.wait().expect("wait for cocoon").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const FREE_PORTS: [&str; 12] = [
    "--client-port",
    "0",
    "--proxy-port",
    "0",
    "--worker-rpc-port",
    "0",
    "--client-rpc-port",
    "0",
    "--worker-port",
    "0",
    "--chain-port",
    "0",
];

fn with_free_ports<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["up", "--quiet"];
    all.extend(FREE_PORTS);
    all.extend(args);
    all
}

/// The command fails with this code, and its message has all parts.
fn refused(output: &Output, code: i32, parts: &[&str]) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    text
}

const DATA_FILE: &str = r#"{"format": 1, "created_by": "0.1.0", "founding": null}"#;

#[test]
fn an_unknown_flag_gets_a_suggestion() {
    let scene = Scene::new();
    let output = scene.cocoon(&["up", "--clinet-port", "1"]);
    refused(&output, 2, &["--clinet-port", "--client-port"]);
    let output = scene.cocoon(&["upp"]);
    refused(&output, 2, &["upp", "up"]);
    assert!(!scene.data().exists());
}

#[test]
fn an_unknown_config_key_is_named_with_file_line_and_the_allowed_keys() {
    let scene = Scene::new();
    scene.write(
        "data/cocoon.toml",
        "# ports\nclient_port = 1\nclinet_port = 2\n",
    );
    let before = scene.snapshot();
    let output = scene.cocoon(&["up"]);
    refused(
        &output,
        2,
        &[
            "cocoon.toml",
            "line 3",
            "clinet_port",
            "expected:",
            "`client_port`",
            "`chain_port`",
            "hint:",
        ],
    );
    let file = scene.write("other.toml", "price = \"much\"\n");
    let output = scene.cocoon(&["up", "--config", &file.to_string_lossy()]);
    refused(&output, 2, &["other.toml", "line 1", "much", "expected:"]);
    std::fs::remove_file(file).unwrap();
    assert_eq!(scene.snapshot(), before);
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let scene = Scene::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut args = with_free_ports(&[]);
    args[3] = &port;
    let output = scene.cocoon(&args);
    refused(
        &output,
        1,
        &[
            &port,
            "--client-port",
            "expected: a free port",
            "found:",
            "hint:",
            "ss -ltnp",
        ],
    );
}

#[test]
fn a_data_directory_of_another_version_is_left_alone() {
    let scene = Scene::new();
    scene.write("data/data.json", r#"{"format": 77, "created_by": "9.9.9"}"#);
    scene.write("data/chain/chain.redb", "precious");
    let before = scene.snapshot();
    let output = scene.cocoon(&with_free_ports(&[]));
    refused(
        &output,
        1,
        &[
            "expected: format 1",
            "found: format 77",
            "9.9.9",
            "hint:",
            "nothing was changed",
        ],
    );
    assert_eq!(scene.snapshot(), before);
}

#[test]
fn somebody_elses_directory_is_left_alone() {
    let scene = Scene::new();
    scene.write("data/thesis.tex", "precious");
    let before = scene.snapshot();
    let output = scene.cocoon(&with_free_ports(&[]));
    refused(
        &output,
        1,
        &[
            "not a data directory",
            "thesis.tex",
            "expected:",
            "--data-dir",
        ],
    );
    assert_eq!(scene.snapshot(), before);
}

#[test]
fn a_chain_store_that_is_none_is_left_alone() {
    let scene = Scene::new();
    scene.write("data/data.json", DATA_FILE);
    let garbage: Vec<u8> = (0..20_000u32).map(|n| (n * 7) as u8).collect();
    let store = scene.write("data/chain/chain.redb", &garbage);
    let output = scene.cocoon(&with_free_ports(&[]));
    refused(
        &output,
        1,
        &[
            "chain.redb",
            "expected:",
            "found:",
            "hint:",
            "nothing was deleted",
        ],
    );
    assert_eq!(std::fs::read(store).unwrap(), garbage);
}

#[test]
fn a_missing_model_file_is_named_before_anything_starts() {
    let scene = Scene::new();
    scene.write("half/config.json", "{}");
    let output = scene.cocoon(&with_free_ports(&["--model", "half"]));
    refused(
        &output,
        2,
        &[
            "half",
            "expected:",
            "config.json",
            "found: no tokenizer.json",
            "hint:",
        ],
    );
    let output = scene.cocoon(&with_free_ports(&["--model", "nowhere"]));
    refused(&output, 2, &["nowhere", "found: nothing there"]);
    assert!(!scene.data().exists());
}

#[test]
fn an_address_with_a_typo_is_refused() {
    let scene = Scene::new();
    let wrong = "EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73l";
    let parts = ["checksum", "expected:", "found:", "hint:"];
    refused(
        &scene.cocoon(&with_free_ports(&["--worker-owner", wrong])),
        2,
        &parts,
    );
    refused(&scene.cocoon(&["account", wrong]), 2, &parts);
    refused(
        &scene.cocoon(&["wallet", "send", "--to", wrong, "--amount", "1"]),
        2,
        &parts,
    );
    let right = "EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k";
    // The right one gets as far as the question which network to ask.
    refused(
        &scene.cocoon(&["account", right]),
        1,
        &["no network is running", "cocoon up"],
    );
    assert!(!scene.data().exists());
}

#[test]
fn a_mnemonic_with_a_typo_names_the_word_and_shows_no_other() {
    let scene = Scene::new();
    let made = scene.cocoon(&["wallet", "new", "--mnemonic-file", "my.words"]);
    assert!(made.status.success());
    let path = scene.root.join("my.words");
    let words = std::fs::read_to_string(&path).unwrap();
    let again = scene.cocoon(&["wallet", "new", "--mnemonic-file", "my.words"]);
    refused(&again, 1, &["will not write over", "expected:", "hint:"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), words);
    assert!(
        scene
            .cocoon(&["wallet", "address", "--mnemonic-file", "my.words"])
            .status
            .success()
    );

    let mut list: Vec<&str> = words.split_whitespace().collect();
    list[4] = "zebrra";
    scene.write("bad.words", list.join(" "));
    let bad = scene.cocoon(&["wallet", "address", "--mnemonic-file", "bad.words"]);
    let text = refused(
        &bad,
        2,
        &["word 5 of 24", "zebrra", "zebra", "expected:", "hint:"],
    );
    let shown = list
        .iter()
        .filter(|word| word.len() > 6 && text.contains(**word))
        .count();
    assert_eq!(shown, 0, "words of the mnemonic in:\n{text}");
    let bad = scene.cocoon(&with_free_ports(&["--owner-mnemonic-file", "bad.words"]));
    refused(&bad, 2, &["word 5 of 24", "zebra"]);
    // Words on the command line would be seen by everybody on the machine; there is no way to give them there.
    let mut args = vec!["wallet", "address"];
    args.extend(list);
    assert_eq!(scene.cocoon(&args).status.code(), Some(2));
}

#[test]
fn secrets_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    assert!(
        scene
            .cocoon(&["wallet", "new", "--mnemonic-file", "my.words"])
            .status
            .success()
    );
    let mode = std::fs::metadata(scene.root.join("my.words"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn doctor_finds_a_port_in_use() {
    let scene = Scene::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    scene.write("data/cocoon.toml", format!("client_port = {port}\n"));
    let output = scene.cocoon(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("PROBLEM") && text.contains(&port.to_string()),
        "{text}"
    );
}

/// One whole life: founded, asked, a second start refused, stopped, started again with the same identity, and then
/// its store damaged, its chain and a key lost.
#[test]
fn a_network_lives_and_loses_nothing() {
    let scene = Scene::new();
    let mut running = scene.up();
    scene.wait_ready(&mut running);
    let pid = running.child.id().to_string();

    let second = scene.cocoon(&with_free_ports(&[]));
    refused(&second, 1, &["in use", "expected:", &pid, "hint:"]);

    let answer = scene.cocoon(&["chat", "--max-tokens", "16", "What is 7 + 8?"]);
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(
        answer.status.success() && !text.trim().is_empty(),
        "{answer:?}"
    );
    let unknown = scene.cocoon(&["chat", "--model", "gpt-9", "Hello"]);
    refused(&unknown, 1, &["gpt-9", "hint:"]);
    let status = scene.cocoon(&["status"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status.status.success() && text.contains("all accounted for"),
        "{text}"
    );
    let words = scene.data().join("keys/proxy-owner.words");
    let words = words.to_string_lossy();
    let sent = scene.cocoon(&[
        "wallet",
        "send",
        "--mnemonic-file",
        &words,
        "--to",
        &format!("0:{}", "ab".repeat(32)),
        "--amount",
        "1",
    ]);
    assert!(sent.status.success(), "{sent:?}");

    let before = std::fs::read_to_string(scene.data().join("data.json")).unwrap();
    assert_eq!(
        running.stop(),
        Some(0),
        "logs: {}",
        scene.root.join("up.log").display()
    );
    assert!(!scene.data().join("network.json").exists());
    refused(
        &scene.cocoon(&["status"]),
        1,
        &["no network is running", "hint:"],
    );

    let mut running = scene.up();
    scene.wait_ready(&mut running);
    assert_eq!(
        std::fs::read_to_string(scene.data().join("data.json")).unwrap(),
        before
    );
    assert_eq!(running.stop(), Some(0));

    let other_price = scene.cocoon(&with_free_ports(&["--price", "77"]));
    refused(
        &other_price,
        2,
        &["--price", "expected: 10000", "found: --price 77", "hint:"],
    );

    let store = scene.data().join("chain/chain.redb");
    let sound = std::fs::read(&store).unwrap();
    let mut damaged = sound.clone();
    for byte in damaged.iter_mut().skip(64).step_by(3) {
        *byte ^= 0x55;
    }
    std::fs::write(&store, &damaged).unwrap();
    let output = scene.cocoon(&with_free_ports(&[]));
    refused(
        &output,
        1,
        &[
            "chain.redb",
            "expected:",
            "found:",
            "hint:",
            "nothing was deleted",
        ],
    );

    std::fs::rename(&store, scene.root.join("elsewhere")).unwrap();
    let output = scene.cocoon(&with_free_ports(&[]));
    refused(
        &output,
        1,
        &[
            "chain of this network is missing",
            "expected:",
            "hint: restore",
        ],
    );
    assert!(
        !store.exists(),
        "a new chain was made in place of the lost one"
    );

    std::fs::write(&store, &sound).unwrap();
    let key = scene.data().join("keys/proxy-payment.key");
    let secret = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let output = scene.cocoon(&with_free_ports(&[]));
    refused(
        &output,
        1,
        &["proxy-payment.key", "expected:", "hint: restore"],
    );
    assert!(!key.exists(), "a new key was made in place of the lost one");

    std::fs::write(&key, secret).unwrap();
    let mut running = scene.up();
    scene.wait_ready(&mut running);
    assert_eq!(running.stop(), Some(0));
}

/// Killed at several moments of its first start, a network is still founded once: one registry entry, every wallet
/// funded once, all coins there.
#[test]
fn a_founding_cut_short_is_completed_by_the_next_start() {
    let scene = Scene::new();
    for milliseconds in [150, 400, 800, 1200, 300] {
        let running = scene.up();
        std::thread::sleep(Duration::from_millis(milliseconds));
        // Dropping it kills the process without a chance to tidy up.
        drop(running);
    }
    let mut running = scene.up();
    scene.wait_ready(&mut running);
    let status = scene.cocoon(&["status", "--json"]);
    assert!(status.status.success(), "{status:?}");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["supply"]["conserved"], true);
    assert_eq!(status["contracts"]["root"]["data"]["last_proxy_seqno"], 1);
    // Twice the client's stake, paid in once.
    assert_eq!(status["contracts"]["proxy"]["data"]["stake"], "40000000000");
    for balance in status["balances"].as_array().expect("balances") {
        let nano: u128 = balance["balance"]
            .as_str()
            .expect("text")
            .parse()
            .expect("a number");
        let ton = nano / 1_000_000_000;
        let expected = match balance["name"].as_str().expect("a name") {
            "client wallet" => 470..500,
            "proxy wallet" => 190..200,
            "worker wallet" => 95..100,
            "faucet" => 999_100..999_200,
            _ => 9..10,
        };
        assert!(
            expected.contains(&ton),
            "{balance}: expected {expected:?} TON"
        );
    }
    assert_eq!(running.stop(), Some(0));
}
