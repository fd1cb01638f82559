//! What a fused sweep does to one row, in single and in double precision: one exponential an element gives the row's
//! potential and its share of every column sum.
//!
//! Formula: `p_j = exp(h_j - C_j / eps - max)`, `h = g / eps + log b`. Source: the log-domain update of Sinkhorn (Peyre,
//! Cuturi 2019, section 4.4), rows and columns fused. Deviation: exponents below -87 (-700 in double precision) count as
//! that, so that no column sum is 0. Cost: one exponential an element.
#![expect(clippy::excessive_precision, clippy::unreadable_literal, reason = "constants, as they are printed")]

use crate::nn::math::exp;
use crate::nn::wide;

/// 1 / 13!, 1 / 12!, ... 1.
const TAYLOR: [f64; 14] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// exp(x) in double precision, cut to [-700, 700]; relative error below 1e-15.
#[inline(always)]
pub(super) fn exp64(x: f64) -> f64 {
    // Adding 1.5 * 2^52 rounds to an integer and leaves it in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = if x < -700.0 { -700.0 } else { x };
    let x = if x > 700.0 { 700.0 } else { x };
    let shifted = x.mul_add(std::f64::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-1.90821492927058770002e-10, n.mul_add(-6.93147180369123816490e-1, x));
    let p = TAYLOR.iter().fold(0.0f64, |p, &c| p.mul_add(r, c));
    p * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

macro_rules! softmax_row {
    ($(#[$doc:meta])* $soft:ident, $add:ident, $t:ty, $exp:ident, $lanes:literal) => {
        wide! {
            $(#[$doc])*
            pub(super) fn $soft(h: &[$t], c: &[$t], factor: $t, p: &mut [$t]) -> ($t, $t) {
                const LANES: usize = $lanes;
                let mut top = [<$t>::NEG_INFINITY; LANES];
                let (whole_h, rest_h) = h.as_chunks::<LANES>();
                let (whole_c, rest_c) = c.as_chunks::<LANES>();
                let (whole_p, rest_p) = p.as_chunks_mut::<LANES>();
                for ((h, c), p) in whole_h.iter().zip(whole_c).zip(whole_p.iter_mut()) {
                    for l in 0..LANES {
                        p[l] = c[l].mul_add(factor, h[l]);
                        top[l] = if p[l] > top[l] { p[l] } else { top[l] };
                    }
                }
                for (l, ((h, c), p)) in rest_h.iter().zip(rest_c).zip(rest_p.iter_mut()).enumerate() {
                    *p = c.mul_add(factor, *h);
                    top[l] = if *p > top[l] { *p } else { top[l] };
                }
                let top = top.into_iter().fold(<$t>::NEG_INFINITY, |a, b| if b > a { b } else { a });
                let mut sum = [0.0; LANES];
                for p in whole_p.iter_mut() {
                    for l in 0..LANES {
                        p[l] = $exp(p[l] - top);
                        sum[l] += p[l];
                    }
                }
                for (l, p) in rest_p.iter_mut().enumerate() {
                    *p = $exp(*p - top);
                    sum[l] += *p;
                }
                let mut width = LANES / 2;
                while width > 0 {
                    for l in 0..width {
                        sum[l] += sum[l + width];
                    }
                    width /= 2;
                }
                (top, sum[0])
            }
        }
        wide! {
            /// `sums += scale p`.
            pub(super) fn $add(sums: &mut [$t], p: &[$t], scale: $t) {
                for (s, p) in sums.iter_mut().zip(p) {
                    *s = p.mul_add(scale, *s);
                }
            }
        }
    };
}

softmax_row! {
    /// `p = exp(h + factor c - top)`; returns `top`, the largest exponent, and the sum of `p`.
    softmax32, add32, f32, exp, 16
}
softmax_row! {
    /// The same in double precision.
    softmax64, add64, f64, exp64, 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_close() {
        for i in -69_000..69_000 {
            let x = f64::from(i) / 100.0;
            assert!((exp64(x) / x.exp() - 1.0).abs() < 1e-15, "{x}");
        }
        assert_eq!(exp64(0.0), 1.0);
    }

    #[test]
    fn rows_of_odd_lengths() {
        for m in [1usize, 7, 8, 9, 16, 33] {
            let h: Vec<f64> = (0..m).map(|j| (j * 7 % 5) as f64).collect();
            let c: Vec<f64> = (0..m).map(|j| (j * 3 % 4) as f64).collect();
            let mut p = vec![0.0; m];
            let (top, sum) = softmax64(&h, &c, -2.0, &mut p);
            let expected: f64 = h.iter().zip(&c).map(|(h, c)| (h - 2.0 * c).exp()).sum();
            assert!((top.exp() * sum / expected - 1.0).abs() < 1e-14);
            let narrow = |x: &[f64]| x.iter().map(|&v| v as f32).collect::<Vec<_>>();
            let mut q = vec![0.0; m];
            let (top, sum) = softmax32(&narrow(&h), &narrow(&c), -2.0, &mut q);
            assert!((f64::from(top).exp() * f64::from(sum) / expected - 1.0).abs() < 1e-6);
        }
    }
}
