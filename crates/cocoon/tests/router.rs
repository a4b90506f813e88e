//! `cocoon router` as a process: the reference's command lines, ready lines, signals and errors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A loaded machine is slow; this long means that it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
    command
        .arg("router")
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

fn refused(args: &[&str], code: i32, parts: &[&str]) -> Output {
    let output = command(args).output().expect("run cocoon");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    for part in parts {
        assert!(
            text.contains(part),
            "{args:?} does not say {part:?}:\n{text}"
        );
    }
    output
}

/// A router that is ended with the test.
struct Running {
    child: Child,
    ready: String,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child = command(args)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start cocoon");
        let mut ready = String::new();
        let out = child.stdout.as_mut().expect("a pipe");
        BufReader::new(out)
            .read_line(&mut ready)
            .expect("a ready line");
        Self { child, ready }
    }

    /// The addresses after `"listen":"`, in order.
    fn addresses(&self) -> Vec<String> {
        let pieces = self.ready.split("\"listen\":\"").skip(1);
        pieces
            .map(|piece| piece.split('"').next().unwrap_or_default().to_owned())
            .collect()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        assert!(sent.expect("run kill").success());
    }

    fn wait(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("look at cocoon") {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "the router does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const TEST: [&str; 8] = [
    "--test-network",
    "--cert-mode",
    "fake_tdx",
    "--listen",
    "127.0.0.1",
    "-d",
    "8",
    "--metrics-port=0",
];

fn with_test<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut all = TEST.to_vec();
    all.extend(args);
    all
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("set a limit");
    stream
}

#[test]
fn two_processes_carry_bytes_and_drain() {
    let backend = TcpListener::bind("127.0.0.1:0").expect("listen");
    let to = format!("0:{}@fake_tdx", backend.local_addr().expect("an address"));
    let mut far = Running::start(&with_test(&["-R", &to, "--serialize-info"]));
    let far_address = far.addresses().remove(0);
    let to = format!("0:{far_address}@fake_tdx");
    let mut near = Running::start(&with_test(&["-F", &to, "-v", "3"]));
    assert!(near.ready.contains("\"ready\":true") && near.ready.contains("\"type\":\"forward\""));
    let mut app = connect(&near.addresses()[0]);
    app.write_all(b"question").expect("write");
    let (mut behind, _) = backend.accept().expect("accept");
    behind
        .set_read_timeout(Some(PATIENCE))
        .expect("set a limit");
    // The frame of 4.6: its length, then a body that says has_attestation and TDX.
    let mut head = [0; 12];
    behind.read_exact(&mut head).expect("a frame");
    assert_eq!(head[4..], [1, 0, 0, 0, 0, 0, 0, 0]);
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let mut rest = vec![0; length - 8 + 8];
    behind.read_exact(&mut rest).expect("frame and question");
    assert!(rest.ends_with(b"question"));
    behind.write_all(b"answer").expect("write");
    let mut answer = [0; 6];
    app.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"answer");

    let url = near
        .ready
        .split("\"metrics\":\"http://")
        .nth(1)
        .expect("a metrics address");
    let mut page = connect(url.split('/').next().unwrap_or_default());
    page.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("write");
    let mut text = String::new();
    page.read_to_string(&mut text).expect("a page");
    assert!(
        text.contains("cocoon_router_bytes_to_peers_total{")
            && text.contains("cocoon_router_active{")
    );

    // The first order lets the connection live, the second closes it.
    near.signal("-INT");
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(&near.addresses()[0]).is_ok() {
        assert!(Instant::now() < until, "the port stays open");
    }
    app.write_all(b"still here").expect("write");
    let mut still = [0; 10];
    behind.read_exact(&mut still).expect("bytes while draining");
    near.signal("-INT");
    assert_eq!(app.read(&mut answer).expect("an end"), 0);
    assert_eq!(near.wait(), Some(0));
    far.signal("-TERM");
    drop((app, behind));
    assert_eq!(far.wait(), Some(0));
}

#[test]
fn a_hangup_reads_the_policies_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("router.json");
    let backend = TcpListener::bind("127.0.0.1:0").expect("listen");
    let to = format!("0:{}@any", backend.local_addr().expect("an address"));
    let far = Running::start(&with_test(&["-R", &to]));
    let address = far.addresses().remove(0);
    let (host, port) = address.split_once(':').expect("host and port");
    let write = |hash: &str| {
        let text = format!(
            r#"{{"test_network": true, "policies": [{{"name": "image", "type": "fake_tdx", "tdx_config": {{"allowed_image_hashes": "{hash}"}}}}],
                "ports": [{{"port": 0, "type": "forward", "policy_name": "image", "destination_host": "{host}", "destination_port": {port}}}]}}"#
        );
        std::fs::write(&path, text).expect("write the file");
    };
    write("5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61");
    let near = Running::start(&["-c", path.to_str().expect("text")]);
    let mut app = connect(&near.addresses()[0]);
    app.write_all(b"x").expect("write");
    let (mut behind, _) = backend.accept().expect("accept");
    behind.read_exact(&mut [0]).expect("a byte");
    // A file with a mistake changes nothing.
    std::fs::write(&path, "{").expect("write the file");
    near.signal("-HUP");
    app.write_all(b"y").expect("write");
    behind.read_exact(&mut [0]).expect("a byte");
    write(&"00".repeat(32));
    near.signal("-HUP");
    assert_eq!(app.read(&mut [0]).expect("an end"), 0);
}

#[test]
fn wrong_wishes_are_explained() {
    refused(&[], 2, &["no port is configured", "--help"]);
    refused(&["-S", "8116"], 2, &["--socks5", "port@policy"]);
    refused(&["-d", "65", "-S", "8116@any"], 2, &["65"]);
    refused(
        &["-c", "/nonexistent/router.json"],
        2,
        &["router.json", "-g"],
    );
    refused(
        &["-S", "0@any", "-C", "/nonexistent/x"],
        1,
        &["x_cert.pem", "--cert-mode"],
    );
    refused(&["-S", "0@any", "--cert-mode", "tdx"], 1, &["TDX guest"]);
    refused(
        &["-S", "0@tdx", "--collateral", "/nonexistent"],
        2,
        &["cannot read the collateral", "/nonexistent"],
    );
    let taken = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = taken.local_addr().expect("an address").port().to_string();
    refused(
        &["-S", &format!("{port}@any")],
        1,
        &[&port, "another program"],
    );
}

#[test]
fn the_example_configuration_runs() {
    let output = command(&["-g"]).output().expect("run cocoon");
    assert!(output.status.success());
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("router.json");
    let text = String::from_utf8(output.stdout).expect("text");
    // The same on free ports.
    let text = text
        .replace("\"port\": 8116", "\"port\": 0")
        .replace("\"port\": 8117", "\"port\": 0")
        .replace(
            "\"port\": 11001,\n      \"type\"",
            "\"port\": 0,\n      \"type\"",
        );
    std::fs::write(&path, text).expect("write the file");
    let path = path.to_str().expect("text");
    let mut running = Running::start(&["--config", path, "--listen", "127.0.0.1"]);
    assert_eq!(running.addresses().len(), 3, "{}", running.ready);
    running.signal("-TERM");
    assert_eq!(running.wait(), Some(0));
}
