//! Trains the tiny model: initial weights, batches, steps.

use super::corpus::{Conversation, Corpus, END_OF_TEXT, IM_END, IM_START, Mix};
use super::optimiser::AdamW;
use super::recipe::Recipe;
use crate::decoder::{Decoder, ModelConfig, Weights, cross_entropy, layout};
use crate::error::EngineError;
use candle_core::{Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::Tokenizer;

/// Keeps the held-out conversations apart from those of training.
const HELD_OUT: u64 = 0x6865_6c64;

/// A model in training.
pub struct Trainer {
    recipe: Recipe,
    tokenizer: Tokenizer,
    special: Special,
    vars: Vec<(String, Var)>,
    decoder: Decoder,
    optimiser: AdamW,
    corpus: Corpus,
    step: usize,
}

/// What one step did.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Weighted loss of this step's batch, nats a token.
    pub loss: f32,
    /// The gradient's norm.
    pub norm: f64,
    /// Tokens of this step.
    pub tokens: usize,
}

/// Loss on conversations that were not trained on.
#[derive(Debug, Clone, Copy)]
pub struct HeldOut {
    /// Bits for each byte of the assistant's answers.
    pub answer_bits_per_byte: f64,
    /// Bits for each byte of all text, with the system's and user's turns, which are partly random.
    pub bits_per_byte: f64,
}

#[derive(Clone, Copy)]
struct Special {
    end_of_text: u32,
    im_start: u32,
    im_end: u32,
}

impl Trainer {
    /// Starts from seeded random weights.
    pub fn new(recipe: Recipe, tokenizer: Tokenizer) -> Result<Self, EngineError> {
        let id = |text: &str| {
            tokenizer
                .token_to_id(text)
                .ok_or_else(|| EngineError::Option {
                    option: "tokenizer",
                    problem: format!("it has no token {text}"),
                })
        };
        let special = Special {
            end_of_text: id(END_OF_TEXT)?,
            im_start: id(IM_START)?,
            im_end: id(IM_END)?,
        };
        let vars = initial(&recipe.model, recipe.seed)?;
        let tensors: HashMap<String, Tensor> = vars
            .iter()
            .map(|(n, v)| (n.clone(), v.as_tensor().clone()))
            .collect();
        let decoder = Decoder::new(recipe.model.clone(), Weights::from_map("training", tensors))?;
        let optimiser = AdamW::new(vars.iter().map(|(_, v)| v.clone()));
        let corpus = Corpus::new(recipe.seed, recipe.mix);
        Ok(Self {
            recipe,
            tokenizer,
            special,
            vars,
            decoder,
            optimiser,
            corpus,
            step: 0,
        })
    }

    /// Continues from the weights in a model directory of the same shape.
    pub fn start_from(&mut self, dir: &Path) -> Result<(), EngineError> {
        let mut weights = Weights::read(dir)?;
        for (name, var) in &self.vars {
            var.set(&weights.take(name, var.dims())?)?;
        }
        Ok(())
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Starts the falling part of the learning rate now; the recipe's number of steps shrinks to fit.
    pub fn cool_down_now(&mut self) {
        let left = self.recipe.cooldown.min(self.step).max(1);
        self.recipe.steps = self.recipe.steps.min(self.step + left);
        self.recipe.cooldown = left;
    }

    /// Steps done so far.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// Whether all steps are done.
    pub fn finished(&self) -> bool {
        self.step >= self.recipe.steps
    }

    /// One optimiser step.
    pub fn train_step(&mut self) -> Result<Progress, EngineError> {
        let length = self.recipe.sequence_length(self.step);
        let rows = (self.recipe.tokens_per_step / length).max(1);
        let batch = self.batch(rows, length)?;
        let logits = self.decoder.forward(&batch.ids)?;
        let loss = cross_entropy(&logits, &batch.targets, &batch.weights)?;
        let grads = loss.backward()?;
        let norm = self.optimiser.update(&grads, self.recipe.rate(self.step))?;
        self.step += 1;
        Ok(Progress {
            step: self.step,
            loss: loss.to_scalar()?,
            norm,
            tokens: rows * length,
        })
    }

    /// The weights by name, in a fixed order.
    pub fn weights(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.vars.iter().map(|(n, v)| (n.as_str(), v.as_tensor()))
    }

    /// Loss on `conversations` held-out conversations.
    pub fn held_out(&self, conversations: usize) -> Result<HeldOut, EngineError> {
        let mut corpus = Corpus::new(self.recipe.seed ^ HELD_OUT, Mix::Broad);
        let (mut answer_nats, mut answer_bytes, mut nats, mut bytes) = (0f64, 0usize, 0f64, 0usize);
        for _ in 0..conversations {
            let conversation = corpus.conversation();
            for turn in &conversation.turns {
                bytes += turn.content.len();
                if turn.role == "assistant" {
                    answer_bytes += turn.content.len();
                }
            }
            let (ids, weights) = self.encode(&conversation)?;
            let n = (ids.len() - 1).min(self.recipe.model.max_positions);
            let input = Tensor::from_slice(&ids[..n], (1, n), &Device::Cpu)?;
            let targets = Tensor::from_slice(&ids[1..=n], n, &Device::Cpu)?;
            let logits = self.decoder.forward(&input)?.detach();
            let add = |mask: Vec<f32>, total: &mut f64| -> Result<(), EngineError> {
                let count: f32 = mask.iter().sum();
                let mask = Tensor::from_vec(mask, n, &Device::Cpu)?;
                *total +=
                    f64::from(cross_entropy(&logits, &targets, &mask)?.to_scalar::<f32>()? * count);
                Ok(())
            };
            add(
                weights[1..=n]
                    .iter()
                    .map(|w| if *w == 1.0 { 1.0 } else { 0.0 })
                    .collect(),
                &mut answer_nats,
            )?;
            add(vec![1.0; n], &mut nats)?;
        }
        let per_byte =
            |nats: f64, bytes: usize| nats / std::f64::consts::LN_2 / bytes.max(1) as f64;
        Ok(HeldOut {
            answer_bits_per_byte: per_byte(answer_nats, answer_bytes),
            bits_per_byte: per_byte(nats, bytes),
        })
    }

    /// Token ids of a conversation with its separator, and the loss weight of predicting each.
    fn encode(&self, conversation: &Conversation) -> Result<(Vec<u32>, Vec<f32>), EngineError> {
        let mut ids = Vec::new();
        let mut weights = Vec::new();
        let context = self.recipe.context_weight;
        for turn in &conversation.turns {
            // The same split as tokenizing the rendered template: special tokens cut the text.
            let head = self.tokens(&format!("{}\n", turn.role))?;
            let body = self.tokens(&format!("{}\n{}", turn.role, turn.content))?;
            ids.push(self.special.im_start);
            weights.push(context);
            let answer = if turn.role == "assistant" {
                1.0
            } else {
                context
            };
            weights.extend((0..body.len()).map(|i| if i < head.len() { context } else { answer }));
            ids.extend(body);
            ids.push(self.special.im_end);
            weights.push(answer);
            let newline = self.tokens("\n")?;
            weights.extend(newline.iter().map(|_| context));
            ids.extend(newline);
        }
        ids.push(self.special.end_of_text);
        weights.push(context);
        Ok((ids, weights))
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let encoding =
            self.tokenizer
                .encode_fast(text, false)
                .map_err(|e| EngineError::Option {
                    option: "tokenizer",
                    problem: e.to_string(),
                })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Rows of whole conversations; the last of a row is cut.
    fn batch(&mut self, rows: usize, length: usize) -> Result<Batch, EngineError> {
        let (mut ids, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rows {
            let (mut row, mut row_weights) = (Vec::new(), Vec::new());
            while row.len() < length + 1 {
                let conversation = self.corpus.conversation();
                let (more, more_weights) = self.encode(&conversation)?;
                row.extend(more);
                row_weights.extend(more_weights);
            }
            ids.extend_from_slice(&row[..length]);
            targets.extend_from_slice(&row[1..=length]);
            weights.extend_from_slice(&row_weights[1..=length]);
        }
        Ok(Batch {
            ids: Tensor::from_vec(ids, (rows, length), &Device::Cpu)?,
            targets: Tensor::from_vec(targets, rows * length, &Device::Cpu)?,
            weights: Tensor::from_vec(weights, rows * length, &Device::Cpu)?,
        })
    }
}

struct Batch {
    ids: Tensor,
    targets: Tensor,
    weights: Tensor,
}

/// Seeded first weights: ones for norms, otherwise near-normal with deviation 0.02, smaller where a layer adds to
/// the residual stream.
fn initial(config: &ModelConfig, seed: u64) -> Result<Vec<(String, Var)>, EngineError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let residual = 1.0 / ((2 * config.layers) as f32).sqrt();
    layout(config)
        .into_iter()
        .map(|(name, shape)| {
            let n = shape.iter().product();
            let values: Vec<f32> = if name.ends_with("norm.weight") {
                vec![1.0; n]
            } else {
                let scale = if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight")
                {
                    residual
                } else {
                    1.0
                };
                // A sum of twelve uniform numbers is nearly normal and, unlike a logarithm, equal everywhere.
                let normal =
                    |rng: &mut ChaCha8Rng| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
                (0..n).map(|_| normal(&mut rng) * 0.02 * scale).collect()
            };
            Ok((name, Var::from_vec(values, shape, &Device::Cpu)?))
        })
        .collect()
}
