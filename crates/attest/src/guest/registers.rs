//! Measurement registers of a TDX guest through the kernel's sysfs interface (Linux 6.16 and later): read, and
//! extended with a look at what came of it.
//!
//! A write to `rtmrN:sha384` extends the register by the 48 bytes written. Whoever extends RTMR3 must know that it
//! happened: a guest that goes on although it did not would ask for keys and quotes in a state it is not in.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha384};

use super::GuestError;
use super::host::kernel_release;
use super::kernel::Kernel;
use crate::image::spec_tree::extend;
use crate::measurements::{Register, TdxMeasurements};

/// Where the kernel shows the registers; `/sys/class/misc/tdx_guest` leads there too.
pub const MEASUREMENTS: [&str; 2] = [
    "sys/devices/virtual/misc/tdx_guest/measurements",
    "sys/class/misc/tdx_guest/measurements",
];
/// Longest message that is measured.
pub const MAX_MESSAGE_LEN: usize = 1_024;
/// Times an interrupted call is made again.
const TRIES: usize = 8;

/// The registers of this machine.
#[derive(Clone)]
pub struct Registers {
    kernel: Arc<dyn Kernel>,
    directory: &'static str,
}

impl Registers {
    /// Finds the registers of this kernel.
    pub fn open(kernel: Arc<dyn Kernel>) -> Result<Self, GuestError> {
        match MEASUREMENTS.into_iter().find(|path| kernel.exists(path)) {
            Some(directory) => Ok(Registers { kernel, directory }),
            None => Err(GuestError::NoRegisters {
                directory: kernel.place(MEASUREMENTS[0]),
                kernel: kernel_release(&*kernel),
            }),
        }
    }

    /// The value of a run-time register, 0 to 3.
    pub fn rtmr(&self, register: usize) -> Result<Register, GuestError> {
        self.read(&format!("rtmr{register}:sha384"))
    }

    /// Everything that goes into an image hash. The report data are zero: a register holds none.
    pub fn measurements(&self) -> Result<TdxMeasurements, GuestError> {
        Ok(TdxMeasurements {
            mr_td: self.read("mrtd:sha384")?,
            mr_config_id: self.read("mrconfigid")?,
            mr_owner: self.read("mrowner")?,
            mr_owner_config: self.read("mrownerconfig")?,
            rtmr: [self.rtmr(0)?, self.rtmr(1)?, self.rtmr(2)?, self.rtmr(3)?],
            report_data: [0; 64],
        })
    }

    /// Extends RTMR2 or RTMR3 by a digest and returns the new value, which was read back and is what it must be.
    ///
    /// The firmware and the kernel own the other two. An extension cannot be taken back: the machine has to be started
    /// again. Two programs that extend one register at the same time make the later one fail here.
    pub fn extend(&self, register: usize, digest: &Register) -> Result<Register, GuestError> {
        if !(2..=3).contains(&register) {
            return Err(GuestError::Message(
                "only RTMR2 and RTMR3 are extended after the boot; RTMR0 and RTMR1 belong to the firmware",
            ));
        }
        let before = self.rtmr(register)?;
        let expected = extend(&before, digest);
        let path = format!("{}/rtmr{register}:sha384", self.directory);
        // Made once only: an interrupted write may have had its effect.
        self.kernel
            .write(&path, digest)
            .map_err(|e| GuestError::io("extend", self.kernel.place(&path), e))?;
        let found = self.rtmr(register)?;
        if found == expected {
            return Ok(found);
        }
        Err(GuestError::Readback {
            register,
            expected: hex::encode(expected),
            found: hex::encode(found),
        })
    }

    /// Extends a register by the SHA-384 of a text (spec 6.4) and appends the text to a log that lets others replay it.
    ///
    /// The log is written first: a line too many is found by a replay, a line too few never explains the register.
    pub fn extend_text(
        &self,
        register: usize,
        message: &str,
        log: Option<&Path>,
    ) -> Result<Register, GuestError> {
        if message.is_empty() || message.len() > MAX_MESSAGE_LEN {
            return Err(GuestError::Message(
                "a message to measure has 1 to 1024 bytes",
            ));
        }
        if message.chars().any(char::is_control) {
            return Err(GuestError::Message(
                "a message to measure has no control characters, so that it stays one line of the log",
            ));
        }
        if let Some(log) = log {
            append(log, message).map_err(|e| GuestError::io("append to", log.to_owned(), e))?;
        }
        self.extend(register, &Sha384::digest(message).into())
    }

    /// Exactly 48 bytes: the reference strips trailing 0x0a and 0x20, which are digits of a digest like any others.
    fn read(&self, name: &str) -> Result<Register, GuestError> {
        let path = format!("{}/{name}", self.directory);
        let bytes = retry(|| self.kernel.read(&path, 4_096))
            .map_err(|e| GuestError::io("read", self.kernel.place(&path), e))?;
        let found = bytes.len();
        bytes.try_into().map_err(|_| GuestError::Malformed {
            what: "measurement register",
            reason: format!(
                "{} has {found} bytes instead of 48",
                self.kernel.place(&path).display()
            ),
        })
    }
}

/// Reads again what was interrupted.
pub(super) fn retry<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut result = read();
    for _ in 1..TRIES {
        match &result {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => result = read(),
            _ => break,
        }
    }
    result
}

fn append(log: &Path, message: &str) -> io::Result<()> {
    if let Some(directory) = log.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(log)?;
    file.write_all(format!("{message}\n").as_bytes())?;
    file.sync_all()
}
