//! The cost of using a row for a target row: distance minus `lambda` times the row's gradient norm, scaled to 0..1.

use curate_core::kernels::MatRef;
use curate_core::kernels::transport::{Ground, Points, narrow};
use curate_core::{Ctx, Result};

/// Costs of all candidates (rows) for all target rows (columns).
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    data: Vec<f32>,
    cols: usize,
    /// Least cost before scaling.
    pub(super) min: f64,
    /// Largest cost before scaling.
    pub(super) max: f64,
}

/// What enters the costs besides the vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// Weight of the gradient norms.
    pub(super) lambda: f64,
    /// Gradient norm of every candidate over the largest of all; empty when they are not used.
    pub(super) norms: &'a [f32],
    /// Whether distances are divided by the largest.
    pub(super) divide: bool,
}

#[expect(clippy::cast_possible_truncation, reason = "costs are kept in single precision")]
impl Matrix {
    /// Euclidean distances, less the gradient term, scaled so that the least is 0 and the largest 1.
    pub(super) fn new(x: MatRef<'_>, y: MatRef<'_>, terms: Terms<'_>, ctx: &Ctx) -> Result<Self> {
        ctx.memory().reserve(4 * (x.rows() * y.rows()) as u64, "the distances to the target")?;
        let mut matrix = Self {
            data: narrow(&Points::new(x, y, Ground::Euclidean)?),
            cols: y.rows(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        };
        ctx.tick(x.rows() as u64)?;
        let largest = matrix.data.iter().fold(0.0f32, |top, &d| top.max(d));
        let divisor = if terms.divide && largest > 0.0 { f64::from(largest) } else { 1.0 };
        let reward = |i: usize| terms.lambda * terms.norms.get(i).copied().map_or(0.0, f64::from);
        for (i, row) in matrix.data.chunks_exact(matrix.cols).enumerate() {
            let (low, high) = row.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &d| (l.min(d), h.max(d)));
            matrix.min = matrix.min.min(f64::from(low) / divisor - reward(i));
            matrix.max = matrix.max.max(f64::from(high) / divisor - reward(i));
        }
        let range = matrix.max - matrix.min;
        let scale = if range > 0.0 { 1.0 / range } else { 0.0 };
        for (i, row) in matrix.data.chunks_exact_mut(matrix.cols).enumerate() {
            let offset = reward(i) + matrix.min;
            for c in row {
                *c = ((f64::from(*c) / divisor - offset) * scale) as f32;
            }
        }
        Ok(matrix)
    }

    /// Number of candidates.
    pub(super) fn rows(&self) -> usize {
        self.data.len() / self.cols
    }

    /// Number of target rows.
    pub(super) const fn cols(&self) -> usize {
        self.cols
    }

    /// Costs of candidate `i`.
    pub(super) fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// The same in double precision.
    pub(super) fn wide(&self, i: usize) -> Vec<f64> {
        self.row(i).iter().map(|&c| f64::from(c)).collect()
    }
}
