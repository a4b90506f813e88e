//! The decoder's element-wise arithmetic as single passes over memory, each with its gradient.
//!
//! candle's composed versions read and write every intermediate, and its fused ones have no backward pass. These
//! run on the CPU in f32; other devices will bring their own kernels behind the same functions.

use super::math::{dot, exp};
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Storage, Tensor,
};

fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::Msg("decoder op needs contiguous input".into()))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

fn with_floats<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(f(floats(cpu, layout)?)),
        _ => Err(Error::Msg("decoder op runs on the CPU only".into())),
    }
}

fn last_dim(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1).max(1)
}

/// Root-mean-square normalisation over the last dimension, times `weight`.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op2(weight, RmsNorm { eps })
}

struct RmsNorm {
    eps: f32,
}

impl RmsNorm {
    fn inverse(&self, row: &[f32]) -> f32 {
        1.0 / (dot(row, row) / row.len() as f32 + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "cocoon-rms-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (floats(s1, l1)?, floats(s2, l2)?);
        let mut out = vec![0f32; x.len()];
        for (row, o) in x.chunks_exact(w.len()).zip(out.chunks_exact_mut(w.len())) {
            let inv = self.inverse(row);
            for ((o, x), w) in o.iter_mut().zip(row).zip(w) {
                *o = x * inv * w;
            }
        }
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (gx, gw) = with_floats(x, |x| {
            with_floats(w, |w| {
                with_floats(grad, |g| {
                    let n = w.len();
                    let mut gx = vec![0f32; x.len()];
                    let mut gw = vec![0f32; n];
                    let mut scaled = vec![0f32; n];
                    for ((x, g), gx) in x
                        .chunks_exact(n)
                        .zip(g.chunks_exact(n))
                        .zip(gx.chunks_exact_mut(n))
                    {
                        let inv = self.inverse(x);
                        for i in 0..n {
                            gw[i] += g[i] * x[i] * inv;
                            scaled[i] = g[i] * w[i];
                        }
                        let mean = dot(&scaled, x) * inv * inv * inv / n as f32;
                        for i in 0..n {
                            gx[i] = scaled[i] * inv - x[i] * mean;
                        }
                    }
                    (gx, gw)
                })
            })
        })???;
        Ok((
            Some(Tensor::from_vec(gx, x.shape(), x.device())?),
            Some(Tensor::from_vec(gw, w.shape(), w.device())?),
        ))
    }
}

/// `silu(gate) * up`.
pub(super) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2(up, SwiGlu)
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "cocoon-swiglu"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (floats(s1, l1)?, floats(s2, l2)?);
        let out = gate
            .iter()
            .zip(up)
            .map(|(g, u)| g / (1.0 + exp(-g)) * u)
            .collect();
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (gg, gu) = with_floats(gate, |gate| {
            with_floats(up, |up| {
                with_floats(grad, |grad| {
                    let mut gg = vec![0f32; gate.len()];
                    let mut gu = vec![0f32; gate.len()];
                    for ((((a, u), g), gg), gu) in
                        gate.iter().zip(up).zip(grad).zip(&mut gg).zip(&mut gu)
                    {
                        let s = 1.0 / (1.0 + exp(-a));
                        *gu = g * a * s;
                        *gg = g * u * s * (1.0 + a * (1.0 - s));
                    }
                    (gg, gu)
                })
            })
        })???;
        Ok((
            Some(Tensor::from_vec(gg, gate.shape(), gate.device())?),
            Some(Tensor::from_vec(gu, up.shape(), up.device())?),
        ))
    }
}

/// Rotates the halves of each head of `x` (`[tokens, heads, dim]`) by the angles of its token (`[tokens, dim/2]`).
pub(super) fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3(cos, sin, Rotate { back: false })
}

struct Rotate {
    back: bool,
}

impl CustomOp3 for Rotate {
    fn name(&self) -> &'static str {
        "cocoon-rope"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, cos, sin) = (floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        let (_, heads, dim) = l1.shape().dims3()?;
        let half = dim / 2;
        let sign = if self.back { -1.0 } else { 1.0 };
        let mut out = vec![0f32; x.len()];
        let tokens = x
            .chunks_exact(heads * dim)
            .zip(out.chunks_exact_mut(heads * dim));
        for ((x, out), (cos, sin)) in tokens.zip(cos.chunks_exact(half).zip(sin.chunks_exact(half)))
        {
            for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
                let (x1, x2) = x.split_at(half);
                let (o1, o2) = out.split_at_mut(half);
                for i in 0..half {
                    let s = sin[i] * sign;
                    o1[i] = x1[i] * cos[i] - x2[i] * s;
                    o2[i] = x2[i] * cos[i] + x1[i] * s;
                }
            }
        }
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad
            .contiguous()?
            .apply_op3_no_bwd(cos, sin, &Rotate { back: !self.back })?;
        Ok((Some(grad), None, None))
    }
}

/// Softmax of `scores * scale` over the keys a query may see.
///
/// `scores` is `[batch, rows, keys]`; row `r` belongs to query `r % queries`, which stands at position
/// `offset + r % queries` and sees the keys up to and including its own.
pub(super) fn causal_softmax(
    scores: &Tensor,
    scale: f32,
    queries: usize,
    offset: usize,
) -> Result<Tensor> {
    scores.apply_op1(CausalSoftmax {
        scale,
        queries,
        offset,
    })
}

struct CausalSoftmax {
    scale: f32,
    queries: usize,
    offset: usize,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "cocoon-causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(storage, layout)?;
        let (_, rows, keys) = layout.shape().dims3()?;
        let mut out = vec![0f32; x.len()];
        for (i, (x, out)) in x
            .chunks_exact(keys)
            .zip(out.chunks_exact_mut(keys))
            .enumerate()
        {
            let seen = (self.offset + (i % rows) % self.queries + 1).min(keys);
            softmax_row(&x[..seen], &mut out[..seen], self.scale);
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, rows, keys) = x.dims3()?;
        let gx = with_floats(res, |res| {
            with_floats(grad, |grad| {
                let mut gx = vec![0f32; res.len()];
                let all = res
                    .chunks_exact(keys)
                    .zip(grad.chunks_exact(keys))
                    .zip(gx.chunks_exact_mut(keys));
                for (i, ((p, g), gx)) in all.enumerate() {
                    let seen = (self.offset + (i % rows) % self.queries + 1).min(keys);
                    let mean = dot(&p[..seen], &g[..seen]);
                    for ((gx, p), g) in gx[..seen].iter_mut().zip(p).zip(g) {
                        *gx = self.scale * p * (g - mean);
                    }
                }
                gx
            })
        })??;
        Ok(Some(Tensor::from_vec(gx, x.shape(), x.device())?))
    }
}

/// Softmax of `x * scale` into `out`; returns the logarithm of the normaliser.
fn softmax_row(x: &[f32], out: &mut [f32], scale: f32) -> f32 {
    let max = x.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v)) * scale;
    for (o, v) in out.iter_mut().zip(x) {
        *o = exp(v * scale - max);
    }
    let mut acc = [0f32; 8];
    let (chunks, rest) = out.as_chunks::<8>();
    for chunk in chunks {
        for i in 0..8 {
            acc[i] += chunk[i];
        }
    }
    let sum = acc.iter().sum::<f32>() + rest.iter().sum::<f32>();
    let inv = 1.0 / sum;
    for o in out.iter_mut() {
        *o *= inv;
    }
    max + sum.ln()
}

/// Weighted mean of the negative log-likelihood of `targets` (u32, `[tokens]`) under `logits` (`[tokens, vocab]`).
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Result<Tensor> {
    logits
        .contiguous()?
        .apply_op3(targets, weights, CrossEntropy)
}

struct CrossEntropy;

fn targets(storage: &CpuStorage, layout: &Layout) -> Result<Vec<u32>> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::Msg("targets must be contiguous".into()))?;
    Ok(storage.as_slice::<u32>()?[start..end].to_vec())
}

impl CustomOp3 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cocoon-cross-entropy"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, targets, weights) = (floats(s1, l1)?, targets(s2, l2)?, floats(s3, l3)?);
        let vocab = last_dim(l1);
        let mut scratch = vec![0f32; vocab];
        let (mut loss, mut total) = (0f64, 0f64);
        for ((row, target), weight) in x.chunks_exact(vocab).zip(&targets).zip(weights) {
            let wanted = row
                .get(*target as usize)
                .ok_or_else(|| Error::Msg(format!("target {target} of {vocab}")))?;
            loss += f64::from(*weight) * f64::from(softmax_row(row, &mut scratch, 1.0) - wanted);
            total += f64::from(*weight);
        }
        Ok((
            CpuStorage::F32(vec![(loss / total.max(1e-9)) as f32]),
            Shape::from(()),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        target: &Tensor,
        weight: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (rows, vocab) = x.dims2()?;
        let target = target.to_vec1::<u32>()?;
        let weight = weight.to_vec1::<f32>()?;
        let factor = grad.to_scalar::<f32>()? / weight.iter().sum::<f32>().max(1e-9);
        let gx = with_floats(x, |x| {
            let mut gx = vec![0f32; rows * vocab];
            for (i, (row, gx)) in x
                .chunks_exact(vocab)
                .zip(gx.chunks_exact_mut(vocab))
                .enumerate()
            {
                softmax_row(row, gx, 1.0);
                gx[target[i] as usize] -= 1.0;
                let factor = factor * weight[i];
                for g in gx.iter_mut() {
                    *g *= factor;
                }
            }
            gx
        })?;
        Ok((
            Some(Tensor::from_vec(gx, (rows, vocab), x.device())?),
            None,
            None,
        ))
    }
}

#[cfg(test)]
#[path = "ops_tests.rs"]
mod tests;
