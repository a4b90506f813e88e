//! What the person at the terminal sees while the network starts. Always on standard error.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A spinner on a terminal, plain lines elsewhere, or nothing.
#[derive(Debug, Clone)]
pub struct Progress {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Spinner(ProgressBar),
    Lines,
    Silent,
}

impl Progress {
    /// Chooses the form that fits.
    pub fn new(quiet: bool) -> Self {
        let kind = if quiet {
            Kind::Silent
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            Kind::Spinner(bar)
        } else {
            Kind::Lines
        };
        Self { kind }
    }

    /// The next step begins.
    pub fn step(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::info!("{text}");
        match &self.kind {
            Kind::Spinner(bar) => bar.set_message(text),
            Kind::Lines => eprintln!("{text}"),
            Kind::Silent => {}
        }
    }

    /// Something worth keeping on the screen.
    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::info!("{text}");
        match &self.kind {
            Kind::Spinner(bar) => bar.suspend(|| eprintln!("{text}")),
            Kind::Lines => eprintln!("{text}"),
            Kind::Silent => {}
        }
    }

    /// The spinner goes away.
    pub fn finish(&self) {
        if let Kind::Spinner(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
