//! Models: the embedded transformer engine, its OpenAI surface, OpenAI-HTTP upstreams, and the tiny model's recipe.

pub mod backend;
pub mod batch;
pub mod decoder;
pub mod detok;
mod embedded;
pub mod error;
pub mod openai;
pub mod sampler;
pub mod stop;
pub mod template;
pub mod text;
pub mod tiny;
pub mod upstream;

pub use backend::{Backend, BackendEvent, HttpRequest, ModelInfo};
pub use batch::BatchOptions;
pub use embedded::{EmbeddedEngine, EngineOptions};
pub use error::EngineError;
pub use upstream::HttpUpstream;
