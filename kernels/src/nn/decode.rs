//! Attention of one new token of each sequence over what its cache holds: the step of generation.
//!
//! Formula and source as in `attention`. Cost: 4 T d operations a head, memory T numbers a thread.

use super::math::{dot, exp_in_place, largest};
use super::{Shared, wide};
use rayon::prelude::*;

/// Shape of the heads, and how far back a token sees.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How many tokens back a query sees, itself included.
    pub window: Option<usize>,
}

wide! {
    fn one(q: &[f32], keys: &[f32], values: &[f32], stride: usize, out: &mut [f32]) {
        let dim = q.len();
        let scale = 1.0 / (dim as f32).sqrt();
        let mut scores: Vec<f32> = keys.chunks(stride).map(|key| dot(q, &key[..dim])).collect();
        let max = largest(&scores) * scale;
        let inverse = 1.0 / exp_in_place(&mut scores, scale, max);
        out.fill(0.0);
        for (value, p) in values.chunks(stride).zip(&scores) {
            for (out, v) in out.iter_mut().zip(&value[..dim]) {
                *out = p.mul_add(*v, *out);
            }
        }
        for out in out {
            *out *= inverse;
        }
    }
}

/// `out[i] = attention of q[i] over caches[i]`; a cache is keys and values, `[tokens, kv_heads * head_dim]` each, the new
/// token's among them.
///
/// # Panics
/// When lengths do not fit.
pub fn attend(step: Step, q: &[f32], caches: &[(&[f32], &[f32])], out: &mut [f32]) {
    let (dim, width, stride) = (step.head_dim, step.heads * step.head_dim, step.kv_heads * step.head_dim);
    assert!(q.len() == caches.len() * width && out.len() == q.len());
    let shared = Shared::new(out);
    (0..caches.len() * step.heads).into_par_iter().for_each(|task| {
        let (sequence, head) = (task / step.heads, task % step.heads);
        let (keys, values) = caches[sequence];
        let skip = step.window.map_or(0, |window| (keys.len() / stride).saturating_sub(window)) * stride;
        let at = skip + head / (step.heads / step.kv_heads) * dim;
        let place = sequence * width + head * dim;
        // SAFETY: one head of one sequence belongs to one task.
        let out = unsafe { shared.slice(place, dim) };
        one(&q[place..place + dim], &keys[at..], &values[at..], stride, out);
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers};
    use super::super::{Attention, Seen};
    use super::*;

    #[test]
    fn the_last_row_of_full_attention() {
        for window in [None, Some(3)] {
            let (heads, kv_heads, head_dim, n) = (4, 2, 6, 9);
            let (q, k, v) = (numbers(n * 24, 1), numbers(n * 12, 2), numbers(n * 12, 3));
            let (mut full, mut lse) = (vec![0.0; n * 24], vec![0.0; n * heads]);
            let segments = vec![0..n; 1];
            let attention = Attention { segments: &segments, heads, kv_heads, head_dim, window };
            attention.forward(Seen { q: &q, k: &k, v: &v }, &mut full, &mut lse);
            let mut out = vec![0.0; 24];
            attend(Step { heads, kv_heads, head_dim, window }, &q[(n - 1) * 24..], &[(&k, &v)], &mut out);
            let expected: Vec<f64> = full[(n - 1) * 24..].iter().map(|x| f64::from(*x)).collect();
            close(&out, &expected, 1e-6);
        }
    }
}
