//! An exponential that compilers turn into vector code.

/// `e^x` to about two units in the last place; 0 below -87 and infinite-free above 88.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Below -87 the result would be subnormal; softmax does not need such numbers.
    let x = x.clamp(-87.0, 88.0);
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer without a call.
    const ROUND: f32 = 12_582_912.0;
    let n = x.mul_add_plain(std::f32::consts::LOG2_E, ROUND) - ROUND;
    // ln 2 in two parts, so that the remainder is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.000_000_3e-1;
    let y = p * r * r + r + 1.0;
    // n is an integer in [-126, 127] here, so the cast is exact.
    y * f32::from_bits((((n as i32) + 127) as u32) << 23)
}

trait MulAddPlain {
    fn mul_add_plain(self, a: f32, b: f32) -> f32;
}

impl MulAddPlain for f32 {
    // `f32::mul_add` is a library call where the target has no fused instruction.
    #[inline(always)]
    fn mul_add_plain(self, a: f32, b: f32) -> f32 {
        self * a + b
    }
}

/// Dot product with eight accumulators, which compilers vectorise.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut acc = [0f32; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (x, y) in a8.iter().zip(b8) {
        for i in 0..8 {
            acc[i] += x[i] * y[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    acc.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_close_to_the_library() {
        let mut x = -86.0f32;
        while x < 87.0 {
            let (ours, theirs) = (super::exp(x), x.exp());
            assert!(
                (ours - theirs).abs() <= theirs * 3e-7,
                "exp({x}) = {ours}, expected {theirs}"
            );
            x += 0.0137;
        }
        assert_eq!(super::exp(0.0), 1.0);
        assert!(super::exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn dot_adds_the_rest() {
        let a: Vec<f32> = (0..19u8).map(f32::from).collect();
        assert_eq!(
            super::dot(&a, &a),
            (0..19).map(|i| (i * i) as f32).sum::<f32>()
        );
    }
}
