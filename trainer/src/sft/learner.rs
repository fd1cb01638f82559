//! The trainer as a [`Learner`]: it says what it thinks of rows, and learns from those it is handed.

use super::{SftConfig, Trainable, Tuning, prepare};
use crate::data::{SequenceOptions, sequences};
use crate::model::{Losses, StepOptions};
use crate::optim::{Optimizer, sum_of_squares};
use crate::schedule::Schedule;
use crate::tokenizer::TextTokenizer;
use crate::{Batch, Grads, Params, Sequence};
use arrow::array::{ArrayRef, Float32Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use curate_core::{Column, Ctx, Error, Feedback, Learner, Location, Pool, Result};
use std::sync::Arc;

/// What a learner can say of a row: mean loss of its labels, share of labels that were the model's first choice, norm of
/// the gradient of its mean loss, its tokens and its labels.
pub const SIGNALS: [&str; 5] = ["loss", "accuracy", "grad_norm", "tokens", "labels"];

/// A model, its optimizer and a tokenizer. Adapters and masks are set up once; a step is one update.
pub struct SftLearner<M> {
    model: M,
    tokenizer: TextTokenizer,
    config: SftConfig,
    optimizer: Optimizer,
    schedule: Schedule,
    grads: Grads,
    steps: u64,
}

/// What was found out about one row.
#[derive(Clone, Copy, Debug, Default)]
struct Signal {
    nll: f64,
    labels: usize,
    hits: usize,
    tokens: usize,
    grad_norm: f64,
}

impl<M: Trainable> SftLearner<M> {
    /// A learner that will make about `total_steps` updates.
    ///
    /// # Errors
    /// `train/config`, `train/learning-rate`, what attaching gives.
    pub fn new(mut model: M, tokenizer: TextTokenizer, config: SftConfig, total_steps: u64, ctx: &Ctx) -> Result<Self> {
        config.check()?;
        config.one_rate()?;
        tokenizer.fits(model.vocab_size())?;
        if matches!(config.tuning, Tuning::LtSft(_) | Tuning::Sparse(_)) {
            return Err(Error::usage("train/config", "a learner fed batch by batch cannot train in two phases")
                .hint("take tuning full, lora or lift"));
        }
        prepare::mark(&mut model, &config, None, &ctx.labelled("train"))?;
        let optimizer = prepare::optimizer(&model, &config, None)?;
        let (grads, schedule) = (Grads::zeros(model.params()), config.schedule(total_steps));
        Ok(Self { model, tokenizer, config, optimizer, schedule, grads, steps: 0 })
    }

    /// The model as it stands.
    #[must_use]
    pub const fn model(&self) -> &M {
        &self.model
    }

    /// Give the model back.
    #[must_use]
    pub fn into_model(self) -> M {
        self.model
    }

    fn sequences(&self, pool: &Pool, ctx: &Ctx) -> Result<Vec<Sequence>> {
        let options = SequenceOptions { loss_on: self.config.loss_on, ..SequenceOptions::new(self.config.max_length) };
        Ok(sequences(pool, &self.tokenizer, &options, ctx)?.sequences)
    }

    /// Signals of the rows; gradients are added up, weighted as in one batch, when `learn` or when their norms are wanted.
    fn pass(&mut self, rows: &[Sequence], norms: bool, learn: bool, ctx: &Ctx) -> Result<Vec<Signal>> {
        let labels: usize = rows.iter().map(Sequence::labelled).sum();
        let size = if norms { 1 } else { self.config.batch_size };
        let mut alone = norms.then(|| Grads::zeros(self.model.params()));
        let mut signals = Vec::with_capacity(rows.len());
        for group in rows.chunks(size) {
            ctx.tick(0)?;
            let batch = Batch::of(group);
            let losses = match &mut alone {
                Some(alone) => self.pass_alone(&batch, labels, (alone, learn), ctx)?,
                None if learn => (self.backward(&batch, labels, ctx)?, 0.0),
                None => (self.model.losses(&batch, ctx)?, 0.0),
            };
            signals.extend(read(&batch, &losses.0, losses.1)?);
        }
        Ok(signals)
    }

    fn backward(&mut self, batch: &Batch, labels: usize, ctx: &Ctx) -> Result<Losses> {
        self.model.gradients(batch, per(labels), self.options(), &mut self.grads, ctx)
    }

    /// The gradient of one row by itself: its norm, and its part in that of the batch.
    fn pass_alone(&mut self, row: &Batch, labels: usize, into: (&mut Grads, bool), ctx: &Ctx) -> Result<(Losses, f64)> {
        let (alone, learn) = into;
        alone.clear();
        let own = row.labelled();
        let losses = self.model.gradients(row, per(own), self.options(), alone, ctx)?;
        let norm = norm(self.model.params(), alone);
        if learn {
            add(self.model.params(), alone, &mut self.grads, share(own, labels));
        }
        Ok((losses, norm))
    }

    const fn options(&self) -> StepOptions {
        StepOptions { gradient_checkpointing: self.config.gradient_checkpointing }
    }

    fn update(&mut self, ctx: &Ctx) -> Result<()> {
        if let Tuning::Lift(lift) = &self.config.tuning
            && self.steps.is_multiple_of(lift.update_interval.max(1))
        {
            for (id, mask) in lift.masks(self.model.params(), self.steps, ctx)? {
                self.optimizer.set_mask(self.model.params(), id, mask)?;
            }
        }
        let lr = self.schedule.lr(self.config.one_rate()?, self.steps);
        let report = self.optimizer.step(self.model.params_mut(), &self.grads, lr);
        self.steps += 1;
        report.skipped.map_or(Ok(()), |tensor| {
            Err(Error::data(
                "train/not-finite",
                format!("step {}: the gradient of '{tensor}' is no number", self.steps),
            )
            .hint("lower learning_rate; the update was not made"))
        })
    }
}

impl<M: Trainable + Send> Learner for SftLearner<M> {
    /// Rows without anything to learn have no signals: their values are null.
    fn probe(&mut self, batch: &Pool, want: &[Column], ctx: &Ctx) -> Result<RecordBatch> {
        known(want)?;
        let rows = self.sequences(batch, ctx)?;
        let signals = self.pass(&rows, wants(want, "grad_norm"), false, ctx)?;
        let mut found = rows.iter().map(|row| row.row).zip(signals).peekable();
        let aligned = batch.ids()?.into_iter().map(|id| found.next_if(|(row, _)| *row == id).map(|(_, signal)| signal));
        columns(&aligned.collect::<Vec<_>>(), want)
    }

    fn step(&mut self, batch: &Pool, want: &[Column], ctx: &Ctx) -> Result<Feedback> {
        known(want)?;
        let rows = self.sequences(batch, ctx)?;
        self.grads.clear();
        let signals = self.pass(&rows, wants(want, "grad_norm"), true, ctx)?;
        self.update(ctx)?;
        let signals = columns(&signals.into_iter().map(Some).collect::<Vec<_>>(), want)?;
        Ok(Feedback { step: self.steps, rows: rows.iter().map(|row| row.row).collect(), signals })
    }
}

fn read(batch: &Batch, losses: &Losses, grad_norm: f64) -> Result<Vec<Signal>> {
    let one = |(i, segment): (usize, &std::ops::Range<usize>)| {
        if !losses.nll[i].is_finite() {
            return Err(Error::data("train/not-finite", "the loss is no number")
                .hint("the model has diverged; lower learning_rate")
                .at(Location::default().row(batch.rows[i])));
        }
        let hits = losses.token_hit[segment.clone()].iter().filter(|hit| **hit).count();
        Ok(Signal { nll: losses.nll[i], labels: losses.labelled[i], hits, tokens: segment.len(), grad_norm })
    };
    batch.segments.iter().enumerate().map(one).collect()
}

fn norm(params: &Params, grads: &Grads) -> f64 {
    params.iter().filter_map(|(id, _)| grads.get(id)).map(sum_of_squares).sum::<f64>().sqrt()
}

fn add(params: &Params, from: &Grads, to: &mut Grads, factor: f32) {
    for (id, _) in params.iter() {
        if let (Some(from), Some(to)) = (from.get(id), to.get_mut(id)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
        }
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a share of at most 1")]
fn share(part: usize, all: usize) -> f32 {
    (part as f64 / all.max(1) as f64) as f32
}

fn per(labels: usize) -> f32 {
    share(1, labels)
}

fn wants(want: &[Column], signal: &str) -> bool {
    want.iter().any(|column| column.as_str().strip_prefix("signal.") == Some(signal))
}

fn known(want: &[Column]) -> Result<()> {
    let unknown =
        |column: &&Column| !column.as_str().strip_prefix("signal.").is_some_and(|name| SIGNALS.contains(&name));
    want.iter().find(unknown).map_or(Ok(()), |column| {
        let names = SIGNALS.map(|name| format!("signal.{name}")).join(", ");
        Err(Error::usage("column/unknown-signal", format!("the trainer does not give '{column}'"))
            .hint(format!("it gives {names}")))
    })
}

impl Signal {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "signals are f32")]
    fn value(&self, name: &str) -> f32 {
        let per_label = |x: f64| (x / self.labels.max(1) as f64) as f32;
        match name {
            "loss" => per_label(self.nll),
            "accuracy" => per_label(self.hits as f64),
            "grad_norm" => self.grad_norm as f32,
            "tokens" => self.tokens as f32,
            _ => self.labels as f32,
        }
    }
}

fn columns(signals: &[Option<Signal>], want: &[Column]) -> Result<RecordBatch> {
    let fields: Vec<Field> = want.iter().map(|c| Field::new(c.as_str(), DataType::Float32, true)).collect();
    let column = |column: &Column| -> ArrayRef {
        let name = column.as_str().strip_prefix("signal.").unwrap_or_default();
        Arc::new(signals.iter().map(|signal| signal.map(|s| s.value(name))).collect::<Float32Array>())
    };
    let options = RecordBatchOptions::new().with_row_count(Some(signals.len()));
    let arrays = want.iter().map(column).collect();
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}
