//! A cursor over the bytes of one object.

use crate::TlError;

/// Reads primitive values from a borrowed buffer and remembers how far it came.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    data: &'a [u8],
    offset: usize,
}

/// Header byte of a string whose length follows as 24 bits.
const MEDIUM_STRING: u8 = 0xfe;
/// Header byte of a string whose length follows as 56 bits.
const LONG_STRING: u8 = 0xff;

impl<'a> Reader<'a> {
    /// Starts at the first byte of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, offset: 0 }
    }

    /// How many bytes were read.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.data.len() - self.offset
    }

    /// Succeeds when everything was read: an object must consume its buffer exactly.
    pub fn finish(&self) -> Result<(), TlError> {
        match self.remaining() {
            0 => Ok(()),
            _ => Err(TlError::TooMuchData {
                offset: self.offset,
            }),
        }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], TlError> {
        if len > self.remaining() {
            return Err(TlError::NotEnoughData {
                offset: self.offset,
            });
        }
        let taken = &self.data[self.offset..self.offset + len];
        self.offset += len;
        Ok(taken)
    }

    /// The next `N` bytes as an array (`int256` is `array::<32>()`).
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], TlError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A constructor id or any other 32 bits.
    pub fn u32(&mut self) -> Result<u32, TlError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A `#`: 32 bits, below 2^31.
    pub fn nat(&mut self) -> Result<u32, TlError> {
        let value = self.u32()?;
        if value > i32::MAX as u32 {
            return Err(TlError::NegativeFlags {
                offset: self.offset,
            });
        }
        Ok(value)
    }

    /// A `string` or `bytes` without its header and padding. Padding is not checked, and a header longer
    /// than necessary is accepted, as the reference does.
    pub fn bytes(&mut self) -> Result<&'a [u8], TlError> {
        let [first] = self.array()?;
        let (header, len) = match first {
            LONG_STRING => (8, u64::from_le_bytes(self.length_bytes::<7>()?)),
            MEDIUM_STRING => (4, u64::from_le_bytes(self.length_bytes::<3>()?)),
            short => (1, u64::from(short)),
        };
        if len > u64::from(u32::MAX) {
            return Err(TlError::TooBigString {
                offset: self.offset,
            });
        }
        // Lengths that do not fit the address space are certainly longer than the buffer.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let data = self.take(len)?;
        self.take((header + len).wrapping_neg() % 4)?;
        Ok(data)
    }

    fn length_bytes<const N: usize>(&mut self) -> Result<[u8; 8], TlError> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N)?);
        Ok(wide)
    }
}
