//! What was chosen, best first, and what the selector thought of every row.

use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One chosen row.
#[derive(Clone, Debug, PartialEq)]
pub struct Pick {
    /// Source row id.
    pub row: u64,
    /// The number the choice was made by; higher is better within one method.
    pub score: f32,
    /// Weight in the trainer's loss; 1 unless the method weights its picks.
    pub weight: f32,
    /// Cluster, stratum or target the row was chosen for.
    pub group: Option<u32>,
    /// Why, in words a user understands.
    pub reason: String,
}

/// One group (cluster, stratum ...) and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its number, as in [`Pick::group`].
    pub id: u32,
    /// Rows in the group.
    pub size_rows: u64,
    /// Rows chosen from it.
    pub picked_rows: u64,
}

/// What the selector thought of every row of the pool, one entry a row, for `explain` and the dashboard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assessment {
    /// Source row ids.
    pub row: Vec<u64>,
    /// The number the choice was made by.
    pub score: Vec<f32>,
    /// Group of the row; empty when the method has no groups.
    pub group: Vec<u32>,
    /// Place of the row, from 1, within its group (or the pool) in the method's order; empty when there is no order, 0 where a
    /// row was never placed.
    pub place: Vec<u32>,
    /// Row id that made this row superfluous, `u64::MAX` for none; empty when the method knows no such thing.
    pub blocker: Vec<u64>,
}

/// The chosen rows, best first: rank is the position in the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// The picks, best first.
    pub picks: Vec<Pick>,
    /// The groups, by id; empty when the method has none.
    pub groups: Vec<Group>,
    /// What the method thought of every row, if it can say.
    pub assessment: Option<Assessment>,
    /// Figures of the method for the manifest and the summary, such as `inertia`.
    pub report: serde_json::Map<String, serde_json::Value>,
}

impl Selection {
    /// Row ids, best first.
    #[must_use]
    pub fn rows(&self) -> Vec<u64> {
        self.picks.iter().map(|p| p.row).collect()
    }

    /// Schema on disk, over HTTP and to the trainer: `row u64, rank u32, score f32, weight f32, group u32?, reason utf8`.
    #[must_use]
    pub fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("row", DataType::UInt64, false),
            Field::new("rank", DataType::UInt32, false),
            Field::new("score", DataType::Float32, false),
            Field::new("weight", DataType::Float32, false),
            Field::new("group", DataType::UInt32, true),
            Field::new("reason", DataType::Utf8, false),
        ]))
    }

    /// The picks as a record batch of [`Selection::schema`].
    ///
    /// # Errors
    /// `selection/too-large` above `u32::MAX` picks.
    pub fn to_batch(&self) -> Result<RecordBatch> {
        let count = u32::try_from(self.picks.len())
            .map_err(|_| Error::usage("selection/too-large", "more than 4294967295 picks"))?;
        let picks = &self.picks;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(picks.iter().map(|p| Some(p.row)).collect::<UInt64Array>()),
            Arc::new((0..count).map(Some).collect::<UInt32Array>()),
            Arc::new(picks.iter().map(|p| Some(p.score)).collect::<Float32Array>()),
            Arc::new(picks.iter().map(|p| Some(p.weight)).collect::<Float32Array>()),
            Arc::new(picks.iter().map(|p| p.group).collect::<UInt32Array>()),
            Arc::new(picks.iter().map(|p| Some(p.reason.as_str())).collect::<StringArray>()),
        ];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }

    /// Read the picks back from a batch of [`Selection::schema`].
    ///
    /// # Errors
    /// `selection/schema` when the columns differ.
    pub fn from_batch(batch: &RecordBatch) -> Result<Self> {
        let bad = || Error::data("selection/schema", "not a selection: wrong columns");
        if batch.schema_ref().fields() != Self::schema().fields() {
            return Err(bad());
        }
        let (row, score) =
            (batch.column(0).as_primitive::<UInt64Type>(), batch.column(2).as_primitive::<Float32Type>());
        let (weight, group) =
            (batch.column(3).as_primitive::<Float32Type>(), batch.column(4).as_primitive::<UInt32Type>());
        let reason = batch.column(5).as_string_opt::<i32>().ok_or_else(bad)?;
        let pick = |i: usize| Pick {
            row: row.value(i),
            score: score.value(i),
            weight: weight.value(i),
            group: group.is_valid(i).then(|| group.value(i)),
            reason: reason.value(i).to_owned(),
        };
        Ok(Self { picks: (0..batch.num_rows()).map(pick).collect(), ..Self::default() })
    }
}

/// Schema of an [`Assessment`] on disk; optional columns are nullable.
#[must_use]
pub fn assessment_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("row", DataType::UInt64, false),
        Field::new("score", DataType::Float32, false),
        Field::new("group", DataType::UInt32, true),
        Field::new("place", DataType::UInt32, true),
        Field::new("blocker", DataType::UInt64, true),
    ]))
}

impl Assessment {
    /// The assessment as a record batch of [`assessment_schema`].
    ///
    /// # Errors
    /// `arrow` when the vectors differ in length.
    pub fn to_batch(&self) -> Result<RecordBatch> {
        let n = self.row.len();
        let optional32 =
            |v: &[u32]| -> ArrayRef { Arc::new((0..n).map(|i| v.get(i).copied()).collect::<UInt32Array>()) };
        let blocker = (0..n).map(|i| self.blocker.get(i).copied().filter(|&b| b != u64::MAX)).collect::<UInt64Array>();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(self.row.clone())),
            Arc::new(Float32Array::from(self.score.clone())),
            optional32(&self.group),
            optional32(&self.place),
            Arc::new(blocker),
        ];
        Ok(RecordBatch::try_new(assessment_schema(), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_survive_the_round_trip() {
        let pick = |row, group| Pick { row, score: 0.5, weight: 1.0, group, reason: "why".into() };
        let selection = Selection { picks: vec![pick(7, Some(2)), pick(3, None)], ..Selection::default() };
        assert_eq!(Selection::from_batch(&selection.to_batch().unwrap()).unwrap(), selection);
        assert_eq!(selection.rows(), [7, 3]);
    }
}
