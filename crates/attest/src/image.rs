//! Names of what runs: the hash of a node's configuration, the run-time register it ends in, the root hash of a model.
//!
//! All of them are recomputed by whoever builds an image or a model and compared with what a quote or the root contract
//! says; see spec 6.3, 6.4 and 6.7.

pub mod model_package;
pub mod spec_tree;
pub mod verity;
