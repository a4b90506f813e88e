//! Why some bytes are not the TL object they should be.

use thiserror::Error;

/// A reading error and the byte offset at which it was noticed.
///
/// The texts are those of the reference (`spec/protocol.md`, 1.8), because they travel to peers inside
/// `tcp.queryError` with code 0; [`TlError::InvalidUtf8`] is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TlError {
    /// The buffer ends before the object does.
    #[error("Not enough data to read at {offset}")]
    NotEnoughData {
        /// Where reading stopped.
        offset: usize,
    },
    /// The object ends before the buffer does.
    #[error("Too much data to fetch at {offset}")]
    TooMuchData {
        /// The first byte that belongs to nothing.
        offset: usize,
    },
    /// One constructor was required and another one is there.
    #[error("Wrong constructor found at {offset}")]
    WrongConstructor {
        /// The id that was required.
        expected: u32,
        /// The id that was read.
        found: u32,
        /// The first byte after the id.
        offset: usize,
    },
    /// The id is none of the alternatives that may stand here.
    #[error("Unknown constructor found 0x{found:08x} at {offset}")]
    UnknownConstructor {
        /// The id that was read.
        found: u32,
        /// The first byte after the id.
        offset: usize,
    },
    /// A `Bool` is neither `boolTrue` nor `boolFalse`.
    #[error("Bool expected at {offset}")]
    BoolExpected {
        /// The first byte after the id.
        offset: usize,
    },
    /// A vector claims more elements than there are bytes left.
    #[error("Wrong vector length at {offset}")]
    WrongVectorLength {
        /// The first byte after the count.
        offset: usize,
    },
    /// A string claims 2^32 bytes or more.
    #[error("Too big string found at {offset}")]
    TooBigString {
        /// The first byte after the length.
        offset: usize,
    },
    /// A value of type `#` has its highest bit set.
    #[error("Variable of type # can't be negative at {offset}")]
    NegativeFlags {
        /// The first byte after the value.
        offset: usize,
    },
    /// A `string` is not UTF-8. The reference does not check this; every text we handle must be text.
    #[error("String is not valid UTF-8 at {offset}")]
    InvalidUtf8 {
        /// The first byte after the string.
        offset: usize,
    },
}

impl TlError {
    /// The byte offset at which the error was noticed.
    pub fn offset(&self) -> usize {
        match *self {
            Self::NotEnoughData { offset }
            | Self::TooMuchData { offset }
            | Self::WrongConstructor { offset, .. }
            | Self::UnknownConstructor { offset, .. }
            | Self::BoolExpected { offset }
            | Self::WrongVectorLength { offset }
            | Self::TooBigString { offset }
            | Self::NegativeFlags { offset }
            | Self::InvalidUtf8 { offset } => offset,
        }
    }
}
