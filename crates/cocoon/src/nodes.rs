//! One node as a program: `cocoon client`, `cocoon proxy`, `cocoon worker`; and what `cocoon up` shares with them.

mod actions;
pub mod base;
pub mod chain;
mod chain_look;
pub mod config;
pub mod deploy;
mod evidence;
mod flow;
mod key_manager;
mod keyring;
pub mod life;
pub mod node_file;
pub mod observer;
pub mod otlp;
pub mod pages;
mod process;
mod roles;
pub mod start;

pub use chain_look::unix_now;
pub use key_manager::key_manager;
pub use keyring::TOKEN_FILE;
pub use roles::{client, proxy, worker};

/// Writes the figures of this process to a page.
pub fn expose_process(page: &mut cocoon_node::metrics::Page) {
    process::expose(page);
}
