//! Event logs: the specification's, recorded ones, damaged ones.

mod support;

use cocoon_attest::evidence::event_log::{EventLog, EventLogError, MAX_LOG_LEN};
use cocoon_attest::evidence::tdx;
use cocoon_attest::image::spec_tree::extend;
use proptest::prelude::*;
use serde_json::Value;

fn vector() -> (Vec<u8>, Value) {
    let all: Value = serde_json::from_str(include_str!("vectors/image_identity.json")).unwrap();
    let case = all["ccel_event_log"].clone();
    (
        hex::decode(case["log_hex"].as_str().unwrap()).unwrap(),
        case,
    )
}

#[test]
fn the_log_of_the_specification() {
    let (bytes, case) = vector();
    let log = EventLog::parse(&bytes).unwrap();
    let expected = case["events"].as_array().unwrap();
    assert_eq!(log.events.len(), expected.len());
    for (event, expected) in log.events.iter().zip(expected) {
        assert_eq!(event.rtmr as u64, expected["rtmr"].as_u64().unwrap());
        assert_eq!(
            format!("{:#x}", event.kind),
            expected["type"].as_str().unwrap()
        );
        assert_eq!(
            hex::encode(event.data),
            expected["event_hex"].as_str().unwrap()
        );
        match event.digest {
            Some(digest) => assert_eq!(
                hex::encode(digest),
                expected["digest_hex"].as_str().unwrap()
            ),
            None => assert_eq!(event.kind, 3),
        }
    }
    let replayed = log.replay();
    let wanted = case["replayed_rtmr"].as_array().unwrap();
    for (register, wanted) in replayed.iter().zip(wanted) {
        assert_eq!(hex::encode(register), wanted.as_str().unwrap());
    }
    assert!(log.compare(&replayed, &[]).accepted());
    let mut later = replayed;
    later[3] = cocoon_attest::image::spec_tree::extend_text(&later[3], "cocoon:tdx_inited");
    assert!(log.compare(&later, &["cocoon:tdx_inited"]).accepted());
    let verdict = log.compare(&later, &[]);
    let failed: Vec<&str> = verdict.failures().map(|check| check.field).collect();
    assert_eq!(failed, ["RTMR3"]);
}

/// A change of anything measured changes a register; nothing else does.
#[test]
fn every_changed_digest_changes_the_replay() {
    let (bytes, _) = vector();
    let log = EventLog::parse(&bytes).unwrap();
    let good = log.replay();
    for event in &log.events {
        let Some(digest) = event.digest else { continue };
        let at = digest.as_ptr() as usize - bytes.as_ptr() as usize;
        for offset in 0..48 {
            let mut changed = bytes.clone();
            changed[at + offset] ^= 1;
            let replayed = EventLog::parse(&changed).unwrap().replay();
            assert_ne!(replayed[event.rtmr], good[event.rtmr]);
        }
    }
    // Leaving out the last event changes its register too.
    let cut = EventLog {
        events: log.events[..log.events.len() - 2].to_vec(),
    };
    assert_ne!(cut.replay(), good);
}

#[test]
fn logs_that_cannot_be_right_are_refused() {
    let (bytes, _) = vector();
    let edit = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        EventLog::parse(&bytes).map(|log| log.events.len())
    };
    assert!(
        matches!(edit(4, 4), Err(EventLogError::Header(_))),
        "another kind of first record"
    );
    assert!(
        matches!(edit(32, b'X'), Err(EventLogError::Header(_))),
        "another signature"
    );
    assert!(matches!(
        EventLog::parse(&[]),
        Err(EventLogError::Truncated(_))
    ));
    assert!(matches!(
        EventLog::parse(&bytes[..40]),
        Err(EventLogError::Truncated(_))
    ));
    assert!(matches!(
        EventLog::parse(&vec![0; MAX_LOG_LEN + 1]),
        Err(EventLogError::TooLarge(_))
    ));
    for padding in [vec![0; 100], vec![0xff; 100]] {
        let padded = [&bytes[..], &padding].concat();
        let end = EventLog::parse(&bytes).unwrap();
        // The recorded log may itself end in one of the two kinds of padding; the other kind is then no padding.
        if let Ok(log) = EventLog::parse(&padded) {
            assert_eq!(log.events, end.events);
        }
    }
}

#[test]
fn recorded_logs_are_read() {
    let Some(folder) = support::evidence() else {
        return;
    };
    for (name, count, rtmr0) in [
        ("CCEL_data", 5, "2dc712306a963ead"),
        ("CCEL_data_ovmf", 20, "8566f998798db094"),
    ] {
        let bytes = support::bytes(&folder, name);
        let log = EventLog::parse(&bytes).unwrap();
        assert_eq!(log.events.len(), count, "{name}");
        assert!(hex::encode(log.replay()[0]).starts_with(rtmr0), "{name}");
        // The end of the firmware's phase is four zero bytes that are their own description.
        let separators = log.events.iter().filter(|event| event.kind == 4);
        assert!(
            separators.clone().count() > 0
                && separators.clone().all(|event| event.describes_itself())
        );
        for at in (0..bytes.len().min(10_000)).step_by(97) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x81;
            let _ = EventLog::parse(&changed);
        }
    }
}

/// A guest's own log in another form, whose digests lead to all four registers of its quote.
#[test]
fn a_recorded_log_replays_to_its_quote() {
    let Some(folder) = support::evidence() else {
        return;
    };
    let file: Value = serde_json::from_str(&support::text(&folder, "quote-report.json")).unwrap();
    let quote = hex::decode(file["quote"].as_str().unwrap()).unwrap();
    let quoted = tdx::unverified_body(&quote).unwrap().measurements.rtmr;
    let events: Value = serde_json::from_str(file["event_log"].as_str().unwrap()).unwrap();
    let mut registers = [[0; 48]; 4];
    for event in events.as_array().unwrap() {
        let digest: [u8; 48] = hex::decode(event["digest"].as_str().unwrap())
            .unwrap()
            .try_into()
            .unwrap();
        let register = &mut registers[event["imr"].as_u64().unwrap() as usize];
        *register = extend(register, &digest);
    }
    assert_eq!(registers, quoted);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn logs_of_strangers_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0usize..1_000) {
        let _ = EventLog::parse(&bytes);
        let (mut log, _) = vector();
        let at = at % log.len();
        let end = (at + bytes.len()).min(log.len());
        log[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(parsed) = EventLog::parse(&log) {
            let _ = parsed.replay();
        }
        log.truncate(at);
        let _ = EventLog::parse(&log);
    }
}
