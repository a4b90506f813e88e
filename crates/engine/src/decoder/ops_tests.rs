//! Each fused operation against candle's composed arithmetic, forwards and backwards.

use super::*;
use candle_core::{D, Device, Var};

fn data(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

fn var(shape: &[usize], seed: u32) -> Var {
    let n = shape.iter().product();
    Var::from_vec(data(n, seed), shape, &Device::Cpu).unwrap()
}

fn close(a: &Tensor, b: &Tensor) {
    assert_eq!(a.dims(), b.dims());
    let worst = (a - b)
        .unwrap()
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap()
        .max(0)
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    assert!(worst < 2e-5, "differs by {worst}");
}

/// Compares values and the gradients of a weighted sum.
fn same(ours: &Tensor, theirs: &Tensor, vars: &[&Var]) {
    close(ours, theirs);
    let weights = Tensor::from_vec(data(ours.elem_count(), 9), ours.shape(), &Device::Cpu).unwrap();
    let a = (ours * &weights)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let b = (theirs * &weights)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    for v in vars {
        close(a.get(v).unwrap(), b.get(v).unwrap());
    }
}

#[test]
fn rms_norm_matches_composition() {
    let (x, w) = (var(&[5, 24], 1), var(&[24], 2));
    let ours = rms_norm(&x, &w, 1e-5).unwrap();
    let mean = (x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap() + 1e-5).unwrap();
    let theirs = x
        .broadcast_div(&mean.sqrt().unwrap())
        .unwrap()
        .broadcast_mul(&w)
        .unwrap();
    same(&ours, &theirs, &[&x, &w]);
}

#[test]
fn swiglu_matches_composition() {
    let (g, u) = (var(&[3, 17], 1), var(&[3, 17], 2));
    let theirs = (g.silu().unwrap() * u.as_tensor()).unwrap();
    same(&swiglu(&g, &u).unwrap(), &theirs, &[&g, &u]);
}

#[test]
fn rotation_matches_composition() {
    let x = var(&[4, 2, 6], 1);
    let (cos, sin) = (var(&[4, 3], 3), var(&[4, 3], 4));
    let (x1, x2) = (x.narrow(2, 0, 3).unwrap(), x.narrow(2, 3, 3).unwrap());
    let (c, s) = (
        cos.detach().unsqueeze(1).unwrap(),
        sin.detach().unsqueeze(1).unwrap(),
    );
    let mul = |a: &Tensor, b: &Tensor| a.broadcast_mul(b).unwrap();
    let o1 = (mul(&x1, &c) - mul(&x2, &s)).unwrap();
    let o2 = (mul(&x2, &c) + mul(&x1, &s)).unwrap();
    let theirs = Tensor::cat(&[o1, o2], 2).unwrap();
    same(
        &rotate(&x, &cos.detach(), &sin.detach()).unwrap(),
        &theirs,
        &[&x],
    );
}

#[test]
fn causal_softmax_matches_composition() {
    let (queries, keys, offset) = (3, 5, 2);
    let x = var(&[2, 6, 5], 1);
    let mask: Vec<f32> = (0..6)
        .flat_map(|r| (0..keys).map(move |k| if k <= offset + r % queries { 0.0 } else { -1e9 }))
        .collect();
    let mask = Tensor::from_vec(mask, (1, 6, keys), &Device::Cpu).unwrap();
    let theirs = (x.as_tensor() * 0.5).unwrap().broadcast_add(&mask).unwrap();
    let theirs = candle_nn::ops::softmax(&theirs, D::Minus1).unwrap();
    same(
        &causal_softmax(&x, 0.5, queries, offset).unwrap(),
        &theirs,
        &[&x],
    );
}

#[test]
fn cross_entropy_matches_composition() {
    let x = var(&[4, 11], 1);
    let target = Tensor::new(&[3u32, 0, 10, 5], &Device::Cpu).unwrap();
    let weight = Tensor::new(&[1f32, 0.5, 0.0, 2.0], &Device::Cpu).unwrap();
    let ours = cross_entropy(&x, &target, &weight).unwrap();
    let picked = candle_nn::ops::log_softmax(&x, 1)
        .unwrap()
        .gather(&target.unsqueeze(1).unwrap(), 1)
        .unwrap();
    let theirs = (picked.squeeze(1).unwrap() * &weight)
        .unwrap()
        .sum_all()
        .unwrap();
    let theirs = (theirs / -3.5).unwrap();
    same(&ours, &theirs, &[&x]);
}
