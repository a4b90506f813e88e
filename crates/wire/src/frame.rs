//! Frames: length, sequence number, payload (`spec/protocol.md`, 1.3).

use std::fmt;

use thiserror::Error;

/// Bytes in front of the payload: length and sequence number.
pub const HEADER: usize = 8;
/// Smallest payload: a constructor id.
pub const MIN_PAYLOAD: usize = 4;
/// Largest payload, given by the protocol.
pub const MAX_PAYLOAD: usize = 1 << 24;

/// Capacity that an empty decoder keeps: enough for ordinary reads, so that one large frame does not pin its
/// size in memory for the life of a connection.
const KEPT_CAPACITY: usize = 64 * 1024;

/// A violation of the framing; the stream cannot be used any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length is outside the limits.
    #[error("frame length {length} is outside {MIN_PAYLOAD}..={MAX_PAYLOAD}")]
    Length {
        /// The length that was read.
        length: u32,
    },
    /// The sequence number is not the next one.
    #[error("frame number {found}, expected {expected}")]
    Seqno {
        /// The number that was due.
        expected: i32,
        /// The number that was read.
        found: i32,
    },
}

/// The header of a frame.
pub fn header(payload_len: u32, seqno: i32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&payload_len.to_le_bytes());
    header[4..].copy_from_slice(&seqno.to_le_bytes());
    header
}

/// One complete frame inside the decoder's buffer.
#[derive(PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its number.
    pub seqno: i32,
    /// A boxed `tcp.Packet`.
    pub payload: &'a [u8],
}

/// Turns received bytes into frames, however the stream cuts them.
///
/// Every byte is copied in once and moved at most a constant number of times: leftovers are moved to the
/// front only when at least as many bytes before them were consumed. Nothing is reserved for a length that
/// a header merely announces.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    next_seqno: i32,
    failed: Option<FrameError>,
}

impl Decoder {
    /// A decoder that expects frame 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the stream.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.compact();
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes received that are not part of a returned frame.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next complete frame, if it is there. After an error every call gives that error.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let pending = &self.buffer[self.start..];
        let Some((length, rest)) = pending.split_first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length);
        let payload_len = length as usize;
        if !(MIN_PAYLOAD..=MAX_PAYLOAD).contains(&payload_len) {
            return Err(self.fail(FrameError::Length { length }));
        }
        let Some((seqno, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let found = i32::from_le_bytes(*seqno);
        if found != self.next_seqno {
            let expected = self.next_seqno;
            return Err(self.fail(FrameError::Seqno { expected, found }));
        }
        if rest.len() < payload_len {
            return Ok(None);
        }
        // 2^31 frames are years of traffic; wrapping keeps arithmetic free of panics.
        self.next_seqno = self.next_seqno.wrapping_add(1);
        let from = self.start + HEADER;
        self.start = from + payload_len;
        Ok(Some(Frame {
            seqno: found,
            payload: &self.buffer[from..self.start],
        }))
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.failed = Some(error);
        error
    }

    fn compact(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_CAPACITY);
        } else if self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
        } else {
            return;
        }
        self.start = 0;
    }
}

/// Shows sizes but no contents, which may be confidential.
impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}, {} bytes)", self.seqno, self.payload.len())
    }
}

/// Shows sizes but no contents, which may be confidential.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("buffered", &self.buffered())
            .field("next_seqno", &self.next_seqno)
            .field("failed", &self.failed)
            .finish()
    }
}
