//! `cocoon up`: a whole network in one process, from the chain to the endpoint.

pub mod alone;
mod chain;
mod founding;
mod identity;
mod nodes;
pub mod ports;
mod progress;
mod running;
mod screen;
pub mod settings;
#[cfg(test)]
mod software_tdx;
mod start;
mod trust;

use std::process::ExitCode;
use std::time::Instant;

pub use chain::GLOBAL_ID;
pub use screen::wallets;

use crate::cli::{Global, UpArgs};
use crate::config;
use crate::datadir::{DataDir, Layout};
use crate::error::{CliError, Result};
use crate::logging;
use crate::signals::Signals;
use progress::Progress;
use settings::Settings;
use trust::Trust;

/// Runs the command until it is told to stop.
pub async fn run(args: UpArgs, global: &Global) -> Result<ExitCode> {
    let started = Instant::now();
    let layout = Layout::locate(global.data_dir.as_deref())?;
    let args = config::merged(args, global, &layout)?;
    let settings = Settings::resolve(&args)?;
    logging::check(global.log.as_deref())?;
    let mut signals = Signals::new()?;
    let mut data = DataDir::open(layout)?;
    let layout = data.layout().clone();
    logging::init(
        global.log.as_deref(),
        Some(&layout.logs()),
        global.log_format,
    )?;
    // What a killed process left behind speaks of nobody.
    let _ = std::fs::remove_file(layout.network_file());
    let fresh = data.founding().is_none();
    let progress = Progress::new(args.quiet);
    let trust = Trust::fake();
    let running = tokio::select! {
        running = start::start(&mut data, &settings, &trust, &progress, started) => running?,
        () = signals.next() => {
            progress.finish();
            eprintln!("stopped before it was ready; the next start goes on from here");
            return Ok(ExitCode::SUCCESS);
        }
    };
    progress.finish();
    if args.json {
        let line = serde_json::to_string(&running.network)
            .map_err(|e| CliError::new(format!("cannot write JSON: {e}")))?;
        println!("{line}");
    } else if !args.quiet {
        print!(
            "{}",
            screen::render(&running.network, running.chain(), fresh).await
        );
    }
    let halted = tokio::select! {
        reason = running.halted() => Some(reason),
        () = signals.next() => None,
    };
    // The file goes first: whoever reads it should find a network that answers.
    let _ = std::fs::remove_file(layout.network_file());
    if !args.quiet {
        eprintln!("stopping: finishing what runs (Ctrl-C again stops at once)");
    }
    tokio::select! {
        () = running.stop() => {}
        () = signals.next() => {
            eprintln!("stopped at once; everything that was committed is on disk");
            return Ok(ExitCode::SUCCESS);
        }
    }
    match halted {
        Some(reason) => Err(CliError::new(
            "the network has stopped by itself; nothing was deleted",
        )
        .found(reason)
        .hint(format!(
            "the log is {}",
            layout.logs().join("cocoon.log").display()
        ))),
        None => {
            if !args.quiet {
                eprintln!("stopped; the data is in {}", layout.path().display());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
