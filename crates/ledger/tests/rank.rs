//! The rules of docs/market.md for the choice of a peer, as properties.

use cocoon_ledger::Coefficient;
use cocoon_ledger::health::{Circuit, Health, Outcome};
use cocoon_ledger::rank::{EXPLORE_ONE_IN, NEW_AT_ONCE, NEW_UNTIL, Peer, Ranked, Sort, rank};
use proptest::prelude::*;

const SORTS: [Sort; 4] = [Sort::Balanced, Sort::Price, Sort::Latency, Sort::Throughput];

fn price(thousandths: u32) -> Coefficient {
    Coefficient::new(thousandths).unwrap()
}

/// A proven peer.
fn peer(id: u64, coefficient: u32) -> Peer {
    Peer {
        id,
        enabled: true,
        running: 0,
        limit: 8,
        coefficient: price(coefficient),
        first_byte_ms: Some(300.0),
        token_ms: Some(20.0),
        error_rate: 0.0,
        seen: 100,
        circuit: Circuit::Closed,
        busy: false,
        near: false,
    }
}

fn any_peer(id: u64) -> impl Strategy<Value = Peer> {
    (
        any::<bool>(),
        0u32..5,
        0u32..5,
        0u32..3000,
        proptest::option::of(0.0f64..5000.0),
        proptest::option::of(0.0f64..200.0),
        prop_oneof![0.0f64..1.0, Just(f64::NAN)],
        0u32..6,
        prop_oneof![
            3 => Just(Circuit::Closed),
            1 => Just(Circuit::Trial),
            1 => (1u64..60_000).prop_map(Circuit::Open)
        ],
        any::<(bool, bool)>(),
    )
        .prop_map(
            move |(enabled, running, limit, c, first, token, error_rate, seen, circuit, flags)| {
                Peer {
                    id,
                    enabled,
                    running,
                    limit,
                    coefficient: price(c),
                    first_byte_ms: first,
                    token_ms: token,
                    error_rate,
                    seen,
                    circuit,
                    busy: flags.0 && flags.1,
                    near: flags.1,
                }
            },
        )
}

fn any_peers() -> impl Strategy<Value = Vec<Peer>> {
    (0u64..8).prop_flat_map(|n| (0..n).map(any_peer).collect::<Vec<_>>())
}

/// How often each peer is chosen in `n` draws.
fn counts(peers: &[Peer], sort: Sort, n: u64) -> Vec<u64> {
    let mut counts = vec![0; peers.len()];
    for draw in 0..n {
        if let Ranked::Peer(id) = rank(peers, price(4000), sort, draw * 0x1234_5677) {
            counts[peers.iter().position(|p| p.id == id).unwrap()] += 1;
        }
    }
    counts
}

proptest! {
    #[test]
    fn only_what_fits_is_chosen_and_nothing_that_fits_is_refused(
        peers in any_peers(), max in 0u32..3000, sort in 0usize..4, draw: u64
    ) {
        let fits = |p: &Peer| p.enabled && p.limit > 0 && p.coefficient <= price(max);
        let room = |p: &Peer| p.running < p.limit && !p.busy;
        let all_paused = peers.iter().filter(|p| fits(p)).all(|p| matches!(p.circuit, Circuit::Open(_)));
        match rank(&peers, price(max), SORTS[sort], draw) {
            Ranked::Peer(id) => {
                let p = peers.iter().find(|p| p.id == id).unwrap();
                prop_assert!(fits(p) && room(p), "{p:?}");
                prop_assert!(p.circuit == Circuit::Closed || p.running == 0, "one at a time tries a paused one: {p:?}");
                prop_assert!(all_paused || !matches!(p.circuit, Circuit::Open(_)), "{p:?}");
            }
            Ranked::Busy => {
                prop_assert!(peers.iter().any(fits));
                // Nobody waits for a peer that is well, known and has room.
                prop_assert!(!peers.iter().any(|p| fits(p) && room(p) && p.circuit == Circuit::Closed && p.seen >= NEW_UNTIL));
            }
            Ranked::TooExpensive(c) => {
                prop_assert!(c > price(max) && !peers.iter().any(fits));
                prop_assert!(peers.iter().any(|p| p.enabled && room(p) && p.coefficient == c));
            }
            Ranked::NoneReady => prop_assert!(!peers.iter().any(|p| p.enabled && room(p) && p.limit > 0)),
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(mut peers in any_peers(), sort in 0usize..4, draw: u64) {
        let first = rank(&peers, price(2000), SORTS[sort], draw);
        peers.reverse();
        prop_assert_eq!(first, rank(&peers, price(2000), SORTS[sort], draw));
    }

    #[test]
    fn sort_by_price_takes_the_cheapest_that_is_well(
        prices in proptest::collection::vec((1u32..3000, 0u32..8), 1..10), draw: u64
    ) {
        let peers: Vec<Peer> = prices.iter().enumerate().map(|(n, (c, running))| Peer { running: *running, ..peer(n as u64, *c) }).collect();
        let Ranked::Peer(id) = rank(&peers, price(4000), Sort::Price, draw) else {
            return Err(TestCaseError::fail("nothing chosen"));
        };
        let least = peers.iter().map(|p| p.coefficient).min().unwrap();
        prop_assert_eq!(peers.iter().find(|p| p.id == id).unwrap().coefficient, least);
    }

    #[test]
    fn sort_by_latency_and_throughput_take_the_fastest_of_equal_load(
        times in proptest::collection::vec(1.0f64..5000.0, 1..10), draw: u64
    ) {
        let with = |set: fn(&mut Peer, f64)| -> Vec<Peer> {
            times.iter().enumerate().map(|(n, ms)| { let mut p = peer(n as u64, 1000 + n as u32); set(&mut p, *ms); p }).collect()
        };
        for (sort, peers, floor) in [
            (Sort::Latency, with(|p, ms| p.first_byte_ms = Some(ms)), 20.0),
            (Sort::Throughput, with(|p, ms| p.token_ms = Some(ms)), 1.0),
        ] {
            let Ranked::Peer(id) = rank(&peers, price(4000), sort, draw) else {
                return Err(TestCaseError::fail("nothing chosen"));
            };
            let least = times.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert!(times[id as usize].max(floor) <= least.max(floor));
        }
    }

    /// What makes a peer better never makes it be chosen less, over many draws.
    #[test]
    fn better_is_never_chosen_less(better in 0usize..4, other in 500u32..2000) {
        let mut peers = vec![peer(0, 1000), peer(1, 1000), peer(2, other)];
        let before = counts(&peers, Sort::Balanced, 3000)[0];
        match better {
            0 => peers[0].coefficient = price(700),
            1 => peers[0].first_byte_ms = Some(100.0),
            2 => peers[0].token_ms = Some(8.0),
            _ => peers[0].near = true,
        }
        let after = counts(&peers, Sort::Balanced, 3000)[0];
        prop_assert!(after > before, "{before} before, {after} after");
    }
}

#[test]
fn equal_peers_share_equally_and_the_busier_one_gets_less() {
    let peers: Vec<Peer> = (0..10).map(|n| peer(n, 1000)).collect();
    for sort in SORTS {
        for (n, share) in counts(&peers, sort, 10_000).into_iter().enumerate() {
            assert!(
                (800..1200).contains(&share),
                "{sort:?}: {n} got {share} of 10000"
            );
        }
    }
    let mut loaded = peers;
    loaded[0].running = 6;
    assert!(counts(&loaded, Sort::Balanced, 10_000)[0] < 250);
}

/// No thundering: a burst that arrives before anything ended is spread, although one peer is the cheapest.
#[test]
fn a_burst_does_not_all_go_to_the_cheapest() {
    let mut peers: Vec<Peer> = (0..8).map(|n| peer(n, 1000)).collect();
    peers[0].coefficient = price(900);
    for draw in 0..32u64 {
        let Ranked::Peer(id) = rank(&peers, price(4000), Sort::Balanced, draw * 7919) else {
            panic!("there is room for 64");
        };
        peers[id as usize].running += 1;
    }
    let most = peers.iter().map(|p| p.running).max().unwrap();
    assert!(most <= 7, "one peer got {most} of 32");
    assert!(peers.iter().all(|p| p.running > 0), "{peers:?}");
}

#[test]
fn a_much_dearer_or_failing_peer_gets_little() {
    let mut peers = vec![peer(0, 1000), peer(1, 1000), peer(2, 4000)];
    let dear = counts(&peers, Sort::Balanced, 10_000);
    assert!(dear[2] < 400, "{dear:?}");
    peers[2] = Peer {
        error_rate: 0.5,
        ..peer(2, 1000)
    };
    let failing = counts(&peers, Sort::Balanced, 10_000);
    assert!(failing[2] < 400, "{failing:?}");
}

#[test]
fn new_peers_are_tried_but_not_flooded() {
    let mut peers = vec![
        peer(0, 1000),
        Peer {
            seen: 0,
            first_byte_ms: None,
            token_ms: None,
            ..peer(1, 3000)
        },
    ];
    for sort in [Sort::Balanced, Sort::Latency, Sort::Throughput] {
        let tried = counts(&peers, sort, 8000)[1];
        let least = 8000 / EXPLORE_ONE_IN * 8 / 10;
        assert!(tried > least, "{sort:?}: tried {tried} times");
    }
    assert_eq!(
        counts(&peers, Sort::Price, 8000)[1],
        0,
        "a dear one is no use to who wants the cheapest"
    );
    peers[1].coefficient = price(10);
    peers[1].running = NEW_AT_ONCE;
    for sort in SORTS {
        assert_eq!(counts(&peers, sort, 1000), [1000, 0], "{sort:?}");
    }
}

/// A peer that fails is paused, tried by one request at a time, and comes back.
#[test]
fn a_failing_peer_backs_off_and_recovers() {
    let mut health = Health::new();
    let mut now = 1_000_000u64;
    let well = peer(0, 2000);
    let (mut asked, mut broken) = (Vec::new(), true);
    for n in 0..4000u64 {
        now += 100;
        if n == 2000 {
            broken = false;
        }
        let other = Peer {
            running: 0,
            limit: 8,
            ..Peer::measured(1, price(500), &health, now)
        };
        let chosen = rank(&[well, other], price(4000), Sort::Balanced, n * 104_729);
        if chosen == Ranked::Peer(1) {
            asked.push(n);
            let outcome = if broken {
                Outcome::Failed
            } else {
                health.first_byte(300);
                Outcome::Served {
                    tokens: 11,
                    streamed_ms: 200,
                }
            };
            health.ended(now, outcome, n);
        }
    }
    let bad = asked.iter().filter(|n| (100..2000).contains(*n)).count();
    let good = asked.iter().filter(|n| **n >= 3000).count();
    assert!((1..40).contains(&bad), "asked {bad} times while it failed");
    assert!(good > 500, "asked {good} times of 1000 after it came back");
}

#[test]
fn the_last_peer_is_asked_one_at_a_time_even_if_it_fails() {
    let paused = |id, ms, running| Peer {
        circuit: Circuit::Open(ms),
        running,
        ..peer(id, 1000)
    };
    let all = [paused(0, 900, 0), paused(1, 400, 0)];
    assert_eq!(rank(&all, price(4000), Sort::Balanced, 1), Ranked::Peer(1));
    let all = [paused(0, 900, 0), paused(1, 400, 1)];
    assert_eq!(rank(&all, price(4000), Sort::Balanced, 1), Ranked::Busy);
}
