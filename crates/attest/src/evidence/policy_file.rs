//! Policies as a file: JSON that is understood completely or refused.
//!
//! Unknown keys, keys or names that occur twice, `null`, empty lists, values of another type and contradictions are
//! errors: a restriction that is misspelled must not turn into "anything" (the reference's parser does that).

use serde::{Deserialize, Deserializer, Serialize};

use super::gpu_policy::GpuPolicy;
use super::snp_policy::SnpPolicy;
use super::tdx_policy::{TdxPolicy, TdxPolicyError};

/// Largest policy file: room for full lists, small enough to read at every start.
pub const MAX_FILE_LEN: usize = 4 << 20;
/// Most policies in a file.
pub const MAX_POLICIES: usize = 256;
/// Edition of the format.
const VERSION: u32 = 1;

/// Demands on a peer's evidence. A kind of machine that is not mentioned is refused.
///
/// ```
/// # use cocoon_attest::evidence::PolicyFile;
/// let file = PolicyFile::from_json(r#"{"version": 1, "policies": [
///     {"name": "workers", "tdx": {"minimum_evaluation_number": 20}, "snp": {"generations": ["turin"]}}
/// ]}"#).unwrap();
/// let workers = file.get("workers").unwrap();
/// assert!(workers.gpu.is_none(), "a GPU is not asked for");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidencePolicy {
    /// Its name, unique in the file.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// TDX domains are accepted if they satisfy this.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub tdx: Option<TdxPolicy>,
    /// SEV-SNP guests are accepted if they satisfy this.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub snp: Option<SnpPolicy>,
    /// A GPU is required that satisfies this.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub gpu: Option<GpuPolicy>,
}

/// All policies of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyFile {
    version: u32,
    policies: Vec<EvidencePolicy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: u32,
    policies: Vec<EvidencePolicy>,
}

/// Why a policy file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFileError {
    /// Too large.
    #[error("the policy file has {0} bytes, more than the limit of {MAX_FILE_LEN}")]
    TooLarge(usize),
    /// Not the form.
    #[error("the policy file is refused: {0}")]
    Form(String),
    /// Another edition.
    #[error("the policy file has version {0}, this program understands version {VERSION}")]
    Version(u32),
    /// No policy or too many.
    #[error("the policy file has {0} policies, 1 to {MAX_POLICIES} expected")]
    Count(usize),
    /// A name that is empty or taken.
    #[error("the name \"{0}\" is empty or occurs twice")]
    Name(String),
    /// No kind of machine could pass.
    #[error("policy \"{0}\" accepts no kind of machine: give it \"tdx\", \"snp\" or both")]
    Nothing(String),
    /// Demands that contradict each other or open the machine to its host.
    #[error("policy \"{name}\": {reason}")]
    Tdx {
        /// Which policy.
        name: String,
        /// What is wrong.
        reason: TdxPolicyError,
    },
}

/// Reads a value that is there; `null` is none of our ways to say "not there".
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl PolicyFile {
    /// Reads a file's text.
    pub fn from_json(text: &str) -> Result<Self, PolicyFileError> {
        if text.len() > MAX_FILE_LEN {
            return Err(PolicyFileError::TooLarge(text.len()));
        }
        let raw: Raw =
            serde_json::from_str(text).map_err(|error| PolicyFileError::Form(error.to_string()))?;
        if raw.version != VERSION {
            return Err(PolicyFileError::Version(raw.version));
        }
        if raw.policies.is_empty() || raw.policies.len() > MAX_POLICIES {
            return Err(PolicyFileError::Count(raw.policies.len()));
        }
        for (index, policy) in raw.policies.iter().enumerate() {
            let name = &policy.name;
            let taken = raw.policies[..index]
                .iter()
                .any(|other| other.name == *name);
            if name.is_empty() || taken {
                return Err(PolicyFileError::Name(name.clone()));
            }
            if policy.tdx.is_none() && policy.snp.is_none() {
                return Err(PolicyFileError::Nothing(name.clone()));
            }
            if let Some(tdx) = &policy.tdx {
                tdx.validate().map_err(|reason| PolicyFileError::Tdx {
                    name: name.clone(),
                    reason,
                })?;
            }
        }
        Ok(PolicyFile {
            version: VERSION,
            policies: raw.policies,
        })
    }

    /// The policy with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&EvidencePolicy> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// All policies in the order of the file.
    #[must_use]
    pub fn policies(&self) -> &[EvidencePolicy] {
        &self.policies
    }
}

impl EvidencePolicy {
    /// The strict defaults for machines of both makers, without a GPU: what `cocoon attest explain` uses without a file.
    #[must_use]
    pub fn strict() -> Self {
        EvidencePolicy {
            name: "strict".to_owned(),
            description: "the defaults: patched, not debuggable, by the maker's root".to_owned(),
            tdx: Some(TdxPolicy::default()),
            snp: Some(SnpPolicy::default()),
            gpu: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(policy: &str) -> Result<PolicyFile, String> {
        let text = format!("{{\"version\":1,\"policies\":[{policy}]}}");
        PolicyFile::from_json(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_survives_a_round_trip() {
        let b = |bytes: usize| "ab".repeat(bytes);
        let (h16, h32, h48, h64) = (b(16), b(32), b(48), b(64));
        let text = format!(
            r#"{{"name":"all","description":"d",
            "tdx":{{"tcb_statuses":["UpToDate","SWHardeningNeeded","TDRelaunchAdvised"],
                "refused_advisories":["INTEL-SA-00001"],"minimum_evaluation_number":20,
                "allow_dynamic_platform":false,"allow_cached_keys":false,"allow_smt":false,
                "td_attributes_required":"0x10000000","td_attributes_allowed":"0x50000000","xfam_allowed":"0xe7",
                "minimum_tee_tcb_svn":"{h16}","mr_seam":["{h48}"],"mr_signer_seam":["{h48}"],
                "mr_service_td":["{h48}"],"mr_td":["{h48}"],"mr_config_id":["{h48}"],"mr_owner":["{h48}"],
                "mr_owner_config":["{h48}"],"rtmr0":["{h48}"],"rtmr1":["{h48}"],"rtmr2":["{h48}"],"rtmr3":["{h48}"],
                "image_hashes":["{h32}"],"ppid_allowed":["{h16}"],"ppid_denied":["{h16}"]}},
            "snp":{{"generations":["milan","genoa","turin"],"keys":["vcek","vlek"],"providers":["CN=x"],"require_revocation_list":true,
                "minimum_tcb":{{"genoa":{{"bootloader":1,"tee":2,"snp":3,"microcode":4}},"turin":{{"fmc":5}}}},
                "allow_smt":false,"allow_cxl":true,"require_single_socket":true,"require_ciphertext_hiding":true,
                "require_alias_check":true,"vmpl":[0,1],"minimum_guest_svn":3,"measurement":["{h48}"],
                "host_data":["{h32}"],"family_id":["{h16}"],"image_id":["{h16}"],"id_key_digest":["{h48}"],
                "author_key_digest":["{h48}"],"chip_id_allowed":["{h64}"],"chip_id_denied":["{h64}"]}},
            "gpu":{{"architectures":["hopper","blackwell"],"modes":["single","multi_encrypted","protected_pcie"],
                "rim_sha256":["{h32}"],"require_revocation_lists":true,"models":["m"],"driver_versions":["1"],"vbios_versions":["2"],
                "devices_allowed":["00"],"devices_denied":["01"]}}}}"#
        );
        let file = one(&text).unwrap();
        let written = serde_json::to_string(&file).unwrap();
        assert_eq!(PolicyFile::from_json(&written).unwrap(), file);
        assert_eq!(
            file.get("all")
                .unwrap()
                .snp
                .as_ref()
                .unwrap()
                .minimum_tcb
                .turin
                .fmc,
            5
        );
        // What is left out is the default, and the defaults survive too.
        let empty = one(r#"{"name":"e","tdx":{},"snp":{}}"#).unwrap();
        let mut expected = EvidencePolicy::strict();
        expected.name = "e".to_owned();
        expected.description.clear();
        assert_eq!(empty.policies(), std::slice::from_ref(&expected));
        let written = serde_json::to_string(&empty).unwrap();
        assert_eq!(PolicyFile::from_json(&written).unwrap(), empty);
    }

    #[test]
    fn whatever_is_not_understood_is_refused() {
        for (policy, expected) in [
            (r#"{"name":"x","tdx":{"mrtd":[]}}"#, "unknown field `mrtd`"),
            (r#"{"name":"x","tdx":{},"sgx":{}}"#, "unknown field `sgx`"),
            (r#"{"name":"x","tdx":{},"tdx":{}}"#, "duplicate field `tdx`"),
            (
                r#"{"name":"x","tdx":{"allow_smt":true,"allow_smt":false}}"#,
                "duplicate field `allow_smt`",
            ),
            (
                r#"{"name":"x","name":"y","tdx":{}}"#,
                "duplicate field `name`",
            ),
            (r#"{"name":"x","tdx":null}"#, "null"),
            (r#"{"name":"x","tdx":{},"gpu":null}"#, "null"),
            (r#"{"name":"x","tdx":{"mr_td":null}}"#, "null"),
            (r#"{"name":"x","tdx":{"mr_td":[]}}"#, "leave the key out"),
            (
                r#"{"name":"x","tdx":{"mr_td":["00"]}}"#,
                "96 hexadecimal digits",
            ),
            (r#"{"name":"x","tdx":{"mr_td":"00"}}"#, "a list"),
            (r#"{"name":"x","tdx":{"tcb_statuses":[]}}"#, "no TCB status"),
            (
                r#"{"name":"x","tdx":{"tcb_statuses":["Revoked"]}}"#,
                "unknown variant `Revoked`",
            ),
            (
                r#"{"name":"x","tdx":{"tcb_statuses":["UpToDate","UpToDate"]}}"#,
                "occurs twice",
            ),
            (
                r#"{"name":"x","tdx":{"minimum_evaluation_number":-1}}"#,
                "invalid value",
            ),
            (
                r#"{"name":"x","tdx":{"minimum_evaluation_number":"20"}}"#,
                "invalid type",
            ),
            (r#"{"name":"x","tdx":{"allow_smt":1}}"#, "invalid type"),
            (
                r#"{"name":"x","tdx":{"td_attributes_allowed":"0x10000001"}}"#,
                "lets the host read",
            ),
            (
                r#"{"name":"x","tdx":{"td_attributes_allowed":"0x30000000"}}"#,
                "lets the host read",
            ),
            (
                r#"{"name":"x","tdx":{"td_attributes_required":"0x40000000","td_attributes_allowed":"0x10000000"}}"#,
                "forbids",
            ),
            (
                r#"{"name":"x","tdx":{"xfam_allowed":"0x1"}}"#,
                "bits 0 and 1",
            ),
            (r#"{"name":"x","snp":{"generations":[]}}"#, "allows nothing"),
            (
                r#"{"name":"x","snp":{"generations":["rome"]}}"#,
                "unknown variant",
            ),
            (
                r#"{"name":"x","snp":{"minimum_tcb":{"genoa":{"ucode":1}}}}"#,
                "unknown field",
            ),
            (r#"{"name":"x"}"#, "accepts no kind of machine"),
            (r#"{"name":"x","gpu":{}}"#, "accepts no kind of machine"),
            (r#"{"name":"","tdx":{}}"#, "empty or occurs twice"),
            (
                r#"{"name":"x","tdx":{}},{"name":"x","snp":{}}"#,
                "empty or occurs twice",
            ),
            (r#"{"tdx":{}}"#, "missing field `name`"),
            ("", "0 policies"),
        ] {
            let error = one(policy).unwrap_err();
            assert!(error.contains(expected), "{policy}: {error}");
        }
        for (text, expected) in [
            ("", "refused"),
            ("{}", "missing field"),
            ("{\"version\":2,\"policies\":[]}", "version 2"),
            (
                "{\"version\":1,\"policies\":[],\"extra\":1}",
                "unknown field",
            ),
            (
                "{\"version\":1,\"version\":1,\"policies\":[]}",
                "duplicate field",
            ),
            (
                "{\"version\":1,\"policies\":[{\"name\":\"x\",\"tdx\":{}}]} x",
                "trailing",
            ),
        ] {
            let error = PolicyFile::from_json(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let long = " ".repeat(MAX_FILE_LEN + 1);
        assert_eq!(
            PolicyFile::from_json(&long),
            Err(PolicyFileError::TooLarge(long.len()))
        );
    }
}
