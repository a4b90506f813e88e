//! The network's messages, frames, and a peer connection: a pure core and a tokio driver.
//!
//! * [`msg`]: every message as a type.
//! * [`codes`]: error codes that peers exchange.
//! * [`frame`]: the frame codec.
//! * [`conn`]: one connection as a state machine without I/O, clock or randomness.
//! * [`driver`]: the same connection on a tokio stream.

pub mod codes;
pub mod conn;
pub mod driver;
pub mod frame;
pub mod msg;
mod outcome;

pub use outcome::{CloseReason, QueryFailure, SendError};
