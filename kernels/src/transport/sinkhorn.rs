//! Entropic transport by fused sweeps in the log domain.
//!
//! `P_ij = a_i b_j exp((f_i + g_j - C_ij) / eps)`; a sweep computes `f_i = -eps log sum_j b_j exp((g_j - C_ij) / eps)` row by
//! row, adds up the columns of P on the way and ends with `g_j += omega eps log(b_j / column_j)`. eps comes down by halves
//! from the largest cost; of many rows, eps comes down on some of them only. Single precision first, double precision for
//! the rest where a tight error is asked for; the last pass over rows computes in double precision. Source: Cuturi 2013;
//! log domain and annealing, Peyre, Cuturi 2019, section 4.4; over-relaxation, see `pace.rs`. Deviations: rows and
//! columns in one sweep; potentials of columns begin with those of the transport from every k-th row. Cost: n m
//! exponentials a sweep, and d for every cost that does not fit in `hold_bytes`; memory 8 (n + m), plus 8 m for every 256
//! rows.

use super::Costs;
use super::entropic::{Entropic, Sinkhorn};
use super::pace::Pace;
use super::real::{Held, Real};
use super::sweep::{add64, softmax64};
use super::thinned::Thinned;
use crate::{KernelError, backend::Tick};
use rayon::prelude::*;

/// Rows that share one vector of column sums: fixed, so that threads cannot matter.
const BLOCK: usize = 256;
/// Rows whose columns are added up in single precision, and whose costs are made at once.
const TILE: usize = 32;

/// The entropic plan between `a` and `b`.
///
/// # Errors
/// [`KernelError::Shape`] for weights that are negative, not finite or differ in sum, for a column of weight 0 and for an
/// eps that is not above 0; [`KernelError::NotFinite`] for costs; [`KernelError::Stopped`] when `tick` asks to stop.
pub fn sinkhorn(
    costs: &dyn Costs,
    a: &[f64],
    b: &[f64],
    params: &Entropic,
    tick: Tick<'_>,
) -> Result<Sinkhorn, KernelError> {
    check(costs, a, b, params)?;
    let mut run = Run::new(costs, (a, b), params)?;
    if let Some((some, weights)) = Thinned::of(costs, a) {
        let mut pilot = Run::new(&some, (&weights, b), params)?;
        pilot.anneal(tick)?;
        pilot.pace = Pace::new();
        pilot.level::<f32>(params.eps, (PILOT_ERROR.max(params.tolerance), PILOT_SWEEPS), tick)?;
        run.g = pilot.g;
    } else {
        run.anneal(tick)?;
    }
    let floor = 4e-7 * (1.0 + run.largest / params.eps);
    run.pace = Pace::new();
    run.level::<f32>(params.eps, (params.tolerance.max(floor), params.max_sweeps), tick)?;
    if params.tolerance >= floor {
        return run.finish::<f32>(tick);
    }
    run.held.narrow = None;
    run.held.wide = Some(run.hold());
    run.level::<f64>(params.eps, (params.tolerance, params.max_sweeps), tick)?;
    run.finish::<f64>(tick)
}

/// Error at which a pilot stops, and sweeps after which it stops in any case: what its rows tell is not exact.
pub(super) const PILOT_ERROR: f64 = 1e-3;
pub(super) const PILOT_SWEEPS: usize = 200;

pub(super) fn check(costs: &dyn Costs, a: &[f64], b: &[f64], params: &Entropic) -> Result<(), KernelError> {
    crate::backend::check_len("transport", "row weights", costs.rows(), a.len())?;
    crate::backend::check_len("transport", "column weights", costs.cols(), b.len())?;
    super::mass::Mass::new(a, b)?;
    let wrong = |expected: &str, got: f64| {
        Err(KernelError::Shape { op: "transport", expected: expected.to_owned(), got: got.to_string() })
    };
    if let Some(zero) = b.iter().find(|w| **w <= 0.0) {
        return wrong("columns of positive weight", *zero);
    }
    if params.eps > 0.0 && params.eps.is_finite() { Ok(()) } else { wrong("an eps above 0", params.eps) }
}

/// A solve under way.
struct Run<'a> {
    costs: &'a dyn Costs,
    a: &'a [f64],
    b: &'a [f64],
    params: &'a Entropic,
    largest: f64,
    held: Held,
    f: Vec<f64>,
    g: Vec<f64>,
    pace: Pace,
    sweeps: usize,
}

impl<'a> Run<'a> {
    fn new(costs: &'a dyn Costs, (a, b): (&'a [f64], &'a [f64]), params: &'a Entropic) -> Result<Self, KernelError> {
        let (n, m) = (costs.rows(), costs.cols());
        let mut run = Self {
            costs,
            a,
            b,
            params,
            largest: 0.0,
            held: Held::default(),
            f: vec![0.0; n],
            g: vec![0.0; m],
            pace: Pace::new(),
            sweeps: 0,
        };
        run.held.narrow = Some(run.hold());
        run.largest = run.magnitude()?;
        Ok(run)
    }

    /// The costs of the first rows, as many as may be kept: all, or whole tiles.
    fn hold<T: Real>(&self) -> Vec<T> {
        let (n, m) = (self.costs.rows(), self.costs.cols());
        let fitting = self.params.hold_bytes / (T::BYTES * m);
        let rows = if fitting < n { fitting / TILE * TILE } else { n };
        let mut held = vec![T::default(); rows * m];
        let fill = |(t, out): (usize, &mut [T])| T::costs(self.costs, t * TILE..t * TILE + out.len() / m, out);
        held.par_chunks_mut(TILE * m).enumerate().for_each(fill);
        held
    }

    /// Let eps come down from the largest cost.
    fn anneal(&mut self, tick: Tick<'_>) -> Result<(), KernelError> {
        let mut eps = self.largest.max(self.params.eps);
        while eps > 2.0 * self.params.eps {
            eps /= 2.0;
            self.level::<f32>(eps, (0.02, 12), tick)?;
        }
        Ok(())
    }

    /// The largest cost; refuses costs that are not finite.
    fn magnitude(&self) -> Result<f64, KernelError> {
        let tops: Vec<f32> = (0..self.costs.rows().div_ceil(TILE))
            .into_par_iter()
            .map(|t| {
                let rows = t * TILE..((t + 1) * TILE).min(self.costs.rows());
                let mut buffer = Vec::new();
                let tile = self.tile::<f32>(rows, &mut buffer);
                tile.iter().fold(0.0f32, |top, c| if c.is_finite() { top.max(c.abs()) } else { f32::INFINITY })
            })
            .collect();
        match tops.iter().position(|t| t.is_infinite()) {
            Some(t) => Err(KernelError::NotFinite { op: "transport", row: t * TILE }),
            None => Ok(tops.into_iter().fold(0.0, |a, b| a.max(f64::from(b)))),
        }
    }

    /// Costs of some rows, from memory or made in `buffer`.
    fn tile<'r, T: Real>(&'r self, rows: std::ops::Range<usize>, buffer: &'r mut Vec<T>) -> &'r [T] {
        let m = self.costs.cols();
        if let Some(found) = T::held(&self.held).and_then(|held| held.get(rows.start * m..rows.end * m)) {
            return found;
        }
        buffer.resize(rows.len() * m, T::default());
        T::costs(self.costs, rows, buffer);
        buffer
    }

    /// Sweep at one eps until the error is small enough.
    fn level<T: Real>(
        &mut self,
        eps: f64,
        (tolerance, max_sweeps): (f64, usize),
        tick: Tick<'_>,
    ) -> Result<(), KernelError> {
        let total: f64 = self.b.iter().sum();
        for _ in 0..max_sweeps {
            let error = self.sweep::<T>(eps) / total;
            self.sweeps += 1;
            if !tick(self.f.len() as u64) {
                return Err(KernelError::Stopped);
            }
            if error <= tolerance {
                break;
            }
            self.pace.observe(error);
        }
        Ok(())
    }

    /// One sweep; returns the error of the margins before its column update.
    fn sweep<T: Real>(&mut self, eps: f64) -> f64 {
        let h: Vec<T> = self.g.iter().zip(self.b).map(|(g, b)| T::of(g / eps + b.ln())).collect();
        let mut f = std::mem::take(&mut self.f);
        let omega = self.pace.omega;
        let parts: Vec<(Vec<f64>, f64)> = f
            .par_chunks_mut(BLOCK)
            .enumerate()
            .map(|(block, f)| self.block::<T>(&h, (eps, omega), block * BLOCK, f))
            .collect();
        self.f = f;
        let mut columns = vec![0.0; self.b.len()];
        let mut error = 0.0;
        for (part, rows) in parts {
            columns.iter_mut().zip(part).for_each(|(c, p)| *c += p);
            error += rows;
        }
        for ((g, b), column) in self.g.iter_mut().zip(self.b).zip(columns) {
            error += (column - b).abs();
            *g += omega * eps * (b / column).ln();
        }
        error
    }

    /// The rows from `first`: their potentials, their share of the column sums, and how far their own margin is off.
    fn block<T: Real>(&self, h: &[T], (eps, omega): (f64, f64), first: usize, f: &mut [f64]) -> (Vec<f64>, f64) {
        let m = h.len();
        let (mut sums, mut part) = (vec![0.0; m], vec![T::default(); m]);
        let (mut p, mut buffer) = (vec![T::default(); m], Vec::new());
        let mut error = 0.0;
        for (t, f) in f.chunks_mut(TILE).enumerate() {
            let start = first + t * TILE;
            part.fill(T::default());
            let tile = self.tile::<T>(start..start + f.len(), &mut buffer);
            for ((f, c), a) in f.iter_mut().zip(tile.chunks_exact(m)).zip(&self.a[start..]) {
                let (top, sum) = T::softmax(h, c, -1.0 / eps, &mut p);
                let target = -eps * (top + sum.ln());
                let next = (1.0 - omega).mul_add(*f, omega * target);
                let factor = if omega == 1.0 { 1.0 } else { ((next - target) / eps).clamp(-50.0, 50.0).exp() };
                error += a * (factor - 1.0).abs();
                *f = if omega == 1.0 { target } else { next };
                T::add(&mut part, &p, a * factor / sum);
            }
            sums.iter_mut().zip(&part).for_each(|(s, p)| *s += p.wide());
        }
        (sums, error)
    }

    /// The last pass, in double precision: rows met exactly, cost and error as they are.
    fn finish<T: Real>(mut self, tick: Tick<'_>) -> Result<Sinkhorn, KernelError> {
        let eps = self.params.eps;
        let h: Vec<f64> = self.g.iter().zip(self.b).map(|(g, b)| g / eps + b.ln()).collect();
        let mut f = std::mem::take(&mut self.f);
        let parts: Vec<(Vec<f64>, f64)> =
            f.par_chunks_mut(BLOCK).enumerate().map(|(block, f)| self.last::<T>(&h, block * BLOCK, f)).collect();
        let (mut columns, mut cost) = (vec![0.0; self.b.len()], 0.0);
        for (part, paid) in parts {
            columns.iter_mut().zip(part).for_each(|(c, p)| *c += p);
            cost += paid;
        }
        if !tick(f.len() as u64) {
            return Err(KernelError::Stopped);
        }
        let error = columns.iter().zip(self.b).map(|(c, b)| (c - b).abs()).sum();
        let dot = |w: &[f64], p: &[f64]| w.iter().zip(p).map(|(w, p)| w * p).sum::<f64>();
        let (on_rows, on_cols) = (dot(self.a, &f), dot(self.b, &self.g));
        let shift = (on_cols - on_rows) / (2.0 * self.b.iter().sum::<f64>());
        f.iter_mut().for_each(|f| *f += shift);
        self.g.iter_mut().for_each(|g| *g -= shift);
        Ok(Sinkhorn { f, g: self.g, cost, dual: on_rows + on_cols, error, sweeps: self.sweeps })
    }

    fn last<T: Real>(&self, h: &[f64], first: usize, f: &mut [f64]) -> (Vec<f64>, f64) {
        let (eps, m) = (self.params.eps, h.len());
        let (mut sums, mut p, mut row, mut buffer) = (vec![0.0; m], vec![0.0; m], vec![0.0; m], Vec::new());
        let mut cost = 0.0;
        for (t, f) in f.chunks_mut(TILE).enumerate() {
            let start = first + t * TILE;
            let tile = self.tile::<T>(start..start + f.len(), &mut buffer);
            for ((f, c), a) in f.iter_mut().zip(tile.chunks_exact(m)).zip(&self.a[start..]) {
                row.iter_mut().zip(c).for_each(|(wide, c)| *wide = c.wide());
                let (top, sum) = softmax64(h, &row, -1.0 / eps, &mut p);
                *f = -eps * (top + sum.ln());
                let scale = a / sum;
                add64(&mut sums, &p, scale);
                cost += scale * p.iter().zip(&row).map(|(p, c)| p * c).sum::<f64>();
            }
        }
        (sums, cost)
    }
}
