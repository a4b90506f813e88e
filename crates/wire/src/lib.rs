//! The network's messages, frames, and a peer connection: a pure core and a tokio driver.
