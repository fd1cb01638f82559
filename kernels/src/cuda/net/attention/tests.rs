//! Attention against f64, by both sets of kernels, in the emulation.

#![allow(clippy::cast_possible_wrap)] // reason: positions are small

use super::*;
use crate::cuda::Bf16;
use crate::cuda::net::Values;
use std::ops::Range;

/// Numbers in [-1, 1) that look random and are always the same, as bf16 holds them.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Bf16::from_f32((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0).to_f32()
    };
    (0..len).map(|_| next()).collect()
}

struct Case {
    heads: Grouping,
    segments: Vec<Range<usize>>,
    window: Option<usize>,
    /// Biases by distance, and how far they reach.
    relative: Option<(Vec<f32>, usize)>,
    qkv: Vec<f32>,
    gout: Vec<f32>,
}

impl Case {
    fn new(heads: Grouping, lengths: &[usize], window: Option<usize>, reach: Option<usize>) -> Self {
        let mut end = 0;
        let segment = |len: &usize| {
            end += len;
            end - len..end
        };
        let segments: Vec<Range<usize>> = lengths.iter().map(segment).collect();
        let width = heads.width() + 2 * heads.kv_heads * heads.head_dim;
        Self {
            heads,
            segments,
            window,
            relative: reach.map(|reach| (numbers(heads.heads * (2 * reach + 1), 3), reach)),
            qkv: numbers(end * width, 1),
            gout: numbers(end * heads.width(), 2),
        }
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        (!self.heads.causal || key <= query) && self.window.is_none_or(|window| key + window > query)
    }

    /// Output, logarithms and gradients by the formulas, pair by pair.
    fn reference(&self) -> [Vec<f64>; 3] {
        let (h, dim, width) = (self.heads, self.heads.head_dim, self.heads.width());
        let stride = width + 2 * h.kv_heads * dim;
        let tokens = self.qkv.len() / stride;
        let row =
            |token: usize, column: usize| self.qkv[token * stride + column..][..dim].iter().map(|x| f64::from(*x));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (mut out, mut lse) = (vec![0.0; tokens * width], vec![0.0; tokens * h.heads]);
        let (mut gradient, scale) = (vec![0.0; tokens * stride], 1.0 / (dim as f64).sqrt());
        for (segment, head) in self.segments.iter().flat_map(|s| (0..h.heads).map(move |head| (s, head))) {
            let kv = width + head / (h.heads / h.kv_heads) * dim;
            for query in segment.clone() {
                let q: Vec<f64> = row(query, head * dim).collect();
                let keys: Vec<usize> = segment.clone().filter(|key| self.sees(query, *key)).collect();
                let bias = |key: usize| {
                    let (table, reach) = self.relative.as_ref()?;
                    let far = (key as i64 - query as i64).clamp(-(*reach as i64), *reach as i64) + *reach as i64;
                    Some(f64::from(table[head * (2 * reach + 1) + far as usize]))
                };
                let score =
                    |key: &usize| dot(&q, &row(*key, kv).collect::<Vec<_>>()) * scale + bias(*key).unwrap_or(0.0);
                let scores: Vec<f64> = keys.iter().map(score).collect();
                let sum: f64 = scores.iter().map(|s| s.exp()).sum();
                lse[query * h.heads + head] = sum.ln();
                let p: Vec<f64> = scores.iter().map(|s| s.exp() / sum).collect();
                let own = &mut out[query * width + head * dim..][..dim];
                for (p, key) in p.iter().zip(&keys) {
                    let v = row(*key, kv + h.kv_heads * dim);
                    own.iter_mut().zip(v).for_each(|(out, v)| *out += p * v);
                }
                let g: Vec<f64> =
                    self.gout[query * width + head * dim..][..dim].iter().map(|x| f64::from(*x)).collect();
                let delta = dot(own, &g);
                for (p, key) in p.iter().zip(&keys) {
                    let (k, v): (Vec<f64>, Vec<f64>) =
                        (row(*key, kv).collect(), row(*key, kv + h.kv_heads * dim).collect());
                    let ds = p * (dot(&g, &v) - delta) * scale;
                    for t in 0..dim {
                        gradient[query * stride + head * dim + t] += ds * k[t];
                        gradient[key * stride + kv + t] += ds * q[t];
                        gradient[key * stride + kv + h.kv_heads * dim + t] += p * g[t];
                    }
                }
            }
        }
        [out, lse, gradient]
    }

    /// The same by the device.
    fn run(&self, device: &Device, precision: Precision) -> Result<([Vec<f32>; 3], &'static str), KernelError> {
        let ops = Ops { device, precision };
        let (width, kv_width) = (self.heads.width(), self.heads.kv_heads * self.heads.head_dim);
        let (stride, tokens) = (width + 2 * kv_width, self.gout.len() / width);
        let tiles = Tiles::new(ops, self.heads, &self.segments)?;
        let qkv = Numbers::of(device, precision, Values::Wide(&self.qkv))?;
        let gout = Numbers::of(device, precision, Values::Wide(&self.gout))?;
        let rows = |at: usize| Rows { numbers: &qkv, at, stride };
        let seen = Seen { q: rows(0), k: rows(width), v: rows(width + kv_width) };
        let relative = self
            .relative
            .as_ref()
            .map(|(table, reach)| Relative { table: device.upload(table).expect("room"), reach: *reach });
        let (out, lse) = ops.attend(self.heads, seen, (&tiles, self.window), relative.as_ref(), tokens)?;
        let gradient = ops.attend_back(self.heads, seen, (&tiles, self.window), (&out, &lse, &gout))?;
        let read = |numbers: &Numbers, len: usize| {
            let (wide, mut host) = (ops.floats(len)?, vec![0.0; len]);
            ops.cast(numbers, &wide, len)?;
            if let Numbers::Wide(wide) = &wide {
                device.download(wide, &mut host)?;
            }
            Ok::<_, KernelError>(host)
        };
        let mut sums = vec![0.0; lse.len()];
        device.download(&lse, &mut sums)?;
        Ok(([read(&out, tokens * width)?, sums, read(&gradient, tokens * stride)?], tiles.way.forward))
    }
}

/// Largest difference over the largest magnitude.
fn gap(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).abs());
    let worst = worst.fold(0.0f64, |a, b| if b > a || b.is_nan() { b } else { a });
    worst / expected.iter().fold(1e-30f64, |top, e| top.max(e.abs()))
}

#[test]
fn both_ways_agree_with_f64() {
    let Some(device) = crate::cuda::net::testing::device() else { return };
    let heads = |heads, kv_heads, head_dim, causal| Grouping { heads, kv_heads, head_dim, causal };
    let cases = [
        Case::new(heads(4, 2, 12, true), &[13, 1, 40], None, None),
        Case::new(heads(2, 1, 144, true), &[9, 10], Some(4), None),
        Case::new(heads(4, 2, 32, true), &[70, 1, 130], None, None),
        Case::new(heads(2, 1, 64, true), &[3, 100], Some(20), None),
        Case::new(heads(2, 2, 128, true), &[67, 5], None, None),
        Case::new(heads(2, 2, 32, false), &[5, 90], None, Some(6)),
        Case::new(heads(2, 2, 16, false), &[5, 40], None, Some(6)),
    ];
    for case in &cases {
        let expected = case.reference();
        for precision in [Precision::F32, Precision::Bf16] {
            let (found, kernel) = case.run(&device, precision).expect("it runs");
            let flash = precision == Precision::Bf16 && matches!(case.heads.head_dim, 32 | 64 | 128);
            assert_eq!(kernel.starts_with("net_flash"), flash);
            let [out, lse, mut gradient] = [0, 1, 2].map(|i| gap(&found[i], &expected[i]));
            if case.relative.is_some() {
                gradient = 0.0; // No way back is asked for where scores are biased.
            }
            println!("{:?} {precision:?}: {out:.1e} {lse:.1e} {gradient:.1e}", case.heads.head_dim);
            let bounds = if precision == Precision::F32 { [2e-6, 2e-6, 4e-6] } else { [8e-3, 1e-5, 1.6e-2] };
            assert!(out < bounds[0] && lse < bounds[1] && gradient < bounds[2], "{out} {lse} {gradient}");
            assert_eq!(found, case.run(&device, precision).expect("it runs").0, "the same bits twice");
        }
    }
}
