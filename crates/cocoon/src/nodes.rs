//! One node as a program: `cocoon client`, `proxy`, `worker`, `key-manager`; and what `cocoon up` shares with them.

mod base;
pub mod chain;
pub mod config;
pub mod deploy;
mod evidence;
mod key_manager;
mod keyring;
mod life;
pub mod pages;
mod roles;
pub mod start;

pub use key_manager::key_manager;
pub use roles::{client, proxy, worker};
