//! Why a guest's evidence cannot be had, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::evidence::event_log::EventLogError;

/// Why the kernel gave no evidence.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// Not a machine of this kind.
    #[error(
        "this machine is no {wanted} guest (its processor flags, {}, do not name {flag}): run this inside such a virtual machine", cpuinfo.display()
    )]
    NotAGuest {
        /// TDX or SEV-SNP.
        wanted: &'static str,
        /// The processor flag of such a guest.
        flag: &'static str,
        /// Where it was looked up.
        cpuinfo: PathBuf,
    },
    /// Nothing is mounted where configfs belongs, or the kernel has no report interface in it.
    #[error(
        "the kernel offers no quotes: {} is missing. It needs Linux 6.7 or later (this is {kernel}) built with CONFIG_TSM_REPORTS, the module tdx_guest or sev-guest loaded (modprobe {module}), and configfs mounted (mount -t configfs none /sys/kernel/config)", directory.display()
    )]
    NoReports {
        /// What is missing.
        directory: PathBuf,
        /// Release of the running kernel.
        kernel: String,
        /// The module to load.
        module: &'static str,
    },
    /// The interface is there and nobody behind it.
    #[error(
        "nothing in this kernel makes quotes: load the module tdx_guest in a TDX guest, or sev-guest in an SEV-SNP guest (modprobe tdx_guest)"
    )]
    NoProvider,
    /// Somebody else's quotes.
    #[error("quotes of this machine come from {found:?}, {wanted:?} is needed")]
    OtherProvider {
        /// Provider that was asked for.
        wanted: &'static str,
        /// Provider found.
        found: String,
    },
    /// A file may not be used.
    #[error("cannot {action} {}: {source}; quotes and registers are root's: run this as root, or give the group of the service access to it", path.display())]
    Denied {
        /// "read", "write", ...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The hardware or the host kept saying "busy", or calls kept being interrupted.
    #[error(
        "the machine was busy with another quote {tries} times in a row: {source}. A quote that the host never finished blocks others for half a minute; try again, and look at the host's quoting service"
    )]
    Busy {
        /// How often it was asked.
        tries: usize,
        /// What the system said last.
        source: io::Error,
    },
    /// Somebody writes into our entry.
    #[error(
        "something else changes our request in {} again and again ({tries} times): no other program may write there", entry.display()
    )]
    Conflict {
        /// How often it was asked.
        tries: usize,
        /// The entry.
        entry: PathBuf,
    },
    /// A write without effect: configfs reports no error for it.
    #[error(
        "the kernel took the request in {} without effect: its provider refused it", entry.display()
    )]
    Ignored {
        /// The entry.
        entry: PathBuf,
    },
    /// The host makes no quotes.
    #[error(
        "the host did not sign: {source}. In a TDX guest quotes come from the host's quoting service (package tdx-qgs, service qgsd), which the virtual machine reaches by its quote-generation-socket; start it there"
    )]
    QuotingService {
        /// What the system said.
        source: io::Error,
    },
    /// Larger than the kernel's own limit.
    #[error(
        "the quote is larger than this kernel hands out: kernel, security module and quoting service do not fit together; a newer kernel may"
    )]
    TooLarge,
    /// Evidence for something else than was asked.
    #[error("the evidence is not for the report data that were asked for; it was thrown away")]
    WrongAnswer,
    /// Evidence that cannot be read.
    #[error("the kernel's {what} cannot be read: {reason}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The kernel shows no registers.
    #[error(
        "the kernel shows no measurement registers: {} is missing. It needs Linux 6.16 or later (this is {kernel}) in a TDX guest, built with CONFIG_TSM_MEASUREMENTS, and the module tdx_guest (modprobe tdx_guest)", directory.display()
    )]
    NoRegisters {
        /// What is missing.
        directory: PathBuf,
        /// Release of the running kernel.
        kernel: String,
    },
    /// A register does not hold what the extension should have left.
    #[error(
        "RTMR{register} does not hold what the extension should have left: expected {expected}, found {found}. Nothing may be built on this register until the machine was started again"
    )]
    Readback {
        /// Which, 0 to 3.
        register: usize,
        /// Value expected, hexadecimal.
        expected: String,
        /// Value found, hexadecimal.
        found: String,
    },
    /// A message that cannot be measured.
    #[error("{0}")]
    Message(&'static str),
    /// There is no event log.
    #[error(
        "there is no event log: {} is missing. A TDX guest's firmware (OVMF) leaves it, and a kernel with CONFIG_ACPI shows it to root", path.display()
    )]
    NoEventLog {
        /// What is missing.
        path: PathBuf,
    },
    /// The event log cannot be read.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    /// Anything else the system said.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "read", "write", ...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl GuestError {
    /// Of an operation on a file.
    pub(super) fn io(action: &'static str, path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => GuestError::Denied {
                action,
                path,
                source,
            },
            _ => GuestError::Io {
                action,
                path,
                source,
            },
        }
    }
}
