//! Collateral on disk: one file for each platform family and authority, one for each AMD chip and patch level.
//!
//! The files of TDX are the common file form, so that every tool that takes such a directory takes this one. A file is
//! written beside its place and renamed, so that a crash leaves the old or the new one. What cannot be used is named and
//! passed over: it can be fetched again.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cocoon_attest::evidence::collateral::{
    CollateralError, CollateralStore, Edition, MAX_COLLATERAL_LEN, TdxCollateral,
};
use cocoon_attest::evidence::snp_collateral::SnpCollateral;
use cocoon_attest::evidence::tdx::Platform;

use crate::service::Authority;

/// Most files looked at: many times what there are platform families.
const MAX_FILES: usize = 4_096;
/// Subdirectory for AMD's chips.
pub const SNP_DIRECTORY: &str = "snp";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The system says no.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could put old collateral there.
    #[error("{} can be written by others (mode {mode:o}): chmod go-w it, or name another directory", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Nothing that has a name here.
    #[error("{0}")]
    Unnamed(String),
    /// What lies there is newer.
    #[error("{} holds a newer edition, which stays: {reason}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Which part.
        reason: String,
    },
}

/// A directory of collateral.
#[derive(Debug, Clone)]
pub struct DiskCache {
    directory: PathBuf,
}

/// One file of the directory.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it, or why it cannot be used.
    pub content: Result<TdxCollateral, CollateralError>,
}

/// What reading the directory gave.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Files taken into the store.
    pub taken: usize,
    /// Files passed over, with the reason.
    pub ignored: Vec<(PathBuf, String)>,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io { what, path, source }
}

impl DiskCache {
    /// Opens a directory, and makes it if it is not there, for its owner alone.
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io_error("create", directory))?;
        let mode = fs::metadata(directory)
            .map_err(io_error("look at", directory))?
            .permissions()
            .mode();
        if mode & 0o022 != 0 {
            let (path, mode) = (directory.to_owned(), mode & 0o7777);
            return Err(CacheError::Open { path, mode });
        }
        Ok(DiskCache {
            directory: directory.to_owned(),
        })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Every file of TDX collateral with what is in it, by name.
    pub fn files(&self) -> Result<Vec<Found>, CacheError> {
        let paths = json_files(&self.directory)?;
        Ok(paths
            .into_iter()
            .map(|path| Found {
                content: read(&path),
                path,
            })
            .collect())
    }

    /// Takes every usable file into a store; of several editions the newest stays.
    pub fn load(&self, store: &CollateralStore) -> Result<Loaded, CacheError> {
        let mut loaded = Loaded::default();
        for Found { path, content } in self.files()? {
            match content.and_then(|collateral| store.insert(collateral)) {
                Ok(()) => loaded.taken += 1,
                Err(error) => loaded.ignored.push((path, error.to_string())),
            }
        }
        Ok(loaded)
    }

    /// Where the collateral of a platform is kept.
    pub fn path(&self, platform: &Platform) -> Result<PathBuf, CacheError> {
        let authority = Authority::of(platform.issuer.as_deref())
            .map_err(|error| CacheError::Unnamed(error.to_string()))?;
        let name = format!("tdx-{}-{authority}.json", platform.fmspc);
        Ok(self.directory.join(name))
    }

    /// Keeps collateral that was checked. A newer edition that another program wrote meanwhile stays.
    pub fn write(&self, platform: &Platform, text: &str) -> Result<(), CacheError> {
        let path = self.path(platform)?;
        let editions = (
            edition(read(&path)),
            edition(TdxCollateral::from_json(text)),
        );
        if let (Some(there), Some(new)) = editions
            && let Some((part, found, held)) = new.goes_back(&there)
        {
            let reason = format!("{part}: {held}, not {found}");
            return Err(CacheError::Newer { path, reason });
        }
        replace(&path, text.as_bytes())
    }

    /// Keeps what was checked about an AMD chip. A newer revocation list that is kept already stays.
    pub fn write_snp(&self, collateral: &SnpCollateral) -> Result<PathBuf, CacheError> {
        let directory = self.directory.join(SNP_DIRECTORY);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(io_error("create", &directory))?;
        let path = directory.join(format!("{}.json", collateral.name()));
        let there = read_text(&path)
            .and_then(|text| SnpCollateral::from_json(&text))
            .and_then(|there| there.crl_edition());
        if let (Ok((there, _)), Ok((new, _))) = (there, collateral.crl_edition())
            && new < there
        {
            let reason = format!("the revocation list: {there}, not {new}");
            return Err(CacheError::Newer { path, reason });
        }
        replace(&path, collateral.to_json().as_bytes())?;
        Ok(path)
    }

    /// Files about AMD chips, by name; none if there is no such subdirectory.
    pub fn snp_files(&self) -> Result<Vec<PathBuf>, CacheError> {
        let directory = self.directory.join(SNP_DIRECTORY);
        if !directory.exists() {
            return Ok(Vec::new());
        }
        json_files(&directory)
    }
}

fn edition(content: Result<TdxCollateral, CollateralError>) -> Option<Edition> {
    content.ok()?.edition().ok()
}

fn json_files(directory: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error("read", directory))? {
        let path = entry.map_err(io_error("read", directory))?.path();
        if path.extension().is_some_and(|e| e == "json") && paths.len() < MAX_FILES {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The text of a file, within the limit.
pub fn read_text(path: &Path) -> Result<String, CollateralError> {
    let failed = |source| CollateralError::File {
        path: path.display().to_string(),
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_COLLATERAL_LEN as u64 + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() > MAX_COLLATERAL_LEN {
        return Err(CollateralError::TooLarge { found: text.len() });
    }
    Ok(text)
}

fn read(path: &Path) -> Result<TdxCollateral, CollateralError> {
    TdxCollateral::from_json(&read_text(path)?)
}

/// Writes beside a file's place and renames. The name beside does not end in `.json`, so nobody reads half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(
        ".{}.{:08x}.new",
        std::process::id(),
        rand::random::<u32>()
    ));
    let beside = PathBuf::from(beside);
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| {
        // Nothing more can be done about a file that cannot be removed either.
        let _ = fs::remove_file(&beside);
        io_error("write", path)(source)
    })?;
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("write", directory))
}
