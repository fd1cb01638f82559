//! The best low-rank approximation of a matrix: randomized range finding, then one-sided Jacobi rotations.
//!
//! `W_r = sum of the r leading u s v^T`. With a random `G` (n x q): `Q = orth((W W^T)^2 W G)`, `B = Q^T W`, and the exact
//! decomposition of the small `B`. Source: Halko, Martinsson, Tropp, Finding Structure with Randomness (algorithms 4.4 and 5.1).
//! Deviation: `B` is first brought to triangular form, on which the rotations work. Cost: `10 m n q + q^3` per sweep.

use crate::lora::fill_normal;
use curate_core::kernels::nn::{Mat, MatMut, gemm};
use curate_core::{Ctx, Result};
use rayon::prelude::*;

/// Rounds of multiplying by `W W^T` before the range is taken.
const POWER_ROUNDS: usize = 2;
const MAX_SWEEPS: usize = 40;

/// The leading part of a decomposition: `W_r[i, j] = sum over c of left[c][i] right[c][j]`; the right rows carry the singular
/// values.
#[derive(Clone, Debug)]
pub struct Svd {
    left: Vec<Vec<f64>>,
    right: Vec<Vec<f64>>,
}

impl Svd {
    /// The `rank` leading components of a row-major matrix `rows x columns`, found in a subspace of `width` directions
    /// (exact when `width` reaches the smaller side).
    ///
    /// # Errors
    /// When asked to stop.
    pub fn leading(w: &[f32], columns: usize, rank: usize, width: usize, ctx: &Ctx) -> Result<Self> {
        let rows = w.len() / columns.max(1);
        let width = width.max(rank).min(rows).min(columns);
        let stream = ctx.stream("svd");
        let mut random: Vec<Vec<f64>> = (0..width)
            .map(|row| {
                let mut values = vec![0.0f32; columns];
                fill_normal(&mut stream(row as u64), &mut values, 1.0);
                values.into_iter().map(f64::from).collect()
            })
            .collect();
        for _ in 0..POWER_ROUNDS {
            ctx.tick(0)?;
            let mut range = times_transposed(&random, w, columns);
            orthonormalise(&mut range);
            random = times(&range, w, columns);
            orthonormalise(&mut random);
        }
        let mut range = times_transposed(&random, w, columns);
        orthonormalise(&mut range);
        Ok(Self::of_projection(&range, &times(&range, w, columns), rank))
    }

    /// Decompose `b = range^T W` and turn the range.
    fn of_projection(range: &[Vec<f64>], b: &[Vec<f64>], rank: usize) -> Self {
        let mut basis = b.to_vec();
        let mut triangle = orthonormalise(&mut basis);
        let turns = rotate(&mut triangle);
        let chosen = order(&triangle).into_iter().take(rank);
        let combine = |weights: &[f64], rows: &[Vec<f64>]| {
            let mut out = vec![0.0; rows.first().map_or(0, Vec::len)];
            for (weight, row) in weights.iter().zip(rows) {
                add(&mut out, row, *weight);
            }
            out
        };
        let (left, right) = chosen.map(|c| (combine(&turns[c], range), combine(&turns[c], b))).unzip();
        Self { left, right }
    }

    /// The singular values, largest first.
    #[must_use]
    pub fn values(&self) -> Vec<f64> {
        self.right.iter().map(|row| dot(row, row).sqrt()).collect()
    }

    /// `W_r`, row-major.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "computed in f64, used in f32")]
    pub fn matrix(&self) -> Vec<f32> {
        let rows = self.left.first().map_or(0, Vec::len);
        let row = |i: usize| {
            let mut out = vec![0.0; self.right.first().map_or(0, Vec::len)];
            for (left, right) in self.left.iter().zip(&self.right) {
                add(&mut out, right, left[i]);
            }
            out.into_iter().map(|x| x as f32).collect::<Vec<f32>>()
        };
        (0..rows).into_par_iter().flat_map_iter(row).collect()
    }
}

/// All singular values of a row-major matrix, largest first.
#[must_use]
pub fn singular_values(w: &[f32], columns: usize) -> Vec<f64> {
    let rows = w.len() / columns.max(1);
    let at = |i: usize, j: usize| f64::from(w[i * columns + j]);
    let mut short: Vec<Vec<f64>> = if rows <= columns {
        (0..rows).map(|i| (0..columns).map(|j| at(i, j)).collect()).collect()
    } else {
        (0..columns).map(|j| (0..rows).map(|i| at(i, j)).collect()).collect()
    };
    let mut triangle = orthonormalise(&mut short);
    rotate(&mut triangle);
    order(&triangle).into_iter().map(|c| dot(&triangle[c], &triangle[c]).sqrt()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for i in 0..8 {
            lanes[i] += x[i] * y[i];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

fn add(out: &mut [f64], row: &[f64], weight: f64) {
    for (o, x) in out.iter_mut().zip(row) {
        *o += weight * x;
    }
}

/// Every row times `W^T`: `q x columns` to `q x rows`.
fn times_transposed(a: &[Vec<f64>], w: &[f32], columns: usize) -> Vec<Vec<f64>> {
    let rows = w.len() / columns.max(1);
    product(a, Mat::new(w, rows, columns).t(), rows)
}

/// Every row times `W`: `q x rows` to `q x columns`.
fn times(a: &[Vec<f64>], w: &[f32], columns: usize) -> Vec<Vec<f64>> {
    let rows = w.len() / columns.max(1);
    product(a, Mat::new(w, rows, columns), columns)
}

/// In f32, which is ample for the choice of a subspace; what decides is orthonormalised in f64.
#[expect(clippy::cast_possible_truncation, reason = "f32 is ample")]
fn product(a: &[Vec<f64>], w: Mat<'_>, width: usize) -> Vec<Vec<f64>> {
    let narrow: Vec<f32> = a.iter().flatten().map(|x| *x as f32).collect();
    let mut out = vec![0.0f32; a.len() * width];
    let inner = narrow.len() / a.len().max(1);
    gemm(MatMut::new(&mut out, a.len(), width), 0.0, 1.0, Mat::new(&narrow, a.len(), inner), w);
    out.chunks(width.max(1)).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
}

/// Make the rows orthonormal by Gram-Schmidt, twice; gives the lower triangle that leads back. A row that depends on those
/// before it becomes zero.
fn orthonormalise(rows: &mut [Vec<f64>]) -> Vec<Vec<f64>> {
    let mut triangle = vec![vec![0.0; rows.len()]; rows.len()];
    for (i, back) in triangle.iter_mut().enumerate() {
        let (before, rest) = rows.split_at_mut(i);
        let row = &mut rest[0];
        let size = dot(row, row).sqrt();
        for _ in 0..2 {
            for (j, other) in before.iter().enumerate() {
                let part = dot(row, other);
                add(row, other, -part);
                back[j] += part;
            }
        }
        let norm = dot(row, row).sqrt();
        let scale = if norm > size * 1e-13 && norm > 0.0 { 1.0 / norm } else { 0.0 };
        for x in row.iter_mut() {
            *x *= scale;
        }
        back[i] = if scale > 0.0 { norm } else { 0.0 };
    }
    triangle
}

/// Rotate pairs of rows until all are orthogonal; gives the rotations as one orthogonal matrix.
fn rotate(rows: &mut [Vec<f64>]) -> Vec<Vec<f64>> {
    let n = rows.len();
    let mut turns: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let tiny = rows.iter().map(|row| dot(row, row)).sum::<f64>() * 1e-30;
    for _ in 0..MAX_SWEEPS {
        let mut turned = false;
        for i in 0..n {
            for j in i + 1..n {
                let Some((c, s)) = angle(&rows[i], &rows[j], tiny) else { continue };
                turn(rows, (i, j), (c, s));
                turn(&mut turns, (i, j), (c, s));
                turned = true;
            }
        }
        if !turned {
            break;
        }
    }
    turns
}

/// Cosine and sine that make two rows orthogonal; `None` when they are already.
fn angle(a: &[f64], b: &[f64], tiny: f64) -> Option<(f64, f64)> {
    let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
    if ab.abs() <= 1e-13 * (aa * bb).sqrt() || ab.abs() <= tiny {
        return None;
    }
    let zeta = (bb - aa) / (2.0 * ab);
    let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    Some((c, c * t))
}

fn turn(rows: &mut [Vec<f64>], pair: (usize, usize), by: (f64, f64)) {
    let (low, high) = rows.split_at_mut(pair.1);
    let (c, s) = by;
    for (x, y) in low[pair.0].iter_mut().zip(&mut high[0]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

/// Places of the rows, longest first, ties to the lower place.
fn order(rows: &[Vec<f64>]) -> Vec<usize> {
    let norms: Vec<f64> = rows.iter().map(|row| dot(row, row)).collect();
    let mut places: Vec<usize> = (0..rows.len()).collect();
    places.sort_by(|a, b| norms[*b].total_cmp(&norms[*a]).then(a.cmp(b)));
    places
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)] // reason: small sizes
mod tests {
    use super::*;

    /// `rows x columns` with singular values 3 and 1 along unit directions, by construction.
    fn planted(rows: usize, columns: usize) -> Vec<f32> {
        let unit = |n: usize, i: usize| move |j: usize| if j % 2 == i { 1.0 / ((n / 2) as f32).sqrt() } else { 0.0 };
        let (u, v) = ([unit(rows, 0), unit(rows, 1)], [unit(columns, 1), unit(columns, 0)]);
        let entry = |i: usize, j: usize| 3.0 * u[0](i) * v[0](j) + u[1](i) * v[1](j);
        (0..rows * columns).map(|at| entry(at / columns, at % columns)).collect()
    }

    #[test]
    fn finds_planted_values() {
        for (rows, columns) in [(12, 20), (20, 12)] {
            let w = planted(rows, columns);
            let values = singular_values(&w, columns);
            assert!((values[0] - 3.0).abs() < 1e-5 && (values[1] - 1.0).abs() < 1e-5 && values[2] < 1e-5, "{values:?}");
            let svd = Svd::leading(&w, columns, 1, 4, &Ctx::new(1)).unwrap();
            assert!((svd.values()[0] - 3.0).abs() < 1e-5);
            let two = Svd::leading(&w, columns, 2, 4, &Ctx::new(1)).unwrap().matrix();
            assert!(two.iter().zip(&w).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn full_width_is_exact_and_the_tail_is_what_is_left() {
        let (rows, columns) = (9, 14);
        let w: Vec<f32> = (0..rows * columns).map(|i| ((i * i % 37) as f32).sin()).collect();
        let values = singular_values(&w, columns);
        for rank in [1, 4, 9] {
            let svd = Svd::leading(&w, columns, rank, 9, &Ctx::new(3)).unwrap();
            let left: f64 = svd.matrix().iter().zip(&w).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let tail: f64 = values[rank..].iter().map(|s| s * s).sum();
            assert!((left - tail).abs() < 1e-5, "{rank}: {left} {tail}");
        }
    }

    #[test]
    fn zero_and_dependent_rows_stay_finite() {
        assert_eq!(singular_values(&[0.0; 6], 3), [0.0, 0.0]);
        let values = singular_values(&[1.0, 2.0, 2.0, 1.0, 2.0, 2.0], 3);
        assert!((values[0] - 18.0f64.sqrt()).abs() < 1e-9 && values[1] < 1e-9);
    }
}
