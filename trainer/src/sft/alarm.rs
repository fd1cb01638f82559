//! When a run must not go on: losses and gradients that are no numbers.

use crate::Batch;
use crate::model::Losses;
use curate_core::{Error, Result};

/// Steps without an update after which the run stops.
const MOST_SKIPPED: u64 = 10;

/// Refuse losses that are no numbers; `step` counts from 1, `saved` is the last checkpoint.
pub(super) fn finite(step: u64, saved: Option<u64>, batch: &Batch, losses: &Losses) -> Result<()> {
    let broken = losses.nll.iter().zip(&batch.rows).filter(|(nll, _)| !nll.is_finite());
    let rows: Vec<String> = broken.map(|(_, row)| row.to_string()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let what = format!("step {step}: the loss of row {} is no number", rows.join(", "));
    let kept = saved.map_or(String::new(), |step| format!("; checkpoint-{step} is kept"));
    Err(Error::data("train/not-finite", what).hint(format!("lower learning_rate, or look at these rows{kept}")))
}

/// Refuse to go on when no step has changed anything for long; `tensor` is where the gradient was no number.
pub(super) fn too_many_skipped(in_a_row: u64, tensor: Option<&str>) -> Result<()> {
    if in_a_row < MOST_SKIPPED {
        return Ok(());
    }
    let tensor = tensor.unwrap_or_default();
    let what = format!("{MOST_SKIPPED} steps in a row had a gradient that is no number, in '{tensor}'");
    Err(Error::data("train/not-finite", what).hint("lower learning_rate, or lengthen the warm-up"))
}
