//! Verifying evidence in a running program: the settings `collateral` and `evidence_policy` of nodes and routers.

use std::path::Path;
use std::sync::Arc;

use cocoon_attest::evidence::TdxVerifier;
use cocoon_attest::evidence::collateral::CollateralStore;
use cocoon_attest::evidence::tdx::TdxRoot;
use cocoon_attest::evidence::tdx_policy::TdxPolicy;
use cocoon_attest::unix_now;
use cocoon_collateral::cache::CacheError;
use cocoon_collateral::settings::SettingsError;
use cocoon_collateral::{CollateralConfig, DiskCache, Fetcher, Supplier};

use crate::cmd::attest::choose;
use crate::error::{CliError, Result};

/// A verifier with its collateral.
pub struct Evidence {
    config: CollateralConfig,
    store: Arc<CollateralStore>,
    verifier: Arc<TdxVerifier>,
    cache: Option<DiskCache>,
    fetcher: Option<Fetcher>,
}

impl Evidence {
    /// Reads the files. Without a service every one of them must be good: they are all there is, and going on would show
    /// up later as a refused peer that nobody understands. With one, what cannot be used is named and fetched again.
    pub fn open(config: &CollateralConfig, demands: TdxPolicy) -> Result<Self> {
        let fetcher = config.fetcher(TdxRoot::INTEL).map_err(|e| settings(&e))?;
        let store = Arc::new(CollateralStore::new());
        let mut cache = None;
        match (&config.directory, &fetcher) {
            (Some(directory), Some(_)) => {
                let disk = DiskCache::open(directory).map_err(|e| cached(&e))?;
                take_files(&disk, &store)?;
                cache = Some(disk);
            }
            (Some(directory), None) => {
                store.fill(directory).map_err(|error| {
                    CliError::usage("cannot read the collateral")
                        .expected("a directory with Intel's collateral, one JSON file for each platform family")
                        .found(error.to_string())
                        .hint("correct 'collateral'; cocoon attest collateral check says what each file is good for")
                })?;
            }
            (None, _) => {}
        }
        let verifier = Arc::new(TdxVerifier::new(store.clone(), demands));
        Ok(Evidence {
            config: config.clone(),
            store,
            verifier,
            cache,
            fetcher,
        })
    }

    /// What policies verify with.
    pub fn verifier(&self) -> &Arc<TdxVerifier> {
        &self.verifier
    }

    /// Begins to fetch, if a service is named; only within a runtime. What is given back has to be kept.
    pub fn start(&mut self) -> Option<Supplier> {
        let fetcher = self.fetcher.take()?;
        tracing::info!("collateral comes from {}", fetcher.service().base());
        let cache = self.cache.clone();
        Some(Supplier::start(
            self.store.clone(),
            fetcher,
            cache,
            Arc::new(unix_now),
        ))
    }

    /// Takes new demands and new files. Where only files are used they are read from scratch, so that a file that was
    /// taken away does not count any longer; where collateral is fetched, nothing goes back to an older edition.
    pub fn reload(&mut self, config: &CollateralConfig, demands: TdxPolicy) -> Result<()> {
        if *config != self.config && (config.service.is_some() || self.config.service.is_some()) {
            return Err(
                CliError::usage("'collateral' cannot be changed while the program runs")
                    .expected("the settings with which it was started")
                    .hint("start it again"),
            );
        }
        if self.config.service.is_none() {
            *self = Self::open(config, demands)?;
            return Ok(());
        }
        self.refresh(demands)
    }

    /// Takes new demands and newer files into the same verifier.
    pub fn refresh(&self, demands: TdxPolicy) -> Result<()> {
        match (&self.cache, &self.config.directory) {
            (Some(cache), _) => take_files(cache, &self.store)?,
            (None, Some(directory)) => {
                self.store.fill(directory).map_err(|error| {
                    CliError::usage("cannot read the collateral").found(error.to_string())
                })?;
            }
            (None, None) => {}
        }
        self.verifier.set_policy(demands);
        Ok(())
    }
}

fn take_files(cache: &DiskCache, store: &CollateralStore) -> Result<()> {
    let loaded = cache.load(store).map_err(|e| cached(&e))?;
    for (path, why) in loaded.ignored {
        tracing::warn!("{} is passed over: {why}", path.display());
    }
    Ok(())
}

/// The demands on TDX of a file with one policy, or the strict defaults. What this wire cannot carry must not be
/// demanded.
pub fn demands(path: Option<&Path>) -> Result<TdxPolicy> {
    let Some(path) = path else {
        return Ok(TdxPolicy::default());
    };
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

/// An error of the setting `collateral`.
pub fn settings(error: &SettingsError) -> CliError {
    CliError::usage("cannot use the setting 'collateral'")
        .expected("a directory, or {\"directory\": ..., \"service\": \"https://...\"}")
        .found(error.to_string())
}

/// An error of the directory.
pub fn cached(error: &CacheError) -> CliError {
    CliError::usage("cannot use the directory of 'collateral'").found(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> CollateralConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn files_alone_must_all_be_good_and_fetched_ones_need_not() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("collateral");
        let text = |service: &str| format!("{{\"directory\": {directory:?}{service}}}");
        let fetched = config(&text(r#", "service": "https://pccs.example""#));
        let mut evidence = Evidence::open(&fetched, TdxPolicy::default()).unwrap();
        assert!(directory.is_dir(), "a cache is made");
        std::fs::write(directory.join("a.json"), "{").unwrap();
        Evidence::open(&fetched, TdxPolicy::default()).unwrap();
        let error = Evidence::open(&config(&text("")), TdxPolicy::default()).err();
        let error = error.unwrap().to_string();
        assert!(error.contains("cannot read the collateral"), "{error}");
        // The same settings may be read again, others need a restart.
        let verifier = evidence.verifier().clone();
        evidence.reload(&fetched, TdxPolicy::default()).unwrap();
        assert!(Arc::ptr_eq(&verifier, evidence.verifier()));
        let other = config(&text(r#", "service": "https://other.example""#));
        let error = evidence.reload(&other, TdxPolicy::default()).unwrap_err();
        assert!(error.to_string().contains("start it again"), "{error}");
    }

    #[tokio::test]
    async fn new_demands_count_at_once() {
        let fetched = config(r#"{"service": "https://pccs.example"}"#);
        let mut evidence = Evidence::open(&fetched, TdxPolicy::default()).unwrap();
        let mut changes = evidence.verifier().changes();
        let stricter = TdxPolicy {
            minimum_evaluation_number: 99,
            ..TdxPolicy::default()
        };
        evidence.reload(&fetched, stricter).unwrap();
        changes.changed().await;
        let shown = format!("{:?}", evidence.verifier());
        assert!(shown.contains("minimum_evaluation_number: 99"), "{shown}");
    }
}
