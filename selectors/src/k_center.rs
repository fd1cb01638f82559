//! Farthest first: every row taken is the one farthest from all rows taken before, so that no corner of the pool is missed.
//!
//! `next = argmax_i min_{s in S} |x_i - x_s|`, ties to the lower row id; the largest distance left is at most twice the
//! best possible for that many rows. Source: Gonzalez 1985; as core-set selection, Sener and Savarese 2018.
//! Deviation: none in the rule; the start is fixed (`start`) instead of arbitrary. Outliers are taken early by design:
//! filter them first, or use facility-location. Cost: k n d time; the embeddings in memory where the limit allows, else
//! they are read again for every pick; 20 n bytes besides.

use crate::limit::Limit;
use crate::vectors::{Block, Vectors};
use curate_core::kernels::{MatRef, SegmentSums};
use curate_core::{Algorithm, Assessment, Budget, Column, Ctx, Info, Pick, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ops::Range;

/// The row to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The row nearest to the mean of all rows.
    #[default]
    Central,
    /// The row of the highest quality score.
    BestQuality,
}

/// Parameters of farthest-first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KCenter {
    /// The row to begin with.
    pub start: Start,
    /// Scale the embeddings to unit length first. The built-in embedders do that already.
    pub normalize: bool,
}

impl Algorithm for KCenter {
    const INFO: Info = Info {
        name: "k-center",
        summary: "Takes the row farthest from all rows taken before; covers every corner of the pool, outliers included.",
        source: "Gonzalez 1985; Sener and Savarese 2018 (core-sets)",
        cost: "k n d time; 4 n d bytes where they fit, else one chunk, and 20 n bytes",
    };
}

impl Selector for KCenter {
    fn needs(&self) -> Vec<Column> {
        let quality = (self.start == Start::BestQuality).then_some(Column::QUALITY);
        [Column::EMBEDDING].into_iter().chain(quality).collect()
    }

    fn nested(&self) -> bool {
        true
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let ids = pool.ids()?;
        ctx.tick(0)?;
        if ids.is_empty() {
            return Ok(Selection::default());
        }
        let ctx = &ctx.child("k-center");
        let vectors = Vectors::new(pool, &ids, self.normalize, ctx);
        let space = Space { held: vectors.hold()?, vectors, pool, ids: &ids, ctx };
        let start = match self.start {
            Start::Central => space.central()?,
            Start::BestQuality => {
                let quality = pool.numbers(&Column::QUALITY)?;
                space.first_by(|a, b| quality[b].total_cmp(&quality[a]), |_| true).unwrap_or(0)
            }
        };
        let mut cover = Cover::new(ids.len());
        let mut meter = limit.meter();
        let mut next = Some(start);
        while let Some(position) = next.filter(|&position| meter.admits(position)) {
            cover.take(position, &space)?;
            next = space.first_by(|a, b| cover.sq_dist[b].total_cmp(&cover.sq_dist[a]), |p| cover.place[p] == 0);
        }
        meter.finish(ids.len())?;
        Ok(cover.selection(&space, self.start))
    }
}

/// The vectors of the pool and how to go through them.
struct Space<'a> {
    held: Option<Vec<Block>>,
    vectors: Vectors<'a>,
    pool: &'a Pool,
    ids: &'a [u64],
    ctx: &'a Ctx,
}

impl Space<'_> {
    fn each(&self, mut visit: impl FnMut(Range<usize>, MatRef<'_>) -> Result<()>) -> Result<()> {
        let Some(held) = &self.held else {
            return self.vectors.each(|range, x, _| visit(range, x));
        };
        for (i, block) in held.iter().enumerate() {
            self.ctx.tick(0)?;
            visit(self.pool.chunk_range(i), block.view()?)?;
        }
        Ok(())
    }

    fn point(&self, position: usize) -> Result<Vec<f32>> {
        let Some(held) = &self.held else {
            return Ok(self.vectors.at(&[position])?.view()?.data().to_vec());
        };
        let chunk = (0..held.len()).find(|&i| self.pool.chunk_range(i).contains(&position)).unwrap_or(0);
        Ok(held[chunk].view()?.row(position - self.pool.chunk_range(chunk).start).to_vec())
    }

    /// The open position that `order` puts first, ties to the lower row id.
    fn first_by(
        &self,
        order: impl Fn(usize, usize) -> std::cmp::Ordering,
        open: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let open = (0..self.ids.len()).filter(|&p| open(p));
        open.min_by(|&a, &b| order(a, b).then(self.ids[a].cmp(&self.ids[b])))
    }

    /// The row nearest to the mean; the mean is a sum of integers, so that the order of rows cannot matter.
    fn central(&self) -> Result<usize> {
        let (dim, n) = (self.vectors.dim()?, self.ids.len());
        let mut max_abs = 0f32;
        self.each(|_, x| {
            max_abs = x.data().iter().fold(max_abs, |most, v| most.max(v.abs()));
            Ok(())
        })?;
        let mut sums = SegmentSums::new(1, dim, max_abs, n as u64);
        self.each(|range, x| Ok(self.ctx.backend().segment_sums(x, &vec![0; range.len()], &mut sums)?))?;
        let mut mean = vec![0.0; dim];
        sums.mean_into(0, &mut mean);
        let mut sq_dist = vec![f32::MAX; n];
        self.each(|range, x| Ok(self.ctx.backend().min_sq_dist_update(x, &mean, &mut sq_dist[range])?))?;
        Ok(self.first_by(|a, b| sq_dist[a].total_cmp(&sq_dist[b]), |_| true).unwrap_or(0))
    }
}

/// What is covered so far.
struct Cover {
    /// Squared distance of every position to the nearest row taken.
    sq_dist: Vec<f32>,
    /// That row, as a position.
    nearest: Vec<usize>,
    /// Rank of the rows taken, from 1; 0 for the others.
    place: Vec<u32>,
    /// Rows taken, with the squared distance to the nearest before and that row.
    taken: Vec<(usize, f32, usize)>,
}

impl Cover {
    fn new(n: usize) -> Self {
        Self { sq_dist: vec![f32::MAX; n], nearest: vec![usize::MAX; n], place: vec![0; n], taken: Vec::new() }
    }

    fn take(&mut self, position: usize, space: &Space<'_>) -> Result<()> {
        let point = space.point(position)?;
        self.taken.push((position, self.sq_dist[position], self.nearest[position]));
        self.place[position] = u32::try_from(self.taken.len()).unwrap_or(u32::MAX);
        let (sq_dist, nearest) = (&mut self.sq_dist, &mut self.nearest);
        let mut before = Vec::new();
        space.each(|range, x| {
            before.clear();
            before.extend_from_slice(&sq_dist[range.clone()]);
            space.ctx.backend().min_sq_dist_update(x, &point, &mut sq_dist[range.clone()])?;
            let changed = range.clone().zip(&before).filter(|(p, old)| sq_dist[*p] < **old);
            changed.for_each(|(p, _)| nearest[p] = position);
            Ok(())
        })
    }

    /// The first row's score is that of the second: the distance its choice left open.
    fn selection(self, space: &Space<'_>, start: Start) -> Selection {
        let radius = self.sq_dist.iter().copied().fold(0.0, f32::max).sqrt();
        let first = self.taken.get(1).map_or(radius, |second| second.1.sqrt());
        let pick = |(rank, &(position, sq_dist, nearest)): (usize, &(usize, f32, usize))| Pick {
            row: space.ids[position],
            score: if rank == 0 { first } else { sq_dist.sqrt() },
            weight: 1.0,
            group: None,
            reason: match (rank, start) {
                (0, Start::Central) => "the start: nearest to the mean of all rows".to_owned(),
                (0, Start::BestQuality) => "the start: the best quality of all rows".to_owned(),
                _ => format!(
                    "farthest from the {rank} rows chosen before it: distance {} to the nearest, row {}",
                    sq_dist.sqrt(),
                    space.ids[nearest]
                ),
            },
        };
        let picks: Vec<Pick> = self.taken.iter().enumerate().map(pick).collect();
        let mut score: Vec<f32> = self.sq_dist.iter().map(|d| d.sqrt()).collect();
        self.taken.iter().zip(&picks).for_each(|(taken, pick)| score[taken.0] = pick.score);
        let blocker = |p: usize| if self.place[p] > 0 { u64::MAX } else { space.ids[self.nearest[p]] };
        let assessment = Assessment {
            row: space.ids.to_vec(),
            score,
            blocker: (0..space.ids.len()).map(blocker).collect(),
            place: self.place,
            ..Assessment::default()
        };
        let report = serde_json::Map::from_iter([("covering_radius".to_owned(), json!(radius))]);
        Selection { picks, assessment: Some(assessment), report, ..Selection::default() }
    }
}
