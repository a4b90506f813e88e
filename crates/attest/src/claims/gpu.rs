//! GPU evidence that goes with a statement: made anew for every connection, for this key and this nonce.
//!
//! ```text
//! u16 devices | per device: u32 length, report | u32 length, chain (PEM)          integers little-endian
//! ```
//!
//! Empty bytes mean that there is no GPU. The statement holds the SHA-256 of the whole.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::statement::Session;
use crate::evidence::gpu::{GpuClaims, GpuRoot, MAX_CHAIN_LEN, MAX_REPORT_LEN};
use crate::evidence::gpu_policy::{GpuEvidence, GpuPolicy};
use crate::evidence::lists::Bytes;
use crate::evidence::rim::Rim;
use crate::guest;

/// GPUs of one machine.
pub const MAX_DEVICES: usize = 16;
/// Evidence of all GPUs of a machine; one has some 10 kB. Read only from peers that were asked for it.
pub const MAX_EVIDENCE_LEN: usize = 256 * 1024;

/// A GPU's report and chain.
#[derive(Clone, PartialEq, Eq)]
pub struct GpuDevice {
    /// Request and response, raw.
    pub report: Vec<u8>,
    /// Chain of the GPU's firmware key, PEM, leaf first.
    pub chain: Vec<u8>,
}

impl fmt::Debug for GpuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (report, chain) = (self.report.len(), self.chain.len());
        write!(f, "GpuDevice(report {report} bytes, chain {chain} bytes)")
    }
}

/// The GPUs' driver said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no evidence of the GPUs: {0}")]
pub struct GpuSourceError(pub String);

/// Makes evidence of this machine's GPUs.
pub trait GpuSource: Send + Sync {
    /// A report of every GPU, asked for with this nonce. May block for seconds; called on a thread that may.
    fn evidence(&self, nonce: &[u8; 32]) -> Result<Vec<GpuDevice>, GpuSourceError>;
}

/// The GPUs of this machine, through their driver.
#[derive(Debug, Clone, Copy)]
pub struct HostGpus;

impl HostGpus {
    /// They, if this build can ask them and they are in confidential computing mode; nothing else has evidence.
    #[must_use]
    pub fn present() -> Option<Arc<dyn GpuSource>> {
        let on = guest::gpu::mode().unwrap_or(false);
        on.then(|| Arc::new(HostGpus) as Arc<dyn GpuSource>)
    }
}

impl GpuSource for HostGpus {
    fn evidence(&self, nonce: &[u8; 32]) -> Result<Vec<GpuDevice>, GpuSourceError> {
        let found =
            guest::gpu::evidence(nonce).map_err(|error| GpuSourceError(error.to_string()))?;
        let device = |gpu: guest::gpu::GpuEvidence| GpuDevice {
            report: gpu.report,
            chain: gpu.chain.into_bytes(),
        };
        Ok(found.into_iter().map(device).collect())
    }
}

/// What a peer's GPUs have to prove.
#[derive(Debug, Clone)]
pub struct GpuDemand {
    /// Demands on each GPU, confidential computing mode among them.
    pub policy: Arc<GpuPolicy>,
    /// Root of trust.
    pub root: GpuRoot,
    /// Reference manifests at hand.
    pub rims: Arc<[Rim]>,
    /// Revocation lists at hand, DER.
    pub lists: Arc<[Vec<u8>]>,
    /// Refuse a peer without a GPU. Otherwise only what is shown is judged.
    pub required: bool,
}

/// What is wrong with GPU evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuFailure {
    /// There is none.
    #[error("the peer shows no GPU, and one with confidential computing on is required")]
    Missing,
    /// It is not what the statement speaks of.
    #[error("the GPU evidence is not the one whose digest the statement holds")]
    Digest,
    /// It cannot be read.
    #[error("the GPU evidence cannot be read: {0}")]
    Malformed(&'static str),
    /// A report was refused.
    #[error("GPU {index}: {reason}")]
    Refused {
        /// Which, from 0.
        index: usize,
        /// The verdict.
        reason: String,
    },
    /// One device counts once.
    #[error("GPU {0} is shown twice")]
    Twice(String),
}

/// The nonce for a connection's GPU reports: of the key that speaks, the connection, and the challenge of the peer.
#[must_use]
pub fn nonce_for_session(session: &Session) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"cocoon gpu evidence 2\0");
    for part in [&session.key, &session.binding, &session.nonce] {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Writes evidence. Refused if a peer would refuse to read it.
pub fn encode(devices: &[GpuDevice]) -> Result<Vec<u8>, GpuSourceError> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let too_much = |what: &str| GpuSourceError(format!("{what} more than a peer reads"));
    if devices.len() > MAX_DEVICES {
        return Err(too_much("the machine has GPUs"));
    }
    let mut out = (devices.len() as u16).to_le_bytes().to_vec();
    for device in devices {
        for (part, limit) in [
            (&device.report, MAX_REPORT_LEN),
            (&device.chain, MAX_CHAIN_LEN),
        ] {
            if part.len() > limit {
                return Err(too_much("a report or chain has bytes"));
            }
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    if out.len() > MAX_EVIDENCE_LEN {
        return Err(too_much("the evidence has bytes"));
    }
    Ok(out)
}

/// Reads evidence; every byte counts.
pub fn decode(bytes: &[u8]) -> Result<Vec<GpuDevice>, GpuFailure> {
    let bad = GpuFailure::Malformed;
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    if bytes.len() > MAX_EVIDENCE_LEN {
        return Err(bad("it is too long"));
    }
    let [a, b, rest @ ..] = bytes else {
        return Err(bad("it is cut short"));
    };
    let mut rest = rest;
    let count = usize::from(u16::from_le_bytes([*a, *b]));
    if count == 0 || count > MAX_DEVICES {
        return Err(bad("a wrong number of devices"));
    }
    let mut part = |limit: usize| -> Result<Vec<u8>, GpuFailure> {
        let (length, after) = rest.split_first_chunk().ok_or(bad("it is cut short"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > limit {
            return Err(bad("a report or chain is too long"));
        }
        let (value, after) = after
            .split_at_checked(length)
            .ok_or(bad("it is cut short"))?;
        rest = after;
        Ok(value.to_vec())
    };
    let mut devices = Vec::with_capacity(count);
    for _ in 0..count {
        devices.push(GpuDevice {
            report: part(MAX_REPORT_LEN)?,
            chain: part(MAX_CHAIN_LEN)?,
        });
    }
    if rest.is_empty() {
        Ok(devices)
    } else {
        Err(bad("bytes follow"))
    }
}

impl GpuDemand {
    /// Judges evidence that was asked for with `nonce`, at the time `now` (Unix seconds).
    pub fn appraise(
        &self,
        bytes: &[u8],
        nonce: &[u8; 32],
        now: u64,
    ) -> Result<Vec<GpuClaims>, GpuFailure> {
        let devices = decode(bytes)?;
        if devices.is_empty() && self.required {
            return Err(GpuFailure::Missing);
        }
        let mut found: Vec<GpuClaims> = Vec::with_capacity(devices.len());
        for (index, device) in devices.iter().enumerate() {
            let evidence = GpuEvidence {
                report: &device.report,
                chain: &device.chain,
                lists: &self.lists,
            };
            let nonce = Bytes(*nonce);
            let (verdict, claims) =
                self.policy
                    .appraise(evidence, now, self.root, Some(&nonce), &self.rims);
            let Some(claims) = claims.filter(|_| verdict.accepted()) else {
                let reason = verdict.to_string();
                return Err(GpuFailure::Refused { index, reason });
            };
            if found.iter().any(|other| other.device == claims.device) {
                return Err(GpuFailure::Twice(claims.device));
            }
            found.push(claims);
        }
        Ok(found)
    }
}
