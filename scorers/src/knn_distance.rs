//! Distance to the k-th nearest other row: high where a row has few of its kind.
//!
//! `score_i = |x_i - x_(k)|`, the k-th nearest of the other rows (duplicates count, at distance 0); `cosine`: `1 - cos`. With fewer
//! than k other rows the farthest there is counts; a row alone scores 0; a zero vector is at cosine distance 1 of all but other
//! zero vectors. Source:
//! `InstructMining` (Cao et al. 2023), indicator Knn6. Deviation: exact up to 100 000 rows, where the paper's unofficial code
//! approximates; above that by cells (`search`). Cost: n^2 d exact, about probes n d sqrt(n) by cells; the embeddings in memory.

use crate::reading::finish;
use crate::vectors::Vectors;
use arrow::array::Float32Array;
use curate_core::kernels::ivf::{Ivf, IvfParams};
use curate_core::kernels::{MatRef, Metric, Neighbours};
use curate_core::{Algorithm, Column, Ctx, Info, Pool, Result, Scorer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows up to which `search = auto` compares all pairs.
const EXACT_ROWS: usize = 100_000;
/// Rows compared between two ticks.
const BLOCK_ROWS: usize = 4096;

/// Which distance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// Length of the difference.
    #[default]
    Euclidean,
    /// 1 minus the cosine.
    Cosine,
}

/// How to look for near rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SearchMode {
    /// Exact up to 100 000 rows, by cells above.
    #[default]
    Auto,
    /// Compare all pairs.
    Exact,
    /// Compare each row with the rows of the nearest cells only.
    Cells,
}

/// Parameters of the distance to the k-th neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KnnDistance {
    /// Which neighbour, counted from 1.
    #[schemars(range(min = 1, max = 1024))]
    pub k: usize,
    /// Which distance.
    pub distance: Distance,
    /// How to look for near rows.
    pub search: SearchMode,
    /// Cells to look into for each row, with search by cells: more find more.
    #[schemars(range(min = 1, max = 100_000))]
    pub probes: usize,
}

impl Default for KnnDistance {
    fn default() -> Self {
        Self { k: 6, distance: Distance::Euclidean, search: SearchMode::Auto, probes: 16 }
    }
}

impl Algorithm for KnnDistance {
    const INFO: Info = Info {
        name: "knn-distance",
        summary: "Scores a row by the distance to its k-th nearest other row: rare rows first.",
        source: "InstructMining (Cao et al. 2023), indicator Knn6",
        cost: "n^2 d exact, about probes n d sqrt(n) by cells; the embeddings in memory",
    };
}

impl Scorer for KnnDistance {
    fn needs(&self) -> Vec<Column> {
        vec![Column::EMBEDDING]
    }

    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let (ids, ctx) = (pool.ids()?, &ctx.child(Self::INFO.name));
        let k = self.k.min(ids.len().saturating_sub(1));
        if k == 0 {
            return finish(Self::INFO.name, &vec![0.0; ids.len()], pool, ctx);
        }
        let vectors = Vectors::read(pool, &ids, self.distance == Distance::Cosine, ctx)?;
        let squares = self.farthest_of(vectors.view()?, k, ctx)?;
        let distances: Vec<f64> = squares.iter().map(|&square| self.distance(square)).collect();
        finish(Self::INFO.name, &vectors.in_pool_order(&distances), pool, ctx)
    }
}

impl KnnDistance {
    /// Squared distance of every row to its k-th nearest other.
    fn farthest_of(&self, x: MatRef<'_>, k: usize, ctx: &Ctx) -> Result<Vec<f32>> {
        let by_cells = self.search == SearchMode::Cells || (self.search == SearchMode::Auto && x.rows() > EXACT_ROWS);
        let (backend, tick) = (ctx.backend(), |rows: u64| ctx.tick(rows).is_ok());
        let params = IvfParams { seed: ctx.derived_seed("cells"), ..IvfParams::default() };
        let cells = if by_cells { Some(Ivf::build(backend, x, &params, &|_| ctx.tick(0).is_ok())?) } else { None };
        ctx.progress().set_total(x.rows() as u64);
        let mut out = Vec::with_capacity(x.rows());
        for start in (0..x.rows()).step_by(BLOCK_ROWS) {
            let queries = x.slice(start..(start + BLOCK_ROWS).min(x.rows()));
            let near = if let Some(cells) = &cells {
                cells.top_k(backend, queries, x, k, Metric::SqEuclidean, self.probes, Some(start), &tick)?
            } else {
                ctx.tick(queries.rows() as u64)?;
                backend.top_k(queries, x, k, Metric::SqEuclidean, Some(start))?
            };
            out.extend(farthest(&near));
        }
        Ok(out)
    }

    fn distance(&self, square: f32) -> f64 {
        match self.distance {
            Distance::Euclidean => f64::from(square).sqrt(),
            Distance::Cosine => f64::from(square) / 2.0,
        }
    }
}

/// The last neighbour of each query that was found.
fn farthest(near: &Neighbours) -> impl Iterator<Item = f32> {
    let last = |found: &[f32]| found.iter().rev().copied().find(|square| square.is_finite()).unwrap_or(0.0);
    near.value.chunks_exact(near.k.max(1)).map(last)
}
