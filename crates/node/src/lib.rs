//! The roles: client, proxy, worker and key manager, each a pure core with a thin driver.

pub mod api_error;
pub mod claims;
pub mod client;
pub mod common;
pub mod footprint;
pub mod key_manager;
pub mod link;
pub mod metrics;
pub mod operate;
pub mod payment;
pub mod peers;
pub mod proto;
pub mod proxy;
pub mod reference_json;
pub mod root;
mod root_json;
pub mod root_source;
pub mod settlement;
pub mod static_root;
pub mod store;
pub mod wallet;
pub mod watch;
pub mod wishes;
pub mod worker;

pub use common::{NodeError, Timing};
pub use root_source::RootSource;
pub use settlement::{ChainMode, Settlement};
