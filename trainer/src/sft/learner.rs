//! The trainer as a [`Learner`]: it says what it thinks of rows, and learns from those it is handed.

use super::session::divisor;
use super::shelf::Shelf;
use super::{SftConfig, Trainable, Tuning, prepare};
use crate::data::{SequenceOptions, sequences};
use crate::model::StepOptions;
use crate::optim::Optimizer;
use crate::schedule::Schedule;
use crate::signals::{Heads, SignalOptions, Wanted, table};
use crate::tokenizer::TextTokenizer;
use crate::{Batch, Grads, Sequence};
use arrow::array::RecordBatch;
use curate_core::kernels::nuclear::Sketch;
use curate_core::{Column, Ctx, Error, Feedback, Learner, Pool, Result};

/// A model, its optimizer and a tokenizer. Adapters and masks are set up once; a step is one update.
pub struct SftLearner<M> {
    pub(super) model: M,
    pub(super) tokenizer: TextTokenizer,
    pub(super) config: SftConfig,
    pub(super) optimizer: Optimizer,
    pub(super) schedule: Schedule,
    pub(super) grads: Grads,
    pub(super) steps: u64,
    pub(super) signals: SignalOptions,
    pub(super) sketch: Option<Sketch>,
    pub(super) sketch_seed: u64,
    pub(super) validation: Vec<Sequence>,
    pub(super) heads: Heads,
    pub(super) shelf: Shelf,
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
        Ok(Self {
            model,
            tokenizer,
            config,
            optimizer,
            schedule,
            grads,
            steps: 0,
            signals: SignalOptions::default(),
            sketch: None,
            sketch_seed: ctx.derived_seed("sketch"),
            validation: Vec::new(),
            heads: Heads::default(),
            shelf: Shelf::default(),
        })
    }

    /// Take signals in this way.
    #[must_use]
    pub const fn with_signals(mut self, options: SignalOptions) -> Self {
        self.signals = options;
        self
    }

    /// Take sketches with these signs and frequencies in place of drawn ones.
    #[must_use]
    pub fn with_sketch(mut self, sketch: Sketch) -> Self {
        self.sketch = Some(sketch);
        self
    }

    /// The rows that `signal.ghost_validation` speaks of from now on.
    pub fn validate_with(&mut self, rows: Vec<Sequence>) {
        self.validation = rows;
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

    pub(super) const fn options(&self) -> StepOptions {
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
        let want = Wanted::of(want)?;
        let rows = self.sequences(batch, ctx)?;
        let found = self.look(&rows, &want, ctx)?;
        let mut ids = rows.iter().map(|row| row.row).enumerate().peekable();
        let places = batch.ids()?.into_iter().map(|id| ids.next_if(|(_, row)| *row == id).map(|(at, _)| at));
        table(&found, &places.collect::<Vec<_>>(), &want)
    }

    /// Signals are those of the rows before the update. More than the losses say costs a forward pass where activations are not shared.
    fn step(&mut self, batch: &Pool, want: &[Column], ctx: &Ctx) -> Result<Feedback> {
        let want = Wanted::of(want)?;
        let rows = self.sequences(batch, ctx)?;
        let seen = if want.more() { Some(self.look(&rows, &want, ctx)?) } else { None };
        self.grads.clear();
        let mass = divisor(Batch::of(&rows).mass());
        let mut learned = Vec::with_capacity(rows.len());
        for group in rows.chunks(self.config.batch_size.max(1)) {
            ctx.tick(0)?;
            learned.extend(self.learn(group, mass, ctx)?);
        }
        self.forget();
        self.update(ctx)?;
        let places: Vec<Option<usize>> = (0..rows.len()).map(Some).collect();
        let signals = table(&seen.unwrap_or(learned), &places, &want)?;
        Ok(Feedback { step: self.steps, rows: rows.iter().map(|row| row.row).collect(), signals })
    }
}
