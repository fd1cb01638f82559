//! The parts of a training step, timed at its shapes: 2048 tokens, width 256, 8 heads of 32, vocabulary 8000.
//!
//! `cargo bench -p curate-kernels --bench nn`, threads by `RAYON_NUM_THREADS`. Prints milliseconds and GFLOP/s.
#![allow(clippy::cast_precision_loss, clippy::many_single_char_names)] // reason: sizes become rates; names of formulas

use curate_kernels::nn::{Attention, Mat, MatMut, RmsNorm, Seen, TokenLoss, cross_entropy, gemm, swiglu};
use std::time::Instant;

fn time(name: &str, operations: f64, mut run: impl FnMut()) {
    run();
    let mut best = f64::MAX;
    for _ in 0..7 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{name:<36} {:>9.3} ms {:>8.1} GFLOP/s", best * 1e3, operations / best / 1e9);
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect()
}

fn product(name: &str, (m, k, n): (usize, usize, usize), transposed: (bool, bool)) {
    let (a, b, mut c) = (numbers(m * k), numbers(k * n), numbers(m * n));
    let left = if transposed.0 { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
    let right = if transposed.1 { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
    time(&format!("{name} {m}x{k}x{n}"), 2.0 * (m * k * n) as f64, || {
        gemm(MatMut::new(&mut c, m, n), 0.0, 1.0, left, right);
    });
}

fn attention() {
    let (tokens, heads, head_dim) = (2048, 8, 32);
    let segments: Vec<_> = (0..8).map(|i| i * 256..(i + 1) * 256).collect();
    let attention = Attention { segments: &segments, heads, kv_heads: heads, head_dim, window: None };
    let x = numbers(tokens * heads * head_dim);
    let seen = Seen { q: &x, k: &x, v: &x };
    let (mut out, mut lse) = (x.clone(), vec![0.0; tokens * heads]);
    let pairs = (tokens * 257 / 2 * heads * head_dim) as f64;
    time("attention forward", 4.0 * pairs, || attention.forward(seen, &mut out, &mut lse));
    let mut grads = [x.clone(), x.clone(), x.clone()];
    time("attention backward", 10.0 * pairs, || {
        let [gq, gk, gv] = &mut grads;
        attention.backward(seen, (&out, &lse), &x, [gq, gk, gv]);
    });
}

fn main() {
    println!("threads {}", rayon::current_num_threads());
    let (forward, back, weight) = ((false, true), (false, false), (true, false));
    for (k, n) in [(256, 256), (256, 688), (688, 256)] {
        product("y = x W^T", (2048, k, n), forward);
        product("gx = g W", (2048, n, k), back);
        product("gW = g^T x", (n, 2048, k), weight);
    }
    product("low = x A^T", (2048, 256, 8), forward);
    product("y = low B^T", (2048, 8, 256), forward);
    product("low = g B", (2048, 256, 8), back);
    product("gA = low^T x", (8, 2048, 256), weight);
    product("gB = g^T low", (256, 2048, 8), weight);
    for rows in [128, 256, 512, 1024] {
        product("logits = h W^T", (rows, 256, 8000), forward);
        product("gh = g W", (rows, 8000, 256), back);
    }
    attention();
    let (x, gate, mut y) = (numbers(2048 * 688), numbers(2048 * 688), numbers(2048 * 688));
    time("swiglu", 0.0, || swiglu(&gate, &x, &mut y));
    let (gain, mut inverse) = (numbers(256), vec![0.0; 2048]);
    let norm = RmsNorm { gain: &gain, eps: 1e-6 };
    time("norm", 0.0, || norm.forward(&x[..2048 * 256], &mut y[..2048 * 256], &mut inverse));
    let (mut logits, labels, mut losses) = (numbers(256 * 8000), vec![7; 256], vec![TokenLoss::default(); 256]);
    time("cross entropy 256x8000", 0.0, || cross_entropy(&mut logits, &labels, Some(1.0), &mut losses));
}
