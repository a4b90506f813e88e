//! One admitted request: what it still has to read, what it has written, and who listens.

use super::{Event, Events, FinishReason, Job, TokenLogprob};
use crate::decoder::{KvCache, ModelConfig};
use crate::detok::Detokenizer;
use crate::sampler::Sampler;
use crate::stop::StopMatcher;
use crate::text::Text;
use std::time::{Duration, Instant};

/// A reader that has not made room for this long is gone; its slot and cache are for others.
const STALL_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Sequence {
    pub(super) cache: KvCache,
    /// Cache tokens promised at admission.
    pub(super) reserved: usize,
    /// Tokens not run yet: the rest of the prompt, later the last token.
    pending: Vec<u32>,
    prompt: usize,
    generated: usize,
    max_tokens: usize,
    min_tokens: usize,
    end_tokens: Vec<u32>,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stops: StopMatcher,
    logprobs: Vec<TokenLogprob>,
    events: Events,
    index: usize,
    stalled: Option<Instant>,
    /// An event was lost: the answer must not look complete.
    broken: bool,
}

impl Sequence {
    /// `reserved` covers the prompt and all that may be generated.
    pub(super) fn new(
        job: Job,
        index: usize,
        events: Events,
        config: &ModelConfig,
        reserved: usize,
    ) -> Self {
        let max_tokens = reserved - job.prompt.len();
        Self {
            cache: KvCache::new(config, reserved),
            reserved,
            prompt: job.prompt.len(),
            pending: job.prompt,
            generated: 0,
            max_tokens,
            min_tokens: job.min_tokens.min(max_tokens),
            end_tokens: job.end_tokens,
            sampler: Sampler::new(job.sampling),
            detokenizer: Detokenizer::default(),
            stops: StopMatcher::new(job.stops),
            logprobs: Vec::new(),
            events,
            index,
            stalled: None,
            broken: false,
        }
    }

    /// The next tokens to run, at most `limit`.
    pub(super) fn next(&mut self, limit: usize) -> (&[u32], &mut KvCache) {
        let n = self.pending.len().min(limit);
        (&self.pending[..n], &mut self.cache)
    }

    /// Tokens of the prompt.
    pub(super) fn prompt_len(&self) -> usize {
        self.prompt
    }

    /// How many tokens wait to be run.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Nobody listens, or nobody reads.
    pub(super) fn abandoned(&self, now: Instant) -> bool {
        self.broken
            || self.events.is_closed()
            || self
                .stalled
                .is_some_and(|since| now.duration_since(since) > STALL_LIMIT)
    }

    /// Whether there is room for the events of a step: a last piece and the end. Shared by the choices of one
    /// request, each of which needs its own room.
    pub(super) fn ready(&mut self, now: Instant, choices: usize) -> bool {
        let ready = self.events.capacity() >= (2 * choices).min(self.events.max_capacity());
        if ready {
            self.stalled = None;
        } else {
            self.stalled.get_or_insert(now);
        }
        ready
    }

    /// Whether two sequences report to the same reader.
    pub(super) fn same_reader(&self, other: &Self) -> bool {
        self.events.same_channel(&other.events)
    }

    /// Takes the result of running `ran` tokens; returns whether the answer is complete.
    pub(super) fn advance(&mut self, ran: usize, logits: &[f32], text: &Text) -> bool {
        if ran < self.pending.len() {
            self.pending.drain(..ran);
            return false;
        }
        let banned: &[u32] = if self.generated < self.min_tokens {
            &self.end_tokens
        } else {
            &[]
        };
        let choice = self.sampler.choose(logits, banned);
        self.generated += 1;
        self.pending.clear();
        self.pending.push(choice.id);
        if self.end_tokens.contains(&choice.id) {
            return self.finish(FinishReason::Stop, String::new(), text);
        }
        if let Some(logprob) = choice.logprob {
            self.logprobs.push(TokenLogprob {
                id: choice.id,
                logprob,
                top: choice.top,
            });
        }
        let new = self.detokenizer.push(text, choice.id);
        let (shown, stopped) = self.stops.push(&new);
        if stopped {
            self.piece(shown);
            self.send(Event::Finished {
                reason: FinishReason::Stop,
                completion_tokens: self.generated,
            });
            return true;
        }
        if self.generated >= self.max_tokens {
            return self.finish(FinishReason::Length, shown, text);
        }
        self.piece(shown);
        false
    }

    /// Tells the reader that the answer cannot be completed.
    pub(super) fn fail(&mut self, why: &str) {
        self.send(Event::Failed(why.to_owned()));
    }

    fn finish(&mut self, reason: FinishReason, mut shown: String, text: &Text) -> bool {
        let rest = self.detokenizer.finish(text);
        let (more, stopped) = self.stops.push(&rest);
        shown += &more;
        if !stopped {
            shown += &self.stops.finish();
        }
        self.piece(shown);
        self.send(Event::Finished {
            reason,
            completion_tokens: self.generated,
        });
        true
    }

    fn piece(&mut self, text: String) {
        if !text.is_empty() || !self.logprobs.is_empty() {
            let logprobs = std::mem::take(&mut self.logprobs);
            self.send(Event::Piece { text, logprobs });
        }
    }

    fn send(&mut self, event: Event) {
        // There is room: `ready` was asked before the step. If not, the submitter's channel was too small for its
        // jobs; ending without `Finished` tells the reader.
        self.broken |= self.events.try_send((self.index, event)).is_err();
    }
}
