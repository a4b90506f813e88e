//! The blockchain config, built from typed values as the TON main network has them today.
//!
//! Contracts see the config exactly as TON encodes it ([`ChainConfig::root`]). The executor needs a copy in
//! which two parameters have the layout that tycho-types knows; that copy never leaves this module.

mod params;
mod prices;

pub use params::{SizeLimitsV2, WorkchainV2};
pub use prices::Prices;

use std::num::NonZeroU16;

use tycho_executor::ParsedConfig;
use tycho_types::cell::{Cell, CellBuilder, HashBytes};
use tycho_types::dict::Dict;
use tycho_types::error::Error;
use tycho_types::models::{
    BlockLimits, BlockParamLimits, BlockchainConfig, BlockchainConfigParams, CatchainConfig,
    ElectionTimings, GlobalCapabilities, GlobalVersion, StoragePrices, ValidatorCountParams,
    ValidatorDescription, ValidatorSet, ValidatorStakeParams,
};
use tycho_types::num::Tokens;

/// Global version of the TON main network.
pub const GLOBAL_VERSION: u32 = 15;

/// Capability bits of the main network: block statistics, bounced bodies, version reports, short dequeue
/// records, queue sizes, message metadata and deferred messages.
const CAPABILITIES: u64 = 0b1_1110_1110;

/// Address of the config contract, in the masterchain.
const CONFIG_ADDRESS: HashBytes = HashBytes([0x55; 32]);
/// Address of the elector, in the masterchain.
const ELECTOR_ADDRESS: HashBytes = HashBytes([0x33; 32]);
/// Address of the minter, in the masterchain.
const MINTER_ADDRESS: HashBytes = HashBytes([0; 32]);

/// The validator set of a development chain never ends: far enough for every test that moves the clock.
const VALIDATOR_SET_SECONDS: u32 = 20 * 365 * 86_400;
/// All weight belongs to the one validator.
const VALIDATOR_WEIGHT: u64 = 1 << 60;

/// What differs from one development chain to another.
#[derive(Clone, Debug)]
pub struct ConfigOptions {
    /// Global id (param 19), which separates networks.
    pub global_id: i32,
    /// Ed25519 public key of the one validator (param 34).
    pub validator_key: [u8; 32],
    /// Unix time of the genesis block.
    pub genesis_time: u32,
    /// Price list.
    pub prices: Prices,
}

impl ConfigOptions {
    /// Today's prices of the main network.
    pub fn new(global_id: i32, validator_key: [u8; 32], genesis_time: u32) -> Self {
        Self {
            global_id,
            validator_key,
            genesis_time,
            prices: Prices::mainnet(),
        }
    }
}

/// A blockchain config, ready for execution at any time.
#[derive(Debug)]
pub struct ChainConfig {
    original: BlockchainConfigParams,
    global_id: i32,
    /// One parsed copy per storage price, with the time from which it holds: the newest storage price is
    /// part of what contracts can read, so the copy depends on the time.
    segments: Vec<(u32, ParsedConfig)>,
}

impl ChainConfig {
    /// Builds the config.
    pub fn new(options: &ConfigOptions) -> Result<Self, Error> {
        let mut config = BlockchainConfig::new_empty(CONFIG_ADDRESS);
        fill(&mut config.params, options)?;

        let mut normalised = config.clone();
        let mut workchains = Dict::new();
        workchains.set(0, WorkchainV2::normalised())?;
        normalised.params.set_workchains(&workchains)?;
        normalised
            .params
            .set_size_limits(&SizeLimitsV2::normalised())?;

        let size_limits = config.params.get_raw_cell(43)?;
        let mut starts: Vec<u32> = options
            .prices
            .storage
            .iter()
            .map(|p| p.utime_since)
            .collect();
        if starts.first() != Some(&0) {
            starts.insert(0, 0);
        }
        let mut segments = Vec::with_capacity(starts.len());
        for start in starts {
            let mut parsed = ParsedConfig::parse(normalised.clone(), start)?;
            parsed.raw = config.clone();
            parsed.unpacked.size_limits_config = size_limits.clone();
            segments.push((start, parsed));
        }
        Ok(Self {
            original: config.params,
            global_id: options.global_id,
            segments,
        })
    }

    /// Global id of the network.
    pub fn global_id(&self) -> i32 {
        self.global_id
    }

    /// Root of the parameter dictionary, in TON's own encoding.
    pub fn root(&self) -> Cell {
        self.original.as_dict().root().clone().unwrap_or_default()
    }

    /// The parameters in TON's own encoding.
    pub fn params(&self) -> &BlockchainConfigParams {
        &self.original
    }

    /// The executor's view at a time.
    pub fn at(&self, now: u32) -> &ParsedConfig {
        let later = self.segments.partition_point(|(since, _)| *since <= now);
        &self.segments[later.saturating_sub(1)].1
    }
}

fn fill(params: &mut BlockchainConfigParams, options: &ConfigOptions) -> Result<(), Error> {
    let prices = &options.prices;
    params.set_elector_address(&ELECTOR_ADDRESS)?;
    params.set_minter_address(&MINTER_ADDRESS)?;
    params.set_global_version(&GlobalVersion {
        version: GLOBAL_VERSION,
        capabilities: GlobalCapabilities::new(CAPABILITIES),
    })?;
    params.set_raw(
        12,
        dictionary_cell(&{
            let mut workchains = Dict::<i32, WorkchainV2>::new();
            workchains.set(0, WorkchainV2)?;
            workchains
        })?,
    )?;
    params.set_election_timings(&ElectionTimings {
        validators_elected_for: 65_536,
        elections_start_before: 32_768,
        elections_end_before: 8_192,
        stake_held_for: 32_768,
    })?;
    params.set_validator_count_params(&ValidatorCountParams {
        max_validators: 400,
        max_main_validators: 100,
        min_validators: 1,
    })?;
    params.set_validator_stake_params(&ValidatorStakeParams {
        min_stake: Tokens::new(300_000_000_000_000),
        max_stake: Tokens::new(10_000_000_000_000_000),
        min_total_stake: Tokens::new(75_000_000_000_000_000),
        max_stake_factor: 3 << 16,
    })?;
    params.set_raw(18, storage_prices(&prices.storage)?)?;
    params.set_global_id(options.global_id)?;
    params.set_gas_prices(true, &prices.masterchain_gas)?;
    params.set_gas_prices(false, &prices.basechain_gas)?;
    for masterchain in [true, false] {
        params.set_block_limits(masterchain, &block_limits())?;
    }
    params.set_msg_forward_prices(true, &prices.masterchain_forward)?;
    params.set_msg_forward_prices(false, &prices.basechain_forward)?;
    params.set_catchain_config(&CatchainConfig {
        isolate_mc_validators: false,
        shuffle_mc_validators: false,
        mc_catchain_lifetime: 250,
        shard_catchain_lifetime: 250,
        shard_validators_lifetime: 1000,
        shard_validators_num: 1,
    })?;
    params.set_fundamental_addresses(&[MINTER_ADDRESS, ELECTOR_ADDRESS, CONFIG_ADDRESS])?;
    params.set_raw(34, CellBuilder::build_from(validators(options))?)?;
    params.set_raw(43, CellBuilder::build_from(SizeLimitsV2)?)?;
    Ok(())
}

/// Keys are the times from which prices hold. (`set_storage_prices` of tycho-types numbers them instead, and
/// TON's own executor refuses such a config.)
fn storage_prices(prices: &[StoragePrices]) -> Result<Cell, Error> {
    let mut dict = Dict::<u32, StoragePrices>::new();
    for price in prices {
        dict.set(price.utime_since, *price)?;
    }
    // The parameter is the root itself, without a presence bit.
    dict.into_root().ok_or(Error::InvalidData)
}

fn dictionary_cell<V>(dict: &Dict<i32, V>) -> Result<Cell, Error> {
    let mut builder = CellBuilder::new();
    match dict.root() {
        Some(root) => {
            builder.store_bit_one()?;
            builder.store_reference(root.clone())?;
        }
        None => builder.store_bit_zero()?,
    }
    builder.build()
}

fn block_limits() -> BlockLimits {
    BlockLimits {
        bytes: BlockParamLimits {
            underload: 131_072,
            soft_limit: 524_288,
            hard_limit: 1_048_576,
        },
        gas: BlockParamLimits {
            underload: 2_000_000,
            soft_limit: 10_000_000,
            hard_limit: 20_000_000,
        },
        lt_delta: BlockParamLimits {
            underload: 1000,
            soft_limit: 5000,
            hard_limit: 10_000,
        },
    }
}

fn validators(options: &ConfigOptions) -> ValidatorSet {
    ValidatorSet {
        utime_since: options.genesis_time,
        utime_until: options.genesis_time.saturating_add(VALIDATOR_SET_SECONDS),
        main: NonZeroU16::MIN,
        total_weight: VALIDATOR_WEIGHT,
        list: vec![ValidatorDescription {
            public_key: HashBytes(options.validator_key),
            weight: VALIDATOR_WEIGHT,
            adnl_addr: None,
            mc_seqno_since: 0,
            prev_total_weight: 0,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ChainConfig {
        ChainConfig::new(&ConfigOptions::new(-217, [7; 32], 1_780_000_000)).unwrap()
    }

    #[test]
    fn has_the_main_network_values() {
        let config = config();
        let params = config.params();
        assert_eq!(params.get_global_version().unwrap().version, 15);
        assert_eq!(params.get_global_id().unwrap(), -217);
        assert_eq!(params.get_gas_prices(false).unwrap().gas_price, 4_369_067);
        assert_eq!(
            params.get_msg_forward_prices(false).unwrap().lump_price,
            66_667
        );
        let validators = params.get_current_validator_set().unwrap();
        assert_eq!(validators.list[0].public_key.0, [7; 32]);
        // 1,000 gas: flat part, then 900 units.
        let fee = config
            .at(1_780_000_000)
            .gas_prices(false)
            .compute_gas_fee(1000);
        assert_eq!(
            fee.into_inner(),
            6_667 + (900 * 4_369_067u128).div_ceil(65_536)
        );
    }

    #[test]
    fn keeps_the_original_layout_for_contracts() {
        let config = config();
        let parsed = config.at(1_780_000_000);
        let workchains = parsed.raw.params.get_raw_cell(12).unwrap().unwrap();
        let entry = workchains.references().next().unwrap();
        // HashmapE label of a single 32-bit key, then the tag of workchain_v2.
        assert!(
            entry.bit_len() > 600,
            "workchain_v2 is longer than the old layout"
        );
        let limits = parsed.unpacked.size_limits_config.as_ref().unwrap();
        assert_eq!(limits, &config.params().get_raw_cell(43).unwrap().unwrap());
        assert!(parsed.workchains.contains_key(&0));
        assert_eq!(parsed.size_limits.max_msg_cells, 8192);
    }

    #[test]
    fn storage_price_depends_on_the_time() {
        let config = config();
        let old = config
            .at(1_777_499_999)
            .unpacked
            .latest_storage_prices
            .clone();
        let new = config
            .at(1_777_500_000)
            .unpacked
            .latest_storage_prices
            .clone();
        assert!(old.is_some() && new.is_some());
        assert_ne!(old, new);
        let prices = config.params().get_storage_prices().unwrap();
        for entry in prices.iter() {
            let (key, price) = entry.unwrap();
            assert_eq!(key, price.utime_since);
        }
    }
}
