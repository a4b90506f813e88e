//! The keys and values that one sequence has computed so far.

use super::config::ModelConfig;
use candle_core::{DType, Device, Result, Tensor};

/// First allocation in tokens; doubled when full, so that short answers stay small.
const FIRST_CAPACITY: usize = 64;

/// Keys and values of one sequence, `[kv_heads, capacity, head_dim]` a layer.
pub struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    len: usize,
    capacity: usize,
    limit: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl KvCache {
    /// An empty cache that will hold at most `limit` tokens.
    pub fn new(config: &ModelConfig, limit: usize) -> Self {
        Self {
            layers: Vec::with_capacity(config.layers),
            len: 0,
            capacity: 0,
            limit: limit.min(config.max_positions),
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `more` tokens in `layers` layers.
    pub(super) fn reserve(&mut self, layers: usize, more: usize, device: &Device) -> Result<()> {
        let need = self.len + more;
        if need > self.limit {
            candle_core::bail!("cache of {} tokens is full: {need} needed", self.limit);
        }
        if need <= self.capacity && self.layers.len() == layers {
            return Ok(());
        }
        let capacity = need.next_power_of_two().max(FIRST_CAPACITY).min(self.limit);
        let fresh = || Tensor::zeros((self.kv_heads, capacity, self.head_dim), DType::F32, device);
        let mut grown = Vec::with_capacity(layers);
        for i in 0..layers {
            let (k, v) = (fresh()?, fresh()?);
            if let Some((old_k, old_v)) = self.layers.get(i) {
                k.slice_set(old_k, 1, 0)?;
                v.slice_set(old_v, 1, 0)?;
            }
            grown.push((k, v));
        }
        self.layers = grown;
        self.capacity = capacity;
        Ok(())
    }

    /// Writes the keys and values (`[tokens, kv_heads, head_dim]`) of new tokens of one layer; returns all.
    pub(super) fn append(&self, layer: usize, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
        let (keys, values) = &self.layers[layer];
        let new = k.dim(0)?;
        keys.slice_set(&k.transpose(0, 1)?.contiguous()?, 1, self.len)?;
        values.slice_set(&v.transpose(0, 1)?.contiguous()?, 1, self.len)?;
        Ok((
            keys.narrow(1, 0, self.len + new)?,
            values.narrow(1, 0, self.len + new)?,
        ))
    }

    /// Counts tokens whose keys and values are now in every layer.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}
