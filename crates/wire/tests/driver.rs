//! The tokio driver over in-memory streams with paused time.

use std::time::Duration;

use cocoon_tl::{from_boxed, to_boxed};
use cocoon_wire::driver::{ConnConfig, PeerEvent, PeerHandle, Role, spawn};
use cocoon_wire::frame::{Decoder, header};
use cocoon_wire::msg::{client, tcp};
use cocoon_wire::{QueryFailure, SendError, codes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep};

type Peer = (PeerHandle, Receiver<PeerEvent>);

async fn pair_with(buffer: usize, acceptor: ConnConfig) -> (Peer, Peer) {
    let (left, right) = duplex(buffer);
    let mut dialler = spawn(left, Role::Dialler, ConnConfig::default());
    let mut acceptor = spawn(right, Role::Acceptor, acceptor);
    assert_eq!(dialler.1.recv().await, Some(PeerEvent::Ready));
    assert_eq!(acceptor.1.recv().await, Some(PeerEvent::Ready));
    (dialler, acceptor)
}

async fn pair() -> (Peer, Peer) {
    pair_with(64 * 1024, ConnConfig::default()).await
}

fn closed(reason: &str) -> Option<PeerEvent> {
    Some(PeerEvent::Closed {
        reason: reason.into(),
    })
}

const LONG: Duration = Duration::from_secs(1000);

#[tokio::test(start_paused = true)]
async fn queries_are_answered_in_any_order() {
    let ((dialler, _d), (acceptor, mut events)) = pair().await;
    let first = dialler.query(to_boxed(&client::GetWorkerTypes {}), LONG);
    let second = dialler.query(to_boxed(&client::UpdatePaymentStatus {}), LONG);
    let mut ids = Vec::new();
    for _ in 0..2 {
        match events.recv().await {
            Some(PeerEvent::Query { id, data }) => ids.push((id, data)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ids[1].1, to_boxed(&client::UpdatePaymentStatus {}));
    acceptor.answer(ids[1].0, Ok(b"second".to_vec()));
    acceptor.answer(ids[0].0, Err((codes::ERROR, "refused".into())));
    assert_eq!(second.await, Ok(b"second".to_vec()));
    let failure = first.await.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the peer answered with error 602: refused"
    );
    // The acceptor may ask as well, and packets keep their order.
    let asked = acceptor.query(vec![1; 4], Duration::from_secs(2));
    assert_eq!(asked.await, Err(QueryFailure::Timeout));
    for i in 0..100 {
        dialler.send_packet(vec![i; 4]).unwrap();
    }
    for i in 0..100 {
        assert_eq!(events.recv().await, Some(PeerEvent::Packet(vec![i; 4])));
    }
}

#[tokio::test(start_paused = true)]
async fn keepalive_holds_an_idle_connection() {
    let ((dialler, mut d), (acceptor, mut a)) = pair().await;
    sleep(Duration::from_secs(600)).await;
    assert!(!dialler.is_closed() && !acceptor.is_closed());
    dialler.close("done");
    assert_eq!(d.recv().await, closed("done"));
    assert_eq!(d.recv().await, None);
    assert_eq!(a.recv().await, closed("the peer closed the connection"));
    assert!(acceptor.is_closed());
    assert!(matches!(dialler.send_packet(vec![]), Err(SendError::Closed(why)) if why == "done"));
}

#[tokio::test(start_paused = true)]
async fn silent_peers_are_dropped() {
    let start = Instant::now();
    let (left, _silent) = duplex(4096);
    let (dialler, mut events) = spawn(left, Role::Dialler, ConnConfig::default());
    let query = dialler.query(vec![0; 4], LONG);
    assert_eq!(query.await, Err(QueryFailure::Closed));
    assert_eq!(events.recv().await, closed("nothing was received for 20 s"));
    assert_eq!(start.elapsed().as_secs(), 20);
    let (left, _silent) = duplex(4096);
    let (_acceptor, mut events) = spawn(left, Role::Acceptor, ConnConfig::default());
    assert_eq!(events.recv().await, closed("nothing was received for 60 s"));
    assert_eq!(start.elapsed().as_secs(), 80);
}

/// A peer made by hand.
struct Raw {
    stream: DuplexStream,
    decoder: Decoder,
    seqno: i32,
}

impl Raw {
    fn new(stream: DuplexStream) -> Self {
        Raw {
            stream,
            decoder: Decoder::new(),
            seqno: 0,
        }
    }

    async fn send(&mut self, payload: impl Into<tcp::Payload>) {
        let payload = to_boxed(&payload.into());
        let head = header(payload.len() as u32, self.seqno);
        self.seqno += 1;
        self.stream.write_all(&head).await.unwrap();
        self.stream.write_all(&payload).await.unwrap();
    }

    async fn receive(&mut self) -> Option<tcp::Payload> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(from_boxed(frame.payload).unwrap());
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await.unwrap() {
                0 => return None,
                count => self.decoder.extend(&chunk[..count]),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pings_come_every_ten_seconds_and_are_answered() {
    let (left, right) = duplex(4096);
    let (_dialler, _events) = spawn(left, Role::Dialler, ConnConfig::default());
    let mut raw = Raw::new(right);
    let Some(tcp::Payload::Connect(connect)) = raw.receive().await else {
        panic!("no handshake");
    };
    raw.send(tcp::Connected { id: connect.id }).await;
    let start = Instant::now();
    for round in 1..5 {
        let Some(tcp::Payload::Ping(ping)) = raw.receive().await else {
            panic!("no ping");
        };
        assert_eq!(start.elapsed().as_secs(), 10 * round);
        raw.send(tcp::Pong { id: ping.id }).await;
    }

    let (left, right) = duplex(4096);
    let (_acceptor, _events) = spawn(left, Role::Acceptor, ConnConfig::default());
    let mut raw = Raw::new(right);
    raw.send(tcp::Connect { id: 4 }).await;
    raw.send(tcp::Ping { id: 5 }).await;
    assert_eq!(raw.receive().await, Some(tcp::Connected { id: 4 }.into()));
    assert_eq!(raw.receive().await, Some(tcp::Pong { id: 5 }.into()));
}

#[tokio::test(start_paused = true)]
async fn violations_and_last_words_reach_the_consumer() {
    let (left, right) = duplex(4096);
    let (acceptor, mut events) = spawn(left, Role::Acceptor, ConnConfig::default());
    let mut raw = Raw::new(right);
    raw.send(tcp::Connect { id: 4 }).await;
    assert_eq!(raw.receive().await, Some(tcp::Connected { id: 4 }.into()));
    raw.send(tcp::Packet { data: vec![8; 4] }).await;
    raw.seqno = 40;
    raw.send(tcp::Packet { data: vec![9; 4] }).await;
    assert_eq!(events.recv().await, Some(PeerEvent::Ready));
    assert_eq!(events.recv().await, Some(PeerEvent::Packet(vec![8; 4])));
    let reason = "protocol violation by the peer: frame number 40, expected 2";
    assert_eq!(events.recv().await, closed(reason));
    assert_eq!(acceptor.close_reason().unwrap().to_string(), reason);
    assert_eq!(raw.receive().await, None);
}

#[tokio::test(start_paused = true)]
async fn an_error_answer_is_flushed_before_closing() {
    let ((dialler, mut d), (acceptor, mut a)) = pair().await;
    let query = dialler.query(vec![0; 4], LONG);
    let Some(PeerEvent::Query { id, .. }) = a.recv().await else {
        panic!("no query");
    };
    acceptor.answer(id, Err((codes::PROTOVIOLATION, "bad".into())));
    acceptor.close_after_flush("handshake refused");
    let failure = query.await;
    assert!(matches!(
        failure,
        Err(QueryFailure::Remote { code: 621, .. })
    ));
    assert_eq!(a.recv().await, closed("handshake refused"));
    assert_eq!(d.recv().await, closed("the peer closed the connection"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_stops_the_sender_and_loses_nothing() {
    let config = ConnConfig {
        event_queue: 4,
        max_inbound: 100_000,
        ..ConnConfig::default()
    };
    let ((dialler, _d), (_acceptor, mut events)) = pair_with(1024, config).await;
    // 200 messages of 50,000 bytes: two fit into the queue, the rest waits at the sender.
    for i in 0..200 {
        dialler.send_packet(vec![i; 50_000]).unwrap();
    }
    sleep(Duration::from_secs(5)).await;
    assert!(dialler.outbound() > 190 * 50_000, "{}", dialler.outbound());
    assert_eq!(events.len(), 2);
    for i in 0..200 {
        assert_eq!(
            events.recv().await,
            Some(PeerEvent::Packet(vec![i; 50_000]))
        );
    }
    assert_eq!(dialler.outbound(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_pauses_does_not_blame_the_peer() {
    let config = ConnConfig {
        event_queue: 2,
        ..ConnConfig::default()
    };
    let (left, right) = duplex(1024);
    let (acceptor, mut events) = spawn(left, Role::Acceptor, config);
    let mut raw = Raw::new(right);
    raw.send(tcp::Connect { id: 4 }).await;
    for i in 0..10 {
        raw.send(tcp::Packet { data: vec![i; 4] }).await;
    }
    sleep(Duration::from_secs(300)).await;
    assert!(!acceptor.is_closed());
    assert_eq!(events.recv().await, Some(PeerEvent::Ready));
    for i in 0..10 {
        assert_eq!(events.recv().await, Some(PeerEvent::Packet(vec![i; 4])));
    }
    assert_eq!(events.recv().await, closed("nothing was received for 60 s"));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_dropped() {
    let (left, right) = duplex(1024);
    let config = ConnConfig {
        max_outbound: 100_000,
        ..ConnConfig::default()
    };
    let (acceptor, mut events) = spawn(left, Role::Acceptor, config);
    let mut raw = Raw::new(right);
    raw.send(tcp::Connect { id: 4 }).await;
    assert_eq!(events.recv().await, Some(PeerEvent::Ready));
    let mut sent = 0;
    while acceptor.send_packet(vec![0; 1000]).is_ok() {
        sent += 1;
        sleep(Duration::from_millis(1)).await;
    }
    assert!((95..105).contains(&sent), "{sent}");
    let reason = "the peer reads too slowly: more than 100000 bytes wait to be sent";
    assert_eq!(events.recv().await, closed(reason));
}

#[tokio::test(start_paused = true)]
async fn oversize_is_an_error_for_the_sender_only() {
    let ((dialler, _d), (_acceptor, mut events)) = pair().await;
    let huge = vec![0; 1 << 24];
    assert!(matches!(
        dialler.send_packet(huge.clone()),
        Err(SendError::TooLarge { .. })
    ));
    let query = dialler.query(huge, LONG).await;
    assert!(matches!(query, Err(QueryFailure::TooLarge { .. })));
    dialler.send_packet(vec![0; (1 << 24) - 8]).unwrap();
    assert!(
        matches!(events.recv().await, Some(PeerEvent::Packet(data)) if data.len() == (1 << 24) - 8)
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_a_query_forgets_it_and_dropping_the_receiver_closes() {
    let ((dialler, mut d), (acceptor, mut a)) = pair().await;
    let query = dialler.query(vec![0; 4], LONG);
    let Some(PeerEvent::Query { id, .. }) = a.recv().await else {
        panic!("no query");
    };
    drop(query);
    acceptor.answer(id, Ok(vec![0; 4]));
    acceptor.send_packet(vec![7; 4]).unwrap();
    assert_eq!(d.recv().await, Some(PeerEvent::Packet(vec![7; 4])));
    drop(a);
    assert_eq!(d.recv().await, closed("the peer closed the connection"));
    sleep(Duration::from_millis(1)).await;
    assert!(acceptor.is_closed());
}

#[tokio::test(start_paused = true)]
async fn writes_are_coalesced_and_flushed() {
    let (left, right) = duplex(1 << 20);
    let inner = tokio::io::BufWriter::with_capacity(1 << 16, left);
    let (dialler, _events) = spawn(inner, Role::Dialler, ConnConfig::default());
    let mut raw = Raw::new(right);
    assert!(matches!(
        raw.receive().await,
        Some(tcp::Payload::Connect(_))
    ));
    raw.send(tcp::Connected { id: 0 }).await;
    for i in 0..50 {
        dialler.send_packet(vec![i; 4]).unwrap();
    }
    // Without a flush nothing would come out of the buffered writer; the ping comes only after 10 s.
    let start = Instant::now();
    for i in 0..50 {
        let packet = tcp::Packet { data: vec![i; 4] };
        assert_eq!(raw.receive().await, Some(packet.into()));
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// Both sides ask and answer at once over a narrow stream, on real threads: no wake-up may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn busy_connections_in_both_directions() {
    const ASKERS: u64 = 8;
    const QUERIES: u64 = 200;
    let (left, right) = duplex(777);
    let mut sides = Vec::new();
    for (stream, role) in [(left, Role::Dialler), (right, Role::Acceptor)] {
        let config = ConnConfig {
            event_queue: 3,
            ..ConnConfig::default()
        };
        let (handle, mut events) = spawn(stream, role, config);
        let answerer = handle.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let PeerEvent::Query { id, data } = event {
                    answerer.answer(id, Ok(data.iter().rev().copied().collect()));
                }
            }
        });
        sides.push(handle);
    }
    let mut askers = Vec::new();
    for asker in 0..2 * ASKERS {
        let handle = sides[asker as usize % 2].clone();
        askers.push(tokio::spawn(async move {
            for i in 0..QUERIES {
                let len = (asker * 131 + i * 37) % 3000;
                let data: Vec<u8> = (0..len).map(|n| (n + i) as u8).collect();
                let answer = handle.query(data.clone(), Duration::from_secs(15)).await;
                let expected: Vec<u8> = data.into_iter().rev().collect();
                assert_eq!(answer, Ok(expected));
            }
        }));
    }
    for asker in askers {
        asker.await.unwrap();
    }
    assert!(
        sides
            .iter()
            .all(|side| !side.is_closed() && side.outbound() == 0)
    );
}
