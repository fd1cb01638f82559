//! Random numbers without stored state: a stream is named by (seed, label path, row), so that neither threads nor chunks
//! nor the order of rows can change what a row draws.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// One named stream of random numbers.
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The stream of `row` under a 256-bit `key` derived from seed and label path.
    pub(crate) fn new(key: [u8; 32], row: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(row);
        Self(rng)
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in the open interval (0, 1), 53 bits: never 0, never 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64")]
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard Gumbel variate: `-ln(-ln u)`.
    pub fn gumbel(&mut self) -> f64 {
        -(-self.uniform().ln()).ln()
    }

    /// Uniform integer in `0..n` without modulo bias (Lemire's multiply-and-reject).
    ///
    /// # Panics
    /// When `n` is 0.
    #[expect(clippy::cast_possible_truncation, reason = "the high and low halves of a 128-bit product")]
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "an empty range has no member");
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.bits()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_row_and_repeat_by_name() {
        let first = |row| Rng::new([7; 32], row).bits();
        assert_eq!(first(3), first(3));
        assert_ne!(first(3), first(4));
    }

    #[test]
    fn uniform_stays_open_and_below_covers() {
        let mut rng = Rng::new([1; 32], 0);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            let u = rng.uniform();
            assert!(u > 0.0 && u < 1.0);
            seen[usize::try_from(rng.below(7)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
    }
}
