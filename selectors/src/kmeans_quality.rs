//! Spreads the budget over k-means clusters and draws by quality inside each: variety first, then quality.
//!
//! `c(i) = argmin_j |x_i - mu_j|^2`; places `b_j` in proportion to the rows of the cluster (`budgets`), met exactly; inside
//! a cluster rows are drawn without replacement with `p_i = exp(q_i / T) / sum exp(q / T)` (`draw`).
//! Source: kMQ of "Diversify and Conquer: Diversity-Centric Data Selection with Iterative Refinement" (2024), section 2.1.
//! Deviations: drawn without replacement; places that the published code loses (`budget div K` each, capped by the
//! cluster) are given out again; the softmax cannot overflow; rows of probability 0 under `linear` are taken only when
//! their cluster has places left and no other cluster has better rows; on large pools the clusters are fitted on a sample.
//! Order of the list: see `strata`; the row at place i of its cluster's b comes at (2i - 1) / 2b, so that every beginning
//! of the list is spread over the clusters like the whole.
//! Cost: iterations s k d + n k d + n log n time for s fit rows; 4 s d + 60 n bytes.

use crate::allocate::{allocate, reference_floor};
use crate::cluster::{Spec, cluster};
use crate::draw::{gumbel_key, ln_linear, ln_softmax};
use crate::grouping::{Grouping, warn};
use crate::limit::Limit;
use crate::strata::{Placed, Strata};
use curate_core::{Algorithm, Budget, Column, Ctx, Error, Info, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where the clusters come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterSource {
    /// k-means over the column `embedding`.
    #[default]
    KMeans,
    /// The column `cluster` of the pool, as an earlier stage or another tool left it.
    Column,
}

/// How the budget is shared out over the clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Budgets {
    /// In proportion to the rows of the cluster, as the paper says.
    #[default]
    Proportional,
    /// The same for every cluster as far as it has rows; what it cannot hold goes to the others.
    Uniform,
    /// Budget div K for every cluster as far as it has rows, as the published code does; what is left is then shared out evenly.
    ReferenceFloor,
}

/// How rows are drawn inside a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Draw {
    /// At random with weight exp(quality / temperature); plainly at random where there is no quality score.
    #[default]
    Softmax,
    /// At random with weight max(quality, 0).
    Linear,
    /// Best quality first, nothing random.
    Greedy,
    /// Nearest to the centre of the cluster first, nothing random.
    Closest,
    /// At random, whatever the quality.
    Random,
}

/// Parameters of kMQ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KMeansQuality {
    /// Number of clusters. Left out: 1024 from 100 000 rows on, else a two-hundredth of the rows; never more than rows.
    #[schemars(range(min = 1))]
    pub k: Option<usize>,
    /// Where the clusters come from.
    pub clusters: ClusterSource,
    /// How the budget is shared out over the clusters.
    pub budgets: Budgets,
    /// How rows are drawn inside a cluster.
    pub draw: Draw,
    /// Temperature of the softmax draw: the smaller, the closer to best-first. Use more than 1 for scores of wide range.
    #[schemars(range(min = 0.001, max = 1_000_000.0))]
    pub temperature: f64,
    /// Cut quality scores to whole numbers first, as the published code does. Only to reproduce it.
    pub int_truncate: bool,
    /// Scale the embeddings to unit length before clustering. The built-in embedders do that already.
    pub normalize: bool,
    /// Most iterations of k-means.
    #[schemars(range(min = 1, max = 10_000))]
    pub iterations: u32,
    /// Starts of k-means, the best wins. Left out: 20 for small data down to 1 for large.
    #[schemars(range(min = 1, max = 1000))]
    pub restarts: Option<u32>,
    /// Rows that k-means is fitted on; the rest is only assigned. Left out: 256 for each cluster.
    #[schemars(range(min = 1))]
    pub fit_rows: Option<usize>,
}

impl Default for KMeansQuality {
    fn default() -> Self {
        Self {
            k: None,
            clusters: ClusterSource::default(),
            budgets: Budgets::default(),
            draw: Draw::default(),
            temperature: 1.0,
            int_truncate: false,
            normalize: false,
            iterations: 25,
            restarts: None,
            fit_rows: None,
        }
    }
}

impl Algorithm for KMeansQuality {
    const INFO: Info = Info {
        name: "kmeans-quality",
        summary: "Spreads the budget over k-means clusters and draws by quality inside each; a good first choice.",
        source: "Diversify and Conquer (2024), section 2.1 (kMQ, round 0)",
        cost: "iterations s k d + n k d time for s fit rows; 4 s d + 60 n bytes",
    };

    fn check(&self) -> Result<()> {
        if self.clusters == ClusterSource::Column && self.draw == Draw::Closest {
            return Err(Error::usage("params/conflict", "draw = closest needs clusters = k-means")
                .hint("a column of clusters has no centres; draw greedy, softmax, linear or random instead"));
        }
        Ok(())
    }
}

impl Selector for KMeansQuality {
    fn needs(&self) -> Vec<Column> {
        let groups = match self.clusters {
            ClusterSource::KMeans => Column::EMBEDDING,
            ClusterSource::Column => Column::CLUSTER,
        };
        let quality = matches!(self.draw, Draw::Greedy | Draw::Linear).then_some(Column::QUALITY);
        [groups].into_iter().chain(quality).collect()
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let ids = pool.ids()?;
        ctx.tick(0)?;
        if ids.is_empty() {
            return Ok(Selection::default());
        }
        let quality = self.quality(pool)?;
        let grouping = self.grouping(pool, &ids, ctx)?;
        let preference = self.preference(&ids, &grouping, quality.as_deref(), ctx);
        let strata = Strata::new(&ids, &grouping.of, &grouping.names, &preference);
        let (sizes, drawable) = (strata.sizes(), drawable(&strata, &preference));
        let quotas = strata.quotas(&limit, |m| self.share_out(&sizes, &drawable, m as u64))?;
        let score = self.score(&ids, &grouping, quality.as_deref(), ctx);
        let reason = |p: &Placed| {
            let (name, size, quota) = (grouping.names[p.group], sizes[p.group], quotas[p.group]);
            let why = self.why(score[p.position], quality.is_some());
            let (rows, places) = (count(size, "row"), count(quota, "place"));
            format!("cluster {name} ({rows}) was given {places}; this row took place {} of {quota} {why}", p.place)
        };
        let picks = strata.picks(&strata.interleave(&quotas), &score, reason);
        let (groups, assessment) = (strata.groups(&quotas), Some(strata.assessment(&score)));
        let mut selection = Selection { picks, groups, assessment, report: grouping.report };
        report(&mut selection, quality.is_some());
        Ok(selection)
    }
}

impl KMeansQuality {
    fn quality(&self, pool: &Pool) -> Result<Option<Vec<f64>>> {
        let wanted = matches!(self.draw, Draw::Softmax | Draw::Linear | Draw::Greedy);
        if !wanted || !pool.has(&Column::QUALITY) {
            return Ok(None);
        }
        let exact = |q: f32| if self.int_truncate { f64::from(q).trunc() } else { f64::from(q) };
        Ok(Some(pool.numbers(&Column::QUALITY)?.into_iter().map(exact).collect()))
    }

    /// Clusters for `n` rows.
    fn clusters_for(&self, n: usize) -> usize {
        let auto = crate::auto_k(n);
        self.k.unwrap_or(auto).clamp(1, n.max(1))
    }

    fn grouping(&self, pool: &Pool, ids: &[u64], ctx: &Ctx) -> Result<Grouping> {
        if self.clusters == ClusterSource::Column {
            return Grouping::of_column(&pool.counts(&Column::CLUSTER)?);
        }
        let k = self.clusters_for(ids.len());
        let spec = Spec {
            k,
            iterations: self.iterations,
            restarts: self.restarts.unwrap_or(0),
            fit_rows: self.fit_rows.unwrap_or(k.saturating_mul(256)).clamp(k, ids.len()),
            unit: self.normalize,
        };
        let mut grouping = Grouping::of_kmeans(cluster(pool, ids, &spec, ctx)?, &spec);
        if let Some(asked) = self.k.filter(|&asked| asked > k) {
            warn(&mut grouping.report, &format!("k was lowered from {asked} to {k}, the number of rows"));
        }
        Ok(grouping)
    }

    /// One number a position; the largest of a cluster are taken first, minus infinity only if nothing else is left.
    fn preference(&self, ids: &[u64], grouping: &Grouping, quality: Option<&[f64]>, ctx: &Ctx) -> Vec<f64> {
        let quality = |p: usize| quality.map_or(0.0, |q| q[p]);
        match self.draw {
            Draw::Greedy => return (0..ids.len()).map(quality).collect(),
            Draw::Closest => return grouping.sq_dist.iter().map(|&d| -f64::from(d)).collect(),
            Draw::Softmax | Draw::Linear | Draw::Random => {}
        }
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|&p| (grouping.of[p], ids[p], p));
        let (stream, mut preference) = (ctx.stream("draw"), vec![0.0; ids.len()]);
        for members in order.chunk_by(|&a, &b| grouping.of[a] == grouping.of[b]) {
            let scores: Vec<f64> = members.iter().map(|&p| quality(p)).collect();
            let ln_p = match self.draw {
                Draw::Linear => ln_linear(&scores),
                _ => ln_softmax(&scores, self.temperature),
            };
            for (&p, ln_p) in members.iter().zip(ln_p) {
                preference[p] = gumbel_key(ln_p, stream(ids[p]).uniform());
            }
        }
        preference
    }

    /// Places of every cluster for `m` rows: by the rule, then what is left to rows that may be drawn, then to any.
    fn share_out(&self, sizes: &[u64], drawable: &[u64], m: u64) -> Vec<u64> {
        let weights: Vec<f64> = match self.budgets {
            Budgets::Proportional => sizes.iter().map(|&s| f64::from(u32::try_from(s).unwrap_or(u32::MAX))).collect(),
            Budgets::Uniform | Budgets::ReferenceFloor => vec![1.0; sizes.len()],
        };
        let mut given = match self.budgets {
            Budgets::ReferenceFloor => reference_floor(drawable, m),
            Budgets::Proportional | Budgets::Uniform => allocate(&weights, drawable, m),
        };
        for caps in [drawable, sizes] {
            let open: Vec<u64> = caps.iter().zip(&given.rows).map(|(cap, rows)| cap - rows).collect();
            let more = allocate(&weights, &open, given.shortfall);
            given.rows.iter_mut().zip(more.rows).for_each(|(rows, more)| *rows += more);
            given.shortfall = more.shortfall;
        }
        given.rows
    }

    /// What users see as the score: quality, nearness to the centre as a negative distance, or the lot drawn.
    #[expect(clippy::cast_possible_truncation, reason = "for display; the choice is made in double precision")]
    fn score(&self, ids: &[u64], grouping: &Grouping, quality: Option<&[f64]>, ctx: &Ctx) -> Vec<f32> {
        match (self.draw, quality) {
            (Draw::Closest, _) => grouping.sq_dist.iter().map(|d| -d.sqrt()).collect(),
            (_, Some(quality)) => quality.iter().map(|&q| q as f32).collect(),
            (_, None) => {
                let stream = ctx.stream("draw");
                ids.iter().map(|&id| stream(id).uniform() as f32).collect()
            }
        }
    }

    fn why(&self, score: f32, scored: bool) -> String {
        match self.draw {
            Draw::Closest => format!("at distance {} from the centre", -score),
            _ if scored => format!("with quality {score}"),
            _ => "by lot".to_owned(),
        }
    }
}

/// Rows of each cluster that the draw may take.
fn drawable(strata: &Strata<'_>, preference: &[f64]) -> Vec<u64> {
    let open = |j: usize| strata.members(j).partition_point(|&p| preference[p] > f64::NEG_INFINITY) as u64;
    (0..strata.names.len()).map(open).collect()
}

/// Figures that only the finished selection has.
fn report(selection: &mut Selection, scored: bool) {
    let mut sizes: Vec<u64> = selection.groups.iter().map(|g| g.size_rows).collect();
    sizes.sort_unstable();
    let at = |place: usize| sizes.get(place).copied().unwrap_or(0);
    let (smallest, median, largest) = (at(0), at(sizes.len() / 2), sizes.last().copied().unwrap_or(0));
    let chosen = selection.groups.iter().filter(|g| g.picked_rows > 0).count();
    let (filled, picks) = (selection.groups.len(), selection.picks.len());
    let report = &mut selection.report;
    report.insert("clusters_chosen_from".into(), json!(chosen));
    report.insert("smallest_cluster_rows".into(), json!(smallest));
    report.insert("median_cluster_rows".into(), json!(median));
    report.insert("largest_cluster_rows".into(), json!(largest));
    report.insert("quality".into(), if scored { json!(Column::QUALITY.as_str()) } else { Value::Null });
    if filled > picks {
        warn(report, &format!("there are more clusters ({filled}) than places ({picks}): some get none; lower k"));
    }
}

/// `1 row`, `2 rows`.
fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, RecordBatch, UInt32Array};
    use std::sync::Arc;

    fn pool() -> Pool {
        let cluster = Arc::new(UInt32Array::from(vec![7, 7, 7, 7, 9, 9])) as ArrayRef;
        let quality = Arc::new(Float32Array::from(vec![0.25, 4.5, 0.0, 2.0, -1.0, -2.0])) as ArrayRef;
        Pool::from_batch(RecordBatch::try_from_iter([("cluster", cluster), ("score.quality", quality)]).unwrap())
    }

    fn select(draw: Draw, budgets: Budgets, rows: usize) -> Selection {
        let method = KMeansQuality { clusters: ClusterSource::Column, draw, budgets, ..KMeansQuality::default() };
        method.select(&pool(), Budget::Rows(rows), &Ctx::new(3)).unwrap()
    }

    #[test]
    fn greedy_takes_the_best_of_each_cluster() {
        let selection = select(Draw::Greedy, Budgets::Proportional, 3);
        assert_eq!(selection.rows(), [1, 4, 3], "at 1/4, 1/2 and 3/4");
        assert_eq!(
            selection.picks[0].reason,
            "cluster 7 (4 rows) was given 2 places; this row took place 1 of 2 with quality 4.5"
        );
        assert_eq!(select(Draw::Greedy, Budgets::ReferenceFloor, 5).rows().len(), 5, "2 + 2 and the rest shared out");
    }

    #[test]
    fn weightless_rows_come_last() {
        let rows = |n| select(Draw::Linear, Budgets::Uniform, n).rows();
        assert!(!rows(5).contains(&2), "row 2 has quality 0 among positive ones");
        assert_eq!(rows(6).len(), 6);
    }
}
