//! Connections through a router, with a small stand-in for one: SOCKS5 on the dialler's side, frames on both.

use cocoon_attest::Measurements;
use cocoon_attest::frame::{self, Endpoint};
use cocoon_attest::measurements::{SgxMeasurements, TdxMeasurements};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn peer(key: u8, fake: bool) -> frame::PeerInfo {
    let mut tdx = TdxMeasurements::fake([key; 64]);
    if !fake {
        tdx.mr_td = [key; 48];
    }
    frame::PeerInfo {
        attestation: Some(Measurements::Tdx(Box::new(tdx))),
        collateral_root_hash: [0; 48],
        public_key: [key; 32],
        source: Endpoint::unset(),
        destination: Endpoint::unset(),
    }
}

fn door(allow_fake: bool) -> Door {
    Door::Router {
        allow_fake,
        user: None,
    }
}

/// What the stand-in tells the two sides of each other.
#[derive(Clone)]
struct Story {
    server: frame::PeerInfo,
    client: frame::PeerInfo,
}

/// A router of two ends at once: takes SOCKS5, dials the target plainly, and vouches for both. Returns its port.
async fn router(story: Story) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, story.clone()));
        }
    });
    port
}

async fn serve(mut stream: TcpStream, story: Story) -> std::io::Result<()> {
    let mut greeting = [0; 3];
    stream.read_exact(&mut greeting).await?;
    assert_eq!(greeting, [5, 1, 0]);
    stream.write_all(&[5, 0]).await?;
    let mut request = [0; 10];
    stream.read_exact(&mut request).await?;
    let [5, 1, _, 1, a, b, c, d, hi, lo] = request else {
        panic!("{request:?}");
    };
    let port = u16::from_be_bytes([hi, lo]);
    let mut target = TcpStream::connect(((std::net::Ipv4Addr::new(a, b, c, d)), port)).await?;
    frame::write_frame(&mut target, &story.client)
        .await
        .unwrap();
    stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1]).await?;
    frame::write_frame(&mut stream, &story.server)
        .await
        .unwrap();
    copy_bidirectional(&mut stream, &mut target).await?;
    Ok(())
}

async fn next(queue: &mut mpsc::Receiver<Tagged>) -> LinkEvent {
    let wait = tokio::time::timeout(Duration::from_secs(20), queue.recv());
    wait.await.unwrap().unwrap().1
}

struct Pair {
    dialler: (Peers, mpsc::Receiver<Tagged>),
    acceptor: (Peers, mpsc::Receiver<Tagged>),
    _targets: watch::Sender<Vec<SocketAddr>>,
}

/// A dialler behind the router of a story, and an acceptor behind it.
async fn pair(story: Story, allow_fake: bool) -> Pair {
    let port = router(story).await;
    let (dialler, acceptor) = (Peers::new(), Peers::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::Router {
        allow_fake,
        user: None,
    };
    tokio::spawn(acceptor.0.clone().listen(
        listener,
        ListenConfig {
            port: 7,
            door,
            claims: None,
        },
    ));
    let (targets, receiver) = watch::channel(vec![address]);
    let way = Way::Router {
        router: format!("127.0.0.1:{port}"),
        allow_fake,
        user: None,
    };
    let dial = DialConfig {
        port: 3,
        way,
        claims: None,
        connections: 1,
    };
    tokio::spawn(dialler.0.clone().dial(receiver, dial));
    Pair {
        dialler,
        acceptor,
        _targets: targets,
    }
}

#[tokio::test]
async fn links_through_routers_carry_what_the_frames_say() {
    let story = Story {
        server: peer(2, true),
        client: peer(1, true),
    };
    let mut p = pair(story.clone(), true).await;
    let (LinkEvent::Up { link, peer: server }, LinkEvent::Up { peer: client, .. }) =
        (next(&mut p.dialler.1).await, next(&mut p.acceptor.1).await)
    else {
        panic!("no links");
    };
    assert_eq!(
        (server.public_key, server.image_hash),
        ([2; 32], story.server.image_hash())
    );
    assert_eq!((client.public_key, client.fake), ([1; 32], true));
    p.dialler.0.apply(LinkEffect::Send {
        link,
        data: b"data".to_vec(),
    });
    let LinkEvent::Packet { data, .. } = next(&mut p.acceptor.1).await else {
        panic!("no packet");
    };
    assert_eq!(data, b"data");
}

#[tokio::test]
async fn fake_evidence_in_a_frame_is_refused_outside_test_networks() {
    let mut tcp = loopback().await;
    let way = door(false);
    frame::write_frame(&mut tcp.0, &peer(1, true))
        .await
        .unwrap();
    let error = way.open(tcp.1, None).await.err().unwrap();
    assert!(matches!(error, DoorError::Fake), "{error}");
    let mut tcp = loopback().await;
    frame::write_frame(&mut tcp.0, &peer(1, false))
        .await
        .unwrap();
    let (_, info) = way.open(tcp.1, None).await.ok().unwrap();
    assert!(!info.fake && info.image_hash == peer(1, false).image_hash());
}

#[tokio::test]
async fn frames_without_evidence_and_of_other_kinds() {
    let mut none = peer(1, true);
    none.attestation = None;
    let mut sgx = peer(1, true);
    sgx.attestation = Some(Measurements::Sgx(SgxMeasurements {
        mr_enclave: [3; 32],
        report_data: [4; 64],
    }));
    for (info, hash) in [(&none, [0; 32]), (&sgx, sgx.image_hash())] {
        let mut tcp = loopback().await;
        frame::write_frame(&mut tcp.0, info).await.unwrap();
        let door = door(false);
        let (_, peer) = door.open(tcp.1, None).await.ok().unwrap();
        assert_eq!((peer.image_hash, peer.fake), (hash, false));
    }
}

#[tokio::test]
async fn a_router_without_frames_or_without_target_is_a_clear_error() {
    // A peer that skips the router and speaks the protocol at once: its first frame is no frame of a router.
    let mut tcp = loopback().await;
    tcp.0.write_all(&[0xff; 64]).await.unwrap();
    let error = door(true).open(tcp.1, None).await.err().unwrap();
    assert!(
        error
            .to_string()
            .contains("does the router send peer information?"),
        "{error}"
    );

    let story = Story {
        server: peer(2, true),
        client: peer(1, true),
    };
    let port = router(story).await;
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let way = |router: String| Way::Router {
        router,
        allow_fake: true,
        user: None,
    };
    let through = way(format!("127.0.0.1:{port}"));
    let error = through.go(free, None).await.err().unwrap();
    assert!(
        error.to_string().contains("closed the connection"),
        "{error}"
    );
    let error = through
        .go("[::1]:9".parse().unwrap(), None)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, DoorError::NotIpv4(_)), "{error}");
    let error = way(free.to_string()).go(free, None).await.err().unwrap();
    assert!(matches!(error, DoorError::Connect { .. }), "{error}");
}

async fn loopback() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    (dialled, listener.accept().await.unwrap().0)
}
