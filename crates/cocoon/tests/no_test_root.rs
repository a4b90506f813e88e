//! The program contains no root of trust but those of the makers of hardware.

use std::path::Path;

use cocoon_softtee::MARKER;

fn contains(path: &Path, words: &[u8]) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(words.len()).any(|window| window == words)
}

#[test]
fn the_program_contains_no_software_machine() {
    // This test's own binary does, so the search can fail.
    let machine = cocoon_softtee::SoftTdx::new(1_790_000_000);
    assert_ne!(machine.root_sha256(), [0; 32]);
    assert!(contains(
        &std::env::current_exe().unwrap(),
        MARKER.as_bytes()
    ));
    assert!(!contains(
        Path::new(env!("CARGO_BIN_EXE_cocoon")),
        MARKER.as_bytes()
    ));
}

/// Nothing that is built for use depends on the software machines: every mention is below `[dev-dependencies]`.
#[test]
fn only_tests_depend_on_the_software_machines() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut mentions = 0;
    for entry in std::fs::read_dir(crates).unwrap() {
        let manifest = entry.unwrap().path().join("Cargo.toml");
        if manifest.parent().unwrap().ends_with("softtee") {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&manifest) else {
            continue;
        };
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            if line.contains("softtee") {
                assert_eq!(section, "[dev-dependencies]", "{}", manifest.display());
                mentions += 1;
            }
        }
    }
    assert!(mentions >= 2, "the search finds nothing at all");
}
