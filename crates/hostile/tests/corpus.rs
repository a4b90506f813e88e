//! Each target over its corpus and over mutated inputs, with the same seed every time: no panic, no broken assertion,
//! bounded memory. And inputs made to be expensive: too long, too many, endless.

mod seeds;

use std::path::{Path, PathBuf};

use cocoon_hostile::{TARGETS, Target};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mutated inputs of each target. More: `COCOON_FUZZ_INPUTS=1000000 cargo test -p cocoon-hostile`.
const INPUTS: usize = 20_000;
/// A mutated input grows to at most this; real inputs of every parser are smaller.
const MAX_INPUT: usize = 16 << 10;
/// What all targets together may add to the memory of this process.
const MAX_MEMORY: u64 = 512 << 20;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(name)
}

fn read_corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = corpus(target.name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                bytes,
            )
        })
        .collect()
}

/// Changes that keep enough of a seed for the parser to go on: bits, bytes, numbers, cuts, copies.
fn mutate(random: &mut ChaCha8Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    const NUMBERS: [u32; 8] = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, u32::MAX];
    let mut out = seed.to_vec();
    for _ in 0..random.random_range(1..6) {
        if out.is_empty() {
            out.push(random.random());
        }
        let at = random.random_range(0..out.len());
        match random.random_range(0..8) {
            0 => out[at] ^= 1 << random.random_range(0..8),
            1 => out[at] = random.random(),
            2 => {
                let number = NUMBERS[random.random_range(0..NUMBERS.len())].to_le_bytes();
                let length = [1, 2, 4][random.random_range(0..3)].min(out.len() - at);
                out[at..at + length].copy_from_slice(&number[..length]);
            }
            3 => out.truncate(at),
            4 => {
                let end = random.random_range(at..out.len()) + 1;
                let piece = out[at..end.min(at + 512)].to_vec();
                out.splice(at..at, piece);
            }
            5 => {
                let end = (at + random.random_range(1..64)).min(out.len());
                out.drain(at..end);
            }
            6 if !other.is_empty() => {
                let from = random.random_range(0..other.len());
                let end = (from + random.random_range(1..128)).min(other.len());
                out.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                let number = NUMBERS[random.random_range(0..NUMBERS.len())].to_be_bytes();
                let length = 4.min(out.len() - at);
                out[at..at + length].copy_from_slice(&number[4 - length..]);
            }
        }
    }
    out.truncate(MAX_INPUT);
    out
}

/// Highest resident memory of this process so far, bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Runs the targets whose position is `part` modulo 2, so that two cores share the work.
fn run_part(part: usize) {
    let inputs = std::env::var("COCOON_FUZZ_INPUTS")
        .ok()
        .map_or(INPUTS, |text| text.parse().expect("a number"));
    let before = peak_memory();
    for (index, target) in TARGETS.iter().enumerate() {
        if index % 2 != part {
            continue;
        }
        let corpus = read_corpus(target);
        assert!(!corpus.is_empty(), "{} has no corpus", target.name);
        for (name, seed) in &corpus {
            let accepted = (target.run)(seed);
            let good = name.starts_with("good");
            assert!(
                accepted || !good,
                "{}/{name} is not read any more",
                target.name
            );
        }
        assert!(
            corpus.iter().any(|(name, _)| name.starts_with("good")),
            "{} has no good input: mutations would stop at the first byte",
            target.name
        );
        let mut random = ChaCha8Rng::seed_from_u64(0xc0c0 + index as u64);
        let mut accepted = 0;
        for number in 0..inputs {
            let seed = &corpus[random.random_range(0..corpus.len())].1;
            let other = &corpus[random.random_range(0..corpus.len())].1;
            let input = mutate(&mut random, seed, other);
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            match outcome {
                Ok(yes) => accepted += usize::from(yes),
                Err(panic) => {
                    let path =
                        std::env::temp_dir().join(format!("cocoon-crash-{}-{number}", target.name));
                    std::fs::write(&path, &input).unwrap();
                    eprintln!("{} panics on {}", target.name, path.display());
                    std::panic::resume_unwind(panic);
                }
            }
        }
        println!(
            "{}: {accepted} of {inputs} mutated inputs accepted",
            target.name
        );
    }
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < MAX_MEMORY, "{grown} bytes of memory were used");
}

#[test]
fn no_input_panics_a_parser_first_half() {
    run_part(0);
}

#[test]
fn no_input_panics_a_parser_second_half() {
    run_part(1);
}

fn target(name: &str) -> fn(&[u8]) -> bool {
    TARGETS
        .iter()
        .find(|t| t.name == name)
        .expect("a target")
        .run
}

/// Stated limits: what is larger is refused, whatever it holds.
#[test]
fn what_is_too_large_is_refused() {
    use cocoon_attest::certificate::MAX_CERTIFICATE_LEN;
    use cocoon_attest::evidence::collateral::MAX_COLLATERAL_LEN;
    use cocoon_attest::evidence::event_log::MAX_LOG_LEN;
    use cocoon_attest::quote::MAX_QUOTE_LEN;
    let padded = |name: &str, fill: u8, length: usize| {
        let good = read_corpus(&Target {
            name: TARGETS.iter().find(|t| t.name == name).unwrap().name,
            run: |_| true,
        });
        let mut input = good
            .into_iter()
            .find(|(n, _)| n.starts_with("good"))
            .unwrap()
            .1;
        input.resize(length, fill);
        input
    };
    for (name, fill, limit) in [
        ("tdx_quote", 0, MAX_QUOTE_LEN),
        ("certificate", 0, MAX_CERTIFICATE_LEN),
        ("event_log", 0xff, MAX_LOG_LEN),
        ("collateral", b' ', MAX_COLLATERAL_LEN),
        ("http_request", b' ', cocoon_node::client::request::MAX_BODY),
        ("boc", 0, cocoon_ton::boc::STATE.bytes),
    ] {
        assert!(!(target(name))(&padded(name, fill, limit + 1)), "{name}");
    }
    // The padding alone is not what was refused: white space within the limit is JSON's own.
    for name in ["collateral", "http_request"] {
        assert!((target(name))(&padded(name, b' ', 1 << 20)), "{name}");
    }
    assert!(target("tdx_quote")(&padded("tdx_quote", 0, MAX_QUOTE_LEN)));
}

/// Depth and number: what would cost a stack or a loop is refused or passed by.
#[test]
fn what_is_deep_or_endless_ends() {
    let deep = |open: &str| open.repeat(200_000).into_bytes();
    for name in ["http_request", "policy_file", "router_file", "collateral"] {
        for open in ["[", "{\"a\":", "{\"messages\":["] {
            assert!(!(target(name))(&deep(open)), "{name} {open}");
        }
    }
    assert!(!(target("rim"))(&deep("<a>")));
    assert!(target("usage")(&deep("[")));
    assert!(target("usage")(&deep("data: {\"usage\":{")));
    // An XML whose entities grow without end has none here: declarations are not read.
    let laughs = b"<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]><x>&b;</x>";
    assert!(!(target("rim"))(laughs));
    // A chain of a million certificates: only the first few are looked at.
    let mut chain = Vec::new();
    for _ in 0..20_000 {
        chain.extend(b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    }
    assert!(!(target("certificate_chain"))(&chain));
    // A vector that announces four billion elements.
    let mut keys = vec![0xe5, 0x6c, 0xd6, 0x0e];
    keys.extend([0xff; 4]);
    keys.extend([0; 64]);
    assert!(!(target("wire_message"))(&keys));
}
