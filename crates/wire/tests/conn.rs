//! The connection core: handshake, keepalive, violations, queries, closing.

use std::time::Duration;

use cocoon_tl::{from_boxed, to_boxed};
use cocoon_wire::conn::{Conn, Event, FLUSH_TIMEOUT, Role};
use cocoon_wire::frame::{Decoder, FrameError, MAX_PAYLOAD, header};
use cocoon_wire::msg::tcp::{self, Payload};
use cocoon_wire::{CloseReason, QueryFailure, SendError, codes};

const START: Duration = Duration::from_secs(1000);

fn at(seconds: u64) -> Duration {
    START + Duration::from_secs(seconds)
}

/// Two connections with perfect wires between them.
#[derive(Debug)]
struct Pair {
    dialler: Conn,
    acceptor: Conn,
}

impl Pair {
    fn connected() -> Self {
        let mut pair = Pair {
            dialler: Conn::new(Role::Dialler, 5, START),
            acceptor: Conn::new(Role::Acceptor, 6, START),
        };
        pair.exchange(START);
        assert_eq!(pair.dialler.poll_event(), Some(Event::Ready));
        assert_eq!(pair.acceptor.poll_event(), Some(Event::Ready));
        pair
    }

    fn exchange(&mut self, now: Duration) {
        while self.dialler.has_output() || self.acceptor.has_output() {
            let (from, to) = (&mut self.dialler, &mut self.acceptor);
            transfer(from, to, now);
            transfer(to, from, now);
        }
    }
}

fn transfer(from: &mut Conn, to: &mut Conn, now: Duration) {
    let bytes = from.take_output();
    to.receive(now, &bytes);
    from.wrote(bytes.len());
}

/// Frames that a connection wants to write.
fn written(conn: &mut Conn, decoder: &mut Decoder) -> Vec<Payload> {
    let bytes = conn.take_output();
    conn.wrote(bytes.len());
    decoder.extend(&bytes);
    let mut payloads = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        payloads.push(from_boxed(frame.payload).unwrap());
    }
    payloads
}

fn frame(seqno: i32, payload: impl Into<Payload>) -> Vec<u8> {
    let payload = to_boxed(&payload.into());
    let mut frame = header(payload.len() as u32, seqno).to_vec();
    frame.extend(payload);
    frame
}

#[test]
fn handshake_and_what_waits_for_it() {
    let mut dialler = Conn::new(Role::Dialler, 5, START);
    let mut decoder = Decoder::new();
    dialler.send_packet(vec![1; 4]).unwrap();
    let connect = Payload::from(tcp::Connect { id: 5 });
    assert_eq!(written(&mut dialler, &mut decoder), [connect]);
    assert!(!dialler.is_ready());
    // Another id is accepted, as by the reference.
    dialler.receive(at(1), &frame(0, tcp::Connected { id: 9 }));
    assert!(dialler.is_ready());
    let packet = Payload::from(tcp::Packet { data: vec![1; 4] });
    assert_eq!(written(&mut dialler, &mut decoder), [packet]);

    let mut acceptor = Conn::new(Role::Acceptor, 0, START);
    acceptor.send_packet(vec![2; 4]).unwrap();
    assert!(!acceptor.has_output());
    acceptor.receive(START, &frame(0, tcp::Connect { id: 7 }));
    // Late handshake frames are ignored.
    acceptor.receive(START, &frame(1, tcp::Connect { id: 8 }));
    acceptor.receive(START, &frame(2, tcp::Connected { id: 8 }));
    let expected = [
        tcp::Connected { id: 7 }.into(),
        tcp::Packet { data: vec![2; 4] }.into(),
    ];
    assert_eq!(written(&mut acceptor, &mut Decoder::new()), expected);
    assert_eq!(acceptor.poll_event(), Some(Event::Ready));
    assert_eq!(acceptor.poll_event(), None);
}

#[test]
fn violations_close_with_a_reason() {
    let reason = |role, bytes: &[u8]| {
        let mut conn = Conn::new(role, 5, START);
        conn.receive(START, bytes);
        conn.closed().map(ToString::to_string).unwrap_or_default()
    };
    let prefix = "protocol violation by the peer: ";
    let packet = frame(0, tcp::Packet { data: vec![] });
    assert_eq!(
        reason(Role::Acceptor, &packet),
        format!("{prefix}first frame is tcp.packet, expected tcp.connect")
    );
    let connect = frame(0, tcp::Connect { id: 1 });
    assert_eq!(
        reason(Role::Dialler, &connect),
        format!("{prefix}first frame is tcp.connect, expected tcp.connected")
    );
    assert_eq!(
        reason(Role::Acceptor, &frame(1, tcp::Connect { id: 1 })),
        format!("{prefix}frame number 1, expected 0")
    );
    assert_eq!(
        reason(Role::Acceptor, &[3, 0, 0, 0]),
        format!("{prefix}frame length 3 is outside 4..=16777216")
    );
    assert_eq!(
        reason(Role::Acceptor, &header(MAX_PAYLOAD as u32 + 1, 0)),
        format!("{prefix}frame length 16777217 is outside 4..=16777216")
    );
    assert_eq!(reason(Role::Acceptor, &header(MAX_PAYLOAD as u32, 0)), "");
    let garbage = [&header(4, 0)[..], &[1, 2, 3, 4]].concat();
    assert_eq!(
        reason(Role::Acceptor, &garbage),
        format!("{prefix}frame 0 does not parse: Unknown constructor found 0x04030201 at 4")
    );
    let mut trailing = frame(0, tcp::Connect { id: 1 });
    trailing[0] += 1;
    trailing.push(0);
    assert_eq!(
        reason(Role::Acceptor, &trailing),
        format!("{prefix}frame 0 does not parse: Too much data to fetch at 12")
    );
}

#[test]
fn what_came_before_a_violation_counts() {
    let mut pair = Pair::connected();
    let mut bytes = frame(1, tcp::Packet { data: vec![1; 4] });
    bytes.extend(frame(7, tcp::Packet { data: vec![2; 4] }));
    pair.acceptor.receive(START, &bytes);
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Packet(vec![1; 4])));
    assert_eq!(pair.acceptor.poll_event(), None);
    let seqno = FrameError::Seqno {
        expected: 2,
        found: 7,
    };
    assert_eq!(pair.acceptor.closed(), Some(&seqno.into()));
}

#[test]
fn dialler_pings_on_a_fixed_period_and_acceptor_answers() {
    let mut pair = Pair::connected();
    let mut decoder = Decoder::new();
    decoder.extend(&frame(0, tcp::Connect { id: 5 }));
    decoder.next_frame().unwrap();
    for second in 1..=100 {
        // The acceptor streams: received frames do not put pings off.
        pair.acceptor.send_packet(vec![0; 4]).unwrap();
        transfer(&mut pair.acceptor, &mut pair.dialler, at(second));
        pair.dialler.tick(at(second));
        pair.acceptor.tick(at(second));
        let bytes = pair.dialler.take_output();
        decoder.extend(&bytes);
        let ping = decoder
            .next_frame()
            .unwrap()
            .map(|frame| from_boxed(frame.payload));
        assert_eq!(ping.is_some(), second % 10 == 0, "second {second}");
        assert!(ping.is_none_or(|ping| matches!(ping, Ok(Payload::Ping(_)))));
        pair.acceptor.receive(at(second), &bytes);
        pair.dialler.wrote(bytes.len());
    }
    assert!(pair.dialler.closed().is_none() && pair.acceptor.closed().is_none());
    // A pong carries the id of its ping.
    let mut acceptor = Conn::new(Role::Acceptor, 0, START);
    acceptor.receive(START, &frame(0, tcp::Connect { id: 7 }));
    acceptor.receive(START, &frame(1, tcp::Ping { id: -3 }));
    let expected = [tcp::Connected { id: 7 }.into(), tcp::Pong { id: -3 }.into()];
    assert_eq!(written(&mut acceptor, &mut Decoder::new()), expected);
}

#[test]
fn silence_closes_after_20_and_60_seconds() {
    let mut pair = Pair::connected();
    assert_eq!(pair.dialler.next_deadline(), Some(at(10)));
    assert_eq!(pair.acceptor.next_deadline(), Some(at(60)));
    pair.dialler.tick(at(10));
    pair.dialler.tick(at(20) - Duration::from_millis(1));
    assert_eq!(pair.dialler.closed(), None);
    pair.dialler.tick(at(20));
    let silence = |seconds| CloseReason::Silence(Duration::from_secs(seconds));
    assert_eq!(pair.dialler.closed(), Some(&silence(20)));
    assert_eq!(
        pair.dialler.closed().unwrap().to_string(),
        "nothing was received for 20 s"
    );
    // Half a frame is no sign of life.
    pair.acceptor
        .receive(at(30), &frame(1, tcp::Ping { id: 1 })[..9]);
    pair.acceptor.tick(at(60) - Duration::from_millis(1));
    assert_eq!(pair.acceptor.closed(), None);
    pair.acceptor.tick(at(60));
    assert_eq!(pair.acceptor.closed(), Some(&silence(60)));
    // The handshake has no timer of its own.
    let mut dialler = Conn::new(Role::Dialler, 5, START);
    assert_eq!(dialler.next_deadline(), Some(at(20)));
    dialler.tick(at(20));
    assert_eq!(dialler.closed(), Some(&silence(20)));
}

#[test]
fn silence_does_not_count_while_input_is_paused() {
    let mut pair = Pair::connected();
    pair.acceptor.pause_input(at(1), true);
    assert_eq!(pair.acceptor.next_deadline(), None);
    pair.acceptor.tick(at(500));
    pair.acceptor.pause_input(at(500), false);
    assert_eq!(pair.acceptor.next_deadline(), Some(at(560)));
}

#[test]
fn queries_end_exactly_once() {
    let mut pair = Pair::connected();
    let timeout = Duration::from_secs(3);
    for id in [1, 2, 3] {
        let data = vec![id as u8; 4];
        pair.dialler.query(START, id, data, timeout).unwrap();
    }
    assert_eq!(
        pair.dialler.query(START, 1, vec![], timeout),
        Err(SendError::DuplicateQueryId(1))
    );
    pair.exchange(START);
    for _ in 0..3 {
        assert!(matches!(
            pair.acceptor.poll_event(),
            Some(Event::Query { .. })
        ));
    }
    pair.acceptor.answer(2, Ok(b"answer!!".to_vec()));
    pair.acceptor
        .answer(1, Err((codes::NOTREADY, "later".into())));
    pair.acceptor.answer(99, Ok(vec![]));
    pair.exchange(START);
    let mut outcomes: Vec<_> = std::iter::from_fn(|| pair.dialler.poll_outcome()).collect();
    outcomes.sort_by_key(|outcome| outcome.id);
    assert_eq!(outcomes.len(), 2);
    let remote = QueryFailure::Remote {
        code: 651,
        message: "later".into(),
    };
    assert_eq!(outcomes[0].result, Err(remote));
    assert_eq!(outcomes[1].result, Ok(b"answer!!".to_vec()));
    assert_eq!(pair.dialler.next_deadline(), Some(at(3)));
    pair.dialler.tick(at(3));
    let outcome = pair.dialler.poll_outcome().unwrap();
    assert_eq!(
        (outcome.id, outcome.result),
        (3, Err(QueryFailure::Timeout))
    );
    // Too late, then unknown: ignored.
    pair.acceptor.answer(3, Ok(vec![]));
    pair.exchange(at(3));
    assert_eq!(pair.dialler.poll_outcome(), None);
    // Open queries fail at once when the connection ends.
    pair.dialler.query(at(3), 4, vec![], timeout).unwrap();
    pair.dialler.receive_end();
    let outcome = pair.dialler.poll_outcome().unwrap();
    assert_eq!((outcome.id, outcome.result), (4, Err(QueryFailure::Closed)));
    assert!(matches!(
        pair.dialler.query(at(3), 5, vec![], timeout),
        Err(SendError::Closed(_))
    ));
}

#[test]
fn messages_that_do_not_fit_a_frame_are_refused() {
    let mut pair = Pair::connected();
    // 4 bytes constructor and 4 bytes string header in front of the data.
    let fitting = MAX_PAYLOAD - 8;
    pair.dialler.send_packet(vec![0; fitting]).unwrap();
    pair.exchange(START);
    assert!(
        matches!(pair.acceptor.poll_event(), Some(Event::Packet(data)) if data.len() == fitting)
    );
    let too_large = pair.dialler.send_packet(vec![0; fitting + 1]);
    let size = MAX_PAYLOAD + 4;
    assert_eq!(too_large, Err(SendError::TooLarge { size }));
    let query = pair
        .dialler
        .query(START, 1, vec![0; fitting], Duration::ZERO);
    assert!(matches!(query, Err(SendError::TooLarge { .. })));
    assert!(!pair.dialler.is_open(1));
    // No number was consumed.
    pair.dialler
        .query(START, 2, vec![7; 4], Duration::from_secs(9))
        .unwrap();
    pair.exchange(START);
    assert!(matches!(
        pair.acceptor.poll_event(),
        Some(Event::Query { .. })
    ));
    // The asker of a too large answer learns of it.
    pair.acceptor.answer(2, Ok(vec![0; 1 << 25]));
    pair.exchange(START);
    let outcome = pair.dialler.poll_outcome().unwrap();
    let Err(QueryFailure::Remote { code, message }) = outcome.result else {
        panic!("{outcome:?}");
    };
    assert_eq!(code, codes::FAILURE);
    assert_eq!(message, "the answer of 33554432 bytes is too large");
}

#[test]
fn a_peer_that_does_not_read_is_dropped() {
    let mut pair = Pair::connected();
    pair.dialler.set_max_outbound(1000);
    for _ in 0..8 {
        pair.dialler.send_packet(vec![0; 100]).unwrap();
    }
    // Bytes handed to the stream count until they are written.
    let taken = pair.dialler.take_output();
    pair.dialler.send_packet(vec![0; 40]).unwrap();
    let refused = pair.dialler.send_packet(vec![0; 100]).unwrap_err();
    assert!(
        refused.to_string().contains("reads too slowly"),
        "{refused}"
    );
    assert_eq!(
        pair.dialler.closed(),
        Some(&CloseReason::Overflow { limit: 1000 })
    );
    assert!(taken.len() > 800);

    // Pongs count too: a flood of pings from a peer that does not read is an overflow.
    let mut pair = Pair::connected();
    pair.acceptor.set_max_outbound(1000);
    for seqno in 1..100 {
        pair.acceptor
            .receive(START, &frame(seqno, tcp::Ping { id: 0 }));
    }
    assert_eq!(
        pair.acceptor.closed(),
        Some(&CloseReason::Overflow { limit: 1000 })
    );
}

#[test]
fn closing_after_flush_writes_what_waits() {
    let mut pair = Pair::connected();
    pair.acceptor.answer(1, Err((codes::ERROR, "no".into())));
    pair.acceptor.close_after_flush(START, "refused");
    assert!(matches!(
        pair.acceptor.send_packet(vec![]),
        Err(SendError::Closed(_))
    ));
    assert_eq!(pair.acceptor.closed(), None);
    assert_eq!(pair.acceptor.next_deadline(), Some(START + FLUSH_TIMEOUT));
    transfer(&mut pair.acceptor, &mut pair.dialler, START);
    let local = CloseReason::Local("refused".into());
    assert_eq!(pair.acceptor.closed(), Some(&local));

    // A peer that closes meanwhile does not change the reason; one that does not read is not waited for.
    let mut pair = Pair::connected();
    pair.acceptor.send_packet(vec![1; 4]).unwrap();
    pair.acceptor.close_after_flush(START, "refused");
    pair.acceptor.receive_end();
    assert_eq!(pair.acceptor.closed(), Some(&local));
    let mut pair = Pair::connected();
    pair.acceptor.send_packet(vec![1; 4]).unwrap();
    pair.acceptor.close_after_flush(START, "refused");
    pair.acceptor.tick(START + FLUSH_TIMEOUT);
    assert_eq!(
        pair.acceptor.closed(),
        Some(&CloseReason::FlushTimeout("refused".into()))
    );
}

#[test]
fn a_large_frame_in_small_pieces_is_not_copied_again_and_again() {
    let mut decoder = Decoder::new();
    let payload = vec![9; MAX_PAYLOAD];
    let started = std::time::Instant::now();
    // A complete frame in front, so that the large one does not start at the buffer's beginning.
    decoder.extend(&frame(0, tcp::Ping { id: 1 }));
    decoder.extend(&header(MAX_PAYLOAD as u32, 1));
    assert!(decoder.next_frame().unwrap().is_some());
    for piece in payload.chunks(100) {
        decoder.extend(piece);
        let complete = decoder.next_frame().unwrap().is_some();
        assert_eq!(complete, decoder.buffered() == 0);
    }
    assert_eq!(decoder.buffered(), 0);
    // Copying the buffer for every piece would move 1.4 TB.
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn contents_are_not_shown() {
    let mut pair = Pair::connected();
    let data = to_boxed(&tcp::Packet { data: vec![211; 4] });
    pair.dialler.send_packet(data.clone()).unwrap();
    let bytes = pair.dialler.take_output();
    pair.dialler.send_packet(data.clone()).unwrap();
    pair.acceptor.receive(START, &bytes);
    let mut decoder = Decoder::new();
    decoder.extend(&bytes);
    let event = format!("{:?}", pair.acceptor.poll_event().unwrap());
    assert_eq!(event, "Packet(tcp.packet, 12 bytes)");
    for shown in [format!("{pair:?}"), format!("{decoder:?}"), event] {
        assert!(!shown.contains("211"), "{shown}");
    }
}
