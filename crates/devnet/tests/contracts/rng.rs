//! Random numbers that follow from a seed alone (SplitMix64).

/// A generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of one step of one sequence.
    pub fn new(seed: u64, step: u64) -> Self {
        let mut rng = Self(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step.wrapping_mul(0xd1b5_4a32_d192_ed03),
        );
        rng.next();
        rng
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True `n` times in a hundred.
    pub fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// An amount up to `most`, small ones as likely as large ones.
    pub fn coins(&mut self, most: u128) -> u128 {
        let bits = 128 - most.leading_zeros();
        let width = self.below(u64::from(bits) + 1) as u32;
        let wide = u128::from(self.next()) << 64 | u128::from(self.next());
        (if width == 0 { 0 } else { wide >> (128 - width) }).min(most)
    }
}
