//! Exact transport by the network simplex, kept between calls so that a changed row costs a few pivots, not a new solve.
//!
//! `min sum_ij P_ij C_ij, P 1 = a, P' 1 = b, P >= 0`. Optimal when `C_ij - u_i - v_j >= 0` for all pairs and the flow lives on
//! pairs where it is 0; that is checked against potentials computed anew from the tree. Source: Ahuja, Magnanti, Orlin
//! 1993, section 11 (network simplex, candidate lists). Deviations: whole, perturbed weights (`mass.rs`) in place of a
//! rule against cycling; a nearly optimal start (`start.rs`). Cost: about (n + m) pivots of log to linear length and a
//! few scans of the n m costs; memory 8 n m bytes.

use super::mass::{Mass, scale, whole};
use super::start::{Priced, column_minima, greedy};
use super::tree::Tree;
use crate::nn::wide;
use crate::{KernelError, backend::Tick};

/// Rows whose best arcs make one list of candidates.
const LIST: usize = 48;
/// Pivots between two ticks, and between two computations of all potentials.
const PIVOTS: usize = 1 << 12;

/// A transport problem with positive weights and its current basis.
#[derive(Clone, Debug)]
pub struct Simplex {
    cost: Vec<f64>,
    cols: usize,
    mass: Mass,
    tree: Tree,
    cursor: usize,
    pivots: usize,
    list: Vec<(u32, u32)>,
}

/// A basis to come back to.
#[derive(Clone, Debug)]
pub struct Basis(Tree);

impl Simplex {
    /// Equal weights on both sides, 1 in all; `cost` row after row. Not yet solved.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the matrix is empty or not rectangular, [`KernelError::NotFinite`] with the row.
    pub fn uniform(cost: Vec<f64>, cols: usize) -> Result<Self, KernelError> {
        super::Dense::new(&cost, cols)?;
        let mass = Mass::uniform(cost.len() / cols, cols, 1.0);
        Ok(Self::new(cost, cols, mass))
    }

    /// All weights must be positive.
    pub(super) fn new(cost: Vec<f64>, cols: usize, mass: Mass) -> Self {
        let v = column_minima(&cost, cols);
        let n = mass.rows.len();
        let perturbed: Vec<i64> = mass.rows.iter().map(|w| w * scale(n) + 1).collect();
        let mut wanted: Vec<i64> = mass.cols.iter().map(|w| w * scale(n)).collect();
        if let Some(last) = wanted.last_mut() {
            *last += whole(n);
        }
        let arcs = greedy(Priced { cost: &cost, cols, v: &v }, perturbed, wanted);
        let tree = Tree::new(n, cols, &arcs);
        Self { cost, cols, mass, tree, cursor: 0, pivots: 0, list: Vec::new() }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.cost[i * self.cols..(i + 1) * self.cols]
    }

    fn reduced(&self, i: usize, j: usize) -> f64 {
        self.row(i)[j] - self.tree.potential[i] - self.tree.potential[self.tree.rows() + j]
    }

    /// Pivot until no pair has a negative reduced cost beyond rounding.
    ///
    /// # Errors
    /// [`KernelError::Stopped`] when `tick` asks to stop.
    pub fn solve(&mut self, tick: Tick<'_>) -> Result<(), KernelError> {
        let largest = self.cost.iter().fold(0.0f64, |top, c| top.max(c.abs()));
        let slack = -4e-13 * largest;
        loop {
            self.refresh();
            let before = self.pivots;
            while self.fill(slack) {
                self.work_off(slack);
                if self.pivots - before > PIVOTS {
                    break;
                }
            }
            if !tick((self.pivots - before) as u64) {
                return Err(KernelError::Stopped);
            }
            if self.pivots == before {
                return Ok(());
            }
        }
    }

    fn refresh(&mut self) {
        let (cost, cols) = (&self.cost, self.cols);
        self.tree.price(|i, j| cost[i * cols + j]);
    }

    /// Gather the best arcs of the next rows that have one; false when a whole round found none.
    fn fill(&mut self, slack: f64) -> bool {
        self.list.clear();
        let n = self.tree.rows();
        for _ in 0..n {
            let i = self.cursor;
            self.cursor = (i + 1) % n;
            let u = self.tree.potential[i];
            let v = &self.tree.potential[n..];
            let row = &self.cost[i * self.cols..(i + 1) * self.cols];
            let least = least_difference(row, v);
            if least - u < slack
                && let Some(j) = row.iter().zip(v).position(|(c, v)| c - v == least)
            {
                self.list.push((i as u32, j as u32));
                if self.list.len() == LIST {
                    break;
                }
            }
        }
        !self.list.is_empty()
    }

    /// Pivot on the most negative candidate until none is left.
    fn work_off(&mut self, slack: f64) {
        let mut list = std::mem::take(&mut self.list);
        while !list.is_empty() {
            let (mut best, mut arc) = (slack, None);
            list.retain(|&(i, j)| {
                let delta = self.reduced(i as usize, j as usize);
                if delta < best {
                    (best, arc) = (delta, Some((i, j)));
                }
                delta < slack
            });
            if let Some((i, j)) = arc {
                self.tree.pivot(i as usize, j as usize, best);
                self.pivots += 1;
            }
        }
        self.list = list;
    }

    /// Give row `i` other costs; the basis stays, so that [`Simplex::solve`] goes on from here.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when there is no such row or the length is wrong, [`KernelError::NotFinite`] with the row.
    pub fn replace_row(&mut self, i: usize, costs: &[f64]) -> Result<(), KernelError> {
        if i >= self.tree.rows() || costs.len() != self.cols {
            return Err(KernelError::Shape {
                op: "transport",
                expected: format!("{} costs for one of {} rows", self.cols, self.tree.rows()),
                got: format!("{} for row {i}", costs.len()),
            });
        }
        if costs.iter().any(|c| !c.is_finite()) {
            return Err(KernelError::NotFinite { op: "transport", row: i });
        }
        self.cost[i * self.cols..(i + 1) * self.cols].copy_from_slice(costs);
        self.cursor = i;
        Ok(())
    }

    /// The basis as it is.
    #[must_use]
    pub fn basis(&self) -> Basis {
        Basis(self.tree.clone())
    }

    /// Go back to a basis of this problem.
    pub fn restore(&mut self, basis: &Basis) {
        self.tree.clone_from(&basis.0);
    }

    /// Pivots so far.
    #[must_use]
    pub const fn pivots(&self) -> usize {
        self.pivots
    }

    /// Flows above 0: row, column, mass.
    pub fn flows(&self) -> impl Iterator<Item = (usize, usize, f64)> + '_ {
        let n = self.tree.rows();
        let units = move |flow: i64| (flow + whole(n)).div_euclid(scale(n));
        self.tree
            .arcs()
            .map(move |(i, j, flow)| (i as usize, j as usize, units(flow) as f64 * self.mass.unit))
            .filter(|arc| arc.2 > 0.0)
    }

    /// Cost of the flow.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.flows().map(|(i, j, mass)| mass * self.row(i)[j]).sum()
    }

    /// Potentials of rows and columns, shifted so that both sides contribute the same: `a.u = b.v`.
    #[must_use]
    pub fn duals(&self) -> (Vec<f64>, Vec<f64>) {
        let (u, v) = self.tree.potential.split_at(self.tree.rows());
        let weigh = |weights: &[i64], p: &[f64]| weights.iter().zip(p).map(|(&w, p)| w as f64 * p).sum::<f64>();
        let (on_rows, on_cols) = (weigh(&self.mass.rows, u), weigh(&self.mass.cols, v));
        let shift = (on_cols - on_rows) / (2.0 * self.mass.rows.iter().sum::<i64>() as f64);
        (u.iter().map(|u| u + shift).collect(), v.iter().map(|v| v - shift).collect())
    }
}

wide! {
    /// The least `c - v` of a row.
    fn least_difference(c: &[f64], v: &[f64]) -> f64 {
        const LANES: usize = 16;
        let (whole_c, rest_c) = c.as_chunks::<LANES>();
        let (whole_v, rest_v) = v.as_chunks::<LANES>();
        let mut least = [f64::INFINITY; LANES];
        for (c, v) in whole_c.iter().zip(whole_v) {
            for l in 0..LANES {
                let d = c[l] - v[l];
                least[l] = if d < least[l] { d } else { least[l] };
            }
        }
        let rest = rest_c.iter().zip(rest_v).map(|(c, v)| c - v);
        least.into_iter().chain(rest).fold(f64::INFINITY, |a, b| if b < a { b } else { a })
    }
}
