//! The choice against chance: the same measures of the choice and of random draws of the same budget.
//!
//! Distance: over drawn rows of the pool, Euclidean distance to the nearest chosen row (what facility location and k-center
//! lower). Coverage: share of regions with a chosen row, regions by k-means over the pool, unknown to the method. Means: over the
//! chosen rows. Source: own work. Cost: about 4e9 multiplications a draw, one region fit; vectors pass a chunk at a time.

use super::data::Measure;
use super::map::smallest;
use super::scores::quantile;
use super::shares::Labels;
use super::table::Table;
use crate::plan::Plan;
use curate_core::kernels::MatRef;
use curate_core::{Column, Ctx, Pool, Result, find};
use curate_selectors::{ClusterParams, SELECTORS, clusters};
use serde_json::Map;
use std::collections::BTreeSet;

/// Random draws.
const DRAWS: usize = 10;

/// Multiplications that one draw's distances may take, and the fewest rows they are taken of.
const PRODUCTS: usize = 4_000_000_000;
const FEWEST_ROWS: usize = 256;
const MOST_ROWS: usize = 8192;

/// The measures, and how many floating-point operations they took.
pub(super) struct Found {
    pub(super) measures: Vec<Measure>,
    pub(super) flop: f64,
}

/// Regions of the pool: k-means clusters of all its rows.
pub(super) fn regions(pool: &Pool, table: &Table, ctx: &Ctx) -> Result<Labels> {
    let k = table.picks.len().min(table.rows() / 8).clamp(1, 256);
    let params = ClusterParams { k: Some(k), iterations: 10, restarts: 1, normalize: false };
    let found = clusters(pool, &params, ctx)?;
    let names = (0..k).map(|region| format!("region {region}")).collect();
    Ok(Labels { by: "region".to_owned(), note: format!("{k} regions by k-means"), names, of: found.labels })
}

/// Measure the choice and the draws.
pub(super) fn objective(plan: &Plan, pool: &Pool, table: &Table, regions: Option<&Labels>, ctx: &Ctx) -> Result<Found> {
    let mut found = Found { measures: Vec::new(), flop: 0.0 };
    if table.picks.is_empty() {
        return Ok(found);
    }
    let mut sets = vec![table.picks.clone()];
    sets.extend(draws(plan, pool, table, ctx)?);
    sets.iter_mut().for_each(|set| set.sort_unstable());
    if pool.has(&Column::EMBEDDING) {
        let (rows, nearest) = nearest(pool, table, &sets, ctx)?;
        let dim = pool.dim(&Column::EMBEDDING)?;
        found.flop += sets.iter().map(|set| 2.0 * (set.len() * rows * dim) as f64).sum::<f64>();
        found.measures.extend(distances(rows, &nearest));
    }
    found.measures.extend(regions.map(|regions| coverage(regions, &sets)));
    for number in &table.numbers {
        let of = |set: &Vec<usize>| mean(set.iter().map(|&at| f64::from(number.values[at])).filter(|v| v.is_finite()));
        let note = "Mean over the chosen rows.";
        found.measures.push(measure(&format!("mean of {}", number.name), note, "", sets.iter().map(of)));
    }
    let (lengths, unit) = table.lengths();
    let of = |set: &Vec<usize>| set.iter().map(|&at| f64::from(lengths[at])).sum::<f64>();
    found.measures.push(measure(&format!("{unit} in all"), "Length of the chosen rows.", "", sets.iter().map(of)));
    Ok(found)
}

/// Random draws of the plan's budget, from the rows that the method chose from.
fn draws(plan: &Plan, pool: &Pool, table: &Table, ctx: &Ctx) -> Result<Vec<Vec<usize>>> {
    let candidates = table.candidates();
    let pool = if candidates.len() < table.rows() { pool.filter(&candidates)? } else { pool.clone() };
    let random = find(SELECTORS, "random", "method")?.build(&Map::new())?;
    let budget = plan.selection()?.budget;
    let draw = |number: usize| {
        let drawn = random.select(&pool, budget, &ctx.labelled(&format!("draw {number}")))?;
        Ok(table.places(drawn.rows().into_iter()).collect())
    };
    (0..DRAWS).map(draw).collect()
}

/// For each set, the distance of drawn rows to the nearest member; and how many rows were drawn.
fn nearest(pool: &Pool, table: &Table, sets: &[Vec<usize>], ctx: &Ctx) -> Result<(usize, Vec<Vec<f64>>)> {
    let dim = pool.dim(&Column::EMBEDDING)?;
    let affordable = PRODUCTS / (sets[0].len() * dim).max(1);
    let rows = smallest(table, table.candidates(), affordable.clamp(FEWEST_ROWS, MOST_ROWS), ctx);
    let block = pool.gather(&Column::EMBEDDING, &rows, ctx)?;
    let mut least = vec![vec![f32::INFINITY; rows.len()]; sets.len()];
    for chunk in 0..pool.chunks() {
        let range = pool.chunk_range(chunk);
        let vectors = pool.block(chunk, &Column::EMBEDDING)?;
        for (set, least) in sets.iter().zip(&mut least) {
            let mine = &set[set.partition_point(|&at| at < range.start)..set.partition_point(|&at| at < range.end)];
            let members: Vec<usize> = mine.iter().map(|at| at - range.start).collect();
            lower(block.view()?, vectors.view()?, &members, least, ctx)?;
            ctx.tick(0)?;
        }
    }
    let root = |sq: Vec<f32>| sq.into_iter().map(|v| f64::from(v).sqrt()).collect();
    Ok((rows.len(), least.into_iter().map(root).collect()))
}

/// Lower `least[i]` to the squared distance of row `i` to the nearest member, where that is smaller.
fn lower(rows: MatRef<'_>, vectors: MatRef<'_>, members: &[usize], least: &mut [f32], ctx: &Ctx) -> Result<()> {
    if members.is_empty() {
        return Ok(());
    }
    let gathered: Vec<f32> = members.iter().flat_map(|&at| vectors.row(at)).copied().collect();
    let (mut labels, mut sq_dist) = (vec![0; rows.rows()], vec![0.0; rows.rows()]);
    ctx.backend().assign(rows, MatRef::new(&gathered, rows.dim())?, &mut labels, &mut sq_dist)?;
    least.iter_mut().zip(sq_dist).for_each(|(least, found)| *least = least.min(found));
    Ok(())
}

fn distances(rows: usize, nearest: &[Vec<f64>]) -> [Measure; 2] {
    let note = format!("Distance of a row to the nearest chosen row, over {rows} rows drawn from the pool.");
    let sorted = nearest.iter().map(|distances| {
        let mut sorted = distances.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        quantile(&sorted, 0.95)
    });
    let means = nearest.iter().map(|distances| mean(distances.iter().copied()));
    [
        measure("mean distance to the nearest pick", &note, "lower", means),
        measure("95% quantile of that distance", &note, "lower", sorted),
    ]
}

fn coverage(regions: &Labels, sets: &[Vec<usize>]) -> Measure {
    let all = regions.by_size().len().max(1) as f64;
    let covered = |set: &Vec<usize>| set.iter().map(|&at| regions.of[at]).collect::<BTreeSet<u32>>().len() as f64;
    let note = format!("Share of the regions with a chosen row; {}, of which the method knew nothing.", regions.note);
    measure("regions covered", &note, "higher", sets.iter().map(|set| covered(set) / all))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// The first value is the choice's, the others are the draws'.
fn measure(name: &str, note: &str, better: &'static str, mut values: impl Iterator<Item = f64>) -> Measure {
    let chosen = values.next().unwrap_or(0.0);
    let random: Vec<f64> = values.collect();
    let random_mean = mean(random.iter().copied());
    let squares: f64 = random.iter().map(|value| (value - random_mean).powi(2)).sum();
    let random_deviation = (squares / (random.len().max(2) - 1) as f64).sqrt();
    let (name, note) = (name.to_owned(), note.to_owned());
    Measure { name, note, better, chosen, random_mean, random_deviation, draws: random.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_by_hand() {
        let found = measure("x", "", "lower", [7.0, 1.0, 2.0, 3.0].into_iter());
        assert_eq!((found.chosen, found.random_mean, found.random_deviation, found.draws), (7.0, 2.0, 1.0, 3));
    }

    #[test]
    fn the_nearest_member_counts() {
        let (rows, vectors) = ([0.0, 5.0f32], [1.0, 3.0, 4.0f32]);
        let view = |data| MatRef::new(data, 1).unwrap();
        let mut least = vec![f32::INFINITY; 2];
        lower(view(&rows), view(&vectors), &[0, 2], &mut least, &Ctx::new(0)).unwrap();
        assert_eq!(least, [1.0, 1.0]);
        lower(view(&rows), view(&vectors), &[], &mut least, &Ctx::new(0)).unwrap();
        assert_eq!(least, [1.0, 1.0]);
    }

    #[test]
    fn coverage_counts_regions_once() {
        let labels =
            Labels { by: String::new(), note: String::new(), names: vec![String::new(); 3], of: vec![0, 0, 1, 2] };
        let found = coverage(&labels, &[vec![0, 1], vec![2, 3]]);
        assert_eq!((found.chosen, found.random_mean), (1.0 / 3.0, 2.0 / 3.0));
    }
}
