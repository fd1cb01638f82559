//! Symmetric matrices in double precision: eigenvalues, eigenvectors, and the root of a semi-definite one.
//!
//! Householder reflections make the matrix tridiagonal, from the last row up, the update of one step and the product of the next in one
//! pass over each row; then QL with implicit shifts, without roots where only values are wanted. Source: Golub and Van Loan, sections 8.3 and 4.2;
//! Pal, Walker and Kahan's form of QL as in LAPACK's `sterf`. One thread, a fixed order: the same bits everywhere with fused multiply-add.
//! Cost: 4/3 n^3 for values, 3 n^3 more for vectors, n^3 / 3 for the root.

use super::gram::Gram;
use crate::KernelError;
use crate::nn::wide;
use rayon::prelude::*;

/// Lanes of a sum.
const LANES: usize = 16;
/// Rounds of QL for one eigenvalue; two are usual.
const ROUNDS: usize = 60;

/// A tridiagonal matrix, `off[i]` beside `diagonal[i]` and `diagonal[i + 1]`, and the reflections that led to it: row `l` of
/// `mirrors` holds a vector of length `l` (of squared length 2, or 0) that acts on the first `l` numbers.
struct Tridiagonal {
    diagonal: Vec<f64>,
    off: Vec<f64>,
    mirrors: Vec<f64>,
}

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

/// Reduce to tridiagonal form.
fn tridiagonal(gram: &Gram) -> Tridiagonal {
    let n = gram.n;
    let mut a = gram.lower.clone();
    let (mut diagonal, mut off) = (vec![0.0; n], vec![0.0; n]);
    let (mut v, mut w) = (vec![0.0; n], vec![0.0; n]);
    let (mut next, mut y) = (vec![0.0; n], vec![0.0; n]);
    for l in (0..n).rev() {
        // no row above `l`, nor `l` itself, has seen the step before, which `v` and `w` hold
        let (above, from) = a.split_at_mut(l * n);
        let row = &mut from[..=l];
        update(row, (v[l], w[l]), &v, &w);
        diagonal[l] = row[l];
        if l == 0 {
            break;
        }
        off[l - 1] = reflect(&mut row[..l]);
        next[..l].copy_from_slice(&row[..l]);
        y[..l].fill(0.0);
        for (i, row) in above.chunks_exact_mut(n).enumerate() {
            let along = step(&mut row[..i], [v[i], w[i], next[i]], [&v, &w, &next], &mut y);
            row[i] -= 2.0 * v[i] * w[i];
            y[i] += along + row[i] * next[i];
        }
        finish(&mut y[..l], &next[..l]);
        std::mem::swap(&mut v, &mut next);
        std::mem::swap(&mut w, &mut y);
    }
    Tridiagonal { diagonal, off, mirrors: a }
}

/// Turn a row into the mirror that leaves only its last number, and give that number.
fn reflect(row: &mut [f64]) -> f64 {
    let last = row.len() - 1;
    let largest = row[..last].iter().fold(0f64, |m, v| m.max(v.abs()));
    let kept = row[last];
    if largest == 0.0 {
        row.fill(0.0);
        return kept;
    }
    let scale = largest.max(kept.abs());
    row.iter_mut().for_each(|v| *v /= scale);
    let length = dot(row, row).sqrt();
    let image = if row[last] > 0.0 { -length } else { length };
    row[last] -= image;
    let factor = (2.0 / dot(row, row)).sqrt();
    row.iter_mut().for_each(|v| *v *= factor);
    image * scale
}

/// From `p = A v` to `w = p - (p.v / 2) v`, for a mirror of squared length 2.
fn finish(p: &mut [f64], v: &[f64]) {
    let half = dot(p, v) / 2.0;
    add(p, -half, v);
}

wide! {
    /// `row -= v_i w + w_i v`, for the row's length; `own` is `(v_i, w_i)`.
    fn update(row: &mut [f64], own: (f64, f64), v: &[f64], w: &[f64]) {
        for ((r, w), v) in row.iter_mut().zip(w).zip(v) {
            *r = (-own.0).mul_add(*w, (-own.1).mul_add(*v, *r));
        }
    }
}

wide! {
    /// The same, and with the new row `y += row * next_i`; gives `row . next`. `own` is `(v_i, w_i, next_i)`, `all` is `(v, w, next)`.
    fn step(row: &mut [f64], own: [f64; 3], all: [&[f64]; 3], y: &mut [f64]) -> f64 {
        let ([vi, wi, ni], [v, w, next]) = (own, all);
        let mut lanes = [0f64; LANES];
        let n = row.len();
        let (rows, tail) = row.as_chunks_mut::<LANES>();
        let (vs, ws) = (v[..n].as_chunks::<LANES>().0, w[..n].as_chunks::<LANES>().0);
        let (nexts, ys) = (next[..n].as_chunks::<LANES>().0, y[..n].as_chunks_mut::<LANES>().0);
        for ((((r, v), w), x), y) in rows.iter_mut().zip(vs).zip(ws).zip(nexts).zip(ys) {
            for l in 0..LANES {
                r[l] = (-vi).mul_add(w[l], (-wi).mul_add(v[l], r[l]));
                lanes[l] = r[l].mul_add(x[l], lanes[l]);
                y[l] = r[l].mul_add(ni, y[l]);
            }
        }
        let mut sum = tree(&lanes);
        let from = n - tail.len();
        for (j, r) in (from..n).zip(tail) {
            *r = (-vi).mul_add(w[j], (-wi).mul_add(v[j], *r));
            sum = r.mul_add(next[j], sum);
            y[j] = r.mul_add(ni, y[j]);
        }
        sum
    }
}

wide! {
    /// Inner product.
    fn dot(a: &[f64], b: &[f64]) -> f64 {
        let mut lanes = [0f64; LANES];
        let (heads, tail) = a.as_chunks::<LANES>();
        let (others, rest) = b.as_chunks::<LANES>();
        for (x, y) in heads.iter().zip(others) {
            for l in 0..LANES {
                lanes[l] = x[l].mul_add(y[l], lanes[l]);
            }
        }
        tail.iter().zip(rest).fold(tree(&lanes), |sum, (x, y)| x.mul_add(*y, sum))
    }
}

wide! {
    /// `a += factor b`.
    fn add(a: &mut [f64], factor: f64, b: &[f64]) {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = factor.mul_add(*b, *a));
    }
}

wide! {
    /// Rotate two rows: `(a, b) = (c a - s b, s a + c b)`.
    fn rotate(a: &mut [f64], b: &mut [f64], c: f64, s: f64) {
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (c.mul_add(*a, -s * *b), s.mul_add(*a, c * *b));
        }
    }
}

#[inline(always)]
fn tree(lanes: &[f64; LANES]) -> f64 {
    let mut sums = *lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            sums[l] += sums[l + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Largest magnitude in the matrix.
fn norm(diagonal: &[f64], off: &[f64]) -> f64 {
    diagonal.iter().chain(off).fold(0f64, |m, v| m.max(v.abs()))
}

fn no_end() -> KernelError {
    KernelError::Shape { op: "eigenvalues", expected: format!("an end within {ROUNDS} rounds"), got: "none".to_owned() }
}

/// Eigenvalues in place of the diagonal: QL without roots, on squares of the off-diagonal.
fn ql(diagonal: &mut [f64], off: &mut [f64]) -> Result<(), KernelError> {
    let (n, scale) = (diagonal.len(), norm(diagonal, off));
    if n == 0 || scale == 0.0 {
        return Ok(());
    }
    diagonal.iter_mut().for_each(|v| *v /= scale);
    off.iter_mut().for_each(|v| *v = (*v / scale).powi(2));
    for l in 0..n {
        let mut rounds = 0;
        while let Some(m) = block_end(diagonal, off, l) {
            rounds += 1;
            if rounds > ROUNDS {
                return Err(no_end());
            }
            sweep(&mut diagonal[l..=m], &mut off[l..=m]);
        }
    }
    diagonal.iter_mut().for_each(|v| *v *= scale);
    Ok(())
}

/// Last row of the block that begins at `l`, none when it is `l` itself. `off` holds squares, the largest entry is 1.
fn block_end(diagonal: &[f64], off: &[f64], l: usize) -> Option<usize> {
    let negligible = |m: usize| {
        let beside = diagonal[m].abs() * diagonal[m + 1].abs();
        off[m] <= f64::EPSILON.powi(2) * (beside + 1e-3 * f64::EPSILON)
    };
    let end = (l..diagonal.len() - 1).find(|&m| negligible(m)).unwrap_or(diagonal.len() - 1);
    (end > l).then_some(end)
}

/// One round of QL on a block; the last entry of `squares` is not used.
fn sweep(d: &mut [f64], squares: &mut [f64]) {
    let m = d.len() - 1;
    let root = squares[0].sqrt();
    let half = (d[1] - d[0]) / (2.0 * root);
    let sigma = d[0] - root / (half + (half * half + 1.0).sqrt().copysign(half));
    let (mut c, mut s, mut gamma) = (1.0, 0.0, d[m] - sigma);
    let mut p = gamma * gamma;
    for i in (0..m).rev() {
        let square = squares[i];
        let r = p + square;
        if i + 1 != m {
            squares[i + 1] = s * r;
        }
        let (before, old) = (c, gamma);
        (c, s) = if r > 0.0 { (p / r, square / r) } else { (1.0, 0.0) };
        gamma = c * (d[i] - sigma) - s * old;
        d[i + 1] = old + (d[i] - gamma);
        p = if c > 0.0 { gamma * gamma / c } else { before * square };
    }
    squares[0] = s * p;
    d[0] = sigma + gamma;
}

/// The same with roots, turning the rows of `pairs` along.
fn ql_with_vectors(pairs: &mut Pairs, mut off: Vec<f64>) -> Result<(), KernelError> {
    let n = pairs.values.len();
    let scale = norm(&pairs.values, &off);
    if n == 0 || scale == 0.0 {
        return Ok(());
    }
    for l in 0..n {
        let mut rounds = 0;
        loop {
            let d = &pairs.values;
            let small = |m: &usize| off[*m].abs() <= f64::EPSILON * (d[*m].abs() + d[*m + 1].abs()) / 2.0;
            let m = (l..n - 1).find(|m| small(m) || off[*m].abs() <= 1e-20 * scale).unwrap_or(n - 1);
            if m == l {
                break;
            }
            rounds += 1;
            if rounds > ROUNDS {
                return Err(no_end());
            }
            turn(pairs, &mut off, l..m);
        }
    }
    Ok(())
}

/// One round of QL on rows `block.start ..= block.end`.
fn turn(pairs: &mut Pairs, off: &mut [f64], block: std::ops::Range<usize>) {
    let (d, n, l, m) = (&mut pairs.values, off.len(), block.start, block.end);
    let half = (d[l + 1] - d[l]) / (2.0 * off[l]);
    let mut g = d[m] - d[l] + off[l] / (half + half.hypot(1.0).copysign(half));
    let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
    for i in block.rev() {
        let (f, b) = (s * off[i], c * off[i]);
        let r = f.hypot(g);
        off[i + 1] = r;
        if r == 0.0 {
            d[i + 1] -= p;
            off[m] = 0.0;
            return;
        }
        (s, c) = (f / r, g / r);
        g = d[i + 1] - p;
        let t = (d[i] - g) * s + 2.0 * c * b;
        p = s * t;
        d[i + 1] = g + p;
        g = c * t - b;
        let (upper, lower) = pairs.rows.split_at_mut((i + 1) * n);
        rotate(&mut upper[i * n..], &mut lower[..n], c, s);
    }
    d[l] -= p;
    off[l] = g;
    off[m] = 0.0;
}

/// `R` with `R^T R` the matrix, `[rank, n]`: pivoted Cholesky, which stops where only rounding is left.
pub(super) fn root(gram: &Gram) -> Vec<f64> {
    let n = gram.n;
    let mut left: Vec<f64> = (0..n).map(|i| gram.lower[i * n + i]).collect();
    let least = left.iter().copied().fold(0.0, f64::max) * f64::EPSILON * n as f64;
    let (mut rows, mut done): (Vec<f64>, Vec<bool>) = (Vec::new(), vec![false; n]);
    for rank in 0..n {
        let open = (0..n).filter(|&i| !done[i]);
        let Some(pivot) = open.max_by(|&a, &b| left[a].total_cmp(&left[b]).then(b.cmp(&a))) else { break };
        if left[pivot] <= least {
            break;
        }
        let factors: Vec<f64> = (0..rank).map(|k| rows[k * n + pivot]).collect();
        let mut row: Vec<f64> =
            (0..n).map(|j| gram.lower[if j <= pivot { pivot * n + j } else { j * n + pivot }]).collect();
        row.par_chunks_mut(256).enumerate().for_each(|(chunk, part)| {
            let start = chunk * 256;
            for (k, factor) in factors.iter().enumerate() {
                add(part, -factor, &rows[k * n + start..k * n + start + part.len()]);
            }
        });
        let length = left[pivot].sqrt();
        for (j, v) in row.iter_mut().enumerate() {
            *v = if done[j] { 0.0 } else { *v / length };
            left[j] -= *v * *v;
        }
        row[pivot] = length;
        done[pivot] = true;
        rows.extend(row);
    }
    rows
}

#[cfg(test)]
mod tests {
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
