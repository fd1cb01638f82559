//! Drops rows that say nearly the same as a row that stays: within k-means cells, by cosine similarity.
//!
//! In every cell the rows come in the order of `keep`; a row is dropped if some row kept before it in its cell has
//! `cos(x, y) > 1 - epsilon`, that is `|x - y|^2 < 2 epsilon` on unit vectors, or equals it bit by bit.
//! Source: `SemDeDup` (Abbas et al. 2023). Deviations: a row is compared with rows that stay, not with rows that
//! were themselves dropped, so that every dropped row has a kept one beside it; `keep` knows more orders than
//! the paper's hard and easy. Identical vectors always fall into one cell; near-duplicates across a border are not seen.
//! Cost: that of k-means, then n m d for m rows in a cell; at most a quarter of the memory limit for vectors and
//! 40 n bytes.

use crate::cluster::{Clusters, Spec, cluster};
use crate::ranking::sortable;
use crate::vectors::{Block, Vectors};
use curate_core::kernels::{MatRef, Metric};
use curate_core::{Algorithm, Column, Ctx, Filter, Info, Pool, Result, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cmp::Reverse;

/// Rows of a cell compared at once.
const BLOCK_ROWS: usize = 512;

/// Which of several near-duplicates stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The one farthest from the centre of its cell, as the paper advises.
    #[default]
    Hard,
    /// The one nearest to the centre of its cell.
    Easy,
    /// One drawn at random.
    Random,
    /// The one that comes first in the source.
    First,
    /// The one of the highest quality score.
    Best,
}

/// Parameters of semantic deduplication.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SemanticDedup {
    /// Rows are near-duplicates above a cosine similarity of 1 - epsilon; 0 drops only rows with identical embeddings.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub epsilon: f64,
    /// Which of several near-duplicates stays.
    pub keep: Keep,
    /// Number of cells to compare within. Left out: a thousandth of the rows, at most 16 384.
    #[schemars(range(min = 1))]
    pub k: Option<usize>,
    /// Most iterations of k-means.
    #[schemars(range(min = 1, max = 10_000))]
    pub iterations: u32,
    /// Rows that k-means is fitted on. Left out: 256 for each cell.
    #[schemars(range(min = 1))]
    pub fit_rows: Option<usize>,
}

impl Default for SemanticDedup {
    fn default() -> Self {
        Self { epsilon: 0.05, keep: Keep::Hard, k: None, iterations: 25, fit_rows: None }
    }
}

impl Algorithm for SemanticDedup {
    const INFO: Info = Info {
        name: "semantic-dedup",
        summary: "Drops rows that say nearly the same as a row that stays.",
        source: "SemDeDup (Abbas et al. 2023)",
        cost: "that of k-means, then n m d for m rows in a cell; a quarter of the memory limit and 40 n bytes",
    };
}

impl Filter for SemanticDedup {
    fn needs(&self) -> Vec<Column> {
        let quality = (self.keep == Keep::Best).then_some(Column::QUALITY);
        [Column::EMBEDDING].into_iter().chain(quality).collect()
    }

    fn judge(&self, pool: &Pool, ctx: &Ctx) -> Result<Verdict> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let ids = pool.ids()?;
        ctx.tick(0)?;
        let ctx = &ctx.child("semantic-dedup");
        let reason =
            format!("says nearly the same as row {{blocker}}, which was kept (cosine above {})", 1.0 - self.epsilon);
        let mut sweep = Sweep {
            vectors: Vectors::new(pool, &ids, true, ctx),
            ids: &ids,
            within: 2.0 * self.epsilon,
            verdict: Verdict {
                keep: vec![true; ids.len()],
                blocker: vec![u64::MAX; ids.len()],
                reason,
                ..Verdict::default()
            },
            ctx,
        };
        if !ids.is_empty() {
            let k = self.k.unwrap_or((ids.len() / 1000).min(16_384)).clamp(1, ids.len());
            let fit_rows = self.fit_rows.unwrap_or(k.saturating_mul(256)).clamp(k, ids.len());
            let spec = Spec { k, iterations: self.iterations, restarts: 1, fit_rows, unit: true };
            let found = cluster(pool, &ids, &spec, ctx)?;
            sweep.run(&self.in_order(pool, &ids, &found, ctx)?, &found.labels)?;
            sweep.verdict.report.insert("cells".into(), json!(k));
        }
        let dropped = sweep.verdict.keep.iter().filter(|&&kept| !kept).count();
        sweep.verdict.report.insert("dropped_rows".into(), json!(dropped));
        Ok(sweep.verdict)
    }
}

impl SemanticDedup {
    /// Positions by cell, the preferred first.
    fn in_order(&self, pool: &Pool, ids: &[u64], found: &Clusters, ctx: &Ctx) -> Result<Vec<usize>> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        let (quality, stream) = match self.keep {
            Keep::Best => (pool.numbers(&Column::QUALITY)?, None),
            Keep::Random => (Vec::new(), Some(ctx.stream("keep"))),
            _ => (Vec::new(), None),
        };
        let preference = |p: usize| match self.keep {
            Keep::Hard => i64::from(sortable(found.sq_dist[p])),
            Keep::Easy => -i64::from(sortable(found.sq_dist[p])),
            Keep::Best => i64::from(sortable(quality[p])),
            Keep::Random => stream.as_ref().map_or(0, |stream| stream(ids[p]).bits().cast_signed()),
            Keep::First => 0,
        };
        order.sort_by_cached_key(|&p| (found.labels[p], Reverse(preference(p)), ids[p], p));
        Ok(order)
    }
}

/// One pass over all cells.
struct Sweep<'a> {
    vectors: Vectors<'a>,
    ids: &'a [u64],
    /// Squared distance below which unit vectors are near-duplicates.
    within: f64,
    verdict: Verdict,
    ctx: &'a Ctx,
}

impl Sweep<'_> {
    /// Go through the rows in `order`: as many whole cells at once as the memory allows, or parts of a larger cell.
    fn run(&mut self, order: &[usize], labels: &[u32]) -> Result<()> {
        let room = self.ctx.memory().limit_bytes() / 16 / self.vectors.bytes(1)?.max(1);
        let room = usize::try_from(room).unwrap_or(usize::MAX).max(BLOCK_ROWS);
        let mut batch_start = 0;
        let mut end = 0;
        for cell in order.chunk_by(|&a, &b| labels[a] == labels[b]) {
            if end + cell.len() - batch_start > room {
                self.cells(&order[batch_start..end], labels)?;
                batch_start = end;
            }
            end += cell.len();
            if cell.len() > room {
                self.large_cell(cell, room)?;
                batch_start = end;
            }
        }
        self.cells(&order[batch_start..end], labels)
    }

    /// Whole cells, held in memory together.
    fn cells(&mut self, rows: &[usize], labels: &[u32]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let block = self.vectors.at(rows)?;
        let x = block.view()?;
        let mut start = 0;
        for cell in rows.chunk_by(|&a, &b| labels[a] == labels[b]) {
            self.cell(cell, x.slice(start..start + cell.len()))?;
            start += cell.len();
        }
        Ok(())
    }

    /// A cell that is too large to hold: slab after slab, each first compared with the rows kept of the slabs before.
    fn large_cell(&mut self, cell: &[usize], room: usize) -> Result<()> {
        let mut kept: Vec<usize> = Vec::new();
        for slab in cell.chunks(room) {
            let block = self.vectors.at(slab)?;
            for earlier in kept.chunks(room) {
                let base = self.vectors.at(earlier)?;
                for start in (0..slab.len()).step_by(BLOCK_ROWS) {
                    let range = start..(start + BLOCK_ROWS).min(slab.len());
                    self.drop_near(&slab[range.clone()], block.view()?.slice(range), earlier, base.view()?)?;
                }
            }
            self.cell(slab, block.view()?)?;
            kept.extend(slab.iter().filter(|&&p| self.verdict.keep[p]));
        }
        Ok(())
    }

    /// Rows of one cell, in order, against each other; rows dropped already are left out.
    fn cell(&mut self, rows: &[usize], x: MatRef<'_>) -> Result<()> {
        let (mut kept, mut kept_values) = (Vec::new(), Vec::new());
        for start in (0..rows.len()).step_by(BLOCK_ROWS) {
            let range = start..(start + BLOCK_ROWS).min(rows.len());
            self.ctx.tick(range.len() as u64)?;
            let (block, y) = (&rows[range.clone()], x.slice(range));
            if !kept.is_empty() {
                self.drop_near(block, y, &kept, MatRef::new(&kept_values, x.dim())?)?;
            }
            self.one_by_one(block, y)?;
            for (row, &position) in block.iter().enumerate().filter(|(_, p)| self.verdict.keep[**p]) {
                kept.push(position);
                kept_values.extend_from_slice(y.row(row));
            }
        }
        Ok(())
    }

    /// Drop every row of `y` that has a near-duplicate among the kept rows of `base`; the nearest is the blocker.
    fn drop_near(&mut self, rows: &[usize], y: MatRef<'_>, kept: &[usize], base: MatRef<'_>) -> Result<()> {
        let near = self.ctx.backend().top_k(y, base, 1, Metric::SqEuclidean, None)?;
        for (row, &position) in rows.iter().enumerate() {
            if self.verdict.keep[position] && self.is_near(near.value[row]) {
                self.discard(position, kept[near.index[row] as usize]);
            }
        }
        Ok(())
    }

    /// Rows of one block, in order, against those kept before in the block.
    fn one_by_one(&mut self, rows: &[usize], y: MatRef<'_>) -> Result<()> {
        let open: Vec<usize> = (0..rows.len()).filter(|&row| self.verdict.keep[rows[row]]).collect();
        let values = Block::Owned(open.iter().flat_map(|&row| y.row(row)).copied().collect(), y.dim());
        let x = values.view()?;
        let (mut sq_dist, mut nearest) = (vec![f32::MAX; open.len()], vec![usize::MAX; open.len()]);
        for (i, &row) in open.iter().enumerate() {
            if self.is_near(sq_dist[i]) {
                self.discard(rows[row], rows[nearest[i]]);
                continue;
            }
            let rest = i + 1..open.len();
            let before = sq_dist[rest.clone()].to_vec();
            self.ctx.backend().min_sq_dist_update(x.slice(rest.clone()), x.row(i), &mut sq_dist[rest.clone()])?;
            for (j, _) in rest.zip(before).filter(|(j, old)| sq_dist[*j] < *old) {
                nearest[j] = row;
            }
        }
        Ok(())
    }

    fn is_near(&self, sq_dist: f32) -> bool {
        sq_dist == 0.0 || f64::from(sq_dist) < self.within
    }

    fn discard(&mut self, position: usize, blocker: usize) {
        self.verdict.keep[position] = false;
        self.verdict.blocker[position] = self.ids[blocker];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
    use arrow::datatypes::{DataType, Field};
    use curate_core::Memory;
    use std::sync::Arc;

    fn pool(angles: &[f32]) -> Pool {
        let values: Vec<f32> = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let list: ArrayRef = Arc::new(FixedSizeListArray::new(item, 2, Arc::new(Float32Array::from(values)), None));
        Pool::from_batch(RecordBatch::try_from_iter([("embedding", list)]).unwrap())
    }

    #[test]
    fn a_chain_keeps_every_other_row() {
        // neighbours are 0.1 apart, and only closer than 0.15 is a duplicate
        let method = SemanticDedup { epsilon: 1.0 - f64::from(0.15f32.cos()), keep: Keep::First, ..Default::default() };
        let verdict = method.judge(&pool(&[0.0, 0.1, 0.2, 0.3, 0.2]), &Ctx::new(0)).unwrap();
        assert_eq!(verdict.keep, [true, false, true, false, false]);
        assert_eq!(verdict.blocker, [u64::MAX, 0, u64::MAX, 2, 2]);
    }

    #[test]
    fn small_memory_gives_the_same_verdict_on_a_large_cell() {
        let angles: Vec<f32> = (0..4000u16).map(|i| f32::from(i.wrapping_mul(7919) % 1500) / 250.0).collect();
        let method = SemanticDedup { k: Some(1), epsilon: 1e-4, ..SemanticDedup::default() };
        let judge = |bytes| method.judge(&pool(&angles), &Ctx::new(0).with_memory(Memory::limited(bytes))).unwrap();
        let (roomy, tight) = (judge(1 << 30), judge(60_000));
        assert_eq!(roomy.keep, tight.keep);
        assert!(roomy.keep.iter().filter(|&&kept| kept).count() < 1000);
    }
}
