//! One node as a program: `cocoon client`, `cocoon proxy`, `cocoon worker`; and what `cocoon up` shares with them.

mod base;
pub mod chain;
pub mod config;
pub mod deploy;
mod evidence;
mod keyring;
mod life;
pub mod pages;
mod roles;
pub mod start;

pub use roles::{client, proxy, worker};
