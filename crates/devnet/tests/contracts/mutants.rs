//! What the tests are worth: every contract with one fault (contracts/mutants.json) must be noticed.
//!
//! The checks go from the cheap to the dear and stop at the first that fails: the behaviour cases of the contract, the
//! tests of the weaknesses, a few random lives, bad input, then more lives. `COCOON_MUTANT=text` tries only the
//! mutants whose name contains the text; `COCOON_MUTANT_LIVES=1` leaves out everything but the random lives.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::behaviour;
use crate::codes::{Codes, Mutant, mutants};
use crate::properties::{STEPS, life};

/// Fewer mutants than this would say little.
const FEWEST: usize = 40;
/// Random lives that a mutant must survive to count as unnoticed. As many as the property test has.
const LIVES: u64 = 240;

/// A test with any codes: what fails, in words.
pub type Check = fn(&Codes) -> Result<(), String>;

/// Quick tests, by name.
const QUICK: &[&[(&str, Check)]] = &[crate::weaknesses::TESTS];
/// Tests that take longer than some lives, by name.
const DEAR: &[&[(&str, Check)]] = &[crate::governance::TESTS, crate::bad_input::TESTS];
/// Lives before the dear tests.
const FIRST_LIVES: u64 = 20;

/// Which check notices a mutant, and at what.
fn killed_by(mutant: &Mutant, only_lives: bool) -> Option<String> {
    let codes = Codes::built().replaced_by(mutant);
    if only_lives {
        return in_lives(&codes, 0..LIVES);
    }
    behaviour::check(&codes, &mutant.contract)
        .err()
        .or_else(|| in_tests(&codes, QUICK))
        .or_else(|| in_lives(&codes, 0..FIRST_LIVES))
        .or_else(|| in_tests(&codes, DEAR))
        .or_else(|| in_lives(&codes, FIRST_LIVES..LIVES))
}

fn in_tests(codes: &Codes, tests: &[&[(&str, Check)]]) -> Option<String> {
    tests.iter().copied().flatten().find_map(|(name, check)| {
        let error = check(codes).err()?;
        Some(format!("{name}: {}", first_line(&error)))
    })
}

fn in_lives(codes: &Codes, seeds: std::ops::Range<u64>) -> Option<String> {
    seeds.into_iter().find_map(|seed| {
        let failed = life(codes, seed, &[true; STEPS]).err()?;
        Some(format!("life {seed}: {}", first_line(&failed.error)))
    })
}

fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(100)
        .collect()
}

#[test]
fn every_mutant_is_noticed() {
    let filter = std::env::var("COCOON_MUTANT").unwrap_or_default();
    let only_lives = std::env::var_os("COCOON_MUTANT_LIVES").is_some();
    let all = mutants();
    assert!(all.len() >= FEWEST, "{} mutants", all.len());
    let chosen: Vec<&Mutant> = all.iter().filter(|m| m.id.contains(&filter)).collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![None; chosen.len()]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(chosen.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(mutant) = chosen.get(index) else {
                        return;
                    };
                    let killer = killed_by(mutant, only_lives);
                    results.lock().unwrap()[index] = killer;
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let mut alive = Vec::new();
    for (mutant, killer) in chosen.iter().zip(&results) {
        match killer {
            Some(killer) => println!("{:<42} {killer}", mutant.id),
            None => {
                println!("{:<42} NOT NOTICED", mutant.id);
                alive.push(format!("{}: {}", mutant.id, mutant.breaks));
            }
        }
    }
    assert!(
        alive.is_empty(),
        "{} of {} mutants were not noticed:\n{}",
        alive.len(),
        chosen.len(),
        alive.join("\n")
    );
}
