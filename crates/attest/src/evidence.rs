//! Real evidence of confidential hardware: Intel TDX quotes, AMD SEV-SNP reports, NVIDIA GPU reports.
//!
//! Everything here works offline on bytes, with the time as an argument: nothing is fetched, nothing blocks. Each kind
//! of evidence has a verifier (is it genuine, and what does it say?) and a typed policy (is what it says enough?).
//! Both end in a [`Verdict`], which says field by field what was expected and what was found, so that the same code
//! decides a connection and explains the decision to a person.
//!
//! Roots of trust are pinned by hash: Intel's and AMD's and NVIDIA's root certificates are public and come along with
//! the evidence or its collateral, and only a certificate with the pinned hash is a root. Tests make their own roots
//! and name them explicitly; no build of the program contains a root of that kind.

pub mod algorithms;
pub mod chain;
pub mod collateral;
pub mod event_log;
pub mod explain;
pub mod gpu;
pub mod gpu_policy;
pub mod gpu_report;
pub mod lists;
pub mod policy_file;
pub mod rim;
pub mod sgx;
pub mod snp;
pub mod snp_collateral;
pub mod snp_policy;
pub mod snp_report;
pub mod tdx;
pub mod tdx_policy;
pub mod verdict;
pub mod verifier;

pub use policy_file::{EvidencePolicy, PolicyFile};
pub use verdict::{Check, Verdict};
pub use verifier::{SharedVerifier, TdxVerifier};
