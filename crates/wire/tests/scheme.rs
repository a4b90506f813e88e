//! The Rust types agree with the scheme: ids, field names, and the layout of every constructor.

mod support;

use cocoon_tl::{Constructor, constructor_id};
use cocoon_wire::msg::{catalogue, client, common, http, key_manager, proxy, worker};
use support::scheme::Scheme;
use support::{Random, specified_ids};

/// Fields that the scheme lists one by one and the Rust type holds as one group.
fn group(owner: &str, field: &str) -> Option<&'static [&'static str]> {
    Some(match (owner, field) {
        ("client.params" | "worker.params", "versions") => common::VersionRange::FIELD_NAMES,
        ("worker.params", "setup") => worker::WorkerSetup::FIELD_NAMES,
        ("client.queryFinalInfo", "debug") => client::DebugTexts::FIELD_NAMES,
        ("client.queryFinalInfo", "times") => client::QueryTimes::FIELD_NAMES,
        ("proxy.queryFinalInfo", "times") => proxy::WorkerTimes::FIELD_NAMES,
        _ => return None,
    })
}

#[test]
fn ids_are_those_of_the_specification() {
    let specified = specified_ids();
    assert_eq!(specified.len(), 98);
    for &(name, id, explicit) in &specified {
        let entry = catalogue::find(id).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(entry.name, name);
        // The id follows from the text, except for four.
        let text = entry.declaration.replace(&format!("#{id:08x}"), "");
        assert_eq!(constructor_id(&text) == id, !explicit, "{name}");
    }
    let explicit = specified.iter().filter(|entry| entry.2).count();
    assert_eq!(explicit, 4);
    // Ours, of protocol version 3.
    let ours: Vec<_> = catalogue::CONSTRUCTORS
        .iter()
        .filter(|entry| !specified.iter().any(|(_, id, _)| *id == entry.id))
        .map(|entry| entry.name)
        .collect();
    assert_eq!(
        ours,
        [
            "client.cancelQuery",
            "client.runQueryRouted",
            "client.getWorkerTypesV3",
            "client.workerInstanceV3",
            "client.workerTypeV3",
            "client.workerTypesV3",
            "proxy.cancelQuery"
        ]
    );
    assert_eq!(client::CancelQuery::ID, 0x3265_a5f8);
    assert_eq!(catalogue::CONSTRUCTORS.len(), 105);
}

#[test]
fn fields_are_named_and_ordered_as_declared() {
    let scheme = Scheme::new();
    for entry in catalogue::CONSTRUCTORS {
        let declared: Vec<_> = scheme.by_name[entry.name]
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        let ours: Vec<_> = entry
            .fields
            .iter()
            .flat_map(|&field| group(entry.name, field).unwrap_or(&[field]).to_vec())
            .collect::<Vec<_>>();
        assert_eq!(ours, declared, "{}", entry.name);
    }
}

#[test]
fn every_constructor_reads_and_writes_what_its_declaration_says() {
    let scheme = Scheme::new();
    let mut random = Random(1);
    for entry in catalogue::CONSTRUCTORS {
        for _ in 0..50 {
            let mut bytes = Vec::new();
            scheme.random_boxed(entry.name, &mut random, &mut bytes);
            assert_eq!(
                (entry.rewrite)(&bytes).as_ref(),
                Ok(&bytes),
                "{}",
                entry.name
            );
            bytes.push(0);
            assert!((entry.rewrite)(&bytes).is_err(), "{}", entry.name);
            bytes.truncate(bytes.len() - 2);
            assert!((entry.rewrite)(&bytes).is_err(), "{}", entry.name);
        }
    }
}

#[test]
fn secrets_and_prompts_are_not_shown() {
    let shown = [
        format!(
            "{:?}",
            client::AuthorizeWithProxyShort {
                data: b"secret".to_vec()
            }
        ),
        format!(
            "{:?}",
            key_manager::PrivateKey {
                valid_until_utime: 1,
                private_key: [77; 32]
            }
        ),
        format!(
            "{:?}",
            http::Header {
                name: "authorization".into(),
                value: "secret".into()
            }
        ),
        format!(
            "{:?}",
            client::QueryAnswerPartEx {
                request_id: [0; 32],
                answer: b"secret".to_vec(),
                flags: Default::default(),
                final_info: None,
            }
        ),
    ];
    for text in shown {
        let bytes = format!("{:?}", b"secret");
        assert!(text.contains("<hidden>"), "{text}");
        assert!(!text.contains("secret") && !text.contains("77") && !text.contains(&bytes));
    }
}

#[test]
fn objects_are_described_by_name() {
    let query = cocoon_tl::to_boxed(&client::GetWorkerTypesV2 {});
    assert_eq!(catalogue::describe(&query), "client.getWorkerTypesV2");
    assert_eq!(
        catalogue::describe(&[1, 2, 3, 4]),
        "unknown constructor 0x04030201"
    );
    assert_eq!(catalogue::describe(&[1]), "1 bytes without a constructor");
}
