//! WEAKNESSES.md says something about every row of the specification, and the tests it names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const TEXT: &str = include_str!("../WEAKNESSES.md");
const STATES: [&str; 5] = ["prevented", "refused", "impossible", "partly", "open"];

/// Names of all test functions under a folder: of Rust, with the attribute on one of the lines above, and of pytest.
fn tests(folder: &Path, out: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !["target", "node_modules", ".git"].contains(&name.as_ref()) {
                tests(&path, out);
            }
            continue;
        }
        let rust = name.ends_with(".rs");
        let python = name.starts_with("test_") && name.ends_with(".py");
        if !(rust || python) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            let declared = line.strip_prefix("async ").unwrap_or(line);
            let key = if rust { "fn " } else { "def " };
            if let Some(rest) = declared.strip_prefix(key) {
                let name = rest.split(['(', '<']).next().unwrap_or_default();
                if (rust && marked) || (!rust && name.starts_with("test_")) {
                    out.insert(name.to_owned());
                }
                marked = false;
            } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if line.starts_with('}') {
                marked = false;
            }
        }
    }
}

/// Names in backticks that look like those of tests: several words with underscores.
fn named(text: &str) -> Vec<&str> {
    let words = text.split('`').skip(1).step_by(2);
    words
        .filter(|w| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            w.len() > 4 && w.bytes().all(plain)
        })
        .collect()
}

#[test]
fn every_row_has_an_answer_and_every_named_test_exists() {
    let mut known = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    tests(&root.join("crates"), &mut known);
    tests(&root.join("tests"), &mut known);
    let mut wanted: Vec<String> = (1..=58).map(|n| n.to_string()).collect();
    wanted.splice(36..36, ["36a".to_owned(), "36b".to_owned()]);
    let mut rows = Vec::new();
    let lines = TEXT.lines().filter(|line| line.starts_with("| "));
    for line in lines.filter(|line| !line.starts_with("| #")) {
        let cells: Vec<&str> = line
            .trim_matches('|')
            .splitn(3, '|')
            .map(str::trim)
            .collect();
        rows.push(cells[0].to_owned());
        assert!(STATES.contains(&cells[1]), "{line}");
        assert!(cells[2].len() > 20, "{line}");
        let shown = !named(cells[2]).is_empty();
        let must = ["prevented", "refused", "partly"].contains(&cells[1]) && cells[0] != "38";
        assert!(shown || !must, "row {} names no test", cells[0]);
    }
    assert_eq!(rows, wanted);
    let missing: Vec<&str> = named(TEXT)
        .into_iter()
        .filter(|t| !known.contains(*t))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
    assert!(named(TEXT).len() > 100);
}
