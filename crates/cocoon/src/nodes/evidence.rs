//! Policy `tdx` of a node, armed with collateral and with the operator's demands.

use std::path::Path;
use std::sync::Arc;

use cocoon_attest::quote_source::TdxGuest;
use cocoon_attest::{Policy, PolicyRules};
use cocoon_collateral::Supplier;

use super::config::Shared;
use super::start::Proof;
use crate::error::{CliError, Result};
use crate::evidence::{Evidence, demands};

/// Whose evidence counts between nodes that are linked directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attestation {
    /// Anybody's: test networks only.
    Fake,
    /// Genuine quotes.
    Tdx,
}

/// Test networks use the fake unless told otherwise; elsewhere only genuine evidence counts.
pub fn attestation(shared: &Shared) -> Result<Attestation> {
    match shared.attestation.as_deref() {
        Some("fake_tdx") => Ok(Attestation::Fake),
        Some("tdx") => Ok(Attestation::Tdx),
        None if shared.is_test => Ok(Attestation::Fake),
        None => Ok(Attestation::Tdx),
        Some(other) => Err(CliError::usage("the attestation cannot be used")
            .expected("fake_tdx (test networks only) or tdx")
            .found(format!("{other:?}"))
            .hint("correct 'attestation' in the configuration, or leave it out")),
    }
}

/// What our own certificate proves: by default what we demand of others, and for a client nothing.
pub fn proof(shared: &Shared, client: bool) -> Result<Proof> {
    match (shared.certificate.as_deref(), attestation(shared)?) {
        (None, _) if client => Ok(Proof::Key),
        (Some("none"), _) => Ok(Proof::Key),
        (Some("fake_tdx"), Attestation::Fake) | (None, Attestation::Fake) => Ok(Proof::Fake),
        (Some("tdx"), _) | (None, Attestation::Tdx) => {
            Ok(Proof::Quote(Arc::new(TdxGuest::default())))
        }
        (Some(found), _) => Err(CliError::usage("the certificate cannot be used")
            .expected("none, tdx, or fake_tdx where 'attestation' is fake_tdx too")
            .found(format!("{found:?}"))
            .hint("correct 'certificate' in the configuration, or leave it out")),
    }
}

/// A node's policy for genuine evidence, with what keeps it able to judge.
pub struct Armed {
    /// For direct links. Without collateral it refuses every peer and says why.
    pub policy: Policy,
    evidence: Option<Evidence>,
    _supplier: Option<Supplier>,
}

/// What peers must prove under `tdx`. Within a runtime, if collateral is to be fetched.
pub fn tdx_policy(shared: &Shared) -> Result<Armed> {
    let policy = Policy::Tdx(PolicyRules::default());
    let demands = demands(shared.evidence_policy.as_deref().map(Path::new))?;
    let Some(config) = &shared.collateral else {
        return Ok(Armed {
            policy,
            evidence: None,
            _supplier: None,
        });
    };
    let mut evidence = Evidence::open(config, demands)?;
    let supplier = evidence.start();
    Ok(Armed {
        policy: policy.with_verifier(evidence.verifier().clone()),
        evidence: Some(evidence),
        _supplier: supplier,
    })
}

impl Armed {
    /// Reads the demands again; living peers are judged by them at once. Says whether there is anything to judge with.
    pub fn reload(&self, shared: &Shared) -> Result<bool> {
        let Some(evidence) = &self.evidence else {
            return Ok(false);
        };
        let demands = demands(shared.evidence_policy.as_deref().map(Path::new))?;
        evidence.refresh(demands)?;
        Ok(true)
    }
}

/// A fake policy verifies nothing, so whoever names collateral or demands has made a mistake.
pub fn nothing_to_verify(shared: &Shared) -> Result<()> {
    let idle = [
        ("collateral", shared.collateral.is_some()),
        ("evidence_policy", shared.evidence_policy.is_some()),
    ];
    match idle.iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((key, _)) => Err(CliError::usage("the attestation cannot be used")
            .expected("attestation \"tdx\", if evidence is to be verified")
            .found(format!("'{key}' with fake_tdx, which looks at no evidence"))
            .hint(format!(
                "set 'attestation' to \"tdx\", or leave '{key}' out"
            ))),
    }
}

#[cfg(test)]
mod tests {
    use cocoon_collateral::CollateralConfig;
    use cocoon_softtee::SoftTdx;

    use super::*;

    fn shared(edit: impl FnOnce(&mut Shared)) -> Shared {
        let mut shared = Shared::nobody();
        edit(&mut shared);
        shared
    }

    fn files(directory: String) -> Option<CollateralConfig> {
        Some(CollateralConfig {
            directory: Some(directory.into()),
            ..CollateralConfig::default()
        })
    }

    fn verifies(armed: &Armed) -> bool {
        matches!(&armed.policy, Policy::Tdx(rules) if rules.verifier.is_some())
    }

    #[test]
    fn a_node_verifies_when_it_is_given_collateral() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(folder.path().join("collateral")).unwrap();
        assert!(!verifies(&tdx_policy(&shared(|_| ())).unwrap()));
        let armed = shared(|s| s.collateral = files(at("collateral")));
        assert!(verifies(&tdx_policy(&armed).unwrap()));
        let demanding = |text: &str| {
            std::fs::write(at("policy"), text).unwrap();
            tdx_policy(&shared(|s| {
                s.collateral = files(at("collateral"));
                s.evidence_policy = Some(at("policy"));
            }))
            .map_err(|error| error.to_string())
        };
        let one = |policy: &str| format!("{{\"version\":1,\"policies\":[{policy}]}}");
        let good = demanding(&one(
            r#"{"name":"a","tdx":{"minimum_evaluation_number":20}}"#,
        ));
        assert!(verifies(&good.unwrap()));
        for (text, word) in [
            (
                one(r#"{"name":"a","tdx":{},"gpu":{}}"#),
                "carries no GPU report",
            ),
            (one(r#"{"name":"a","snp":{}}"#), "carries nothing else"),
            (
                one(r#"{"name":"a","tdx":{}},{"name":"b","tdx":{}}"#),
                "a, b",
            ),
            (
                one(r#"{"name":"a","tdx":{"allow_debug":true}}"#),
                "unknown field",
            ),
        ] {
            let error = demanding(&text).err().unwrap();
            assert!(error.contains(word), "{word}: {error}");
        }
        // A missing directory, and collateral that is not Intel's.
        let missing = shared(|s| s.collateral = files(at("missing")));
        let error = tdx_policy(&missing).err().unwrap().to_string();
        assert!(error.contains("missing"), "{error}");
        let software = SoftTdx::new(1_790_000_000).collateral();
        std::fs::write(folder.path().join("collateral/a.json"), software).unwrap();
        let error = tdx_policy(&armed).err().unwrap().to_string();
        assert!(error.contains("is not genuine"), "{error}");
    }

    #[tokio::test]
    async fn a_node_with_a_service_starts_without_files_and_takes_new_demands() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy");
        let write = |number: u32| {
            let text = format!(
                r#"{{"version":1,"policies":[{{"name":"a","tdx":{{"minimum_evaluation_number":{number}}}}}]}}"#
            );
            std::fs::write(&policy, text).unwrap();
        };
        write(20);
        let shared = shared(|s| {
            s.collateral = Some(CollateralConfig {
                directory: Some(folder.path().join("made")),
                // Nobody is asked before a peer comes.
                service: Some("https://pccs.example".to_owned()),
                ..CollateralConfig::default()
            });
            s.evidence_policy = Some(policy.display().to_string());
        });
        let armed = tdx_policy(&shared).unwrap();
        assert!(verifies(&armed));
        write(21);
        assert!(armed.reload(&shared).unwrap());
        let shown = format!("{:?}", armed.policy);
        assert!(shown.contains("minimum_evaluation_number: 21"), "{shown}");
        std::fs::write(&policy, "{").unwrap();
        armed.reload(&shared).unwrap_err();
        assert!(format!("{:?}", armed.policy).contains("minimum_evaluation_number: 21"));
    }

    /// Who demands quotes shows one; a client shows none; a fake one is shown only where fakes count.
    #[test]
    fn a_certificate_proves_what_is_demanded() {
        let proves = |client, edit: &dyn Fn(&mut Shared)| match proof(&shared(edit), client) {
            Ok(Proof::Key) => "key".to_owned(),
            Ok(Proof::Fake) => "fake".to_owned(),
            Ok(Proof::Quote(_)) => "quote".to_owned(),
            Err(error) => error.to_string(),
        };
        let set = |test, attestation: &str, certificate: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let (attestation, certificate) = (some(attestation), some(certificate));
            move |s: &mut Shared| {
                s.is_test = test;
                s.attestation.clone_from(&attestation);
                s.certificate.clone_from(&certificate);
            }
        };
        assert_eq!(proves(false, &set(false, "", "")), "quote");
        assert_eq!(proves(false, &set(true, "", "")), "fake");
        assert_eq!(proves(false, &set(true, "tdx", "")), "quote");
        assert_eq!(proves(false, &set(true, "", "tdx")), "quote");
        assert_eq!(proves(false, &set(false, "", "none")), "key");
        for test in [false, true] {
            assert_eq!(proves(true, &set(test, "", "")), "key");
        }
        assert_eq!(proves(true, &set(false, "", "tdx")), "quote");
        let refused = proves(false, &set(false, "", "fake_tdx"));
        assert!(
            refused.contains("where 'attestation' is fake_tdx too"),
            "{refused}"
        );
        let refused = proves(false, &set(false, "", "sgx"));
        assert!(refused.contains("\"sgx\""), "{refused}");
        let refused = proves(false, &set(false, "snp", ""));
        assert!(
            refused.contains("the attestation cannot be used"),
            "{refused}"
        );
    }

    #[test]
    fn a_fake_policy_takes_no_collateral() {
        nothing_to_verify(&shared(|_| ())).unwrap();
        let error =
            nothing_to_verify(&shared(|s| s.collateral = files("x".to_owned()))).unwrap_err();
        assert!(
            error.to_string().contains("looks at no evidence"),
            "{error}"
        );
    }
}
