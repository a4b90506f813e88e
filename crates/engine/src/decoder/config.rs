//! A model's shape, read from the `config.json` of a Hugging Face directory.

use crate::error::{EngineError, read_file};
use serde_json::Value;
use std::path::Path;

/// A configuration is a few kilobytes; more is not a configuration.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest sizes believed. They bound memory before any weight is read: the largest open models are below them.
const MAX_LAYERS: usize = 512;
const MAX_WIDTH: usize = 1 << 16;
const MAX_FEED_FORWARD: usize = 1 << 18;
const MAX_VOCABULARY: usize = 1 << 21;
/// Position tables are built for at most this many positions; longer contexts are cut to it.
const MAX_POSITIONS: usize = 1 << 17;

/// Which published layout the weights have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama and its descendants without biases.
    Llama,
    /// Qwen2: biases on q, k and v.
    Qwen2,
    /// Qwen3: q and k of each head are normalised.
    Qwen3,
}

/// How rotary frequencies are stretched for contexts longer than the model was first trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All by the same factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// By wavelength, as Llama 3.1 does.
    Llama3 {
        /// Stretch of long waves.
        factor: f64,
        /// Waves longer than `original / low` are stretched in full.
        low: f64,
        /// Waves shorter than `original / high` are kept.
        high: f64,
        /// Context length of the first training.
        original: f64,
    },
}

/// The shape of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Published layout.
    pub family: Family,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Added under the root of the normalisation.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Context length in tokens.
    pub max_positions: usize,
    /// Whether the output layer is the embedding.
    pub tied: bool,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the attention output has a bias.
    pub output_bias: bool,
    /// Token ids that end an answer, as far as the configuration says.
    pub eos_ids: Vec<u32>,
}

impl ModelConfig {
    /// Reads and checks `config.json` at `path`.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let bytes = read_file(path, MAX_CONFIG_BYTES, "the model's configuration (JSON)")?;
        let json: Value = serde_json::from_slice(&bytes)
            .map_err(|e| EngineError::invalid(path, format!("expected JSON: {e}")))?;
        Self::from_json(&json).map_err(|problem| EngineError::invalid(path, problem))
    }

    /// Checks a parsed configuration; the error says what was expected and found.
    pub fn from_json(json: &Value) -> Result<Self, String> {
        let family = match json.get("model_type").and_then(Value::as_str) {
            Some("llama") => Family::Llama,
            Some("qwen2") => Family::Qwen2,
            Some("qwen3") => Family::Qwen3,
            Some(other) => {
                return Err(format!(
                    "model_type is `{other}`; expected llama, qwen2 or qwen3"
                ));
            }
            None => return Err("expected a string `model_type` (llama, qwen2 or qwen3)".into()),
        };
        let size = |name: &str, max: usize| -> Result<usize, String> {
            let found = json
                .get(name)
                .ok_or_else(|| format!("`{name}` is missing; expected an integer"))?;
            match found.as_u64() {
                Some(n) if n >= 1 && n <= max as u64 => Ok(n as usize),
                _ => Err(format!(
                    "`{name}` is {found}; expected an integer from 1 to {max}"
                )),
            }
        };
        let flag = |name: &str| json.get(name).and_then(Value::as_bool).unwrap_or(false);
        let hidden_size = size("hidden_size", MAX_WIDTH)?;
        let heads = size("num_attention_heads", MAX_WIDTH)?;
        let kv_heads = match json.get("num_key_value_heads") {
            None | Some(Value::Null) => heads,
            Some(_) => size("num_key_value_heads", MAX_WIDTH)?,
        };
        if heads % kv_heads != 0 {
            return Err(format!(
                "{heads} attention heads are not a multiple of {kv_heads} key/value heads"
            ));
        }
        let head_dim = match json.get("head_dim") {
            None | Some(Value::Null) if hidden_size % heads != 0 => {
                return Err(format!(
                    "hidden_size {hidden_size} is not a multiple of {heads} heads and head_dim is absent"
                ));
            }
            None | Some(Value::Null) => hidden_size / heads,
            Some(_) => size("head_dim", MAX_WIDTH)?,
        };
        if head_dim % 2 != 0 {
            return Err(format!(
                "head_dim is {head_dim}; rotary positions need an even one"
            ));
        }
        match json.get("hidden_act").and_then(Value::as_str) {
            None | Some("silu") => {}
            Some(other) => return Err(format!("hidden_act is `{other}`; expected silu")),
        }
        if flag("mlp_bias") {
            return Err("mlp_bias is true; expected a feed-forward block without biases".into());
        }
        if flag("use_sliding_window") {
            return Err("use_sliding_window is true; expected full attention".into());
        }
        let bias = flag("attention_bias");
        // Newer files keep everything rotary in one object.
        let rope = json
            .get("rope_parameters")
            .or_else(|| json.get("rope_scaling"))
            .filter(|v| !v.is_null());
        let theta = json
            .get("rope_theta")
            .or_else(|| rope.and_then(|r| r.get("rope_theta")));
        Ok(Self {
            family,
            vocab_size: size("vocab_size", MAX_VOCABULARY)?,
            hidden_size,
            intermediate_size: size("intermediate_size", MAX_FEED_FORWARD)?,
            layers: size("num_hidden_layers", MAX_LAYERS)?,
            heads,
            kv_heads,
            head_dim,
            rms_norm_eps: positive("rms_norm_eps", json.get("rms_norm_eps"), 1e-6)?,
            rope_theta: positive("rope_theta", theta, 10_000.0)?,
            rope_scaling: scaling(rope)?,
            max_positions: size("max_position_embeddings", usize::MAX)?.min(MAX_POSITIONS),
            tied: flag("tie_word_embeddings"),
            qkv_bias: bias || family == Family::Qwen2,
            output_bias: bias,
            eos_ids: token_ids(json.get("eos_token_id")),
        })
    }

    /// Writes the configuration as Hugging Face tools read it.
    pub fn to_json(&self) -> Value {
        let (model_type, architecture) = match self.family {
            Family::Llama => ("llama", "LlamaForCausalLM"),
            Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
            Family::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
        };
        let scaling = match self.rope_scaling {
            RopeScaling::None => Value::Null,
            RopeScaling::Linear { factor } => {
                serde_json::json!({"rope_type": "linear", "factor": factor})
            }
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => serde_json::json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
                "original_max_position_embeddings": original as u64,
            }),
        };
        serde_json::json!({
            "architectures": [architecture],
            "model_type": model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": scaling,
            "max_position_embeddings": self.max_positions,
            "tie_word_embeddings": self.tied,
            "attention_bias": self.output_bias,
            "mlp_bias": false,
            "eos_token_id": self.eos_ids,
            "torch_dtype": "bfloat16",
        })
    }

    /// Bytes of key and value cache that one token takes in f32.
    pub fn cache_bytes_per_token(&self) -> usize {
        2 * self.layers * self.kv_heads * self.head_dim * size_of::<f32>()
    }

    #[cfg(test)]
    pub(crate) fn tiny_for_tests() -> Self {
        Self {
            family: Family::Llama,
            vocab_size: 40,
            hidden_size: 16,
            intermediate_size: 24,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 4,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            max_positions: 64,
            tied: true,
            qkv_bias: false,
            output_bias: false,
            eos_ids: vec![1],
        }
    }
}

/// Token ids given as a number, a list of numbers, or not at all.
pub(crate) fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}

fn positive(name: &str, value: Option<&Value>, default: f64) -> Result<f64, String> {
    match value {
        None | Some(Value::Null) => Ok(default),
        Some(v) => v
            .as_f64()
            .filter(|x| x.is_finite() && *x > 0.0)
            .ok_or_else(|| format!("`{name}` is {v}; expected a positive number")),
    }
}

fn scaling(rope: Option<&Value>) -> Result<RopeScaling, String> {
    let Some(rope) = rope else {
        return Ok(RopeScaling::None);
    };
    let field = |name: &str| {
        let value = rope
            .get(name)
            .ok_or_else(|| format!("rope scaling lacks `{name}`"))?;
        positive(name, Some(value), 0.0)
    };
    match rope
        .get("rope_type")
        .or_else(|| rope.get("type"))
        .and_then(Value::as_str)
    {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear {
            factor: field("factor")?,
        }),
        Some("llama3") => {
            let (low, high) = (field("low_freq_factor")?, field("high_freq_factor")?);
            if low >= high {
                return Err(format!(
                    "rope scaling: low_freq_factor {low} is not below high_freq_factor {high}"
                ));
            }
            let original = field("original_max_position_embeddings")?;
            Ok(RopeScaling::Llama3 {
                factor: field("factor")?,
                low,
                high,
                original,
            })
        }
        Some(other) => Err(format!(
            "rope scaling is `{other}`; expected default, linear or llama3"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_configuration_survives_writing_and_reading() {
        let mut config = ModelConfig::tiny_for_tests();
        config.rope_scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low: 1.0,
            high: 4.0,
            original: 8192.0,
        };
        assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn nonsense_is_refused_with_expected_and_found() {
        let good = ModelConfig::tiny_for_tests().to_json();
        for (field, value, message) in [
            (
                "model_type",
                json!("gpt2"),
                "expected llama, qwen2 or qwen3",
            ),
            ("hidden_size", json!(0), "expected an integer from 1"),
            ("num_key_value_heads", json!(3), "not a multiple"),
            ("hidden_act", json!("gelu"), "expected silu"),
            ("head_dim", json!(5), "even"),
            ("rms_norm_eps", json!(-1.0), "positive"),
            (
                "rope_scaling",
                json!({"rope_type": "yarn"}),
                "expected default, linear or llama3",
            ),
            ("num_hidden_layers", json!(1e9), "expected an integer"),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let error = ModelConfig::from_json(&bad).unwrap_err();
            assert!(error.contains(message), "{field}: {error}");
        }
    }
}
