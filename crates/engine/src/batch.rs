//! Continuous batching: one thread owns the model and advances all admitted requests together.
//!
//! A request waits in a bounded queue, is admitted when a slot and its share of the cache are free, and then takes
//! part in every step until it ends, its receiver is dropped, or its reader has stalled for too long. A full
//! channel pauses only its own request.

mod run;
mod sequence;

use crate::decoder::Decoder;
use crate::error::EngineError;
use crate::sampler::Sampling;
use crate::text::Text;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Requests in a step. More share the weights' passage through the caches, but each adds to everyone's delay.
pub const DEFAULT_MAX_ACTIVE: usize = 16;
/// Requests that may wait; further ones are refused at once instead of waiting in vain.
pub const DEFAULT_MAX_WAITING: usize = 256;
/// Memory for keys and values unless set otherwise.
const DEFAULT_CACHE_BYTES: usize = 2 << 30;

/// Limits of a scheduler.
#[derive(Debug, Clone)]
pub struct BatchOptions {
    /// Threads for the arithmetic of one step. 1 is best for a tiny model.
    pub threads: usize,
    /// Requests advanced together.
    pub max_active: usize,
    /// Requests that may wait for a slot.
    pub max_waiting: usize,
    /// Tokens of keys and values kept in all; `None` for as many as fit 2 GiB.
    pub cache_tokens: Option<usize>,
    /// Prompt and answer together; `None` for the model's own limit.
    pub max_context: Option<usize>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            max_active: DEFAULT_MAX_ACTIVE,
            max_waiting: DEFAULT_MAX_WAITING,
            cache_tokens: None,
            max_context: None,
        }
    }
}

/// One answer to generate.
#[derive(Clone)]
pub struct Job {
    /// Tokens of the prompt; at least one, and fewer than the context.
    pub prompt: Vec<u32>,
    /// Most tokens to generate; cut to what the context leaves.
    pub max_tokens: usize,
    /// An answer does not end by itself before this many tokens.
    pub min_tokens: usize,
    /// Tokens that end the answer.
    pub end_tokens: Vec<u32>,
    /// Strings that end the answer.
    pub stops: Vec<String>,
    /// How to choose tokens.
    pub sampling: Sampling,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop string was met.
    Stop,
    /// The token limit or the context was reached.
    Length,
}

/// A token with its log-probability.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Its natural log-probability.
    pub logprob: f32,
    /// The likeliest tokens at this place.
    pub top: Vec<(u32, f32)>,
}

/// A step of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More text, or log-probabilities of tokens whose text is still incomplete.
    Piece {
        /// Valid UTF-8 that no stop string can touch any more.
        text: String,
        /// One entry for each token since the last piece, if asked for.
        logprobs: Vec<TokenLogprob>,
    },
    /// The answer is complete.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Tokens generated, the end token included: what was computed is what is counted.
        completion_tokens: usize,
    },
    /// The answer cannot be completed.
    Failed(String),
}

/// Events of a job, marked with the number that it was submitted under.
pub type Events = mpsc::Sender<(usize, Event)>;

/// Why a job was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full; trying again later makes sense.
    #[error("the engine is busy: its queue is full")]
    Full,
    /// The engine's thread has ended.
    #[error("the engine has stopped")]
    Stopped,
}

/// What a scheduler can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Requests advanced together.
    pub max_active: usize,
    /// Requests that may wait.
    pub max_waiting: usize,
    /// Tokens of keys and values in all.
    pub cache_tokens: usize,
    /// Tokens of prompt and answer together.
    pub context: usize,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests in the batch now.
    pub active: usize,
    /// Tokens of the cache promised to them.
    pub reserved_tokens: usize,
    /// Steps done.
    pub steps: u64,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Requests ended because nobody listened any more.
    pub cancelled: u64,
}

#[derive(Default)]
struct Counters {
    active: AtomicUsize,
    reserved: AtomicUsize,
    steps: AtomicU64,
    prompt: AtomicU64,
    generated: AtomicU64,
    cancelled: AtomicU64,
}

struct Submitted {
    job: Job,
    index: usize,
    events: Events,
}

/// A handle to the thread that owns a model. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Scheduler {
    queue: mpsc::Sender<Submitted>,
    counters: Arc<Counters>,
    capacity: Capacity,
}

impl Scheduler {
    /// Starts the thread.
    pub fn start(
        decoder: Decoder,
        text: Arc<Text>,
        options: &BatchOptions,
    ) -> Result<Self, EngineError> {
        let option = |option, problem: String| Err(EngineError::Option { option, problem });
        if options.max_active == 0 {
            return option("max_active", "it is 0; expected at least 1".into());
        }
        let own = decoder.config().max_positions;
        let context = options.max_context.unwrap_or(own);
        if context < 2 || context > own {
            return option(
                "max_context",
                format!("it is {context}; expected 2 to {own}, the model's own limit"),
            );
        }
        let affordable =
            (DEFAULT_CACHE_BYTES / decoder.config().cache_bytes_per_token()).max(context);
        let cache_tokens = options
            .cache_tokens
            .unwrap_or(affordable)
            .min(context.saturating_mul(options.max_active));
        if cache_tokens < context {
            return option(
                "cache_tokens",
                format!("it is {cache_tokens}; expected at least the context of {context}"),
            );
        }
        let capacity = Capacity {
            max_active: options.max_active,
            max_waiting: options.max_waiting.max(1),
            cache_tokens,
            context,
        };
        let (queue, receiver) = mpsc::channel(capacity.max_waiting);
        let counters = Arc::new(Counters::default());
        // A pool of its own: the arithmetic of this model uses exactly these threads, the first of which also
        // runs the loop.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads.max(1))
            .thread_name(|i| format!("cocoon-engine-{i}"))
            .build()
            .map_err(|e| EngineError::Option {
                option: "threads",
                problem: e.to_string(),
            })?;
        let runner = run::Runner::new(decoder, text, capacity, receiver, counters.clone());
        std::thread::Builder::new()
            .name("cocoon-engine".into())
            .spawn(move || pool.install(|| runner.run()))
            .map_err(|e| EngineError::Option {
                option: "threads",
                problem: e.to_string(),
            })?;
        Ok(Self {
            queue,
            counters,
            capacity,
        })
    }

    /// Queues a job; its events come with `index`. Dropping the receiver cancels it.
    pub fn submit(&self, job: Job, index: usize, events: Events) -> Result<(), SubmitError> {
        self.queue
            .try_send(Submitted { job, index, events })
            .map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => SubmitError::Full,
                mpsc::error::TrySendError::Closed(_) => SubmitError::Stopped,
            })
    }

    /// Limits in force.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Whether the thread runs.
    pub fn running(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Counters now.
    pub fn stats(&self) -> Stats {
        let c = &self.counters;
        Stats {
            active: c.active.load(Ordering::Relaxed),
            reserved_tokens: c.reserved.load(Ordering::Relaxed),
            steps: c.steps.load(Ordering::Relaxed),
            prompt_tokens: c.prompt.load(Ordering::Relaxed),
            generated_tokens: c.generated.load(Ordering::Relaxed),
            cancelled: c.cancelled.load(Ordering::Relaxed),
        }
    }
}
