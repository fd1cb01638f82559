//! k-means: Lloyd's iterations from a k-means++ start, the same for any order of the rows.
//!
//! Minimises `sum_i min_j |x_i - c_j|^2`. Assignment: nearest centroid, ties to the lowest; step: mean of the members.
//! Source: Lloyd 1982; Arthur and Vassilvitskii 2007 for the start; definitions as in our notes on Diversify and
//! Conquer, section 1.3. Deviations: the means are sums of integers (see [`SegmentSums`]), so that neither threads nor
//! the order of rows matter; in [`fit`] (not in [`lloyd_step`]) an empty cluster takes the row farthest from its
//! centroid. Cost: n k d an iteration at most, usually far less (see `assign`), plus d for each row that moves.

mod init;

use crate::backend::{Tick, check_finite, check_len};
use crate::fixed::{NONE, max_abs_bits, total};
use crate::{Backend, KernelError, Lloyd, MatRef, SegmentSums};

/// Where the centroids start.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Init {
    /// Rows drawn one after another with probability proportional to their squared distance to those drawn before; on
    /// large data from a hashed subsample of `max(4096, 16 k)` rows.
    #[default]
    KMeansPlusPlus,
    /// These, row-major `[k, dim]`.
    Given(Vec<f32>),
}

/// What to fit.
#[derive(Clone, Debug, PartialEq)]
pub struct KMeansParams {
    /// Number of clusters, 1 to the number of rows.
    pub k: usize,
    /// Most iterations of assignment and step, default 25.
    pub max_iters: u32,
    /// Stop when an iteration lowers the inertia by less than this share of it; 0 stops only when no row moves.
    /// Default 1e-4.
    pub tol: f64,
    /// Starts tried, the lowest inertia wins; 0 (default) chooses 20 for small data down to 1 for large.
    pub restarts: u32,
    /// Seed of all draws.
    pub seed: u64,
    /// The start.
    pub init: Init,
}

impl KMeansParams {
    /// Defaults for `k` clusters.
    #[must_use]
    pub const fn new(k: usize, seed: u64) -> Self {
        Self { k, max_iters: 25, tol: 1e-4, restarts: 0, seed, init: Init::KMeansPlusPlus }
    }
}

/// A fitted clustering.
#[derive(Clone, Debug, PartialEq)]
pub struct KMeans {
    /// Clusters.
    pub k: usize,
    /// Numbers of a centroid.
    pub dim: usize,
    /// Centroids, row-major `[k, dim]`.
    pub centroids: Vec<f32>,
    /// Nearest centroid of every row.
    pub labels: Vec<u32>,
    /// Squared distance of every row to it.
    pub sq_dist: Vec<f32>,
    /// Rows of each cluster; 0 is possible (for instance when all rows are equal).
    pub sizes: Vec<u64>,
    /// Sum of the squared distances.
    pub inertia: f64,
    /// Iterations of the winning start.
    pub iterations: u32,
    /// Starts tried.
    pub restarts_tried: u32,
}

/// One step: means of the members; an empty cluster keeps its centroid. Returns the new centroids `[k, dim]`.
///
/// # Errors
/// [`KernelError::Shape`] and [`KernelError::NotFinite`] as in [`Backend::segment_sums`].
pub fn lloyd_step(
    backend: &dyn Backend,
    x: MatRef<'_>,
    labels: &[u32],
    centroids: MatRef<'_>,
) -> Result<Vec<f32>, KernelError> {
    check_len("lloyd_step", "columns", centroids.dim(), x.dim())?;
    let mut sums = empty_sums(x, centroids.rows())?;
    backend.segment_sums(x, labels, &mut sums)?;
    let mut out = centroids.data().to_vec();
    write_means(&sums, x.dim(), &mut out);
    Ok(out)
}

/// Cluster the rows of `x`. `ids` name the rows (default: their position): rows that carry their ids give the same
/// centroids in any order. `tick` is told the rows assigned and may stop the work.
///
/// # Errors
/// [`KernelError::Shape`] when `k` is 0 or above the number of rows, or lengths disagree; [`KernelError::NotFinite`];
/// [`KernelError::Stopped`].
pub fn fit(
    backend: &dyn Backend,
    x: MatRef<'_>,
    ids: Option<&[u64]>,
    params: &KMeansParams,
    tick: Tick<'_>,
) -> Result<KMeans, KernelError> {
    check_params(x, ids, params)?;
    let sq_norms = backend.row_sq_norms(x);
    check_finite("k-means", &sq_norms)?;
    // No number of a row is larger than its norm; the factor covers the rounding of the norm, 1e-18 its underflow.
    let largest = 1.001 * sq_norms.iter().copied().fold(1e-36, f32::max).sqrt();
    let total_sq = total(&sq_norms);
    let fit = Fit { backend, x, ids, params, tick, largest, total_sq };
    let mut rows = backend.lloyd(x)?;
    let restarts = fit.restarts();
    let mut best: Option<KMeans> = None;
    for restart in 0..restarts {
        let found = fit.run(restart, rows.as_mut())?;
        if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
            best = Some(found);
        }
    }
    best.map(|best| KMeans { restarts_tried: restarts, ..best }).ok_or(KernelError::Stopped)
}

fn check_params(x: MatRef<'_>, ids: Option<&[u64]>, params: &KMeansParams) -> Result<(), KernelError> {
    if params.k == 0 || params.k > x.rows() || x.rows() >= NONE as usize {
        return Err(KernelError::Shape {
            op: "k-means",
            expected: format!("1 to {} clusters, one row or more each", x.rows()),
            got: params.k.to_string(),
        });
    }
    if let Init::Given(start) = &params.init {
        check_len("k-means", "numbers in the given centroids", params.k * x.dim(), start.len())?;
    }
    ids.map_or(Ok(()), |ids| check_len("k-means", "row ids", x.rows(), ids.len()))
}

fn empty_sums(x: MatRef<'_>, segments: usize) -> Result<SegmentSums, KernelError> {
    let max_abs = f32::from_bits(max_abs_bits(x));
    if !max_abs.is_finite() {
        let row = (0..x.rows()).find(|&i| x.row(i).iter().any(|v| !v.is_finite())).unwrap_or(0);
        return Err(KernelError::NotFinite { op: "k-means", row });
    }
    Ok(SegmentSums::new(segments, x.dim(), max_abs, x.rows() as u64))
}

fn write_means(sums: &SegmentSums, dim: usize, centroids: &mut [f32]) {
    for (j, centroid) in centroids.chunks_exact_mut(dim).enumerate() {
        sums.mean_into(j, centroid);
    }
}

/// One call of [`fit`].
struct Fit<'a> {
    backend: &'a dyn Backend,
    x: MatRef<'a>,
    ids: Option<&'a [u64]>,
    params: &'a KMeansParams,
    tick: Tick<'a>,
    /// No number is larger in magnitude.
    largest: f32,
    /// Sum of all squared norms.
    total_sq: f64,
}

impl Fit<'_> {
    fn id(&self, row: usize) -> u64 {
        self.ids.map_or(row as u64, |ids| ids[row])
    }

    /// One for given centroids; else as asked, or about 4e8 multiplications a pass over all starts, at most 20.
    fn restarts(&self) -> u32 {
        if matches!(self.params.init, Init::Given(_)) {
            return 1;
        }
        let work = self.x.rows() as f64 * self.params.k as f64 * self.x.dim() as f64;
        if self.params.restarts > 0 { self.params.restarts } else { (4e8 / work).clamp(1.0, 20.0) as u32 }
    }

    fn run(&self, restart: u32, rows: &mut dyn Lloyd) -> Result<KMeans, KernelError> {
        let (n, dim, k) = (self.x.rows(), self.x.dim(), self.params.k);
        let mut centroids = match &self.params.init {
            Init::Given(start) => start.clone(),
            Init::KMeansPlusPlus => init::plus_plus(self, restart)?,
        };
        let mut sums = SegmentSums::new(k, dim, self.largest, n as u64);
        let mut held = vec![NONE; n];
        let mut labels = vec![0; n];
        let (mut iterations, mut explained, mut settled, mut nearest) = (0, f64::NAN, false, false);
        while iterations < self.params.max_iters && !settled {
            rows.assign(MatRef::new(&centroids, dim)?, &mut labels, self.tick)?;
            iterations += 1;
            let filled = self.fill_empty(&centroids, &mut labels)?;
            settled = held == labels;
            nearest = settled && !filled;
            rows.shift(self.x, &held, &labels, &mut sums)?;
            held.copy_from_slice(&labels);
            write_means(&sums, dim, &mut centroids);
            if self.params.tol > 0.0 {
                let now = sums.explained();
                settled |= now - explained < self.params.tol * (self.total_sq - now);
                explained = now;
            }
        }
        if !nearest {
            rows.assign(MatRef::new(&centroids, dim)?, &mut labels, self.tick)?;
        }
        self.finish(centroids, labels, iterations)
    }

    fn finish(&self, centroids: Vec<f32>, labels: Vec<u32>, iterations: u32) -> Result<KMeans, KernelError> {
        let (dim, k) = (self.x.dim(), self.params.k);
        let view = MatRef::new(&centroids, dim)?;
        let mut sq_dist = vec![0.0; labels.len()];
        self.backend.own_sq_dist(self.x, view, &labels, &mut sq_dist)?;
        let mut sizes = vec![0; k];
        labels.iter().for_each(|&label| sizes[label as usize] += 1);
        let inertia = total(&sq_dist);
        Ok(KMeans { k, dim, centroids, labels, sq_dist, sizes, inertia, iterations, restarts_tried: 1 })
    }

    /// Give every empty cluster, lowest first, the row farthest from its own centroid (ties to the lowest id), never
    /// the last row of a cluster nor a row that lies on its centroid. Whether any label changed.
    fn fill_empty(&self, centroids: &[f32], labels: &mut [u32]) -> Result<bool, KernelError> {
        let mut sizes = vec![0u64; self.params.k];
        labels.iter().for_each(|&label| sizes[label as usize] += 1);
        let empty: Vec<usize> = (0..self.params.k).filter(|&j| sizes[j] == 0).collect();
        if empty.is_empty() {
            return Ok(false);
        }
        let mut sq_dist = vec![0.0; labels.len()];
        self.backend.own_sq_dist(self.x, MatRef::new(centroids, self.x.dim())?, labels, &mut sq_dist)?;
        let mut order: Vec<usize> = (0..labels.len()).filter(|&i| sq_dist[i] > 0.0).collect();
        order.sort_unstable_by(|&a, &b| sq_dist[b].total_cmp(&sq_dist[a]).then(self.id(a).cmp(&self.id(b))));
        let (mut far, mut filled) = (order.into_iter(), false);
        for j in empty {
            let Some(row) = far.find(|&row| sizes[labels[row] as usize] > 1) else { break };
            sizes[labels[row] as usize] -= 1;
            labels[row] = j as u32;
            (sizes[j], filled) = (1, true);
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;

    const LINE: [f32; 6] = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0];

    #[test]
    fn two_groups_on_a_line() {
        let x = MatRef::new(&LINE, 1).unwrap();
        let found = fit(&Cpu::new(), x, None, &KMeansParams::new(2, 7), &|_| true).unwrap();
        let mut centroids = found.centroids.clone();
        centroids.sort_by(f32::total_cmp);
        assert_eq!(centroids, [1.0, 11.0]);
        assert_eq!(found.inertia, 4.0);
        assert_eq!(found.sizes, [3, 3]);
        assert_eq!(found.restarts_tried, 20);
    }

    #[test]
    fn one_step_keeps_an_empty_centroid() {
        let x = MatRef::new(&LINE, 1).unwrap();
        let step = lloyd_step(&Cpu::new(), x, &[0, 0, 0, 2, 2, 2], MatRef::new(&[5.0, 99.0, 7.0], 1).unwrap());
        assert_eq!(step.unwrap(), [1.0, 99.0, 11.0]);
    }

    #[test]
    fn an_empty_cluster_takes_the_farthest_row() {
        let x = MatRef::new(&LINE, 1).unwrap();
        let params =
            KMeansParams { init: Init::Given(vec![1.0, 500.0]), max_iters: 1, tol: 0.0, ..KMeansParams::new(2, 0) };
        let found = fit(&Cpu::new(), x, None, &params, &|_| true).unwrap();
        assert_eq!(found.centroids, [4.8, 12.0], "the row 12 was farthest from 1");
        assert_eq!(found.labels, [0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn stopping_and_wrong_sizes_are_typed() {
        let x = MatRef::new(&LINE, 1).unwrap();
        let run = |k, tick: Tick<'_>| fit(&Cpu::new(), x, None, &KMeansParams::new(k, 7), tick);
        assert!(matches!(run(2, &|_| false), Err(KernelError::Stopped)));
        assert!(matches!(run(0, &|_| true), Err(KernelError::Shape { .. })));
        assert!(matches!(run(7, &|_| true), Err(KernelError::Shape { .. })));
    }
}
