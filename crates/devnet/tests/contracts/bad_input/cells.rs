//! Cells cut short, drawn out and damaged.

use cocoon_ton::{Address, Cell, CellBuilder};

/// The first bits and references of a cell.
pub fn cut(cell: &Cell, bits: u16, refs: u8) -> Cell {
    let mut b = CellBuilder::new();
    b.store_slice(cell.as_slice().unwrap().get_prefix(bits, refs))
        .unwrap();
    b.build().unwrap()
}

/// A cell with zero bits and empty references behind it.
pub fn extended(cell: &Cell, bits: u16, refs: u8) -> Cell {
    let mut b = CellBuilder::new();
    b.store_slice(cell.as_slice().unwrap()).unwrap();
    b.store_zeros(bits).unwrap();
    for _ in 0..refs {
        b.store_reference(Cell::default()).unwrap();
    }
    b.build().unwrap()
}

/// A cell with one bit turned.
pub fn flipped(cell: &Cell, bit: u16) -> Cell {
    let slice = cell.as_slice().unwrap();
    let old = slice.get_bit(bit).unwrap();
    let mut b = CellBuilder::new();
    b.store_slice(slice.get_prefix(bit, 0)).unwrap();
    b.store_bit(!old).unwrap();
    let mut rest = slice;
    rest.skip_first(bit + 1, 0).unwrap();
    b.store_slice(rest).unwrap();
    b.build().unwrap()
}

pub fn store_address(b: &mut CellBuilder, address: &Address) {
    b.store_uint(0b100, 3).unwrap();
    b.store_u8(address.workchain as u8).unwrap();
    b.store_raw(&address.hash, 256).unwrap();
}

pub fn store_coins(b: &mut CellBuilder, coins: u128) {
    let bytes = (128 - coins.leading_zeros()).div_ceil(8) as u16;
    b.store_small_uint(bytes as u8, 4).unwrap();
    b.store_raw(&coins.to_be_bytes()[16 - usize::from(bytes)..], bytes * 8)
        .unwrap();
}
