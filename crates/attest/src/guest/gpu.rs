//! Evidence of this machine's NVIDIA GPUs, asked for through NVIDIA's management library (feature `nvml`).
//!
//! The library is loaded when it is needed, so a program built with the feature starts on any machine and says what is
//! missing. A report carries a nonce; asked for with [`crate::evidence::gpu::nonce_for_key`], it is bound to a TLS key.

use serde::Serialize;

use super::kernel::Kernel;

/// Where the driver says its version, and lists its GPUs.
const DRIVER: (&str, &str) = ("proc/driver/nvidia/version", "proc/driver/nvidia/gpus");

/// What is known of a machine's GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GpuFacts {
    /// The driver's version; `None` without a driver.
    pub driver: Option<String>,
    /// GPUs that the driver has.
    pub count: usize,
    /// Confidential computing is on; `None` where nobody could be asked.
    pub confidential: Option<bool>,
    /// Why the mode is unknown, and what to do; `None` if it is known or there is no GPU.
    pub unknown: Option<String>,
}

/// Evidence of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuEvidence {
    /// Name of the model, as the driver says it.
    pub name: String,
    /// The report: SPDM request and response.
    pub report: Vec<u8>,
    /// The certificate chain, PEM.
    pub chain: String,
}

/// Why there is no GPU evidence.
#[derive(Debug, thiserror::Error)]
pub enum GpuSourceError {
    /// Compiled without the library's bindings.
    #[error(
        "this build does not ask GPUs: build with cargo build --features nvml, on a machine with NVIDIA's driver"
    )]
    NotInThisBuild,
    /// No library.
    #[error(
        "NVIDIA's management library does not answer: {0}. It comes with the driver (package nvidia-driver-libs or libnvidia-compute, file libnvidia-ml.so.1); the modules nvidia and nvidia_uvm must be loaded"
    )]
    NoLibrary(String),
    /// No GPU at all.
    #[error("the driver has no GPU: pass one through to this machine")]
    NoGpu,
    /// The mode is off.
    #[error(
        "confidential computing is off on {0}: the host must switch it on (CC mode on, then a reset) before it passes the GPU through; only Hopper and later have it"
    )]
    Off(String),
    /// Something went wrong.
    #[error("{name} gave no evidence: {reason}")]
    Failed {
        /// Which GPU.
        name: String,
        /// What the library said.
        reason: String,
    },
}

/// What can be seen without changing anything.
pub(super) fn look(kernel: &dyn Kernel) -> GpuFacts {
    let driver = kernel.read(DRIVER.0, 4_096).ok().and_then(|bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let numbered = |word: &&str| {
            word.split('.').count() >= 2
                && word.split('.').all(|part| {
                    !part.is_empty() && part.chars().all(|digit| digit.is_ascii_digit())
                })
        };
        let line = text.lines().next().unwrap_or_default();
        line.split_whitespace().find(numbered).map(str::to_owned)
    });
    let count = kernel.list(DRIVER.1).map_or(0, |names| names.len());
    let (confidential, unknown) = if count == 0 {
        (None, None)
    } else {
        match mode() {
            Ok(on) => (Some(on), None),
            Err(error) => (None, Some(error.to_string())),
        }
    };
    GpuFacts {
        driver,
        count,
        confidential,
        unknown,
    }
}

/// Whether confidential computing is on, on this machine's GPUs.
#[cfg(not(feature = "nvml"))]
pub fn mode() -> Result<bool, GpuSourceError> {
    Err(GpuSourceError::NotInThisBuild)
}

/// Reports of all GPUs of this machine for a nonce.
#[cfg(not(feature = "nvml"))]
pub fn evidence(_nonce: &[u8; 32]) -> Result<Vec<GpuEvidence>, GpuSourceError> {
    Err(GpuSourceError::NotInThisBuild)
}

#[cfg(feature = "nvml")]
pub use self::nvml::{evidence, mode};

#[cfg(feature = "nvml")]
mod nvml {
    use nvml_wrapper::{Device, Nvml};

    use super::{GpuEvidence, GpuSourceError};
    use crate::evidence::gpu::{GpuReport, MAX_CHAIN_LEN};

    /// Whether confidential computing is on, on this machine's GPUs.
    pub fn mode() -> Result<bool, GpuSourceError> {
        let nvml = open()?;
        let count = nvml.device_count().map_err(|e| library(&e))?;
        if count == 0 {
            return Err(GpuSourceError::NoGpu);
        }
        for index in 0..count {
            let device = nvml.device_by_index(index).map_err(|e| library(&e))?;
            match device.is_cc_enabled() {
                Ok(true) => {}
                // Drivers without the question have GPUs without the mode.
                Ok(false) => return Ok(false),
                Err(e) => return Err(failed(&device, &e)),
            }
        }
        Ok(true)
    }

    /// Reports of all GPUs of this machine for a nonce.
    pub fn evidence(nonce: &[u8; 32]) -> Result<Vec<GpuEvidence>, GpuSourceError> {
        let nvml = open()?;
        let count = nvml.device_count().map_err(|e| library(&e))?;
        if count == 0 {
            return Err(GpuSourceError::NoGpu);
        }
        let ask = |index| {
            let device = nvml.device_by_index(index).map_err(|e| library(&e))?;
            of_device(&device, nonce)
        };
        (0..count).map(ask).collect()
    }

    fn of_device(device: &Device<'_>, nonce: &[u8; 32]) -> Result<GpuEvidence, GpuSourceError> {
        if matches!(device.is_cc_enabled(), Ok(false)) {
            return Err(GpuSourceError::Off(name(device)));
        }
        let report = device
            .confidential_compute_gpu_attestation_report(*nonce)
            .map_err(|e| failed(device, &e))?
            .attestation_report;
        let parsed = GpuReport::parse(&report).map_err(|e| failed(device, &e))?;
        if parsed.nonce.0 != *nonce {
            return Err(failed(device, &"its report is for another nonce"));
        }
        let chain = device
            .confidential_compute_gpu_certificate()
            .map_err(|e| failed(device, &e))?
            .attestation_cert_chain;
        let chain = String::from_utf8(chain).map_err(|e| failed(device, &e))?;
        if chain.len() > MAX_CHAIN_LEN {
            return Err(failed(device, &"its certificate chain is too long"));
        }
        Ok(GpuEvidence {
            name: name(device),
            report,
            chain: chain.trim_end_matches('\0').to_owned(),
        })
    }

    fn open() -> Result<Nvml, GpuSourceError> {
        Nvml::init().map_err(|e| library(&e))
    }

    fn library(error: &dyn std::fmt::Display) -> GpuSourceError {
        GpuSourceError::NoLibrary(error.to_string())
    }

    fn name(device: &Device<'_>) -> String {
        device.name().unwrap_or_else(|_| "a GPU".to_owned())
    }

    fn failed(device: &Device<'_>, reason: &dyn std::fmt::Display) -> GpuSourceError {
        GpuSourceError::Failed {
            name: name(device),
            reason: reason.to_string(),
        }
    }
}
