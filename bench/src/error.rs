//! Why a benchmark does not come to figures.

/// Why a benchmark does not come to figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Files, sockets or processes.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// The network.
    #[error("{0}")]
    Network(String),
    /// An answer that is not the backend's.
    #[error(
        "a {kind} request {target} is not answered rightly, so there is nothing to measure: {reason}"
    )]
    Wrong {
        /// What was asked.
        kind: &'static str,
        /// Whom.
        target: &'static str,
        /// What came.
        reason: String,
    },
}
