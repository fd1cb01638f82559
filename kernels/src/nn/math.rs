//! Exponentials and sums over a row, for bodies that are inlined where the vector instructions are switched on.
//!
//! Formula: exp(x) = 2^n p(r), x = n ln 2 + r, p the Taylor polynomial of degree 7 on |r| <= ln 2 / 2. Source: the
//! definitions (ln 2 in two parts after Cody and Waite). Deviation: arguments are cut to [-87, 88]; NaN stays NaN.
//! Error below 2e-7 relative. Cost: 12 fused operations.
#![expect(clippy::excessive_precision, clippy::unreadable_literal, reason = "constants, as they are printed")]

/// Lanes of every sum.
pub(crate) const LANES: usize = 16;

/// exp(x).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(2.12194440e-4, n.mul_add(-0.693359375, x));
    let p = (1.0f32 / 5040.0).mul_add(r, 1.0 / 720.0);
    let p = p.mul_add(r, 1.0 / 120.0);
    let p = p.mul_add(r, 1.0 / 24.0);
    let p = p.mul_add(r, 1.0 / 6.0);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r, 1.0);
    let p = p.mul_add(r, 1.0);
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// 1 / (1 + exp(-x)).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The lanes, added as a fixed tree.
#[inline(always)]
pub(crate) fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Inner product.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (whole_a, rest_a) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (x, y) in whole_a.iter().zip(whole_b) {
        for i in 0..LANES {
            lanes[i] = x[i].mul_add(y[i], lanes[i]);
        }
    }
    for (i, (x, y)) in rest_a.iter().zip(rest_b).enumerate() {
        lanes[i] = x.mul_add(*y, lanes[i]);
    }
    tree(lanes)
}

/// The largest number; NaN is passed over.
#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for x in whole {
        for i in 0..LANES {
            lanes[i] = if x[i] > lanes[i] { x[i] } else { lanes[i] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max })
}

/// `row = exp(scale row - shift)` in place; returns the sum.
#[inline(always)]
pub(super) fn exp_in_place(row: &mut [f32], scale: f32, shift: f32) -> f32 {
    let (whole, rest) = row.as_chunks_mut::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for x in whole {
        for i in 0..LANES {
            x[i] = exp(x[i].mul_add(scale, -shift));
            lanes[i] += x[i];
        }
    }
    for (i, x) in rest.iter_mut().enumerate() {
        *x = exp(x.mul_add(scale, -shift));
        lanes[i] += *x;
    }
    tree(lanes)
}

/// Sum of exp(x - shift).
#[inline(always)]
pub(super) fn exp_sum(row: &[f32], shift: f32) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for x in whole {
        for i in 0..LANES {
            lanes[i] += exp(x[i] - shift);
        }
    }
    for (i, x) in rest.iter().enumerate() {
        lanes[i] += exp(*x - shift);
    }
    tree(lanes)
}

/// `row *= factor`.
#[inline(always)]
pub(super) fn scale(row: &mut [f32], factor: f32) {
    for x in row {
        *x *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_and_keeps_nan() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2e-7, "{x}: {found} is not {expected}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
    }

    #[test]
    fn sums_of_odd_lengths() {
        for len in [0, 1, 15, 16, 17, 40] {
            let row: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let expected: f32 = row.iter().map(|x| x * x).sum();
            assert_eq!(dot(&row, &row), expected);
            assert_eq!(largest(&row), if len == 0 { f32::NEG_INFINITY } else { len as f32 - 1.0 });
        }
    }
}
