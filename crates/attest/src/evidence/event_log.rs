//! The confidential-computing event log (CCEL) of a guest, and the run-time registers it leads to (spec 6.6).
//!
//! The log itself is not signed: the guest's host could hand out any. It is believed exactly as far as replaying it
//! gives the registers that a verified quote carries; then it says in detail what was measured.

use sha2::{Digest, Sha384};

use super::Verdict;
use super::lists::Bytes;
use crate::measurements::Register;

/// Largest log read; firmware reserves a megabyte at most.
pub const MAX_LOG_LEN: usize = 4 << 20;
/// Most events; a boot has some dozens.
pub const MAX_EVENTS: usize = 16_384;
/// Most digests of one event: one for each algorithm of the log.
const MAX_ALGORITHMS: usize = 8;
/// The first record, and others that measure nothing.
const EV_NO_ACTION: u32 = 3;
const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
const SHA384: u16 = 0x0c;

/// Something that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Which run-time register it went to, 0 to 3.
    pub rtmr: usize,
    /// Kind, as the TCG's firmware profile numbers them.
    pub kind: u32,
    /// What the register was extended with; `None` for events that measure nothing.
    pub digest: Option<&'a Register>,
    /// Description, unmeasured unless the digest is of it.
    pub data: &'a [u8],
}

impl Event<'_> {
    /// Whether the digest is that of the description, so that the description can be believed too.
    #[must_use]
    pub fn describes_itself(&self) -> bool {
        self.digest
            .is_some_and(|digest| Sha384::digest(self.data)[..] == digest[..])
    }
}

/// A log that could be read completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLog<'a> {
    /// Events in their order.
    pub events: Vec<Event<'a>>,
}

/// Why a log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    /// Too large.
    #[error("the event log has {0} bytes, more than the limit of {MAX_LOG_LEN}")]
    TooLarge(usize),
    /// Too many events.
    #[error("the event log has more than {MAX_EVENTS} events")]
    TooMany,
    /// Cut off inside a record.
    #[error("the event log ends inside event {0}")]
    Truncated(usize),
    /// No log of this kind.
    #[error("this is no confidential-computing event log: {0}")]
    Header(&'static str),
    /// A record that cannot be right.
    #[error("event {index} of the log: {reason}")]
    Event {
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl<'a> EventLog<'a> {
    /// Reads a log with the padding behind it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventLogError> {
        if bytes.len() > MAX_LOG_LEN {
            return Err(EventLogError::TooLarge(bytes.len()));
        }
        let mut reader = Reader {
            rest: bytes,
            event: 0,
        };
        let algorithms = header(&mut reader)?;
        let mut events = Vec::new();
        while !ended(reader.rest) {
            if events.len() == MAX_EVENTS {
                return Err(EventLogError::TooMany);
            }
            reader.event = events.len();
            let event = event(&mut reader, &algorithms)?;
            events.push(event);
        }
        Ok(EventLog { events })
    }

    /// The four registers after all events.
    #[must_use]
    pub fn replay(&self) -> [Register; 4] {
        let mut registers = [[0; 48]; 4];
        for event in &self.events {
            if let Some(digest) = event.digest {
                let register = &mut registers[event.rtmr];
                *register = crate::image::spec_tree::extend(register, digest);
            }
        }
        registers
    }

    /// Compares the replay with the registers of a quote. `later` are text events that the guest itself appended to
    /// RTMR3 after the firmware's log ended (spec 6.4).
    #[must_use]
    pub fn compare(&self, quoted: &[Register; 4], later: &[&str]) -> Verdict {
        let mut replayed = self.replay();
        for message in later {
            replayed[3] = crate::image::spec_tree::extend_text(&replayed[3], message);
        }
        let mut verdict = Verdict::default();
        let names = ["RTMR0", "RTMR1", "RTMR2", "RTMR3"];
        for ((field, replayed), quoted) in names.into_iter().zip(&replayed).zip(quoted) {
            verdict.check(field, replayed == quoted, Bytes(*quoted), Bytes(*replayed));
        }
        verdict
    }
}

/// Nothing left, or nothing but padding: zeros, or ones that follow a register number of ones.
fn ended(rest: &[u8]) -> bool {
    rest.iter().all(|byte| *byte == 0) || rest.iter().all(|byte| *byte == 0xff)
}

/// The first record names the digest sizes of all others.
fn header(reader: &mut Reader<'_>) -> Result<Vec<(u16, usize)>, EventLogError> {
    use EventLogError::Header;
    let _register = reader.u32()?;
    let kind = reader.u32()?;
    reader.take(20)?;
    let length = reader.u32()? as usize;
    let mut body = Reader {
        rest: reader.take(length)?,
        event: 0,
    };
    if kind != EV_NO_ACTION || body.take(16)? != SIGNATURE {
        return Err(Header("its first record has another kind or signature"));
    }
    body.take(8)?; // platform class and version
    let count = body.u32()? as usize;
    if count == 0 || count > MAX_ALGORITHMS {
        return Err(Header("it names an impossible number of algorithms"));
    }
    let mut algorithms = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, size) = (body.u16()?, usize::from(body.u16()?));
        if size == 0 || size > 64 || algorithms.iter().any(|(known, _)| *known == id) {
            return Err(Header(
                "it names an algorithm twice or with an impossible size",
            ));
        }
        algorithms.push((id, size));
    }
    if !algorithms.contains(&(SHA384, 48)) {
        return Err(Header("it has no SHA-384 digests"));
    }
    let vendor = body.take(1)?[0];
    body.take(usize::from(vendor))?;
    if !body.rest.is_empty() {
        return Err(Header("bytes follow its first record's end"));
    }
    Ok(algorithms)
}

fn event<'a>(
    reader: &mut Reader<'a>,
    algorithms: &[(u16, usize)],
) -> Result<Event<'a>, EventLogError> {
    let index = reader.event;
    let bad = |reason| EventLogError::Event { index, reason };
    let register = reader.u32()?;
    let kind = reader.u32()?;
    let count = reader.u32()? as usize;
    if count == 0 || count > algorithms.len() {
        return Err(bad("it has an impossible number of digests"));
    }
    let mut digest: Option<&Register> = None;
    for _ in 0..count {
        let id = reader.u16()?;
        let known = algorithms.iter().find(|(known, _)| *known == id);
        let (_, size) = known.ok_or_else(|| bad("it has a digest of an unknown algorithm"))?;
        let bytes = reader.take(*size)?;
        if id == SHA384 {
            let bytes = bytes
                .try_into()
                .map_err(|_| bad("its SHA-384 digest has a wrong size"))?;
            if digest.replace(bytes).is_some() {
                return Err(bad("it has two SHA-384 digests"));
            }
        }
    }
    let length = reader.u32()? as usize;
    let data = reader.take(length)?;
    // Register 0 stands for MRTD, which nothing extends; 1 to 4 are RTMR0 to RTMR3.
    let rtmr = match register {
        1..=4 => register as usize - 1,
        0 if kind == EV_NO_ACTION => 0,
        _ => return Err(bad("it names a register that cannot be extended")),
    };
    let measures = kind != EV_NO_ACTION;
    if measures && digest.is_none() {
        return Err(bad("it has no SHA-384 digest"));
    }
    Ok(Event {
        rtmr,
        kind,
        digest: digest.filter(|_| measures),
        data,
    })
}

struct Reader<'a> {
    rest: &'a [u8],
    event: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], EventLogError> {
        let split = self.rest.split_at_checked(length);
        let (head, rest) = split.ok_or(EventLogError::Truncated(self.event))?;
        self.rest = rest;
        Ok(head)
    }

    fn u16(&mut self) -> Result<u16, EventLogError> {
        let mut out = [0; 2];
        out.copy_from_slice(self.take(2)?);
        Ok(u16::from_le_bytes(out))
    }

    fn u32(&mut self) -> Result<u32, EventLogError> {
        let mut out = [0; 4];
        out.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(out))
    }
}
