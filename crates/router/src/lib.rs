//! The router: carries bytes between local applications and attested peers (spec `attestation.md` section 5).
//!
//! One process, any number of ports, one certificate. A *reverse* port takes connections of the network (proof of
//! work, mutual TLS, policy) and opens a plain one to a local application; *forward* and *SOCKS5* ports take plain
//! connections of local applications and open attested ones. With `serialize_info` the application reads a frame that
//! says who the peer is ([`cocoon_attest::frame`]) before any other byte.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use cocoon_router::{Options, Router, Settings};
//! let options = Options {
//!     reverse: vec!["11001:127.0.0.1:11101@any".into()],
//!     serialize_info: true,
//!     ..Options::default()
//! };
//! let router = Router::bind(Settings::assemble(&options, None)?).await?;
//! let handle = router.handle();
//! tokio::spawn(router.run());
//! // ...
//! handle.stop(std::time::Duration::from_secs(10));
//! # Ok(()) }
//! ```
//!
//! Behaviour is the reference's where somebody can depend on it: ports, reply and frame order, bare closes instead of
//! SOCKS5 errors, an end on one side ends both. It is stricter where the reference lets peers hold resources for ever
//! (see [`limits::Limits`]) or configurations fail open (see [`settings`]): and the application hears of a peer only
//! after the whole handshake.

mod assemble;
mod connection;
mod dial;
mod inbound;
mod outbound;
mod pipe;
mod relay;
mod router;

pub mod certificate;
pub mod example;
pub mod file;
pub mod grammar;
pub mod limits;
pub mod metrics;
pub mod policies;
pub mod settings;
pub mod socks5;
pub mod target;

pub use certificate::{CertificateMode, CertificateSource};
pub use file::FileConfig;
pub use limits::Limits;
pub use policies::PolicyBook;
pub use router::{Handle, PortInfo, Router, RouterError};
pub use settings::{Options, Port, PortKind, Settings, SettingsError};
pub use target::{Host, Target};
