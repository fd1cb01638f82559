//! Cluster weights inside a method's state: read them for people, change one by hand.

use super::machine::no_weights;
use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, UInt32Type};
use curate_api::{Error, Result, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The table and its columns, as `kmeans-refine` keeps them.
const TABLE: &str = "clusters";
const CLUSTER: &str = "cluster";
const WEIGHT: &str = "next";

fn read(table: &RecordBatch) -> Option<(UInt32Array, Float64Array)> {
    let clusters = cast(table.column_by_name(CLUSTER)?, &DataType::UInt32).ok()?;
    let weights = cast(table.column_by_name(WEIGHT)?, &DataType::Float64).ok()?;
    Some((clusters.as_primitive::<UInt32Type>().clone(), weights.as_primitive::<Float64Type>().clone()))
}

/// The weights of the next draw, by cluster.
pub(crate) fn weights(state: &State) -> BTreeMap<u32, f64> {
    let table = state.tables.iter().find(|(name, _)| name == TABLE);
    let Some((clusters, weights)) = table.and_then(|(_, table)| read(table)) else { return BTreeMap::new() };
    clusters.values().iter().copied().zip(weights.values().iter().copied()).collect()
}

/// The state with the weight of a cluster multiplied, and all weights brought back to their sum.
pub(crate) fn steered(mut state: State, group: u32, factor: f64) -> Result<State> {
    if !(factor.is_finite() && (0.0..=1e6).contains(&factor)) {
        return Err(
            Error::usage("steer/factor", format!("a weight cannot be multiplied by {factor}")).hint("0 to 1000000")
        );
    }
    let (_, table) = state.tables.iter_mut().find(|(name, _)| name == TABLE).ok_or_else(no_weights)?;
    let (clusters, weights) = read(table).ok_or_else(no_weights)?;
    let Some(place) = clusters.values().iter().position(|cluster| *cluster == group) else {
        return Err(Error::usage("group/unknown", format!("there is no cluster {group}")).hint(
            if clusters.is_empty() { "the clusters are made with the first batch" } else { "see the session's state" },
        ));
    };
    let mut changed: Vec<f64> = weights.values().to_vec();
    let before: f64 = changed.iter().sum();
    changed[place] *= factor;
    let after: f64 = changed.iter().sum();
    if after <= 0.0 {
        return Err(Error::usage("steer/factor", "no cluster would have a weight").hint("raise another cluster first"));
    }
    changed.iter_mut().for_each(|weight| *weight *= before / after);
    let at = table.schema().index_of(WEIGHT)?;
    let mut columns: Vec<ArrayRef> = table.columns().to_vec();
    columns[at] = cast(&(Arc::new(Float64Array::from(changed)) as ArrayRef), columns[at].data_type())?;
    *table = RecordBatch::try_new(table.schema(), columns)?;
    Ok(state)
}
