//! The firmware's event log of this machine (spec 6.6), and whether it explains the registers.

use std::sync::Arc;

use super::GuestError;
use super::kernel::Kernel;
use super::registers::{Registers, retry};
use crate::evidence::Verdict;
use crate::evidence::event_log::{EventLog, MAX_LOG_LEN};

/// The ACPI table that announces the log.
pub const TABLE: &str = "sys/firmware/acpi/tables/CCEL";
/// The log.
pub const DATA: &str = "sys/firmware/acpi/tables/data/CCEL";
/// Bytes of the table.
const TABLE_LEN: usize = 56;
/// Kind of machine in the table: TDX.
const TDX: u8 = 2;
/// Most lines of a log of text events.
const MAX_LINES: usize = 4_096;

/// A log as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLog {
    /// Its bytes with the padding behind them; [`EventLog::parse`] reads them.
    pub bytes: Vec<u8>,
}

impl FoundLog {
    /// Reads the log that the firmware left.
    pub fn read(kernel: &dyn Kernel) -> Result<Self, GuestError> {
        let get = |path: &str, limit| {
            retry(|| kernel.read(path, limit)).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => GuestError::NoEventLog {
                    path: kernel.place(path),
                },
                _ => GuestError::io("read", kernel.place(path), e),
            })
        };
        let table = get(TABLE, 4_096)?;
        let announced = announced(&table)?;
        let bytes = get(DATA, MAX_LOG_LEN)?;
        if bytes.len() as u64 != announced {
            return Err(malformed(format!(
                "the log has {} bytes, its table announces {announced}",
                bytes.len()
            )));
        }
        EventLog::parse(&bytes)?;
        Ok(FoundLog { bytes })
    }

    /// Whether the log, and the text events that came after it, lead to the registers of this machine.
    pub fn compare(&self, kernel: Arc<dyn Kernel>, later: &[&str]) -> Result<Verdict, GuestError> {
        let registers = Registers::open(kernel)?;
        let rtmr = registers.measurements()?.rtmr;
        Ok(EventLog::parse(&self.bytes)?.compare(&rtmr, later))
    }
}

/// Lines of a log of text events, as [`Registers::extend_text`] writes it.
pub fn lines(text: &str) -> Result<Vec<&str>, GuestError> {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > MAX_LINES || lines.iter().any(|line| line.chars().any(char::is_control)) {
        return Err(malformed(
            "the log of text events has too many lines, or control characters".to_owned(),
        ));
    }
    Ok(lines)
}

/// Length of the log according to its table.
fn announced(table: &[u8]) -> Result<u64, GuestError> {
    let table: &[u8; TABLE_LEN] = table.try_into().map_err(|_| {
        malformed(format!(
            "its ACPI table has {} bytes instead of {TABLE_LEN}",
            table.len()
        ))
    })?;
    if table[..4] != *b"CCEL" || table[4..8] != (TABLE_LEN as u32).to_le_bytes() {
        return Err(malformed("its ACPI table is none".to_owned()));
    }
    if table[36] != TDX {
        return Err(malformed(format!(
            "it is of a machine of kind {}, TDX is {TDX}",
            table[36]
        )));
    }
    let mut length = [0; 8];
    length.copy_from_slice(&table[40..48]);
    Ok(u64::from_le_bytes(length))
}

fn malformed(reason: String) -> GuestError {
    GuestError::Malformed {
        what: "event log",
        reason,
    }
}
