//! How long batches take until they are durable.

use std::time::Instant;

use super::histogram::{Histogram, SAVE_S};
use super::page::Page;

/// Times of saves. A core has one batch under way at a time.
pub struct SaveTimer {
    began: Option<Instant>,
    times: Histogram,
}

impl Default for SaveTimer {
    fn default() -> Self {
        SaveTimer {
            began: None,
            times: Histogram::new(SAVE_S),
        }
    }
}

impl SaveTimer {
    /// A batch was handed to the writer.
    pub fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// It is durable.
    pub fn end(&mut self) {
        if let Some(began) = self.began.take() {
            self.times.observe(began.elapsed().as_secs_f64());
        }
    }

    /// Writes the times to a page.
    pub fn expose(&self, page: &mut Page) {
        page.histogram(
            "cocoon_save_duration_seconds",
            "Seconds until a batch of records was durable on disk.",
            &self.times,
        );
    }
}
