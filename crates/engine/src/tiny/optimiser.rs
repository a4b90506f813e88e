//! AdamW in one pass over each parameter, with the gradient's norm limited.

use crate::error::EngineError;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.97;
const EPSILON: f32 = 1e-8;
const WEIGHT_DECAY: f32 = 0.02;
/// Longer gradients are shortened to this norm; one odd batch must not undo many good ones.
const MAX_NORM: f64 = 1.0;

struct Slot {
    var: Var,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// The optimiser and its moments.
pub(super) struct AdamW {
    slots: Vec<Slot>,
    step: i32,
}

impl AdamW {
    pub(super) fn new(vars: impl IntoIterator<Item = Var>) -> Self {
        let slots = vars
            .into_iter()
            .map(|var| {
                let n = var.elem_count();
                Slot {
                    var,
                    first: vec![0.0; n],
                    second: vec![0.0; n],
                }
            })
            .collect();
        Self { slots, step: 0 }
    }

    /// One update; returns the gradient's norm before it was limited.
    pub(super) fn update(&mut self, grads: &GradStore, rate: f64) -> Result<f64, EngineError> {
        self.step += 1;
        let mut flat = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let grad = grads
                .get(&slot.var)
                .ok_or_else(|| candle_core::Error::Msg("a parameter has no gradient".into()))?;
            flat.push(grad.flatten_all()?.to_vec1::<f32>()?);
        }
        let norm = flat
            .iter()
            .flatten()
            .map(|g| f64::from(*g) * f64::from(*g))
            .sum::<f64>()
            .sqrt();
        let shorten = if norm > MAX_NORM {
            (MAX_NORM / norm) as f32
        } else {
            1.0
        };
        let correct1 = 1.0 / (1.0 - BETA1.powi(self.step));
        let correct2 = 1.0 / (1.0 - BETA2.powi(self.step));
        let rate = rate as f32;
        for (slot, grad) in self.slots.iter_mut().zip(&flat) {
            let mut values = slot.var.flatten_all()?.to_vec1::<f32>()?;
            // Norm weights are vectors and are not decayed.
            let decay = if slot.var.rank() > 1 {
                1.0 - rate * WEIGHT_DECAY
            } else {
                1.0
            };
            let moments = slot.first.iter_mut().zip(&mut slot.second);
            for ((value, g), (m, v)) in values.iter_mut().zip(grad).zip(moments) {
                let g = g * shorten;
                *m = BETA1 * *m + (1.0 - BETA1) * g;
                *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                *value =
                    *value * decay - rate * (*m * correct1) / ((*v * correct2).sqrt() + EPSILON);
            }
            slot.var.set(&Tensor::from_vec(
                values,
                slot.var.shape(),
                slot.var.device(),
            )?)?;
        }
        Ok(norm)
    }
}
