//! Rotary position angles, with the scalings of long-context Llama models.

use super::config::{ModelConfig, RopeScaling};
use candle_core::{Device, Result, Tensor};

/// Cosines and sines of every position, `[positions, head_dim / 2]` each.
pub(super) struct RopeTable {
    cos: Tensor,
    sin: Tensor,
}

impl RopeTable {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Result<Self> {
        let frequencies = frequencies(config);
        let positions = config.max_positions;
        let angle = |f: fn(f64) -> f64| -> Vec<f32> {
            (0..positions)
                .flat_map(|p| frequencies.iter().map(move |w| f(p as f64 * w) as f32))
                .collect()
        };
        let shape = (positions, frequencies.len());
        Ok(Self {
            cos: Tensor::from_vec(angle(f64::cos), shape, device)?,
            sin: Tensor::from_vec(angle(f64::sin), shape, device)?,
        })
    }

    /// The rows of `positions` (u32).
    pub(super) fn at(&self, positions: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((
            self.cos.index_select(positions, 0)?,
            self.sin.index_select(positions, 0)?,
        ))
    }
}

fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let dim = config.head_dim;
    (0..dim / 2)
        .map(|i| {
            let w = config.rope_theta.powf(-2.0 * i as f64 / dim as f64);
            match config.rope_scaling {
                RopeScaling::None => w,
                RopeScaling::Linear { factor } => w / factor,
                RopeScaling::Llama3 {
                    factor,
                    low,
                    high,
                    original,
                } => {
                    // Long waves are stretched, short ones kept, those between blended.
                    let wavelength = 2.0 * std::f64::consts::PI / w;
                    if wavelength < original / high {
                        w
                    } else if wavelength > original / low {
                        w / factor
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * w / factor + smooth * w
                    }
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_scaling_keeps_short_waves_and_stretches_long_ones() {
        let mut config = ModelConfig::tiny_for_tests();
        config.head_dim = 64;
        config.rope_theta = 500_000.0;
        let plain = frequencies(&config);
        config.rope_scaling = RopeScaling::Llama3 {
            factor: 32.0,
            low: 1.0,
            high: 4.0,
            original: 8192.0,
        };
        let scaled = frequencies(&config);
        assert_eq!(plain[0], scaled[0]);
        assert!((plain[31] / scaled[31] - 32.0).abs() < 1e-9);
        assert!(scaled.windows(2).all(|w| w[0] > w[1]));
    }
}
