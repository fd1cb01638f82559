//! Draws at random so that the chosen rows are as long as the pool's: the honest baseline where length alone could explain
//! a gain.
//!
//! Rows fall into strata by the quantiles of their length (`chars`); every stratum gets places in proportion to its rows
//! (largest remainder); within a stratum the draw is uniform without replacement. Source: own work; stratified sampling
//! with proportional allocation. Equal lengths never part, so there may be fewer strata than asked for.
//! Cost: n log n time, 40 n bytes.

use crate::allocate::allocate;
use crate::limit::Limit;
use crate::strata::{Placed, Strata};
use curate_core::{Algorithm, Budget, Column, Ctx, Info, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Random draw with the length distribution of the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LengthMatchedRandom {
    /// Number of length strata, cut at the quantiles of the length in characters. More strata match the lengths more closely.
    #[schemars(range(min = 1, max = 1000))]
    pub bins: u32,
}

impl Default for LengthMatchedRandom {
    fn default() -> Self {
        Self { bins: 10 }
    }
}

impl Algorithm for LengthMatchedRandom {
    const INFO: Info = Info {
        name: "length-matched-random",
        summary: "Draws at random with the length distribution of the pool; the baseline where length could explain a gain.",
        source: "own work; stratified sampling with proportional allocation",
        cost: "n log n time, 40 n bytes",
    };
}

impl Selector for LengthMatchedRandom {
    fn needs(&self) -> Vec<Column> {
        vec![Column::CHARS]
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let (ids, chars) = (pool.ids()?, pool.counts(&Column::CHARS)?);
        ctx.tick(ids.len() as u64)?;
        let edges = edges(&chars, self.bins as usize);
        let bins: Vec<u32> = chars.iter().map(|&c| bin(&edges, c)).collect();
        let names: Vec<u32> = (0..).take(edges.len() + 1).collect();
        let stream = ctx.stream("length-matched-random");
        let keys: Vec<f64> = ids.iter().map(|&id| stream(id).uniform()).collect();
        let strata = Strata::new(&ids, &bins, &names, &keys);
        let sizes = strata.sizes();
        let weights: Vec<f64> = sizes.iter().map(|&size| f64::from(u32::try_from(size).unwrap_or(u32::MAX))).collect();
        let quotas = strata.quotas(&limit, |m| allocate(&weights, &sizes, m as u64).rows)?;
        let score = score(&keys);
        let reason = |p: &Placed| {
            let (size, quota) = (sizes[p.group], quotas[p.group]);
            let range = range(&edges, p.group);
            format!("drawn at random, place {} of {quota} for the {size} rows of {range} characters", p.place)
        };
        let picks = strata.picks(&strata.interleave(&quotas), &score, reason);
        let mut selection = Selection {
            picks,
            groups: strata.groups(&quotas),
            assessment: Some(strata.assessment(&score)),
            ..Selection::default()
        };
        selection.report.insert("strata".into(), json!(names.len()));
        selection.report.insert("edges_chars".into(), json!(edges));
        Ok(selection)
    }
}

/// Lengths at which a new stratum begins, ascending: the quantiles 1/bins, 2/bins ... without repetitions.
fn edges(chars: &[u32], bins: usize) -> Vec<u32> {
    let mut sorted = chars.to_vec();
    sorted.sort_unstable();
    let mut edges: Vec<u32> = (1..bins).filter_map(|i| sorted.get(i * sorted.len() / bins).copied()).collect();
    edges.dedup();
    edges.retain(|&edge| sorted.first().is_some_and(|&least| edge > least));
    edges
}

fn bin(edges: &[u32], chars: u32) -> u32 {
    u32::try_from(edges.partition_point(|&edge| edge <= chars)).unwrap_or(u32::MAX)
}

/// The lengths of stratum `j` in words.
fn range(edges: &[u32], j: usize) -> String {
    let from = if j == 0 { 0 } else { edges[j - 1] };
    edges.get(j).map_or_else(|| format!("{from} or more"), |to| format!("{from} to {}", to - 1))
}

#[expect(clippy::cast_possible_truncation, reason = "for display; the choice is made in double precision")]
fn score(keys: &[f64]) -> Vec<f32> {
    keys.iter().map(|&key| key as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_of_eight_lengths() {
        let edges = edges(&[80, 10, 20, 30, 40, 50, 60, 70], 4);
        assert_eq!(edges, [30, 50, 70]);
        assert_eq!([10, 29, 30, 80].map(|c| bin(&edges, c)), [0, 0, 1, 3]);
        assert_eq!((range(&edges, 0), range(&edges, 3)), ("0 to 29".to_owned(), "70 or more".to_owned()));
    }

    #[test]
    fn equal_lengths_are_one_stratum() {
        assert_eq!(edges(&[5; 9], 10), [0u32; 0]);
        assert_eq!(edges(&[], 10), [0u32; 0]);
    }
}
