//! The gated activation of the feed-forward part.
//!
//! Formula: y = silu(g) u, silu(g) = g s, s = 1 / (1 + exp(-g)); du = dy g s, dg = dy u s (1 + g (1 - s)). Source: Shazeer
//! 2020, "GLU variants". Cost: one exponential a number, each way.

use super::math::sigmoid;
use super::{TASK, wide};
use rayon::prelude::*;

wide! {
    fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
            *out = g * sigmoid(*g) * u;
        }
    }
}

wide! {
    fn backward(gy: &[f32], gate: &mut [f32], up: &mut [f32]) {
        for ((gy, gate), up) in gy.iter().zip(gate).zip(up) {
            let (g, u) = (*gate, *up);
            let s = sigmoid(g);
            *gate = gy * u * s * g.mul_add(1.0 - s, 1.0);
            *up = gy * g * s;
        }
    }
}

/// `out = silu(gate) up`.
///
/// # Panics
/// When lengths differ.
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len());
    let tasks = out.par_chunks_mut(TASK).zip(gate.par_chunks(TASK)).zip(up.par_chunks(TASK));
    tasks.for_each(|((out, gate), up)| forward(gate, up, out));
}

/// Put the gradients of `gate` and `up` in their places, given that of the output.
///
/// # Panics
/// When lengths differ.
pub fn swiglu_backward(gy: &[f32], gate: &mut [f32], up: &mut [f32]) {
    assert!(gate.len() == gy.len() && up.len() == gy.len());
    let tasks = gy.par_chunks(TASK).zip(gate.par_chunks_mut(TASK)).zip(up.par_chunks_mut(TASK));
    tasks.for_each(|((gy, gate), up)| backward(gy, gate, up));
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers};
    use super::*;

    #[test]
    fn against_f64_differences() {
        let (gate, up, gy) = (numbers(37, 1), numbers(37, 2), numbers(37, 3));
        let value = |g: f64, u: f64| g / (1.0 + (-g).exp()) * u;
        let each = |f: &dyn Fn(f64, f64, f64) -> f64| -> Vec<f64> {
            (0..37).map(|i| f(f64::from(gate[i]) * 8.0, f64::from(up[i]), f64::from(gy[i]))).collect()
        };
        let mut gate8: Vec<f32> = gate.iter().map(|g| g * 8.0).collect();
        let (mut up2, mut out) = (up.clone(), vec![0.0; 37]);
        swiglu(&gate8, &up2, &mut out);
        close(&out, &each(&|g, u, _| value(g, u)), 1e-6);
        swiglu_backward(&gy, &mut gate8, &mut up2);
        close(&gate8, &each(&|g, u, y| y * (value(g + 1e-5, u) - value(g - 1e-5, u)) / 2e-5), 1e-6);
        close(&up2, &each(&|g, _, y| y * value(g, 1.0)), 1e-6);
    }
}
