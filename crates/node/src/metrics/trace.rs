//! Finished requests for a collector of traces: times, outcome and ids, never content.

use super::meter::Outcome;

/// Spans that may wait for the exporter; beyond, they are dropped and counted.
const MAX_WAITING: usize = 4096;

/// One finished request at one role. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Id of the request towards the caller; the trace is named after it.
    pub trace: [u8; 32],
    /// Id of the request towards the next hop, where it is another one.
    pub linked: Option<[u8; 32]>,
    /// When it came.
    pub started_ms: u64,
    /// When the first byte of the answer's body was passed on.
    pub first_ms: Option<u64>,
    /// When it ended.
    pub ended_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Adjusted tokens billed.
    pub tokens: u64,
}

/// Spans, and how many were dropped before them.
pub type Taken = (Vec<Span>, u64);

/// Spans on their way to an exporter. Off unless asked for.
#[derive(Debug, Default)]
pub struct Spans {
    waiting: Option<Vec<Span>>,
    dropped: u64,
}

impl Spans {
    pub(super) fn push(&mut self, span: impl FnOnce() -> Span) {
        match &mut self.waiting {
            Some(waiting) if waiting.len() < MAX_WAITING => waiting.push(span()),
            Some(_) => self.dropped += 1,
            None => {}
        }
    }

    /// What was collected since the last time. The first call begins to collect.
    pub fn take(&mut self) -> Taken {
        let waiting = std::mem::take(self.waiting.get_or_insert_default());
        (waiting, std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_unasked_and_never_without_bound() {
        let span = || Span {
            trace: [1; 32],
            linked: None,
            started_ms: 0,
            first_ms: None,
            ended_ms: 1,
            outcome: Outcome::Success,
            tokens: 1,
        };
        let mut spans = Spans::default();
        spans.push(span);
        assert_eq!(spans.take(), (Vec::new(), 0));
        for _ in 0..MAX_WAITING + 3 {
            spans.push(span);
        }
        let (kept, dropped) = spans.take();
        assert_eq!((kept.len(), dropped), (MAX_WAITING, 3));
        assert_eq!(spans.take(), (Vec::new(), 0));
    }
}
