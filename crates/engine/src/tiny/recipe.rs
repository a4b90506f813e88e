//! Everything that decides what the tiny model becomes.

use super::corpus::Mix;
use crate::decoder::{Family, ModelConfig, RopeScaling};

/// A complete recipe: with the same code, the same recipe gives the same tokenizer and data, and on the same kind
/// of processor the same weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Seeds the data, the tokenizer's sample and the first weights.
    pub seed: u64,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Conversations that the tokenizer is trained on.
    pub tokenizer_conversations: usize,
    /// Tokens of one optimiser step.
    pub tokens_per_step: usize,
    /// Optimiser steps in all.
    pub steps: usize,
    /// Steps of rising learning rate.
    pub warmup: usize,
    /// Last steps, over which the learning rate falls along a half cosine; it is constant before them.
    pub cooldown: usize,
    /// Highest learning rate.
    pub peak_rate: f64,
    /// What the conversations are about.
    pub mix: Mix,
    /// Length of most sequences.
    pub short: usize,
    /// Loss weight of tokens outside the assistant's answers.
    pub context_weight: f32,
    /// The decoder.
    pub model: ModelConfig,
}

impl Recipe {
    /// The recipe of the model that is shipped, for a number of steps.
    pub fn shipped(seed: u64, steps: usize) -> Self {
        Self {
            seed,
            vocab_size: 1536,
            tokenizer_conversations: 20_000,
            tokens_per_step: 2048,
            steps,
            warmup: (steps / 20).clamp(1, 100),
            cooldown: steps * 3 / 5,
            peak_rate: 3e-3,
            mix: Mix::Broad,
            short: 256,
            context_weight: 0.1,
            model: ModelConfig {
                family: Family::Llama,
                vocab_size: 1536,
                hidden_size: 192,
                intermediate_size: 512,
                layers: 4,
                heads: 6,
                kv_heads: 3,
                head_dim: 32,
                rms_norm_eps: 1e-5,
                rope_theta: 10_000.0,
                rope_scaling: RopeScaling::None,
                max_positions: 1024,
                tied: true,
                qkv_bias: false,
                output_bias: false,
                // <|im_end|> ends an answer; <|endoftext|> a completion.
                eos_ids: vec![2, 0],
            },
        }
    }

    /// A further part of the shipped model's training, which starts from the weights of the one before.
    pub fn further(seed: u64, steps: usize, mix: Mix) -> Self {
        let mut recipe = Self::shipped(seed, steps);
        recipe.mix = mix;
        recipe.short = 128;
        recipe.peak_rate = 2e-3;
        recipe.warmup = (steps / 20).clamp(1, 20);
        recipe.cooldown = steps;
        recipe.context_weight = 0.02;
        recipe
    }

    /// A recipe that shows in seconds that training works; the result is useless.
    pub fn smoke(seed: u64, steps: usize) -> Self {
        let mut recipe = Self::shipped(seed, steps);
        recipe.tokenizer_conversations = 1500;
        recipe.tokens_per_step = 1024;
        recipe
    }

    /// Length of the sequences of a step: mostly short, so that most arithmetic is in the layers, sometimes long,
    /// so that the whole context is trained.
    pub fn sequence_length(&self, step: usize) -> usize {
        match step % 16 {
            15 => 1024,
            7 => 512,
            _ => self.short,
        }
        .min(self.model.max_positions)
        .min(self.tokens_per_step)
    }

    /// Learning rate of a step.
    pub fn rate(&self, step: usize) -> f64 {
        let rising = ((step + 1) as f64 / self.warmup.max(1) as f64).min(1.0);
        let left = self.steps.saturating_sub(step) as f64 / self.cooldown.max(1) as f64;
        let falling = if left >= 1.0 {
            1.0
        } else {
            0.5 - 0.5 * (std::f64::consts::PI * left).cos()
        };
        self.peak_rate * rising * (0.02 + 0.98 * falling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_stays_and_falls() {
        let recipe = Recipe::shipped(1, 1000);
        assert!(recipe.rate(0) < recipe.peak_rate / 10.0);
        assert_eq!(recipe.rate(200), recipe.peak_rate);
        assert!(recipe.rate(999) < recipe.peak_rate / 20.0);
        assert!((401..999).all(|s| recipe.rate(s) >= recipe.rate(s + 1)));
    }
}
