//! Models: the embedded transformer engine, its OpenAI surface, OpenAI-HTTP upstreams, and the tiny model's recipe.

pub mod backend;
pub mod decoder;
pub mod error;
pub mod tiny;

pub use backend::{Backend, BackendEvent, HttpRequest, ModelInfo};
pub use error::EngineError;
