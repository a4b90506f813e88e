//! Reads bodies field by field; whatever is not there is exit code 9.

use cocoon_ton::{Address, Cell, CellSlice};
use tycho_types::cell::CellBuilder;

use super::{Exit, MALFORMED};

/// What is left of a cell.
#[derive(Clone, Copy)]
pub struct Bits<'a>(CellSlice<'a>);

impl<'a> Bits<'a> {
    /// All of a cell.
    pub fn new(cell: &'a Cell) -> Self {
        Self(cell.as_slice_allow_exotic())
    }

    /// No bits are left.
    pub fn is_empty(&self) -> bool {
        self.0.is_data_empty()
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), Exit> {
        if self.0.is_data_empty() && self.0.is_refs_empty() {
            Ok(())
        } else {
            Err(MALFORMED)
        }
    }

    pub fn skip(&mut self, bits: u16) -> Result<(), Exit> {
        self.0.skip_first(bits, 0).map_err(|_| MALFORMED)
    }

    pub fn uint(&mut self, bits: u16) -> Result<u64, Exit> {
        self.0.load_uint(bits).map_err(|_| MALFORMED)
    }

    pub fn u8(&mut self) -> Result<u8, Exit> {
        Ok(self.uint(8)? as u8)
    }

    pub fn u32(&mut self) -> Result<u32, Exit> {
        Ok(self.uint(32)? as u32)
    }

    pub fn u64(&mut self) -> Result<u64, Exit> {
        self.uint(64)
    }

    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Exit> {
        let mut out = [0; N];
        self.0
            .load_raw(&mut out, (N * 8) as u16)
            .map_err(|_| MALFORMED)?;
        Ok(out)
    }

    pub fn text(&mut self, length: usize) -> Result<Vec<u8>, Exit> {
        let mut out = vec![0; length];
        self.0
            .load_raw(&mut out, (length * 8) as u16)
            .map_err(|_| MALFORMED)?;
        Ok(out)
    }

    pub fn coins(&mut self) -> Result<u128, Exit> {
        let length = self.uint(4)? as usize;
        let bytes = self.text(length)?;
        Ok(bytes.iter().fold(0, |sum, b| sum << 8 | u128::from(*b)))
    }

    pub fn address(&mut self) -> Result<Address, Exit> {
        if self.uint(3)? != 0b100 {
            return Err(MALFORMED);
        }
        let workchain = self.u8()? as i8;
        let hash = self.bytes()?;
        Ok(Address { workchain, hash })
    }

    pub fn cell(&mut self) -> Result<Cell, Exit> {
        self.0.load_reference_cloned().map_err(|_| MALFORMED)
    }

    pub fn maybe_cell(&mut self) -> Result<Option<Cell>, Exit> {
        Ok(if self.uint(1)? == 1 {
            Some(self.cell()?)
        } else {
            None
        })
    }

    /// References left.
    pub fn refs(&self) -> u8 {
        self.0.size_refs()
    }

    /// All that is left, in a cell of its own.
    pub fn rest(self) -> Cell {
        let mut builder = CellBuilder::new();
        builder.store_slice(self.0).unwrap();
        builder.build().unwrap()
    }
}
