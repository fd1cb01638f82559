//! What the learner says back of every prompt.

use super::rollout::Group;
use arrow::array::{ArrayRef, Float32Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use curate_core::{Column, Error, Result};
use std::sync::Arc;

/// What is known of a prompt after a step: right answers, answers, mean reward, mean loss of the tokens of its answers (0 where they
/// teach nothing), tokens drawn.
pub const GRPO_SIGNALS: [&str; 5] = ["successes", "trials", "reward", "loss", "tokens"];

fn name(column: &Column) -> &str {
    column.as_str().strip_prefix("signal.").unwrap_or_default()
}

/// Refuse what is not given.
pub(super) fn known(want: &[Column]) -> Result<()> {
    let unknown = |column: &&Column| !GRPO_SIGNALS.contains(&name(column));
    want.iter().find(unknown).map_or(Ok(()), |column| {
        let names = GRPO_SIGNALS.map(|name| format!("signal.{name}")).join(", ");
        Err(Error::usage("column/unknown-signal", format!("learning from answers does not give '{column}'"))
            .hint(format!("it gives {names}")))
    })
}

/// No column of so many rows.
pub(super) fn none(rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?)
}

/// The columns asked for, one row a group; `losses` are those of the groups.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "signals are f32")]
pub(super) fn columns(groups: &[Group], losses: &[f64], want: &[Column]) -> Result<RecordBatch> {
    let value = |(group, loss): (&Group, &f64), name: &str| match name {
        "successes" => group.successes as f32,
        "trials" => group.rewards.len() as f32,
        "reward" => (group.rewards.iter().sum::<f64>() / group.rewards.len().max(1) as f64) as f32,
        "loss" => *loss as f32,
        _ => group.tokens() as f32,
    };
    let column = |column: &Column| -> ArrayRef {
        Arc::new(groups.iter().zip(losses).map(|each| Some(value(each, name(column)))).collect::<Float32Array>())
    };
    let fields: Vec<Field> = want.iter().map(|c| Field::new(c.as_str(), DataType::Float32, true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), want.iter().map(column).collect(), &options)?)
}
