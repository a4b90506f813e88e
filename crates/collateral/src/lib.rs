//! Brings collateral: what Intel and AMD publish about their platforms and without which no evidence is believed.
//!
//! [`fetch`] asks Intel's service or a cache of it (PCCS), [`kds`] asks AMD's, both over [`web`], a small HTTPS client
//! with limits. Nothing that comes back is believed for where it comes from: it is parsed, its signatures are followed
//! to the pinned root, its dates are compared with the clock, and no part may be older than what is held. Only then it
//! gets into the store that all connections share, and into the directory of [`cache`].
//!
//! [`supply`] does this for a running program, ahead of time: [`keeper`], a state machine without clock or socket, says
//! what to fetch when. A handshake never waits for it: an unknown platform is refused with a reason that says to try
//! again, its collateral is fetched, and the next try finds it.

pub mod cache;
pub mod fetch;
pub mod kds;
pub mod keeper;
pub mod service;
pub mod settings;
pub mod supply;
pub mod web;

pub use cache::DiskCache;
pub use fetch::{FetchError, Fetcher};
pub use service::Service;
pub use settings::CollateralConfig;
pub use supply::Supplier;
