//! THREATS.md says something about every row of the specification, and the tests it names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const TEXT: &str = include_str!("../THREATS.md");
const STATES: [&str; 5] = ["prevented", "refused", "impossible", "partly", "open"];

/// Names of all functions of all crates.
fn functions(folder: &Path, out: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text
                .match_indices("fn ")
                .filter_map(|(at, _)| text[at + 3..].split(['(', '<']).next());
            out.extend(names.map(|name| name.trim().to_owned()));
        }
    }
}

#[test]
fn every_row_has_an_answer_and_every_named_test_exists() {
    let mut known = BTreeSet::new();
    functions(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        &mut known,
    );
    let mut next = 1;
    let mut named = 0;
    for line in TEXT.lines().filter(|line| line.starts_with("| G")) {
        let cells: Vec<&str> = line
            .trim_matches('|')
            .splitn(3, '|')
            .map(str::trim)
            .collect();
        assert_eq!(cells[0], format!("G{next}"));
        assert!(STATES.contains(&cells[1]), "{line}");
        assert!(cells[2].len() > 20, "{line}");
        let tests = tests_named(cells[2]);
        let needs_test = ["prevented", "refused"].contains(&cells[1]);
        assert!(
            !needs_test || !tests.is_empty(),
            "{} names no test",
            cells[0]
        );
        next += 1;
    }
    assert_eq!(next, 45, "rows G1 to G44");
    for test in tests_named(TEXT) {
        assert!(known.contains(test), "no function {test}");
        named += 1;
    }
    assert!(named > 50, "{named}");
}

/// Words in backticks that look like names of tests.
fn tests_named(text: &str) -> Vec<&str> {
    let words = text.split('`').skip(1).step_by(2);
    words
        .filter(|word| word.len() > 4 && !word.contains(['/', '.', ':', ' ']))
        .filter(|word| {
            word.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        })
        .filter(|word| {
            ![
                "null",
                "fake_tdx",
                "is_test",
                "require_claims",
                "router_uid",
                "check_hashes",
                "collateral",
                "evidence_policy",
                "prevented",
            ]
            .contains(word)
        })
        .collect()
}
