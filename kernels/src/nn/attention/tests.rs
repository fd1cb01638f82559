//! Attention against plain f64.

use super::*;
use crate::nn::testing::{close, numbers, with_threads};

struct Case {
    segments: Vec<Range<usize>>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
}

impl Case {
    fn attention(&self) -> Attention<'_> {
        Attention {
            segments: &self.segments,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            window: self.window,
        }
    }

    fn tokens(&self) -> usize {
        self.segments.last().unwrap().end
    }

    /// Plain attention in f64.
    fn reference(&self, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        let (qw, kw, dim) = (self.heads * self.head_dim, self.kv_heads * self.head_dim, self.head_dim);
        let mut out = vec![0.0; q.len()];
        for segment in &self.segments {
            for (i, head) in segment.clone().flat_map(|i| (0..self.heads).map(move |h| (i, h))) {
                let kv = head / (self.heads / self.kv_heads) * dim;
                let from = self.window.map_or(segment.start, |w| (i + 1).saturating_sub(w).max(segment.start));
                let score = |j: usize| -> f64 {
                    (0..dim).map(|t| q[i * qw + head * dim + t] * k[j * kw + kv + t]).sum::<f64>() / (dim as f64).sqrt()
                };
                let weights: Vec<f64> = (from..=i).map(|j| score(j).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for t in 0..dim {
                    out[i * qw + head * dim + t] =
                        (from..=i).zip(&weights).map(|(j, w)| w / sum * v[j * kw + kv + t]).sum();
                }
            }
        }
        out
    }

    fn run(&self, x: &[Vec<f32>; 3], gout: &[f32]) -> [Vec<f32>; 4] {
        let seen = Seen { q: &x[0], k: &x[1], v: &x[2] };
        let (mut out, mut lse) = (vec![0.0; x[0].len()], vec![0.0; self.tokens() * self.heads]);
        self.attention().forward(seen, &mut out, &mut lse);
        let mut grads = x.clone().map(|x| vec![0.0; x.len()]);
        let [gq, gk, gv] = &mut grads;
        self.attention().backward(seen, (&out, &lse), gout, [gq, gk, gv]);
        let [gq, gk, gv] = grads;
        [out, gq, gk, gv]
    }

    fn input(&self) -> ([Vec<f32>; 3], Vec<f32>) {
        let n = self.tokens();
        let (q, kv) = (n * self.heads * self.head_dim, n * self.kv_heads * self.head_dim);
        ([numbers(q, 1), numbers(kv, 2), numbers(kv, 3)], numbers(q, 4))
    }
}

fn cases() -> [Case; 3] {
    let case = |segments, heads, kv_heads, head_dim, window| Case { segments, heads, kv_heads, head_dim, window };
    [
        case(vec![0..3, 3..4, 4..9], 4, 2, 6, None),
        case(vec![0..3, 3..10], 2, 2, 4, Some(3)),
        case(vec![0..70, 70..140], 2, 1, 2, Some(66)),
    ]
}

#[test]
fn forward_and_backward_against_f64() {
    for case in cases() {
        let (x, gout) = case.input();
        let [out, gq, gk, gv] = case.run(&x, &gout);
        let wide: [Vec<f64>; 3] = x.clone().map(|x| x.iter().map(|x| f64::from(*x)).collect());
        close(&out, &case.reference(&wide[0], &wide[1], &wide[2]), 1e-6);
        let value = |x: &[Vec<f64>; 3]| -> f64 {
            case.reference(&x[0], &x[1], &x[2]).iter().zip(&gout).map(|(o, g)| o * f64::from(*g)).sum()
        };
        for (which, grad) in [gq, gk, gv].iter().enumerate() {
            for at in (0..grad.len()).step_by(1 + grad.len() / 20) {
                let moved = |h: f64| {
                    let mut x = wide.clone();
                    x[which][at] += h;
                    value(&x)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((f64::from(grad[at]) - slope).abs() < 2e-5, "{which} {at}: {} is not {slope}", grad[at]);
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for case in cases() {
        let (x, gout) = case.input();
        let one = with_threads(1, || case.run(&x, &gout));
        assert_eq!(one, with_threads(4, || case.run(&x, &gout)));
    }
}
