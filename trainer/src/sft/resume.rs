//! A learner that is fed batch by batch, to and from a checkpoint: with the files of any other run, so that what else the
//! loop must remember can go beside them into one folder that is whole or not there.

use super::{SftLearner, Trainable, prepare, save};
use crate::Params;
use crate::checkpoint::{Part, State};
use crate::mask::delta::digest;
use crate::signals::Heads;
use curate_core::Result;
use std::path::Path;

impl<M: Trainable> SftLearner<M> {
    /// Updates made so far.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Digest of the weights as they stand, and of how they are trained.
    #[must_use]
    pub fn digest(&self) -> String {
        let config = super::SftConfig { save_steps: None, save_total_limit: None, ..self.config.clone() };
        let config = serde_json::to_string(&config).unwrap_or_default();
        let text = format!("{config}\n{}\n{:?}", digest(self.model.params()), self.model.vocab_size());
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// The learner's files of a checkpoint; `base` is the folder of the base model, whose small files go along.
    #[must_use]
    pub fn parts<'a>(&'a self, base: Option<&'a Path>) -> Vec<Part<'a>> {
        save::parts(&self.config.tuning, base, self.model.params(), &self.optimizer)
    }

    /// Go on from a checkpoint that [`SftLearner::parts`] filled; that it is one of this run is for the caller to check.
    ///
    /// # Errors
    /// `checkpoint/shape`, `optimizer/shape`, what reading gives.
    pub fn restore(&mut self, folder: &Path, state: &State) -> Result<()> {
        let parts = (self.model.params_mut(), &mut self.optimizer);
        save::restore(folder, &self.config.tuning, parts, state.updates)?;
        self.steps = state.updates;
        self.forget();
        self.heads = Heads::default();
        Ok(())
    }

    /// Begin anew with these weights, as they were after [`SftLearner::new`], for about `total_steps` updates.
    ///
    /// # Errors
    /// What making the optimizer gives.
    pub fn restart(&mut self, start: &Params, total_steps: u64) -> Result<()> {
        self.forget();
        self.model.params_mut().clone_from(start);
        self.optimizer = prepare::optimizer(&self.model, &self.config, None)?;
        self.schedule = self.config.schedule(total_steps);
        self.heads = Heads::default();
        self.steps = 0;
        Ok(())
    }
}
