//! What the rounds leave behind: the clusters with their weights, and every row drawn with its score.

use super::weights::Scored;
use crate::online::batch::float;
use crate::online::stored::{Stored, broken, put, same_length, vectors};
use arrow::array::{ArrayRef, Float64Array, UInt32Array, UInt64Array};
use arrow::datatypes::{Float64Type, UInt32Type, UInt64Type};
use curate_core::{Result, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A row drawn in some round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    pub(crate) cluster: u32,
    pub(crate) round: u32,
    /// The latest score; NaN while there is none.
    pub(crate) score: f64,
}

/// A cluster's weight in the last round and in the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight {
    pub(crate) used: f64,
    pub(crate) next: f64,
}

/// All that the rounds leave behind.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) centroids: Vec<f32>,
    pub(crate) dim: usize,
    /// Clusters by name.
    pub(crate) clusters: BTreeMap<u32, Weight>,
    pub(crate) drawn: BTreeMap<u64, Drawn>,
    /// (round, cluster, weight used) of all rounds.
    pub(crate) history: Vec<(u32, u32, f64)>,
    pub(crate) rounds: u32,
}

impl Memory {
    /// Weights of the next round once the clusters `names` are there: a new one gets the mean weight, and all sum to 1.
    pub(crate) fn weights_with(&self, names: &[u32]) -> BTreeMap<u32, f64> {
        let mean = self.clusters.values().map(|w| w.next).sum::<f64>() / float(self.clusters.len());
        let mut all: BTreeMap<u32, f64> = self.clusters.iter().map(|(&name, w)| (name, w.next)).collect();
        let known = all.len();
        for &name in names {
            all.entry(name).or_insert(if known == 0 { 1.0 } else { mean });
        }
        if all.len() > known {
            let sum: f64 = all.values().sum();
            for weight in all.values_mut() {
                *weight /= sum;
            }
        }
        all
    }

    /// Begin a round with these weights and rows.
    pub(crate) fn begin(&mut self, weights: &BTreeMap<u32, f64>, drawn: impl Iterator<Item = (u64, u32)>) {
        self.rounds += 1;
        self.clusters = weights.iter().map(|(&name, &w)| (name, Weight { used: w, next: w })).collect();
        self.history.extend(weights.iter().map(|(&name, &w)| (self.rounds, name, w)));
        let round = self.rounds;
        self.drawn.extend(drawn.map(|(row, cluster)| (row, Drawn { cluster, round, score: f64::NAN })));
    }

    /// Scored rows of each cluster, clusters by name, if `latest` were known as well.
    pub(crate) fn scored(&self, latest: &BTreeMap<u64, f64>) -> Vec<Scored> {
        let mut clusters: BTreeMap<u32, Scored> = self.clusters.keys().map(|&name| (name, Scored::default())).collect();
        for (row, drawn) in &self.drawn {
            let score = latest.get(row).copied().unwrap_or(drawn.score);
            if let Some(cluster) = clusters.get_mut(&drawn.cluster).filter(|_| !score.is_nan()) {
                cluster.rows += 1;
                cluster.sum += score;
            }
        }
        clusters.into_values().collect()
    }

    /// Add the tables to a state.
    pub(crate) fn save(&self, state: &mut State) {
        let (clusters, drawn, history) = (&self.clusters, &self.drawn, &self.history);
        let columns = [
            ("cluster", names(clusters.keys().copied())),
            ("used", numbers(clusters.values().map(|w| w.used))),
            ("next", numbers(clusters.values().map(|w| w.next))),
        ];
        put(state, "clusters", columns);
        let columns = [
            ("row", Arc::new(drawn.keys().copied().map(Some).collect::<UInt64Array>()) as ArrayRef),
            ("cluster", names(drawn.values().map(|d| d.cluster))),
            ("round", names(drawn.values().map(|d| d.round))),
            ("score", numbers(drawn.values().map(|d| d.score))),
        ];
        put(state, "drawn", columns);
        let columns = [
            ("round", names(history.iter().map(|h| h.0))),
            ("cluster", names(history.iter().map(|h| h.1))),
            ("weight", numbers(history.iter().map(|h| h.2))),
        ];
        put(state, "weights", columns);
        if self.dim > 0 {
            put(state, "centroids", [("centroid", vectors(&self.centroids, self.dim))]);
        }
    }

    /// Read them back.
    pub(crate) fn load(stored: &Stored<'_>) -> Result<Self> {
        let (centroids, dim) = stored.vectors("centroids", "centroid")?;
        let rounds = u32::try_from(stored.whole("proposals")?).map_err(|_| broken("too many rounds"))?;
        let memory = Self {
            centroids,
            dim,
            clusters: clusters(stored)?,
            drawn: drawn(stored)?,
            history: history(stored)?,
            rounds,
        };
        let known = |name: &u32| memory.clusters.contains_key(name);
        if memory.drawn.values().all(|d| known(&d.cluster)) {
            Ok(memory)
        } else {
            Err(broken("a row's cluster is unknown"))
        }
    }
}

fn clusters(stored: &Stored<'_>) -> Result<BTreeMap<u32, Weight>> {
    let names = stored.column::<UInt32Type>("clusters", "cluster")?;
    let used = stored.column::<Float64Type>("clusters", "used")?;
    let next = stored.column::<Float64Type>("clusters", "next")?;
    same_length(&[names.len(), used.len(), next.len()])?;
    if !used.iter().chain(&next).all(|w| (0.0..=1.0).contains(w)) {
        return Err(broken("a weight is not between 0 and 1"));
    }
    let weights = used.into_iter().zip(next).map(|(used, next)| Weight { used, next });
    Ok(names.into_iter().zip(weights).collect())
}

fn drawn(stored: &Stored<'_>) -> Result<BTreeMap<u64, Drawn>> {
    let rows = stored.column::<UInt64Type>("drawn", "row")?;
    let clusters = stored.column::<UInt32Type>("drawn", "cluster")?;
    let rounds = stored.column::<UInt32Type>("drawn", "round")?;
    let scores = stored.column::<Float64Type>("drawn", "score")?;
    same_length(&[rows.len(), clusters.len(), rounds.len(), scores.len()])?;
    let of = clusters.into_iter().zip(rounds).zip(scores);
    Ok(rows.into_iter().zip(of.map(|((cluster, round), score)| Drawn { cluster, round, score })).collect())
}

fn history(stored: &Stored<'_>) -> Result<Vec<(u32, u32, f64)>> {
    let rounds = stored.column::<UInt32Type>("weights", "round")?;
    let clusters = stored.column::<UInt32Type>("weights", "cluster")?;
    let weights = stored.column::<Float64Type>("weights", "weight")?;
    same_length(&[rounds.len(), clusters.len(), weights.len()])?;
    Ok(rounds
        .into_iter()
        .zip(clusters)
        .zip(weights)
        .map(|((round, cluster), weight)| (round, cluster, weight))
        .collect())
}

fn names(values: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<UInt32Array>())
}

fn numbers(values: impl Iterator<Item = f64>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<Float64Array>())
}
