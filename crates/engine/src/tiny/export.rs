//! Writes a model in training as a Hugging Face directory.

use super::trainer::Trainer;
use crate::error::EngineError;
use safetensors::tensor::TensorView;
use sha2::{Digest, Sha256};
use std::path::Path;

/// The template that the training data was written with.
pub(super) const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The nearest bfloat16, ties to even. Weights are finite.
fn bf16(x: f32) -> [u8; 2] {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    (rounded as u16).to_le_bytes()
}

/// Writes config, weights (bf16), tokenizer and template into `dir`; returns the SHA-256 of the weights file.
/// Each file appears complete or not at all.
pub fn export(trainer: &Trainer, dir: &Path) -> Result<String, EngineError> {
    std::fs::create_dir_all(dir).map_err(|e| EngineError::io(dir, e))?;
    let write = |name: &str, bytes: &[u8]| -> Result<(), EngineError> {
        let (path, partial) = (dir.join(name), dir.join(format!("{name}.partial")));
        std::fs::write(&partial, bytes).map_err(|e| EngineError::io(&partial, e))?;
        std::fs::rename(&partial, &path).map_err(|e| EngineError::io(&path, e))
    };
    let pretty = |value: serde_json::Value| format!("{value:#}\n").into_bytes();

    let mut data = Vec::new();
    for (name, tensor) in trainer.weights() {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.into_iter().flat_map(bf16).collect();
        data.push((name.to_owned(), tensor.dims().to_vec(), bytes));
    }
    let views = data
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(safetensors::Dtype::BF16, shape.clone(), bytes)
                .map(|view| (name.as_str(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .and_then(|views| {
            let format = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
            safetensors::serialize(views, Some(format))
        })
        .map_err(|e| EngineError::invalid(dir, format!("cannot serialise the weights: {e}")))?;

    write("config.json", &pretty(trainer.recipe().model.to_json()))?;
    write(
        "generation_config.json",
        &pretty(serde_json::json!({
            "bos_token_id": 0, "eos_token_id": trainer.recipe().model.eos_ids, "do_sample": true,
            "temperature": 0.7, "top_p": 0.9,
        })),
    )?;
    write(
        "tokenizer_config.json",
        &pretty(serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": trainer.recipe().model.max_positions,
            "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": null,
            "clean_up_tokenization_spaces": false,
            "chat_template": CHAT_TEMPLATE,
        })),
    )?;
    let tokenizer = trainer
        .tokenizer()
        .to_string(true)
        .map_err(|e| EngineError::invalid(dir, format!("cannot serialise the tokenizer: {e}")))?;
    write("tokenizer.json", tokenizer.as_bytes())?;
    write("model.safetensors", &views)?;
    Ok(hex::encode(Sha256::digest(&views)))
}
