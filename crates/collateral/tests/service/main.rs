//! Collateral over HTTP: an imitation of Intel's service and of AMD's that signs what it serves under the roots of
//! software machines, and answers wrongly on order.

mod amd;
mod fetching;
mod keeping;
mod pcs;
mod supplying;
mod tls;
