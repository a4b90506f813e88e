//! Reading and writing of field types.

use crate::{Reader, TlError};

/// A type that can stand as a field of an object: bare objects read their fields, unions read an id first.
pub trait TlRead: Sized {
    /// Reads one value and moves the reader behind it.
    fn read(reader: &mut Reader<'_>) -> Result<Self, TlError>;
}

/// The writing half of [`TlRead`]. Writing cannot fail; limits belong to the frame codec.
pub trait TlWrite {
    /// Appends the value to `out`.
    fn write(&self, out: &mut Vec<u8>);
}

const BOOL_TRUE: u32 = 0x9972_75b5;
const BOOL_FALSE: u32 = 0xbc79_9737;

/// Strings up to this length have a one byte header.
const MAX_SHORT_STRING: usize = 253;
/// Strings up to this length have a four byte header.
const MAX_MEDIUM_STRING: usize = (1 << 24) - 1;

/// Appends a `bytes` value: the shortest header, the data, zero padding to a multiple of four.
pub fn write_bytes(data: &[u8], out: &mut Vec<u8>) {
    let len = (data.len() as u64).to_le_bytes();
    let header = match data.len() {
        0..=MAX_SHORT_STRING => {
            out.push(len[0]);
            1
        }
        size if size <= MAX_MEDIUM_STRING => {
            out.push(0xfe);
            out.extend_from_slice(&len[..3]);
            4
        }
        _ => {
            out.push(0xff);
            out.extend_from_slice(&len[..7]);
            8
        }
    };
    out.extend_from_slice(data);
    let padding = (header + data.len()).wrapping_neg() % 4;
    out.extend_from_slice(&[0; 3][..padding]);
}

macro_rules! little_endian {
    ($($number:ty),*) => {$(
        impl TlRead for $number {
            fn read(reader: &mut Reader<'_>) -> Result<Self, TlError> {
                Ok(<$number>::from_le_bytes(reader.array()?))
            }
        }

        impl TlWrite for $number {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

little_endian!(i32, i64, f64);

impl TlRead for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, TlError> {
        match reader.u32()? {
            BOOL_TRUE => Ok(true),
            BOOL_FALSE => Ok(false),
            _ => Err(TlError::BoolExpected {
                offset: reader.offset(),
            }),
        }
    }
}

impl TlWrite for bool {
    fn write(&self, out: &mut Vec<u8>) {
        let id = if *self { BOOL_TRUE } else { BOOL_FALSE };
        out.extend_from_slice(&id.to_le_bytes());
    }
}

/// `int256`.
impl TlRead for [u8; 32] {
    fn read(reader: &mut Reader<'_>) -> Result<Self, TlError> {
        reader.array()
    }
}

impl TlWrite for [u8; 32] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// `bytes`.
impl TlRead for Vec<u8> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, TlError> {
        Ok(reader.bytes()?.to_vec())
    }
}

impl TlWrite for Vec<u8> {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self, out);
    }
}

/// `string`, which must be UTF-8 here.
impl TlRead for String {
    fn read(reader: &mut Reader<'_>) -> Result<Self, TlError> {
        let bytes = reader.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(TlError::InvalidUtf8 {
                offset: reader.offset(),
            }),
        }
    }
}

impl TlWrite for String {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), out);
    }
}

/// A bare `vector`. (`Vec<u8>` is `bytes`; the two cannot be confused because a byte is no TL type.)
impl<T: TlRead> TlRead for Vec<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, TlError> {
        let count = reader.u32()? as usize;
        if count > reader.remaining() {
            return Err(TlError::WrongVectorLength {
                offset: reader.offset(),
            });
        }
        // Nothing is reserved for `count`: memory follows the bytes that really came.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(T::read(reader)?);
        }
        Ok(items)
    }
}

impl<T: TlWrite> TlWrite for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        // A vector of 2^32 elements cannot fit into memory next to its own encoding.
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        for item in self {
            item.write(out);
        }
    }
}
