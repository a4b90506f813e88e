//! Recorded sessions with the reference: every frame parses, means what the file says, and is written again
//! byte for byte; numbers are continuous; both our roles can play a session through.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use cocoon_tl::{Reader, from_boxed, peek_id};
use cocoon_wire::conn::{Conn, Event, Role};
use cocoon_wire::frame::{Decoder, header};
use cocoon_wire::msg::{catalogue, tcp};
use support::scheme::Scheme;
use support::{sessions, text};

#[test]
fn every_recorded_frame_round_trips() {
    let scheme = Scheme::new();
    let mut frames = 0;
    for session in sessions() {
        let mut decoders: HashMap<&str, Decoder> = HashMap::new();
        for entry in session["frames"].as_array().unwrap() {
            let place = format!("{} frame {frames}", session["name"]);
            let bytes = hex::decode(text(&entry["hex"])).unwrap();
            let decoder = decoders.entry(text(&entry["from"])).or_default();
            decoder.extend(&bytes);
            // An error here is a number that is not the next one.
            let frame = decoder.next_frame().unwrap().unwrap();
            let mut again = header(frame.payload.len() as u32, frame.seqno).to_vec();
            again.extend(rewrite_deep(frame.payload));
            assert_eq!(again, bytes, "{place}");
            let mut reader = Reader::new(frame.payload);
            let checked = scheme.check_boxed(&mut reader, &entry["decoded"]);
            checked.unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(decoder.buffered(), 0);
            frames += 1;
        }
        assert_eq!(decoders.len(), 2);
    }
    assert_eq!(frames, 92);
}

/// Writes a frame object again, and the application object and HTTP message inside it.
fn rewrite_deep(bytes: &[u8]) -> Vec<u8> {
    let rewrite = |bytes: &[u8]| {
        let entry = catalogue::find(peek_id(bytes).unwrap()).unwrap();
        (entry.rewrite)(bytes).unwrap()
    };
    match from_boxed::<tcp::Payload>(bytes).unwrap() {
        tcp::Payload::Packet(packet) => assert_eq!(rewrite(&packet.data), packet.data),
        tcp::Payload::Query(query) => assert_eq!(rewrite(&query.data), query.data),
        tcp::Payload::QueryAnswer(answer) => assert_eq!(rewrite(&answer.data), answer.data),
        _ => {}
    }
    rewrite(bytes)
}

/// Feeds one side's bytes of a session to a connection of the other role and compares what comes out with the
/// application messages in the recording.
#[test]
fn our_connection_understands_both_sides() {
    for session in sessions() {
        for (role, from) in [
            (Role::Acceptor, session["frames"][0]["from"].clone()),
            (Role::Dialler, "proxy".into()),
        ] {
            let mut conn = Conn::new(role, 1, Duration::ZERO);
            let mut expected = Vec::new();
            for entry in session["frames"].as_array().unwrap() {
                if entry["from"] != from {
                    continue;
                }
                let bytes = hex::decode(text(&entry["hex"])).unwrap();
                match from_boxed::<tcp::Payload>(&bytes[8..]).unwrap() {
                    tcp::Payload::Connect(_) | tcp::Payload::Connected(_) => {
                        expected.push(Event::Ready)
                    }
                    tcp::Payload::Packet(packet) => expected.push(Event::Packet(packet.data)),
                    tcp::Payload::Query(query) => expected.push(Event::Query {
                        id: query.id,
                        data: query.data,
                    }),
                    _ => {}
                }
                // In pieces, as a stream would.
                for piece in bytes.chunks(7) {
                    conn.receive(Duration::ZERO, piece);
                }
            }
            let events: Vec<_> = std::iter::from_fn(|| conn.poll_event()).collect();
            assert_eq!(events, expected, "{} {role:?}", session["name"]);
            assert_eq!(conn.closed(), None);
        }
    }
}
