//! The entropic plan from half sweeps alone, for devices that never hold a row: `ln sum_j exp(h_j - C_ij / eps)` of all rows, then the same of
//! all columns.
//!
//! The iteration, its schedule and its stopping rule are those of `sinkhorn.rs`; only there a sweep keeps a row's exponentials and adds its
//! columns on the way, here columns are summed anew in the log domain, so that no sum can vanish. Source: as there. Cost: two exponentials an
//! element and sweep.

use super::entropic::{Entropic, Sinkhorn};
use super::pace::Pace;
use super::sinkhorn::{PILOT_ERROR, PILOT_SWEEPS, check};
use super::thinned::Thinned;
use super::{Costs, Side::Columns, Side::Rows};
use crate::KernelError;
use crate::backend::Tick;

/// Which sums are wanted: one for each row, over columns, or the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Rows,
    Columns,
}

/// Half sweeps over costs that lie on a device.
pub(crate) trait LogSums {
    /// `ln sum exp(h - C / eps)` for each row (or column); `wide`: in double precision; the mean cost under these weights goes to `paid`.
    fn half(
        &self,
        side: Side,
        h: &[f64],
        eps: f64,
        wide: bool,
        paid: Option<&mut Vec<f64>>,
    ) -> Result<Vec<f64>, KernelError>;

    /// The largest cost.
    fn largest(&self) -> Result<f64, KernelError>;
}

/// As [`super::sinkhorn`], with the costs where `place` puts them.
pub(crate) fn solve(
    costs: &dyn Costs,
    a: &[f64],
    b: &[f64],
    params: &Entropic,
    tick: Tick<'_>,
    place: impl Fn(&dyn Costs) -> Result<Box<dyn LogSums>, KernelError>,
) -> Result<Sinkhorn, KernelError> {
    check(costs, a, b, params)?;
    let mut run = Run::new(place(costs)?, (a, b), params, tick)?;
    if let Some((some, weights)) = Thinned::of(costs, a) {
        let mut pilot = Run::new(place(&some)?, (&weights, b), params, tick)?;
        pilot.anneal()?;
        pilot.pace = Pace::new();
        pilot.level(params.eps, (PILOT_ERROR.max(params.tolerance), PILOT_SWEEPS), false)?;
        run.g = pilot.g;
    } else {
        run.anneal()?;
    }
    let floor = 4e-7 * (1.0 + run.largest / params.eps);
    run.pace = Pace::new();
    run.level(params.eps, (params.tolerance.max(floor), params.max_sweeps), false)?;
    if params.tolerance < floor {
        run.level(params.eps, (params.tolerance, params.max_sweeps), true)?;
    }
    run.finish()
}

/// A solve under way.
struct Run<'a> {
    sums: Box<dyn LogSums>,
    a: &'a [f64],
    b: &'a [f64],
    params: &'a Entropic,
    tick: Tick<'a>,
    largest: f64,
    f: Vec<f64>,
    g: Vec<f64>,
    pace: Pace,
    sweeps: usize,
}

impl<'a> Run<'a> {
    fn new(
        sums: Box<dyn LogSums>,
        (a, b): (&'a [f64], &'a [f64]),
        params: &'a Entropic,
        tick: Tick<'a>,
    ) -> Result<Self, KernelError> {
        let largest = sums.largest()?;
        let (f, g) = (vec![0.0; a.len()], vec![0.0; b.len()]);
        Ok(Self { sums, a, b, params, tick, largest, f, g, pace: Pace::new(), sweeps: 0 })
    }

    fn anneal(&mut self) -> Result<(), KernelError> {
        let mut eps = self.largest.max(self.params.eps);
        while eps > 2.0 * self.params.eps {
            eps /= 2.0;
            self.level(eps, (0.02, 12), false)?;
        }
        Ok(())
    }

    /// Sweep at one eps until the error is small enough.
    fn level(&mut self, eps: f64, (tolerance, sweeps): (f64, usize), wide: bool) -> Result<(), KernelError> {
        let total: f64 = self.b.iter().sum();
        for _ in 0..sweeps {
            let error = self.sweep(eps, wide)? / total;
            self.sweeps += 1;
            if !(self.tick)(self.f.len() as u64) {
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
    fn sweep(&mut self, eps: f64, wide: bool) -> Result<f64, KernelError> {
        let omega = self.pace.omega;
        let rows = self.sums.half(Rows, &weighted(&self.g, self.b, eps), eps, wide, None)?;
        let mut error = 0.0;
        for ((f, a), sum) in self.f.iter_mut().zip(self.a).zip(rows) {
            let target = -eps * sum;
            let next = if omega == 1.0 { target } else { (1.0 - omega).mul_add(*f, omega * target) };
            error += a * (((next - target) / eps).clamp(-50.0, 50.0).exp() - 1.0).abs();
            *f = next;
        }
        let columns = self.sums.half(Columns, &weighted(&self.f, self.a, eps), eps, wide, None)?;
        for ((g, b), sum) in self.g.iter_mut().zip(self.b).zip(columns) {
            let excess = sum + *g / eps;
            error += b * (excess.min(700.0).exp() - 1.0).abs();
            *g -= omega * eps * excess;
        }
        Ok(error)
    }

    /// The last pass, in double precision: rows met exactly, cost and error as they are.
    fn finish(mut self) -> Result<Sinkhorn, KernelError> {
        let eps = self.params.eps;
        let mut paid = Vec::new();
        let rows = self.sums.half(Rows, &weighted(&self.g, self.b, eps), eps, true, Some(&mut paid))?;
        let mut f: Vec<f64> = rows.into_iter().map(|sum| -eps * sum).collect();
        let columns = self.sums.half(Columns, &weighted(&f, self.a, eps), eps, true, None)?;
        if !(self.tick)(f.len() as u64) {
            return Err(KernelError::Stopped);
        }
        let excess = |((g, b), sum): ((&f64, &f64), f64)| b * ((sum + g / eps).exp() - 1.0).abs();
        let error = self.g.iter().zip(self.b).zip(columns).map(excess).sum();
        let dot = |w: &[f64], p: &[f64]| w.iter().zip(p).map(|(w, p)| w * p).sum::<f64>();
        let cost = self.a.iter().zip(&paid).filter(|(a, _)| **a > 0.0).map(|(a, p)| a * p).sum();
        let (on_rows, on_cols) = (dot(self.a, &f), dot(self.b, &self.g));
        let shift = (on_cols - on_rows) / (2.0 * self.b.iter().sum::<f64>());
        f.iter_mut().for_each(|f| *f += shift);
        self.g.iter_mut().for_each(|g| *g -= shift);
        Ok(Sinkhorn { f, g: self.g, cost, dual: on_rows + on_cols, error, sweeps: self.sweeps })
    }
}

/// `potential / eps + ln weight`.
fn weighted(potential: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    potential.iter().zip(weight).map(|(p, w)| p / eps + w.ln()).collect()
}
