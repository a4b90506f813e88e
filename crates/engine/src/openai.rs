//! The OpenAI HTTP surface of the embedded engine: requests in, JSON or server-sent events out.

mod answer;
mod error;
mod prompt;
mod request;
mod serve;

pub use error::ApiError;
pub use request::{Kind, Limits, Parsed};
pub(crate) use serve::{Service, now, serve};
