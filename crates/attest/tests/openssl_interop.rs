//! Against the `openssl` command, the library the reference is built on. Skipped where it is not installed.

use std::process::Stdio;
use std::time::Duration;

use cocoon_attest::claims::{
    ClaimsProfile, Expected, Network, OwnClaims, ProtocolRange, Role, RootContract,
};
use cocoon_attest::pow::{self, Challenge};
use cocoon_attest::{
    CertificateMode, Policy, PolicyRules, TlsIdentity, accept_with_claims, connect_with_claims,
    unix_now,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

fn openssl_is_missing() -> bool {
    let found = std::process::Command::new("openssl")
        .arg("version")
        .output();
    let missing = !found.is_ok_and(|output| output.status.success());
    if missing {
        eprintln!("skipped: no openssl command here");
    }
    missing
}

fn identity() -> TlsIdentity {
    TlsIdentity::generate(CertificateMode::FakeTdx, unix_now()).unwrap()
}

fn fake_policy() -> Policy {
    Policy::FakeTdx(PolicyRules::default())
}

/// IANA's number of the group.
const X25519: u16 = 0x001d;

/// Asked for, and not required.
fn claims() -> ClaimsProfile {
    let network = Network {
        global_id: -3,
        is_test: true,
    };
    let root = RootContract {
        workchain: 0,
        hash: [0; 32],
    };
    ClaimsProfile {
        own: OwnClaims {
            role: Role::Client,
            network,
            root,
            protocol: ProtocolRange { min: 0, max: 3 },
            encryption: None,
            payment_key: None,
            gpu: None,
        },
        expected: Expected {
            roles: vec![Role::Client],
            network,
            root,
            gpu: None,
        },
        require: false,
    }
}

/// `openssl` knows nothing of proofs of work, so a small go-between does that part.
#[tokio::test]
async fn s_client_at_our_server() {
    if openssl_is_missing() {
        return;
    }
    for group in ["X25519", "default"] {
        let ours = identity();
        let theirs = identity();
        let dir = tempfile::tempdir().unwrap();
        theirs.save(&dir.path().join("c")).unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server_address = server.local_addr().unwrap();
        let between_address = between.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut client, _) = between.accept().await.unwrap();
            let mut tcp = TcpStream::connect(server_address).await.unwrap();
            let mut bytes = [0; pow::CHALLENGE_LEN];
            tcp.read_exact(&mut bytes).await.unwrap();
            let nonce = Challenge::from_bytes(&bytes)
                .unwrap()
                .solve(28, || false)
                .unwrap();
            tcp.write_all(&pow::response_to_bytes(nonce)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut tcp).await;
        });
        let mut command = openssl("s_client", &dir, "c");
        command.args([
            "-quiet",
            "-noservername",
            "-connect",
            &between_address.to_string(),
        ]);
        if group != "default" {
            command.args(["-groups", group]);
        }
        let mut child = command.spawn().unwrap();
        let (tcp, _) = server.accept().await.unwrap();
        let claims = Some(&claims());
        let (mut stream, peer) = accept_with_claims(tcp, &ours, &fake_policy(), 8, claims)
            .await
            .unwrap();
        assert_eq!(peer.public_key, theirs.public_key());
        assert_eq!(peer.claims, None);
        if group == "X25519" {
            assert_eq!(stream.key_exchange(), Some(X25519));
        }
        assert!(peer.fake);
        // Words both ways through the child's pipes, on blocking threads.
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, b"hello from openssl\n").unwrap();
        let mut line = String::new();
        BufReader::new(&mut stream)
            .read_line(&mut line)
            .await
            .unwrap();
        assert_eq!(line, "hello from openssl\n");
        stream.write_all(b"hello from rust\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let output = tokio::task::spawn_blocking(move || {
            let _open = stdin;
            let mut text = String::new();
            std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
            let _ = child.kill();
            let _ = child.wait();
            text
        });
        let output = tokio::time::timeout(Duration::from_secs(10), output)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(output, "hello from rust\n");
    }
}

#[tokio::test]
async fn our_client_at_s_server() {
    if openssl_is_missing() {
        return;
    }
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"] {
        let ours = identity();
        let theirs = identity();
        let dir = tempfile::tempdir().unwrap();
        theirs.save(&dir.path().join("s")).unwrap();
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
            free.local_addr().unwrap().port()
        };
        let mut command = openssl("s_server", &dir, "s");
        command.args(["-accept", &format!("127.0.0.1:{port}"), "-Verify", "1"]);
        command.args(["-naccept", "1", "-quiet", "-rev", "-ciphersuites", suite]);
        let mut child = command.spawn().unwrap();
        let mut upstream = None;
        for _ in 0..100 {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(tcp) => {
                    upstream = Some(tcp);
                    break;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        let mut upstream = upstream.expect("s_server did not start");
        let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = between.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut client, _) = between.accept().await.unwrap();
            let challenge = Challenge::random(10).unwrap();
            client.write_all(&challenge.to_bytes()).await.unwrap();
            let mut bytes = [0; pow::RESPONSE_LEN];
            client.read_exact(&mut bytes).await.unwrap();
            challenge
                .verify(pow::response_from_bytes(&bytes).unwrap())
                .unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        });
        let tcp = TcpStream::connect(address).await.unwrap();
        // OpenSSL passes over the offer of claims, and gets none.
        let claims = Some(&claims());
        let (mut stream, peer) = connect_with_claims(tcp, &ours, &fake_policy(), 28, claims)
            .await
            .unwrap();
        assert_eq!(peer.public_key, theirs.public_key());
        assert_eq!(peer.claims, None);
        stream.write_all(b"abc\n").await.unwrap();
        stream.flush().await.unwrap();
        // OpenSSL's NewSessionTicket messages come first and are ignored.
        let mut line = String::new();
        let mut read = BufReader::new(&mut stream);
        tokio::time::timeout(Duration::from_secs(10), read.read_line(&mut line))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(line, "cba\n");
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn openssl(tool: &str, dir: &tempfile::TempDir, base: &str) -> std::process::Command {
    let mut command = std::process::Command::new("openssl");
    command.arg(tool).arg("-tls1_3");
    command
        .arg("-cert")
        .arg(dir.path().join(format!("{base}_cert.pem")));
    command
        .arg("-key")
        .arg(dir.path().join(format!("{base}_key.pem")));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}
