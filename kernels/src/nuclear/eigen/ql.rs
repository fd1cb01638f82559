//! Eigenvalues of a tridiagonal matrix: QL with implicit shifts, without roots where only values are wanted. Cost: about 30 n^2; 3 n^3 with vectors.

#![expect(clippy::many_single_char_names, reason = "as in the books")]

use super::Pairs;
use super::tridiagonal::rotate;
use crate::KernelError;

/// Rounds of QL for one eigenvalue; two are usual.
const ROUNDS: usize = 60;

/// Largest magnitude in the matrix.
fn norm(diagonal: &[f64], off: &[f64]) -> f64 {
    diagonal.iter().chain(off).fold(0f64, |m, v| m.max(v.abs()))
}

fn no_end() -> KernelError {
    KernelError::Shape { op: "eigenvalues", expected: format!("an end within {ROUNDS} rounds"), got: "none".to_owned() }
}

/// Eigenvalues in place of the diagonal: QL without roots, on squares of the off-diagonal.
pub(super) fn ql(diagonal: &mut [f64], off: &mut [f64]) -> Result<(), KernelError> {
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
pub(super) fn ql_with_vectors(pairs: &mut Pairs, mut off: Vec<f64>) -> Result<(), KernelError> {
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
