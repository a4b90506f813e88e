//! Application, router, router, application.

use std::net::SocketAddr;

use cocoon_attest::frame::{PeerInfo, read_frame};
use cocoon_attest::{Policy, PolicyRules, socks5 as client};
use cocoon_router::{CertificateMode, FileConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scene::*;

/// The image hash of every fake quote (spec 1.4).
const FAKE_IMAGE: &str = "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61";

fn v4(address: SocketAddr) -> std::net::SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(address) => panic!("{address} is no IPv4 address"),
    }
}

fn ends(info: &PeerInfo) -> (String, String) {
    (info.source.to_string(), info.destination.to_string())
}

#[tokio::test]
async fn both_applications_learn_who_the_other_end_is() {
    let mut backend = echo(true).await;
    let server = reverse(backend.address, "fake_tdx", |o| o.serialize_info = true).await;
    let near = socks5("fake_tdx", |o| o.serialize_info = true).await;
    let mut app = near.tcp().await;
    let local = client::connect(&mut app, v4(server.address()), None)
        .await
        .unwrap();
    let seen_here = read_frame(&mut app).await.unwrap();
    let seen_there = backend.connections.recv().await.unwrap().unwrap();
    assert_eq!(seen_here.public_key, server.handle.identity().public_key());
    assert_eq!(seen_there.public_key, near.handle.identity().public_key());
    for seen in [&seen_here, &seen_there] {
        assert_eq!(hex::encode(seen.image_hash()), FAKE_IMAGE);
        assert_eq!(seen.collateral_root_hash, [0; 48]);
    }
    // Source and destination as 4.6.2 says: the application and the peer here, the peer and the application there.
    let here = (
        app.local_addr().unwrap().to_string(),
        server.address().to_string(),
    );
    assert_eq!(ends(&seen_here), here);
    assert_eq!(
        ends(&seen_there),
        (local.to_string(), backend.address.to_string())
    );
    ping(&mut app, b"question").await;
    let large: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    let (mut read, mut write) = app.split();
    let sent = large.clone();
    let mut back = vec![0; large.len()];
    let (_, got) = tokio::join!(
        async { write.write_all(&sent).await.unwrap() },
        read.read_exact(&mut back)
    );
    got.unwrap();
    assert!(back == large, "bytes were changed on the way");
    drop(app);
    let near_counts = near
        .until("the end", |c| c.active == 0 && c.ended_by_application == 1)
        .await;
    assert_eq!(near_counts.bytes_to_peers, 1_000_008);
    assert_eq!(near_counts.bytes_to_applications, 1_000_008);
    let far_counts = server.until("the end", |c| c.active == 0).await;
    assert_eq!((far_counts.ended_by_peer, far_counts.truncated), (1, 0));
}

#[tokio::test]
async fn without_serialize_info_nothing_comes_first() {
    let mut backend = echo(false).await;
    let server = reverse(backend.address, "any", |_| {}).await;
    let near = socks5("fake_tdx", |_| {}).await;
    let mut app = near.tcp().await;
    client::connect(&mut app, v4(server.address()), None)
        .await
        .unwrap();
    ping(&mut app, b"hello").await;
    assert_eq!(backend.connections.recv().await.unwrap(), None);
}

#[tokio::test]
async fn a_policy_without_attestation_says_so_in_the_frame() {
    let mut backend = echo(true).await;
    let server = reverse(backend.address, "any", |o| o.serialize_info = true).await;
    let client = plain();
    let (mut stream, _) = server.peer(&client).await;
    ping(&mut stream, b"hello").await;
    let seen = backend.connections.recv().await.unwrap().unwrap();
    assert_eq!(seen.attestation, None);
    assert_eq!(seen.public_key, client.public_key());
}

/// The reference's runners write at once and do not wait for the frame (protocol 1.1).
#[tokio::test]
async fn bytes_sent_before_the_peer_is_connected_arrive_first() {
    let backend = echo(false).await;
    let server = reverse(backend.address, "any", |o| o.pow_difficulty = Some(12)).await;
    let near = forward(server.address(), "fake_tdx", |_| {}).await;
    let mut app = near.tcp().await;
    // More than is taken before the peer is there.
    let early: Vec<u8> = (0..200_000u32).map(|i| (i / 7) as u8).collect();
    let (mut read, mut write) = app.split();
    let mut back = vec![0; early.len() + 1];
    let (_, got) = tokio::join!(
        async {
            write.write_all(&early).await.unwrap();
            write.write_all(b"!").await.unwrap();
        },
        read.read_exact(&mut back)
    );
    got.unwrap();
    assert!(back[..early.len()] == early[..] && back.ends_with(b"!"));

    // SOCKS5 greeting, request and first bytes in one piece.
    let near = socks5("fake_tdx", |_| {}).await;
    let mut app = near.tcp().await;
    let mut all = vec![5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1];
    all.extend(server.address().port().to_be_bytes());
    all.extend(b"hello");
    app.write_all(&all).await.unwrap();
    let mut answer = [0; 2 + 10 + 5];
    app.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..6], [5, 0, 5, 0, 0, 1]);
    assert_eq!(&answer[12..], b"hello");
}

async fn dialogue(app: &mut TcpStream, messages: &[&[u8]], answers: &[&[u8]]) {
    for (message, answer) in messages.iter().zip(answers) {
        app.write_all(message).await.unwrap();
        let mut got = vec![0; answer.len()];
        app.read_exact(&mut got).await.unwrap();
        assert_eq!(got, *answer);
    }
}

#[tokio::test]
async fn names_are_looked_up() {
    let backend = echo(false).await;
    let server = start(options(|o| {
        o.reverse = vec![format!("0:localhost:{}@any", backend.address.port())];
    }))
    .await;
    let near = socks5("any", |_| {}).await;
    let mut app = near.tcp().await;
    let mut request = vec![5, 1, 0, 3, 9];
    request.extend(b"localhost");
    request.extend(server.address().port().to_be_bytes());
    dialogue(
        &mut app,
        &[&[5, 1, 0], &request],
        &[&[5, 0], &[5, 0, 0, 1, 127, 0, 0, 1]],
    )
    .await;
    let _port = app.read_u16().await.unwrap();
    ping(&mut app, b"by name").await;
}

#[tokio::test]
async fn the_user_name_chooses_among_the_allowed_policies_only() {
    let backend = echo(false).await;
    let server = reverse(backend.address, "any", |_| {}).await;
    let file = format!(
        r#"{{"policies": [{{"name": "strict", "type": "fake_tdx", "tdx_config": {{"allowed_image_hash": "{FAKE_IMAGE}"}}}},
            {{"name": "others", "type": "fake_tdx", "tdx_config": {{"allowed_image_hash": "{}"}}}}],
            "ports": [{{"port": 0, "type": "socks5", "policy_name": "others", "allow_policy_from_username": ["strict"]}}]}}"#,
        "00".repeat(32)
    );
    let file = FileConfig::parse(file.as_bytes()).unwrap();
    let near = start_with(&options(|_| {}), Some(&file)).await;
    let target = v4(server.address());
    let mut app = near.tcp().await;
    client::connect(&mut app, target, Some("strict"))
        .await
        .unwrap();
    ping(&mut app, b"strict").await;
    // `any` exists, but this port may not use it; nor is a wrong name more than a close.
    for name in ["any", "others", "Strict"] {
        let mut app = near.tcp().await;
        let error = client::connect(&mut app, target, Some(name))
            .await
            .unwrap_err();
        assert!(
            matches!(error, client::Socks5Error::Closed { step: "policy" }),
            "{error}"
        );
    }
    // Without a name the port's own policy decides, which refuses this server.
    let mut app = near.tcp().await;
    let error = client::connect(&mut app, target, None).await.unwrap_err();
    assert!(
        matches!(error, client::Socks5Error::Closed { step: "reply" }),
        "{error}"
    );
    let refusals = |c: &cocoon_router::metrics::Snapshot| (c.failed_dialogue, c.refused_peers);
    let counts = near.until("refusals", |c| refusals(c) == (3, 1)).await;
    assert_eq!(counts.established, 1);
}

#[tokio::test]
async fn a_refused_peer_is_a_bare_close_and_the_application_never_hears_of_it() {
    // The server's side refuses: its application gets no connection.
    let mut backend = echo(true).await;
    let server = reverse(backend.address, "fake_tdx", |o| o.serialize_info = true).await;
    let near = socks5("any", |o| o.cert_mode = Some(CertificateMode::None)).await;
    let mut app = near.tcp().await;
    // The client's handshake may be complete before the server has judged it, so the reply may come or not.
    let _ = client::connect(&mut app, v4(server.address()), None).await;
    let _ = rest(&mut app).await;
    server.until("the refusal", |c| c.refused_peers == 1).await;
    near.until("the end", |c| c.active + c.setting_up == 0)
        .await;
    assert_eq!(server.counters().established, 0);

    // The client's side refuses: not even a SOCKS5 error reply comes.
    let open = reverse(backend.address, "any", |o| {
        o.cert_mode = Some(CertificateMode::None);
    })
    .await;
    let near = socks5("fake_tdx", |_| {}).await;
    let mut app = near.tcp().await;
    let mut request = vec![5, 1, 0, 1, 127, 0, 0, 1];
    request.extend(open.address().port().to_be_bytes());
    dialogue(&mut app, &[&[5, 1, 0]], &[&[5, 0]]).await;
    app.write_all(&request).await.unwrap();
    assert_eq!(rest(&mut app).await, b"");
    near.until("the refusal", |c| c.refused_peers == 1).await;
    assert!(
        backend.connections.try_recv().is_err(),
        "the application heard of a refused peer"
    );
}

#[tokio::test]
async fn unreachable_targets_and_applications_close() {
    let free = {
        let (address, _listener) = open_backend().await;
        address
    };
    let near = socks5("any", |_| {}).await;
    let mut app = near.tcp().await;
    let error = client::connect(&mut app, v4(free), None).await.unwrap_err();
    assert!(
        matches!(error, client::Socks5Error::Closed { step: "reply" }),
        "{error}"
    );
    near.until("the failure", |c| c.failed_dial == 1).await;

    let server = reverse(free, "any", |_| {}).await;
    let (mut stream, _) = server.peer(&plain()).await;
    assert_eq!(rest(&mut stream).await, b"");
    assert!(!stream.truncated(), "the end is a proper one");
    server.until("the failure", |c| c.failed_dial == 1).await;
}

#[tokio::test]
async fn a_tdx_policy_refuses_fakes() {
    let backend = echo(false).await;
    let server = reverse(backend.address, "tdx", |_| {}).await;
    let (tls, _) = server.peer(&fake()).await;
    let mut tls = tls;
    assert_eq!(rest(&mut tls).await, b"");
    server.until("the refusal", |c| c.refused_peers == 1).await;
}

#[tokio::test]
async fn peers_are_judged_again_when_the_policies_change() {
    let backend = echo(false).await;
    let server = start(options(|o| {
        o.policies = vec![format!("strict:fake_tdx:{FAKE_IMAGE}")];
        o.reverse = vec![
            format!("0:{}@strict", backend.address),
            format!("0:{}@any", backend.address),
        ];
    }))
    .await;
    let ports = server.handle.ports();
    let mut streams = Vec::new();
    for port in &ports {
        let tcp = TcpStream::connect(port.listen).await.unwrap();
        let (mut stream, _) = cocoon_attest::connect(tcp, &fake(), &Policy::Any, 28)
            .await
            .unwrap();
        ping(&mut stream, b"before").await;
        streams.push(stream);
    }
    let rules = PolicyRules {
        allowed_image_hashes: vec![[0; 32]],
        ..PolicyRules::default()
    };
    let policies = |strict| [("strict".into(), strict), ("any".into(), Policy::Any)].into();
    server
        .handle
        .set_policies(policies(Policy::FakeTdx(PolicyRules::default())));
    ping(&mut streams[0], b"still allowed").await;
    server.handle.set_policies(policies(Policy::FakeTdx(rules)));
    assert_eq!(rest(&mut streams[0]).await, b"");
    server
        .until("the expulsion", |c| c.expelled == 1 && c.active == 0)
        .await;
    ping(&mut streams[1], b"another policy").await;
    // New ones are judged by the new policies.
    let (mut late, _) = server.peer(&fake()).await;
    assert_eq!(rest(&mut late).await, b"");
    server.until("the refusal", |c| c.refused_peers == 1).await;
    // A policy that is gone takes its connections with it.
    server.handle.set_policies(Default::default());
    assert_eq!(rest(&mut streams[1]).await, b"");
}

/// Row by row of 5.1: where the three types listen, whatever is configured for strangers.
#[tokio::test]
async fn applications_ports_are_on_loopback() {
    let router = start(options(|o| {
        o.listen = Some([0, 0, 0, 0].into());
        o.socks5 = vec!["0@any".into()];
        o.forward = vec!["0:127.0.0.1:9@any".into()];
        o.reverse = vec!["0:127.0.0.1:9@any".into()];
    }))
    .await;
    let mut listens: Vec<(&str, String)> = router
        .handle
        .ports()
        .iter()
        .map(|port| (port.kind, port.listen.ip().to_string()))
        .collect();
    listens.sort();
    assert_eq!(
        listens,
        [
            ("forward", "127.0.0.1".to_owned()),
            ("reverse", "0.0.0.0".to_owned()),
            ("socks5", "127.0.0.1".to_owned())
        ]
    );
}

/// A forward port speaks no SOCKS: its first bytes are the peer's.
#[tokio::test]
async fn a_forward_port_adds_and_takes_no_byte() {
    let backend = echo(false).await;
    let server = reverse(backend.address, "any", |_| {}).await;
    let near = forward(server.address(), "any", |_| {}).await;
    let mut app = near.tcp().await;
    ping(&mut app, &[5, 1, 0]).await;
    ping(&mut app, &[0x91, 0x12, 0x8e, 0x41]).await;
}

/// Every cause of a failure looks alike to the application: the greeting is answered, then the connection closes.
#[tokio::test]
async fn no_cause_of_a_failure_has_a_socks5_reply() {
    let (silent, _listener) = open_backend().await;
    let free = open_backend().await.0;
    let plain_server = reverse(silent, "any", |o| {
        o.cert_mode = Some(CertificateMode::None);
    })
    .await;
    let hard = reverse(silent, "any", |o| o.pow_difficulty = Some(30)).await;
    let near = socks5("fake_tdx", |_| {}).await;
    let request = |kind: &[u8], port: u16| [&[5, 1, 0][..], kind, &port.to_be_bytes()].concat();
    let local = &[1, 127, 0, 0, 1];
    for (cause, bytes) in [
        ("nobody listens", request(local, free.port())),
        (
            "no certificate with a quote",
            request(local, plain_server.address().port()),
        ),
        ("too much work", request(local, hard.address().port())),
        ("an unknown name", request(b"\x03\x0fnowhere.invalid", 80)),
        ("another command", vec![5, 2, 0, 1, 127, 0, 0, 1, 0, 80]),
        (
            "another type of address",
            vec![5, 1, 0, 2, 127, 0, 0, 1, 0, 80],
        ),
    ] {
        let mut app = near.tcp().await;
        dialogue(&mut app, &[&[5, 1, 0]], &[&[5, 0]]).await;
        app.write_all(&bytes).await.unwrap();
        assert_eq!(rest(&mut app).await, b"", "{cause}");
    }
    let all = |c: &cocoon_router::metrics::Snapshot| {
        c.failed_dial + c.refused_peers + c.failed_proof_of_work + c.failed_dialogue
    };
    let counts = near.until("six failures", |c| all(c) == 6).await;
    assert_eq!(
        (
            counts.failed_dial,
            counts.refused_peers,
            counts.failed_proof_of_work
        ),
        (2, 1, 1)
    );
    assert_eq!((counts.failed_dialogue, counts.established), (2, 0));
}
