//! Takes the rows whose weighted gradients stand best for those of all rows, and gives each the weight of the rows it stands for.
//!
//! `F(S) = sum_j min_(i in S) |x_j - x_i|`, least: the distance of gradient proxies bounds the error of the weighted sum
//! of gradients. Greedy, class by class; the weight of a member is the number of rows nearest to it, scaled so that all
//! weights sum to the rows taken; `curate train` weighs the loss of a row by it. The vectors are the pool's embeddings; gradient proxies of one's own are named with
//! `--embedder column:NAME`. Source: Mirzasoleiman, Bilmes, Leskovec 2020 (CRAIG); lazy evaluation, Minoux
//! 1978. Deviations: F is measured at `judges` rows a class, drawn at random, where there are more; a member always
//! stands for itself; shares by largest remainder. Ties go to the lower row id. Cost: n J d time for J judges a
//! class, then about n J a pick; 4 (n d + n J) bytes, distances are made anew where that does not fit.

mod cover;

use crate::allocate::allocate;
use crate::distances::Distances;
use crate::grouping::{Grouping, labels};
use crate::limit::Limit;
use crate::strata::{Placed, Strata};
use crate::vectors::{Vectors, by_id};
use cover::{Cover, taken};
use curate_core::kernels::MatRef;
use curate_core::{Algorithm, Budget, Column, Ctx, Info, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How classes share the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// In proportion to their rows.
    #[default]
    Proportional,
    /// The same for each, as far as it has rows.
    Equal,
}

/// Parameters of CRAIG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Craig {
    /// Column of class labels (whole numbers): rows stand for rows of their class only.
    pub classes: Option<String>,
    /// How classes share the budget.
    pub share: Share,
    /// Rows of a class at which the coverage is measured, at most.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub judges: usize,
    /// Scale the vectors to unit length first. The built-in embedders do that already.
    pub normalize: bool,
}

impl Default for Craig {
    fn default() -> Self {
        Self { classes: None, share: Share::Proportional, judges: 8192, normalize: false }
    }
}

impl Algorithm for Craig {
    const INFO: Info = Info {
        name: "craig",
        summary: "Takes rows that stand for all others; each weighs in training as much as the rows it stands for.",
        source: "CRAIG (Mirzasoleiman, Bilmes, Leskovec 2020)",
        cost: "n J d, then about n J a pick, for J judges a class; 4 (n d + n J) bytes",
    };
}

impl Selector for Craig {
    fn needs(&self) -> Vec<Column> {
        std::iter::once(Column::EMBEDDING).chain(self.classes.clone().map(Column::named)).collect()
    }

    fn nested(&self) -> bool {
        self.classes.is_none()
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let ids = pool.ids()?;
        ctx.tick(0)?;
        if ids.is_empty() {
            return Ok(Selection::default());
        }
        let ctx = &ctx.child(Self::INFO.name);
        let grouping = self.grouping(pool)?;
        let by_id = by_id(&ids);
        let block = Vectors::new(pool, &ids, self.normalize, ctx).at(&by_id)?;
        let sizes = sizes(&grouping);
        let share = |rows: usize| self.shares(&sizes, rows);
        let caps = if let Limit::Rows(rows) = limit { share(rows) } else { sizes.clone() };
        let mut cover = Cover::new(ids.len());
        let classes = classes(&grouping, &by_id);
        for (rows, &cap) in classes.iter().zip(&caps) {
            let x = taken(block.view()?, rows);
            let judges = self.judges_of(rows, |row| ids[by_id[row]], ctx);
            cover.class(&by_id, rows, greedy((&x, block.view()?.dim()), &judges, cap, ctx)?);
        }
        let strata = Strata::new(&ids, &grouping.of, &grouping.names, &cover.preference);
        let quotas = strata.quotas(&limit, share)?;
        for (j, rows) in classes.iter().enumerate() {
            cover.represent((block.view()?, &by_id), rows, first(strata.members(j), quotas[j]), ctx)?;
        }
        Ok(self.selection(&strata, &quotas, &cover))
    }
}

fn sizes(grouping: &Grouping) -> Vec<u64> {
    let mut sizes = vec![0; grouping.names.len()];
    grouping.of.iter().for_each(|&j| sizes[j as usize] += 1);
    sizes
}

/// Rows (in order of ids) of every class.
fn classes(grouping: &Grouping, by_id: &[usize]) -> Vec<Vec<usize>> {
    let mut classes = vec![Vec::new(); grouping.names.len()];
    by_id.iter().enumerate().for_each(|(row, &p)| classes[grouping.of[p] as usize].push(row));
    classes
}

fn first(members: &[usize], quota: u64) -> &[usize] {
    &members[..members.len().min(usize::try_from(quota).unwrap_or(usize::MAX))]
}

impl Craig {
    fn grouping(&self, pool: &Pool) -> Result<Grouping> {
        match self.classes.clone().map(Column::named) {
            Some(column) => Grouping::of_column(&labels(pool, &column)?),
            None => Grouping::of_column(&vec![0; pool.rows()]),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of rows as weights")]
    fn shares(&self, sizes: &[u64], rows: usize) -> Vec<u64> {
        let weight = |&size: &u64| if self.share == Share::Equal { 1.0 } else { size as f64 };
        allocate(&sizes.iter().map(weight).collect::<Vec<_>>(), sizes, rows as u64).rows
    }

    /// Places within a class whose coverage counts, rising.
    fn judges_of(&self, rows: &[usize], id: impl Fn(usize) -> u64, ctx: &Ctx) -> Vec<usize> {
        let mut places: Vec<usize> = (0..rows.len()).collect();
        if rows.len() > self.judges {
            let lot = ctx.stream("judges");
            places.sort_by_cached_key(|&place| (lot(id(rows[place])).bits(), place));
            places.truncate(self.judges);
            places.sort_unstable();
        }
        places
    }

    fn selection(&self, strata: &Strata<'_>, quotas: &[u64], cover: &Cover) -> Selection {
        let list = strata.interleave(quotas);
        let reason = |p: &Placed| {
            let count = cover.count[p.position];
            format!("stands for {count} rows; adds {:.4} to how well they are covered", cover.gain[p.position])
        };
        let mut picks = strata.picks(&list, &cover.gain, reason);
        let counted: u64 = list.iter().map(|p| cover.count[p.position]).sum();
        for (pick, placed) in picks.iter_mut().zip(&list) {
            pick.weight = weight(cover.count[placed.position], list.len(), counted);
        }
        let mut assessment = strata.assessment(&cover.gain);
        let never = |p: &usize| cover.preference[*p] == f64::NEG_INFINITY;
        (0..strata.ids.len()).filter(never).for_each(|p| assessment.place[p] = 0);
        let blocker = |&by: &usize| strata.ids.get(by).copied().unwrap_or(u64::MAX);
        assessment.blocker = cover.by.iter().map(blocker).collect();
        let mut chosen =
            Selection { picks, groups: strata.groups(quotas), assessment: Some(assessment), ..Selection::default() };
        if self.classes.is_none() {
            chosen.groups.clear();
            chosen.picks.iter_mut().for_each(|pick| pick.group = None);
            chosen.assessment.iter_mut().for_each(|told| told.group.clear());
        }
        chosen.report.insert("summed_distance".into(), json!(cover.distance));
        chosen
    }
}

/// `count` of `counted` rows, on a scale on which `rows` members weigh 1 on average.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "numbers of rows")]
fn weight(count: u64, rows: usize, counted: u64) -> f32 {
    (count as f64 * rows as f64 / counted.max(1) as f64) as f32
}

/// Places within a class in the order taken, with what each added.
fn greedy((x, dim): (&[f32], usize), judges: &[usize], count: u64, ctx: &Ctx) -> Result<Vec<(usize, f64)>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let x = MatRef::new(x, dim)?;
    let y = taken(x, judges);
    let distances = Distances::new(x, MatRef::new(&y, dim)?, ctx)?;
    ctx.progress().set_total(count);
    let sums = distances
        .each(|row| (row.iter().map(|&d| f64::from(d)).sum::<f64>(), row.iter().fold(0.0f32, |top, &d| top.max(d))));
    let farthest = sums.iter().fold(0.0f32, |top, s| top.max(s.1));
    let Some(start) = (0..sums.len()).min_by(|&a, &b| sums[a].0.total_cmp(&sums[b].0)) else { return Ok(Vec::new()) };
    let mut least = vec![farthest; judges.len()];
    let mut order = vec![(start, distances.at(start, |row| gain(&least, row)))];
    distances.at(start, |row| lower(&mut least, row));
    let gains = distances.each(|row| gain(&least, row).to_bits());
    let others = gains.into_iter().enumerate().filter(|g| g.0 != start);
    let mut heap: BinaryHeap<(u64, Reverse<usize>, usize)> = others.map(|(i, b)| (b, Reverse(i), 1)).collect();
    while (order.len() as u64) < count
        && let Some((bits, Reverse(row), at)) = heap.pop()
    {
        ctx.tick(u64::from(at == order.len()))?;
        if at == order.len() {
            order.push((row, f64::from_bits(bits)));
            distances.at(row, |row| lower(&mut least, row));
        } else {
            let fresh = distances.at(row, |row| gain(&least, row));
            heap.push((fresh.to_bits(), Reverse(row), order.len()));
        }
    }
    Ok(order)
}

/// By how much a row would lower the sum of least distances.
fn gain(least: &[f32], row: &[f32]) -> f64 {
    least.iter().zip(row).map(|(&least, &d)| f64::from((least - d).max(0.0))).sum::<f64>() + 0.0
}

fn lower(least: &mut [f32], row: &[f32]) {
    least.iter_mut().zip(row).for_each(|(least, &d)| *least = least.min(d));
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array};
    use arrow::datatypes::{DataType, Field};
    use std::sync::Arc;

    fn pool() -> Pool {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let values = Float32Array::from(vec![0.0, 1.0, 1.5, 10.0, 11.0, 50.0]);
        let columns: [(&str, ArrayRef); 2] = [
            ("embedding", Arc::new(FixedSizeListArray::new(item, 1, Arc::new(values), None))),
            ("kind", Arc::new(UInt32Array::from(vec![3, 3, 3, 3, 8, 8]))),
        ];
        Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap())
    }

    fn weights(craig: &Craig, rows: usize) -> Vec<(u64, f32)> {
        let chosen = craig.select(&pool(), Budget::Rows(rows), &Ctx::new(0)).unwrap();
        chosen.picks.iter().map(|pick| (pick.row, pick.weight)).collect()
    }

    #[test]
    fn members_weigh_as_many_rows_as_they_stand_for() {
        // sums of distances: 73.5, 69.5, 68.5, 68.5, ...: 1.5 comes first, then 50 adds 48.5, then 10 and 11 add 17 each
        assert_eq!(weights(&Craig::default(), 3), [(2, 1.5), (5, 0.5), (3, 1.0)]);
        assert_eq!(weights(&Craig::default(), 1), [(2, 1.0)]);
    }

    #[test]
    fn classes_stand_for_themselves() {
        let craig = Craig { classes: Some("kind".into()), share: Share::Equal, ..Craig::default() };
        let mut chosen = weights(&craig, 2);
        chosen.sort_unstable_by_key(|c| c.0);
        assert_eq!(chosen, [(1, 4.0 / 3.0), (4, 2.0 / 3.0)]);
    }
}
