//! The coarse operations every device implements.
//!
//! Contract shared by all bodies: results do not depend on the number of threads nor on how rows are cut into calls;
//! ties go to the lowest index; numbers that are not finite are an error, never a panic.

use rayon::prelude::*;

use crate::chance::{Beta, Chance};
use crate::nuclear::{FrozenHead, nuclear_norm};
use crate::transport::{Costs, Entropic, Sinkhorn, sinkhorn};
use crate::{Isa, KernelError, MatRef, SegmentSums, exact};

/// How two rows are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Inner product, larger is nearer. On unit rows this is the cosine.
    Dot,
    /// Squared Euclidean distance, smaller is nearer.
    SqEuclidean,
}

impl Metric {
    /// Whether `(value, index)` pair `a` is nearer than `b`; equal values: the lower index.
    pub(crate) fn nearer(self, a: (f32, u32), b: (f32, u32)) -> bool {
        let by_value = match self {
            Self::Dot => b.0.total_cmp(&a.0),
            Self::SqEuclidean => a.0.total_cmp(&b.0),
        };
        by_value.then(a.1.cmp(&b.1)).is_lt()
    }

    /// Value of a neighbour that is missing: farther than any.
    pub(crate) const fn worst(self) -> f32 {
        match self {
            Self::Dot => f32::NEG_INFINITY,
            Self::SqEuclidean => f32::INFINITY,
        }
    }
}

/// The `k` nearest base rows of each query, nearest first, row-major `[queries, k]`.
/// Missing neighbours (fewer than `k` candidates) carry the index `u32::MAX` and an infinite
/// value: minus infinity for [`Metric::Dot`], infinity for [`Metric::SqEuclidean`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbours {
    /// Neighbours per query.
    pub k: usize,
    /// Base row of each neighbour.
    pub index: Vec<u32>,
    /// Metric value of each neighbour.
    pub value: Vec<f32>,
}

/// Told the number of rows done since the last call; `false` asks to stop.
pub type Tick<'a> = &'a dyn Fn(u64) -> bool;

/// Repeated assignment of the same rows to changing centroids: lets a device keep what it knows of the rows.
pub trait Lloyd {
    /// Labels as [`Backend::assign`] gives them, without the distances.
    ///
    /// # Errors
    /// Those of [`Backend::assign`], and [`KernelError::Stopped`] when `tick` asks to stop.
    fn assign(&mut self, centroids: MatRef<'_>, labels: &mut [u32], tick: Tick<'_>) -> Result<(), KernelError>;

    /// Let the rows `x` (those it was made with) go from their segments in `before` to those in `after`; `u32::MAX` before: the row
    /// enters. Labels are below the number of segments, magnitudes as announced.
    ///
    /// # Errors
    /// [`KernelError::Device`] where a device fails.
    fn shift(
        &mut self,
        x: MatRef<'_>,
        before: &[u32],
        after: &[u32],
        sums: &mut SegmentSums,
    ) -> Result<(), KernelError> {
        sums.shift(x, before, after);
        Ok(())
    }
}

/// A device that runs the coarse operations.
pub trait Backend: Send + Sync {
    /// Short name for manifests and logs: `reference`, `cpu-avx512-bf16`, `cuda:0`.
    fn name(&self) -> &str;

    /// Squared Euclidean norm of every row.
    fn row_sq_norms(&self, x: MatRef<'_>) -> Vec<f32>;

    /// Nearest centroid of every row: `labels[i] = argmin_j |x_i - c_j|^2`, ties to the lowest `j`, and the squared
    /// distance to it.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when dimensions or output lengths disagree or there is no centroid;
    /// [`KernelError::NotFinite`] for a row or centroid whose squared norm is not finite.
    fn assign(
        &self,
        x: MatRef<'_>,
        centroids: MatRef<'_>,
        labels: &mut [u32],
        sq_dist: &mut [f32],
    ) -> Result<(), KernelError>;

    /// The `k` nearest rows of `base` for each row of `queries`. With `skip_self = Some(offset)`, query `i` never
    /// returns base row `offset + i`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when dimensions disagree; [`KernelError::NotFinite`] as in [`Backend::assign`].
    fn top_k(
        &self,
        queries: MatRef<'_>,
        base: MatRef<'_>,
        k: usize,
        metric: Metric,
        skip_self: Option<usize>,
    ) -> Result<Neighbours, KernelError>;

    /// Lower `min_sq_dist[i]` to `|x_i - p|^2` where that is smaller: one step of farthest-first and of k-means++.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when dimensions or lengths disagree; [`KernelError::NotFinite`] for a row at a distance
    /// that is not finite.
    fn min_sq_dist_update(&self, x: MatRef<'_>, point: &[f32], min_sq_dist: &mut [f32]) -> Result<(), KernelError>;

    /// Squared distance of every row to the centroid its label names.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when shapes disagree or a label names no centroid.
    fn own_sq_dist(
        &self,
        x: MatRef<'_>,
        centroids: MatRef<'_>,
        labels: &[u32],
        sq_dist: &mut [f32],
    ) -> Result<(), KernelError>;

    /// Add every row to the sum of its segment. Sums are integers, so neither order nor chunking can matter.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when shapes disagree, a label names no segment, or more rows come than were announced;
    /// [`KernelError::NotFinite`] for a number beyond the announced magnitude.
    fn segment_sums(&self, x: MatRef<'_>, labels: &[u32], sums: &mut SegmentSums) -> Result<(), KernelError> {
        sums.add(x, labels)
    }

    /// Nuclear norm of each matrix, see [`crate::nuclear::nuclear_norm`]; many at once cost a device little more than one.
    ///
    /// # Errors
    /// Those of [`crate::nuclear::nuclear_norm`]; the row is counted within its matrix.
    fn nuclear_norms(&self, matrices: &[MatRef<'_>]) -> Result<Vec<f64>, KernelError> {
        matrices.iter().map(|x| nuclear_norm(*x)).collect()
    }

    /// Nuclear norm of the logits that a head makes of each text's hidden states, see [`FrozenHead::nuclear_norm`].
    ///
    /// # Errors
    /// Those of [`FrozenHead::nuclear_norm`] for the first such text; the row is counted within it.
    fn head_norms(&self, head: &FrozenHead, hidden: &[MatRef<'_>]) -> Result<Vec<f64>, KernelError> {
        let norms: Vec<_> = hidden.par_iter().map(|x| head.nuclear_norm(*x)).collect();
        norms.into_iter().collect()
    }

    /// The entropic plan, see [`crate::transport::sinkhorn`].
    ///
    /// # Errors
    /// Those of [`crate::transport::sinkhorn`].
    fn sinkhorn(
        &self,
        costs: &dyn Costs,
        a: &[f64],
        b: &[f64],
        params: &Entropic,
        tick: Tick<'_>,
    ) -> Result<Sinkhorn, KernelError> {
        sinkhorn(costs, a, b, params, tick)
    }

    /// What taking each candidate adds to how well the rows of `x` are covered: `sum_i max(0, x_i . c - best_i)`, products in f32, sums in
    /// f64 in an order that the shapes alone decide.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when dimensions or lengths disagree.
    fn coverage_gains(&self, x: MatRef<'_>, candidates: MatRef<'_>, best: &[f32]) -> Result<Vec<f64>, KernelError> {
        check_coverage(x, candidates, best)?;
        let isa = Isa::detect();
        let one = |c: usize| {
            let more = |(i, best): (usize, &f32)| (exact::dot(isa, x.row(i), candidates.row(c)) - best).max(0.0);
            best.iter().enumerate().map(|pair| f64::from(more(pair))).sum()
        };
        Ok((0..candidates.rows()).into_par_iter().map(one).collect())
    }

    /// A draw for each row from the Beta distribution of its shape, by the row's own stream under `key` (see [`crate::chance`]). Devices
    /// agree in all bits but the last few, and in all where both parameters are at least 1 and no rare test falls out differently.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when lengths disagree or a parameter is not above 0.
    fn beta_draws(&self, key: u64, rows: &[u64], shapes: &[[f64; 2]]) -> Result<Vec<f64>, KernelError> {
        check_betas(rows, shapes)?;
        let chance = Chance::new(key);
        let mut draws = vec![0.0; rows.len()];
        let parts = draws.par_chunks_mut(1024).zip(rows.par_chunks(1024).zip(shapes.par_chunks(1024)));
        parts.for_each(|(draws, (rows, shapes))| {
            let laws: Vec<Beta> = shapes.iter().map(|shape| Beta::new(*shape)).collect();
            chance.betas(rows, &laws, draws);
        });
        Ok(draws)
    }

    /// Prepare `x` for repeated assignment.
    ///
    /// # Errors
    /// [`KernelError::NotFinite`] as in [`Backend::assign`].
    fn lloyd<'a>(&'a self, x: MatRef<'a>) -> Result<Box<dyn Lloyd + 'a>, KernelError>;
}

/// [`Lloyd`] for devices that keep nothing: plain [`Backend::assign`], a chunk of rows at a time.
pub(crate) struct PlainLloyd<'a, B: Backend + ?Sized> {
    pub(crate) backend: &'a B,
    pub(crate) x: MatRef<'a>,
    pub(crate) sq_dist: Vec<f32>,
}

/// Rows between two ticks.
pub(crate) const TICK_ROWS: usize = 1 << 16;

impl<B: Backend + ?Sized> Lloyd for PlainLloyd<'_, B> {
    fn assign(&mut self, centroids: MatRef<'_>, labels: &mut [u32], tick: Tick<'_>) -> Result<(), KernelError> {
        check_len("assign", "labels", self.x.rows(), labels.len())?;
        self.sq_dist.resize(self.x.rows(), 0.0);
        for start in (0..self.x.rows()).step_by(TICK_ROWS) {
            let range = start..(start + TICK_ROWS).min(self.x.rows());
            let (out, dist) = (&mut labels[range.clone()], &mut self.sq_dist[range.clone()]);
            self.backend.assign(self.x.slice(range.clone()), centroids, out, dist)?;
            if !tick(range.len() as u64) {
                return Err(KernelError::Stopped);
            }
        }
        Ok(())
    }
}

/// Two lengths must agree.
pub(crate) fn check_len(op: &'static str, what: &str, expected: usize, got: usize) -> Result<(), KernelError> {
    if expected == got {
        return Ok(());
    }
    Err(KernelError::Shape { op, expected: format!("{expected} {what}"), got: got.to_string() })
}

/// Shapes of [`Backend::assign`].
pub(crate) fn check_assign(
    x: MatRef<'_>,
    centroids: MatRef<'_>,
    labels: usize,
    sq_dist: usize,
) -> Result<(), KernelError> {
    check_len("assign", "columns", x.dim(), centroids.dim())?;
    check_len("assign", "labels", x.rows(), labels)?;
    check_len("assign", "distances", x.rows(), sq_dist)?;
    check_count("assign", "centroids", centroids.rows())
}

/// Between 1 and `u32::MAX - 1` rows.
pub(crate) fn check_count(op: &'static str, what: &str, got: usize) -> Result<(), KernelError> {
    if got >= 1 && u32::try_from(got).is_ok_and(|n| n < u32::MAX) {
        return Ok(());
    }
    Err(KernelError::Shape { op, expected: format!("between 1 and {} {what}", u32::MAX - 1), got: got.to_string() })
}

/// Shapes of [`Backend::top_k`]: an empty base is allowed.
pub(crate) fn check_top_k(queries: MatRef<'_>, base: MatRef<'_>) -> Result<(), KernelError> {
    check_len("top_k", "columns", base.dim(), queries.dim())?;
    check_count("top_k", "base rows", base.rows().max(1))
}

/// Lengths and parameters of [`Backend::beta_draws`].
pub(crate) fn check_betas(rows: &[u64], shapes: &[[f64; 2]]) -> Result<(), KernelError> {
    check_len("beta_draws", "shapes", rows.len(), shapes.len())?;
    match shapes.as_flattened().iter().find(|v| !(v.is_finite() && **v > 0.0)) {
        None => Ok(()),
        Some(bad) => Err(KernelError::Shape {
            op: "beta_draws",
            expected: "parameters above 0".to_owned(),
            got: bad.to_string(),
        }),
    }
}

/// Shapes of [`Backend::coverage_gains`].
pub(crate) fn check_coverage(x: MatRef<'_>, candidates: MatRef<'_>, best: &[f32]) -> Result<(), KernelError> {
    check_len("coverage_gains", "columns", x.dim(), candidates.dim())?;
    check_len("coverage_gains", "similarities", x.rows(), best.len())
}

/// Shapes of [`Backend::own_sq_dist`].
pub(crate) fn check_own(
    x: MatRef<'_>,
    centroids: MatRef<'_>,
    labels: &[u32],
    sq_dist: usize,
) -> Result<(), KernelError> {
    check_assign(x, centroids, labels.len(), sq_dist)?;
    check_labels(labels, centroids.rows())
}

/// Every label must be below `k`.
pub(crate) fn check_labels(labels: &[u32], k: usize) -> Result<(), KernelError> {
    match labels.iter().max() {
        Some(&label) if label as usize >= k => {
            Err(KernelError::Shape { op: "labels", expected: format!("labels below {k}"), got: label.to_string() })
        }
        _ => Ok(()),
    }
}

/// First row whose squared norm is not finite.
pub(crate) fn check_finite(op: &'static str, sq_norms: &[f32]) -> Result<(), KernelError> {
    match sq_norms.iter().position(|norm| !norm.is_finite()) {
        Some(row) => Err(KernelError::NotFinite { op, row }),
        None => Ok(()),
    }
}
