//! Ctrl-C, SIGTERM and SIGHUP.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CliError, Result};

/// SIGHUP: read again what may be read again. By default it would kill the process.
pub fn hangup() -> Result<Signal> {
    signal(SignalKind::hangup())
        .map_err(|e| CliError::new("cannot listen for signals").found(e.to_string()))
}

/// Waits for the order to stop, again and again.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes both signals over from the system's default, which would kill the process.
    pub fn new() -> Result<Self> {
        let take = |kind| {
            signal(kind)
                .map_err(|e| CliError::new("cannot listen for signals").found(e.to_string()))
        };
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
        })
    }

    /// The next order.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
