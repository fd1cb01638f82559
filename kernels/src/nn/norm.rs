//! Root mean square norm, forward and backward.
//!
//! Formula: y = g x / r, r = sqrt(mean(x^2) + eps); with u = dy g: dx = (u - x mean(u x) / r^2) / r, dg = sum over rows of
//! dy x / r. Source: Zhang & Sennrich 2019 (section 3). Deviation: none; 1 / r is kept, y is not. Cost: two passes.

use super::math::{dot, tree};
use super::{rows_a_task, wide};
use rayon::prelude::*;

/// A norm over rows of `gain.len()` numbers.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    /// The gain.
    pub gain: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
}

wide! {
    fn forward_rows(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32], inverse: &mut [f32]) {
        let width = gain.len();
        for ((x, out), inverse) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(inverse) {
            let factor = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
            *inverse = factor;
            for i in 0..width {
                out[i] = x[i] * factor * gain[i];
            }
        }
    }
}

wide! {
    fn apply_rows(x: &[f32], gain: &[f32], inverse: &[f32], out: &mut [f32]) {
        let width = gain.len();
        for ((x, out), factor) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(inverse) {
            for i in 0..width {
                out[i] = x[i] * *factor * gain[i];
            }
        }
    }
}

wide! {
    fn backward_rows(x: &[f32], gain: &[f32], inverse: &[f32], gy: &[f32], gx: &mut [f32]) {
        let width = gain.len();
        let rows = x.chunks_exact(width).zip(gy.chunks_exact(width)).zip(gx.chunks_exact_mut(width));
        for (((x, gy), gx), inverse) in rows.zip(inverse) {
            let mut lanes = [0.0f32; 16];
            let (whole_x, rest_x) = x.as_chunks::<16>();
            let (whole_g, rest_g) = gain.as_chunks::<16>();
            let (whole_y, rest_y) = gy.as_chunks::<16>();
            for ((x, g), y) in whole_x.iter().zip(whole_g).zip(whole_y) {
                for i in 0..16 {
                    lanes[i] = (x[i] * g[i]).mul_add(y[i], lanes[i]);
                }
            }
            for (i, ((x, g), y)) in rest_x.iter().zip(rest_g).zip(rest_y).enumerate() {
                lanes[i] = (x * g).mul_add(*y, lanes[i]);
            }
            let pull = tree(lanes) * inverse * inverse / width as f32;
            for i in 0..width {
                gx[i] += (gy[i].mul_add(gain[i], -(x[i] * pull))) * *inverse;
            }
        }
    }
}

impl RmsNorm<'_> {
    /// `out = norm(x)`, and `inverse` of each row, which the way back needs.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn forward(&self, x: &[f32], out: &mut [f32], inverse: &mut [f32]) {
        let width = self.gain.len();
        assert!(x.len() == out.len() && inverse.len() * width == x.len());
        let rows = rows_a_task(width);
        let tasks = x.par_chunks(rows * width).zip(out.par_chunks_mut(rows * width)).zip(inverse.par_chunks_mut(rows));
        tasks.for_each(|((x, out), inverse)| forward_rows(x, self.gain, self.eps, out, inverse));
    }

    /// `out = norm(x)` again, from the kept `inverse`: the same bits.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn again(&self, x: &[f32], inverse: &[f32], out: &mut [f32]) {
        let width = self.gain.len();
        assert!(x.len() == out.len() && inverse.len() * width == x.len());
        let rows = rows_a_task(width);
        let tasks = x.par_chunks(rows * width).zip(out.par_chunks_mut(rows * width)).zip(inverse.par_chunks(rows));
        tasks.for_each(|((x, out), inverse)| apply_rows(x, self.gain, inverse, out));
    }

    /// Add the gradient of x to `gx`, given that of the output.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn backward(&self, x: &[f32], inverse: &[f32], gy: &[f32], gx: &mut [f32]) {
        let width = self.gain.len();
        assert!(x.len() == gx.len() && x.len() == gy.len() && inverse.len() * width == x.len());
        let rows = rows_a_task(width);
        let size = rows * width;
        let tasks =
            x.par_chunks(size).zip(inverse.par_chunks(rows)).zip(gy.par_chunks(size)).zip(gx.par_chunks_mut(size));
        tasks.for_each(|(((x, inverse), gy), gx)| backward_rows(x, self.gain, inverse, gy, gx));
    }
}

/// Add the gradient of the gain: the sum over rows, in order, of `gy x inverse`.
///
/// # Panics
/// When lengths do not fit.
pub fn gain_gradient(x: &[f32], inverse: &[f32], gy: &[f32], ggain: &mut [f32]) {
    let width = ggain.len();
    assert!(x.len() == gy.len() && inverse.len() * width == x.len());
    for ((x, gy), inverse) in x.chunks_exact(width).zip(gy.chunks_exact(width)).zip(inverse) {
        for ((sum, x), gy) in ggain.iter_mut().zip(x).zip(gy) {
            *sum += gy * (x * inverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers};
    use super::*;

    fn reference(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        x.iter().zip(gain).map(|(v, g)| v * g / (mean + eps).sqrt()).collect()
    }

    #[test]
    fn forward_and_backward_against_f64_differences() {
        for width in [5, 16, 67] {
            let (x, gain, gy) = (numbers(width, 1), numbers(width, 2), numbers(width, 3));
            let norm = RmsNorm { gain: &gain, eps: 1e-3 };
            let (mut y, mut inverse) = (vec![0.0; width], vec![0.0]);
            norm.forward(&x, &mut y, &mut inverse);
            let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
            let (x64, gain64) = (wide(&x), wide(&gain));
            close(&y, &reference(&x64, &gain64, 1e-3), 1e-6);
            let mut again = vec![0.0; width];
            norm.again(&x, &inverse, &mut again);
            assert_eq!(y, again);
            let value = |x: &[f64], gain: &[f64]| -> f64 {
                reference(x, gain, 1e-3).iter().zip(&gy).map(|(y, g)| y * f64::from(*g)).sum()
            };
            let slope = |at: usize, of_gain: bool| {
                let moved = |h: f64| {
                    let (mut x, mut gain) = (x64.clone(), gain64.clone());
                    if of_gain {
                        gain[at] += h;
                    } else {
                        x[at] += h;
                    }
                    value(&x, &gain)
                };
                (moved(1e-5) - moved(-1e-5)) / 2e-5
            };
            let (mut gx, mut ggain) = (vec![0.0; width], vec![0.0; width]);
            norm.backward(&x, &inverse, &gy, &mut gx);
            gain_gradient(&x, &inverse, &gy, &mut ggain);
            close(&gx, &(0..width).map(|i| slope(i, false)).collect::<Vec<_>>(), 1e-5);
            close(&ggain, &(0..width).map(|i| slope(i, true)).collect::<Vec<_>>(), 1e-5);
        }
    }
}
