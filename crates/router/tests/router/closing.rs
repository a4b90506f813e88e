//! How connections end: exactly as the reference ends them where somebody can see it, and without losing bytes.

use std::time::Duration;

use cocoon_attest::pow;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scene::*;

#[tokio::test]
async fn an_end_of_the_application_is_a_proper_end_for_the_peer() {
    let (address, listener) = open_backend().await;
    let server = reverse(address, "any", |_| {}).await;
    let ((mut peer, _), accepted) = tokio::join!(server.peer_of(), listener.accept());
    let mut app = accepted.unwrap().0;
    app.write_all(b"last words").await.unwrap();
    drop(app);
    assert_eq!(rest(&mut peer).await, b"last words");
    assert!(!peer.truncated(), "no close_notify came");
    server
        .until("the end", |c| c.ended_by_application == 1 && c.active == 0)
        .await;
}

/// The reference closes without a close_notify; that is an end like any other, and it is counted.
#[tokio::test]
async fn an_abrupt_end_of_the_peer_ends_the_application_too() {
    let (address, listener) = open_backend().await;
    let server = reverse(address, "any", |_| {}).await;
    let ((mut peer, _), accepted) = tokio::join!(server.peer_of(), listener.accept());
    let mut app = accepted.unwrap().0;
    peer.write_all(b"last words").await.unwrap();
    peer.flush().await.unwrap();
    drop(peer);
    assert_eq!(rest(&mut app).await, b"last words");
    let counts = server.until("the end", |c| c.active == 0).await;
    assert_eq!((counts.ended_by_peer, counts.truncated), (1, 1));
}

/// No half close: the end of one direction ends both at once, without waiting for the other side.
#[tokio::test]
async fn a_half_close_ends_both_directions() {
    let (address, listener) = open_backend().await;
    let server = reverse(address, "any", |_| {}).await;
    let near = forward(server.address(), "any", |_| {}).await;
    let (mut app, accepted) = tokio::join!(near.tcp(), listener.accept());
    let mut backend = accepted.unwrap().0;
    ping_pong(&mut app, &mut backend).await;
    app.write_all(b"question").await.unwrap();
    app.shutdown().await.unwrap();
    assert_eq!(rest(&mut backend).await, b"question");
    // The backend still holds its side open, and the application is released all the same.
    assert_eq!(rest(&mut app).await, b"");
    near.until("the end", |c| c.active == 0 && c.ended_by_application == 1)
        .await;
    server
        .until("the end", |c| c.active == 0 && c.ended_by_peer == 1)
        .await;
}

/// A close with unread bytes in the other direction would be a reset, which destroys what is under way.
#[tokio::test]
async fn a_whole_answer_arrives_although_the_question_never_ends() {
    const ANSWER: usize = 3_000_000;
    let (address, listener) = open_backend().await;
    let server = reverse(address, "any", |_| {}).await;
    let near = forward(server.address(), "any", |_| {}).await;
    let (app, accepted) = tokio::join!(near.tcp(), listener.accept());
    let mut backend = accepted.unwrap().0;
    let (mut read, mut write) = app.into_split();
    let talker = tokio::spawn(async move {
        while write.write_all(&[7; 1_000]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut some = [0; 1_000];
    backend.read_exact(&mut some).await.unwrap();
    backend.write_all(&vec![9; ANSWER]).await.unwrap();
    backend.shutdown().await.unwrap();
    let got = rest(&mut read).await;
    assert_eq!(got.len(), ANSWER);
    assert!(got.iter().all(|byte| *byte == 9));
    talker.abort();
    near.until("the end", |c| c.active == 0).await;
}

#[tokio::test]
async fn nothing_moves_for_too_long() {
    let backend = echo(false).await;
    let server = reverse(backend.address, "any", |o| {
        o.limits.idle = Some(Duration::from_millis(300));
    })
    .await;
    let (mut peer, _) = server.peer_of().await;
    for _ in 0..4 {
        ping(&mut peer, b"alive").await;
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    assert_eq!(rest(&mut peer).await, b"");
    let counts = server.until("the end", |c| c.active == 0).await;
    assert_eq!(counts.closed_idle, 1);
}

#[tokio::test]
async fn stopping_drains() {
    let backend = echo(false).await;
    let server = reverse(backend.address, "any", |_| {}).await;
    let (mut living, _) = server.peer_of().await;
    ping(&mut living, b"before").await;
    let mut half_way = server.tcp().await;
    let mut challenge = [0; pow::CHALLENGE_LEN];
    half_way.read_exact(&mut challenge).await.unwrap();
    server.handle.stop(Duration::from_secs(3_600));
    assert_eq!(
        rest(&mut half_way).await,
        b"",
        "a set-up does not keep the router"
    );
    server
        .until("the end of set-ups", |c| c.setting_up == 0)
        .await;
    ping(&mut living, b"while draining").await;
    let refused = async { while TcpStream::connect(server.address()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("the port is still open");
    // The second order is stricter.
    server.handle.stop(Duration::ZERO);
    assert_eq!(rest(&mut living).await, b"");
    assert!(!living.truncated());
    tokio::time::timeout(PATIENCE, server.task)
        .await
        .expect("the router does not end")
        .unwrap();
    assert_eq!(server.handle.counters()[0].1.stopped, 1);
}

#[tokio::test]
async fn stopping_ends_with_the_last_connection() {
    let backend = echo(false).await;
    let server = reverse(backend.address, "any", |_| {}).await;
    let (mut living, _) = server.peer_of().await;
    ping(&mut living, b"before").await;
    server.handle.stop(Duration::from_secs(3_600));
    living.shutdown().await.unwrap();
    drop(living);
    tokio::time::timeout(PATIENCE, server.task)
        .await
        .expect("the router does not end")
        .unwrap();
}

/// Nobody searches a proof of work for an application that is gone.
#[tokio::test]
async fn an_application_that_leaves_is_noticed_while_its_peer_is_being_connected() {
    let (address, listener) = open_backend().await;
    let near = forward(address, "any", |_| {}).await;
    let (app, accepted) = tokio::join!(near.tcp(), listener.accept());
    let mut server = accepted.unwrap().0;
    // A challenge of 28 bits keeps a core busy for minutes.
    let challenge = pow::Challenge::random(28).unwrap();
    server.write_all(&challenge.to_bytes()).await.unwrap();
    drop(app);
    assert_eq!(rest(&mut server).await, b"");
    near.until("the end", |c| c.abandoned == 1 && c.setting_up == 0)
        .await;
}

async fn ping_pong(app: &mut TcpStream, backend: &mut TcpStream) {
    app.write_all(b"a").await.unwrap();
    assert_eq!(backend.read_u8().await.unwrap(), b'a');
    backend.write_all(b"b").await.unwrap();
    assert_eq!(app.read_u8().await.unwrap(), b'b');
}
