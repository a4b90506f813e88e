//! Many connections at once: limits hold, and good peers get through.

use std::time::Duration;

use cocoon_attest::pow;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::scene::*;

/// Two hundred peers that rest are two hundred connections that live, until the router ends them all.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_idle_connections() {
    let backend = echo(true).await;
    let server = reverse(backend.address, "any", |o| {
        o.serialize_info = true;
        o.pow_difficulty = Some(0);
        o.limits.setups_per_address = 8;
    })
    .await;
    let identity = plain();
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(server.peer(&identity).await.0);
    }
    server.until("200 connections", |c| c.active == 200).await;
    for stream in streams.iter_mut().step_by(20) {
        ping(stream, b"still there").await;
    }
    server.handle.stop(Duration::ZERO);
    for stream in &mut streams {
        assert_eq!(rest(stream).await, b"");
    }
    let counts = server.until("the end", |c| c.active == 0).await;
    assert_eq!((counts.stopped, counts.established), (200, 200));
    assert_eq!((counts.setting_up, counts.setups_evicted), (0, 0));
}

/// Strangers who take a challenge and never answer fill the table of set-ups, and push out one another.
#[tokio::test]
async fn endless_set_ups_make_room_for_good_peers() {
    let backend = echo(false).await;
    let server = reverse(backend.address, "any", |o| {
        o.limits.setups = 16;
        o.limits.setups_per_address = 1_000;
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = server.tcp().await;
        let mut challenge = [0; pow::CHALLENGE_LEN];
        stream.read_exact(&mut challenge).await.unwrap();
        silent.push(stream);
    }
    let (mut good, _) = server.peer_of().await;
    ping(&mut good, b"good").await;
    let counts = server.until("evictions", |c| c.setups_evicted >= 184).await;
    assert!(counts.setting_up <= 16, "{counts:?}");
    // The oldest are gone, the youngest still wait for their answer.
    assert_eq!(rest(&mut silent[0]).await, b"");
}

#[tokio::test]
async fn one_address_gets_its_share_only() {
    let backend = echo(false).await;
    let server = reverse(backend.address, "any", |o| {
        o.limits.setups_per_address = 3;
        o.limits.connections_per_address = 2;
    })
    .await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut stream = server.tcp().await;
        stream.read_u8().await.unwrap();
        waiting.push(stream);
    }
    assert_eq!(
        rest(&mut server.tcp().await).await,
        b"",
        "the fourth is closed at once"
    );
    server.until("the refusal", |c| c.refused_full == 1).await;
    drop(waiting);
    server.until("room", |c| c.setting_up == 0).await;
    let (mut first, _) = server.peer_of().await;
    let (mut second, _) = server.peer_of().await;
    ping(&mut first, b"first").await;
    ping(&mut second, b"second").await;
    assert_eq!(rest(&mut server.tcp().await).await, b"");
    server.until("the refusal", |c| c.refused_full == 2).await;
    drop(first);
    server.until("room", |c| c.active == 1).await;
    let (mut third, _) = server.peer_of().await;
    ping(&mut third, b"third").await;
}

#[tokio::test]
async fn all_connections_together_have_a_limit() {
    let backend = echo(false).await;
    let server = reverse(backend.address, "any", |_| {}).await;
    let near = forward(server.address(), "any", |o| o.limits.connections = 1).await;
    let mut first = near.tcp().await;
    ping(&mut first, b"first").await;
    assert_eq!(rest(&mut near.tcp().await).await, b"");
    near.until("the refusal", |c| c.refused_full == 1).await;
    first.shutdown().await.unwrap();
    near.until("room", |c| c.active == 0).await;
    ping(&mut near.tcp().await, b"second").await;
}
