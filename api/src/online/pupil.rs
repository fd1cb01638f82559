//! A learner that the loop can save, restore and judge.

use curate_core::{Ctx, Learner, Result};
use curate_trainer::Sequence;
use curate_trainer::checkpoint::{Part, State};
use curate_trainer::eval::LossTotal;
use curate_trainer::model::Model;
use curate_trainer::sft::{SftLearner, eval_loss};
use std::path::Path;

/// What a look at the rows to judge by gave.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judged {
    /// The number for the curve.
    pub(super) value: f64,
    /// The loss behind it, where it is one.
    pub(super) loss: Option<LossTotal>,
}

/// A learner with a place on disk.
pub(super) trait Pupil: Learner {
    /// Signals asked for after every step, for the log; the first is the loss.
    fn says(&self) -> &'static [&'static str] {
        &["loss", "labels", "tokens"]
    }

    /// Updates made; a number that no checkpoint has while a step is under way.
    fn updates(&self) -> u64;

    /// Digest of the weights as they stand, and of how they are trained.
    fn digest(&self) -> String;

    /// Files of a checkpoint.
    fn parts<'a>(&'a self, base: &'a Path) -> Vec<Part<'a>>;

    /// Where the learner stands, for the checkpoint.
    fn state(&self, seed: u64) -> State {
        State { updates: self.updates(), seed, ..State::default() }
    }

    /// Go on from a checkpoint.
    ///
    /// # Errors
    /// `checkpoint/*`, what reading gives.
    fn restore(&mut self, folder: &Path, state: &State) -> Result<()>;

    /// Judge by these rows; nothing where there are none.
    ///
    /// # Errors
    /// What the model gives; `cancelled`.
    fn judge(&self, rows: &[Sequence], batch_size: usize, ctx: &Ctx) -> Result<Option<Judged>>;

    /// Give the model back.
    fn into_trained(self) -> Model;
}

impl Pupil for SftLearner<Model> {
    fn updates(&self) -> u64 {
        self.steps()
    }

    fn digest(&self) -> String {
        Self::digest(self)
    }

    fn parts<'a>(&'a self, base: &'a Path) -> Vec<Part<'a>> {
        Self::parts(self, Some(base))
    }

    fn restore(&mut self, folder: &Path, state: &State) -> Result<()> {
        Self::restore(self, folder, state)
    }

    fn judge(&self, rows: &[Sequence], batch_size: usize, ctx: &Ctx) -> Result<Option<Judged>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let total = eval_loss(Self::model(self), rows, batch_size, ctx)?;
        Ok(Some(Judged { value: total.mean().unwrap_or(f64::NAN), loss: Some(total) }))
    }

    fn into_trained(self) -> Model {
        self.into_model()
    }
}
