//! Logs: warnings on the terminal, everything of interest in the data directory.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::error::{CliError, Result};
use crate::fs::io_error;

/// What the log file holds.
const FILE_LEVEL: &str = "info";

/// The shape of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line: timestamp, level, target, message and fields.
    Json,
}

/// Starts logging. With `dir`, also into `cocoon.log` there; the log of the start before becomes `cocoon.log.1`.
///
/// What is logged never holds prompts, answers or secrets: types that carry them do not show themselves.
pub fn init(level: Option<&str>, dir: Option<&Path>, format: Format) -> Result<()> {
    let terminal = check(level)?;
    let file = match dir {
        Some(dir) => Some(open(dir)?),
        None => None,
    };
    let file_layer = file.map(|file| {
        let layer = fmt::layer().with_ansi(false).with_writer(Mutex::new(file));
        let layer = match format {
            Format::Text => layer.boxed(),
            Format::Json => layer.json().flatten_event(true).boxed(),
        };
        layer.with_filter(EnvFilter::new(FILE_LEVEL))
    });
    let terminal_layer = fmt::layer()
        .with_ansi(format == Format::Text && std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let terminal_layer = match format {
        Format::Text => terminal_layer.boxed(),
        Format::Json => terminal_layer.json().flatten_event(true).boxed(),
    };
    // A second start in one process would fail here, which only tests could do.
    let _ = tracing_subscriber::registry()
        .with(terminal_layer.with_filter(terminal))
        .with(file_layer)
        .try_init();
    Ok(())
}

/// The filter for the terminal, if it can be read.
pub fn check(level: Option<&str>) -> Result<EnvFilter> {
    let from_environment = std::env::var("RUST_LOG").ok();
    let (wanted, origin) = match (level, &from_environment) {
        (Some(level), _) => (level.to_owned(), "--log"),
        (None, Some(filter)) => (filter.clone(), "RUST_LOG"),
        (None, None) => ("warn".to_owned(), "the default"),
    };
    EnvFilter::try_new(&wanted).map_err(|e| {
        CliError::usage(format!("cannot use the log filter of {origin}"))
            .expected(
                "error, warn, info, debug or trace, or a filter such as cocoon_node=debug,warn",
            )
            .found(format!("{wanted:?}: {e}"))
    })
}

fn open(dir: &Path) -> Result<File> {
    std::fs::create_dir_all(dir).map_err(|e| io_error("create", dir, &e))?;
    let path = dir.join("cocoon.log");
    if path.exists() {
        let before = dir.join("cocoon.log.1");
        std::fs::rename(&path, &before).map_err(|e| io_error("rename", &path, &e))?;
    }
    File::create(&path).map_err(|e| io_error("create", &path, &e))
}
