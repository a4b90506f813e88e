//! Keys in files, for development: what can be read by others is not used.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{KEY_LEN, KeyError, KeyFuture, KeyName, KeySource, SecretKey};

/// A file is read to this length: 64 digits, a line's end, and enough to see that it is something else.
const MAX_FILE: u64 = 128;

/// Why a file is not used. The content never stands in the text.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refused.
    #[error("cannot read the key {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others may read it, or have read it.
    #[error(
        "the key {path} is open to others on this machine (mode {mode:03o}): make a new one and close it with chmod 600"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A directory, a device or the like.
    #[error("the key {path} is not a plain file")]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Not a key.
    #[error("the key {path} does not hold 64 hexadecimal digits")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The name cannot be a file's.
    #[error("the key name {name} cannot be the name of a file: letters, digits, '-' and '_' only")]
    Name {
        /// The name.
        name: KeyName,
    },
}

/// A directory with one file `NAME.key` for each key: 64 hexadecimal digits, readable by the owner only.
#[derive(Debug, Clone)]
pub struct FileKeys {
    directory: PathBuf,
}

impl FileKeys {
    /// The directory; it is looked at when a key is asked for.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        FileKeys {
            directory: directory.into(),
        }
    }

    /// Reads a key.
    pub fn read(&self, name: &KeyName) -> Result<SecretKey, KeyFileError> {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let text = std::str::from_utf8(name.as_bytes())
            .ok()
            .filter(|text| text.bytes().all(|b| plain(&b)))
            .ok_or_else(|| KeyFileError::Name { name: name.clone() })?;
        read(&self.directory.join(format!("{text}.key")))
    }
}

impl KeySource for FileKeys {
    fn key<'a>(&'a self, name: &'a KeyName) -> KeyFuture<'a> {
        Box::pin(async move { self.read(name).map_err(KeyError::from) })
    }
}

/// Reads one file. The permissions are those of the file that was opened, not of a name that may change.
fn read(path: &Path) -> Result<SecretKey, KeyFileError> {
    let io = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(KeyFileError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    file.by_ref()
        .take(MAX_FILE)
        .read_to_end(&mut text)
        .map_err(io)?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    hex::decode_to_slice(text.trim_ascii(), &mut *key).map_err(|_| KeyFileError::Malformed {
        path: path.to_owned(),
    })?;
    Ok(SecretKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str, text: &str, mode: u32) {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_file_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let digits = "a1".repeat(32);
        write(dir.path(), "app.key", &format!("{digits}\n"), 0o600);
        let keys = FileKeys::new(dir.path());
        assert_eq!(keys.read(&KeyName::app()).unwrap().expose(), &[0xa1; 32]);
        for mode in [0o640, 0o604, 0o620, 0o660, 0o644, 0o601] {
            write(dir.path(), "app.key", &digits, mode);
            let error = keys.read(&KeyName::app()).unwrap_err();
            assert!(
                matches!(error, KeyFileError::Open { mode: found, .. } if found == mode),
                "{error}"
            );
            assert!(!error.to_string().contains("a1a1"));
        }
        write(dir.path(), "app.key", &digits, 0o400);
        assert!(keys.read(&KeyName::app()).is_ok());
    }

    #[test]
    fn what_is_no_key_file_is_named_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let keys = FileKeys::new(dir.path());
        let name = |text: &str| KeyName::new(text).unwrap();
        for text in [
            "",
            "hunter2",
            &"a1".repeat(31),
            &"a1".repeat(33),
            &"x".repeat(5000),
        ] {
            write(dir.path(), "k.key", text, 0o600);
            let error = keys.read(&name("k")).unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed { .. }), "{error}");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert!(matches!(
            keys.read(&name("gone")).unwrap_err(),
            KeyFileError::Io { .. }
        ));
        std::fs::create_dir(dir.path().join("d.key")).unwrap();
        assert!(matches!(
            keys.read(&name("d")).unwrap_err(),
            KeyFileError::NotAFile { .. }
        ));
        for wrong in ["../k", "a/b", ".", "k\0", "ä"] {
            assert!(matches!(
                keys.read(&name(wrong)).unwrap_err(),
                KeyFileError::Name { .. }
            ));
        }
    }
}
