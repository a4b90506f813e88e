//! The secrets of a local network: made once, kept with mode 0600, never printed.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use cocoon_ton::mnemonic::Mnemonic;
use ed25519_dalek::SigningKey;
use rand::TryRngCore;
use zeroize::Zeroizing;

use crate::error::{CliError, Result};
use crate::fs::{SECRET_MODE, io_error, read_small, write_new};

/// Everything that the roles sign with.
pub struct Keys {
    /// Owns the genesis coins and the root contract.
    pub faucet: SigningKey,
    /// Signs charges and payouts; part of every contract address.
    pub proxy: SigningKey,
    /// Node wallets.
    pub proxy_wallet: SigningKey,
    /// See [`Keys::proxy_wallet`].
    pub worker_wallet: SigningKey,
    /// See [`Keys::proxy_wallet`].
    pub client_wallet: SigningKey,
    /// Signs the records in the worker's store.
    pub worker_store: SigningKey,
    /// Signs the records in the client's store.
    pub client_store: SigningKey,
    /// Proves the client to a proxy after its first start.
    pub client_secret: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(<redacted>)")
    }
}

/// Whether missing keys may be made. Once a network exists, a new key would be a new, penniless owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// First start.
    Create,
    /// The network exists.
    Refuse,
}

impl Keys {
    /// Reads the keys of a directory.
    pub fn load(dir: &Path, missing: Missing) -> Result<Self> {
        let key =
            |name: &str| read_or_create(dir, name, missing).map(|s| SigningKey::from_bytes(&s));
        Ok(Self {
            faucet: key("faucet.key")?,
            proxy: key("proxy-payment.key")?,
            proxy_wallet: key("proxy-wallet.key")?,
            worker_wallet: key("worker-wallet.key")?,
            client_wallet: key("client-wallet.key")?,
            worker_store: key("worker-store.key")?,
            client_store: key("client-store.key")?,
            client_secret: {
                let seed = read_or_create(dir, "client-secret.key", missing)?;
                // In hex: peers may treat it as text.
                Zeroizing::new(hex::encode(*seed).into_bytes())
            },
        })
    }
}

/// Makes the directory of the keys, readable by its owner only.
pub fn create_dir(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| io_error("create", dir, &e))
}

/// Reads the 24 words in a file, or makes them.
pub fn words(dir: &Path, name: &str, missing: Missing) -> Result<Mnemonic> {
    let path = dir.join(name);
    if path.exists() || missing == Missing::Refuse {
        return read_mnemonic(&path);
    }
    let mnemonic = Mnemonic::new(&*random()?);
    let mut text = mnemonic.phrase();
    text.push('\n');
    write_new(&path, text.as_bytes(), SECRET_MODE)?;
    Ok(mnemonic)
}

/// Reads a mnemonic from a file.
pub fn read_mnemonic(path: &Path) -> Result<Mnemonic> {
    let bytes = read_small(path)?.map(Zeroizing::new).ok_or_else(|| {
        CliError::new(format!("there is no file {}", path.display()))
            .expected("a file with the 24 words of a TON mnemonic")
            .hint("check the path; 'cocoon wallet new --mnemonic-file FILE' makes a new wallet")
    })?;
    warn_if_open(path);
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        CliError::usage(format!("{} is not text", path.display()))
            .expected("24 English words, separated by spaces or lines")
    })?;
    parse_mnemonic(text, &path.display().to_string())
}

/// Reads a mnemonic; `origin` says where the text came from.
pub fn parse_mnemonic(text: &str, origin: &str) -> Result<Mnemonic> {
    Mnemonic::parse(text).map_err(|e| {
        CliError::usage(format!(
            "the mnemonic in {origin} cannot be used; nothing was changed"
        ))
        .expected("the 24 words of a TON mnemonic in their order")
        .found(e.to_string())
        .hint("compare it word by word with your copy; wrong words cannot be guessed from here")
    })
}

/// 32 random bytes from the system.
pub fn random() -> Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    rand::rngs::OsRng
        .try_fill_bytes(&mut *bytes)
        .map_err(|e| CliError::new("the system gives no random numbers").found(e.to_string()))?;
    Ok(bytes)
}

/// 32 secret bytes in hex in a file of their own.
pub fn read_or_create(dir: &Path, name: &str, missing: Missing) -> Result<Zeroizing<[u8; 32]>> {
    let path = dir.join(name);
    let Some(text) = read_small(&path)?.map(Zeroizing::new) else {
        if missing == Missing::Refuse {
            return Err(CliError::new(format!(
                "the key {} is missing; nothing was changed",
                path.display()
            ))
            .expected("the key that was used here before")
            .hint("restore it from a copy; a new key would be a new owner without coins")
            .hint("or start anew in another --data-dir"));
        }
        let seed = random()?;
        let text = Zeroizing::new(format!("{}\n", hex::encode(*seed)));
        write_new(&path, text.as_bytes(), SECRET_MODE)?;
        return Ok(seed);
    };
    warn_if_open(&path);
    let mut seed = Zeroizing::new([0u8; 32]);
    let digits = text.trim_ascii();
    hex::decode_to_slice(digits, &mut *seed).map_err(|_| {
        CliError::new(format!(
            "the key {} is damaged; nothing was changed",
            path.display()
        ))
        .expected("64 hexadecimal digits")
        .found(format!("{} characters that are not", digits.len()))
        .hint("restore the file from a copy")
    })?;
    Ok(seed)
}

/// Says so if others may read a file with secrets.
pub fn warn_if_open(path: &Path) {
    if let Ok(meta) = std::fs::metadata(path)
        && meta.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(
            "{} can be read by others on this machine; close it with: chmod 600 {}",
            path.display(),
            path.display()
        );
    }
}
