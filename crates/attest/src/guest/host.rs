//! What a machine offers for attestation, and what to do about what is missing.

use serde::Serialize;

use super::event_log;
use super::gpu::{self, GpuFacts};
use super::kernel::Kernel;
use super::registers::MEASUREMENTS;
use super::tsm::{CONFIGFS, Provider, REPORTS};

/// Where the processor's flags stand.
pub const CPUINFO: &str = "proc/cpuinfo";
/// Devices of the two kinds of guests, as sysfs shows them.
const DEVICES: [(Provider, &str); 2] = [
    (Provider::Tdx, "sys/devices/virtual/misc/tdx_guest"),
    (Provider::Snp, "sys/devices/virtual/misc/sev-guest"),
];
/// The first kernel with quotes through configfs.
const QUOTES_SINCE: (u32, u32) = (6, 7);
/// The first kernel with measurement registers in sysfs.
const REGISTERS_SINCE: (u32, u32) = (6, 16);
/// A machine of some hundred processors has a megabyte of flags.
const MAX_CPUINFO: usize = 16 << 20;

/// What kind of confidential machine this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An Intel TDX guest.
    TdxGuest,
    /// An AMD SEV-SNP guest.
    SnpGuest,
    /// Neither: a host, an ordinary virtual machine, or a guest whose kernel does not say so.
    None,
}

/// What was found. Nothing in it is proof of anything; it helps a person to set a machine up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Kind of machine.
    pub kind: Kind,
    /// Release of the kernel; "unknown" where it does not say.
    pub kernel: String,
    /// This is a virtual machine.
    pub virtual_machine: bool,
    /// Configfs is mounted.
    pub configfs: bool,
    /// The kernel takes requests for quotes.
    pub quotes: bool,
    /// The guest's device of the kernel is there.
    pub device: bool,
    /// The kernel shows measurement registers.
    pub registers: bool,
    /// The firmware left an event log.
    pub event_log: bool,
    /// NVIDIA GPUs.
    pub gpu: GpuFacts,
    /// What is missing and what to do about it; empty if everything is there that this kind of machine can have.
    pub missing: Vec<String>,
}

impl Host {
    /// Looks at this machine. Changes nothing and asks for no quote.
    #[must_use]
    pub fn look(kernel: &dyn Kernel) -> Self {
        let flags = flags(kernel);
        let has = |flag: &str| flags.iter().any(|f| f == flag);
        let device = |provider| {
            DEVICES
                .iter()
                .any(|(p, path)| *p == provider && kernel.exists(path))
        };
        // An SNP host has the processor flag as well, but its machine is not virtual.
        let kind = if has("tdx_guest") || device(Provider::Tdx) {
            Kind::TdxGuest
        } else if device(Provider::Snp) || (has("sev_snp") && has("hypervisor")) {
            Kind::SnpGuest
        } else {
            Kind::None
        };
        let mut host = Host {
            kind,
            kernel: kernel_release(kernel),
            virtual_machine: has("hypervisor"),
            configfs: mounted(kernel),
            quotes: kernel.exists(REPORTS),
            device: match kind {
                Kind::TdxGuest => device(Provider::Tdx),
                Kind::SnpGuest => device(Provider::Snp),
                Kind::None => false,
            },
            registers: MEASUREMENTS.iter().any(|path| kernel.exists(path)),
            event_log: kernel.exists(event_log::DATA),
            gpu: gpu::look(kernel),
            missing: Vec::new(),
        };
        host.missing = host.advice();
        host
    }

    fn advice(&self) -> Vec<String> {
        let provider = match self.kind {
            Kind::TdxGuest => Provider::Tdx,
            Kind::SnpGuest => Provider::Snp,
            Kind::None => {
                return vec![
                    "this is no confidential virtual machine: it can verify others, and prove nothing itself. Start it as a TDX guest (QEMU: -object tdx-guest) or an SEV-SNP guest (-object sev-snp-guest)"
                        .to_owned(),
                ];
            }
        };
        let mut out = Vec::new();
        let old = |since: (u32, u32)| release(&self.kernel).is_some_and(|found| found < since);
        if old(QUOTES_SINCE) {
            out.push(format!(
                "the kernel {} makes no quotes through configfs: Linux 6.7 or later is needed",
                self.kernel
            ));
        } else {
            if !self.device {
                let module = provider.module();
                out.push(format!(
                    "the device of the guest is missing: load its module (modprobe {module}), built with {}",
                    match provider {
                        Provider::Tdx => "CONFIG_TDX_GUEST_DRIVER",
                        Provider::Snp => "CONFIG_SEV_GUEST",
                    }
                ));
            }
            if !self.configfs {
                out.push(
                    "configfs is not mounted: mount -t configfs none /sys/kernel/config".to_owned(),
                );
            } else if !self.quotes {
                out.push(format!(
                    "the kernel takes no requests for quotes ({REPORTS} is missing): it must be built with CONFIG_TSM_REPORTS"
                ));
            }
        }
        if self.kind == Kind::TdxGuest {
            if !self.registers {
                out.push(if old(REGISTERS_SINCE) {
                    format!(
                        "the kernel {} does not show the measurement registers: Linux 6.16 or later is needed to read and extend them",
                        self.kernel
                    )
                } else {
                    "the measurement registers are missing: the kernel must be built with CONFIG_TSM_MEASUREMENTS"
                        .to_owned()
                });
            }
            if !self.event_log {
                out.push(
                    "the firmware left no event log (ACPI table CCEL): use an OVMF built for TDX; only root sees the log"
                        .to_owned(),
                );
            }
        }
        out
    }
}

/// The release of the running kernel, for messages.
#[must_use]
pub fn kernel_release(kernel: &dyn Kernel) -> String {
    let read = kernel.read("proc/sys/kernel/osrelease", 4_096);
    let text = read.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    text.ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Whether the processor says that this is a TDX guest.
#[must_use]
pub fn is_tdx_guest(kernel: &dyn Kernel) -> bool {
    flags(kernel).iter().any(|flag| flag == "tdx_guest")
}

fn flags(kernel: &dyn Kernel) -> Vec<String> {
    let Ok(bytes) = kernel.read(CPUINFO, MAX_CPUINFO) else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    // The first processor speaks for all.
    let line = text.lines().find(|line| line.starts_with("flags"));
    let words = line.and_then(|line| line.split_once(':'));
    words.map_or_else(Vec::new, |(_, words)| {
        words.split_whitespace().map(str::to_owned).collect()
    })
}

/// Configfs has a directory even where nothing is mounted on it.
fn mounted(kernel: &dyn Kernel) -> bool {
    let place = format!("/{CONFIGFS}");
    let mounts = kernel.read("proc/mounts", 1 << 20).unwrap_or_default();
    let listed = String::from_utf8_lossy(&mounts).lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(&place) && words.next() == Some("configfs")
    });
    listed || kernel.exists(REPORTS)
}

/// Major and minor number of a release.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
