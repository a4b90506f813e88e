//! The whole network in one thread: the cores of clients, proxies and workers in a seeded world that drops, delays
//! and reorders, cuts the network in two, sets clocks wrong, crashes nodes in the middle of saves, mixes protocol
//! versions, lets peers lie, and keeps account of every coin and token.
//!
//! A failing seed prints its last events. `COCOON_SEED=n cargo test -p cocoon-node --test simulation money` runs only
//! that one; `COCOON_SEEDS=from..to` runs a range; `COCOON_TRACE=1` keeps all events instead of the last 400.

mod sim;

use std::ops::Range;

use sim::node::Role;
use sim::runner::{self, Sweep};
use sim::sabotage::Sabotage;
use sim::{Plan, Sim};

/// Seeds that every run of the tests tries.
const SEEDS: Range<u64> = 0..10_000;
/// Seeds in which each bug put in on purpose has to show.
const SABOTAGED: Range<u64> = 0..2_000;

fn seeds() -> Range<u64> {
    let Ok(range) = std::env::var("COCOON_SEEDS") else {
        return SEEDS;
    };
    let wrong = "COCOON_SEEDS is from..to";
    let (from, to) = range.split_once("..").expect(wrong);
    from.parse().expect(wrong)..to.parse().expect(wrong)
}

#[test]
fn money_adds_up_whatever_happens() {
    if let Ok(seed) = std::env::var("COCOON_SEED") {
        let seed = seed.parse().expect("COCOON_SEED is a number");
        let figures = runner::run(Plan::of(seed), true).unwrap_or_else(|e| panic!("{e}"));
        println!("seed {seed}: {figures:?}");
        return;
    }
    let Sweep {
        runs,
        total: t,
        failures,
    } = runner::sweep(seeds(), Plan::of);
    println!("{runs} seeds: {t:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // A run in which nothing happens proves nothing.
    assert!(t.steps > 1000 * runs, "{} steps", t.steps);
    if runs >= 1000 {
        let happened = [
            t.answered / 5,
            t.failed,
            t.crashes,
            t.torn * 10,
            t.drops,
            t.cuts * 5,
            t.attacks,
            t.settlements,
        ];
        assert!(happened.iter().all(|n| *n > runs / 2), "{t:?}");
    }
}

/// Where nothing fails, what is booked is what was delivered, to the token.
#[test]
fn without_faults_every_bill_is_exact() {
    for seed in 2000..2005 {
        let mut sim = Sim::new(Plan::quiet(seed, 150_000));
        let f = sim.run().unwrap();
        assert!(f.answered > 100, "seed {seed}: {f:?}");
        assert!(f.withdrawals > 0, "seed {seed}: {f:?}");
        assert_eq!(f.booked_tokens, f.delivered_tokens, "seed {seed}");
    }
}

/// A proxy whose disk is an old copy must notice it from the chain, stop, and sign nothing.
#[test]
fn a_rolled_back_store_halts_the_proxy() {
    for seed in 0..6 {
        let mut sim = Sim::new(Plan {
            faults: true,
            ..Plan::quiet(1000 + seed, 150_000)
        });
        let proxy = sim.index(Role::Proxy, 0);
        sim.run_for(25_000).unwrap();
        let old = sim.nodes[proxy].disk.clone();
        let commits = sim.chain.commits;
        sim.run_for(40_000).unwrap();
        assert!(
            sim.chain.commits > commits + 2,
            "no newer state commit to notice"
        );
        sim.crash(proxy);
        sim.nodes[proxy].disk = old;
        sim.reload_durable(proxy);
        sim.must_halt = Some(proxy);
        sim.run_for(20_000).unwrap();
        let node = &sim.nodes[proxy];
        let why = node.halted.as_deref().unwrap_or_default();
        assert!(
            why.contains("store"),
            "seed {seed}: the proxy did not halt: {why:?}"
        );
        assert!(!node.listening, "seed {seed}: the proxy took links");
    }
}

/// The same seed is the same run: without that a seed would be no bug report.
#[test]
fn a_seed_is_a_run() {
    for seed in [7, 100, 101, 102, 103, 104, 105] {
        let run = || runner::run(Plan::of(seed), false).map(|f| format!("{f:?}"));
        assert_eq!(run(), run());
    }
}

/// A simulation that finds nothing could be blind: it has to find every bug that was put in on purpose, and to name
/// the law that it breaks.
#[test]
fn every_bug_put_in_on_purpose_is_found() {
    let mut wrong = Vec::new();
    for sabotage in Sabotage::ALL {
        let broken = |seed| Plan {
            sabotage: Some(sabotage),
            ..Plan::of(seed)
        };
        let found = SABOTAGED
            .into_iter()
            .find_map(|seed| runner::run(broken(seed), false).err());
        let Some(report) = found else {
            wrong.push(format!("{sabotage:?} was not found in {SABOTAGED:?}"));
            continue;
        };
        let law = sabotage.found_by();
        if !law.iter().any(|text| report.contains(text)) {
            wrong.push(format!("{sabotage:?} was found as another: {report}"));
        }
        println!("{sabotage:?}: {}", report.lines().next().unwrap_or(""));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
