//! Nuclear norms of logits, on data of the shape that the Python peers draw: one JSON line.
//!
//! ```text
//! cargo bench -p curate-kernels --bench nuclear -- [b tokens hidden words common threads reps]
//! ```

#![allow(clippy::cast_precision_loss)] // reason: rates

use curate_kernels::MatRef;
use curate_kernels::nn::{Mat, MatMut, gemm};
use curate_kernels::nuclear::{FrozenHead, nuclear_norm};
use std::time::Instant;

/// Sums of four uniform numbers, with the variance of a normal one.
fn normals(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..len).map(|_| (next() + next() + next() + next()) * 3f32.sqrt()).collect()
}

/// Median seconds of `reps` runs, and the last result.
fn timed<R>(reps: usize, mut run: impl FnMut() -> R) -> (f64, R) {
    let mut seconds = Vec::new();
    let mut last = None;
    for _ in 0..reps.max(1) {
        let start = Instant::now();
        last = Some(run());
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    (seconds[seconds.len() / 2], last.expect("at least one run"))
}

fn main() {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let size = |at: usize, default: usize| given.get(at).copied().unwrap_or(default);
    let (b, tokens, hidden, words) = (size(0, 4), size(1, 256), size(2, 2048), size(3, 32_000));
    let (common, threads, reps) = (size(4, 0) as f32, size(5, 2), size(6, 3));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the first pool");
    let head: Vec<f32> = normals(words * hidden, 1).iter().map(|v| v / (hidden as f32).sqrt()).collect();
    let shared: Vec<f32> = normals(hidden, 2).iter().map(|v| common * v).collect();
    let draw = normals(b * tokens * hidden, 3);
    let states: Vec<f32> = draw
        .iter()
        .enumerate()
        .map(|(at, v)| shared[at % hidden] + 8.0 * v / ((at % hidden + 1) as f32).sqrt())
        .collect();
    let mut logits = vec![0f32; b * tokens * words];
    let (h, w) = (Mat::new(&states, b * tokens, hidden), Mat::new(&head, words, hidden));
    gemm(MatMut::new(&mut logits, b * tokens, words), 0.0, 1.0, h, w.t());
    let each = |data: &[f32], width: usize, norm: &dyn Fn(MatRef<'_>) -> f64| -> Vec<f64> {
        data.chunks_exact(tokens * width).map(|x| norm(MatRef::new(x, width).expect("whole rows"))).collect()
    };
    let (from_logits, first) = timed(reps, || each(&logits, words, &|x| nuclear_norm(x).expect("finite")));
    let (setup, frozen) =
        timed(1, || FrozenHead::new(MatRef::new(&head, hidden).expect("rows"), &|_| true).expect("finite"));
    let (from_hidden, second) = timed(reps, || each(&states, hidden, &|x| frozen.nuclear_norm(x).expect("finite")));
    let apart = first.iter().zip(&second).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
    println!(
        "{{\"workload\":\"nuclear\",\"b\":{b},\"tokens\":{tokens},\"hidden\":{hidden},\"words\":{words},\"common\":{common},\
         \"threads\":{threads},\"from_logits_s\":{from_logits:.4},\"setup_s\":{setup:.3},\"from_hidden_s\":{from_hidden:.4},\
         \"apart\":{apart:.2e}}}"
    );
}
