//! The setting `collateral` of nodes and routers: a directory, or an object that also names a service.

use std::io::Read;
use std::path::{Path, PathBuf};

use cocoon_attest::evidence::tdx::TdxRoot;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::fetch::Fetcher;
use crate::service::{Service, ServiceError};
use crate::web::{Deadlines, SecretHeader, Web};

/// The header in which Intel's service takes a key.
pub const KEY_HEADER: &str = "Ocp-Apim-Subscription-Key";
const MAX_KEY_LEN: u64 = 4_096;

/// Where collateral comes from.
///
/// ```
/// # use cocoon_collateral::CollateralConfig;
/// let files: CollateralConfig = serde_json::from_str(r#""/var/lib/collateral""#).unwrap();
/// assert_eq!(files.service, None);
/// let fetched: CollateralConfig = serde_json::from_str(
///     r#"{"directory": "/var/lib/collateral", "service": "https://api.trustedservices.intel.com"}"#).unwrap();
/// assert!(fetched.service.is_some());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Members")]
pub struct CollateralConfig {
    /// Files that are read at the start, and where what is fetched is kept. Without it, it is kept in memory only.
    pub directory: Option<PathBuf>,
    /// Intel's service, or a cache of it (PCCS). Without it, the files are all there is.
    pub service: Option<String>,
    /// File with a key for the service.
    pub api_key_file: Option<PathBuf>,
    /// Header for the key.
    pub api_key_header: Option<String>,
    /// Authorities (PEM) that vouch for the service, instead of those of the machine.
    pub ca_file: Option<PathBuf>,
    /// Ask in clear, also over a network.
    pub allow_plain_http: bool,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a directory, or an object with directory, service, api_key_file, api_key_header, ca_file, allow_plain_http"
)]
enum Written {
    Directory(PathBuf),
    /// Would be taken for members without their names.
    #[allow(dead_code, reason = "it is only there to be refused")]
    List(Vec<serde::de::IgnoredAny>),
    Members(Members),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_key_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_key_header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    allow_plain_http: bool,
}

impl TryFrom<Written> for CollateralConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Directory(directory) => Ok(CollateralConfig {
                directory: Some(directory),
                ..CollateralConfig::default()
            }),
            Written::List(list) => Err(format!(
                "expected a directory, or an object; found a list of {}",
                list.len()
            )),
            Written::Members(members) => Ok(CollateralConfig {
                directory: members.directory,
                service: members.service,
                api_key_file: members.api_key_file,
                api_key_header: members.api_key_header,
                ca_file: members.ca_file,
                allow_plain_http: members.allow_plain_http,
            }),
        }
    }
}

impl From<CollateralConfig> for Members {
    fn from(config: CollateralConfig) -> Self {
        Members {
            directory: config.directory,
            service: config.service,
            api_key_file: config.api_key_file,
            api_key_header: config.api_key_header,
            ca_file: config.ca_file,
            allow_plain_http: config.allow_plain_http,
        }
    }
}

/// Why a setting cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The service.
    #[error("the collateral service: {0}")]
    Service(#[from] ServiceError),
    /// The key.
    #[error("the key of the collateral service ({}): {reason}", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The authorities.
    #[error("the authorities of the collateral service: {0}")]
    Authorities(String),
    /// Neither files nor a service.
    #[error("collateral needs a directory, a service, or both")]
    Nothing,
    /// Something about a service that is not named.
    #[error("{0} says something about a collateral service, and none is named")]
    NoService(&'static str),
}

impl CollateralConfig {
    /// Who fetches, or `None` where only files are used.
    pub fn fetcher(&self, root: TdxRoot) -> Result<Option<Fetcher>, SettingsError> {
        let Some(address) = &self.service else {
            let idle = [
                ("api_key_file", self.api_key_file.is_some()),
                ("api_key_header", self.api_key_header.is_some()),
                ("ca_file", self.ca_file.is_some()),
                ("allow_plain_http", self.allow_plain_http),
            ];
            return match (idle.iter().find(|(_, set)| *set), &self.directory) {
                (Some((name, _)), _) => Err(SettingsError::NoService(name)),
                (None, None) => Err(SettingsError::Nothing),
                (None, Some(_)) => Ok(None),
            };
        };
        let service = Service::at(address, self.allow_plain_http)?;
        let deadlines = Deadlines::default();
        let web = match &self.ca_file {
            None => Web::native(deadlines),
            Some(path) => {
                Web::trusting_file(path, deadlines).map_err(SettingsError::Authorities)?
            }
        };
        let key = match (&self.api_key_file, &self.api_key_header) {
            (None, None) => None,
            (None, Some(_)) => return Err(SettingsError::NoService("api_key_header")),
            (Some(path), header) => Some(key(path, header.as_deref().unwrap_or(KEY_HEADER))?),
        };
        Ok(Some(Fetcher::new(service, web, key, root)))
    }
}

fn key(path: &Path, header: &str) -> Result<SecretHeader, SettingsError> {
    let failed = |reason: String| SettingsError::Key {
        path: path.to_owned(),
        reason,
    };
    let file = std::fs::File::open(path).map_err(|e| failed(e.to_string()))?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_KEY_LEN)
        .read_to_string(&mut text)
        .map_err(|e| failed(e.to_string()))?;
    SecretHeader::new(header, text).map_err(|reason| failed(reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CollateralConfig, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn both_forms_are_read_and_nothing_is_ignored() {
        let directory = read(r#""/x""#).unwrap();
        assert_eq!(directory, read(r#"{"directory": "/x"}"#).unwrap());
        for bad in [
            r#"{"directroy": "/x"}"#,
            "5",
            "null",
            r#"{"service": 5}"#,
            r#"["/x"]"#,
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("expected a directory"), "{bad}: {error}");
        }
        let whole = read(
            r#"{"directory":"/x","service":"https://a","api_key_file":"/k","api_key_header":"h","ca_file":"/c","allow_plain_http":true}"#,
        )
        .unwrap();
        assert_eq!(
            read(&serde_json::to_string(&whole).unwrap()).unwrap(),
            whole
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let root = TdxRoot::INTEL;
        let refused = |text: &str| match read(text).unwrap().fetcher(root) {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => error.to_string(),
        };
        assert!(read(r#""/x""#).unwrap().fetcher(root).unwrap().is_none());
        for (text, word) in [
            ("{}", "a directory, a service, or both"),
            (r#"{"directory":"/x","api_key_file":"/k"}"#, "api_key_file"),
            (r#"{"service":"http://192.0.2.1"}"#, "not encrypted"),
            (r#"{"service":"x"}"#, "is not an address"),
            (
                r#"{"service":"https://x","api_key_file":"/missing/key"}"#,
                "/missing/key",
            ),
            (
                r#"{"service":"https://x","api_key_header":"h"}"#,
                "api_key_header",
            ),
            (
                r#"{"service":"https://x","ca_file":"/missing/ca"}"#,
                "/missing/ca",
            ),
        ] {
            let error = refused(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "hunter2\u{7}\n").unwrap();
        let Err(error) = key(&path, KEY_HEADER) else {
            panic!("a control character was taken");
        };
        assert!(!error.to_string().contains("hunter2"), "{error}");
        std::fs::write(&path, "hunter2\n").unwrap();
        key(&path, KEY_HEADER).unwrap();
        std::fs::write(&path, "\n").unwrap();
        assert!(key(&path, KEY_HEADER).is_err());
    }
}
