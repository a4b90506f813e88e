//! Secret keys by name, and where a node gets them (spec 7).
//!
//! A node asks a [`KeySource`] and never knows more than a name: in development the keys stand in files
//! ([`FileKeys`]), in a confidential machine a helper on the same processor seals them to exactly this machine
//! ([`crate::sealing::SealedKeys`]), and in a network with a key manager they come over an attested link
//! (`node::key_manager`).

mod file;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use zeroize::Zeroizing;

pub use file::{FileKeys, KeyFileError};

/// Bytes of every key.
pub const KEY_LEN: usize = 32;
/// Longest name (spec 7.1).
pub const MAX_NAME: usize = 256;

/// 32 secret bytes: wiped when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; KEY_LEN]>);

impl SecretKey {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; KEY_LEN]>) -> Self {
        SecretKey(bytes)
    }

    /// The bytes. Whoever copies them wipes the copy.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// The name of a key: 1 to 256 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(Vec<u8>);

/// A name that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name of a key has 1 to {MAX_NAME} bytes, this one has {found}")]
pub struct KeyNameError {
    /// Bytes found.
    pub found: usize,
}

impl KeyName {
    /// Takes a name.
    pub fn new(name: impl Into<Vec<u8>>) -> Result<Self, KeyNameError> {
        let name = name.into();
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(KeyNameError { found: name.len() });
        }
        Ok(KeyName(name))
    }

    /// The payment key of a proxy (spec 7.5).
    #[must_use]
    pub fn app() -> Self {
        KeyName(b"app".to_vec())
    }

    /// The key of the persistent disk (spec 7.5).
    #[must_use]
    pub fn disk_encryption() -> Self {
        KeyName(b"disk_encryption".to_vec())
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Why there is no key. The texts hold no secrets.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The sealing helper.
    #[error(transparent)]
    Sealing(#[from] crate::sealing::SealingError),
    /// The key manager.
    #[error("the key manager gave no key: {0}")]
    Manager(String),
    /// This source does not know keys of that name.
    #[error("{source_name} has no key named {name}")]
    Unknown {
        /// What was asked.
        source_name: &'static str,
        /// For which.
        name: KeyName,
    },
}

/// An answer that comes later.
pub type KeyFuture<'a> = Pin<Box<dyn Future<Output = Result<SecretKey, KeyError>> + Send + 'a>>;

/// Somebody who has keys.
pub trait KeySource: Send + Sync {
    /// The key of that name. The same name gives the same key for as long as the source says.
    fn key<'a>(&'a self, name: &'a KeyName) -> KeyFuture<'a>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_never_printed() {
        let key = SecretKey::new(Zeroizing::new([0xab; 32]));
        assert_eq!(format!("{key:?}"), "SecretKey(..)");
        assert_eq!(key.expose(), &[0xab; 32]);
    }

    #[test]
    fn names_have_bounds() {
        assert_eq!(KeyName::new("").unwrap_err().found, 0);
        assert_eq!(KeyName::new(vec![b'x'; 257]).unwrap_err().found, 257);
        assert!(KeyName::new(vec![0xff; 256]).is_ok());
        assert_eq!(KeyName::app().to_string(), "app");
        assert_eq!(KeyName::new([b'a', 0]).unwrap().to_string(), "a\\x00");
    }
}
