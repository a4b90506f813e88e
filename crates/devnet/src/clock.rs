//! The chain's clock: the real one, or one that tests move by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How a chain should tell the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClockMode {
    /// The machine's clock.
    #[default]
    Real,
    /// Stands still at this Unix time until it is advanced.
    Manual(u32),
}

/// A running clock. Advancing works in both modes; it is how a test lets a contract's delay pass.
#[derive(Debug)]
pub(crate) struct Clock {
    real: bool,
    /// Offset to the real clock, or the time itself.
    seconds: AtomicU64,
}

impl Clock {
    pub(crate) fn new(mode: ClockMode) -> Self {
        match mode {
            ClockMode::Real => Self {
                real: true,
                seconds: AtomicU64::new(0),
            },
            ClockMode::Manual(start) => Self {
                real: false,
                seconds: AtomicU64::new(u64::from(start)),
            },
        }
    }

    /// Unix time in seconds.
    pub(crate) fn now(&self) -> u32 {
        let base = if self.real {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs())
        } else {
            0
        };
        let now = base.saturating_add(self.seconds.load(Ordering::Relaxed));
        u32::try_from(now).unwrap_or(u32::MAX)
    }

    pub(crate) fn advance(&self, seconds: u32) {
        self.seconds
            .fetch_add(u64::from(seconds), Ordering::Relaxed);
    }
}
