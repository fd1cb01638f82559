//! Some rows of a cost matrix in place of all: enough to say where the potentials of columns begin.

use super::{Clouds, Costs};

/// Rows that a pilot takes, at least; it pays where there are many times more.
const PILOT_ROWS: usize = 8192;

/// Every `step`-th row of the costs.
pub(super) struct Thinned<'a> {
    costs: &'a dyn Costs,
    step: usize,
}

impl<'a> Thinned<'a> {
    /// Some rows and their weights, which sum to those of all; none where there are few rows.
    pub(super) fn of(costs: &'a dyn Costs, a: &[f64]) -> Option<(Self, Vec<f64>)> {
        let step = a.len() / PILOT_ROWS;
        let weights: Vec<f64> = a.iter().copied().step_by(step.max(1)).collect();
        let scale = a.iter().sum::<f64>() / weights.iter().sum::<f64>();
        let pays = step >= 4 && scale.is_finite();
        pays.then(|| (Self { costs, step }, weights.iter().map(|w| w * scale).collect()))
    }
}

impl Costs for Thinned<'_> {
    fn rows(&self) -> usize {
        self.costs.rows().div_ceil(self.step)
    }

    fn cols(&self) -> usize {
        self.costs.cols()
    }

    fn row(&self, i: usize, out: &mut [f64]) {
        self.costs.row(i * self.step, out);
    }

    fn clouds(&self) -> Option<Clouds> {
        Some(self.costs.clouds()?.thinned(self.step))
    }
}
