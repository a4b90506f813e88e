//! The decoder against itself (cached, ragged, trained) and against wrong weights.

use super::*;
use crate::decoder::{cross_entropy, layout};
use candle_core::{DType, Var};
use std::collections::HashMap;

fn config(family: Family) -> ModelConfig {
    let mut config = ModelConfig::tiny_for_tests();
    config.family = family;
    config.qkv_bias = family == Family::Qwen2;
    config.tied = family != Family::Qwen3;
    config
}

/// Varied, reproducible weights.
fn tensors(config: &ModelConfig) -> HashMap<String, Tensor> {
    let mut state = 12_345u32;
    layout(config)
        .into_iter()
        .map(|(name, shape)| {
            let n: usize = shape.iter().product();
            let offset = if name.contains("norm") { 1.0 } else { 0.0 };
            let values: Vec<f32> = (0..n)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    offset + ((state >> 8) as f32 / 8_388_608.0 - 1.0) * 0.4
                })
                .collect();
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        })
        .collect()
}

fn decoder(family: Family) -> Decoder {
    let config = config(family);
    let weights = Weights::from_map("test", tensors(&config));
    Decoder::new(config, weights).unwrap()
}

fn rows(logits: &Tensor) -> Vec<Vec<f32>> {
    logits.to_vec2().unwrap()
}

fn close(a: &[f32], b: &[f32]) {
    let worst = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(
        a.len() == b.len() && worst < 1e-4,
        "logits differ by {worst}"
    );
}

#[test]
fn cached_steps_give_the_logits_of_one_pass() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let decoder = decoder(family);
        let tokens: Vec<u32> = (0..20).map(|i| (i * 7 + 3) % 40).collect();
        let whole = rows(
            &decoder
                .forward(
                    &Tensor::new(&tokens[..], &Device::Cpu)
                        .unwrap()
                        .unsqueeze(0)
                        .unwrap(),
                )
                .unwrap(),
        );
        let mut cache = KvCache::new(decoder.config(), 64);
        let mut done = 0;
        for size in [1, 5, 1, 8, 1, 4] {
            let mut chunks = [Chunk {
                tokens: &tokens[done..done + size],
                cache: &mut cache,
            }];
            let logits = rows(&decoder.step(&mut chunks).unwrap());
            done += size;
            close(&logits[0], &whole[done - 1]);
        }
    }
}

#[test]
fn a_ragged_step_gives_what_each_sequence_gives_alone() {
    let decoder = decoder(Family::Qwen3);
    let prompts: [&[u32]; 3] = [&[1, 2, 3, 4, 5, 6, 7], &[9], &[30, 31, 32]];
    let alone: Vec<Vec<f32>> = prompts
        .iter()
        .map(|tokens| {
            let mut cache = KvCache::new(decoder.config(), 32);
            rows(
                &decoder
                    .step(&mut [Chunk {
                        tokens,
                        cache: &mut cache,
                    }])
                    .unwrap(),
            )
            .remove(0)
        })
        .collect();
    let mut caches: Vec<KvCache> = (0..3).map(|_| KvCache::new(decoder.config(), 32)).collect();
    let mut chunks: Vec<Chunk<'_>> = prompts
        .iter()
        .zip(&mut caches)
        .map(|(tokens, cache)| Chunk { tokens, cache })
        .collect();
    for (together, alone) in rows(&decoder.step(&mut chunks).unwrap()).iter().zip(&alone) {
        close(together, alone);
    }
}

#[test]
fn a_full_cache_is_an_error_and_not_a_panic() {
    let decoder = decoder(Family::Llama);
    let mut cache = KvCache::new(decoder.config(), 4);
    let error = decoder
        .step(&mut [Chunk {
            tokens: &[1, 2, 3, 4, 5],
            cache: &mut cache,
        }])
        .unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert!(
        decoder
            .step(&mut [Chunk {
                tokens: &[],
                cache: &mut cache
            }])
            .is_err()
    );
}

#[test]
fn gradients_reach_every_weight_and_point_downhill() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let config = config(family);
        let vars: Vec<(String, Var)> = tensors(&config)
            .into_iter()
            .map(|(n, t)| (n, Var::from_tensor(&t).unwrap()))
            .collect();
        let map = vars
            .iter()
            .map(|(n, v)| (n.clone(), v.as_tensor().clone()))
            .collect();
        let decoder = Decoder::new(config, Weights::from_map("test", map)).unwrap();
        let ids = Tensor::new(&[[1u32, 2, 3, 4], [5, 6, 7, 8]], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[2u32, 3, 4, 5, 6, 7, 8, 9], &Device::Cpu).unwrap();
        let ones = Tensor::ones(8, DType::F32, &Device::Cpu).unwrap();
        let loss = || cross_entropy(&decoder.forward(&ids).unwrap(), &targets, &ones).unwrap();
        let before = loss();
        let grads = before.backward().unwrap();
        for (name, var) in &vars {
            let grad = grads
                .get(var)
                .unwrap_or_else(|| panic!("{name} has no gradient"));
            let size = grad
                .abs()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            // A bias on all keys alike moves every score of a query by the same amount without rotation only.
            assert!(size > 0.0 && size.is_finite(), "{name}: {size}");
            var.set(&(var.as_tensor() - (grad * 1e-2).unwrap()).unwrap())
                .unwrap();
        }
        let (before, after) = (
            before.to_scalar::<f32>().unwrap(),
            loss().to_scalar::<f32>().unwrap(),
        );
        assert!(after < before, "{before} -> {after}");
    }
}

#[test]
fn wrong_and_missing_tensors_are_named() {
    let config = config(Family::Llama);
    let name = "model.layers.1.mlp.up_proj.weight";
    let mut wrong = tensors(&config);
    wrong.insert(
        name.into(),
        Tensor::zeros((3, 3), DType::F32, &Device::Cpu).unwrap(),
    );
    let error = Decoder::new(config.clone(), Weights::from_map("m", wrong))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains(name) && error.contains("[24, 16]") && error.contains("[3, 3]"),
        "{error}"
    );
    let mut missing = tensors(&config);
    missing.remove(name);
    let error = Decoder::new(config, Weights::from_map("m", missing))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains(name) && error.contains("nothing"), "{error}");
}
