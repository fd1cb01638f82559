//! Canonical inner products and squared distances: one definition, the same bits on every instruction set.
//!
//! Definition: 64 lanes start at +0; term `t` is added to lane `t mod 64` by one fused multiply-add (`a_t b_t`, or
//! `d_t d_t` with `d_t = a_t - b_t` rounded to f32); then lanes `l, l+16, l+32, l+48` are added as
//! `(l + l16) + (l32 + l48)` and the 16 sums are halved four times. Bound: relative error of a squared distance at most
//! [`rounding`]`(d)`, absolute error of a dot product at most `rounding(d) |a| |b|`.
//! Cost: d fused multiply-adds.

use crate::Isa;
use crate::simd::scalar;
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2, avx512};

/// Lanes of the canonical sum.
pub(crate) const LANES: usize = 64;

/// Relative rounding bound of a canonical sum of `dim` terms: every term passes at most `dim / 64 + 1` fused additions,
/// 6 tree additions and, for distances, twice the rounding of the difference; one unit is spare for second-order terms.
#[must_use]
pub(crate) fn rounding(dim: usize) -> f32 {
    (dim / LANES + 10) as f32 * (f32::EPSILON / 2.0)
}

/// Canonical inner product of two rows of equal length.
#[must_use]
pub(crate) fn dot(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    match isa {
        // SAFETY: an Isa other than Scalar is only handed out where the CPU has it (`Cpu::with_isa` checks).
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { avx512::dot(a, b) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::dot(a, b) },
        _ => scalar::dot(a, b),
    }
}

/// Canonical squared Euclidean distance of two rows of equal length.
#[must_use]
pub(crate) fn sq_dist(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    match isa {
        // SAFETY: an Isa other than Scalar is only handed out where the CPU has it (`Cpu::with_isa` checks).
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { avx512::sq_dist(a, b) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::sq_dist(a, b) },
        _ => scalar::sq_dist(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;

    fn row(seed: u64, len: usize) -> Vec<f32> {
        (0..len).map(|t| (hash::unit(hash::mix(&[seed, t as u64])) - 0.5) as f32).collect()
    }

    #[test]
    fn three_four_five() {
        for isa in Isa::all().into_iter().filter(|isa| isa.is_available()) {
            assert_eq!(sq_dist(isa, &[0.0, 0.0], &[3.0, 4.0]), 25.0);
            assert_eq!(dot(isa, &[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 32.0);
            assert_eq!(dot(isa, &[], &[]), 0.0);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits_within_the_bound() {
        for len in [1, 2, 15, 16, 17, 63, 64, 65, 100, 127, 128, 200, 384, 1000] {
            let (a, b) = (row(1, len), row(2, len));
            let plain = (scalar::dot(&a, &b), scalar::sq_dist(&a, &b));
            let wide: f64 = a.iter().zip(&b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
            assert!((f64::from(plain.1) - wide).abs() <= f64::from(rounding(len)) * wide, "dim {len}");
            for isa in Isa::all().into_iter().filter(|isa| isa.is_available()) {
                assert_eq!(dot(isa, &a, &b).to_bits(), plain.0.to_bits(), "{isa:?} dim {len}");
                assert_eq!(sq_dist(isa, &a, &b).to_bits(), plain.1.to_bits(), "{isa:?} dim {len}");
            }
        }
    }
}
