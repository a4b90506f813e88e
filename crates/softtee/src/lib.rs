//! Confidential machines in software, for tests: evidence in the real formats under roots of its own.
//!
//! Each kind of machine makes a new root of trust when it is built and signs whatever it is asked to. Its evidence
//! proves nothing to anybody who does not pin that root by name, and only tests do: this crate is a dev-dependency and
//! never part of the program (`crates/cocoon/tests/no_test_root.rs` looks for [`MARKER`] in the binary).

mod der;
mod gpu;
mod pki;
mod snp;
mod tdx;
mod tsm;
mod web;

pub use gpu::SoftGpu;
pub use pki::{Key, Kind, pem};
pub use snp::{SnpFields, SoftSnp};
pub use tdx::{EnclaveFields, SoftTdx, TdFields};
pub use tsm::{Fault, Machine, SoftKernel};
pub use web::SoftWeb;

/// Stands in the name of every root made here, and hence in every binary that contains this crate.
pub const MARKER: &str = "Cocoon software root for tests, proves nothing";
