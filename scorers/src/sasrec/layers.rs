//! The layers of the recommender, forward and backward, over the rows of one sequence. Matrices are row-major, `width` wide.

#![allow(clippy::many_single_char_names)] // reason: as in the papers

use crate::linear::{dot, usize_f64};

/// Added to a variance before its root.
const EPSILON: f64 = 1e-8;

/// `x W`.
pub(super) fn times(x: &[f64], weight: &[f64], width: usize) -> Vec<f64> {
    let mut out = vec![0.0; x.len()];
    for (row, to) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        row.iter().zip(weight.chunks_exact(width)).for_each(|(&v, w)| add_scaled(to, v, w));
    }
    out
}

/// `to += factor * from`.
pub(super) fn add_scaled(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += factor * f);
}

/// The gradient of `x` below `x W`.
pub(super) fn times_back(dy: &[f64], weight: &[f64], width: usize) -> Vec<f64> {
    dy.chunks_exact(width).flat_map(|row| weight.chunks_exact(width).map(move |w| dot(row, w))).collect()
}

/// Add the gradient of `W` in `x W`: `x^T dy`.
pub(super) fn add_outer(to: &mut [f64], x: &[f64], dy: &[f64], width: usize) {
    for (row, d) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
        row.iter().zip(to.chunks_exact_mut(width)).for_each(|(&v, t)| add_scaled(t, v, d));
    }
}

/// Rows of mean 0 and variance 1, and what they were divided by, inverted.
pub(super) struct Normed {
    hat: Vec<f64>,
    inverse: Vec<f64>,
}

impl Normed {
    pub(super) fn of(x: &[f64], width: usize) -> Self {
        let (mut hat, mut inverse) = (x.to_vec(), Vec::with_capacity(x.len() / width));
        for row in hat.chunks_exact_mut(width) {
            let mean = row.iter().sum::<f64>() / usize_f64(width);
            row.iter_mut().for_each(|v| *v -= mean);
            let factor = (dot(row, row) / usize_f64(width) + EPSILON).sqrt().recip();
            row.iter_mut().for_each(|v| *v *= factor);
            inverse.push(factor);
        }
        Self { hat, inverse }
    }

    /// `gain * hat + bias`.
    pub(super) fn scaled(&self, gain: &[f64], bias: &[f64]) -> Vec<f64> {
        let row = |hat: &[f64]| hat.iter().zip(gain).zip(bias).map(|((h, g), b)| h * g + b).collect::<Vec<_>>();
        self.hat.chunks_exact(gain.len()).flat_map(row).collect()
    }

    /// The gradient below, from the gradient of [`Normed::scaled`].
    pub(super) fn back(&self, gain: &[f64], dy: &[f64]) -> Vec<f64> {
        let (width, mut out) = (gain.len(), Vec::with_capacity(dy.len()));
        for ((hat, dy), factor) in self.hat.chunks_exact(width).zip(dy.chunks_exact(width)).zip(&self.inverse) {
            let d: Vec<f64> = dy.iter().zip(gain).map(|(d, g)| d * g).collect();
            let (mean, along) = (d.iter().sum::<f64>() / usize_f64(width), dot(&d, hat) / usize_f64(width));
            out.extend(d.iter().zip(hat).map(|(d, h)| factor * (d - mean - h * along)));
        }
        out
    }

    /// Add the gradients of gain and bias.
    pub(super) fn add_back(&self, gain: &mut [f64], bias: &mut [f64], dy: &[f64]) {
        let width = gain.len();
        for (hat, dy) in self.hat.chunks_exact(width).zip(dy.chunks_exact(width)) {
            gain.iter_mut().zip(hat.iter().zip(dy)).for_each(|(g, (h, d))| *g += h * d);
            add_scaled(bias, 1.0, dy);
        }
    }
}

/// Attention of each row to itself and those before it, one head.
pub(super) struct Attention {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// Shares of row `i` over rows `0..=i`, one row after another.
    shares: Vec<Vec<f64>>,
    /// What each row gathers.
    pub(super) context: Vec<f64>,
    width: usize,
}

impl Attention {
    pub(super) fn of(q: Vec<f64>, k: Vec<f64>, v: Vec<f64>, width: usize) -> Self {
        let scale = usize_f64(width).sqrt().recip();
        let mut context = vec![0.0; q.len()];
        let mut shares = Vec::with_capacity(q.len() / width);
        for (i, (row, to)) in q.chunks_exact(width).zip(context.chunks_exact_mut(width)).enumerate() {
            let share = softmax(k.chunks_exact(width).take(i + 1).map(|key| scale * dot(row, key)).collect());
            share.iter().zip(v.chunks_exact(width)).for_each(|(&s, value)| add_scaled(to, s, value));
            shares.push(share);
        }
        Self { q, k, v, shares, context, width }
    }

    /// Gradients of `q`, `k` and `v` from that of the context.
    pub(super) fn back(&self, dc: &[f64]) -> [Vec<f64>; 3] {
        let (width, scale) = (self.width, usize_f64(self.width).sqrt().recip());
        let (mut dq, mut dk, mut dv) = (vec![0.0; dc.len()], vec![0.0; dc.len()], vec![0.0; dc.len()]);
        for (i, (share, d)) in self.shares.iter().zip(dc.chunks_exact(width)).enumerate() {
            let row = i * width..(i + 1) * width;
            let ds: Vec<f64> = self.v.chunks_exact(width).take(i + 1).map(|value| dot(d, value)).collect();
            let mean = dot(&ds, share);
            for (j, (&s, &g)) in share.iter().zip(&ds).enumerate() {
                let (other, slope) = (j * width..(j + 1) * width, scale * s * (g - mean));
                add_scaled(&mut dv[other.clone()], s, d);
                add_scaled(&mut dq[row.clone()], slope, &self.k[other.clone()]);
                add_scaled(&mut dk[other], slope, &self.q[row.clone()]);
            }
        }
        [dq, dk, dv]
    }
}

fn softmax(mut scores: Vec<f64>) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores.iter_mut().for_each(|s| *s = (*s - largest).exp());
    let total: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|s| *s /= total);
    scores
}
