//! Every vector of `protocol.json` that concerns this crate decodes to what the file says and is written again
//! byte for byte.

mod support;

use cocoon_tl::{Reader, TlRead, TlWrite, from_bare, from_boxed, to_bare};
use cocoon_wire::frame::{Decoder, HEADER, header};
use cocoon_wire::msg::{catalogue, client, db, proxy, tcp, worker};
use serde_json::Value;
use support::scheme::Scheme;
use support::{Vector, text, vectors};

/// Groups that other crates check.
const ELSEWHERE: &[&str] = &["attestation_frame_", "address_", "billing_", "validate_"];

fn bytes_of(name: &str) -> Vec<u8> {
    let found = vectors().into_iter().find(|vector| vector.name == name);
    found.unwrap_or_else(|| panic!("no vector {name}")).bytes
}

#[test]
fn every_vector_decodes_and_encodes() {
    let scheme = Scheme::new();
    let (mut checked, mut elsewhere) = (0, 0);
    for vector in vectors() {
        let group = vector.name.split('_').next().unwrap();
        match group {
            _ if ELSEWHERE
                .iter()
                .any(|prefix| vector.name.starts_with(prefix)) =>
            {
                elsewhere += 1;
                continue;
            }
            "tl" => primitive(&vector),
            "frame" => frame(&scheme, &vector),
            "stream" => stream_head(&vector),
            "client" | "proxy" | "worker" | "key" | "http" | "db" => object(&scheme, &vector),
            _ => panic!("nobody checks {}", vector.name),
        }
        checked += 1;
    }
    assert_eq!((checked, elsewhere), (82, 23));
}

fn again<T: TlRead + TlWrite>(bytes: &[u8]) -> T {
    let value = from_bare::<T>(bytes).unwrap();
    assert_eq!(to_bare(&value), bytes);
    value
}

fn primitive(vector: &Vector) {
    let (bytes, value) = (&vector.bytes, &vector.decoded["value"]);
    match text(&vector.decoded["type"]) {
        "string" => assert_eq!(again::<String>(bytes), text(value)),
        "bytes" => {
            let data = again::<Vec<u8>>(bytes);
            let padding = vector.decoded["padding"].as_u64();
            let header = vector.decoded["header_len"].as_u64();
            match text(value).split_once(" repeated ") {
                None => assert_eq!(data, text(value).as_bytes()),
                Some((byte, times)) => {
                    let byte = u8::from_str_radix(&byte[2..], 16).unwrap();
                    let times: usize = times.trim_end_matches(" times").parse().unwrap();
                    assert_eq!(data, vec![byte; times]);
                    let framing = (bytes.len() - times) as u64;
                    assert_eq!(Some(framing), header.zip(padding).map(|(h, p)| h + p));
                }
            }
        }
        "bytes header" => {
            let len = vector.decoded["length"].as_u64().unwrap() as usize;
            assert_eq!(vector.decoded["header_len"], bytes.len());
            let encoded = to_bare(&vec![0_u8; len]);
            assert!(encoded.starts_with(bytes));
            let data = from_bare::<Vec<u8>>(&encoded).unwrap();
            assert_eq!(data.len(), len);
        }
        "Bool" => assert_eq!(Some(again::<bool>(bytes)), value.as_bool()),
        "int" => assert_eq!(Some(i64::from(again::<i32>(bytes))), value.as_i64()),
        "long" => assert_eq!(Some(again::<i64>(bytes)), value.as_i64()),
        "double" => assert_eq!(Some(again::<f64>(bytes)), value.as_f64()),
        "vector string" => {
            let expected: Vec<String> = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(again::<Vec<String>>(bytes), expected);
        }
        other => panic!("{other}"),
    }
}

fn frame(scheme: &Scheme, vector: &Vector) {
    let length = vector.decoded["length"].as_u64().unwrap() as u32;
    let seqno = vector.decoded["seqno"].as_i64().unwrap() as i32;
    let (head, payload) = vector.bytes.split_at(HEADER);
    assert_eq!(head, header(length, seqno));
    boxed(scheme, &vector.name, payload, &vector.decoded["payload"]);
    from_boxed::<tcp::Payload>(payload).unwrap();
    // The decoder counts from 0.
    let mut decoder = Decoder::new();
    decoder.extend(&header(length, 0));
    decoder.extend(payload);
    assert_eq!(decoder.next_frame().unwrap().unwrap().payload, payload);
}

/// The attestation frame in front is read by another crate; its first four bytes are its length.
fn stream_head(vector: &Vector) {
    let len = u32::from_le_bytes(vector.bytes[..4].try_into().unwrap());
    let rest = &vector.bytes[4 + len as usize..];
    assert_eq!(rest, bytes_of(text(&vector.decoded["then"])));
    let mut decoder = Decoder::new();
    decoder.extend(rest);
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(frame.seqno, 0);
    from_boxed::<tcp::Connect>(frame.payload).unwrap();
}

fn object(scheme: &Scheme, vector: &Vector) {
    if vector.name == "db_client_value_signed" {
        // An object of another vector and a signature of 64 bytes.
        let object = &vector.bytes[..vector.bytes.len() - 64];
        assert_eq!(object, bytes_of("db_client_info_v2"));
        from_boxed::<db::AnyClientInfo>(object).unwrap();
        return;
    }
    boxed(scheme, &vector.name, &vector.bytes, &vector.decoded);
}

fn boxed(scheme: &Scheme, name: &str, bytes: &[u8], decoded: &Value) {
    let mut reader = Reader::new(bytes);
    let checked = scheme.check_boxed(&mut reader, decoded);
    checked.unwrap_or_else(|error| panic!("{name}: {error}"));
    reader.finish().unwrap();
    let entry = catalogue::find(cocoon_tl::peek_id(bytes).unwrap()).unwrap();
    assert_eq!(entry.name, decoded["@type"]);
    assert_eq!((entry.rewrite)(bytes).unwrap(), bytes, "{name}");
}

/// The interpreter above knows names from declarations; this reads through the Rust types.
#[test]
fn typed_fields_hold_what_the_file_says() {
    let connect: client::ConnectToProxy = from_boxed(&bytes_of("client_connect")).unwrap();
    let versions = connect.params.versions.unwrap();
    assert_eq!(
        (versions.min_proto_version, versions.max_proto_version),
        (1, 2)
    );
    assert_eq!(connect.params.is_test, Some(false));
    assert_eq!(connect.min_config_version, 42);
    let legacy: client::ConnectToProxy = from_boxed(&bytes_of("client_connect_legacy")).unwrap();
    assert_eq!(legacy.params.versions, None);

    let last = bytes_of("proxy_query_answer_part_ex_final_v2");
    let last: proxy::QueryAnswerPartEx = from_boxed(&last).unwrap();
    let info = last.final_info.unwrap();
    assert_eq!(info.worker_debug.unwrap(), r#"{"type":"worker_stats"}"#);
    let times = info.times.unwrap();
    assert_eq!(times.worker_start_time, 1_765_000_000.25);
    assert_eq!(times.worker_end_time, 1_765_000_001.5);
    assert_eq!(info.tokens_used.prompt_tokens_used, 9);
    assert_eq!(info.tokens_used.completion_tokens_used, 2);
    assert_eq!(info.tokens_used.total_tokens_used, 11);

    let last = bytes_of("client_query_answer_part_ex_final_v1");
    let last: client::QueryAnswerPartEx = from_boxed(&last).unwrap();
    assert_eq!(last.final_info.unwrap().times, None);

    let worker: worker::ConnectToProxy = from_boxed(&bytes_of("worker_connect")).unwrap();
    assert!(worker.params.setup.is_some() && worker.params.versions.is_some());

    let run: proxy::RunQueryEx = from_boxed(&bytes_of("proxy_run_query_ex")).unwrap();
    assert_eq!(run.signed_payment.boc().unwrap().len(), 14);
    assert_eq!(run.enable_debug, Some(true));
    let run: proxy::RunQuery = from_boxed(&bytes_of("proxy_run_query")).unwrap();
    assert_eq!(run.signed_payment, proxy::SignedPayment::EMPTY);
}

#[test]
fn each_side_accepts_the_messages_meant_for_it() {
    let read = |name: &str| {
        let bytes = bytes_of(name);
        [
            from_boxed::<client::ClientQuery>(&bytes).is_ok(),
            from_boxed::<client::ClientPacket>(&bytes).is_ok(),
            from_boxed::<client::PacketToClient>(&bytes).is_ok(),
            from_boxed::<worker::WorkerQuery>(&bytes).is_ok(),
            from_boxed::<worker::WorkerPacket>(&bytes).is_ok(),
            from_boxed::<proxy::PacketToWorker>(&bytes).is_ok(),
        ]
    };
    let only = |place: usize| std::array::from_fn(|i| i == place);
    for (place, names) in [
        [
            "client_connect",
            "client_auth_long",
            "client_get_worker_types",
        ]
        .as_slice(),
        &["client_run_query", "client_run_query_ex"],
        &[
            "client_query_answer_ex_head",
            "client_query_answer_error",
            "client_query_answer_part_error",
            "proxy_client_request_payment",
        ],
        &[
            "worker_connect",
            "worker_extended_compare",
            "worker_handshake_complete",
        ],
        &[
            "proxy_query_answer_v0",
            "proxy_query_answer_error_ex",
            "worker_enabled",
            "worker_new_coefficient",
        ],
        &[
            "proxy_run_query",
            "proxy_run_query_ex",
            "proxy_worker_request_payment",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        for name in names {
            assert_eq!(read(name), only(place), "{name}");
        }
    }
}
