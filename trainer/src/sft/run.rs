//! A training run from the outside: what goes in, what comes out.

use super::session::{Extra, Session};
use super::{Forecast, SftConfig, Trainable, Tuning, forecast, sweep, two_phase};
use crate::Sequence;
use crate::eval::LossTotal;
use crate::mask::delta::SparseDelta;
use curate_core::{Ctx, Error, Result};
use serde::Serialize;
use std::path::PathBuf;

/// A run: configuration, rows, and where its files go.
#[derive(Clone, Debug)]
pub struct Trainer<'a> {
    /// How to train.
    pub config: SftConfig,
    /// Rows to train on.
    pub train: &'a [Sequence],
    /// Rows to judge by; may be empty.
    pub eval: &'a [Sequence],
    /// Folder for checkpoints and log; nothing is written without one.
    pub out: Option<PathBuf>,
    /// Folder of the base model, whose configuration and tokenizer go into checkpoints.
    pub base: Option<PathBuf>,
    /// Go on from the newest whole checkpoint in `out`, where there is one.
    pub resume: bool,
    /// Digest of what else decides the run; a checkpoint of another is refused.
    pub plan: String,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// All steps were made.
    #[default]
    Finished,
    /// The evaluation loss had not fallen for as long as the configuration allows.
    Early,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrainReport {
    /// Steps made in all, those before a resumption included.
    pub steps: u64,
    /// Step of the checkpoint from which the run went on.
    pub resumed_from: Option<u64>,
    /// Tokens seen in all.
    pub tokens: u64,
    /// Training loss of every step; those before a resumption are read from the log.
    pub losses: Vec<f64>,
    /// Loss on the evaluation rows at the end.
    pub eval: Option<LossTotal>,
    /// Lowest loss on the evaluation rows, and its step.
    pub best_eval: Option<(f64, u64)>,
    /// Steps whose gradient was no number and which changed nothing.
    pub skipped: u64,
    /// Why it ended.
    pub stopped: Stopped,
    /// The learning rates that were tried, where several were.
    pub sweep: Option<super::Sweep>,
}

impl TrainReport {
    /// The loss to judge a run by: on evaluation rows, else the mean over the last tenth of the steps.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^53")]
    pub fn judged_loss(&self) -> f64 {
        if let Some(loss) = self.eval.as_ref().and_then(LossTotal::mean) {
            return loss;
        }
        let last = self.losses.len() - self.losses.len() * 9 / 10;
        let tail = &self.losses[self.losses.len() - last..];
        if tail.is_empty() { f64::INFINITY } else { tail.iter().sum::<f64>() / tail.len() as f64 }
    }
}

impl<'a> Trainer<'a> {
    /// A run over these rows that writes nothing.
    #[must_use]
    pub const fn new(config: SftConfig, train: &'a [Sequence]) -> Self {
        Self { config, train, eval: &[], out: None, base: None, resume: false, plan: String::new() }
    }

    /// What the run will take.
    #[must_use]
    pub fn forecast<M: Trainable>(&self, model: &M) -> Forecast {
        forecast(model, &self.config, self.train)
    }

    /// Train.
    ///
    /// # Errors
    /// `train/*`; what the model and the disk give; `cancelled`, after a checkpoint was saved.
    pub fn run<M: Trainable>(&self, model: &mut M, ctx: &Ctx) -> Result<TrainReport> {
        self.config.check()?;
        if self.train.is_empty() {
            return Err(
                Error::data("train/empty", "there is no row to train on").hint("look at the rows with --dry-run")
            );
        }
        if !self.config.lr_sweep.is_empty() {
            return sweep::run(self, model, ctx);
        }
        match &self.config.tuning {
            Tuning::LtSft(config) => two_phase::run(self, config, model, ctx),
            Tuning::Sparse(config) => {
                let masks = SparseDelta::load(&config.mask)?.masks(model.params())?;
                self.run_with(model, Extra { masks: Some(masks), anchor: None }, ctx)
            }
            _ => self.run_with(model, Extra::default(), ctx),
        }
    }

    /// One phase.
    pub(super) fn run_with<M: Trainable>(&self, model: &mut M, extra: Extra<'_>, ctx: &Ctx) -> Result<TrainReport> {
        Session::open(self, model, extra, ctx)?.go()
    }

    /// The same run with another configuration, in a folder below.
    pub(super) fn below(&self, config: SftConfig, folder: &str) -> Self {
        Self { config, out: self.out.as_ref().map(|out| out.join(folder)), ..self.clone() }
    }
}
