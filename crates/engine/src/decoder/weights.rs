//! Named tensors of a model, from safetensors files or from a trainer.

use super::config::ModelConfig;
use crate::error::{EngineError, read_file};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// One weights file. Hugging Face shards are at most 50 GB by its own limit.
const MAX_FILE_BYTES: u64 = 60 << 30;
/// The index of a sharded model.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Tensors by name, all f32.
pub struct Weights {
    source: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Weights {
    /// Wraps tensors that did not come from a file; `source` is used in messages.
    pub fn from_map(source: impl Into<PathBuf>, tensors: HashMap<String, Tensor>) -> Self {
        Self {
            source: source.into(),
            tensors,
        }
    }

    /// Reads `model.safetensors`, or the shards of `model.safetensors.index.json`, and converts to f32.
    pub fn read(dir: &Path) -> Result<Self, EngineError> {
        let mut tensors = HashMap::new();
        for file in files(dir)? {
            let bytes = read_file(&file, MAX_FILE_BYTES, "the model's weights (safetensors)")?;
            let parsed = safetensors::SafeTensors::deserialize(&bytes)
                .map_err(|e| EngineError::invalid(&file, format!("expected safetensors: {e}")))?;
            for (name, view) in parsed.iter() {
                let dtype = match view.dtype() {
                    safetensors::Dtype::F32 => DType::F32,
                    safetensors::Dtype::F16 => DType::F16,
                    safetensors::Dtype::BF16 => DType::BF16,
                    other => {
                        let problem =
                            format!("tensor `{name}` is {other:?}; expected F32, F16 or BF16");
                        return Err(EngineError::invalid(&file, problem));
                    }
                };
                let tensor =
                    Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
                tensors.insert(name.to_owned(), tensor.to_dtype(DType::F32)?);
            }
        }
        Ok(Self {
            source: dir.to_owned(),
            tensors,
        })
    }

    /// Removes and returns a tensor, checking its shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        match self.tensors.remove(name) {
            Some(tensor) if tensor.dims() == shape => Ok(tensor),
            found => Err(EngineError::Tensor {
                path: self.source.clone(),
                name: name.to_owned(),
                expected: format!("{shape:?}"),
                found: found.map_or_else(|| "nothing".into(), |t| format!("{:?}", t.dims())),
            }),
        }
    }
}

/// The weights files of a directory, in name order.
fn files(dir: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let index = dir.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(vec![dir.join("model.safetensors")]);
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = read_file(&index, MAX_INDEX_BYTES, "the index of weights files (JSON)")?;
    let parsed: Index = serde_json::from_slice(&bytes).map_err(|e| {
        EngineError::invalid(&index, format!("expected an object with `weight_map`: {e}"))
    })?;
    let names: std::collections::BTreeSet<String> = parsed.weight_map.into_values().collect();
    names
        .into_iter()
        .map(|name| {
            // The index is foreign input: it may name files of its own directory only.
            if name.contains(['/', '\\']) || name == ".." || !name.ends_with(".safetensors") {
                return Err(EngineError::invalid(
                    &index,
                    format!("`{name}` is not the name of a safetensors file"),
                ));
            }
            Ok(dir.join(name))
        })
        .collect()
}

/// The names and shapes of all tensors that a decoder of this shape has, in a fixed order.
pub(crate) fn layout(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (h, f, d) = (
        config.hidden_size,
        config.intermediate_size,
        config.head_dim,
    );
    let (q, kv) = (config.heads * d, config.kv_heads * d);
    let mut all = vec![(
        "model.embed_tokens.weight".to_owned(),
        vec![config.vocab_size, h],
    )];
    for i in 0..config.layers {
        let mut add = |name: &str, shape: &[usize]| {
            all.push((format!("model.layers.{i}.{name}"), shape.to_vec()))
        };
        add("input_layernorm.weight", &[h]);
        for (part, width) in [("q", q), ("k", kv), ("v", kv)] {
            add(&format!("self_attn.{part}_proj.weight"), &[width, h]);
            if config.qkv_bias {
                add(&format!("self_attn.{part}_proj.bias"), &[width]);
            }
        }
        if config.family == super::Family::Qwen3 {
            add("self_attn.q_norm.weight", &[d]);
            add("self_attn.k_norm.weight", &[d]);
        }
        add("self_attn.o_proj.weight", &[h, q]);
        if config.output_bias {
            add("self_attn.o_proj.bias", &[h]);
        }
        add("post_attention_layernorm.weight", &[h]);
        add("mlp.gate_proj.weight", &[f, h]);
        add("mlp.up_proj.weight", &[f, h]);
        add("mlp.down_proj.weight", &[h, f]);
    }
    all.push(("model.norm.weight".to_owned(), vec![h]));
    if !config.tied {
        all.push(("lm_head.weight".to_owned(), vec![config.vocab_size, h]));
    }
    all
}
