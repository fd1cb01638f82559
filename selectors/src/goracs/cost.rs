//! The cost of using a row for a target row: distance minus `lambda` times the row's gradient norm, scaled to 0..1.

use crate::distances::{Distances, Scaling};
use curate_core::kernels::MatRef;
use curate_core::{Ctx, Result};

/// Costs of all candidates (rows) for all target rows (columns).
pub(super) struct Matrix<'a> {
    /// The costs, row by row.
    pub(super) rows: Distances<'a>,
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

impl<'a> Matrix<'a> {
    /// Euclidean distances, less the gradient term, scaled so that the least is 0 and the largest 1.
    pub(super) fn new(x: MatRef<'a>, y: MatRef<'a>, terms: Terms<'_>, ctx: &Ctx) -> Result<Self> {
        let mut rows = Distances::new(x, y, ctx)?;
        ctx.tick(x.rows() as u64)?;
        let bounds =
            rows.each(|row| row.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &d| (l.min(d), h.max(d))));
        let largest = bounds.iter().fold(0.0f32, |top, b| top.max(b.1));
        let divisor = if terms.divide && largest > 0.0 { f64::from(largest) } else { 1.0 };
        let reward = |i: usize| terms.lambda * terms.norms.get(i).copied().map_or(0.0, f64::from);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for (i, &(low, high)) in bounds.iter().enumerate() {
            min = min.min(f64::from(low) / divisor - reward(i));
            max = max.max(f64::from(high) / divisor - reward(i));
        }
        let scale = if max > min { 1.0 / (max - min) } else { 0.0 };
        let offsets = (0..x.rows()).map(|i| reward(i) + min).collect();
        rows.scale(Scaling { divisor, offsets, scale });
        Ok(Self { rows, min, max })
    }
}
