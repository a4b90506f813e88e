//! Policy `tdx` of a node, armed with collateral from a directory and with the operator's demands.

use std::path::Path;
use std::sync::Arc;

use cocoon_attest::evidence::TdxVerifier;
use cocoon_attest::evidence::collateral::CollateralStore;
use cocoon_attest::evidence::tdx_policy::TdxPolicy;
use cocoon_attest::quote_source::TdxGuest;
use cocoon_attest::{Policy, PolicyRules};

use super::config::Shared;
use super::start::Proof;
use crate::cmd::attest::choose;
use crate::error::{CliError, Result};

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

/// What peers must prove under `tdx`. Without collateral the policy refuses every peer and says why.
pub fn tdx_policy(shared: &Shared) -> Result<Policy> {
    let policy = Policy::Tdx(PolicyRules::default());
    let demands = match &shared.evidence_policy {
        None => TdxPolicy::default(),
        Some(path) => demands(Path::new(path))?,
    };
    let Some(directory) = &shared.collateral else {
        return Ok(policy);
    };
    let store = CollateralStore::load(Path::new(directory)).map_err(|error| {
        CliError::usage("cannot use the collateral")
            .expected("a directory with Intel's collateral, one JSON file for each platform family")
            .found(error.to_string())
            .hint("correct 'collateral' in the configuration; cocoon attest explain shows what a file is good for")
    })?;
    Ok(policy.with_verifier(Arc::new(TdxVerifier::new(Arc::new(store), demands))))
}

/// A fake policy verifies nothing, so whoever names collateral or demands has made a mistake.
pub fn nothing_to_verify(shared: &Shared) -> Result<()> {
    let idle = [
        ("collateral", &shared.collateral),
        ("evidence_policy", &shared.evidence_policy),
    ];
    match idle.iter().find(|(_, value)| value.is_some()) {
        None => Ok(()),
        Some((key, _)) => Err(CliError::usage("the attestation cannot be used")
            .expected("attestation \"tdx\", if evidence is to be verified")
            .found(format!("'{key}' with fake_tdx, which looks at no evidence"))
            .hint(format!(
                "set 'attestation' to \"tdx\", or leave '{key}' out"
            ))),
    }
}

/// The demands on TDX of a file with one policy. What this wire cannot carry must not be demanded.
fn demands(path: &Path) -> Result<TdxPolicy> {
    let policy = choose(Some(path), None)?;
    let failure = |expected: &str, found: &str| {
        CliError::usage(format!("cannot use the policy file {}", path.display()))
            .expected(expected)
            .found(found)
    };
    if policy.gpu.is_some() {
        return Err(failure(
            "a policy without \"gpu\": a peer's certificate carries no GPU report yet",
            "\"gpu\", which every peer would fail",
        ));
    }
    policy.tdx.ok_or_else(|| {
        failure(
            "a policy with \"tdx\": a peer's certificate carries nothing else",
            "none",
        )
    })
}

#[cfg(test)]
mod tests {
    use cocoon_softtee::SoftTdx;

    use super::*;

    fn shared(edit: impl FnOnce(&mut Shared)) -> Shared {
        let mut shared = Shared::nobody();
        edit(&mut shared);
        shared
    }

    fn verifies(policy: &Policy) -> bool {
        matches!(policy, Policy::Tdx(rules) if rules.verifier.is_some())
    }

    #[test]
    fn a_node_verifies_when_it_is_given_collateral() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(folder.path().join("collateral")).unwrap();
        assert!(!verifies(&tdx_policy(&shared(|_| ())).unwrap()));
        let armed = shared(|s| s.collateral = Some(at("collateral")));
        assert!(verifies(&tdx_policy(&armed).unwrap()));
        let demanding = |text: &str| {
            std::fs::write(at("policy"), text).unwrap();
            tdx_policy(&shared(|s| {
                s.collateral = Some(at("collateral"));
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
            let error = demanding(&text).unwrap_err();
            assert!(error.contains(word), "{word}: {error}");
        }
        // A missing directory, and collateral that is not Intel's.
        let missing = shared(|s| s.collateral = Some(at("missing")));
        assert!(
            tdx_policy(&missing)
                .unwrap_err()
                .to_string()
                .contains("missing")
        );
        let software = SoftTdx::new(1_790_000_000).collateral();
        std::fs::write(folder.path().join("collateral/a.json"), software).unwrap();
        let error = tdx_policy(&armed).unwrap_err().to_string();
        assert!(error.contains("is not genuine"), "{error}");
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
            nothing_to_verify(&shared(|s| s.collateral = Some("x".to_owned()))).unwrap_err();
        assert!(
            error.to_string().contains("looks at no evidence"),
            "{error}"
        );
    }
}
