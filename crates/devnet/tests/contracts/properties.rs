//! Random lives of a network against the model: sequences of valid and hostile messages from everybody.
//!
//! A failing seed is printed with the shortest sequence found. `COCOON_CONTRACT_SEED=n cargo test -p cocoon-devnet
//! --test contracts properties` runs only that one and prints its trace; `COCOON_CONTRACT_SEEDS=from..to` runs a
//! range.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::codes::Codes;
use crate::driver;
use crate::exits::{self, Tally};
use crate::getters;
use crate::rng::Rng;
use crate::sim::Sim;

/// Seeds that every run of the tests tries.
const SEEDS: std::ops::Range<u64> = 0..240;
/// Steps of one life.
pub const STEPS: usize = 60;
/// Steps after which the exits are tried on a copy, beside the end; one in so many.
const EXITS_EVERY: u64 = 20;
/// Failures that are made short and shown.
const SHRUNK: usize = 3;
/// Lines of the trace that a failure shows.
const SHOWN: usize = 60;

/// A life that broke a property.
pub struct Failed {
    /// What was wrong.
    pub error: String,
    /// What happened until then, if nothing panicked.
    pub trace: Vec<String>,
}

impl Failed {
    fn boxed(error: String, sim: Sim) -> Box<Self> {
        let trace = sim.trace;
        Box::new(Self { error, trace })
    }
}

/// Lives through the steps of a seed that `kept` does not leave out.
pub fn life(codes: &Codes, seed: u64, kept: &[bool]) -> Result<Sim, Box<Failed>> {
    catch_unwind(AssertUnwindSafe(|| live(codes, seed, kept))).unwrap_or_else(|_| {
        Err(Box::new(Failed {
            error: "panicked, see above".to_owned(),
            trace: Vec::new(),
        }))
    })
}

fn live(codes: &Codes, seed: u64, kept: &[bool]) -> Result<Sim, Box<Failed>> {
    let mut sim = Sim::new(codes, &mut Rng::new(seed, u64::MAX));
    for (step, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
        let mut rng = Rng::new(seed, step as u64);
        let exits_now = rng.below(EXITS_EVERY) == 0;
        let mut done = driver::step(&mut sim, &mut rng);
        if done.is_ok() && exits_now {
            done = leave(&mut sim, &mut rng);
        }
        if let Err(error) = done {
            return Err(Failed::boxed(error, sim));
        }
    }
    let mut rng = Rng::new(seed, 1 << 40);
    let done = sim
        .run()
        .and_then(|()| getters::tell_the_state(&sim))
        .and_then(|()| exits::replays_change_nothing(&sim))
        .and_then(|()| leave(&mut sim, &mut rng));
    match done {
        Ok(()) => Ok(sim),
        Err(error) => Err(Failed::boxed(error, sim)),
    }
}

fn leave(sim: &mut Sim, rng: &mut Rng) -> Result<(), String> {
    let tally = exits::everybody_leaves(sim, rng)?;
    sim.exits.add(tally);
    Ok(())
}

/// The failure of a seed with as few steps as leaving out one at a time gives.
fn shrink(codes: &Codes, seed: u64) -> String {
    let mut kept = vec![true; STEPS];
    let Err(mut failed) = life(codes, seed, &kept) else {
        return "it does not fail again".to_owned();
    };
    for step in (0..STEPS).rev() {
        kept[step] = false;
        match life(codes, seed, &kept) {
            Err(shorter) => failed = shorter,
            Ok(_) => kept[step] = true,
        }
    }
    let Failed { error, trace } = *failed;
    let from = trace.len().saturating_sub(SHOWN);
    format!(
        "seed {seed}: {error}\n{}\n  run it again: COCOON_CONTRACT_SEED={seed} cargo test -p cocoon-devnet --test contracts properties",
        trace[from..].join("\n")
    )
}

fn seeds() -> Vec<u64> {
    let var = |name: &str| std::env::var(name).ok();
    if let Some(seed) = var("COCOON_CONTRACT_SEED") {
        return vec![seed.parse().expect("COCOON_CONTRACT_SEED is a number")];
    }
    if let Some(range) = var("COCOON_CONTRACT_SEEDS") {
        let (from, to) = range
            .split_once("..")
            .expect("COCOON_CONTRACT_SEEDS is from..to");
        let number = |s: &str| s.parse::<u64>().expect("COCOON_CONTRACT_SEEDS is from..to");
        return (number(from)..number(to)).collect();
    }
    SEEDS.collect()
}

#[test]
fn every_life_follows_the_model() {
    let codes = Codes::built();
    let seeds = seeds();
    let tracing = std::env::var_os("COCOON_CONTRACT_SEED").is_some();
    let (mut transactions, mut failures) = (0, Vec::new());
    let mut seen = BTreeMap::new();
    let mut left = Tally::default();
    for seed in &seeds {
        match life(&codes, *seed, &[true; STEPS]) {
            Ok(sim) => {
                transactions += sim.world.log.len();
                left.add(sim.exits);
                for (key, count) in &sim.seen {
                    *seen.entry(key.clone()).or_insert(0usize) += count;
                }
                if tracing {
                    println!("{}", sim.trace.join("\n"));
                }
            }
            Err(failed) => {
                let line = failed.error.lines().next().unwrap_or_default();
                println!("seed {seed}: {line}");
                failures.push(*seed);
            }
        }
    }
    let shown: Vec<String> = failures
        .iter()
        .take(SHRUNK)
        .map(|seed| shrink(&codes, *seed))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} seeds fail: {failures:?}\n{}",
        failures.len(),
        seeds.len(),
        shown.join("\n")
    );
    println!(
        "{} lives, {transactions} transactions, {} kinds of outcome, {left:?}",
        seeds.len(),
        seen.len()
    );
    // A run of a few seeds proves less, and need not meet everything.
    if seeds.len() as u64 >= SEEDS.end {
        let missing: Vec<_> = must_be_seen()
            .into_iter()
            .filter(|key| !seen.contains_key(key))
            .collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
        assert!(
            left.whole > 100 && left.short_of_stake > 0 && left.unpaid > 0 && left.workers > 100,
            "the exits were hardly tried: {left:?}"
        );
    }
}

/// Operations with the exit codes that must be met.
type Rows = &'static [(&'static str, &'static [i32])];

/// Every operation must have gone well, and every refusal of section 4 must have been met.
fn must_be_seen() -> Vec<(&'static str, String, i32)> {
    let contracts: [(&str, Rows); 5] = [
        (
            "client",
            &[
                ("CLIENT_TOP_UP", &[0, 9, 1001, 1003, 1006]),
                (
                    "CLIENT_CHANGE_SECRET_HASH_AND_TOP_UP",
                    &[0, 1003, 1006, 1010],
                ),
                ("CLIENT_REGISTER", &[0, 1003, 1006, 1010]),
                ("CLIENT_CHANGE_SECRET_HASH", &[0, 1003, 1006, 1010]),
                ("CLIENT_INCREASE_STAKE", &[0, 1003, 1006, 1010]),
                ("CLIENT_WITHDRAW", &[0, 1001, 1003, 1006, 1009]),
                ("CLIENT_REQUEST_REFUND", &[0, 1003, 1006, 1009, 1011]),
                ("CLIENT_CHARGE", &[0, 9, 1000, 1003, 1005, 1006, 1007, 1015]),
                (
                    "CLIENT_GRANT_REFUND",
                    &[0, 9, 1000, 1003, 1005, 1006, 1007, 1015],
                ),
                ("SWEEP", &[0, 1006]),
                ("EXCESSES", &[1012]),
                ("bounce", &[0]),
            ],
        ),
        (
            "worker",
            &[
                ("WORKER_PAYOUT", &[0, 9, 1000, 1003, 1005, 1006, 1007, 1015]),
                ("WORKER_LAST_PAYOUT", &[0, 9, 1000, 1003, 1006]),
                ("WORKER_REGISTER", &[0, 1003, 1006, 1010]),
                ("SWEEP", &[0, 1012]),
                ("bounce", &[0]),
            ],
        ),
        (
            "proxy",
            &[
                ("CLIENT_REQUEST", &[0, 5, 1006, 1014]),
                ("WORKER_REQUEST", &[0, 5, 1014]),
                ("PROXY_PAY_REVENUE", &[0, 5, 9, 1003]),
                ("PROXY_INCREASE_STAKE", &[0, 9, 1003]),
                ("PROXY_CLOSE", &[0, 1003, 1006, 1010]),
                ("PROXY_CLOSE_SIGNED", &[0, 1006, 1007]),
                ("PROXY_CLOSE_COMPLETE", &[0, 1006, 1007, 1011]),
                ("TEXT", &[0, 9, 1003, 1010, 1013]),
                ("DO_NOT_PROCESS", &[0]),
            ],
        ),
        (
            "wallet",
            &[
                ("external", &[0, 1030, 1031, 1032, 1033, 1034, 1035]),
                ("WALLET_SEND", &[0, 1040]),
                ("TEXT", &[0, 1040, 1041]),
            ],
        ),
        (
            "root",
            &[
                ("ROOT_REGISTER_PROXY", &[0, 1004, 1010]),
                ("ROOT_UPDATE_PROXY", &[0, 2000]),
                ("ROOT_CHANGE_PRICE", &[0, 2001]),
                ("ROOT_CHANGE_PARAMS", &[0, 2001]),
                ("ROOT_CHANGE_OWNER", &[0, 1010]),
                ("ROOT_RESET", &[0]),
                ("ROOT_REPLACE_CODE", &[0]),
                ("ROOT_REPLACE_DATA_AND_CODE", &[0]),
                ("ROOT_REPLACE_CONTRACT_CODES", &[0]),
            ],
        ),
    ];
    let mut all = Vec::new();
    for (contract, rows) in contracts {
        for (op, exits) in rows {
            all.extend(exits.iter().map(|exit| (contract, (*op).to_owned(), *exit)));
        }
    }
    all
}
