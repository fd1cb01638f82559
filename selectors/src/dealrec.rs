//! Takes influential rows that a model has to work for, spread over all levels of that score.
//!
//! `s_i = minmax(influence_i) + lambda minmax(effort_i)`; the `floor(prune n)` rows of the highest s are passed over;
//! the range of s over the others is cut into `strata` parts of equal width (a row belongs to the first part whose upper
//! edge reaches it); of the places left, the smallest stratum gets its share `floor(places / strata left)`, at most its
//! size, then the next one; rows of a stratum are drawn uniformly. Source: Lin et al. 2024 (`DEALRec`); the
//! formulas follow the published code. Deviations: the minmax of a constant is 0 and the last edge is the largest score
//! itself (the code fails on the one and may lose the top row by the other); where the budget asks for more than the rows
//! left by pruning, the pruned ones fill up, lowest score first, as a stratum of their own. Ties go to the lower row id.
//! Cost: n log n time, 80 n bytes.

use crate::limit::Limit;
use crate::strata::{Placed, Strata};
use curate_core::{Algorithm, Budget, Column, Ctx, Info, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Parameters of `DEALRec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DealRec {
    /// Weight of the effort against the influence.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub lambda: f64,
    /// Parts of equal width that the range of scores is cut into.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub strata: u32,
    /// Share of the rows of the highest scores that is passed over.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub prune: f64,
}

impl Default for DealRec {
    fn default() -> Self {
        Self { lambda: 0.5, strata: 50, prune: 0.1 }
    }
}

impl Algorithm for DealRec {
    const INFO: Info = Info {
        name: "dealrec",
        summary: "Takes influential rows that a model has to work for, spread over all levels of that score.",
        source: "DEALRec (Lin et al. 2024); the published code",
        cost: "n log n time, 80 n bytes; the scores are a gradient and a surrogate model",
    };
}

impl Selector for DealRec {
    fn needs(&self) -> Vec<Column> {
        vec![Column::score("influence"), Column::score("effort")]
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let ids = pool.ids()?;
        let (influence, effort) = (pool.numbers(&self.needs()[0])?, pool.numbers(&self.needs()[1])?);
        ctx.tick(ids.len() as u64)?;
        let scores = self.scores(&influence, &effort);
        let cut = Cut::new(&ids, &scores, self);
        let names: Vec<u32> = (0..=self.strata).collect();
        let stream = ctx.stream(Self::INFO.name);
        // The pruned by falling score, the others as drawn.
        let preference = |p: usize| if cut.of[p] == self.strata { -scores[p] } else { stream(ids[p]).uniform() };
        let preferences: Vec<f64> = (0..ids.len()).map(preference).collect();
        let strata = Strata::new(&ids, &cut.of, &names, &preferences);
        let quotas = strata.quotas(&limit, |rows| smallest_first(&strata.sizes(), rows as u64))?;
        Ok(selection(&strata, &quotas, &scores, &cut))
    }
}

impl DealRec {
    /// Influence and effort, each scaled to 0..1, in one number.
    #[must_use]
    pub fn scores(&self, influence: &[f32], effort: &[f32]) -> Vec<f64> {
        let (influence, effort) = (unit_range(influence), unit_range(effort));
        influence.iter().zip(&effort).map(|(i, e)| self.lambda.mul_add(*e, *i)).collect()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 <= prune <= 1"
    )]
    fn pruned(&self, n: usize) -> usize {
        ((self.prune * n as f64).floor() as usize).min(n)
    }
}

/// `(x - min) / (max - min)`, 0 for a constant.
fn unit_range(values: &[f32]) -> Vec<f64> {
    let (low, high) = bounds(values.iter().map(|&v| f64::from(v)));
    let scale = |&v: &f32| if high > low { (f64::from(v) - low) / (high - low) } else { 0.0 };
    values.iter().map(scale).collect()
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

/// Which stratum every row belongs to; the pruned ones to the one after the last.
struct Cut {
    of: Vec<u32>,
    /// Upper edges, rising.
    edges: Vec<f64>,
    pruned: usize,
}

impl Cut {
    fn new(ids: &[u64], scores: &[f64], params: &DealRec) -> Self {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(ids[a].cmp(&ids[b])).then(a.cmp(&b)));
        let pruned = params.pruned(ids.len());
        let edges = edges(bounds(order[pruned..].iter().map(|&p| scores[p])), params.strata);
        let mut of = vec![params.strata; ids.len()];
        for &p in &order[pruned..] {
            let stratum = edges.partition_point(|&edge| edge < scores[p]);
            of[p] = u32::try_from(stratum).unwrap_or(u32::MAX).min(params.strata - 1);
        }
        Self { of, edges, pruned }
    }
}

fn edges((low, high): (f64, f64), strata: u32) -> Vec<f64> {
    let width = (high - low) / f64::from(strata);
    (1..=strata).map(|i| if i == strata { high } else { f64::from(i).mul_add(width, low) }).collect()
}

/// Places of each stratum for so many rows in all; the last group gets only what the others cannot hold.
fn smallest_first(sizes: &[u64], rows: u64) -> Vec<u64> {
    let (mut quotas, mut left) = (vec![0; sizes.len()], rows);
    let Some((pruned, strata)) = sizes.split_last() else { return quotas };
    let mut open: Vec<usize> = (0..strata.len()).filter(|&j| strata[j] > 0).collect();
    open.sort_by_key(|&j| (strata[j], j));
    for (done, &j) in open.iter().enumerate() {
        quotas[j] = strata[j].min(left / (open.len() - done) as u64);
        left -= quotas[j];
    }
    quotas[strata.len()] = left.min(*pruned);
    quotas
}

fn selection(strata: &Strata<'_>, quotas: &[u64], scores: &[f64], cut: &Cut) -> Selection {
    #[expect(clippy::cast_possible_truncation, reason = "for display; the choice is made in double precision")]
    let told: Vec<f32> = scores.iter().map(|&s| s as f32).collect();
    let sizes = strata.sizes();
    let reason = |p: &Placed| {
        let (score, quota, size) = (scores[p.position], quotas[p.group], sizes[p.group]);
        match cut.edges.get(p.group) {
            Some(edge) => format!("score {score:.4}: one of {quota} drawn of {size} rows of scores up to {edge:.4}"),
            None => format!("score {score:.4}: among the highest, taken because the budget reaches that far"),
        }
    };
    let mut chosen = Selection {
        picks: strata.picks(&strata.interleave(quotas), &told, reason),
        groups: strata.groups(quotas),
        assessment: Some(strata.assessment(&told)),
        ..Selection::default()
    };
    chosen.report.insert("pruned_rows".into(), json!(cut.pruned));
    chosen.report.insert("strata".into(), json!(sizes.iter().filter(|&&size| size > 0).count()));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_stratum_comes_first() {
        assert_eq!(smallest_first(&[5, 0, 1, 4, 9], 7), [3, 0, 1, 3, 0]);
        assert_eq!(smallest_first(&[5, 0, 1, 4, 9], 12), [5, 0, 1, 4, 2], "the pruned fill up");
        assert_eq!(smallest_first(&[2, 2, 0], 1), [0, 1, 0]);
    }

    #[test]
    fn five_rows_in_two_strata() {
        let params = DealRec { lambda: 1.0, strata: 2, prune: 0.2 };
        let scores = params.scores(&[0.0, 1.0, 2.0, 3.0, 4.0], &[7.0; 5]);
        assert_eq!(scores, [0.0, 0.25, 0.5, 0.75, 1.0], "constant effort counts nothing");
        let cut = Cut::new(&[0, 1, 2, 3, 4], &scores, &params);
        assert_eq!((cut.edges, cut.of), (vec![0.375, 0.75], vec![0, 0, 1, 1, 2]));
    }
}
