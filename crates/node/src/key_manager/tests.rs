//! The core alone: time, disk and random numbers are the test's.

mod bed;

use std::collections::BTreeMap;

use cocoon_attest::SecretKey;
use cocoon_tl::{from_boxed, to_boxed};
use cocoon_wire::msg::key_manager::{PrivateKey, PrivateKeys};
use cocoon_wire::msg::key_manager_db as db;
use proptest::prelude::*;
use zeroize::Zeroizing;

use self::bed::{Bed, Disk, PROXY, START, WORKER, proxies, root, served, workers};
use super::RecordsError;
use super::asker::read_keys;
use super::types::{
    Audience, Done, KeyManagerEffect, KeyManagerEvent, LIFE, MAX_KEYS, MAX_WAITING, ROTATE_AHEAD,
};
use crate::link::{LinkEvent, LinkId};

#[test]
fn each_role_gets_its_own_key_and_nobody_else_any() {
    let mut bed = served();
    assert!(bed.ready);
    let p = bed.ask(1, proxies(3)).unwrap();
    let w = bed.ask(2, workers(3)).unwrap();
    assert_eq!((p.len(), w.len()), (1, 1));
    assert_ne!(p[0].private_key, w[0].private_key);
    assert_eq!(i64::from(p[0].valid_until_utime), (START + LIFE) as i64);
    let hash = |text: &str| Err((602, text.to_owned()));
    assert_eq!(bed.ask(2, proxies(3)), hash("unknown proxy hash"));
    assert_eq!(bed.ask(1, workers(3)), hash("unknown worker hash"));
    assert_eq!(bed.ask(3, proxies(0)), hash("unknown proxy hash"));
    assert_eq!(bed.ask(99, workers(0)), hash("unknown worker hash"));
    let magic = (601, "unknown query magic".to_owned());
    assert_eq!(bed.ask(1, vec![1, 2, 3, 4]), Err(magic));
    assert_eq!(bed.ask(1, proxies(3)[..6].to_vec()).unwrap_err().0, 0);
    // The asker knows a later configuration than we do: it may have lost an image.
    let low = (602, "active config version is too low".to_owned());
    assert_eq!(bed.ask(1, proxies(4)), Err(low.clone()));
    assert_eq!(bed.ask(2, workers(i32::MAX)), Err(low));
    assert_eq!(bed.core.stats()["stats"]["success"], 2);
    assert_eq!(bed.core.stats()["stats"]["failed"], 8);
}

#[test]
fn a_key_is_on_disk_before_anybody_learns_it() {
    let mut bed = Bed::new();
    bed.up(1, PROXY);
    bed.up(2, WORKER);
    bed.query(1, proxies(3));
    bed.query(2, workers(3));
    // The first batch began before the keys were drawn; they come with the second.
    let (number, batch) = bed.batch.take().unwrap();
    assert!(batch.iter().all(|(name, _)| !name.starts_with("key_")));
    bed.event(KeyManagerEvent::Saved(number));
    assert!(!bed.ready && bed.replies.is_empty());
    assert!(bed.batch.is_some());
    bed.flush();
    assert!(bed.ready);
    assert_eq!(bed.replies.len(), 2);
    for (_, _, result) in &bed.replies {
        let keys = from_boxed::<PrivateKeys>(result.as_ref().unwrap())
            .unwrap()
            .keys;
        let named = |k: &PrivateKey| {
            let seed = SecretKey::new(Zeroizing::new(k.private_key));
            super::record::key_name(&super::record::public_key(&seed))
        };
        assert!(keys.iter().all(|k| bed.disk.contains_key(&named(k))));
    }
}

#[test]
fn flags_stand_on_disk_as_the_scheme_names_them() {
    let bed = served();
    let mut seen = Vec::new();
    for (name, value) in bed.disk.iter().filter(|(n, _)| n.starts_with("key_")) {
        let key: db::Key = from_boxed(value).unwrap();
        assert_ne!(key.for_proxies, key.for_workers);
        assert_eq!(key.valid_since_config_version, 3);
        assert_eq!(key.valid_since_utime as u64, START);
        assert_eq!(key.valid_until_utime as u64, START + LIFE);
        assert!(
            name[4..]
                .bytes()
                .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        );
        seen.push((key.for_proxies, hex::encode(key.private_key)));
    }
    seen.sort();
    assert_eq!(seen.len(), 2);
    let mut bed = bed;
    let p = bed.ask(1, proxies(3)).unwrap();
    assert_eq!(seen[1], (true, hex::encode(p[0].private_key)));
    let config: db::Config = from_boxed(&bed.disk["config"]).unwrap();
    assert!(matches!(config, db::Config::V1(c) if c.root_contract_version == 3));
}

#[test]
fn a_new_key_comes_ahead_of_the_old_ones_end() {
    let mut bed = served();
    let first = bed.ask(1, proxies(3)).unwrap()[0].private_key;
    bed.after(LIFE - ROTATE_AHEAD - 1);
    assert_eq!(bed.ask(1, proxies(3)).unwrap().len(), 1);
    bed.after(1);
    let both = bed.ask(1, proxies(3)).unwrap();
    assert_eq!(both.len(), 2);
    assert_eq!(both[1].private_key, first, "the longer life stands first");
    assert_eq!(bed.ask(2, workers(3)).unwrap().len(), 2);
    bed.after(ROTATE_AHEAD - 1);
    assert_eq!(bed.ask(1, proxies(3)).unwrap().len(), 2);
    bed.after(1);
    let left = bed.ask(1, proxies(3)).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].private_key, both[0].private_key);
    let on_disk = bed.disk.keys().filter(|n| n.starts_with("key_")).count();
    assert_eq!(on_disk, 2, "what has ended is gone from the disk too");
}

#[test]
fn after_a_long_sleep_there_are_new_keys_only() {
    let mut bed = served();
    let old = bed.ask(1, proxies(3)).unwrap()[0].private_key;
    let disk_keys = |bed: &Bed| -> Vec<String> {
        bed.disk
            .keys()
            .filter(|n| n.starts_with("key_"))
            .cloned()
            .collect()
    };
    let before = disk_keys(&bed);
    bed.now += 10 * LIFE;
    let mut bed = bed.killed(root(3, &[PROXY], &[WORKER])).unwrap();
    bed.up(1, PROXY);
    bed.query(1, proxies(3));
    assert!(
        bed.replies.is_empty(),
        "nothing old, and the new is not saved yet"
    );
    bed.flush();
    let keys = from_boxed::<PrivateKeys>(bed.replies[0].2.as_ref().unwrap())
        .unwrap()
        .keys;
    assert!(keys.len() == 1 && keys[0].private_key != old);
    assert!(disk_keys(&bed).iter().all(|n| !before.contains(n)));
}

#[test]
fn a_kill_at_any_point_forgets_no_key_that_was_given_away() {
    for flushed in 0..6 {
        let mut bed = Bed::new();
        bed.up(1, PROXY);
        bed.query(1, proxies(3));
        bed.event(KeyManagerEvent::Generate {
            ticket: 1,
            audience: Audience::BOTH,
        });
        for _ in 0..flushed {
            if let Some((number, batch)) = bed.batch.take() {
                for (name, value) in batch {
                    bed.disk.insert(name, value.unwrap());
                }
                bed.event(KeyManagerEvent::Saved(number));
            }
        }
        let given: Vec<[u8; 32]> = bed
            .replies
            .iter()
            .flat_map(|r| {
                from_boxed::<PrivateKeys>(r.2.as_ref().unwrap())
                    .unwrap()
                    .keys
            })
            .map(|k| k.private_key)
            .collect();
        let reported = bed.done.clone();
        let mut bed = bed.killed(root(3, &[PROXY], &[WORKER])).unwrap();
        bed.flush();
        bed.up(1, PROXY);
        let now = bed.ask(1, proxies(3)).unwrap();
        for seed in given {
            assert!(now.iter().any(|k| k.private_key == seed), "{flushed}");
        }
        for (_, done) in reported {
            let Done::Generated(public) = done else {
                panic!("{done:?}")
            };
            let name = hex::encode_upper(public);
            assert!(bed.public_keys().iter().any(|k| k.0 == name));
        }
    }
}

#[test]
fn an_older_root_configuration_stops_the_start() {
    let bed = served();
    let error = bed.killed(root(2, &[PROXY], &[WORKER])).err().unwrap();
    assert!(
        matches!(
            error,
            RecordsError::OldRoot {
                stored: 3,
                found: 2
            }
        ),
        "{error}"
    );
    let mut bed = served();
    bed.event(KeyManagerEvent::Root(Box::new(root(
        9,
        &[PROXY],
        &[WORKER],
    ))));
    bed.flush();
    assert!(bed.killed(root(8, &[PROXY], &[WORKER])).is_err());
}

#[test]
fn an_image_that_leaves_takes_its_roles_keys_with_it() {
    let mut bed = served();
    let p = bed.ask(1, proxies(3)).unwrap()[0].private_key;
    let w = bed.ask(2, workers(3)).unwrap()[0].private_key;
    // One is added: nothing ends.
    let grown = root(4, &[PROXY, [8; 32]], &[WORKER]);
    bed.event(KeyManagerEvent::Root(Box::new(grown)));
    bed.flush();
    assert_eq!(bed.ask(1, proxies(4)).unwrap()[0].private_key, p);
    // The proxy's image leaves: its link stays, and gets nothing, not even while it waits.
    bed.event(KeyManagerEvent::Root(Box::new(root(
        5,
        &[[8; 32]],
        &[WORKER],
    ))));
    assert_eq!(bed.alarms.len(), 1);
    bed.up(4, [8; 32]);
    bed.query(4, proxies(5));
    assert!(bed.replies.is_empty());
    bed.flush();
    let keys = from_boxed::<PrivateKeys>(bed.replies.pop().unwrap().2.as_ref().unwrap());
    assert!(keys.unwrap().keys.iter().all(|k| k.private_key != p));
    assert_eq!(bed.ask(1, proxies(5)).unwrap_err().1, "unknown proxy hash");
    assert_eq!(bed.ask(2, workers(5)).unwrap()[0].private_key, w);
    // The same while the key manager was down.
    let mut bed = bed.killed(root(6, &[[8; 32]], &[[7; 32]])).unwrap();
    bed.flush();
    bed.up(1, [7; 32]);
    let keys = bed.ask(1, workers(6)).unwrap();
    assert!(keys.len() == 1 && keys[0].private_key != w);
}

#[test]
fn a_question_that_waits_is_judged_again() {
    let mut bed = Bed::new();
    bed.up(1, PROXY);
    bed.query(1, proxies(3));
    bed.event(KeyManagerEvent::Root(Box::new(root(
        4,
        &[[8; 32]],
        &[WORKER],
    ))));
    bed.flush();
    let refused = Err((602, "unknown proxy hash".to_owned()));
    assert_eq!(bed.replies, [(LinkId(1), 7, refused)]);
}

#[test]
fn the_operator_makes_and_ends_keys() {
    let mut bed = served();
    let make = |bed: &mut Bed, ticket, audience| {
        bed.event(KeyManagerEvent::Generate { ticket, audience });
        assert!(bed.done.is_empty(), "not before it is on disk");
        bed.flush();
        match bed.done.pop() {
            Some((t, Done::Generated(public))) if t == ticket => public,
            other => panic!("{other:?}"),
        }
    };
    let both = make(&mut bed, 1, Audience::BOTH);
    assert_eq!(bed.ask(1, proxies(3)).unwrap().len(), 2);
    assert_eq!(bed.ask(2, workers(3)).unwrap().len(), 2);
    let worker = make(&mut bed, 2, Audience::parse("worker").unwrap());
    assert_eq!(bed.ask(1, proxies(3)).unwrap().len(), 2);
    assert_eq!(bed.ask(2, workers(3)).unwrap().len(), 3);
    for (ticket, public) in [(3, both), (4, worker)] {
        bed.event(KeyManagerEvent::Remove { ticket, public });
        assert!(bed.done.is_empty());
        bed.flush();
        assert_eq!(bed.done.pop(), Some((ticket, Done::Removed(public))));
    }
    assert_eq!(bed.ask(2, workers(3)).unwrap().len(), 1);
    bed.event(KeyManagerEvent::Remove {
        ticket: 5,
        public: both,
    });
    assert_eq!(bed.done.pop(), Some((5, Done::Unknown)));
    // Ending the last one makes another at once.
    let last: Vec<_> = bed.public_keys();
    for (n, (public, ..)) in last.iter().enumerate() {
        let public = hex::decode(public).unwrap().try_into().unwrap();
        bed.event(KeyManagerEvent::Remove {
            ticket: 10 + n as u64,
            public,
        });
    }
    bed.flush();
    assert_eq!(bed.ask(1, proxies(3)).unwrap().len(), 1);
    assert!(bed.public_keys().iter().all(|k| !last.contains(k)));
    for text in ["", "Proxy", "client"] {
        assert_eq!(Audience::parse(text), None);
    }
}

#[test]
fn there_are_bounds() {
    let mut bed = served();
    for ticket in 0..MAX_KEYS as u64 {
        bed.seeds = 0;
        let seed = {
            let mut s = [0xcc; 32];
            s[..8].copy_from_slice(&ticket.to_le_bytes());
            SecretKey::new(Zeroizing::new(s))
        };
        let effects = bed.core.handle(
            bed.now * 1000,
            KeyManagerEvent::Generate {
                ticket,
                audience: Audience::PROXIES,
            },
        );
        for effect in effects {
            match effect {
                KeyManagerEffect::Draw { draw } => bed.event(KeyManagerEvent::Drawn {
                    draw,
                    seed: seed.clone(),
                }),
                other => bed.apply(vec![other]),
            }
        }
        bed.flush();
    }
    assert_eq!(bed.public_keys().len(), MAX_KEYS);
    assert_eq!(bed.done.pop().unwrap().1, Done::Full);
    // An answer of that size is still read by our own asker.
    bed.query(1, proxies(3));
    let (_, _, answer) = bed.replies.pop().unwrap();
    assert_eq!(
        read_keys(&answer.unwrap(), START).unwrap().len(),
        MAX_KEYS - 1
    );

    let mut bed = Bed::new();
    bed.up(1, PROXY);
    for _ in 0..MAX_WAITING {
        bed.query(1, proxies(3));
    }
    assert!(bed.replies.is_empty());
    assert_eq!(bed.ask(1, proxies(3)).unwrap_err().0, 651);
    bed.event(KeyManagerEvent::Link(LinkEvent::Down {
        link: LinkId(1),
        reason: String::new(),
    }));
    bed.flush();
    assert!(bed.replies.is_empty(), "nobody is there any more");
}

#[test]
fn the_last_second_of_the_wires_clock_makes_no_dead_keys() {
    for now in [i32::MAX as u64 - 10, i32::MAX as u64, u64::MAX / 1000] {
        let mut bed = Bed::try_new(root(1, &[PROXY], &[]), Disk::new(), now, 0).unwrap();
        bed.flush();
        assert!(!bed.ready && bed.public_keys().is_empty());
    }
}

#[test]
fn records_that_mean_nothing_stop_the_start() {
    let good = served().disk;
    let start = |disk: Disk| Bed::try_new(root(3, &[PROXY], &[WORKER]), disk, START, 100);
    assert!(start(good.clone()).is_ok());
    let name = good.keys().find(|n| n.starts_with("key_")).unwrap().clone();
    let mut cases: Vec<Disk> = Vec::new();
    for (name, value) in [
        ("other", vec![1]),
        ("config", vec![1, 2]),
        ("lists", b"{}".to_vec()),
        (name.as_str(), Vec::new()),
        // A key under another's name.
        (&format!("key_{}", "AB".repeat(32)), good[&name].clone()),
    ] {
        let mut disk = good.clone();
        disk.insert(name.to_owned(), value);
        cases.push(disk);
    }
    let mut nobody: db::Key = from_boxed(&good[&name]).unwrap();
    (nobody.for_proxies, nobody.for_workers) = (false, false);
    let mut disk = good.clone();
    disk.insert(name, to_boxed(&nobody));
    cases.push(disk);
    for disk in cases {
        let error = start(disk).err().expect("refused");
        assert!(matches!(error, RecordsError::Record(_)), "{error}");
    }
}

#[test]
fn a_drain_ends_when_everything_is_on_disk() {
    let mut bed = served();
    bed.event(KeyManagerEvent::Generate {
        ticket: 1,
        audience: Audience::BOTH,
    });
    bed.event(KeyManagerEvent::Drain);
    assert!(!bed.drained);
    bed.flush();
    assert!(bed.drained && bed.done.len() == 1);
}

#[test]
fn no_secret_is_printed_or_shown() {
    let mut bed = served();
    let seed = bed.ask(1, proxies(3)).unwrap()[0].private_key;
    let shown = bed.core.stats().to_string();
    assert!(!shown.to_lowercase().contains(&hex::encode(seed)));
    let event = KeyManagerEvent::Drawn {
        draw: 0,
        seed: SecretKey::new(Zeroizing::new(seed)),
    };
    let printed = format!(
        "{event:?}{:?}",
        PrivateKey {
            valid_until_utime: 1,
            private_key: seed
        }
    );
    assert!(
        !printed.contains(&format!("{}, {}", seed[0], seed[1])),
        "{printed}"
    );
}

#[test]
fn answers_are_checked_by_the_asker() {
    let key = |until: i32, byte: u8| PrivateKey {
        valid_until_utime: until,
        private_key: [byte; 32],
    };
    let read = |keys: Vec<PrivateKey>| read_keys(&to_boxed(&PrivateKeys { keys }), 1000);
    let keys = read(vec![key(1001, 1), key(2000, 2), key(1000, 3), key(-5, 4)]).unwrap();
    let order: Vec<(u64, u8)> = keys.iter().map(|k| (k.until, k.seed.expose()[0])).collect();
    assert_eq!(order, [(2000, 2), (1001, 1)]);
    for (keys, word) in [
        (vec![], "no key"),
        (vec![key(1000, 1)], "no key"),
        (vec![key(2000, 0)], "zeros"),
        (vec![key(2000, 1); 2 * MAX_KEYS + 1], "more keys"),
    ] {
        let error = read(keys).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(read_keys(b"x", 0).is_err());
}

proptest! {
    /// No bytes of an asker panic the core, and none but the two questions are answered with keys.
    #[test]
    fn any_bytes_as_a_question(data in prop::collection::vec(any::<u8>(), 0..64), image in prop::sample::select(vec![0u8, 0xa1, 0xa2, 3])) {
        let mut bed = served();
        bed.up(9, [image; 32]);
        bed.query(9, data.clone());
        let known = data.len() == 8 && (data.starts_with(&proxies(0)[..4]) || data.starts_with(&workers(0)[..4]));
        prop_assert!(bed.replies[0].2.is_err() || known);
        let _ = read_keys(&data, START);
    }

    /// Whatever happens in whatever order: nobody learns a key that a later start does not know, and no ended one.
    #[test]
    fn what_was_given_away_is_known_after_a_kill(steps in prop::collection::vec((0u8..6, 0u64..40_000), 1..40)) {
        let mut bed = Bed::new();
        bed.up(1, PROXY);
        let mut given: BTreeMap<[u8; 32], i32> = BTreeMap::new();
        for (what, amount) in steps {
            match what {
                0 => { bed.now += amount; bed.event(KeyManagerEvent::Tick); }
                1 => bed.query(1, proxies(3)),
                2 => bed.event(KeyManagerEvent::Generate { ticket: 1, audience: Audience::PROXIES }),
                3 => bed.flush(),
                4 => {
                    bed = bed.killed(root(3, &[PROXY], &[WORKER])).unwrap();
                    bed.up(1, PROXY);
                }
                _ => bed.query(1, workers(3)),
            }
            for (_, _, result) in std::mem::take(&mut bed.replies) {
                if let Ok(data) = result {
                    for k in from_boxed::<PrivateKeys>(&data).unwrap().keys {
                        prop_assert!(k.valid_until_utime as u64 > bed.now);
                        given.insert(k.private_key, k.valid_until_utime);
                    }
                }
            }
            let shown = bed.public_keys();
            for (seed, until) in &given {
                let seed = SecretKey::new(Zeroizing::new(*seed));
                let name = hex::encode_upper(super::record::public_key(&seed));
                prop_assert_eq!(shown.iter().any(|k| k.0 == name), *until as u64 > bed.now);
            }
        }
    }
}
