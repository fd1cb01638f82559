//! Tridiagonal form by Householder reflections, from the last row up: the update of one step and the product of the next are one pass
//! over each row. Cost: 4/3 n^3.

#![expect(clippy::many_single_char_names, reason = "as in the books")]

use crate::nn::wide;
use crate::nuclear::gram::Gram;

/// Lanes of a sum.
const LANES: usize = 16;

/// A tridiagonal matrix, `off[i]` beside `diagonal[i]` and `diagonal[i + 1]`, and the reflections that led to it: row `l` of
/// `mirrors` holds a vector of length `l` (of squared length 2, or 0) that acts on the first `l` numbers.
pub(super) struct Tridiagonal {
    pub(super) diagonal: Vec<f64>,
    pub(super) off: Vec<f64>,
    pub(super) mirrors: Vec<f64>,
}

/// Reduce to tridiagonal form.
pub(super) fn tridiagonal(gram: &Gram) -> Tridiagonal {
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
pub(super) fn finish(p: &mut [f64], v: &[f64]) {
    let half = dot(p, v) / 2.0;
    add(p, -half, v);
}

wide! {
    /// `row -= v_i w + w_i v`, for the row's length; `own` is `(v_i, w_i)`.
    pub(super) fn update(row: &mut [f64], own: (f64, f64), v: &[f64], w: &[f64]) {
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
    pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
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
    pub(super) fn add(a: &mut [f64], factor: f64, b: &[f64]) {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = factor.mul_add(*b, *a));
    }
}

wide! {
    /// Rotate two rows: `(a, b) = (c a - s b, s a + c b)`.
    pub(super) fn rotate(a: &mut [f64], b: &mut [f64], c: f64, s: f64) {
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
