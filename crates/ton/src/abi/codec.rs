//! Reading and writing cells field by field, with errors that name the field.

use tycho_types::cell::{Cell, CellBuilder, CellSlice, HashBytes};
use tycho_types::error::Error as CellError;

use super::error::AbiError;
use crate::address::Address;
use crate::amount::MAX_NANO;

/// Reads fields from a cell.
pub(crate) struct Reader<'a> {
    slice: CellSlice<'a>,
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(cell: &'a Cell, what: &'static str) -> Result<Self, AbiError> {
        let slice = cell.as_slice().map_err(|_| AbiError::ExoticCell { what })?;
        Ok(Self { slice, what })
    }

    pub(crate) fn over(slice: CellSlice<'a>, what: &'static str) -> Self {
        Self { slice, what }
    }

    pub(crate) fn what(&self) -> &'static str {
        self.what
    }

    pub(crate) fn bit(&mut self, field: &'static str) -> Result<bool, AbiError> {
        self.slice.load_bit().map_err(at(field))
    }

    pub(crate) fn uint(&mut self, field: &'static str, bits: u16) -> Result<u64, AbiError> {
        self.slice.load_uint(bits).map_err(at(field))
    }

    pub(crate) fn bytes<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], AbiError> {
        let mut out = [0u8; N];
        self.raw(field, &mut out)?;
        Ok(out)
    }

    pub(crate) fn raw(&mut self, field: &'static str, out: &mut [u8]) -> Result<(), AbiError> {
        // A cell holds 127 bytes, so a length that does not fit 16 bits is an underflow anyway.
        let bits = u16::try_from(out.len() * 8).unwrap_or(u16::MAX);
        self.slice.load_raw(out, bits).map_err(at(field))?;
        Ok(())
    }

    pub(crate) fn coins(&mut self, field: &'static str) -> Result<u128, AbiError> {
        let length = self.slice.load_small_uint(4).map_err(at(field))?;
        let length = usize::from(length);
        let mut bytes = [0u8; 16];
        self.raw(field, &mut bytes[16 - length..])?;
        Ok(u128::from_be_bytes(bytes))
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<Address, AbiError> {
        if self.uint(field, 3)? != 0b100 {
            return Err(AbiError::NotStandardAddress { field });
        }
        let workchain = self.slice.load_u8().map_err(at(field))? as i8;
        let hash = self.slice.load_u256().map_err(at(field))?.0;
        Ok(Address { workchain, hash })
    }

    pub(crate) fn cell(&mut self, field: &'static str) -> Result<Cell, AbiError> {
        self.slice.load_reference_cloned().map_err(at(field))
    }

    pub(crate) fn maybe_cell(&mut self, field: &'static str) -> Result<Option<Cell>, AbiError> {
        Ok(if self.bit(field)? {
            Some(self.cell(field)?)
        } else {
            None
        })
    }

    pub(crate) fn refs_left(&self) -> u8 {
        self.slice.size_refs()
    }

    pub(crate) fn skip(&mut self, field: &'static str, bits: u16) -> Result<(), AbiError> {
        self.slice.skip_first(bits, 0).map_err(at(field))
    }

    /// All that is left, in a cell of its own.
    pub(crate) fn rest(self) -> Result<Cell, AbiError> {
        let mut builder = CellBuilder::new();
        let what = self.what;
        builder
            .store_slice(self.slice)
            .and_then(|()| builder.build())
            .map_err(|source| AbiError::DoesNotFit { what, source })
    }

    pub(crate) fn end(&self) -> Result<(), AbiError> {
        let (bits, refs) = (self.slice.size_bits(), self.slice.size_refs());
        if bits == 0 && refs == 0 {
            Ok(())
        } else {
            Err(AbiError::Leftover {
                what: self.what,
                bits,
                refs,
            })
        }
    }
}

fn at(field: &'static str) -> impl FnOnce(CellError) -> AbiError {
    move |source| AbiError::Field { field, source }
}

/// Writes fields into a cell. The first failure is kept and reported by [`Writer::finish`].
pub(crate) struct Writer {
    builder: CellBuilder,
    what: &'static str,
    failure: Option<AbiError>,
}

impl Writer {
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            builder: CellBuilder::new(),
            what,
            failure: None,
        }
    }

    pub(crate) fn fail(&mut self, error: AbiError) {
        self.failure.get_or_insert(error);
    }

    fn note(&mut self, result: Result<(), CellError>) {
        if let Err(source) = result {
            let what = self.what;
            self.fail(AbiError::DoesNotFit { what, source });
        }
    }

    pub(crate) fn bit(&mut self, value: bool) {
        let result = self.builder.store_bit(value);
        self.note(result);
    }

    pub(crate) fn uint(&mut self, value: u64, bits: u16) {
        let result = self.builder.store_uint(value, bits);
        self.note(result);
    }

    pub(crate) fn zeros(&mut self, bits: u16) {
        let result = self.builder.store_zeros(bits);
        self.note(result);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let result = match u16::try_from(bytes.len() * 8) {
            Ok(bits) => self.builder.store_raw(bytes, bits),
            Err(_) => Err(CellError::CellOverflow),
        };
        self.note(result);
    }

    pub(crate) fn coins(&mut self, field: &'static str, value: u128) {
        if value > MAX_NANO {
            self.fail(AbiError::Value {
                field,
                found: value,
                expected: "less than 2^120 nanoTON",
            });
            return;
        }
        let length = 16 - value.leading_zeros() as usize / 8;
        self.uint(length as u64, 4);
        self.raw(&value.to_be_bytes()[16 - length..]);
    }

    pub(crate) fn address(&mut self, address: &Address) {
        self.uint(0b100, 3);
        self.uint(u64::from(address.workchain as u8), 8);
        let result = self.builder.store_u256(&HashBytes(address.hash));
        self.note(result);
    }

    pub(crate) fn cell(&mut self, cell: Cell) {
        let result = self.builder.store_reference(cell);
        self.note(result);
    }

    pub(crate) fn built(&mut self, cell: Result<Cell, AbiError>) {
        match cell {
            Ok(cell) => self.cell(cell),
            Err(error) => self.fail(error),
        }
    }

    pub(crate) fn maybe_cell(&mut self, cell: Option<&Cell>) {
        self.bit(cell.is_some());
        if let Some(cell) = cell {
            self.cell(cell.clone());
        }
    }

    pub(crate) fn finish(self) -> Result<Cell, AbiError> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        let what = self.what;
        self.builder
            .build()
            .map_err(|source| AbiError::DoesNotFit { what, source })
    }
}

/// A value with one fixed form in cells.
pub(crate) trait Field: Sized {
    fn put(&self, writer: &mut Writer, field: &'static str);
    fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError>;
}

macro_rules! uint_fields {
    ($($ty:ty => $bits:literal),*) => {$(
        impl Field for $ty {
            fn put(&self, writer: &mut Writer, _: &'static str) {
                writer.uint(u64::from(*self), $bits);
            }
            fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError> {
                // Exactly $bits bits were read, so the value fits.
                Ok(reader.uint(field, $bits)? as $ty)
            }
        }
    )*};
}
uint_fields!(u8 => 8, u32 => 32, u64 => 64);

/// Coins: every `u128` of the ABI is an amount of nanoTON.
impl Field for u128 {
    fn put(&self, writer: &mut Writer, field: &'static str) {
        writer.coins(field, *self);
    }
    fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError> {
        reader.coins(field)
    }
}

impl Field for bool {
    fn put(&self, writer: &mut Writer, _: &'static str) {
        writer.bit(*self);
    }
    fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError> {
        reader.bit(field)
    }
}

impl<const N: usize> Field for [u8; N] {
    fn put(&self, writer: &mut Writer, _: &'static str) {
        writer.raw(self);
    }
    fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError> {
        reader.bytes(field)
    }
}

impl Field for Address {
    fn put(&self, writer: &mut Writer, _: &'static str) {
        writer.address(self);
    }
    fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError> {
        reader.address(field)
    }
}

impl Field for Cell {
    fn put(&self, writer: &mut Writer, _: &'static str) {
        writer.cell(self.clone());
    }
    fn get(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, AbiError> {
        reader.cell(field)
    }
}
