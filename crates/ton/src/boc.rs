//! Bags of cells at the edge: bytes in and out, with limits on what is accepted.

use tycho_types::boc::Boc;
use tycho_types::cell::Cell;

/// What a bag of cells from outside may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the serialized bag.
    pub bytes: usize,
    /// Depth of the root cell.
    pub depth: u16,
}

/// The network refuses external messages above 65,535 bytes and messages deeper than 512 cells.
pub const MESSAGE: Limits = Limits {
    bytes: 65_535,
    depth: 512,
};

/// A signed envelope is two cells of at most 127 bytes each; the rest is room for an index and a checksum.
pub const ENVELOPE: Limits = Limits {
    bytes: 1024,
    depth: 1,
};

/// Account states and transactions: the network keeps an account within 65,536 cells of up to 127 bytes
/// and a dozen bytes of framing, and no cell is deeper than 1,024 where contracts can build it.
pub const STATE: Limits = Limits {
    bytes: 10 * 1024 * 1024,
    depth: 1024,
};

/// Why bytes are not an acceptable bag of cells.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BocError {
    /// More bytes than the limit.
    #[error("a bag of cells of {found} bytes is too large here: at most {limit} are accepted")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// A root deeper than the limit.
    #[error("the cells are nested {found} deep: at most {limit} is accepted here")]
    TooDeep {
        /// Depth found.
        found: u16,
        /// Depth accepted.
        limit: u16,
    },
    /// Not a well-formed bag with one root.
    #[error("not a bag of cells with one root: {0}")]
    Malformed(#[from] tycho_types::boc::de::Error),
}

/// Serializes without index and without checksum, the form all vectors and reference nodes use.
pub fn encode(cell: &Cell) -> Vec<u8> {
    Boc::encode(cell.as_ref())
}

/// Reads a bag with exactly one root within `limits`.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Cell, BocError> {
    if bytes.len() > limits.bytes {
        return Err(BocError::TooLarge {
            found: bytes.len(),
            limit: limits.bytes,
        });
    }
    let cell = Boc::decode(bytes)?;
    let found = cell.repr_depth();
    if found > limits.depth {
        return Err(BocError::TooDeep {
            found,
            limit: limits.depth,
        });
    }
    Ok(cell)
}
