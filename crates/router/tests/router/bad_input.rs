//! Strangers and mistaken applications: a close, a counter, and the next connection works.

use std::time::Duration;

use cocoon_attest::pow;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scene::*;

async fn challenge(stream: &mut TcpStream) -> pow::Challenge {
    let mut bytes = [0; pow::CHALLENGE_LEN];
    stream.read_exact(&mut bytes).await.unwrap();
    pow::Challenge::from_bytes(&bytes).unwrap()
}

#[tokio::test]
async fn wrong_work_and_no_work_at_all() {
    let mut backend = echo(false).await;
    let server = reverse(backend.address, "any", |o| o.pow_difficulty = Some(10)).await;
    let mut stream = server.tcp().await;
    let asked = challenge(&mut stream).await;
    assert_eq!(asked.difficulty, 10);
    let wrong = (0..).find(|nonce| asked.verify(*nonce).is_err()).unwrap();
    stream
        .write_all(&pow::response_to_bytes(wrong))
        .await
        .unwrap();
    assert_eq!(rest(&mut stream).await, b"", "a refusal has no words");
    // Plain HTTP and plain TLS to the port of the network.
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0],
    ] {
        let mut stream = server.tcp().await;
        let _ = challenge(&mut stream).await;
        stream.write_all(bytes).await.unwrap();
        assert_eq!(rest(&mut stream).await, b"");
    }
    // Half a response and a goodbye.
    let mut stream = server.tcp().await;
    let _ = challenge(&mut stream).await;
    stream.write_all(&[0x19, 0x73, 0x82]).await.unwrap();
    drop(stream);
    server
        .until("four failures", |c| c.failed_proof_of_work == 4)
        .await;
    let (mut good, _) = server.peer_of().await;
    ping(&mut good, b"good").await;
    backend.connections.recv().await.unwrap();
    assert!(backend.connections.try_recv().is_err());
}

#[tokio::test]
async fn plain_text_after_right_work() {
    let mut backend = echo(false).await;
    let server = reverse(backend.address, "any", |_| {}).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0; 64],
        &[0xff; 64],
    ] {
        let mut stream = server.tcp().await;
        let nonce = challenge(&mut stream).await.solve(28, || false).unwrap();
        stream
            .write_all(&pow::response_to_bytes(nonce))
            .await
            .unwrap();
        stream.write_all(bytes).await.unwrap();
        let answer = rest(&mut stream).await;
        // At most a TLS alert.
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:02x?}");
    }
    server.until("the failures", |c| c.failed_tls == 3).await;
    assert!(backend.connections.try_recv().is_err());
}

#[tokio::test]
async fn a_target_that_is_no_cocoon_server() {
    let (address, listener) = open_backend().await;
    let near = forward(address, "any", |_| {}).await;
    for greeting in [&b"SSH-2.0-OpenSSH_9.7\r\nand more words"[..], &[0; 24]] {
        let (mut app, accepted) = tokio::join!(near.tcp(), listener.accept());
        let mut server = accepted.unwrap().0;
        server.write_all(greeting).await.unwrap();
        assert_eq!(rest(&mut app).await, b"");
        assert_eq!(
            rest(&mut server).await,
            b"",
            "nothing is said to a stranger"
        );
    }
    // More work than this router does.
    let (mut app, accepted) = tokio::join!(near.tcp(), listener.accept());
    let mut server = accepted.unwrap().0;
    let hard = pow::Challenge::random(29).unwrap();
    server.write_all(&hard.to_bytes()).await.unwrap();
    assert_eq!(rest(&mut app).await, b"");
    near.until("the failures", |c| c.failed_proof_of_work == 3)
        .await;
}

#[tokio::test]
async fn socks5_that_is_wrong_or_cut_short() {
    let near = socks5("any", |_| {}).await;
    let mut long_name = vec![5, 1, 0, 5, 1, 0, 3, 255];
    long_name.extend([b'a'; 255]);
    long_name.extend([0, 80]);
    let wrong: [&[u8]; 12] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[4, 1, 0, 80, 127, 0, 0, 1, 0],
        &[5, 0],
        &[5, 1, 2],
        &[5, 2, 1, 0x80],
        &[5, 1, 0, 5, 2, 0, 1, 127, 0, 0, 1, 0, 80],
        &[5, 1, 0, 5, 3, 0, 1, 127, 0, 0, 1, 0, 80],
        &[5, 1, 0, 5, 1, 0, 9, 127, 0, 0, 1, 0, 80],
        &[5, 1, 0, 4, 1, 0, 1, 127, 0, 0, 1, 0, 80],
        &[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 0],
        &[5, 1, 0, 5, 1, 0, 3, 0, 0, 80],
        &long_name,
    ];
    for bytes in wrong {
        let mut app = near.tcp().await;
        app.write_all(bytes).await.unwrap();
        let answer = rest(&mut app).await;
        assert!(
            answer.is_empty() || answer == [5, 0],
            "{bytes:02x?}: {answer:02x?}"
        );
    }
    near.until("the failures", |c| c.failed_dialogue == 12)
        .await;
    let whole = [5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 80];
    for length in 0..whole.len() {
        let mut app = near.tcp().await;
        app.write_all(&whole[..length]).await.unwrap();
        app.shutdown().await.unwrap();
        let _ = rest(&mut app).await;
    }
    near.until("the cuts", |c| c.abandoned == 13 && c.setting_up == 0)
        .await;
}

#[tokio::test]
async fn a_dialogue_that_trickles_has_an_end() {
    let near = socks5("any", |o| {
        o.limits.dialogue = Duration::from_millis(200);
    })
    .await;
    let mut app = near.tcp().await;
    for byte in [5, 200] {
        app.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(rest(&mut app).await, b"");
    near.until("the end", |c| c.failed_dialogue == 1).await;
}
