//! Draws rows from clusters in rounds, and gives more weight to clusters where the model has more to gain.
//!
//! Round t shares its rows out over the clusters in proportion to `w^t` (`allocate`; `w^1 = 1 / K`, rows drawn before are not
//! drawn again) and draws inside each by quality (`draw`). After training, a row's score `S(x)` comes from feedback:
//! `perplexity` `-ln(PPL(generated) / PPL(gold))`, `loss-drop`, `loss` or `reward`. `s_j` = mean of `S` over the drawn rows of
//! cluster j, all rounds, latest score each, drawn towards the mean of all rows by `shrinkage` m: `(n s + m s_all) / (n + m)`.
//! `softmax` `w' = softmax(s)`, `hedge` `w' ~ softmax(s) w`, `ratio` `w' ~ max(s, 0) w` (kept if no s is above 0).
//! Source: iterative refinement of "Diversify and Conquer" (2024), section 2.2 and Algorithm 1; softmax is its code's form,
//! ratio the paper's, hedge and shrinkage own work. Deviations: quotas are met exactly instead of by multinomial counts;
//! a cluster without scored rows gets the mean of the others' scores; scores may come in several feedbacks of a round; `loss`
//! (more weight where the loss is still large) asks nothing of a learner beyond its loss.
//! The rows of round t of N are `share_of_round(budget, N, t)`. Replay: a column `signal.draw` of candidates replaces the
//! uniform numbers drawn. May not be proposed ahead: the weights wait for the round's feedback.
//! Cost: a round as `kmeans-quality`, k-means only in the first; 4 k d + 24 bytes for every row drawn.

mod memory;
mod round;
mod weights;

use super::batch::{Batch, Seen};
use super::running::Method;
use super::stored::Stored;
use crate::cluster::{Spec, assign_to, cluster};
use crate::draw::{gumbel_key, ln_softmax};
use crate::grouping::Grouping;
use crate::kmeans_quality::ClusterSource;
use curate_core::{Algorithm, Column, Ctx, Error, Info, Location, Needs, Result, Selection, State};
use memory::Memory;
use round::{Round, uniforms};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How scores become weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Softmax of the scores times the last weights.
    #[default]
    Hedge,
    /// Softmax of the scores, whatever the last weights, as the published code does.
    Softmax,
    /// Positive scores times the last weights, as the paper says; a cluster without a positive score is given up for good.
    Ratio,
}

/// What is fed back for a row; more of it gives the row's cluster more weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Feed {
    /// The row's loss (`signal.loss`): what is not learnt yet gets more weight.
    #[default]
    Loss,
    /// `signal.loss` less `signal.loss_generated`, the model's loss on its own greedy answer: the paper's perplexity form.
    Perplexity,
    /// `signal.loss_before` less `signal.loss`, in rounds: what the model learns well gets more weight.
    LossDrop,
    /// `signal.reward`, a column of the input: for example the reward of the given answer less that of a model's.
    Reward,
}

/// How rows are drawn inside a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Within {
    /// At random with weight exp(quality / temperature); plainly at random where there is no quality score.
    #[default]
    Softmax,
    /// At random, whatever the quality.
    Random,
}

/// Parameters of iterative refinement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KMeansRefine {
    /// Number of clusters. Left out: 1024 from 100 000 rows on, else a two-hundredth of the rows; never more than rows.
    #[schemars(range(min = 1))]
    pub k: Option<usize>,
    /// Where the clusters come from.
    pub clusters: ClusterSource,
    /// How scores become weights.
    pub mode: Mode,
    /// What is fed back for a row; more of it gives the row's cluster more weight.
    pub feedback: Feed,
    /// Rows of average score that every cluster is thought to have besides its own: tames clusters with few scored rows.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub shrinkage: f64,
    /// How rows are drawn inside a cluster.
    pub draw: Within,
    /// Temperature of the softmax draw: the smaller, the closer to best-first.
    #[schemars(range(min = 0.001, max = 1_000_000.0))]
    pub temperature: f64,
    /// Scale the embeddings to unit length before clustering. The built-in embedders do that already.
    pub normalize: bool,
    /// Most iterations of k-means.
    #[schemars(range(min = 1, max = 10_000))]
    pub iterations: u32,
    /// Starts of k-means, the best wins. Left out: 20 for small data down to 1 for large.
    #[schemars(range(min = 1, max = 1000))]
    pub restarts: Option<u32>,
}

impl Default for KMeansRefine {
    fn default() -> Self {
        Self {
            k: None,
            clusters: ClusterSource::default(),
            mode: Mode::default(),
            feedback: Feed::default(),
            shrinkage: 4.0,
            draw: Within::default(),
            temperature: 1.0,
            normalize: false,
            iterations: 25,
            restarts: None,
        }
    }
}

impl Algorithm for KMeansRefine {
    const INFO: Info = Info {
        name: "kmeans-refine",
        summary: "Draws from clusters in rounds and gives more weight where the model has more to gain.",
        source: "Diversify and Conquer (2024), section 2.2 (iterative refinement)",
        cost: "a round as kmeans-quality, k-means only in the first; 4 k d + 24 bytes a drawn row",
    };
}

/// Rows of round `round` (from 1) of `rounds`: `floor(b t / N) - floor(b (t - 1) / N)`, so that they add up to the budget.
#[must_use]
pub fn share_of_round(budget: usize, rounds: usize, round: usize) -> usize {
    let until = |t: usize| (budget as u128 * t.min(rounds) as u128) / rounds.max(1) as u128;
    usize::try_from(until(round) - until(round.saturating_sub(1))).unwrap_or(usize::MAX)
}

fn loss() -> Column {
    Column::signal("loss")
}

impl Feed {
    /// The column that counts for, and the one that counts against.
    fn columns(self) -> (Column, Option<Column>) {
        match self {
            Self::Loss => (loss(), None),
            Self::Perplexity => (loss(), Some(Column::signal("loss_generated"))),
            Self::LossDrop => (Column::signal("loss_before"), Some(loss())),
            Self::Reward => (Column::signal("reward"), None),
        }
    }
}

impl Method for KMeansRefine {
    type Memory = Memory;

    fn needs(&self) -> Needs {
        let before = match self.clusters {
            ClusterSource::KMeans => Column::EMBEDDING,
            ClusterSource::Column => Column::CLUSTER,
        };
        let (plus, minus) = self.feedback.columns();
        Needs { before: vec![before], after: [plus].into_iter().chain(minus).collect() }
    }

    fn choose(&self, memory: &mut Memory, batch: &Batch<'_>, k: usize, ctx: &Ctx) -> Result<Selection> {
        let quality = self.quality(batch)?;
        let fitted = if self.clusters == ClusterSource::KMeans { Some(self.labels(memory, batch, ctx)?) } else { None };
        let (labels, centroids) = match fitted {
            Some(found) => found,
            None => (batch.pool().counts(&Column::CLUSTER)?, None),
        };
        let grouping = Grouping::of_column(&labels)?;
        let weights = memory.weights_with(&grouping.names);
        let round = Round { batch, grouping: &grouping, weights: &weights, number: memory.rounds + 1 };
        let preference = self.preference(memory, &round, quality.as_deref(), ctx)?;
        let chosen = round.select(&preference, quality.as_deref(), k)?;
        if let Some((centroids, dim)) = centroids {
            (memory.centroids, memory.dim) = (centroids, dim);
        }
        memory.begin(&weights, chosen.picks.iter().filter_map(|p| Some((p.row, p.group?))));
        Ok(chosen)
    }

    fn learn(&self, memory: &mut Memory, seen: &Seen<'_>) -> Result<()> {
        let latest = self.scores(seen)?;
        if let Some(&row) = latest.keys().find(|row| !memory.drawn.contains_key(row)) {
            return Err(Error::data("feedback/unknown-row", format!("row {row} was not drawn in any round"))
                .at(Location::default().row(row))
                .hint("send the feedback of proposed rows only"));
        }
        let Some(scores) = weights::scores(&memory.scored(&latest), self.shrinkage) else { return Ok(()) };
        let used: Vec<f64> = memory.clusters.values().map(|w| w.used).collect();
        let next = weights::reweigh(self.mode, &scores, &used)?;
        memory.clusters.values_mut().zip(next).for_each(|(weight, next)| weight.next = next);
        for (row, score) in latest {
            memory.drawn.entry(row).and_modify(|drawn| drawn.score = score);
        }
        Ok(())
    }

    fn save(&self, memory: &Memory, state: &mut State) {
        memory.save(state);
    }

    fn load(&self, stored: &Stored<'_>) -> Result<Memory> {
        Memory::load(stored)
    }
}

/// Labels, and where they were fitted just now the centroids with their length.
type Fitted = (Vec<u32>, Option<(Vec<f32>, usize)>);

impl KMeansRefine {
    fn quality(&self, batch: &Batch<'_>) -> Result<Option<Vec<f64>>> {
        if self.draw == Within::Random { Ok(None) } else { batch.signal_if(&Column::QUALITY) }
    }

    /// Clusters of the candidates: fitted in the first round, the nearest centroid afterwards.
    fn labels(&self, memory: &Memory, batch: &Batch<'_>, ctx: &Ctx) -> Result<Fitted> {
        let (pool, ids) = (batch.pool(), batch.ids());
        let dim = pool.dim(&Column::EMBEDDING)?;
        if memory.dim == 0 {
            let k = self.k.unwrap_or_else(|| crate::auto_k(ids.len())).clamp(1, ids.len());
            let fit_rows = k.saturating_mul(256).clamp(k, ids.len());
            let restarts = self.restarts.unwrap_or(0);
            let spec = Spec { k, iterations: self.iterations, restarts, fit_rows, unit: self.normalize };
            let found = cluster(pool, ids, &spec, ctx)?;
            return Ok((found.labels, Some((found.fit.centroids, dim))));
        }
        if dim != memory.dim {
            let message = format!("embeddings of {dim} numbers do not fit centroids of {}", memory.dim);
            return Err(Error::data("embedding/shape", message).hint("use the embedder of the first round"));
        }
        Ok((assign_to(&memory.centroids, pool, ids, self.normalize, ctx)?, None))
    }

    /// One key a candidate, the largest of a cluster are drawn first; minus infinity for what was drawn before.
    fn preference(&self, memory: &Memory, round: &Round<'_>, quality: Option<&[f64]>, ctx: &Ctx) -> Result<Vec<f64>> {
        let (ids, of) = (round.batch.ids(), &round.grouping.of);
        let uniform = uniforms(round.batch, ctx)?;
        let mut open: Vec<usize> = (0..ids.len()).filter(|&p| !memory.drawn.contains_key(&ids[p])).collect();
        open.sort_unstable_by_key(|&p| (of[p], ids[p]));
        let mut preference = vec![f64::NEG_INFINITY; ids.len()];
        for members in open.chunk_by(|&a, &b| of[a] == of[b]) {
            let quality: Vec<f64> = members.iter().map(|&p| quality.map_or(0.0, |q| q[p])).collect();
            for (&p, ln_p) in members.iter().zip(ln_softmax(&quality, self.temperature)) {
                preference[p] = gumbel_key(ln_p, uniform[p]).max(f64::MIN);
            }
        }
        Ok(preference)
    }

    /// The score of every row fed back; of a row that comes twice the last.
    fn scores(&self, seen: &Seen<'_>) -> Result<BTreeMap<u64, f64>> {
        let (plus, minus) = self.feedback.columns();
        let mut scores = seen.signal(&plus)?;
        if let Some(minus) = minus {
            scores.iter_mut().zip(seen.signal(&minus)?).for_each(|(score, minus)| *score -= minus);
        }
        Ok(seen.rows().iter().copied().zip(scores).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::running::Running;
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, RecordBatch, UInt32Array};
    use curate_core::{Feedback, OnlineSelector, Pool};
    use std::sync::Arc;

    /// Four rows in each of two clusters; the loss of cluster 9 is larger by ln 3, so that it gets 3 of the next 4 places.
    #[test]
    fn weight_follows_the_loss() {
        let clusters = Arc::new(UInt32Array::from(vec![7, 7, 7, 7, 9, 9, 9, 9])) as ArrayRef;
        let pool = Pool::from_batch(RecordBatch::try_from_iter([("cluster", clusters)]).unwrap());
        let method = KMeansRefine { clusters: ClusterSource::Column, shrinkage: 0.0, ..KMeansRefine::default() };
        let mut run = Running::new(method);
        let first = run.propose(&pool, 2, &Ctx::new(1)).unwrap();
        assert_eq!(first.groups.iter().map(|g| g.picked_rows).collect::<Vec<_>>(), [1, 1]);
        let loss = first.picks.iter().map(|p| if p.group == Some(9) { 3f32.ln() } else { 0.0 });
        let loss = Arc::new(Float32Array::from(loss.collect::<Vec<f32>>())) as ArrayRef;
        let signals = RecordBatch::try_from_iter([("signal.loss", loss)]).unwrap();
        run.observe(&Feedback { step: 1, rows: first.rows(), signals }, &Ctx::new(1)).unwrap();
        let second = run.propose(&pool, 4, &Ctx::new(1)).unwrap();
        assert_eq!(second.groups.iter().map(|g| g.picked_rows).collect::<Vec<_>>(), [1, 3]);
        assert!(first.rows().iter().all(|row| !second.rows().contains(row)), "no row twice");
        assert_eq!(run.propose(&pool, 9, &Ctx::new(1)).unwrap().picks.len(), 2, "what is left");
        assert_eq!(run.propose(&pool, 1, &Ctx::new(1)).unwrap_err().code(), "candidates/drawn");
    }

    #[test]
    fn rounds_add_up_to_the_budget() {
        let shares: Vec<usize> = (1..=3).map(|t| share_of_round(10, 3, t)).collect();
        assert_eq!(shares, [3, 3, 4]);
    }
}
