//! `cocoon key-manager` as a program: keys over an attested link, the operator's changes, SIGKILL, an older chain.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use cocoon_attest::identity::CertificateMode;
use cocoon_attest::measurements::TdxMeasurements;
use cocoon_attest::{Policy, PolicyRules, TlsIdentity, unix_now};
use cocoon_node::key_manager::{Audience, KeyAsker, ManagedKey};
use cocoon_node::peers::{IdentityCell, Way};
use serde_json::{Value, json};

const ROOT: &str = "0:83dfd552e63729b472fcbcc8c45ebcc6691702558b68ec7527e1ba403a0f31a8";
const LIMIT: Duration = Duration::from_secs(60);

struct Scene {
    dir: tempfile::TempDir,
    rpc: u16,
    http: u16,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fake_hash() -> [u8; 32] {
    TdxMeasurements::fake([0; 64]).image_hash()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Scene {
    fn new() -> Scene {
        let scene = Scene {
            dir: tempfile::tempdir().unwrap(),
            rpc: free_port(),
            http: free_port(),
        };
        let config = json!({
            "is_test": true, "root_contract_address": ROOT, "rpc_port": scene.rpc, "http_port": scene.http,
            "check_hashes": true, "direct": true, "pow_difficulty": 4,
        });
        std::fs::write(scene.path("config.json"), config.to_string()).unwrap();
        scene.write_root(3);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_root(&self, version: u32) {
        let hash = base64::engine::general_purpose::STANDARD.encode(fake_hash());
        let root = json!({"proxy_hashes": [hash], "worker_hashes": [], "version": version});
        std::fs::write(self.path("root.json"), root.to_string()).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
        command
            .arg("key-manager")
            .arg("--config")
            .arg(self.path("config.json"))
            .arg("--chain")
            .arg(format!("static:{}", self.path("root.json").display()))
            .arg("--data-dir")
            .arg(self.path("data"))
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The program, once it says that it is ready.
    fn start(&self) -> Running {
        let mut child = self.command().stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        assert_eq!(ready["role"], "key-manager");
        assert_eq!(ready["rpc_port"], self.rpc);
        Running(child)
    }

    fn fetch(&self, audience: Audience) -> Result<Vec<ManagedKey>, String> {
        let identity = TlsIdentity::generate(CertificateMode::FakeTdx, unix_now()).unwrap();
        let asker = KeyAsker {
            way: Way::Direct {
                identity: IdentityCell::new(identity),
                policy: Policy::FakeTdx(PolicyRules {
                    allowed_image_hashes: vec![fake_hash()],
                    ..PolicyRules::default()
                }),
                max_pow: 28,
            },
            target: SocketAddr::from(([127, 0, 0, 1], self.rpc)),
            images: Some(BTreeSet::from([fake_hash()])),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(asker.fetch(audience, 3))
            .map_err(|e| e.to_string())
    }

    fn seeds(&self) -> BTreeSet<[u8; 32]> {
        let keys = self.fetch(Audience::PROXIES).unwrap();
        keys.iter().map(|k| *k.seed.expose()).collect()
    }

    fn http(&self, method: &str, path: &str, header: &str) -> (u16, String) {
        let mut tcp = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        tcp.set_read_timeout(Some(LIMIT)).unwrap();
        write!(
            tcp,
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\nContent-Length: 0\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        (status, body.to_owned())
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_given_out_and_survive_a_kill() {
    let scene = Scene::new();
    let mut running = scene.start();
    let before = scene.seeds();
    assert_eq!(before.len(), 1);
    // No worker image is listed; the text is the reference's.
    let refused = scene.fetch(Audience::WORKERS).unwrap_err();
    assert!(
        refused.contains("unknown worker hash") && refused.contains("602"),
        "{refused}"
    );

    // Changes need the token, POST, and a known kind.
    let generate = "/request/generatekey?type=proxyworker";
    assert_eq!(scene.http("POST", generate, "").0, 401);
    let token = std::fs::read_to_string(scene.path("data/keys/http-token.key")).unwrap();
    let header = format!("X-Cocoon-Token: {}\r\n", token.trim());
    assert_eq!(scene.http("GET", generate, &header).0, 405);
    let (status, text) = scene.http("POST", "/request/generatekey?type=client", &header);
    assert_eq!(status, 400);
    assert!(text.contains("type=worker"), "{text}");
    let (status, text) = scene.http("POST", generate, &header);
    assert_eq!(status, 200, "{text}");
    let public = serde_json::from_str::<Value>(&text).unwrap()["generated"]
        .as_str()
        .unwrap()
        .to_owned();
    let with_new = scene.seeds();
    assert!(with_new.len() == 2 && with_new.is_superset(&before));

    // Figures name public keys only.
    let (status, text) = scene.http("GET", "/jsonstats", "");
    assert_eq!(status, 200);
    let stats: Value = serde_json::from_str(&text).unwrap();
    let keys = stats["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().any(|k| k["public_key"] == public.as_str()));
    assert_eq!(stats["root_contract_config"]["version"], 3);
    for seed in &with_new {
        assert!(!text.to_lowercase().contains(&hex::encode(seed)));
    }
    let (status, page) = scene.http("GET", "/stats", "");
    assert!(status == 200 && page.contains(&public));

    // SIGKILL: what was given away is still there. The store is for its owner only.
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    assert_eq!(mode(&scene.path("data/nodes/key-manager.redb")), 0o600);
    let running = scene.start();
    assert_eq!(scene.seeds(), with_new);
    let (status, _) = scene.http("POST", &format!("/request/removekey?key={public}"), &header);
    assert_eq!(status, 200);
    assert_eq!(scene.seeds(), before);
    let (status, _) = scene.http("POST", &format!("/request/removekey?key={public}"), &header);
    assert_eq!(status, 404);
    drop(running);

    // A root configuration older than one that was seen.
    scene.write_root(2);
    let output = scene.command().output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("version 2") && text.contains("version 3"),
        "{text}"
    );
}

#[test]
fn what_cannot_work_is_said_before_anything_is_made() {
    let scene = Scene::new();
    for (change, word) in [
        (json!({"rpc_port": 0}), "rpc_port"),
        (json!({"direct": false, "listen": "0.0.0.0"}), "direct"),
        (json!({"pow_difficulty": 60}), "pow_difficulty"),
        (json!({"is_test": false, "is_testnet": true}), "is_testnet"),
        (
            json!({"root_contract_address": "x"}),
            "root_contract_address",
        ),
    ] {
        let text = std::fs::read_to_string(scene.path("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        for (name, value) in change.as_object().unwrap() {
            config[name] = value.clone();
        }
        std::fs::write(scene.path("other.json"), config.to_string()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_cocoon"))
            .args(["key-manager", "--chain", "static:root.json", "--config"])
            .arg(scene.path("other.json"))
            .arg("--data-dir")
            .arg(scene.path("never"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(word), "{word}: {text}");
        assert!(!scene.path("never").exists());
    }
}
