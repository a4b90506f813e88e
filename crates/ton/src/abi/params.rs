//! The params record: prices, multipliers, delays, stakes and contract codes (contracts.md, section 5).

use tycho_types::cell::Cell;

use super::codec::{Reader, Writer};
use super::error::AbiError;

/// The structure version written for the official network.
pub const STRUCT_VERSION: u8 = 3;
/// The newest structure version that can be read. Its record equals version 3.
pub const MAX_STRUCT_VERSION: u8 = 4;
/// What a multiplier of 1 is written as.
pub const MULTIPLIER_ONE: u32 = 10_000;
/// Minimum stakes of structure version 0, which does not carry them: 1 TON.
const DEFAULT_MIN_STAKE: u128 = crate::amount::NANO_PER_TON;

/// Params of a network. Frozen into every proxy, client and worker contract when it is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Layout of this record; 3 unless an older or newer network asks for another.
    pub struct_version: u8,
    /// Counter of changes; every change gives all contracts new addresses.
    pub params_version: u32,
    /// Identity of the network.
    pub unique_id: u32,
    /// Whether this is a test network.
    pub is_test: bool,
    /// NanoTON a client pays for an adjusted token.
    pub price_per_token: u128,
    /// NanoTON a worker gets for an adjusted token.
    pub worker_fee_per_token: u128,
    /// Weight of prompt tokens, in 1/10000.
    pub prompt_multiplier: u32,
    /// Weight of cached prompt tokens, in 1/10000.
    pub cached_multiplier: u32,
    /// Weight of completion tokens, in 1/10000.
    pub completion_multiplier: u32,
    /// Weight of reasoning tokens, in 1/10000.
    pub reasoning_multiplier: u32,
    /// Seconds between the closing of a proxy and its end.
    pub proxy_delay: u32,
    /// Seconds between the closing of a client and its forced refund.
    pub client_delay: u32,
    /// NanoTON a proxy should stake.
    pub min_proxy_stake: u128,
    /// NanoTON written as a new client's stake.
    pub min_client_stake: u128,
    /// Code of proxy contracts; only in the full form.
    pub proxy_code: Option<Cell>,
    /// Code of worker contracts; in the full and the proxy form.
    pub worker_code: Option<Cell>,
    /// Code of client contracts; in the full and the proxy form.
    pub client_code: Option<Cell>,
}

impl Params {
    /// The form kept in proxy contracts: worker and client code only.
    pub fn proxy_form(&self) -> Self {
        Self {
            proxy_code: None,
            ..self.clone()
        }
    }

    /// The form kept in client and worker contracts: no codes.
    pub fn bare_form(&self) -> Self {
        Self {
            proxy_code: None,
            worker_code: None,
            client_code: None,
            ..self.clone()
        }
    }

    /// Writes the record in the layout of its `struct_version`. Fields that an old layout lacks are not written.
    pub fn encode(&self) -> Result<Cell, AbiError> {
        let v = self.struct_version;
        if v > MAX_STRUCT_VERSION {
            return Err(AbiError::StructVersion { found: v });
        }
        let mut w = Writer::new("params");
        w.uint(v.into(), 8);
        w.uint(self.params_version.into(), 32);
        w.uint(self.unique_id.into(), 32);
        w.bit(self.is_test);
        w.coins("price per token", self.price_per_token);
        w.coins("worker fee per token", self.worker_fee_per_token);
        if v >= 3 {
            w.uint(self.prompt_multiplier.into(), 32);
        }
        if v >= 2 {
            w.uint(self.cached_multiplier.into(), 32);
        }
        if v >= 3 {
            w.uint(self.completion_multiplier.into(), 32);
        }
        if v >= 2 {
            w.uint(self.reasoning_multiplier.into(), 32);
        }
        w.uint(self.proxy_delay.into(), 32);
        w.uint(self.client_delay.into(), 32);
        if v >= 1 {
            w.coins("min proxy stake", self.min_proxy_stake);
            w.coins("min client stake", self.min_client_stake);
        }
        w.maybe_cell(self.proxy_code.as_ref());
        w.maybe_cell(self.worker_code.as_ref());
        w.maybe_cell(self.client_code.as_ref());
        w.finish()
    }

    /// Reads a record of structure version 0 to 4. What an old layout lacks reads as its default.
    pub fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "params")?;
        let v = r.uint("structure version", 8)? as u8;
        if v > MAX_STRUCT_VERSION {
            return Err(AbiError::StructVersion { found: v });
        }
        let params_version = u32(&mut r, "params version")?;
        let unique_id = u32(&mut r, "unique id")?;
        let is_test = r.bit("is test")?;
        let price_per_token = r.coins("price per token")?;
        let worker_fee_per_token = r.coins("worker fee per token")?;
        let prompt_multiplier = multiplier(&mut r, "prompt multiplier", v >= 3)?;
        let cached_multiplier = multiplier(&mut r, "cached multiplier", v >= 2)?;
        let completion_multiplier = multiplier(&mut r, "completion multiplier", v >= 3)?;
        let reasoning_multiplier = multiplier(&mut r, "reasoning multiplier", v >= 2)?;
        let proxy_delay = u32(&mut r, "proxy delay")?;
        let client_delay = u32(&mut r, "client delay")?;
        let (min_proxy_stake, min_client_stake) = if v >= 1 {
            (r.coins("min proxy stake")?, r.coins("min client stake")?)
        } else {
            (DEFAULT_MIN_STAKE, DEFAULT_MIN_STAKE)
        };
        let params = Self {
            struct_version: v,
            params_version,
            unique_id,
            is_test,
            price_per_token,
            worker_fee_per_token,
            prompt_multiplier,
            cached_multiplier,
            completion_multiplier,
            reasoning_multiplier,
            proxy_delay,
            client_delay,
            min_proxy_stake,
            min_client_stake,
            proxy_code: r.maybe_cell("proxy code")?,
            worker_code: r.maybe_cell("worker code")?,
            client_code: r.maybe_cell("client code")?,
        };
        r.end()?;
        Ok(params)
    }
}

fn u32(r: &mut Reader<'_>, field: &'static str) -> Result<u32, AbiError> {
    Ok(r.uint(field, 32)? as u32)
}

fn multiplier(r: &mut Reader<'_>, field: &'static str, present: bool) -> Result<u32, AbiError> {
    if present {
        u32(r, field)
    } else {
        Ok(MULTIPLIER_ONE)
    }
}
