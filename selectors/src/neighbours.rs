//! Who is similar to whom: for every row its nearest others, and the other way round.
//!
//! Exact search compares all pairs in blocks; above a size it looks only into the cells nearest to each row (see
//! `curate_core::kernels::ivf`), which misses a few neighbours and costs far less. Cost: n^2 d exact; about
//! 2 n d sqrt(n) + probes n d sqrt(n) / 2 by cells; 8 bytes a neighbour and row.

use curate_core::kernels::ivf::{Ivf, IvfParams};
use curate_core::kernels::{MatRef, Metric};
use curate_core::{Ctx, Error, Result};

/// Rows compared between two ticks.
const BLOCK_ROWS: usize = 4096;

/// How to look for neighbours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    /// Neighbours of every row, itself not counted.
    pub(crate) neighbours: usize,
    /// Cells to look into; none compares all pairs.
    pub(crate) probes: Option<usize>,
}

/// Which rows a row can stand for, and how well: row `j` covers `rows[ends[j]..ends[j + 1]]`, itself among them.
pub(crate) struct Covers {
    ends: Vec<usize>,
    rows: Vec<u32>,
    similarity: Vec<f32>,
}

impl Covers {
    /// Find the neighbours of all rows of `x`. Row `j` covers itself and every row that has it among its neighbours, with
    /// the positive part of the inner product.
    pub(crate) fn find(x: MatRef<'_>, search: Search, ctx: &Ctx) -> Result<Self> {
        if u32::try_from(x.rows()).is_err() {
            return Err(Error::usage("pool/too-large", "similarities are counted for at most 4294967295 rows"));
        }
        let k = search.neighbours.min(x.rows().saturating_sub(1));
        ctx.memory().reserve((x.rows() * (k + 1) * 16) as u64, "the neighbours of all rows")?;
        let (index, value) = nearest(x, k, search.probes, ctx)?;
        let own = ctx.backend().row_sq_norms(x);
        let edges = |row: usize| {
            let near = row * k..(row + 1) * k;
            let others = index[near.clone()].iter().copied().zip(value[near].iter().copied());
            let found = others.filter(|&(j, similarity)| j != u32::MAX && similarity > 0.0);
            std::iter::once((u32::try_from(row).unwrap_or(u32::MAX), own[row])).chain(found)
        };
        Ok(Self::transposed(x.rows(), edges))
    }

    /// From the edges of every row to those who cover it, to the rows that each covers, ascending.
    fn transposed<E: Iterator<Item = (u32, f32)>>(n: usize, edges: impl Fn(usize) -> E) -> Self {
        let mut ends = vec![0; n + 1];
        (0..n).flat_map(&edges).for_each(|(j, _)| ends[j as usize + 1] += 1);
        for j in 0..n {
            ends[j + 1] += ends[j];
        }
        let mut next = ends.clone();
        let (mut rows, mut similarity) = (vec![0; ends[n]], vec![0.0; ends[n]]);
        for (row, name) in (0..n).zip(0u32..) {
            for (j, s) in edges(row) {
                let slot = &mut next[j as usize];
                rows[*slot] = name;
                similarity[*slot] = s;
                *slot += 1;
            }
        }
        Self { ends, rows, similarity }
    }

    /// Rows there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// The rows that `j` covers, ascending, and how well.
    pub(crate) fn of(&self, j: usize) -> impl Iterator<Item = (usize, f32)> {
        let range = self.ends[j]..self.ends[j + 1];
        self.rows[range.clone()].iter().map(|&row| row as usize).zip(self.similarity[range].iter().copied())
    }
}

/// Indices and inner products, `[rows, k]`.
fn nearest(x: MatRef<'_>, k: usize, probes: Option<usize>, ctx: &Ctx) -> Result<(Vec<u32>, Vec<f32>)> {
    let (backend, tick) = (ctx.backend(), |rows: u64| ctx.tick(rows).is_ok());
    let (mut index, mut value) = (Vec::with_capacity(x.rows() * k), Vec::with_capacity(x.rows() * k));
    if k == 0 {
        return Ok((index, value));
    }
    ctx.progress().set_total(x.rows() as u64);
    let params = IvfParams { seed: ctx.derived_seed("cells"), ..IvfParams::default() };
    let build = |probes| Ok::<_, Error>((Ivf::build(backend, x, &params, &|_| ctx.tick(0).is_ok())?, probes));
    let cells = probes.map(build).transpose()?;
    for start in (0..x.rows()).step_by(BLOCK_ROWS) {
        let queries = x.slice(start..(start + BLOCK_ROWS).min(x.rows()));
        let near = if let Some((cells, probes)) = &cells {
            cells.top_k(backend, queries, x, k, Metric::Dot, *probes, Some(start), &tick)?
        } else {
            ctx.tick(queries.rows() as u64)?;
            backend.top_k(queries, x, k, Metric::Dot, Some(start))?
        };
        index.extend(near.index);
        value.extend(near.value);
    }
    Ok((index, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_covers_himself_and_those_near_him() {
        let data = [1.0, 0.0, 0.8, 0.6, 0.0, 1.0];
        let x = MatRef::new(&data, 2).unwrap();
        for probes in [None, Some(4)] {
            let covers = Covers::find(x, Search { neighbours: 1, probes }, &Ctx::new(0)).unwrap();
            let rows: Vec<Vec<usize>> = (0..3).map(|j| covers.of(j).map(|(row, _)| row).collect()).collect();
            assert_eq!(rows, [vec![0, 1], vec![0, 1, 2], vec![2]]);
            assert_eq!(covers.of(1).map(|(_, s)| s).collect::<Vec<_>>(), [0.8, 1.0, 0.6]);
        }
    }
}
