//! Whole objects: boxed and bare.

use std::fmt;

use crate::{Reader, TlError, TlRead, TlWrite};

/// A type made of exactly one constructor. Its [`TlRead`] and [`TlWrite`] are the bare form.
pub trait Constructor {
    /// The id that precedes the fields in the boxed form, written little-endian.
    const ID: u32;
    /// The name in the scheme, such as `client.runQueryEx`.
    const NAME: &'static str;
    /// The declaration in the scheme; an explicit id is part of it.
    const DECL: &'static str;
    /// The Rust fields in wire order.
    const FIELDS: &'static [&'static str];
}

/// A type with a boxed form: a single constructor, or a union of them.
pub trait Boxed: Sized {
    /// Reads an id and the fields of its constructor.
    fn read_boxed(reader: &mut Reader<'_>) -> Result<Self, TlError>;
    /// Appends the id and the fields.
    fn write_boxed(&self, out: &mut Vec<u8>);
}

impl<T: Constructor + TlRead + TlWrite> Boxed for T {
    fn read_boxed(reader: &mut Reader<'_>) -> Result<Self, TlError> {
        let found = reader.u32()?;
        if found != T::ID {
            return Err(TlError::WrongConstructor {
                expected: T::ID,
                found,
                offset: reader.offset(),
            });
        }
        T::read(reader)
    }

    fn write_boxed(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&T::ID.to_le_bytes());
        self.write(out);
    }
}

/// The boxed encoding of a constructor or union.
pub fn to_boxed<T: Boxed>(object: &T) -> Vec<u8> {
    let mut out = Vec::new();
    object.write_boxed(&mut out);
    out
}

/// Reads a boxed object that fills `data` exactly.
pub fn from_boxed<T: Boxed>(data: &[u8]) -> Result<T, TlError> {
    let mut reader = Reader::new(data);
    let object = T::read_boxed(&mut reader)?;
    reader.finish()?;
    Ok(object)
}

/// The encoding of a value as a field: without an id, unless its type is a union.
pub fn to_bare<T: TlWrite>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(&mut out);
    out
}

/// Reads a field value that fills `data` exactly.
pub fn from_bare<T: TlRead>(data: &[u8]) -> Result<T, TlError> {
    let mut reader = Reader::new(data);
    let value = T::read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// The constructor id at the beginning of a boxed object, if there are four bytes.
pub fn peek_id(data: &[u8]) -> Option<u32> {
    data.first_chunk().copied().map(u32::from_le_bytes)
}

/// What `Debug` shows for a field that must not appear in logs.
pub struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}
