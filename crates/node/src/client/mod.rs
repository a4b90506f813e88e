//! The client: an OpenAI-compatible endpoint on one side, proxies on the other, and the deposit that pays for it.

mod api;
mod closing;
mod core;
mod driver;
mod exit;
mod links;
mod onchain;
mod operate;
mod provider;
pub mod request;
mod requests;
mod sse;
mod stats;
mod types;

pub use core::ClientCore;
pub use driver::{ClientHandle, ClientOptions, start};
pub use exit::Judgement;
pub use operate::Wish;
pub use types::{
    ClientConfig, ClientEffect, ClientEvent, ClientSettings, HttpOut, ModelOffer, NewRequest,
    WorkerOffer,
};
