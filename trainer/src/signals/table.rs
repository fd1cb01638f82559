//! Signals as columns.

use super::Wanted;
use super::summary::LogProbs;
use crate::Batch;
use crate::model::Losses;
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, RecordBatchOptions};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use curate_core::{Error, Location, Result};
use std::sync::Arc;

/// What was found out about one row. What was not asked for is 0 or empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) nll: f64,
    /// Mean loss of the model's own answer.
    pub(crate) generated: f64,
    pub(crate) labels: usize,
    pub(crate) hits: usize,
    pub(crate) tokens: usize,
    pub(crate) log_probs: LogProbs,
    pub(crate) grad_norm: f64,
    pub(crate) grad_norm_last: f64,
    pub(crate) nuclear_norm: f64,
    pub(crate) sketch: Vec<f32>,
    /// Inner products with the sequences of the batch, in their order.
    pub(crate) ghost: Vec<f32>,
    pub(crate) ghost_validation: f64,
}

impl Row {
    /// What the losses of a batch say of its rows.
    ///
    /// # Errors
    /// `train/not-finite` with the row.
    pub(crate) fn read(batch: &Batch, losses: &Losses) -> Result<Vec<Self>> {
        let one = |(i, segment): (usize, &std::ops::Range<usize>)| {
            if !losses.nll[i].is_finite() {
                return Err(Error::data("train/not-finite", "the loss is no number")
                    .hint("the model has diverged; lower learning_rate")
                    .at(Location::default().row(batch.rows[i])));
            }
            let hits = losses.token_hit[segment.clone()].iter().filter(|hit| **hit).count();
            let labelled = segment.clone().filter(|t| batch.labels[*t] != crate::IGNORE);
            let log_probs = LogProbs::of(labelled.map(|t| losses.token_nll[t]));
            Ok(Self {
                nll: losses.nll[i],
                labels: losses.labelled[i],
                hits,
                tokens: segment.len(),
                log_probs,
                ..Self::default()
            })
        };
        batch.segments.iter().enumerate().map(one).collect()
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "signals are f32")]
    fn value(&self, name: &str) -> f32 {
        let per_label = |x: f64| (x / self.labels.max(1) as f64) as f32;
        match name {
            "loss" => per_label(self.nll),
            "loss_generated" => self.generated as f32,
            "accuracy" => per_label(self.hits as f64),
            "logprob_mean" => self.log_probs.mean as f32,
            "logprob_std" => self.log_probs.std as f32,
            "logprob_min" => self.log_probs.min as f32,
            "logprob_p05" => self.log_probs.p05 as f32,
            "logprob_p50" => self.log_probs.p50 as f32,
            "nuclear_norm" => self.nuclear_norm as f32,
            "grad_norm" => self.grad_norm as f32,
            "grad_norm_last" => self.grad_norm_last as f32,
            "ghost_validation" => self.ghost_validation as f32,
            "tokens" => self.tokens as f32,
            _ => self.labels as f32,
        }
    }
}

/// The columns wanted; `places` says which of `rows` each row of the table is, if any: others are null, and 0 within `ghost`.
pub(crate) fn table(rows: &[Row], places: &[Option<usize>], want: &Wanted) -> Result<RecordBatch> {
    let column = |name: &String| -> Result<(Field, ArrayRef)> {
        let array: ArrayRef = match name.as_str() {
            "sketch" => {
                let length = rows.first().map_or(0, |row| row.sketch.len());
                list(length, places, |at| rows[at].sketch.clone())?
            }
            "ghost" => list(places.len(), places, |at| {
                places.iter().map(|other| other.map_or(0.0, |other| rows[at].ghost[other])).collect()
            })?,
            _ => Arc::new(places.iter().map(|at| at.map(|at| rows[at].value(name))).collect::<Float32Array>()),
        };
        Ok((Field::new(format!("signal.{name}"), array.data_type().clone(), true), array))
    };
    let columns = want.names().iter().map(column).collect::<Result<Vec<_>>>()?;
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

fn list(length: usize, places: &[Option<usize>], of: impl Fn(usize) -> Vec<f32>) -> Result<ArrayRef> {
    let size =
        i32::try_from(length).map_err(|_| Error::usage("signal/too-wide", format!("lists of {length} numbers")))?;
    let values = places.iter().flat_map(|at| at.map_or_else(|| vec![0.0; length], &of));
    let values = Float32Array::from_iter_values(values);
    let known: NullBuffer = places.iter().map(Option::is_some).collect::<Vec<bool>>().into();
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    Ok(Arc::new(FixedSizeListArray::try_new(item, size, Arc::new(values), Some(known))?))
}
