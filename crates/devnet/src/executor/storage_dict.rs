//! The storage dictionary of big accounts: every cell of the state with the number of references to it.
//!
//! Since global version 11 a basechain account of 26 cells or more carries the root hash of this dictionary
//! (cell hash → 32-bit reference count, 2-bit Merkle depth) in its storage information.

use std::collections::HashMap;

use tycho_executor::ExecutorState;
use tycho_types::cell::{Cell, CellBuilder, CellContext, CellFamily, CellType, HashBytes, Store};
use tycho_types::dict::{self, Dict};
use tycho_types::error::Error;
use tycho_types::models::{AccountState, AccountStatus, StorageExtra};

use crate::config::SizeLimitsV2;

/// Merkle depths are written in two bits.
const MAX_MERKLE_DEPTH: u8 = 3;

struct Entry {
    references: u32,
    merkle_depth: u8,
}

impl Store for Entry {
    fn store_into(&self, builder: &mut CellBuilder, _: &dyn CellContext) -> Result<(), Error> {
        builder.store_u32(self.references)?;
        builder.store_small_uint(self.merkle_depth, 2)
    }
}

/// What the account about to be committed has to carry.
pub fn storage_extra(state: &ExecutorState<'_>) -> StorageExtra {
    if state.address.is_masterchain() || state.end_status != AccountStatus::Active {
        return StorageExtra::None;
    }
    let AccountState::Active(active) = &state.state else {
        return StorageExtra::None;
    };
    let roots = [
        active.code.as_ref(),
        active.data.as_ref(),
        active.libraries.root().as_ref(),
    ];
    let mut entries = HashMap::new();
    for root in roots.into_iter().flatten() {
        add(root, &mut entries);
    }
    // The cell of the account storage itself counts too.
    if entries.len() as u64 + 1 < u64::from(SizeLimitsV2::ACC_STATE_CELLS_FOR_STORAGE_DICT) {
        return StorageExtra::None;
    }
    match dictionary_root(entries) {
        Ok(Some(root)) => StorageExtra::DictHash(*root.repr_hash()),
        Ok(None) | Err(_) => StorageExtra::None,
    }
}

/// Counts a reference to `cell`; its children only the first time. Cells are at most 1,024 deep.
fn add(cell: &Cell, entries: &mut HashMap<HashBytes, Entry>) -> u8 {
    if let Some(entry) = entries.get_mut(cell.repr_hash()) {
        entry.references = entry.references.saturating_add(1);
        return entry.merkle_depth;
    }
    let mut depth = 0;
    for index in 0..cell.reference_count() {
        if let Some(child) = cell.reference_cloned(index) {
            depth = depth.max(add(&child, entries));
        }
    }
    if matches!(
        cell.cell_type(),
        CellType::MerkleProof | CellType::MerkleUpdate
    ) {
        depth += 1;
    }
    let depth = depth.min(MAX_MERKLE_DEPTH);
    entries.insert(
        *cell.repr_hash(),
        Entry {
            references: 1,
            merkle_depth: depth,
        },
    );
    depth
}

fn dictionary_root(entries: HashMap<HashBytes, Entry>) -> Result<Option<Cell>, Error> {
    let mut sorted: Vec<(HashBytes, Entry)> = entries.into_iter().collect();
    sorted.sort_unstable_by_key(|(hash, _)| *hash);
    let root = dict::build_dict_from_sorted_iter(sorted, Cell::empty_context())?;
    Ok(Dict::<HashBytes, Entry>::from_raw(root).into_root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_every_reference_and_every_cell_once() {
        let leaf = CellBuilder::build_from(1u32).unwrap();
        let mut builder = CellBuilder::new();
        builder.store_reference(leaf.clone()).unwrap();
        builder.store_reference(leaf.clone()).unwrap();
        let root = builder.build().unwrap();
        let mut entries = HashMap::new();
        add(&root, &mut entries);
        add(&leaf, &mut entries);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[leaf.repr_hash()].references, 3);
        assert_eq!(entries[root.repr_hash()].references, 1);
        assert!(dictionary_root(entries).unwrap().is_some());
    }
}
