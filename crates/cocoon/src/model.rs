//! The model: the tiny one inside this program, checks of a directory, and a model's full name.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{CliError, Result};
use crate::fs::{PUBLIC_MODE, io_error, write_atomic};

/// Name of the model inside this program.
pub const SHIPPED_NAME: &str = "cocoon-tiny";

macro_rules! shipped {
    ($($file:literal),*) => {
        [$(($file, include_bytes!(concat!("../../../models/cocoon-tiny/", $file)) as &[u8])),*]
    };
}

/// The files of the model inside this program.
static SHIPPED: [(&str, &[u8]); 5] = shipped!(
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json"
);

/// Bytes hashed at a time.
const CHUNK: usize = 1 << 20;
/// Files of a model directory; far more than any model has.
const MAX_FILES: usize = 10_000;

/// Unpacks the model inside this program, unless its files are there already.
pub fn unpack_shipped(models: &Path) -> Result<PathBuf> {
    let dir = models.join(SHIPPED_NAME);
    std::fs::create_dir_all(&dir).map_err(|e| io_error("create", &dir, &e))?;
    for (name, content) in SHIPPED {
        let path = dir.join(name);
        let same = std::fs::metadata(&path).is_ok_and(|meta| meta.len() == content.len() as u64)
            && std::fs::read(&path).is_ok_and(|found| found == content);
        if !same {
            write_atomic(&path, content, PUBLIC_MODE)?;
        }
    }
    Ok(dir)
}

/// Whether a directory can be a model, before anything else is started.
pub fn check_dir(dir: &Path) -> Result<()> {
    let failure = |found: String| {
        CliError::usage(format!("cannot use the model {}; nothing was changed", dir.display()))
            .expected("a directory with config.json, tokenizer.json and model.safetensors (Hugging Face layout)")
            .found(found)
            .hint("check --model, or leave it out for the tiny model inside this program")
    };
    if !dir.is_dir() {
        let what = if dir.exists() {
            "a file"
        } else {
            "nothing there"
        };
        return Err(failure(what.to_owned()));
    }
    for name in ["config.json", "tokenizer.json"] {
        if !dir.join(name).is_file() {
            return Err(failure(format!("no {name}")));
        }
    }
    let weights = list(dir)?
        .iter()
        .any(|path| path.extension().is_some_and(|e| e == "safetensors"));
    if !weights {
        return Err(failure("no *.safetensors".to_owned()));
    }
    Ok(())
}

/// The full name `base@local:hash` of a model directory. Any change of a file changes it.
pub fn full_name(base: &str, dir: &Path) -> Result<String> {
    Ok(format!("{base}@local:{}", directory_hash(dir)?))
}

/// The name of a directory.
pub fn base_name(dir: &Path) -> Result<String> {
    let full = dir.canonicalize().map_err(|e| io_error("read", dir, &e))?;
    Ok(full.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    ))
}

/// A name must survive in full names, where `@` ends it, and in requests.
pub fn check_name(name: &str) -> Result<()> {
    let fine = !name.is_empty()
        && name.len() <= 200
        && name
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && c != '@');
    if fine {
        return Ok(());
    }
    Err(
        CliError::usage(format!("cannot offer a model under the name {name:?}"))
            .expected("1 to 200 characters without spaces and without '@', such as Qwen/Qwen3-8B")
            .hint("choose another name with --model-name"),
    )
}

/// SHA-256 over names, sizes and contents of the files of a directory, in the order of their names.
fn directory_hash(dir: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in list(dir)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (size, content) = file_hash(&path)?;
        hasher.update((name.len() as u64).to_be_bytes());
        hasher.update(name.as_bytes());
        hasher.update(size.to_be_bytes());
        hasher.update(content);
    }
    Ok(hex::encode(hasher.finalize()))
}

fn file_hash(path: &Path) -> Result<(u64, [u8; 32])> {
    let fail = |e: std::io::Error| io_error("read", path, &e);
    let mut file = std::fs::File::open(path).map_err(fail)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; CHUNK];
    let mut size = 0u64;
    loop {
        let read = file.read(&mut buffer).map_err(fail)?;
        if read == 0 {
            return Ok((size, hasher.finalize().into()));
        }
        size += read as u64;
        hasher.update(&buffer[..read]);
    }
}

/// The visible files of a directory, sorted by name.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let fail = |e: std::io::Error| io_error("read", dir, &e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.is_file() {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(CliError::new(format!(
                "{} has more than {MAX_FILES} files",
                dir.display()
            ))
            .expected("a model directory"));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_model_is_unpacked_and_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let model = unpack_shipped(dir.path()).unwrap();
        check_dir(&model).unwrap();
        let before = full_name("m", &model).unwrap();
        std::fs::write(model.join("config.json"), "{}").unwrap();
        assert_ne!(full_name("m", &model).unwrap(), before);
        unpack_shipped(dir.path()).unwrap();
        assert_eq!(full_name("m", &model).unwrap(), before);
        std::fs::rename(model.join("config.json"), model.join("konfig.json")).unwrap();
        assert_ne!(full_name("m", &model).unwrap(), before);
        assert!(
            check_dir(&model)
                .unwrap_err()
                .to_string()
                .contains("no config.json")
        );
        assert!(check_dir(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn names() {
        check_name("Qwen/Qwen3-8B").unwrap();
        for wrong in ["", "a b", "a@b", "a\n"] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
