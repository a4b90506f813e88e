//! The forward pass, shared by serving (ragged, cached) and training (rectangular, differentiable).

use super::cache::KvCache;
use super::config::{Family, ModelConfig};
use super::ops::{causal_softmax, rms_norm, rotate, swiglu};
use super::rope::RopeTable;
use super::weights::Weights;
use crate::error::EngineError;
use candle_core::{Device, Result, Tensor};
use std::path::Path;

/// The next tokens of one sequence in a step, and the cache of those before.
pub struct Chunk<'a> {
    /// At least one token.
    pub tokens: &'a [u32],
    /// This sequence's cache; the tokens are added to it.
    pub cache: &'a mut KvCache,
}

/// A loaded decoder.
pub struct Decoder {
    config: ModelConfig,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Tensor,
    rope: RopeTable,
    device: Device,
}

struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

struct Layer {
    attention_norm: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    /// Qwen3: norms of each query and key head.
    head_norms: Option<(Tensor, Tensor)>,
    feed_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

impl Decoder {
    /// Loads `config.json` and the weights of a Hugging Face directory.
    pub fn load(dir: &Path) -> std::result::Result<Self, EngineError> {
        let config = ModelConfig::read(&dir.join("config.json"))?;
        Self::new(config, Weights::read(dir)?)
    }

    /// Builds a decoder from tensors; each must have the shape that `config` says.
    pub fn new(
        config: ModelConfig,
        mut weights: Weights,
    ) -> std::result::Result<Self, EngineError> {
        let (h, f, d) = (
            config.hidden_size,
            config.intermediate_size,
            config.head_dim,
        );
        let (q, kv) = (config.heads * d, config.kv_heads * d);
        let embedding = weights.take("model.embed_tokens.weight", &[config.vocab_size, h])?;
        let mut layers = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            let mut tensor = |name: &str, shape: &[usize]| {
                weights.take(&format!("model.layers.{i}.{name}"), shape)
            };
            let mut linear = |name: &str,
                              out: usize,
                              input: usize,
                              bias: bool|
             -> std::result::Result<_, EngineError> {
                let weight = tensor(&format!("{name}.weight"), &[out, input])?;
                let bias = if bias {
                    Some(tensor(&format!("{name}.bias"), &[out])?)
                } else {
                    None
                };
                Ok(Linear { weight, bias })
            };
            let (q, k, v, o) = (
                linear("self_attn.q_proj", q, h, config.qkv_bias)?,
                linear("self_attn.k_proj", kv, h, config.qkv_bias)?,
                linear("self_attn.v_proj", kv, h, config.qkv_bias)?,
                linear("self_attn.o_proj", h, q, config.output_bias)?,
            );
            let (gate, up, down) = (
                linear("mlp.gate_proj", f, h, false)?,
                linear("mlp.up_proj", f, h, false)?,
                linear("mlp.down_proj", h, f, false)?,
            );
            let head_norms = if config.family == Family::Qwen3 {
                Some((
                    tensor("self_attn.q_norm.weight", &[d])?,
                    tensor("self_attn.k_norm.weight", &[d])?,
                ))
            } else {
                None
            };
            let (attention_norm, feed_norm) = (
                tensor("input_layernorm.weight", &[h])?,
                tensor("post_attention_layernorm.weight", &[h])?,
            );
            layers.push(Layer {
                attention_norm,
                q,
                k,
                v,
                o,
                head_norms,
                feed_norm,
                gate,
                up,
                down,
            });
        }
        let norm = weights.take("model.norm.weight", &[h])?;
        let head = if config.tied {
            embedding.clone()
        } else {
            weights.take("lm_head.weight", &[config.vocab_size, h])?
        };
        let device = embedding.device().clone();
        let rope = RopeTable::new(&config, &device)?;
        Ok(Self {
            config,
            embedding,
            layers,
            norm,
            head,
            rope,
            device,
        })
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Logits of every position of `ids` (`[batch, length]`, u32), `[batch * length, vocab]`, with gradients.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, length) = ids.dims2()?;
        let positions: Vec<u32> = (0..batch).flat_map(|_| 0..length as u32).collect();
        let hidden = self.run(&ids.flatten_all()?, &positions, &mut |_, q, k, v| {
            // [batch * length, heads, dim] -> [batch * kv_heads, length, dim] for keys and values.
            let spread = |t: &Tensor| {
                let (_, heads, dim) = t.dims3()?;
                t.reshape((batch, length, heads, dim))?
                    .transpose(1, 2)?
                    .contiguous()?
                    .reshape((batch * heads, length, dim))
            };
            self.attend(batch, q, &spread(k)?, &spread(v)?, 0)
        })?;
        self.logits(&hidden)
    }

    /// Runs one step over several sequences; returns the logits after each chunk's last token, `[chunks, vocab]`.
    pub fn step(&self, chunks: &mut [Chunk<'_>]) -> Result<Tensor> {
        let mut ids = Vec::new();
        let mut positions = Vec::new();
        let mut last = Vec::with_capacity(chunks.len());
        for chunk in chunks.iter_mut() {
            if chunk.tokens.is_empty() {
                candle_core::bail!("a step needs at least one token of each sequence");
            }
            chunk
                .cache
                .reserve(self.layers.len(), chunk.tokens.len(), &self.device)?;
            let start = chunk.cache.len() as u32;
            ids.extend_from_slice(chunk.tokens);
            positions.extend(start..start + chunk.tokens.len() as u32);
            last.push(ids.len() as u32 - 1);
        }
        let total = ids.len();
        let ids = Tensor::from_vec(ids, total, &self.device)?;
        let hidden = {
            let chunks = &*chunks;
            self.run(&ids, &positions, &mut |layer, q, k, v| {
                let mut outputs = Vec::with_capacity(chunks.len());
                let mut start = 0;
                for chunk in chunks {
                    let n = chunk.tokens.len();
                    let (keys, values) = chunk.cache.append(
                        layer,
                        &k.narrow(0, start, n)?,
                        &v.narrow(0, start, n)?,
                    )?;
                    outputs.push(self.attend(
                        1,
                        &q.narrow(0, start, n)?,
                        &keys,
                        &values,
                        chunk.cache.len(),
                    )?);
                    start += n;
                }
                if outputs.len() == 1 {
                    Ok(outputs.remove(0))
                } else {
                    Tensor::cat(&outputs, 0)
                }
            })?
        };
        for chunk in chunks.iter_mut() {
            chunk.cache.advance(chunk.tokens.len());
        }
        let rows = Tensor::from_vec(last, chunks.len(), &self.device)?;
        self.logits(&hidden.index_select(&rows, 0)?)
    }

    fn eps(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        rms_norm(hidden, &self.norm, self.eps())?.matmul(&self.head.t()?)
    }

    /// All layers over tokens laid end to end. `attention` gets the layer, q, k and v (`[tokens, heads, dim]`).
    fn run(
        &self,
        ids: &Tensor,
        positions: &[u32],
        attention: &mut dyn FnMut(usize, &Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let tokens = positions.len();
        let (cos, sin) = self
            .rope
            .at(&Tensor::from_slice(positions, tokens, &self.device)?)?;
        let (heads, kv_heads, dim) = (
            self.config.heads,
            self.config.kv_heads,
            self.config.head_dim,
        );
        let mut x = self.embedding.index_select(ids, 0)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let normed = rms_norm(&x, &layer.attention_norm, self.eps())?;
            let mut q = layer.q.forward(&normed)?.reshape((tokens, heads, dim))?;
            let mut k = layer.k.forward(&normed)?.reshape((tokens, kv_heads, dim))?;
            let v = layer.v.forward(&normed)?.reshape((tokens, kv_heads, dim))?;
            if let Some((q_norm, k_norm)) = &layer.head_norms {
                q = rms_norm(&q, q_norm, self.eps())?;
                k = rms_norm(&k, k_norm, self.eps())?;
            }
            let (q, k) = (rotate(&q, &cos, &sin)?, rotate(&k, &cos, &sin)?);
            let mixed = attention(i, &q, &k, &v)?;
            x = (x + layer.o.forward(&mixed)?)?;
            let normed = rms_norm(&x, &layer.feed_norm, self.eps())?;
            let inner = swiglu(&layer.gate.forward(&normed)?, &layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&inner)?)?;
        }
        Ok(x)
    }

    /// Causal attention of `batch` equal sequences. `q` is `[batch * queries, heads, dim]`, `k` and `v` are
    /// `[batch * kv_heads, keys, dim]`, `offset` the number of keys before the first query.
    fn attend(
        &self,
        batch: usize,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        offset: usize,
    ) -> Result<Tensor> {
        let (rows, heads, dim) = q.dims3()?;
        let queries = rows / batch;
        let kv_heads = self.config.kv_heads;
        let group = heads / kv_heads;
        // The heads that share a key become rows of one product: no key or value is ever copied.
        let q = q
            .reshape((batch, queries, kv_heads, group, dim))?
            .permute((0, 2, 3, 1, 4))?
            .contiguous()?
            .reshape((batch * kv_heads, group * queries, dim))?;
        let scores = q.matmul(&k.t()?)?;
        let weights = causal_softmax(&scores, 1.0 / (dim as f32).sqrt(), queries, offset)?;
        weights
            .matmul(v)?
            .reshape((batch, kv_heads, group, queries, dim))?
            .permute((0, 3, 1, 2, 4))?
            .contiguous()?
            .reshape((rows, heads * dim))
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
