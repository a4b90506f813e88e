//! Config parameters whose current TON layout tycho-types does not know: workchains (12) and size limits (43).

use tycho_types::cell::{CellBuilder, CellContext, Store};
use tycho_types::error::Error;
use tycho_types::models::{
    SizeLimitsConfig, WorkchainDescription, WorkchainFormat, WorkchainFormatBasic,
};
use tycho_types::prelude::*;

/// A workchain as `workchain_v2#a7` describes it.
pub struct WorkchainV2;

/// Tag of `workchain_v2`.
const WORKCHAIN_V2: u8 = 0xa7;

impl Store for WorkchainV2 {
    fn store_into(&self, builder: &mut CellBuilder, _: &dyn CellContext) -> Result<(), Error> {
        builder.store_u8(WORKCHAIN_V2)?;
        builder.store_u32(0)?; // enabled since
        builder.store_u8(0)?; // monitored minimal split
        builder.store_u8(0)?; // minimal split
        builder.store_u8(0)?; // maximal split: one shard is enough for a chain of one machine
        builder.store_small_uint(0b111, 3)?; // basic, active, accepts messages
        builder.store_uint(0, 13)?; // flags
        builder.store_u256(&HashBytes::ZERO)?; // zero state
        builder.store_u256(&HashBytes::ZERO)?;
        builder.store_u32(0)?; // version
        builder.store_small_uint(1, 4)?; // basic format
        builder.store_u32(0xffff_ffff)?; // VM version -1
        builder.store_u64(0)?; // VM mode
        builder.store_small_uint(0, 4)?; // split and merge timings
        builder.store_u32(100)?;
        builder.store_u32(100)?;
        builder.store_u32(30)?;
        builder.store_u32(1000)?;
        builder.store_u8(0) // persistent state split depth
    }
}

impl WorkchainV2 {
    /// The same workchain in the layout that tycho-types reads.
    pub fn normalised() -> WorkchainDescription {
        WorkchainDescription {
            enabled_since: 0,
            actual_min_split: 0,
            min_split: 0,
            max_split: 0,
            active: true,
            accept_msgs: true,
            zerostate_root_hash: HashBytes::ZERO,
            zerostate_file_hash: HashBytes::ZERO,
            version: 0,
            format: WorkchainFormat::Basic(WorkchainFormatBasic {
                vm_version: -1,
                vm_mode: 0,
            }),
        }
    }
}

/// Size limits as `size_limits_config_v2#02` of the main network describes them.
pub struct SizeLimitsV2;

impl SizeLimitsV2 {
    /// Bits in one message.
    pub const MAX_MSG_BITS: u32 = 1 << 21;
    /// Cells in one message.
    pub const MAX_MSG_CELLS: u32 = 1 << 13;
    /// Cells of one library.
    pub const MAX_LIBRARY_CELLS: u32 = 1000;
    /// Depth of cells the VM may build.
    pub const MAX_VM_DATA_DEPTH: u16 = 512;
    /// Bytes of an external message.
    pub const MAX_EXT_MSG_SIZE: u32 = 65_535;
    /// Depth of an external message.
    pub const MAX_EXT_MSG_DEPTH: u16 = 512;
    /// Cells of one account.
    pub const MAX_ACC_STATE_CELLS: u32 = 1 << 16;
    /// Cells of one masterchain account.
    pub const MAX_MC_ACC_STATE_CELLS: u32 = 1 << 11;
    /// Public libraries of one account.
    pub const MAX_ACC_PUBLIC_LIBRARIES: u32 = 256;
    /// Queue length from which messages are deferred.
    pub const DEFER_OUT_QUEUE_SIZE_LIMIT: u32 = 256;
    /// Extra currencies in one message.
    pub const MAX_MSG_EXTRA_CURRENCIES: u32 = 2;
    /// Address bits that a contract may fix when it splits.
    pub const MAX_ACC_FIXED_PREFIX_LENGTH: u8 = 8;
    /// Cells from which an account carries the hash of its storage dictionary.
    pub const ACC_STATE_CELLS_FOR_STORAGE_DICT: u32 = 26;

    /// The same limits in the layout that tycho-types reads.
    pub fn normalised() -> SizeLimitsConfig {
        SizeLimitsConfig {
            max_msg_bits: Self::MAX_MSG_BITS,
            max_msg_cells: Self::MAX_MSG_CELLS,
            max_library_cells: Self::MAX_LIBRARY_CELLS,
            max_vm_data_depth: Self::MAX_VM_DATA_DEPTH,
            max_ext_msg_size: Self::MAX_EXT_MSG_SIZE,
            max_ext_msg_depth: Self::MAX_EXT_MSG_DEPTH,
            max_acc_state_cells: Self::MAX_ACC_STATE_CELLS,
            // TON has no bit limit of its own: full cells are the bound.
            max_acc_state_bits: Self::MAX_ACC_STATE_CELLS * 1023,
            max_acc_public_libraries: Self::MAX_ACC_PUBLIC_LIBRARIES,
            defer_out_queue_size_limit: Self::DEFER_OUT_QUEUE_SIZE_LIMIT,
        }
    }
}

impl Store for SizeLimitsV2 {
    fn store_into(&self, builder: &mut CellBuilder, _: &dyn CellContext) -> Result<(), Error> {
        builder.store_u8(0x02)?;
        builder.store_u32(Self::MAX_MSG_BITS)?;
        builder.store_u32(Self::MAX_MSG_CELLS)?;
        builder.store_u32(Self::MAX_LIBRARY_CELLS)?;
        builder.store_u16(Self::MAX_VM_DATA_DEPTH)?;
        builder.store_u32(Self::MAX_EXT_MSG_SIZE)?;
        builder.store_u16(Self::MAX_EXT_MSG_DEPTH)?;
        builder.store_u32(Self::MAX_ACC_STATE_CELLS)?;
        builder.store_u32(Self::MAX_MC_ACC_STATE_CELLS)?;
        builder.store_u32(Self::MAX_ACC_PUBLIC_LIBRARIES)?;
        builder.store_u32(Self::DEFER_OUT_QUEUE_SIZE_LIMIT)?;
        builder.store_u32(Self::MAX_MSG_EXTRA_CURRENCIES)?;
        builder.store_u8(Self::MAX_ACC_FIXED_PREFIX_LENGTH)?;
        builder.store_u32(Self::ACC_STATE_CELLS_FOR_STORAGE_DICT)
    }
}
