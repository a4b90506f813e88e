//! The usage counter: body pieces in, body pieces out, and what they say was used.

use super::reference::ReferenceCounter;
use super::stream::StreamCounter;
use super::{ModelUsage, Prices, TokensUsed};
use crate::units::ModelTokens;

/// How a body is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Byte for byte as the reference worker does (6.3): values are written anew, event streams are held back to the
    /// end and cost nothing.
    Reference,
    /// Ours: everything passes at once and unmodified but for costs inside the `usage` object; event streams are read.
    Streaming,
}

#[derive(Debug)]
enum Inner {
    Reference(ReferenceCounter),
    Streaming(StreamCounter),
}

/// Reads usage from a response body while it passes, and writes the costs into it.
///
/// The body must not be compressed. Never panics, whatever the bytes are; time is linear in the body, and at most
/// [`MAX_HOLD`](super::MAX_HOLD) bytes ([`MAX_REFERENCE_HOLD`](super::MAX_REFERENCE_HOLD) in reference mode) are
/// held back.
#[derive(Debug)]
pub struct UsageCounter {
    inner: Inner,
    prices: Prices,
}

impl UsageCounter {
    /// A counter at the start of a body.
    #[must_use]
    pub fn new(mode: Mode, prices: Prices) -> Self {
        let inner = match mode {
            Mode::Reference => Inner::Reference(ReferenceCounter::new()),
            Mode::Streaming => Inner::Streaming(StreamCounter::new()),
        };
        Self { inner, prices }
    }

    /// Takes the next piece of the body; returns what is to be sent on now.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        match &mut self.inner {
            Inner::Reference(counter) => counter.push(piece, &self.prices),
            Inner::Streaming(counter) => counter.push(piece, &self.prices),
        }
    }

    /// The body is over: returns what is still to be sent.
    pub fn finish(&mut self) -> Vec<u8> {
        match &mut self.inner {
            Inner::Reference(counter) => counter.finish(),
            Inner::Streaming(counter) => counter.finish(),
        }
    }

    /// What was reported so far, in billed tokens.
    #[must_use]
    pub fn usage(&self) -> TokensUsed {
        self.raw().adjusted(&self.prices)
    }

    /// What was reported so far, in model tokens.
    #[must_use]
    pub fn raw(&self) -> ModelUsage {
        match &self.inner {
            Inner::Reference(counter) => counter.maxima,
            Inner::Streaming(counter) => counter.maxima,
        }
    }

    /// How many pieces of output (a choice with text, reasoning or a tool call in one value) went by.
    ///
    /// Each carries at least one model token, so this is a lower bound of the output. Always 0 in reference mode.
    #[must_use]
    pub fn delivered_chunks(&self) -> u64 {
        match &self.inner {
            Inner::Reference(_) => 0,
            Inner::Streaming(counter) => counter.delivered_chunks,
        }
    }

    /// What may be billed when the body breaks off here (11 #5): the reported usage, and one token of output for
    /// each piece that went by after it.
    ///
    /// A caller who leaves between the last report and the end is billed what he was shown. For complete bodies
    /// use [`usage`](Self::usage).
    #[must_use]
    pub fn usage_at_break(&self) -> TokensUsed {
        let mut raw = self.raw();
        if let Inner::Streaming(counter) = &self.inner {
            let after = raw.completion.0.saturating_add(counter.unreported_chunks);
            raw.completion = ModelTokens(after);
        }
        raw.adjusted(&self.prices)
    }

    /// True if a limit made part of the body pass unread, so that usage may be missing.
    #[must_use]
    pub fn truncated_scan(&self) -> bool {
        match &self.inner {
            Inner::Reference(counter) => counter.truncated_scan,
            Inner::Streaming(counter) => counter.truncated_scan,
        }
    }
}
