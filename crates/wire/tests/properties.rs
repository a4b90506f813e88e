//! Properties over arbitrary input: nothing panics, cutting a stream does not matter, frames come back.

mod support;

use std::time::Duration;

use cocoon_tl::{from_boxed, to_boxed};
use cocoon_wire::conn::{Conn, Event, Role};
use cocoon_wire::frame::{Decoder, header};
use cocoon_wire::msg::{catalogue, client, proxy, tcp, worker};
use proptest::collection::vec;
use proptest::prelude::*;
use support::scheme::Scheme;
use support::{Random, vectors};

fn stream(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (seqno, payload) in payloads.iter().enumerate() {
        bytes.extend(header(payload.len() as u32, seqno as i32));
        bytes.extend(payload);
    }
    bytes
}

/// Transport objects, mostly valid.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let data = vec(any::<u8>(), 0..60);
    prop_oneof![
        any::<i64>().prop_map(|id| to_boxed(&tcp::Connect { id })),
        any::<i64>().prop_map(|id| to_boxed(&tcp::Connected { id })),
        any::<i64>().prop_map(|id| to_boxed(&tcp::Ping { id })),
        any::<i64>().prop_map(|id| to_boxed(&tcp::Pong { id })),
        data.clone()
            .prop_map(|data| to_boxed(&tcp::Packet { data })),
        (0..5_i64, data.clone()).prop_map(|(id, data)| to_boxed(&tcp::Query { id, data })),
        (0..5_i64, data.clone()).prop_map(|(id, data)| to_boxed(&tcp::QueryAnswer { id, data })),
        (0..5_i64, any::<i32>(), any::<String>())
            .prop_map(|(id, code, message)| to_boxed(&tcp::QueryError { id, code, message })),
        vec(any::<u8>(), 4..40),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Receive(Vec<u8>),
    ReceiveFrame(Vec<u8>),
    Tick(u64),
    Packet(Vec<u8>),
    Query(i64, u64),
    Answer(i64, bool),
    Write(usize),
    Pause(bool),
    Flush,
    End,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => vec(any::<u8>(), 0..40).prop_map(Step::Receive),
        8 => any_payload().prop_map(Step::ReceiveFrame),
        4 => (0..30_000_u64).prop_map(Step::Tick),
        4 => vec(any::<u8>(), 0..100).prop_map(Step::Packet),
        4 => (0..5_i64, prop_oneof![0..20_000_u64, Just(u64::MAX)]).prop_map(|(id, t)| Step::Query(id, t)),
        2 => (any::<i64>(), any::<bool>()).prop_map(|(id, ok)| Step::Answer(id, ok)),
        4 => (0..200_usize).prop_map(Step::Write),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::Flush),
        1 => Just(Step::End),
    ]
}

proptest! {
    #[test]
    fn no_parser_panics_on_arbitrary_bytes(data in vec(any::<u8>(), 0..400)) {
        for entry in catalogue::CONSTRUCTORS {
            let mut boxed = entry.id.to_le_bytes().to_vec();
            boxed.extend(&data);
            // What is accepted is written so that it is accepted and the same again.
            if let Ok(written) = (entry.rewrite)(&boxed) {
                prop_assert_eq!((entry.rewrite)(&written), Ok(written.clone()));
            }
        }
        let _ = from_boxed::<tcp::Payload>(&data);
        let _ = from_boxed::<client::ClientQuery>(&data);
        let _ = from_boxed::<client::PacketToClient>(&data);
        let _ = from_boxed::<worker::WorkerPacket>(&data);
        let _ = from_boxed::<proxy::PacketToWorker>(&data);
        catalogue::describe(&data);
    }

    #[test]
    fn no_parser_panics_on_damaged_objects(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<bool>()) {
        let vectors = vectors();
        let mut bytes = vectors[which.index(vectors.len())].bytes.clone();
        let at = at.index(bytes.len());
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] = value,
        }
        for entry in catalogue::CONSTRUCTORS {
            let _ = (entry.rewrite)(&bytes);
        }
    }

    #[test]
    fn random_objects_round_trip(seed in any::<u64>(), which in any::<prop::sample::Index>()) {
        let entry = &catalogue::CONSTRUCTORS[which.index(catalogue::CONSTRUCTORS.len())];
        let mut bytes = Vec::new();
        Scheme::new().random_boxed(entry.name, &mut Random(seed), &mut bytes);
        prop_assert_eq!((entry.rewrite)(&bytes), Ok(bytes));
    }

    #[test]
    fn decoder_never_panics(pieces in vec(vec(any::<u8>(), 0..50), 0..20)) {
        let mut decoder = Decoder::new();
        let mut failed = false;
        for piece in pieces {
            decoder.extend(&piece);
            loop {
                match decoder.next_frame() {
                    Ok(Some(_)) => prop_assert!(!failed),
                    Ok(None) => break,
                    Err(_) => { failed = true; break; }
                }
            }
        }
    }

    #[test]
    fn frames_come_back_however_the_stream_is_cut(
        payloads in vec(vec(any::<u8>(), 4..300), 1..20),
        cuts in vec(1..500_usize, 1..20),
    ) {
        let bytes = stream(&payloads);
        let mut decoder = Decoder::new();
        let (mut found, mut rest, mut cut) = (Vec::new(), &bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
            decoder.extend(piece);
            rest = after;
            while let Some(frame) = decoder.next_frame().unwrap() {
                prop_assert_eq!(frame.seqno as usize, found.len());
                found.push(frame.payload.to_vec());
            }
        }
        prop_assert_eq!(found, payloads);
        prop_assert_eq!(decoder.buffered(), 0);
    }

    /// Whatever happens to a connection: no panic; every query ends at most once, and at the latest when the
    /// connection ends; what it writes is a valid stream; nothing happens after the end.
    #[test]
    fn connection_survives_everything(dialler in any::<bool>(), steps in vec(any_step(), 0..80)) {
        let role = if dialler { Role::Dialler } else { Role::Acceptor };
        let mut conn = Conn::new(role, 77, Duration::ZERO);
        conn.set_max_outbound(4000);
        let (mut now, mut seqno) = (Duration::ZERO, 0);
        let mut open = std::collections::HashSet::new();
        let mut peer = Decoder::new();
        let (mut ready, mut written) = (0, 0_usize);
        for step in steps {
            let ended = conn.closed().cloned();
            match step {
                Step::Receive(bytes) => conn.receive(now, &bytes),
                Step::ReceiveFrame(payload) => {
                    let mut bytes = header(payload.len() as u32, seqno).to_vec();
                    bytes.extend(payload);
                    seqno += 1;
                    conn.receive(now, &bytes);
                }
                Step::Tick(millis) => {
                    now += Duration::from_millis(millis);
                    conn.tick(now);
                    if let Some(deadline) = conn.next_deadline() {
                        prop_assert!(deadline > now, "tick leaves nothing due");
                    }
                }
                Step::Packet(data) => { let _ = conn.send_packet(data); }
                Step::Query(id, millis) => {
                    let timeout = Duration::from_millis(millis);
                    if conn.query(now, id, vec![1; 4], timeout).is_ok() {
                        prop_assert!(open.insert(id));
                    }
                }
                Step::Answer(id, ok) => conn.answer(id, if ok { Ok(vec![2; 8]) } else { Err((1, "no".into())) }),
                Step::Write(count) => {
                    let output = conn.take_output();
                    peer.extend(&output);
                    written += output.len();
                    conn.wrote(count.min(written));
                    written = written.saturating_sub(count);
                }
                Step::Pause(paused) => conn.pause_input(now, paused),
                Step::Flush => conn.close_after_flush(now, "enough"),
                Step::End => conn.receive_end(),
            }
            while let Some(frame) = peer.next_frame().unwrap() {
                let payload: tcp::Payload = from_boxed(frame.payload).unwrap();
                if frame.seqno == 0 {
                    prop_assert!(matches!((role, payload),
                        (Role::Dialler, tcp::Payload::Connect(_)) | (Role::Acceptor, tcp::Payload::Connected(_))));
                }
            }
            while let Some(outcome) = conn.poll_outcome() {
                prop_assert!(open.remove(&outcome.id));
            }
            while let Some(event) = conn.poll_event() {
                ready += u32::from(event == Event::Ready);
            }
            prop_assert!(ready <= 1);
            if let Some(reason) = ended {
                prop_assert_eq!(conn.closed(), Some(&reason));
            }
            if conn.closed().is_some() {
                prop_assert!(open.is_empty());
                prop_assert_eq!(conn.outbound(), 0);
                prop_assert_eq!(conn.next_deadline(), None);
                written = 0;
            }
        }
    }
}
