//! The guest's side: what the machine that this process runs in can prove about itself.
//!
//! The kernel of a confidential virtual machine offers its evidence as files: quotes in configfs ([`tsm`]),
//! measurement registers in sysfs ([`registers`]), the firmware's event log beside the ACPI tables ([`event_log`]).
//! All of them are reached through a [`Kernel`], so that a recorded tree, or an imitation with its errors, stands in
//! for the real one. [`host`] says what a machine offers, and what to do about what is missing; [`gpu`] asks GPUs.
//!
//! Nothing here judges anything: evidence is made, and whoever gets it verifies it.

pub mod error;
pub mod event_log;
pub mod gpu;
pub mod host;
pub mod kernel;
pub mod registers;
pub mod tsm;

pub use error::GuestError;
pub use host::Host;
pub use kernel::{Kernel, System};
pub use tsm::{Provider, Report, Reports};
