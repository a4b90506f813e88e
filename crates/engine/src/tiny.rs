//! The tiny model: how the project makes a language model of its own, from nothing.
//!
//! A seeded generator writes conversations, a tokenizer is trained on some of them, and a two-million-parameter
//! decoder on many. It exists so that a fresh machine has a model that really generates; it is a toy.

mod bpe;
pub mod corpus;
mod export;
mod facts;
mod optimiser;
pub mod recipe;
mod stories;
mod trainer;

pub use bpe::train_tokenizer;
pub use export::export;
pub use trainer::{Progress, Trainer};
