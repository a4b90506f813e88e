//! The worker's core against a scripted proxy, disk, chain and backend.

mod bed;
mod chain;
mod handshake;
mod hostile;
mod payments;
mod recorded;
mod requests;
