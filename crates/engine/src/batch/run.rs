//! The loop of the thread that owns the model.

use super::sequence::Sequence;
use super::{Capacity, Counters, Event, Submitted};
use crate::decoder::{Chunk, Decoder};
use crate::text::Text;
use candle_core::Tensor;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Prompt tokens that one sequence runs in a step. Fixed, so that a prompt is cut at the same places whatever else
/// is going on; bounds the memory of attention scores and how long a long prompt delays the others' next token.
const PREFILL_CHUNK: usize = 128;
/// Prompt tokens of all sequences in a step, for the same reason.
const PREFILL_PER_STEP: usize = 512;
/// How long to wait when every reader is slow.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) struct Runner {
    decoder: Decoder,
    text: Arc<Text>,
    capacity: Capacity,
    queue: mpsc::Receiver<Submitted>,
    counters: Arc<Counters>,
    active: Vec<Sequence>,
    /// The next to be admitted; its turn has come, but its cache is not free yet.
    next: Option<Submitted>,
    reserved: usize,
}

impl Runner {
    pub(super) fn new(
        decoder: Decoder,
        text: Arc<Text>,
        capacity: Capacity,
        queue: mpsc::Receiver<Submitted>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            decoder,
            text,
            capacity,
            queue,
            counters,
            active: Vec::new(),
            next: None,
            reserved: 0,
        }
    }

    pub(super) fn run(mut self) {
        while self.admit() {
            if self.active.is_empty() {
                continue;
            }
            if !self.step() {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Admits what fits, waiting if there is nothing to do; false when no work can come any more.
    fn admit(&mut self) -> bool {
        while self.active.len() < self.capacity.max_active {
            let submitted = match self.next.take() {
                Some(submitted) => submitted,
                None => match self.queue.try_recv() {
                    Ok(submitted) => submitted,
                    Err(mpsc::error::TryRecvError::Empty) if self.active.is_empty() => {
                        match self.queue.blocking_recv() {
                            Some(submitted) => submitted,
                            None => return false,
                        }
                    }
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return !self.active.is_empty(),
                },
            };
            if submitted.events.is_closed() {
                self.counters.cancelled.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let prompt = submitted.job.prompt.len();
            if prompt == 0 || prompt >= self.capacity.context || submitted.job.max_tokens == 0 {
                let problem = format!(
                    "a job has {prompt} prompt tokens and {} to generate",
                    submitted.job.max_tokens
                );
                let _ = submitted
                    .events
                    .try_send((submitted.index, Event::Failed(problem)));
                continue;
            }
            let need = prompt
                .saturating_add(submitted.job.max_tokens)
                .min(self.capacity.context);
            if self.reserved + need > self.capacity.cache_tokens {
                self.next = Some(submitted);
                break;
            }
            self.reserved += need;
            let Submitted { job, index, events } = submitted;
            self.active.push(Sequence::new(
                job,
                index,
                events,
                self.decoder.config(),
                need,
            ));
        }
        self.publish();
        true
    }

    /// Runs one step; false if nobody could take part.
    fn step(&mut self) -> bool {
        let now = Instant::now();
        let before = self.active.len();
        self.drop_where(|s| s.abandoned(now));
        self.counters
            .cancelled
            .fetch_add((before - self.active.len()) as u64, Ordering::Relaxed);

        let mut budget = PREFILL_PER_STEP;
        let choices: Vec<usize> = self
            .active
            .iter()
            .map(|s| self.active.iter().filter(|o| s.same_reader(o)).count())
            .collect();
        let mut taking_part = Vec::with_capacity(self.active.len());
        for (i, (sequence, choices)) in self.active.iter_mut().zip(choices).enumerate() {
            let tokens = sequence.waiting().min(PREFILL_CHUNK);
            let affordable = tokens == 1 || tokens <= budget;
            if affordable && sequence.ready(now, choices) {
                if tokens > 1 {
                    budget -= tokens;
                }
                taking_part.push((i, tokens));
            }
        }
        if taking_part.is_empty() {
            return false;
        }
        let mut chosen = taking_part.iter().map(|(i, _)| *i).peekable();
        let mut chunks: Vec<Chunk<'_>> = Vec::with_capacity(taking_part.len());
        for (i, sequence) in self.active.iter_mut().enumerate() {
            if chosen.next_if_eq(&i).is_some() {
                let (tokens, cache) = sequence.next(PREFILL_CHUNK);
                chunks.push(Chunk { tokens, cache });
            }
        }
        let logits = self
            .decoder
            .step(&mut chunks)
            .and_then(|logits: Tensor| logits.to_vec2::<f32>());
        drop(chunks);
        self.counters.steps.fetch_add(1, Ordering::Relaxed);
        let logits = match logits {
            Ok(logits) => logits,
            Err(error) => {
                // The caches of this step may be half written: all its sequences end.
                tracing::error!(%error, "model step failed");
                for (i, _) in &taking_part {
                    self.active[*i].fail("the model computation failed");
                }
                self.drop_at(&taking_part.iter().map(|(i, _)| *i).collect::<Vec<_>>());
                return true;
            }
        };
        let mut done = Vec::new();
        for ((i, tokens), row) in taking_part.iter().zip(&logits) {
            let sequence = &mut self.active[*i];
            let sampled = *tokens == sequence.waiting();
            let first = sequence.cache.len() - tokens < sequence.prompt_len();
            if first {
                self.counters
                    .prompt
                    .fetch_add(*tokens as u64, Ordering::Relaxed);
            }
            if sampled {
                self.counters.generated.fetch_add(1, Ordering::Relaxed);
            }
            if sequence.advance(*tokens, row, &self.text) {
                done.push(*i);
            }
        }
        self.drop_at(&done);
        true
    }

    fn drop_at(&mut self, places: &[usize]) {
        for i in places.iter().rev() {
            let sequence = self.active.remove(*i);
            self.reserved -= sequence.reserved;
        }
        self.publish();
    }

    fn drop_where(&mut self, gone: impl Fn(&Sequence) -> bool) {
        let places: Vec<usize> = (0..self.active.len())
            .filter(|i| gone(&self.active[*i]))
            .collect();
        self.drop_at(&places);
    }

    fn publish(&self) {
        self.counters
            .active
            .store(self.active.len(), Ordering::Relaxed);
        self.counters
            .reserved
            .store(self.reserved, Ordering::Relaxed);
    }
}
