//! The fast CPU body: vector instructions chosen at run time, threads of the current rayon pool.

use rayon::prelude::*;

use crate::assign::{Input, Nearest, choose_frame, full_frame};
use crate::backend::{TICK_ROWS, Tick, check_assign, check_len, check_own, check_top_k};
use crate::sketch::{Frame, Rows};
use crate::topk::Search;
use crate::{Backend, Isa, KernelError, Lloyd, MatRef, Metric, Neighbours, exact};

/// The CPU. Every value it returns is canonical (see the crate's promise), on every instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    isa: Isa,
}

impl Cpu {
    /// With the best instruction set of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self { isa: Isa::detect() }
    }

    /// With a given instruction set; `None` where the machine lacks it.
    #[must_use]
    pub fn with_isa(isa: Isa) -> Option<Self> {
        isa.is_available().then_some(Self { isa })
    }

    /// Apply `body(i)` to every row in parallel; the first row whose value is not finite is an error.
    fn each_row(out: &mut [f32], op: &'static str, body: impl Fn(usize, f32) -> f32 + Sync) -> Result<(), KernelError> {
        let bad = out.par_iter_mut().with_min_len(64).enumerate().filter_map(|(i, slot)| {
            let value = body(i, *slot);
            if value.is_finite() {
                *slot = value;
                return None;
            }
            Some(i)
        });
        match bad.min() {
            None => Ok(()),
            Some(row) => Err(KernelError::NotFinite { op, row }),
        }
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        self.isa.backend_name()
    }

    fn row_sq_norms(&self, x: MatRef<'_>) -> Vec<f32> {
        let norm = |i| exact::dot(self.isa, x.row(i), x.row(i));
        (0..x.rows()).into_par_iter().with_min_len(64).map(norm).collect()
    }

    fn assign(
        &self,
        x: MatRef<'_>,
        centroids: MatRef<'_>,
        labels: &mut [u32],
        sq_dist: &mut [f32],
    ) -> Result<(), KernelError> {
        check_assign(x, centroids, labels.len(), sq_dist.len())?;
        let frame = choose_frame(self.isa, x, centroids)?;
        let nearest = Nearest::new(self.isa, centroids, frame.as_ref())?;
        nearest.label(frame.as_ref(), Input { x, kept: None, first: 0 }, labels, None)?;
        self.own_sq_dist(x, centroids, labels, sq_dist)
    }

    fn top_k(
        &self,
        queries: MatRef<'_>,
        base: MatRef<'_>,
        k: usize,
        metric: Metric,
        skip_self: Option<usize>,
    ) -> Result<Neighbours, KernelError> {
        check_top_k(queries, base)?;
        Search { isa: self.isa, queries, base, k, metric, skip_self }.run()
    }

    fn min_sq_dist_update(&self, x: MatRef<'_>, point: &[f32], min_sq_dist: &mut [f32]) -> Result<(), KernelError> {
        check_len("min_sq_dist_update", "columns", x.dim(), point.len())?;
        check_len("min_sq_dist_update", "distances", x.rows(), min_sq_dist.len())?;
        let bad = min_sq_dist.par_iter_mut().with_min_len(64).enumerate().filter_map(|(i, slot)| {
            let dist = exact::sq_dist(self.isa, x.row(i), point);
            *slot = slot.min(dist);
            (!dist.is_finite()).then_some(i)
        });
        match bad.min() {
            None => Ok(()),
            Some(row) => Err(KernelError::NotFinite { op: "min_sq_dist_update", row }),
        }
    }

    fn own_sq_dist(
        &self,
        x: MatRef<'_>,
        centroids: MatRef<'_>,
        labels: &[u32],
        sq_dist: &mut [f32],
    ) -> Result<(), KernelError> {
        check_own(x, centroids, labels, sq_dist.len())?;
        let dist = |i: usize, _| exact::sq_dist(self.isa, x.row(i), centroids.row(labels[i] as usize));
        Self::each_row(sq_dist, "own_sq_dist", dist)
    }

    fn lloyd<'a>(&'a self, x: MatRef<'a>) -> Result<Box<dyn Lloyd + 'a>, KernelError> {
        Ok(Box::new(CpuLloyd { isa: self.isa, x, calls: 0, kept: None }))
    }
}

/// Assignment of the same rows again and again: the first call meets raw rows as centroids and works at full width;
/// the second sees means, chooses a sketch and keeps it.
struct CpuLloyd<'a> {
    isa: Isa,
    x: MatRef<'a>,
    calls: u32,
    kept: Option<(Frame, Rows)>,
}

impl Lloyd for CpuLloyd<'_> {
    fn assign(&mut self, centroids: MatRef<'_>, labels: &mut [u32], tick: Tick<'_>) -> Result<(), KernelError> {
        check_assign(self.x, centroids, labels.len(), labels.len())?;
        if self.calls == 1 {
            let chosen = choose_frame(self.isa, self.x, centroids)?.filter(Frame::is_projected);
            self.kept = chosen.map(|frame| {
                let rows = frame.rows(self.x);
                (frame, rows)
            });
        }
        self.calls = self.calls.saturating_add(1);
        let fresh = if self.kept.is_none() { full_frame(self.isa, self.x.rows(), centroids) } else { None };
        let frame = self.kept.as_ref().map(|kept| &kept.0).or(fresh.as_ref());
        let nearest = Nearest::new(self.isa, centroids, frame)?;
        for first in (0..self.x.rows()).step_by(TICK_ROWS) {
            let range = first..(first + TICK_ROWS).min(self.x.rows());
            let kept = self.kept.as_ref().map(|kept| &kept.1);
            let input = Input { x: self.x.slice(range.clone()), kept, first };
            nearest.label(frame, input, &mut labels[range.clone()], None)?;
            if !tick(range.len() as u64) {
                return Err(KernelError::Stopped);
            }
        }
        Ok(())
    }
}
