//! The two precisions of a sweep behind one name.

use super::Costs;
use super::sweep::{add32, add64, softmax32, softmax64};
use std::ops::Range;

/// Costs kept in memory: those of the first rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) narrow: Option<Vec<f32>>,
    pub(super) wide: Option<Vec<f64>>,
}

/// Single or double precision.
pub(super) trait Real: Copy + Send + Sync + Default {
    /// Bytes of a number.
    const BYTES: usize;
    /// Rounded.
    fn of(x: f64) -> Self;
    /// Widened.
    fn wide(self) -> f64;
    /// Some rows of the costs.
    fn costs(costs: &dyn Costs, rows: Range<usize>, out: &mut [Self]);
    /// `p = exp(h + factor c - top)`; `top` and the sum.
    fn softmax(h: &[Self], c: &[Self], factor: f64, p: &mut [Self]) -> (f64, f64);
    /// `sums += scale p`.
    fn add(sums: &mut [Self], p: &[Self], scale: f64);
    /// The costs kept in this precision.
    fn held(held: &Held) -> Option<&[Self]>;
}

impl Real for f32 {
    const BYTES: usize = 4;
    fn of(x: f64) -> Self {
        x as Self
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn costs(costs: &dyn Costs, rows: Range<usize>, out: &mut [Self]) {
        costs.tile(rows, out);
    }
    fn softmax(h: &[Self], c: &[Self], factor: f64, p: &mut [Self]) -> (f64, f64) {
        let (top, sum) = softmax32(h, c, factor as Self, p);
        (f64::from(top), f64::from(sum))
    }
    fn add(sums: &mut [Self], p: &[Self], scale: f64) {
        add32(sums, p, scale as Self);
    }
    fn held(held: &Held) -> Option<&[Self]> {
        held.narrow.as_deref()
    }
}

impl Real for f64 {
    const BYTES: usize = 8;
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
    fn costs(costs: &dyn Costs, rows: Range<usize>, out: &mut [Self]) {
        for (i, row) in rows.zip(out.chunks_exact_mut(costs.cols())) {
            costs.row(i, row);
        }
    }
    fn softmax(h: &[Self], c: &[Self], factor: f64, p: &mut [Self]) -> (f64, f64) {
        softmax64(h, c, factor, p)
    }
    fn add(sums: &mut [Self], p: &[Self], scale: f64) {
        add64(sums, p, scale);
    }
    fn held(held: &Held) -> Option<&[Self]> {
        held.wide.as_deref()
    }
}
