//! A learner to and from a checkpoint, with the files of any other run.

use super::GrpoLearner;
use crate::checkpoint::{self, Part, State};
use crate::mask::delta::digest;
use crate::sft::{self, Log};
use curate_core::{Error, Location, Result};
use std::path::Path;

impl GrpoLearner {
    /// Steps made so far.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Digest of the weights as they stand, and of the run they belong to.
    #[must_use]
    pub fn digest(&self) -> String {
        let text = format!("{}\n{}", self.plan, digest(&self.model.params));
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// Write a line a step to `log.jsonl` in `out`, behind those of the steps made already.
    ///
    /// # Errors
    /// `io`.
    pub fn log_to(&mut self, out: &Path) -> Result<()> {
        let state = State { global_step: self.steps, ..State::default() };
        self.log = Some(Log::open(Some(out), &state)?.0);
        Ok(())
    }

    /// The learner's files of a checkpoint; `base` is the folder of the base model, whose small files go along.
    #[must_use]
    pub fn parts<'a>(&'a self, base: Option<&'a Path>) -> Vec<Part<'a>> {
        sft::parts(&self.config.train.tuning, base, &self.model.params, &self.optimizer)
    }

    /// Where the learner stands, for the checkpoint.
    #[must_use]
    pub fn state(&self, seed: u64) -> State {
        let (global_step, updates) = (self.steps, self.optimizer.steps());
        State { global_step, updates, seed, plan_digest: self.plan.clone(), ..State::default() }
    }

    /// Go on from a checkpoint that [`GrpoLearner::parts`] filled.
    ///
    /// # Errors
    /// `checkpoint/other-plan`, `checkpoint/shape`, `optimizer/shape`, what reading gives.
    pub fn restore(&mut self, folder: &Path, state: &State) -> Result<()> {
        if state.plan_digest != self.plan {
            return Err(Error::usage(
                "checkpoint/other-plan",
                "the checkpoint belongs to another run: configuration or first weights differ",
            )
            .hint("give the run another output folder, or repeat it with the settings it was started with")
            .at(Location::file(folder.display().to_string())));
        }
        let parts = (&mut self.model.params, &mut self.optimizer);
        sft::restore(folder, &self.config.train.tuning, parts, state.updates)?;
        self.steps = state.global_step;
        Ok(())
    }

    /// Write `out/checkpoint-<step>`.
    ///
    /// # Errors
    /// `checkpoint/write`.
    pub fn save(&self, out: &Path, base: Option<&Path>, seed: u64) -> Result<()> {
        checkpoint::write_folder(out, &self.parts(base), &self.state(seed)).map(drop)
    }

    /// Go on from the newest whole checkpoint in `out`, where there is one: its step.
    ///
    /// # Errors
    /// As [`GrpoLearner::restore`].
    pub fn resume(&mut self, out: &Path) -> Result<Option<u64>> {
        let Some((folder, state)) = checkpoint::newest(out)? else { return Ok(None) };
        self.restore(&folder, &state)?;
        Ok(Some(state.global_step))
    }
}
