//! Approximate nearest neighbours by cells: only the rows in the cells nearest to a query are compared.
//!
//! Cells are a k-means clustering of the base (about `2 sqrt(n)` of them, trained on a hashed sample, few iterations);
//! a query is compared with every row of its `probes` nearest cells, a cell at a time for all queries that want it. Unlike a graph built by several
//! threads, the answer depends on nothing but the numbers, the seed and the two parameters.
//! Source: inverted file search (Sivic and Zisserman 2003; Jegou, Douze, Schmid 2011) without compression. Deviation:
//! cells are always chosen by Euclidean distance, also for [`Metric::Dot`]: exact on unit rows, a heuristic otherwise.
//! Cost: n d sqrt(n) to build; a query 2 d sqrt(n) for its cells and probes n d / cells for their rows.

use rayon::prelude::*;

use crate::backend::{Tick, check_len, check_top_k};
use crate::kmeans::{KMeansParams, fit};
use crate::topk::Best;
use crate::{Backend, KernelError, MatRef, Metric, Neighbours, hash};

/// Cells searched between two ticks; their results wait in memory.
const CELLS_AT_ONCE: usize = 32;

/// How to build the cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IvfParams {
    /// Number of cells; 0 (default) chooses `2 sqrt(n)`.
    pub cells: usize,
    /// Rows of the training sample for each cell, default 64.
    pub rows_per_cell: usize,
    /// Iterations of k-means, default 8.
    pub max_iters: u32,
    /// Seed of sample and start.
    pub seed: u64,
}

impl Default for IvfParams {
    fn default() -> Self {
        Self { cells: 0, rows_per_cell: 64, max_iters: 8, seed: 0 }
    }
}

/// The cells of a base and their rows.
pub struct Ivf {
    centroids: Vec<f32>,
    dim: usize,
    /// Rows by cell, ascending within each; cell `c` holds `rows[ends[c]..ends[c + 1]]`.
    rows: Vec<u32>,
    ends: Vec<usize>,
}

impl Ivf {
    /// Cut `base` into cells.
    ///
    /// # Errors
    /// Those of [`fit`] and [`Backend::assign`].
    pub fn build(
        backend: &dyn Backend,
        base: MatRef<'_>,
        params: &IvfParams,
        tick: Tick<'_>,
    ) -> Result<Self, KernelError> {
        let n = base.rows();
        let auto = 2.0 * (n as f64).sqrt();
        let cells = if params.cells == 0 { auto as usize } else { params.cells }.clamp(1, n.max(1));
        let mut keyed: Vec<(u64, usize)> = (0..n).map(|i| (hash::mix(&[params.seed, 0x1F, i as u64]), i)).collect();
        keyed.sort_unstable();
        let wanted = (cells * params.rows_per_cell.max(1)).min(n);
        let sample: Vec<f32> = keyed[..wanted].iter().flat_map(|&(_, i)| base.row(i)).copied().collect();
        let ids: Vec<u64> = keyed[..wanted].iter().map(|&(_, i)| i as u64).collect();
        let means = KMeansParams { max_iters: params.max_iters, restarts: 1, ..KMeansParams::new(cells, params.seed) };
        let trained = fit(backend, MatRef::new(&sample, base.dim())?, Some(&ids), &means, tick)?;
        let (mut labels, mut sq_dist) = (vec![0; n], vec![0.0; n]);
        backend.assign(base, MatRef::new(&trained.centroids, base.dim())?, &mut labels, &mut sq_dist)?;
        let mut ends = vec![0; cells + 1];
        labels.iter().for_each(|&c| ends[c as usize + 1] += 1);
        (0..cells).for_each(|c| ends[c + 1] += ends[c]);
        let mut rows: Vec<u32> = (0..n as u32).collect();
        rows.sort_by_key(|&i| labels[i as usize]);
        Ok(Self { centroids: trained.centroids, dim: base.dim(), rows, ends })
    }

    /// Number of cells.
    #[must_use]
    pub const fn cells(&self) -> usize {
        self.ends.len() - 1
    }

    /// Like [`Backend::top_k`], among the rows of each query's `probes` nearest cells. `base` is what the cells were
    /// built from.
    ///
    /// # Errors
    /// Those of [`Backend::top_k`], and [`KernelError::Stopped`].
    #[allow(clippy::too_many_arguments)] // reason: those of `Backend::top_k` and one more
    pub fn top_k(
        &self,
        backend: &dyn Backend,
        queries: MatRef<'_>,
        base: MatRef<'_>,
        k: usize,
        metric: Metric,
        probes: usize,
        skip_self: Option<usize>,
        tick: Tick<'_>,
    ) -> Result<Neighbours, KernelError> {
        check_top_k(queries, base)?;
        check_len("ivf", "base rows", self.rows.len(), base.rows())?;
        check_len("ivf", "columns", self.dim, base.dim())?;
        let probes = probes.clamp(1, self.cells());
        let near =
            backend.top_k(queries, MatRef::new(&self.centroids, self.dim)?, probes, Metric::SqEuclidean, None)?;
        let asked = self.queries_of_cells(&near);
        let mut best: Vec<Best> = (0..queries.rows()).map(|_| Best::new(k, metric)).collect();
        for first in (0..self.cells()).step_by(CELLS_AT_ONCE) {
            let cells = first..(first + CELLS_AT_ONCE).min(self.cells());
            let part = |cell: usize| self.search_cell(backend, queries, base, k, metric, skip_self, cell, &asked[cell]);
            let found: Vec<Neighbours> = cells.clone().into_par_iter().map(part).collect::<Result<_, _>>()?;
            for (cell, found) in cells.zip(&found) {
                let members = &self.rows[self.ends[cell]..self.ends[cell + 1]];
                for (slot, &local) in found.index.iter().enumerate().filter(|(_, local)| **local != u32::MAX) {
                    let (query, row) = (asked[cell][slot / found.k] as usize, members[local as usize]);
                    if skip_self.is_none_or(|offset| offset.saturating_add(query) != row as usize) {
                        best[query].offer(found.value[slot], row);
                    }
                }
            }
            if !tick(found.iter().map(|found| (found.index.len() / found.k.max(1)) as u64).sum()) {
                return Err(KernelError::Stopped);
            }
        }
        let mut out = Neighbours { k, ..Neighbours::default() };
        best.iter().for_each(|best| best.write(&mut out));
        Ok(out)
    }

    /// Queries that look into each cell, ascending.
    fn queries_of_cells(&self, near: &Neighbours) -> Vec<Vec<u32>> {
        let mut asked = vec![Vec::new(); self.cells()];
        for (slot, &cell) in near.index.iter().enumerate().filter(|(_, cell)| **cell != u32::MAX) {
            asked[cell as usize].push((slot / near.k) as u32);
        }
        asked
    }

    /// The neighbours of `asked` among the rows of one cell, by position in the cell; one more than `k` where a query
    /// may find itself.
    #[allow(clippy::too_many_arguments)] // reason: those of `top_k`
    fn search_cell(
        &self,
        backend: &dyn Backend,
        queries: MatRef<'_>,
        base: MatRef<'_>,
        k: usize,
        metric: Metric,
        skip_self: Option<usize>,
        cell: usize,
        asked: &[u32],
    ) -> Result<Neighbours, KernelError> {
        let gather = |x: MatRef<'_>, rows: &[u32]| -> Vec<f32> {
            rows.iter().flat_map(|&i| x.row(i as usize)).copied().collect()
        };
        let wanted = if k == 0 { 0 } else { k + usize::from(skip_self.is_some()) };
        let (queries, base) = (gather(queries, asked), gather(base, &self.rows[self.ends[cell]..self.ends[cell + 1]]));
        backend.top_k(MatRef::new(&queries, self.dim)?, MatRef::new(&base, self.dim)?, wanted, metric, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;

    #[test]
    fn all_cells_is_exact_and_one_cell_finds_the_near_ones() {
        let data: Vec<f32> = (0..400).flat_map(|i| [(i % 20) as f32 * 50.0, (i / 20) as f32 * 0.01]).collect();
        let x = MatRef::new(&data, 2).unwrap();
        let params = IvfParams { cells: 20, ..IvfParams::default() };
        let (cpu, go): (_, Tick<'_>) = (Cpu::new(), &|_| true);
        let index = Ivf::build(&cpu, x, &params, go).unwrap();
        let exact = cpu.top_k(x, x, 3, Metric::SqEuclidean, Some(0)).unwrap();
        let all = index.top_k(&cpu, x, x, 3, Metric::SqEuclidean, 20, Some(0), go).unwrap();
        assert_eq!(all, exact);
        let few = index.top_k(&cpu, x, x, 3, Metric::SqEuclidean, 3, Some(0), go).unwrap();
        let hits = few.index.iter().zip(&exact.index).filter(|(a, b)| a == b).count();
        assert!(hits > 1000, "{hits} of 1200");
        assert!(matches!(index.top_k(&cpu, x, x, 3, Metric::Dot, 3, None, &|_| false), Err(KernelError::Stopped)));
    }
}
