//! Which group every row belongs to, and what to report about the grouping.

use crate::cluster::{Clusters, Spec};
use curate_core::{Column, Error, Location, Pool, Result};
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

/// Class labels: whole numbers from 0, as integers or as the planner hands columns on, in single precision.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and in range")]
pub(crate) fn labels(pool: &Pool, column: &Column) -> Result<Vec<u32>> {
    if let Ok(labels) = pool.counts(column) {
        return Ok(labels);
    }
    let numbers = pool.numbers(column)?;
    let whole = |v: f32| (0.0..16_777_216.0).contains(&v) && v.fract() == 0.0;
    let Some(position) = numbers.iter().position(|&v| !whole(v)) else {
        return Ok(numbers.into_iter().map(|v| v as u32).collect());
    };
    Err(Error::data("column/value", format!("{} is no class label", numbers[position]))
        .at(Location::default().row(pool.ids()?[position]).column(column.as_str()))
        .hint("labels are whole numbers from 0 to 16777215"))
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
    fn labels_may_come_as_floats() {
        use arrow::array::{ArrayRef, Float32Array, RecordBatch};
        let of = |values: Vec<f32>| {
            let column = std::sync::Arc::new(Float32Array::from(values)) as ArrayRef;
            let pool = Pool::from_batch(RecordBatch::try_from_iter([("label", column)]).unwrap());
            labels(&pool, &Column::named("label"))
        };
        assert_eq!(of(vec![0.0, 7.0]).unwrap(), [0, 7]);
        assert_eq!(of(vec![0.0, 0.5]).unwrap_err().location().unwrap().row, Some(1));
    }

    #[test]
    fn warnings_pile_up() {
        let mut report = Map::new();
        warn(&mut report, "a");
        warn(&mut report, "b");
        assert_eq!(report["warnings"], json!(["a", "b"]));
    }
}
