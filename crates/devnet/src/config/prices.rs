//! The prices of a TON network as typed values, and the two price lists that matter to us.

use tycho_types::models::{GasLimitsPrices, MsgForwardPrices, StoragePrices};

/// Everything that decides what an operation costs.
#[derive(Clone, Debug)]
pub struct Prices {
    /// Storage prices, oldest first; each holds from its `utime_since` on (param 18).
    pub storage: Vec<StoragePrices>,
    /// Gas in the masterchain (param 20).
    pub masterchain_gas: GasLimitsPrices,
    /// Gas in the basechain (param 21).
    pub basechain_gas: GasLimitsPrices,
    /// Forwarding from or to the masterchain (param 24).
    pub masterchain_forward: MsgForwardPrices,
    /// Forwarding inside the basechain (param 25).
    pub basechain_forward: MsgForwardPrices,
}

/// One third in 16-bit fixed point: the share of a forward fee that is paid on sending.
const ONE_THIRD: u16 = 21845;

/// Storage prices that held from the start of the network.
const STORAGE_SINCE_START: StoragePrices = StoragePrices {
    utime_since: 0,
    bit_price_ps: 1,
    cell_price_ps: 500,
    mc_bit_price_ps: 1000,
    mc_cell_price_ps: 500_000,
};

/// Storage prices of the main network since April 2026.
const STORAGE_SINCE_2026: StoragePrices = StoragePrices {
    utime_since: 1_777_500_000,
    bit_price_ps: 0,
    cell_price_ps: 135,
    ..STORAGE_SINCE_START
};

const MASTERCHAIN_GAS: GasLimitsPrices = GasLimitsPrices {
    gas_price: 655_360_000,
    gas_limit: 1_000_000,
    special_gas_limit: 70_000_000,
    gas_credit: 10_000,
    block_gas_limit: 2_500_000,
    freeze_due_limit: 100_000_000,
    delete_due_limit: 1_000_000_000,
    flat_gas_limit: 100,
    flat_gas_price: 1_000_000,
};

const MASTERCHAIN_FORWARD: MsgForwardPrices = MsgForwardPrices {
    lump_price: 10_000_000,
    bit_price: 655_360_000,
    cell_price: 65_536_000_000,
    ihr_price_factor: 98_304,
    first_frac: ONE_THIRD,
    next_frac: ONE_THIRD,
};

impl Prices {
    /// What the TON main network asks today: 66.7 nanoTON per unit of gas, 66,667 nanoTON per message.
    pub fn mainnet() -> Self {
        Self {
            storage: vec![STORAGE_SINCE_START, STORAGE_SINCE_2026],
            masterchain_gas: MASTERCHAIN_GAS,
            basechain_gas: GasLimitsPrices {
                gas_price: 4_369_067,
                gas_limit: 1_000_000,
                special_gas_limit: 1_000_000,
                gas_credit: 10_000,
                block_gas_limit: 10_000_000,
                freeze_due_limit: 100_000_000,
                delete_due_limit: 1_000_000_000,
                flat_gas_limit: 100,
                flat_gas_price: 6_667,
            },
            masterchain_forward: MASTERCHAIN_FORWARD,
            basechain_forward: MsgForwardPrices {
                lump_price: 66_667,
                bit_price: 4_369_067,
                cell_price: 436_906_667,
                ihr_price_factor: 98_304,
                first_frac: ONE_THIRD,
                next_frac: ONE_THIRD,
            },
        }
    }

    /// What the main network asked before 2026, six times more.
    ///
    /// Emulators of that time still carry these prices, and recorded vectors were made with them.
    pub fn mainnet_before_2026() -> Self {
        let mut prices = Self::mainnet();
        prices.storage = vec![STORAGE_SINCE_START];
        prices.basechain_gas.gas_price = 26_214_400;
        prices.basechain_gas.flat_gas_price = 40_000;
        prices.basechain_forward.lump_price = 400_000;
        prices.basechain_forward.bit_price = 26_214_400;
        prices.basechain_forward.cell_price = 2_621_440_000;
        prices
    }
}
