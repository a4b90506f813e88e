//! The JSON configuration: the reference's keys (spec 5.4), read strictly. What the reference ignores (unknown keys,
//! values of a wrong type) is an error here: an ignored restriction is a hole.

use std::path::{Path, PathBuf};

use cocoon_attest::policy_config::PolicyConfig;
use cocoon_collateral::CollateralConfig;
use serde::{Deserialize, Deserializer, Serialize};

use crate::certificate::CertificateMode;

/// Largest configuration file; ten thousand hashes fit.
pub const MAX_FILE_LEN: u64 = 1024 * 1024;

/// A whole file. Keys marked *ours* are unknown to the reference, which ignores them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// `<base>_cert.pem` and `<base>_key.pem` hold certificate and key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_base_name: Option<PathBuf>,
    /// Ours: what a certificate made in memory carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_mode: Option<CertificateMode>,
    /// Threads; 0 is one for each core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Ours: this router serves a test network, where a user name may choose `fake_tdx`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test_network: bool,
    /// Ours: where Intel's collateral comes from; without it tdx policies refuse every peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<CollateralConfig>,
    /// Ours: file with one policy on evidence, whose demands count for every tdx policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_policy: Option<PathBuf>,
    /// Named policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyConfig>,
    /// Ports.
    pub ports: Vec<FilePort>,
}

/// One port of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePort {
    /// Port to listen on; 0 is any free one. A string of digits is taken too.
    #[serde(deserialize_with = "port")]
    pub port: u16,
    /// What it does.
    #[serde(rename = "type")]
    pub kind: FilePortType,
    /// What peers must prove.
    pub policy_name: String,
    /// For forward and reverse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_host: Option<String>,
    /// For forward and reverse.
    #[serde(
        default,
        deserialize_with = "some_port",
        skip_serializing_if = "Option::is_none"
    )]
    pub destination_port: Option<u16>,
    /// For socks5: whether the user name chooses the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_policy_from_username: Option<Usernames>,
    /// Whether the application gets the attestation frame; without it, what `--serialize-info` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serialize_info: Option<bool>,
    /// For reverse: proof of work asked of peers, in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pow_difficulty: Option<u8>,
    /// For socks5 and forward: most proof of work done for a peer, in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pow_difficulty: Option<u8>,
}

/// What a port does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilePortType {
    /// SOCKS5.
    Socks5,
    /// To one attested peer.
    Forward,
    /// From attested peers to one application.
    Reverse,
}

/// `true` allows every policy, as in the reference; a list (ours) allows those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected true, false or an array of policy names"
)]
pub enum Usernames {
    /// All or none.
    All(bool),
    /// Some.
    These(Vec<String>),
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system says no.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody writes this much by hand.
    #[error("{} has {found} bytes, more than the limit of {MAX_FILE_LEN}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
    },
    /// Not the JSON that is expected.
    #[error("cannot use {}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

impl FileConfig {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let io = |source| FileError::Io {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(io)?;
        let found = file.metadata().map_err(io)?.len();
        if found > MAX_FILE_LEN {
            let path = path.to_owned();
            return Err(FileError::TooLarge { path, found });
        }
        let mut text = Vec::new();
        // The limit again: a pipe has no length, and a file may grow.
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FILE_LEN), &mut text)
            .map_err(io)?;
        Self::parse(&text).map_err(|source| FileError::Json {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads the text of a file.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a port: a number from 0 to 65535, or a string of one"
)]
enum NumberOrText {
    Number(u16),
    Text(String),
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Number(number) => Ok(number),
        NumberOrText::Text(text) => text.parse().map_err(|_| {
            serde::de::Error::custom(format!(
                "{:?} is no port",
                text.chars().take(80).collect::<String>()
            ))
        }),
    }
}

fn some_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    port(deserializer).map(Some)
}
