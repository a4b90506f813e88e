//! The collateral of a process, shared by all its connections.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tokio::sync::watch;

use super::{CollateralError, Edition, TdxCollateral, limit};
use crate::evidence::lists::Bytes;
use crate::evidence::tdx::{Platform, TdxRoot};
use crate::time::moment;

/// Most platform families kept; Intel has some dozens that can run TDX.
pub const MAX_FAMILIES: usize = 256;

/// Brings collateral into a store while connections go on. A handshake asks it and never waits for it.
pub trait CollateralSource: Send + Sync {
    /// A peer with a genuine certificate of this platform was met, and its collateral is missing or has ended. Returns
    /// at once; what is fetched goes into the store later. Says what the peer is told.
    fn want(&self, platform: &Platform) -> Supply;
}

/// What is being done about missing collateral.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supply {
    /// Nothing: somebody has to add it to the directory.
    Nobody,
    /// It is being fetched.
    Coming,
    /// Fetching it fails.
    Failing(Box<Trouble>),
    /// Too many others are wanted already.
    Full,
}

/// A service that does not give what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Since when, Unix seconds.
    pub since: u64,
    /// What was asked for last.
    pub url: String,
    /// What happened last.
    pub reason: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (since, url, reason) = (moment(self.since), &self.url, &self.reason);
        write!(f, "since {since} it cannot be fetched from {url}: {reason}")
    }
}

impl fmt::Display for Supply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Supply::Nobody => f.write_str("add it to the collateral directory"),
            Supply::Coming => f.write_str("it is being fetched, so try again in some seconds"),
            Supply::Failing(trouble) => write!(f, "{trouble}; it is tried again"),
            Supply::Full => f.write_str("too many others are being fetched, so try again later"),
        }
    }
}

impl Supply {
    /// Whether another try may succeed without anybody changing a configuration.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !matches!(self, Supply::Nobody)
    }
}

/// Collateral with what is known of it.
#[derive(Debug, Clone)]
struct Held {
    collateral: Arc<TdxCollateral>,
    edition: Edition,
}

/// Collateral of all known platform families, shared by all connections.
pub struct CollateralStore {
    root: TdxRoot,
    families: RwLock<HashMap<Platform, Held>>,
    /// Counts what was taken in.
    changes: watch::Sender<u64>,
    source: OnceLock<Arc<dyn CollateralSource>>,
}

impl CollateralStore {
    /// An empty store of Intel's collateral: every quote is refused for want of it.
    #[must_use]
    pub fn new() -> Self {
        Self::under(TdxRoot::INTEL)
    }

    /// An empty store of collateral under another root, for tests with a software TEE.
    #[must_use]
    pub fn under(root: TdxRoot) -> Self {
        CollateralStore {
            root,
            families: RwLock::default(),
            changes: watch::Sender::new(0),
            source: OnceLock::new(),
        }
    }

    /// A store with every `*.json` of a directory; see [`Self::fill`].
    pub fn load(directory: &Path) -> Result<Self, CollateralError> {
        let store = Self::new();
        store.fill(directory)?;
        Ok(store)
    }

    /// Reads every `*.json` of a directory; says how many were taken. Of several editions the newest stays. A file that
    /// cannot be used is an error: going on without it would show up later as a refused peer that nobody understands.
    pub fn fill(&self, directory: &Path) -> Result<usize, CollateralError> {
        let mut taken = 0;
        for path in files(directory)? {
            match self.insert(read(&path)?) {
                Ok(()) => taken += 1,
                Err(CollateralError::Older { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Adds or replaces the collateral of a family; no part of it ever goes back to an older edition, so that whoever
    /// stands between us and the service cannot take an update back. Only signed collateral gets in: a forged edition
    /// of the far future would keep all true ones out.
    pub fn insert(&self, new: TdxCollateral) -> Result<(), CollateralError> {
        let fmspc = new.fmspc();
        new.verify_signatures(self.root)
            .map_err(|reason| CollateralError::NotGenuine { fmspc, reason })?;
        let edition = new.edition()?;
        let key = new.platform();
        let mut families = self
            .families
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match families.get(&key) {
            Some(held) => {
                if let Some((part, found, held)) = edition.goes_back(&held.edition) {
                    return Err(CollateralError::Older {
                        fmspc,
                        part,
                        found,
                        held,
                    });
                }
            }
            None if families.len() >= MAX_FAMILIES => return Err(CollateralError::TooMany),
            None => {}
        }
        let collateral = Arc::new(new);
        let held = Held {
            collateral,
            edition,
        };
        families.insert(key, held);
        drop(families);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The collateral for a platform of family `fmspc` whose certificate was issued under the common name `issuer`.
    #[must_use]
    pub fn find(&self, fmspc: Bytes<6>, issuer: Option<&str>) -> Option<Arc<TdxCollateral>> {
        let issuer = issuer.map(str::to_owned);
        let held = self.held(&Platform { fmspc, issuer })?;
        Some(held.collateral)
    }

    fn held(&self, platform: &Platform) -> Option<Held> {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        families.get(platform).cloned()
    }

    /// Which edition is held for a platform.
    #[must_use]
    pub fn edition(&self, platform: &Platform) -> Option<Edition> {
        self.held(platform).map(|held| held.edition)
    }

    /// Every family with the edition that is held of it, in the order of the families.
    #[must_use]
    pub fn editions(&self) -> Vec<(Platform, Edition)> {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let pairs = families.iter();
        let mut out: Vec<_> = pairs
            .map(|(platform, held)| (platform.clone(), held.edition.clone()))
            .collect();
        out.sort_by(|a, b| a.0.cmp(&b.0));
        out
    }

    /// The root under which collateral is genuine.
    #[must_use]
    pub fn root(&self) -> TdxRoot {
        self.root
    }

    /// Wakes up when collateral is added or replaced.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Names who brings missing collateral; once, and whoever was named first stays.
    pub fn supply_from(&self, source: Arc<dyn CollateralSource>) {
        let _ = self.source.set(source);
    }

    /// Asks for the collateral of a platform.
    pub(crate) fn want(&self, platform: &Platform) -> Supply {
        let source = self.source.get();
        source.map_or(Supply::Nobody, |source| source.want(platform))
    }

    /// Whether anybody brings missing collateral.
    pub(crate) fn is_supplied(&self) -> bool {
        self.source.get().is_some()
    }
}

impl Default for CollateralStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CollateralStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollateralStore")
            .field("root", &self.root)
            .field("families", &self.editions().len())
            .finish_non_exhaustive()
    }
}

/// The `*.json` of a directory, sorted.
fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>, CollateralError> {
    let wrap = |source| failed(directory, source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(wrap)? {
        let path = entry.map_err(wrap)?.path();
        if path.extension().is_some_and(|e| e == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<TdxCollateral, CollateralError> {
    let length = std::fs::metadata(path).map_err(|e| failed(path, e))?.len();
    limit(usize::try_from(length).unwrap_or(usize::MAX))?;
    let text = std::fs::read_to_string(path).map_err(|e| failed(path, e))?;
    TdxCollateral::from_json(&text)
}

fn failed(path: &Path, source: std::io::Error) -> CollateralError {
    let path = path.display().to_string();
    CollateralError::File { path, source }
}
