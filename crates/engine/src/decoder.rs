//! A Llama-shaped decoder-only transformer on candle: one code for serving, pretraining and tuning.
//!
//! Covers the Llama, Qwen2 (biased q/k/v) and Qwen3 (normed q/k) layouts of Hugging Face directories. Tokens of
//! all sequences of a step are laid end to end, so that linear layers run once over the whole ragged batch; only
//! attention looks at sequences one by one, each with its own cache.

mod cache;
mod config;
mod math;
mod model;
mod ops;
mod rope;
mod weights;

pub use cache::KvCache;
pub(crate) use config::token_ids;
pub use config::{Family, ModelConfig, RopeScaling};
pub use model::{Chunk, Decoder};
pub use ops::cross_entropy;
pub use weights::Weights;
pub(crate) use weights::layout;
