//! Recorded evidence of others: never in the project, read where it lies.

use std::path::{Path, PathBuf};

/// The folder with recorded evidence, or `None` with a plain word on the terminal.
pub fn evidence() -> Option<PathBuf> {
    let folder = std::env::var_os("COCOON_EVIDENCE_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence"),
        PathBuf::from,
    );
    if folder.join("README.md").is_file() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED: no recorded evidence at {} (set COCOON_EVIDENCE_DIR)",
        folder.display()
    );
    None
}

/// The quotes and collateral that ship with the source of the crate that verifies them.
#[allow(dead_code)] // not every test binary looks at quotes
pub fn samples() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let found = home
        .and_then(|home| std::fs::read_dir(home.join("registry/src")).ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|registry| registry.path().join("dcap-qvl-0.7.1/sample"))
        .find(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: the source of the crate dcap-qvl 0.7.1 is not in cargo's registry");
    }
    found
}

/// Reads a file as bytes.
#[allow(dead_code)]
pub fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Reads a file as text.
#[allow(dead_code)]
pub fn text(folder: &Path, name: &str) -> String {
    String::from_utf8(bytes(folder, name)).unwrap()
}
