//! Secrets of a single node: those of its configuration, and for the rest files in its data directory.

use std::path::Path;

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::config::Seed;
use crate::datadir::Layout;
use crate::error::Result;
use crate::keys::{self, Missing};

/// The directory of a node's keys, and whether missing ones may be made.
pub struct Keyring {
    layout: Layout,
    missing: Missing,
}

impl Keyring {
    /// Keys are made before the first start only: afterwards a new one would be a new node without coins and claims.
    pub fn open(layout: &Layout, role: &str) -> Result<Self> {
        keys::create_dir(&layout.keys())?;
        let store = layout.nodes().join(format!("{role}.redb"));
        let missing = if store.exists() {
            Missing::Refuse
        } else {
            Missing::Create
        };
        Ok(Self {
            layout: layout.clone(),
            missing,
        })
    }

    /// A key: the configured one, or the file's.
    pub fn key(&self, configured: Option<&Seed>, file: &str) -> Result<SigningKey> {
        match configured {
            Some(seed) => Ok(SigningKey::from_bytes(seed)),
            None => self.seed(file).map(|seed| SigningKey::from_bytes(&seed)),
        }
    }

    /// A secret text: the configured one, or the file's bytes in hex.
    pub fn text(
        &self,
        configured: Option<Zeroizing<String>>,
        file: &str,
    ) -> Result<Zeroizing<String>> {
        match configured {
            Some(text) => Ok(text),
            None => Ok(Zeroizing::new(hex::encode(*self.seed(file)?))),
        }
    }

    /// A token may be made at any time: nothing hangs on an old one.
    pub fn token(&self, configured: Option<Zeroizing<String>>) -> Result<Zeroizing<String>> {
        match configured {
            Some(text) => Ok(text),
            None => {
                let seed = keys::read_or_create(&self.dir(), TOKEN_FILE, Missing::Create)?;
                Ok(Zeroizing::new(hex::encode(*seed)))
            }
        }
    }

    fn dir(&self) -> std::path::PathBuf {
        self.layout.keys()
    }

    fn seed(&self, file: &str) -> Result<Seed> {
        keys::read_or_create(&self.dir(), file, self.missing)
    }
}

/// Holds the token of the HTTP interface.
pub const TOKEN_FILE: &str = "http-token.key";

/// Reads API keys, one a line.
pub fn api_keys(path: &Path) -> Result<Vec<String>> {
    use crate::error::CliError;
    let bytes = crate::fs::read_small(path)?
        .map(Zeroizing::new)
        .ok_or_else(|| {
            CliError::usage(format!("there is no file {}", path.display()))
                .expected("a file with one API key a line")
                .hint("check the path after --api-keys-file")
        })?;
    keys::warn_if_open(path);
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        CliError::usage(format!("{} is not text", path.display()))
            .expected("a file with one API key a line")
    })?;
    let keys: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    if keys.is_empty() {
        // An empty list would ask nobody for a key.
        return Err(CliError::usage(format!("{} holds no key", path.display()))
            .expected("one API key a line")
            .hint("leave --api-keys-file out to ask for none"));
    }
    Ok(keys)
}
