//! Symmetric matrices in double precision: eigenvalues, eigenvectors, and the root of a semi-definite one.
//!
//! Source: Golub and Van Loan, sections 8.3 and 4.2; Pal, Walker and Kahan's form of QL as in LAPACK's `sterf`. The reduction runs on one
//! thread in a fixed order. Cost: 4/3 n^3 for values, 3 n^3 more for vectors, n^3 / 3 for the root.

mod ql;
mod tridiagonal;

use super::gram::Gram;
use super::product::take_away;
use crate::KernelError;
use ql::{ql, ql_with_vectors};
use rayon::prelude::*;
use tridiagonal::{add, dot, tridiagonal};

/// Rows of the root that are taken off at a time.
const PANEL: usize = 64;

/// Eigenvalues and the eigenvectors, one a row.
pub(super) struct Pairs {
    pub(super) values: Vec<f64>,
    rows: Vec<f64>,
    mirrors: Vec<f64>,
}

impl Pairs {
    /// Eigenvectors of the values that pass, row after row.
    pub(super) fn rows_where(&self, pass: impl Fn(f64) -> bool) -> Vec<f64> {
        let n = self.values.len();
        let chosen = self.rows.chunks_exact(n).zip(&self.values).filter(|(_, value)| pass(**value));
        let mut out: Vec<f64> = chosen.flat_map(|(row, _)| row.iter().copied()).collect();
        out.par_chunks_exact_mut(n).for_each(|row| {
            for l in 1..n {
                let mirror = &self.mirrors[l * n..l * n + l];
                let along = dot(mirror, &row[..l]);
                add(&mut row[..l], -along, mirror);
            }
        });
        out
    }
}

/// All eigenvalues, in no order.
pub(super) fn values(gram: &Gram) -> Result<Vec<f64>, KernelError> {
    let mut t = tridiagonal(gram);
    ql(&mut t.diagonal, &mut t.off)?;
    Ok(t.diagonal)
}

/// All eigenvalues and eigenvectors.
pub(super) fn vectors(gram: &Gram) -> Result<Pairs, KernelError> {
    let (n, t) = (gram.n, tridiagonal(gram));
    let mut rows = vec![0.0; n * n];
    rows.iter_mut().step_by(n + 1).for_each(|v| *v = 1.0);
    let mut pairs = Pairs { values: t.diagonal, rows, mirrors: t.mirrors };
    ql_with_vectors(&mut pairs, t.off)?;
    Ok(pairs)
}

/// `R` with `R^T R` the matrix, `[rank, n]`: pivoted Cholesky, which stops where only rounding is left. Rows that were found are taken off
/// the whole matrix [`PANEL`] at a time.
pub(super) fn root(gram: &Gram) -> Vec<f64> {
    let n = gram.n;
    let mut open = whole(gram);
    let mut left: Vec<f64> = (0..n).map(|i| open[i * n + i]).collect();
    let least = left.iter().copied().fold(0.0, f64::max) * f64::EPSILON * n as f64;
    let (mut rows, mut done, mut taken): (Vec<f64>, Vec<bool>, usize) = (Vec::new(), vec![false; n], 0);
    while let Some(pivot) = (0..n).filter(|&i| !done[i]).max_by(|&a, &b| left[a].total_cmp(&left[b]).then(b.cmp(&a))) {
        if left[pivot] <= least {
            break;
        }
        if rows.len() == taken + PANEL * n {
            take_away(&mut open, &rows[taken..], n);
            taken = rows.len();
        }
        let mut row = open[pivot * n..(pivot + 1) * n].to_vec();
        rows[taken..].chunks_exact(n).for_each(|other| add(&mut row, -other[pivot], other));
        let length = left[pivot].sqrt();
        done[pivot] = true;
        for (j, v) in row.iter_mut().enumerate() {
            *v = if done[j] { 0.0 } else { *v / length };
            left[j] -= *v * *v;
        }
        row[pivot] = length;
        rows.extend(row);
    }
    rows
}

/// Both halves of a symmetric matrix.
fn whole(gram: &Gram) -> Vec<f64> {
    let n = gram.n;
    let entry = |at: usize| gram.lower[(at / n).max(at % n) * n + (at / n).min(at % n)];
    (0..n * n).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::tridiagonal::{finish, update};
    use super::*;

    /// A symmetric matrix with eigenvalues `0..n` turned by random reflections, lower half.
    fn known(n: usize) -> (Gram, Vec<f64>) {
        let values: Vec<f64> = (0..n).map(|i| (i as f64).powi(3) * 0.01).collect();
        let mut full: Vec<f64> = (0..n * n).map(|at| if at % (n + 1) == 0 { values[at / n] } else { 0.0 }).collect();
        for round in 0..3u64 {
            let number = |i: usize| crate::hash::unit(crate::hash::mix(&[round, i as u64])) - 0.5;
            let mut v: Vec<f64> = (0..n).map(number).collect();
            let length = dot(&v, &v).sqrt();
            v.iter_mut().for_each(|v| *v *= std::f64::consts::SQRT_2 / length);
            let p: Vec<f64> = full.chunks_exact(n).map(|row| dot(row, &v)).collect();
            let mut w = p.clone();
            finish(&mut w, &v);
            for i in 0..n {
                update(&mut full[i * n..(i + 1) * n], (v[i], w[i]), &v, &w);
            }
        }
        let mut gram = Gram::zero(n);
        gram.lower = full;
        (gram, values)
    }

    #[test]
    fn known_eigenvalues_are_found_both_ways() {
        for n in [1, 2, 3, 5, 17, 40, 90] {
            let (gram, expected) = known(n);
            let scale = 1e-13 * expected[n - 1].max(1.0);
            let pairs = vectors(&gram).unwrap();
            for mut found in [values(&gram).unwrap(), pairs.values.clone()] {
                found.sort_by(f64::total_cmp);
                assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= scale), "{n}: {found:?}");
            }
            let rows = pairs.rows_where(|_| true);
            for (row, value) in rows.chunks_exact(n).zip(&pairs.values) {
                let image: Vec<f64> = gram.lower.chunks_exact(n).map(|line| dot(line, row)).collect();
                assert!(image.iter().zip(row).all(|(a, b)| (a - value * b).abs() <= 10.0 * scale), "{n}");
                assert!((dot(row, row) - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_root_squares_to_the_matrix() {
        for n in [1, 4, 30, 300] {
            let (gram, _) = known(n);
            let rows = root(&gram);
            assert_eq!(rows.len(), n.saturating_sub(1) * n, "one eigenvalue is 0");
            for i in 0..n {
                for j in 0..=i {
                    let sum: f64 = rows.chunks_exact(n).map(|row| row[i] * row[j]).sum();
                    assert!((sum - gram.lower[i * n + j]).abs() <= 1e-12 * (n as f64).powi(3), "{n}");
                }
            }
        }
    }
}
