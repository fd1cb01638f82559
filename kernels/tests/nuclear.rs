//! Nuclear norms against singular values found by another way: one-sided Jacobi rotations in double precision, which are accurate for
//! the smallest of them too.

use super::Draw;
use curate_kernels::MatRef;
use curate_kernels::nuclear::{FrozenHead, Side, Sketch, nuclear_norm};
use serde_json::Value;

/// Sum of the singular values of row-major `x`, by rotating pairs of rows until all are orthogonal.
pub(crate) fn reference(mut x: Vec<f64>, dim: usize) -> f64 {
    let rows = x.len() / dim;
    for _ in 0..60 {
        let mut turned = false;
        for i in 1..rows {
            for j in 0..i {
                let (head, tail) = x.split_at_mut(i * dim);
                turned |= rotate(&mut head[j * dim..(j + 1) * dim], &mut tail[..dim]);
            }
        }
        if !turned {
            break;
        }
    }
    x.chunks_exact(dim).map(|row| dot(row, row).sqrt()).sum()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn rotate(a: &mut [f64], b: &mut [f64]) -> bool {
    let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
    if ab.abs() <= 1e-15 * (aa * bb).sqrt() {
        return false;
    }
    let half = (bb - aa) / (2.0 * ab);
    let t = (1.0f64).copysign(half) / (half.abs() + (1.0 + half * half).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    for (x, y) in a.iter_mut().zip(b) {
        (*x, *y) = (c * (*x - t * *y), c * (t * *x + *y));
    }
    true
}

pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// `[tokens, hidden]` with axes scaled by `scale`, plus `common` times one direction for all tokens.
pub(crate) fn hidden(
    draw: &mut Draw,
    (tokens, dim): (usize, usize),
    common: f32,
    scale: impl Fn(usize) -> f32,
) -> Vec<f32> {
    let shared: Vec<f32> = (0..dim).map(|_| common * draw.next()).collect();
    (0..tokens * dim).map(|at| shared[at % dim] + scale(at % dim) * draw.next()).collect()
}

/// `H W^T` in double precision.
pub(crate) fn logits(hidden: &[f32], head: &[f32], dim: usize) -> Vec<f64> {
    let (hidden, head) = (wide(hidden), wide(head));
    hidden.chunks_exact(dim).flat_map(|h| head.chunks_exact(dim).map(|w| dot(h, w)).collect::<Vec<_>>()).collect()
}

pub(crate) fn check(got: f64, expected: f64, bound: f64, what: &str) {
    assert!((got - expected).abs() <= bound * expected, "{what}: {got} is not {expected}: {:e}", got / expected - 1.0);
}

#[test]
fn golden_norms() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/golden/uds/nuclear_norm.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for item in file["items"].as_array().unwrap() {
        let row =
            |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect::<Vec<f32>>();
        let all: Vec<Vec<f32>> = item["logits"].as_array().unwrap().iter().map(row).collect();
        let chosen: Vec<f32> = match item["rows"].as_array() {
            None => all.concat(),
            Some(rows) => rows.iter().flat_map(|r| all[r.as_u64().unwrap() as usize].clone()).collect(),
        };
        let got = nuclear_norm(MatRef::new(&chosen, all[0].len()).unwrap()).unwrap();
        let expected = item["expected"]["nuclear_norm"].as_f64().unwrap();
        assert!((got - expected).abs() <= 1e-6 * expected + 1e-9, "{}: {got} is not {expected}", item["name"]);
    }
}

/// A matrix of ones on the diagonal: with it as a head, hidden states are logits.
fn unit(size: usize) -> Vec<f32> {
    (0..size * size).map(|at| f32::from(u8::from(at % (size + 1) == 0))).collect()
}

#[test]
fn golden_sketches() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/golden/uds/projection.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let side = |of: &str| {
        let numbers = |name: &str| -> Vec<i64> {
            file["sketch"][format!("{name}_{of}")].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
        };
        let indices = numbers("index").into_iter().map(|v| u32::try_from(v).unwrap()).collect();
        Side::new(numbers("sign").into_iter().map(|sign| sign < 0).collect(), indices).unwrap()
    };
    let sketch = Sketch::new(side("time"), side("vocab"));
    let words = 40;
    let unit = unit(words);
    let head = sketch.of_head(MatRef::new(&unit, words).unwrap(), &|_| true).unwrap();
    let plain = sketch.clone().orthonormal().of_head(MatRef::new(&unit, words).unwrap(), &|_| true).unwrap();
    let numbers = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<f64>>();
    for (logits, expected) in file["logits"].as_array().unwrap().iter().zip(file["expected"]["z"].as_array().unwrap()) {
        let rows: Vec<f32> = logits.as_array().unwrap().iter().flat_map(numbers).map(|v| v as f32).collect();
        let expected = numbers(expected);
        let top = expected.iter().fold(0.0f64, |top, v| top.max(v.abs()));
        let found = head.of(MatRef::new(&rows, words).unwrap()).unwrap();
        let orthonormal = plain.of(MatRef::new(&rows, words).unwrap()).unwrap();
        assert_eq!(found.len(), sketch.len());
        for ((found, plain), expected) in found.iter().zip(orthonormal).zip(&expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-6 * top, "{found} is not {expected}");
            assert!((f64::from(plain) * sketch.inflation() - expected).abs() <= 1e-6 * top);
        }
    }
}

#[test]
fn a_sketch_goes_through_a_head_as_through_its_logits() {
    let mut draw = Draw(8);
    let (tokens, dim, words) = (20, 12, 30);
    let mut side = |places: usize, kept: usize| {
        let negative = (0..places).map(|_| draw.next() < 0.0).collect();
        let index = |_| (draw.next().abs() * 1e3) as u32 % places as u32;
        Side::new(negative, (0..kept).map(index).collect()).unwrap()
    };
    let sketch = Sketch::new(side(32, 4), side(words, 6));
    let (h, w) = (hidden(&mut draw, (tokens, dim), 30.0, |_| 1.0), hidden(&mut draw, (words, dim), 0.1, |_| 1.0));
    let logits: Vec<f32> = logits(&h, &w, dim).iter().map(|&v| v as f32).collect();
    let unit = unit(words);
    let direct = sketch.of_head(MatRef::new(&unit, words).unwrap(), &|_| true).unwrap();
    let direct = direct.of(MatRef::new(&logits, words).unwrap()).unwrap();
    let found =
        sketch.of_head(MatRef::new(&w, dim).unwrap(), &|_| true).unwrap().of(MatRef::new(&h, dim).unwrap()).unwrap();
    let top = direct.iter().fold(0.0f32, |top, v| top.max(v.abs()));
    assert!(found.iter().zip(&direct).all(|(a, b)| (a - b).abs() <= 1e-6 * top), "{found:?} {direct:?}");
}

#[test]
fn every_spectrum_is_within_a_millionth() {
    let mut draw = Draw(3);
    for (tokens, dim) in [(1, 7), (7, 1), (12, 40), (70, 1300), (90, 90), (130, 60)] {
        for common in [0.0, 30.0, 1e4] {
            for (name, decay) in [("flat", 1.0f32), ("slow", 0.97), ("fast", 0.8), ("steep", 0.4)] {
                let scale = |t: usize| decay.powf(t as f32);
                let x = hidden(&mut draw, (tokens, dim), common, scale);
                let got = nuclear_norm(MatRef::new(&x, dim).unwrap()).unwrap();
                check(got, reference(wide(&x), dim), 1e-6, &format!("{tokens} x {dim}, {name}, common {common}"));
            }
        }
    }
}

#[test]
fn low_rank_and_repeated_rows_are_within_a_millionth() {
    let mut draw = Draw(4);
    let few = hidden(&mut draw, (5, 400), 1.0, |_| 1.0);
    let x: Vec<f32> = few.iter().copied().cycle().take(80 * 400).collect();
    let got = nuclear_norm(MatRef::new(&x, 400).unwrap()).unwrap();
    check(got, 4.0 * reference(wide(&few), 400), 1e-6, "five rows, sixteen times");
    let ones = vec![1.0; 60 * 700];
    check(nuclear_norm(MatRef::new(&ones, 700).unwrap()).unwrap(), 42_000f64.sqrt(), 1e-6, "ones");
}

#[test]
fn a_frozen_head_gives_the_norm_of_the_logits() {
    let mut draw = Draw(5);
    for (tokens, dim, words) in [(1, 4, 9), (20, 16, 300), (16, 20, 12), (50, 24, 200)] {
        for common in [0.0, 30.0] {
            for decay in [1.0f32, 0.7, 0.3] {
                let h = hidden(&mut draw, (tokens, dim), common, |t| decay.powf(t as f32));
                let w = hidden(&mut draw, (words, dim), 0.1, |_| 1.0);
                let head = FrozenHead::new(MatRef::new(&w, dim).unwrap(), &|_| true).unwrap();
                let got = head.nuclear_norm(MatRef::new(&h, dim).unwrap()).unwrap();
                let expected = reference(logits(&h, &w, dim), words);
                check(got, expected, 1e-6, &format!("{tokens} x {dim} x {words}, common {common}, decay {decay}"));
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let mut draw = Draw(6);
    let x = hidden(&mut draw, (100, 5000), 3.0, |_| 1.0);
    let w = hidden(&mut draw, (900, 600), 0.1, |_| 1.0);
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let head = FrozenHead::new(MatRef::new(&w, 600).unwrap(), &|_| true).unwrap();
            let logits = nuclear_norm(MatRef::new(&x, 5000).unwrap()).unwrap();
            [logits, head.nuclear_norm(MatRef::new(&x[..60_000], 600).unwrap()).unwrap()].map(f64::to_bits)
        })
    };
    let one = run(1);
    assert!([2, 3, 4].into_iter().all(|threads| run(threads) == one));
}

#[test]
fn what_is_not_finite_is_named_and_huge_numbers_are_not() {
    let mut x = vec![1.0; 30];
    x[17] = f32::NAN;
    let error = nuclear_norm(MatRef::new(&x, 10).unwrap()).unwrap_err();
    assert!(matches!(error, curate_kernels::KernelError::NotFinite { row: 1, .. }), "{error}");
    x[17] = -3e38;
    let got = nuclear_norm(MatRef::new(&x, 10).unwrap()).unwrap();
    check(got, reference(wide(&x), 10), 1e-6, "huge");
}
