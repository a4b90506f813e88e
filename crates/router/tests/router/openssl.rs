//! Against the `openssl` command, the library the reference is built on. Skipped where it is not installed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cocoon_attest::frame::read_frame;
use cocoon_attest::profile::report_data;
use cocoon_attest::{TlsIdentity, pow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::scene::*;

fn openssl_is_missing() -> bool {
    let found = Command::new("openssl").arg("version").output();
    let missing = !found.is_ok_and(|output| output.status.success());
    if missing {
        eprintln!("skipped: no openssl command here");
    }
    missing
}

/// Ends its process when the test ends.
struct OpenSsl(Child);

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(tool: &str, dir: &tempfile::TempDir, identity: &TlsIdentity, args: &[&str]) -> OpenSsl {
    identity.save(&dir.path().join("x")).unwrap();
    let child = Command::new("openssl")
        .args([tool, "-tls1_3", "-quiet", "-cert"])
        .arg(dir.path().join("x_cert.pem"))
        .arg("-key")
        .arg(dir.path().join("x_key.pem"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    OpenSsl(child.unwrap())
}

async fn read_all(child: &mut OpenSsl) -> String {
    let mut out = child.0.stdout.take().unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        text
    });
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("openssl does not end")
        .unwrap()
}

/// `openssl` knows nothing of proofs of work, so a go-between does that part for it.
#[tokio::test]
async fn s_client_at_a_reverse_port() {
    if openssl_is_missing() {
        return;
    }
    let (backend, applications) = open_backend().await;
    let server = reverse(backend, "fake_tdx", |o| o.serialize_info = true).await;
    let router = server.address();
    let (between, listener) = open_backend().await;
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut tcp = TcpStream::connect(router).await.unwrap();
        let mut bytes = [0; pow::CHALLENGE_LEN];
        tcp.read_exact(&mut bytes).await.unwrap();
        let challenge = pow::Challenge::from_bytes(&bytes).unwrap();
        let nonce = challenge.solve(28, || false).unwrap();
        tcp.write_all(&pow::response_to_bytes(nonce)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut tcp).await;
    });
    let dir = tempfile::tempdir().unwrap();
    let theirs = fake();
    let address = between.to_string();
    let mut client = openssl(
        "s_client",
        &dir,
        &theirs,
        &["-noservername", "-connect", &address],
    );
    let mut stdin = client.0.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"hello from openssl\n").unwrap();
    let (mut app, _) = tokio::time::timeout(PATIENCE, applications.accept())
        .await
        .unwrap()
        .unwrap();
    let frame = read_frame(&mut app).await.unwrap();
    assert_eq!(frame.public_key, theirs.public_key());
    let mut line = [0; 19];
    app.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"hello from openssl\n");
    app.write_all(b"hello from the application\n")
        .await
        .unwrap();
    drop(app);
    // The close_notify ends openssl although its standard input is still open.
    assert_eq!(read_all(&mut client).await, "hello from the application\n");
    drop(stdin);
}

#[tokio::test]
async fn a_forward_port_at_s_server() {
    if openssl_is_missing() {
        return;
    }
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        free.local_addr().unwrap().port()
    };
    let dir = tempfile::tempdir().unwrap();
    let theirs = fake();
    let accept = format!("127.0.0.1:{port}");
    let args = ["-accept", &accept, "-Verify", "1", "-naccept", "1", "-rev"];
    let _server = openssl("s_server", &dir, &theirs, &args);
    let mut upstream = None;
    for _ in 0..400 {
        if let Ok(tcp) = TcpStream::connect(("127.0.0.1", port)).await {
            upstream = Some(tcp);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut upstream = upstream.expect("s_server did not start");
    let (between, listener) = open_backend().await;
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let challenge = pow::Challenge::random(10).unwrap();
        client.write_all(&challenge.to_bytes()).await.unwrap();
        let mut bytes = [0; pow::RESPONSE_LEN];
        client.read_exact(&mut bytes).await.unwrap();
        let nonce = pow::response_from_bytes(&bytes).unwrap();
        challenge.verify(nonce).unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    });
    let near = forward(between, "fake_tdx", |o| o.serialize_info = true).await;
    let mut app = near.tcp().await;
    app.write_all(b"abc\n").await.unwrap();
    let frame = read_frame(&mut app).await.unwrap();
    assert_eq!(frame.public_key, theirs.public_key());
    let mut line = [0; 4];
    tokio::time::timeout(PATIENCE, app.read_exact(&mut line))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&line, b"cba\n");
}

/// The profile of section 1 in the words of OpenSSL's configuration, with a fake quote.
const PROFILE: &str = "\
[req]
distinguished_name = name
prompt = no
string_mask = utf8only
[name]
C = AE
ST = DUBAI
O = TDLib Development
OU = Security
CN = localhost
[ext]
1.3.6.1.4.1.12345.1 = critical,DER:QUOTE
1.3.6.1.4.1.12345.2 = critical,DER:KEY
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,serverAuth,clientAuth
subjectKeyIdentifier = hash
subjectAltName = DNS:localhost,DNS:127.0.0.1,IP:::1
";

/// Writes `x_cert.pem` and `x_key.pem`, made by OpenSSL alone but for the hash that is the quote.
fn openssl_certificate(dir: &std::path::Path) {
    let run = |args: &[&str]| {
        let output = Command::new("openssl").current_dir(dir).args(args).output();
        let output = output.unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {words}");
        output.stdout
    };
    run(&["genpkey", "-algorithm", "ed25519", "-out", "x_key.pem"]);
    let spki = run(&["pkey", "-in", "x_key.pem", "-pubout", "-outform", "DER"]);
    let key: [u8; 32] = spki[spki.len() - 32..].try_into().unwrap();
    let config = PROFILE
        .replace("QUOTE", &hex::encode(report_data(&key)))
        .replace("KEY", &hex::encode(key));
    std::fs::write(dir.join("x.cnf"), config).unwrap();
    run(&[
        "req",
        "-new",
        "-x509",
        "-key",
        "x_key.pem",
        "-days",
        "1",
        "-config",
        "x.cnf",
        "-extensions",
        "ext",
        "-out",
        "x_cert.pem",
    ]);
}

/// Two routers in both directions, with certificates made by OpenSSL on one side or on both.
#[tokio::test]
async fn routers_meet_with_certificates_of_openssl() {
    if openssl_is_missing() {
        return;
    }
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for dir in &dirs {
        openssl_certificate(dir.path());
    }
    let base = |at: usize| dirs[at].path().join("x").to_string_lossy().into_owned();
    for (near_cert, far_cert) in [
        (Some(base(0)), None),
        (None, Some(base(1))),
        (Some(base(0)), Some(base(1))),
    ] {
        let with = |o: &mut cocoon_router::Options, cert: &Option<String>| {
            o.serialize_info = true;
            if let Some(cert) = cert {
                (o.cert, o.cert_mode) = (Some(cert.into()), None);
            }
        };
        let mut backend = echo(true).await;
        let server = reverse(backend.address, "fake_tdx", |o| with(o, &far_cert)).await;
        let near = forward(server.address(), "fake_tdx", |o| with(o, &near_cert)).await;
        let mut app = near.tcp().await;
        let frame = tokio::time::timeout(PATIENCE, read_frame(&mut app)).await;
        let seen_here = frame.unwrap().unwrap();
        let seen_there = backend.connections.recv().await.unwrap().unwrap();
        assert_eq!(seen_here.public_key, server.handle.identity().public_key());
        assert_eq!(seen_there.public_key, near.handle.identity().public_key());
        assert!(seen_here.attestation.is_some() && seen_there.attestation.is_some());
        ping(&mut app, b"both ways").await;
        app.shutdown().await.unwrap();
        assert_eq!(rest(&mut app).await, b"");
        near.until("the end", |c| c.active == 0 && c.ended_by_application == 1)
            .await;
    }
}
