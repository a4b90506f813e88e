//! The JSON or TOML form of a policy: the reference's keys, read strictly. The reference ignores keys of a wrong type,
//! which silently turns a restriction into "anything".

use serde::{Deserialize, Serialize};

use crate::policy::{Policy, PolicyRules};

/// One policy as it stands in a configuration.
///
/// ```
/// # use cocoon_attest::{Policy, policy_config::PolicyConfig};
/// let text = r#"{"type": "fake_tdx", "tdx_config": {"allowed_image_hashes":
///     "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61"}}"#;
/// let policy: Policy = serde_json::from_str(text).unwrap();
/// assert!(policy.is_fake());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Name by which ports refer to the policy; not part of [`Policy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What kind of policy.
    #[serde(rename = "type")]
    pub kind: PolicyType,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Restrictions; must be absent for `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tdx_config: Option<RulesConfig>,
}

/// Kinds of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyType {
    /// See [`Policy::Any`].
    Any,
    /// See [`Policy::FakeTdx`].
    FakeTdx,
    /// See [`Policy::Tdx`].
    Tdx,
}

/// Restrictions as hexadecimal strings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// 96 hex digits each.
    pub allowed_mrtd: Vec<String>,
    /// Sets of four strings of 96 hex digits.
    pub allowed_rtmr: Vec<Vec<String>>,
    /// 64 hex digits each.
    pub allowed_image_hashes: OneOrMany,
    /// Old spelling for a single image hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_image_hash: Option<String>,
    /// 96 hex digits each.
    pub allowed_collateral_root_hashes: OneOrMany,
}

/// A string, or an array of strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a hexadecimal string or an array of them"
)]
pub enum OneOrMany {
    /// One value.
    One(String),
    /// Any number of values.
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        OneOrMany::Many(Vec::new())
    }
}

impl OneOrMany {
    fn as_slice(&self) -> &[String] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// Why a policy configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyConfigError {
    /// Not hexadecimal, or of the wrong length.
    #[error("{field}: \"{found}\" is not a value of {expected} hexadecimal digits: {reason}")]
    Hex {
        /// Key.
        field: &'static str,
        /// Digits expected.
        expected: usize,
        /// What stands there.
        found: String,
        /// What is wrong.
        reason: String,
    },
    /// An RTMR set without exactly four values.
    #[error("allowed_rtmr: a set has {found} values, four expected (RTMR0 to RTMR3)")]
    RtmrSet {
        /// Values found.
        found: usize,
    },
    /// Restrictions on a policy that looks at no quote. The reference reads them and then refuses every peer.
    #[error("policy type any looks at no quote, so it takes no tdx_config")]
    RulesOnAny,
}

impl TryFrom<PolicyConfig> for Policy {
    type Error = PolicyConfigError;

    fn try_from(config: PolicyConfig) -> Result<Self, PolicyConfigError> {
        if config.kind == PolicyType::Any {
            return match config.tdx_config {
                None => Ok(Policy::Any),
                Some(_) => Err(PolicyConfigError::RulesOnAny),
            };
        }
        let rules = config
            .tdx_config
            .map_or_else(|| Ok(PolicyRules::default()), PolicyRules::try_from)?;
        Ok(if config.kind == PolicyType::FakeTdx {
            Policy::FakeTdx(rules)
        } else {
            Policy::Tdx(rules)
        })
    }
}

impl TryFrom<RulesConfig> for PolicyRules {
    type Error = PolicyConfigError;

    fn try_from(config: RulesConfig) -> Result<Self, PolicyConfigError> {
        let mut rules = PolicyRules {
            allowed_mrtd: values("allowed_mrtd", &config.allowed_mrtd)?,
            allowed_rtmr: Vec::new(),
            allowed_image_hashes: values(
                "allowed_image_hashes",
                config.allowed_image_hashes.as_slice(),
            )?,
            allowed_collateral_root_hashes: values(
                "allowed_collateral_root_hashes",
                config.allowed_collateral_root_hashes.as_slice(),
            )?,
            verifier: None,
        };
        for set in &config.allowed_rtmr {
            let registers: Vec<[u8; 48]> = values("allowed_rtmr", set)?;
            let found = registers.len();
            let registers =
                <[_; 4]>::try_from(registers).map_err(|_| PolicyConfigError::RtmrSet { found })?;
            rules.allowed_rtmr.push(registers);
        }
        if let Some(single) = &config.allowed_image_hash {
            rules
                .allowed_image_hashes
                .push(value("allowed_image_hash", single)?);
        }
        Ok(rules)
    }
}

impl From<Policy> for PolicyConfig {
    fn from(policy: Policy) -> Self {
        let (kind, rules) = match policy {
            Policy::Any => (PolicyType::Any, None),
            Policy::FakeTdx(rules) => (PolicyType::FakeTdx, Some(rules)),
            Policy::Tdx(rules) => (PolicyType::Tdx, Some(rules)),
        };
        let tdx_config = rules.map(|rules| RulesConfig {
            allowed_mrtd: rules.allowed_mrtd.iter().map(hex::encode).collect(),
            allowed_rtmr: rules
                .allowed_rtmr
                .iter()
                .map(|set| set.iter().map(hex::encode).collect())
                .collect(),
            allowed_image_hashes: OneOrMany::Many(
                rules.allowed_image_hashes.iter().map(hex::encode).collect(),
            ),
            allowed_image_hash: None,
            allowed_collateral_root_hashes: OneOrMany::Many(
                rules
                    .allowed_collateral_root_hashes
                    .iter()
                    .map(hex::encode)
                    .collect(),
            ),
        });
        PolicyConfig {
            name: None,
            kind,
            description: None,
            tdx_config,
        }
    }
}

fn values<const N: usize>(
    field: &'static str,
    texts: &[String],
) -> Result<Vec<[u8; N]>, PolicyConfigError> {
    texts.iter().map(|text| value(field, text)).collect()
}

fn value<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], PolicyConfigError> {
    let mut out = [0; N];
    match hex::decode_to_slice(text, &mut out) {
        Ok(()) => Ok(out),
        Err(error) => Err(PolicyConfigError::Hex {
            field,
            expected: N * 2,
            found: text.chars().take(200).collect(),
            reason: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<Policy, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_policy_reads_from_json_and_toml_and_survives_a_round_trip() {
        let h48 = "ab".repeat(48);
        let h32 = "cd".repeat(32);
        let json = format!(
            r#"{{"name":"strict","type":"tdx","description":"d","tdx_config":{{"allowed_mrtd":["{h48}"],
            "allowed_rtmr":[["{h48}","{h48}","{h48}","{h48}"]],"allowed_image_hashes":"{h32}",
            "allowed_image_hash":"{h32}","allowed_collateral_root_hashes":["{h48}"]}}}}"#
        );
        let read = policy(&json).unwrap();
        let Policy::Tdx(rules) = &read else {
            panic!("{read:?}")
        };
        assert_eq!(rules.allowed_mrtd, [[0xab; 48]]);
        assert_eq!(rules.allowed_rtmr, [[[0xab; 48]; 4]]);
        assert_eq!(rules.allowed_image_hashes, [[0xcd; 32]; 2]);
        let again = policy(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
        let toml = format!("type = \"fake_tdx\"\n[tdx_config]\nallowed_mrtd = [\"{h48}\"]\n");
        let from_toml: Policy = toml::from_str(&toml).unwrap();
        assert!(from_toml.is_fake());
    }

    #[test]
    fn nothing_is_ignored() {
        let h48 = "ab".repeat(48);
        for (json, expected) in [
            (
                r#"{"type":"tdx","tdx_config":{"allowed_mrtd":["abcd"]}}"#.to_owned(),
                "96 hexadecimal digits",
            ),
            (
                r#"{"type":"tdx","tdx_config":{"allowed_image_hashes":"zz"}}"#.to_owned(),
                "64 hexadecimal digits",
            ),
            (
                r#"{"type":"tdx","tdx_config":{"allowed_mrtd":"abcd"}}"#.to_owned(),
                "expected a sequence",
            ),
            (
                r#"{"type":"tdx","tdx_config":{"allowed_image_hashes":[5]}}"#.to_owned(),
                "hexadecimal string",
            ),
            (
                format!(r#"{{"type":"tdx","tdx_config":{{"allowed_rtmr":[["{h48}"]]}}}}"#),
                "four expected",
            ),
            (
                r#"{"type":"tdx","tdx_config":{"allowed_mrdt":[]}}"#.to_owned(),
                "unknown field",
            ),
            (r#"{"type":"tdx","tdx_cfg":{}}"#.to_owned(), "unknown field"),
            (r#"{"type":"sgx"}"#.to_owned(), "unknown variant"),
            (
                r#"{"type":"any","tdx_config":{}}"#.to_owned(),
                "takes no tdx_config",
            ),
            (r#"{}"#.to_owned(), "missing field"),
        ] {
            let error = policy(&json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
