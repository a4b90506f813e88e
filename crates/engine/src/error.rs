//! What can go wrong with a model, said so that the owner of the machine can act on it.

use std::path::{Path, PathBuf};

/// Why a model could not be loaded, run or trained.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file of the model directory is absent.
    #[error("model file {} is missing: expected {expected}", path.display())]
    Missing {
        /// The file looked for.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A file exists but cannot be read or written.
    #[error("cannot access model file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file does not hold what its name promises.
    #[error("model file {} is not usable: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Expected and found.
        problem: String,
    },
    /// A tensor is absent or has another shape than the configuration says.
    #[error("model weights in {}: tensor `{name}`: expected {expected}, found {found}", path.display())]
    Tensor {
        /// The weights file or directory.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Expected shape.
        expected: String,
        /// Found shape, or `nothing`.
        found: String,
    },
    /// The options given do not fit the model or each other.
    #[error("engine option {option}: {problem}")]
    Option {
        /// Which option.
        option: &'static str,
        /// Expected and found.
        problem: String,
    },
    /// The arithmetic failed; a defect of the engine or a lack of memory.
    #[error("model computation failed: {0}")]
    Compute(#[from] candle_core::Error),
}

impl EngineError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn invalid(path: &Path, problem: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}

/// Reads a file of a model directory, at most `limit` bytes, with errors that name it.
pub(crate) fn read_file(
    path: &Path,
    limit: u64,
    expected: &'static str,
) -> Result<Vec<u8>, EngineError> {
    let size = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(EngineError::Missing {
                path: path.to_owned(),
                expected,
            });
        }
        Err(e) => return Err(EngineError::io(path, e)),
    };
    if size > limit {
        return Err(EngineError::invalid(
            path,
            format!("it has {size} bytes, more than the limit of {limit}"),
        ));
    }
    std::fs::read(path).map_err(|e| EngineError::io(path, e))
}
