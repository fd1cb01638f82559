//! Takes the rows of the highest quality that are not too similar to a row taken before.
//!
//! Rows in order of falling `score.quality`; a row is taken if its cosine to every row taken before is at most
//! `similarity`. Source: Liu et al. 2024 (DEITA: score first, then diversity). Deviations: exact search for the
//! nearest row taken; where the pool ends before the budget does, the rows passed over follow, the least similar to
//! what was taken first (equals: by quality), as if the bound were raised; the paper takes fewer rows. Ties go to the lower
//! row id. Cost: v k d time for v rows looked at and k taken; 4 k d bytes, the embeddings a slab at a time, 40 n bytes.

use crate::limit::{Limit, Meter};
use crate::ranking::sortable;
use crate::vectors::{Block, Vectors};
use curate_core::kernels::{MatRef, Metric};
use curate_core::{Algorithm, Assessment, Budget, Column, Ctx, Info, Pick, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cmp::Reverse;

/// Rows compared at once with those taken.
const BLOCK_ROWS: usize = 512;

/// Parameters of DEITA's filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Deita {
    /// Cosine above which a row is too similar to one taken before; 1 takes all.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub similarity: f64,
}

impl Default for Deita {
    fn default() -> Self {
        Self { similarity: 0.9 }
    }
}

impl Algorithm for Deita {
    const INFO: Info = Info {
        name: "deita",
        summary: "Takes the rows of the highest quality that are not too similar to a row taken before.",
        source: "DEITA (Liu et al. 2024): score first, diversity-aware",
        cost: "v k d time for v rows looked at and k taken; 4 k d + 40 n bytes and a slab of the embeddings",
    };
}

impl Selector for Deita {
    fn needs(&self) -> Vec<Column> {
        vec![Column::EMBEDDING, Column::QUALITY]
    }

    fn nested(&self) -> bool {
        true
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let (ids, quality) = (pool.ids()?, pool.numbers(&Column::QUALITY)?);
        ctx.tick(0)?;
        if ids.is_empty() {
            return Ok(Selection::default());
        }
        let ctx = &ctx.child(Self::INFO.name);
        ctx.progress().set_total(ids.len() as u64);
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_cached_key(|&p| (Reverse(sortable(quality[p])), ids[p], p));
        let vectors = Vectors::new(pool, &ids, true, ctx);
        vectors.each(|_, _, _| Ok(()))?;
        let mut walk = Walk::new(self, vectors, limit.meter(), ctx)?;
        walk.run(&order)?;
        walk.fill_up(&ids, &quality);
        walk.finish(&ids, &quality)
    }
}

/// A row passed over: how near to which row taken.
#[derive(Clone, Copy)]
struct Near {
    position: usize,
    sq_dist: f32,
    blocker: usize,
}

/// The walk down the ranking.
struct Walk<'a> {
    vectors: Vectors<'a>,
    meter: Meter<'a>,
    /// Squared distance of unit vectors below which rows are too similar.
    within: f64,
    /// Unit vectors of the rows taken.
    values: Vec<f32>,
    dim: usize,
    taken: Vec<usize>,
    passed: Vec<Near>,
    /// Rows taken in spite of their similarity.
    filled: usize,
    full: bool,
    ctx: &'a Ctx,
}

impl<'a> Walk<'a> {
    fn new(params: &Deita, vectors: Vectors<'a>, meter: Meter<'a>, ctx: &'a Ctx) -> Result<Self> {
        let within = 2.0 * (1.0 - params.similarity);
        let dim = vectors.dim()?;
        let (values, taken, passed) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { vectors, meter, within, values, dim, taken, passed, filled: 0, full: false, ctx })
    }

    /// Go down the ranking until the budget is met. Slabs are whole blocks, so that the memory cannot matter.
    fn run(&mut self, order: &[usize]) -> Result<()> {
        let room = self.ctx.memory().limit_bytes() / 16 / self.vectors.bytes(1)?.max(1);
        let blocks = usize::try_from(room).unwrap_or(usize::MAX) / BLOCK_ROWS;
        for slab in order.chunks(blocks.clamp(1, 1 << 12) * BLOCK_ROWS) {
            let block = self.vectors.at(slab)?;
            let x = block.view()?;
            for (rows, start) in slab.chunks(BLOCK_ROWS).zip((0..).step_by(BLOCK_ROWS)) {
                if self.full {
                    return Ok(());
                }
                self.ctx.tick(rows.len() as u64)?;
                self.block(rows, x.slice(start..start + rows.len()))?;
            }
        }
        Ok(())
    }

    /// The rows of a block that are not too similar to those taken before it, then one by one.
    fn block(&mut self, rows: &[usize], x: MatRef<'_>) -> Result<()> {
        let mut open: Vec<usize> = (0..rows.len()).collect();
        if !self.taken.is_empty() {
            let base = MatRef::new(&self.values, self.dim)?;
            let found = self.ctx.backend().top_k(x, base, 1, Metric::SqEuclidean, None)?;
            let near = |row: usize| {
                let (sq_dist, blocker) = (found.value[row], self.taken[found.index[row] as usize]);
                Near { position: rows[row], sq_dist, blocker }
            };
            let (passed, rest): (Vec<usize>, Vec<usize>) =
                open.iter().partition(|&&row| self.is_near(found.value[row]));
            let passed: Vec<Near> = passed.into_iter().map(near).collect();
            self.passed.extend(passed);
            open = rest;
        }
        self.one_by_one(rows, x, &open)
    }

    fn one_by_one(&mut self, rows: &[usize], x: MatRef<'_>, open: &[usize]) -> Result<()> {
        let values = Block::Owned(open.iter().flat_map(|&row| x.row(row)).copied().collect(), self.dim);
        let x = values.view()?;
        let (mut sq_dist, mut nearest) = (vec![f32::MAX; open.len()], vec![usize::MAX; open.len()]);
        for (i, &row) in open.iter().enumerate() {
            let position = rows[row];
            if self.full {
                return Ok(());
            }
            if self.is_near(sq_dist[i]) {
                self.passed.push(Near { position, sq_dist: sq_dist[i], blocker: nearest[i] });
                continue;
            }
            self.full = !self.take(position, x.row(i))?;
            let rest = i + 1..open.len();
            let before = sq_dist[rest.clone()].to_vec();
            self.ctx.backend().min_sq_dist_update(x.slice(rest.clone()), x.row(i), &mut sq_dist[rest.clone()])?;
            rest.zip(before).filter(|(j, old)| sq_dist[*j] < *old).for_each(|(j, _)| nearest[j] = position);
        }
        Ok(())
    }

    /// Whether there was room.
    fn take(&mut self, position: usize, values: &[f32]) -> Result<bool> {
        if !self.meter.admits(position) {
            return Ok(false);
        }
        self.ctx.memory().reserve(4 * (self.values.len() + values.len()) as u64, "the embeddings of the rows taken")?;
        self.values.extend_from_slice(values);
        self.taken.push(position);
        Ok(true)
    }

    fn is_near(&self, sq_dist: f32) -> bool {
        f64::from(sq_dist) < self.within
    }

    /// The rows passed over, the least similar first, equals by quality.
    fn fill_up(&mut self, ids: &[u64], quality: &[f32]) {
        if self.full {
            return;
        }
        let mut passed = self.passed.clone();
        passed.sort_by_cached_key(|near| {
            let p = near.position;
            (Reverse(sortable(near.sq_dist)), Reverse(sortable(quality[p])), ids[p], p)
        });
        let positions = passed.iter().map(|near| near.position);
        let fitting: Vec<usize> = positions.take_while(|&p| self.meter.admits(p)).collect();
        self.filled = fitting.len();
        self.taken.extend(fitting);
    }

    fn finish(self, ids: &[u64], quality: &[f32]) -> Result<Selection> {
        let n = ids.len();
        let (mut blocker, mut place) = (vec![u64::MAX; n], vec![0; n]);
        let mut nearest = vec![None; n];
        for near in &self.passed {
            blocker[near.position] = ids[near.blocker];
            nearest[near.position] = Some(near);
        }
        for (&position, rank) in self.taken.iter().zip(1..) {
            blocker[position] = u64::MAX;
            place[position] = rank;
        }
        let reason = |position: usize| match nearest[position] {
            Some(near) => format!(
                "quality {}; {:.3} similar to row {}, taken because the budget reaches that far",
                quality[position],
                1.0 - near.sq_dist / 2.0,
                ids[near.blocker]
            ),
            None => format!("quality {}, the best that is not too similar to a row before it", quality[position]),
        };
        let pick = |&position: &usize| Pick {
            row: ids[position],
            score: quality[position],
            weight: 1.0,
            group: None,
            reason: reason(position),
        };
        let picks = self.taken.iter().map(pick).collect();
        let assessment =
            Assessment { row: ids.to_vec(), score: quality.to_vec(), place, blocker, ..Assessment::default() };
        let mut chosen = Selection { picks, assessment: Some(assessment), ..Selection::default() };
        chosen.report.insert("passed_over_rows".into(), json!(self.passed.len()));
        chosen.report.insert("filled_up_rows".into(), json!(self.filled));
        self.meter.finish(n)?;
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
    use arrow::datatypes::{DataType, Field};
    use std::sync::Arc;

    #[test]
    fn a_copy_of_the_best_waits_until_nothing_else_is_left() {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let values = Float32Array::from(vec![1.0, 0.0, 2.0, 0.0, 0.0, 3.0, 1.0, 0.3]);
        let columns: [(&str, ArrayRef); 2] = [
            ("embedding", Arc::new(FixedSizeListArray::new(item, 2, Arc::new(values), None))),
            ("score.quality", Arc::new(Float32Array::from(vec![9.0, 8.0, 1.0, 5.0]))),
        ];
        let pool = Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap());
        let choose = |rows| Deita::default().select(&pool, Budget::Rows(rows), &Ctx::new(0)).unwrap();
        assert_eq!(choose(4).rows(), [0, 2, 3, 1], "row 3 has a cosine of 0.958 to row 0, row 1 of 1");
        let two = choose(2).assessment.unwrap();
        assert_eq!((two.place, two.blocker), (vec![1, 0, 2, 0], vec![u64::MAX, 0, u64::MAX, 0]));
    }
}
