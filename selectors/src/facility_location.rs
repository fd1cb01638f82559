//! Representatives: takes the rows that together resemble the whole pool best, each next one the most that is still missing.
//!
//! `f(S) = sum_i max_{j in S} s(i, j)`, `s` the positive part of the cosine; the greedy choice reaches at least 1 - 1/e of the
//! best `f`. Source: Nemhauser, Wolsey, Fisher 1978; lazy evaluation, Minoux 1978; for data selection, Wei, Iyer, Bilmes
//! 2015. Deviation: `s(i, j)` counts only where j is among the `neighbours` rows most similar to i (or i
//! itself), never all pairs; above 100 000 rows those are looked for in the nearest cells only (`search`).
//! Ties go to the lower row id. Cost: n^2 d exact, about probes n d sqrt(n) by cells, then about n neighbours log n; the
//! embeddings in memory and 16 n (neighbours + 1) bytes.

use crate::limit::Limit;
use crate::neighbours::{Covers, Search};
use crate::vectors::{Vectors, by_id};
use curate_core::{Algorithm, Assessment, Budget, Column, Ctx, Info, Pick, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Rows up to which `search = auto` compares all pairs.
const EXACT_ROWS: usize = 100_000;

/// How to look for similar rows.
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

/// Parameters of facility location.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FacilityLocation {
    /// Similar rows that each row may be represented by.
    #[schemars(range(min = 1, max = 1024))]
    pub neighbours: usize,
    /// How to look for similar rows.
    pub search: SearchMode,
    /// Cells to look into for each row, with search by cells: more find more.
    #[schemars(range(min = 1, max = 100_000))]
    pub probes: usize,
    /// Scale the embeddings to unit length first. The built-in embedders do that already.
    pub normalize: bool,
}

impl Default for FacilityLocation {
    fn default() -> Self {
        Self { neighbours: 32, search: SearchMode::Auto, probes: 16, normalize: false }
    }
}

impl Algorithm for FacilityLocation {
    const INFO: Info = Info {
        name: "facility-location",
        summary: "Takes the rows that together represent the pool best; variety without a taste for outliers.",
        source: "Nemhauser, Wolsey, Fisher 1978; Wei, Iyer, Bilmes 2015",
        cost: "n^2 d exact, about probes n d sqrt(n) by cells; 4 n d + 16 n (neighbours + 1) bytes",
    };
}

impl Selector for FacilityLocation {
    fn needs(&self) -> Vec<Column> {
        vec![Column::EMBEDDING]
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
        let ctx = &ctx.child("facility-location");
        let by_id = by_id(&ids);
        let covers = {
            let block = Vectors::new(pool, &ids, self.normalize, ctx).at(&by_id)?;
            let by_cells = match self.search {
                SearchMode::Auto => ids.len() > EXACT_ROWS,
                SearchMode::Exact => false,
                SearchMode::Cells => true,
            };
            let search = Search { neighbours: self.neighbours, probes: by_cells.then_some(self.probes) };
            Covers::find(block.view()?, search, ctx)?
        };
        let mut greedy = Greedy::new(&covers);
        let mut meter = limit.meter();
        while let Some((row, gain)) = greedy.next(ctx)? {
            if !meter.admits(by_id[row]) {
                break;
            }
            greedy.take(row, gain);
        }
        meter.finish(ids.len())?;
        Ok(greedy.selection(&ids, &by_id))
    }
}

/// A row taken.
struct Taken {
    row: usize,
    gain: f64,
    /// Rows for which it was the best representative when taken.
    stands_for: usize,
}

/// Lazy greedy maximisation. Rows are counted in order of their ids, so that the lower index is the lower id.
struct Greedy<'a> {
    covers: &'a Covers,
    /// How well every row is represented, and by whom.
    best: Vec<f32>,
    by: Vec<usize>,
    /// (bits of an upper bound of the gain, row, number of rows taken when it was computed); bits of non-negative numbers sort as they do.
    bounds: BinaryHeap<(u64, Reverse<usize>, usize)>,
    taken: Vec<Taken>,
}

impl<'a> Greedy<'a> {
    fn new(covers: &'a Covers) -> Self {
        let n = covers.len();
        let best = vec![0.0; n];
        let bounds = (0..n).map(|row| (gain(covers, row, &best).to_bits(), Reverse(row), 0)).collect();
        Self { covers, best, by: vec![usize::MAX; n], bounds, taken: Vec::new() }
    }

    /// The row of the largest gain: gains only shrink, so a fresh one at the top of the heap is the largest.
    fn next(&mut self, ctx: &Ctx) -> Result<Option<(usize, f64)>> {
        while let Some((bits, Reverse(row), at)) = self.bounds.pop() {
            if at == self.taken.len() {
                return Ok(Some((row, f64::from_bits(bits))));
            }
            ctx.tick(0)?;
            self.bounds.push((gain(self.covers, row, &self.best).to_bits(), Reverse(row), self.taken.len()));
        }
        Ok(None)
    }

    fn take(&mut self, row: usize, gain: f64) {
        let mut stands_for = 0;
        for (covered, similarity) in self.covers.of(row) {
            if similarity > self.best[covered] {
                self.best[covered] = similarity;
                self.by[covered] = row;
                stands_for += 1;
            }
        }
        self.taken.push(Taken { row, gain, stands_for });
    }

    #[expect(clippy::cast_possible_truncation, reason = "for display; the choice is made in double precision")]
    fn selection(self, ids: &[u64], by_id: &[usize]) -> Selection {
        let n = ids.len();
        let pick = |taken: &Taken| Pick {
            row: ids[by_id[taken.row]],
            score: taken.gain as f32,
            weight: 1.0,
            group: None,
            reason: format!(
                "adds {:.4} to how well the pool is represented; it stands for {} of {n} rows",
                taken.gain, taken.stands_for
            ),
        };
        let picks: Vec<Pick> = self.taken.iter().map(pick).collect();
        let mut assessment = Assessment {
            row: ids.to_vec(),
            score: vec![0.0; n],
            place: vec![0; n],
            blocker: vec![u64::MAX; n],
            ..Assessment::default()
        };
        for (row, &position) in by_id.iter().enumerate() {
            assessment.score[position] = gain(self.covers, row, &self.best) as f32;
            assessment.blocker[position] = self.by.get(self.by[row]).map_or(u64::MAX, |_| ids[by_id[self.by[row]]]);
        }
        for (taken, rank) in self.taken.iter().zip(1..) {
            let position = by_id[taken.row];
            assessment.score[position] = taken.gain as f32;
            assessment.place[position] = rank;
            assessment.blocker[position] = u64::MAX;
        }
        let covered: f64 = self.best.iter().map(|&s| f64::from(s)).sum();
        let report = serde_json::Map::from_iter([("represented".to_owned(), json!(covered))]);
        Selection { picks, assessment: Some(assessment), report, ..Selection::default() }
    }
}

/// What taking `row` would add.
fn gain(covers: &Covers, row: usize, best: &[f32]) -> f64 {
    covers.of(row).map(|(covered, similarity)| f64::from((similarity - best[covered]).max(0.0))).sum::<f64>() + 0.0
}
