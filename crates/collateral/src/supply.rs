//! Keeps a running program in collateral: the driver of [`crate::keeper`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cocoon_attest::evidence::collateral::{
    CollateralError, CollateralSource, CollateralStore, Supply, Trouble,
};
use cocoon_attest::evidence::tdx::Platform;
use rand::Rng;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::cache::DiskCache;
use crate::fetch::{Fault, FetchError, Fetcher, describe};
use crate::keeper::{Failure, Keeper};

/// The clock is looked at this often at least: a host may turn it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The time in Unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Fetches what peers need and refreshes what is held, until it is dropped.
pub struct Supplier {
    desk: Arc<Desk>,
    task: tokio::task::JoinHandle<()>,
}

/// Where wishes are left. It does not hold the store, which holds it.
struct Desk {
    keeper: Mutex<Keeper>,
    wake: Notify,
    clock: Clock,
}

/// What the fetching tasks share.
struct Works {
    desk: Arc<Desk>,
    store: Arc<CollateralStore>,
    fetcher: Fetcher,
    cache: Option<DiskCache>,
}

impl Supplier {
    /// Begins to supply a store. What the store holds already is refreshed in time; what comes in is written to the
    /// cache. Must be called within a runtime.
    #[must_use]
    pub fn start(
        store: Arc<CollateralStore>,
        fetcher: Fetcher,
        cache: Option<DiskCache>,
        clock: Clock,
    ) -> Self {
        let desk = Arc::new(Desk {
            keeper: Mutex::default(),
            wake: Notify::new(),
            clock,
        });
        let now = desk.now();
        for (platform, edition) in store.editions() {
            desk.keeper().held(now, &platform, &edition, jitter());
        }
        store.supply_from(desk.clone());
        let works = Arc::new(Works {
            desk: desk.clone(),
            store,
            fetcher,
            cache,
        });
        let task = tokio::spawn(run(works));
        Supplier { desk, task }
    }

    /// Looks at the clock now, not within a minute.
    pub fn wake(&self) {
        self.desk.wake.notify_one();
    }

    /// What cannot be fetched, for status pages.
    #[must_use]
    pub fn troubles(&self) -> Vec<(Platform, Trouble)> {
        let keeper = self.desk.keeper();
        let troubles = keeper.troubles();
        troubles.map(|(p, t)| (p.clone(), t.clone())).collect()
    }
}

impl Drop for Supplier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Desk {
    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        (self.clock)()
    }
}

impl CollateralSource for Desk {
    fn want(&self, platform: &Platform) -> Supply {
        let supply = self.keeper().want(self.now(), platform);
        self.wake.notify_one();
        supply
    }
}

async fn run(works: Arc<Works>) {
    let mut fetches = JoinSet::new();
    loop {
        let now = works.desk.now();
        let (due, next) = {
            let mut keeper = works.desk.keeper();
            (keeper.take_due(now), keeper.next_due())
        };
        for platform in due {
            let works = works.clone();
            fetches.spawn(async move { works.fetch(&platform).await });
        }
        let pause = match next {
            // What is due and does not begin waits for another fetch to end.
            Some(at) if at <= now => LONGEST_SLEEP,
            Some(at) => Duration::from_secs(at - now).min(LONGEST_SLEEP),
            None => LONGEST_SLEEP,
        };
        tokio::select! {
            Some(_) = fetches.join_next() => {}
            () = works.desk.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Works {
    async fn fetch(&self, platform: &Platform) {
        let outcome = self.fetch_and_take(platform).await;
        let now = self.desk.now();
        let held = self.store.edition(platform);
        match (outcome, held) {
            (Ok(()), Some(edition)) => {
                self.desk
                    .keeper()
                    .fetched(now, platform, &edition, jitter());
                let end = edition.end();
                info!(
                    "collateral for {}: fetched, good until {end}",
                    describe(platform)
                );
            }
            (outcome, held) => {
                let error = match outcome {
                    Err(error) => error,
                    // Taken in and not there: nobody takes it out.
                    Ok(()) => return,
                };
                let failure = Failure {
                    is_unknown: matches!(error.fault, Fault::Unknown),
                    url: error.url,
                    reason: error.fault.to_string(),
                };
                let text = format!("{}: {}", failure.url, failure.reason);
                self.desk.keeper().failed(now, platform, failure, jitter());
                let rest = match held {
                    Some(edition) if edition.expires > now => {
                        format!("what is held is good until {}", edition.end())
                    }
                    Some(edition) => {
                        format!(
                            "what was held ended at {}, so peers are refused",
                            edition.end()
                        )
                    }
                    None => "nothing is held, so peers are refused".to_owned(),
                };
                warn!(
                    "collateral for {} cannot be fetched; {rest}: {text}",
                    describe(platform)
                );
            }
        }
    }

    async fn fetch_and_take(&self, platform: &Platform) -> Result<(), FetchError> {
        let collateral = self.fetcher.tdx(platform, self.desk.now()).await?;
        let failed = |error: CollateralError| FetchError {
            url: self.fetcher.service().base().to_owned(),
            fault: error.into(),
        };
        let text = collateral.to_json();
        self.store.insert(collateral).map_err(failed)?;
        if let Some(cache) = &self.cache {
            let (cache, platform) = (cache.clone(), platform.clone());
            let written = tokio::task::spawn_blocking(move || cache.write(&platform, &text)).await;
            match written {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => warn!("the collateral is used and not kept on disk: {error}"),
            }
        }
        Ok(())
    }
}

fn jitter() -> f64 {
    rand::rng().random_range(0.0..1.0)
}
