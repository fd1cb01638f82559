//! Which group every row belongs to, and what to report about the grouping.

use crate::cluster::{Clusters, Spec};
use curate_core::{Error, Result};
use serde_json::{Map, Value, json};

/// The groups rows fall into.
pub(crate) struct Grouping {
    /// Index into `names` of every position.
    pub(crate) of: Vec<u32>,
    /// Number of each group, as users see it.
    pub(crate) names: Vec<u32>,
    /// Squared distance of every position to the centre of its group; empty when there are no centres.
    pub(crate) sq_dist: Vec<f32>,
    /// Figures for the manifest.
    pub(crate) report: Map<String, Value>,
}

impl Grouping {
    /// The clusters of k-means under their own numbers.
    pub(crate) fn of_kmeans(found: Clusters, spec: &Spec) -> Self {
        let report = [
            ("k", json!(spec.k)),
            ("fit_rows", json!(spec.fit_rows)),
            ("inertia", json!(found.fit.inertia)),
            ("iterations", json!(found.fit.iterations)),
            ("silhouette_simplified", json!(found.fit.silhouette)),
        ];
        Self {
            of: found.labels,
            names: (0..).take(spec.k).collect(),
            sq_dist: found.sq_dist,
            report: report.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }

    /// Labels that came with the pool; any numbers will do.
    pub(crate) fn of_column(labels: &[u32]) -> Result<Self> {
        let mut names = labels.to_vec();
        names.sort_unstable();
        names.dedup();
        let index = |label: &u32| u32::try_from(names.partition_point(|name| name < label));
        let of = labels.iter().map(index).collect::<Result<_, _>>();
        let of = of.map_err(|_| Error::data("column/type", "the column 'cluster' holds too many clusters"))?;
        let report = Map::from_iter([("k".to_owned(), json!(names.len()))]);
        Ok(Self { of, names, sq_dist: Vec::new(), report })
    }
}

/// Add a line to the report's list `warnings`.
pub(crate) fn warn(report: &mut Map<String, Value>, text: &str) {
    let warnings = report.entry("warnings").or_insert_with(|| json!([]));
    if let Some(list) = warnings.as_array_mut() {
        list.push(json!(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_names() {
        let grouping = Grouping::of_column(&[9, 2, 9, u32::MAX]).unwrap();
        assert_eq!((grouping.of, grouping.names), (vec![1, 0, 1, 2], vec![2, 9, u32::MAX]));
    }

    #[test]
    fn warnings_pile_up() {
        let mut report = Map::new();
        warn(&mut report, "a");
        warn(&mut report, "b");
        assert_eq!(report["warnings"], json!(["a", "b"]));
    }
}
