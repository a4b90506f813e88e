//! The whole network in one thread: the cores of clients, proxies and workers in a seeded world that drops, delays
//! and reorders, crashes nodes in the middle of saves, and keeps account of every coin and token.
//!
//! A failing seed is printed. `COCOON_SEED=n cargo test -p cocoon-node --test simulation` runs only that one and
//! shows its last events; `COCOON_SEEDS=from..to` runs a range.

mod sim;

use sim::node::Role;
use sim::{Plan, Sim};

/// Seeds that every run of the tests tries.
const SEEDS: std::ops::Range<u64> = 0..40;

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        busy_ms: 150_000,
        crashes: true,
        faults: true,
    }
}

fn seeds() -> Vec<u64> {
    let var = |name: &str| std::env::var(name).ok();
    if let Some(seed) = var("COCOON_SEED") {
        return vec![seed.parse().expect("COCOON_SEED is a number")];
    }
    if let Some(range) = var("COCOON_SEEDS") {
        let (from, to) = range.split_once("..").expect("COCOON_SEEDS is from..to");
        let number = |s: &str| s.parse::<u64>().expect("COCOON_SEEDS is from..to");
        return (number(from)..number(to)).collect();
    }
    SEEDS.collect()
}

#[test]
fn money_adds_up_whatever_happens() {
    let mut answered = 0;
    let mut failures = Vec::new();
    for seed in seeds() {
        let mut sim = Sim::new(plan(seed));
        match sim.run().and_then(|f| sim.check_earned().map(|()| f)) {
            Ok(f) => {
                println!("seed {seed}: {f:?}");
                assert!(
                    f.steps > 5000,
                    "seed {seed}: a run of {} steps proves little",
                    f.steps
                );
                answered += f.answered;
            }
            Err(e) => failures.push(e),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(answered > 0, "no request was ever answered");
}

/// Where nothing fails, what is booked is what was delivered, to the token.
#[test]
fn without_faults_every_bill_is_exact() {
    for seed in 2000..2005 {
        let mut sim = Sim::new(Plan {
            crashes: false,
            faults: false,
            ..plan(seed)
        });
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
            crashes: false,
            ..plan(1000 + seed)
        });
        let proxy = sim::setup::index(Role::Proxy, 0);
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
    let run = || {
        let mut sim = Sim::new(plan(7));
        format!("{:?}", sim.run().unwrap())
    };
    assert_eq!(run(), run());
}
