//! Orthonormal directions that hold most of the length of some rows.
//!
//! Orthogonal iteration on the rows' second moment, `V <- orth(X^T X V)`, three times from a hashed start; the columns
//! come out ordered by what they hold, so a prefix is a smaller basis.
//! Source: subspace iteration with a random start (Halko, Martinsson, Tropp 2011, section 4.4). Deviation: the
//! directions need not be accurate, only orthonormal: the loss of orthogonality is measured and enters the bound.
//! Cost: 12 m d r for m rows.

use crate::tile::{LANES, pack_panels, tile_f32};
use crate::{Isa, MatRef, exact, hash};

/// Rank-`r` orthonormal basis of `dim`-space.
#[derive(Clone)]
pub(crate) struct Basis {
    rows: Vec<f32>,
    dim: usize,
    panels: Vec<u32>,
    bias: Vec<f32>,
    defect: f64,
}

impl Basis {
    /// At most `rank` directions for the rows of `x`, given around their centre.
    pub(crate) fn of(isa: Isa, x: MatRef<'_>, rank: usize) -> Self {
        let dim = x.dim();
        let rank = rank.min(dim);
        let draw = |i: usize| (hash::unit(hash::mix(&[0xBA515, i as u64])) - 0.5) as f32;
        let mut rows = orthonormal(isa, &(0..rank * dim).map(draw).collect::<Vec<f32>>(), dim);
        let words: Vec<u32> = x.data().iter().map(|v| v.to_bits()).collect();
        let transposed = pack_transposed(x);
        for _ in 0..3 {
            rows = orthonormal(isa, &second_moment_times(isa, &words, &transposed, x, &rows), dim);
        }
        Self::from_rows(rows, dim)
    }

    fn from_rows(rows: Vec<f32>, dim: usize) -> Self {
        let words: Vec<u32> = rows.iter().map(|v| v.to_bits()).collect();
        let panels = pack_panels(&words, dim);
        let bias = vec![0.0; panels.len() / dim];
        Self { defect: defect(&rows, dim), rows, dim, panels, bias }
    }

    /// The first `rank` directions.
    pub(crate) fn prefix(&self, rank: usize) -> Self {
        Self::from_rows(self.rows[..rank.min(self.rank()) * self.dim].to_vec(), self.dim)
    }

    /// Number of directions.
    pub(crate) const fn rank(&self) -> usize {
        self.rows.len() / self.dim
    }

    /// Numbers between the images of two rows in [`Self::project`].
    pub(crate) const fn stride(&self) -> usize {
        self.bias.len()
    }

    /// Frobenius norm of `P^T P - I`, an upper bound of its spectral norm.
    pub(crate) const fn defect(&self) -> f64 {
        self.defect
    }

    /// Images of `rows`, `[rows, stride]`.
    pub(crate) fn project(&self, isa: Isa, rows: &[f32], out: &mut Vec<f32>) {
        out.resize(rows.len() / self.dim * self.stride(), 0.0);
        tile_f32(isa, as_words(rows), &self.panels, self.dim, &self.bias, out);
    }
}

/// The same bits as words.
fn as_words(numbers: &[f32]) -> &[u32] {
    // SAFETY: f32 and u32 have the same size and alignment, and every bit pattern is a u32.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast::<u32>(), numbers.len()) }
}

/// Panels of the columns of `x`: `[panels of 16 columns, rows, 16]`.
fn pack_transposed(x: MatRef<'_>) -> Vec<u32> {
    let count = x.dim().div_ceil(LANES);
    let mut panels = vec![0u32; count * x.rows() * LANES];
    for i in 0..x.rows() {
        for (p, part) in x.row(i).chunks(LANES).enumerate() {
            let at = (p * x.rows() + i) * LANES;
            panels[at..at + part.len()].iter_mut().zip(part).for_each(|(word, v)| *word = v.to_bits());
        }
    }
    panels
}

/// Rows of `V X^T X` for the rows of `V`.
fn second_moment_times(isa: Isa, words: &[u32], transposed: &[u32], x: MatRef<'_>, rows: &[f32]) -> Vec<f32> {
    let (count, dim) = (x.rows(), x.dim());
    let rank = rows.len() / dim;
    let zero = vec![0f32; count.max(dim).next_multiple_of(LANES)];
    let width = count.next_multiple_of(LANES);
    let mut images = vec![0f32; rank * width];
    tile_f32(isa, as_words(rows), &pack_panels(words, dim), dim, &zero[..width], &mut images);
    let images: Vec<u32> = images.chunks_exact(width).flat_map(|row| &row[..count]).map(|v| v.to_bits()).collect();
    let width = dim.next_multiple_of(LANES);
    let mut out = vec![0f32; rank * width];
    tile_f32(isa, &images, transposed, count, &zero[..width], &mut out);
    out.chunks_exact(width).flat_map(|row| &row[..dim]).copied().collect()
}

/// Gram-Schmidt, every row twice; rows that vanish are left out.
fn orthonormal(isa: Isa, rows: &[f32], dim: usize) -> Vec<f32> {
    let mut done: Vec<f32> = Vec::with_capacity(rows.len());
    for mut row in rows.chunks_exact(dim).map(<[f32]>::to_vec) {
        if !normalise(isa, &mut row, 0.0) {
            continue;
        }
        let mut kept = true;
        for _ in 0..2 {
            for other in done.chunks_exact(dim) {
                let along = exact::dot(isa, &row, other);
                row.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
            }
            kept = kept && normalise(isa, &mut row, 1e-6);
        }
        if kept {
            done.extend_from_slice(&row);
        }
    }
    done
}

/// Scale to unit length; `false` when the length is at most `least`.
fn normalise(isa: Isa, row: &mut [f32], least: f32) -> bool {
    let largest = row.iter().fold(0f32, |m, v| m.max(v.abs()));
    if largest <= least || !largest.is_finite() {
        return false;
    }
    row.iter_mut().for_each(|v| *v /= largest);
    let length = exact::dot(isa, row, row).sqrt();
    row.iter_mut().for_each(|v| *v /= length);
    true
}

fn defect(rows: &[f32], dim: usize) -> f64 {
    let wide = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    let mut square = 0.0;
    for (i, a) in rows.chunks_exact(dim).enumerate() {
        square += (wide(a, a) - 1.0).powi(2);
        square += rows.chunks_exact(dim).take(i).map(|b| 2.0 * wide(a, b).powi(2)).sum::<f64>();
    }
    square.sqrt() * 1.01
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_direction_comes_first() {
        let data: Vec<f32> = (0..50).flat_map(|i| [3.0 * (i % 7) as f32 - 9.0, 0.1 * (i % 3) as f32, 0.0]).collect();
        let basis = Basis::of(Isa::detect(), MatRef::new(&data, 3).unwrap(), 3);
        assert_eq!(basis.rank(), 2, "the third axis holds nothing after the first step");
        assert!(basis.rows[0].abs() > 0.999);
        assert!(basis.defect() < 1e-6);
        let mut image = Vec::new();
        basis.project(Isa::detect(), &[1.0, 0.0, 0.0, 0.0, 0.0, 5.0], &mut image);
        assert!(image[0].abs() > 0.999 && image[basis.stride()].abs() < 1e-6);
        assert_eq!(basis.prefix(1).rank(), 1);
    }
}
