//! Checkpoints of the loop: the trainer's files, the selector's state and the stream's position in one folder that is whole
//! or not there.

use super::pupil::Pupil;
use super::session::Session;
use super::state;
use super::stream::Position;
use curate_core::{Error, Location, Result};
use curate_trainer::checkpoint::{self, Part, State};
use serde::{Deserialize, Serialize};
use std::path::Path;

const LOOP: &str = "online.json";

/// What decides a run, each part by its digest, so that a refusal can say which part differs.
pub(super) type Identity = Vec<(String, String)>;

/// What the loop remembers besides trainer and selector.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Place {
    position: Position,
    identity: Identity,
    evals: Vec<(u64, String)>,
}

/// A run that can be saved.
pub(super) struct Saved<'a> {
    pub(super) out: &'a Path,
    pub(super) base: &'a Path,
    pub(super) identity: Identity,
    pub(super) keep: Option<usize>,
    pub(super) max_steps: u64,
    pub(super) seed: u64,
}

/// Losses on the rows to judge by: step and loss.
pub(super) type Evals = Vec<(u64, f64)>;

impl Saved<'_> {
    /// Write a checkpoint of the last whole step.
    ///
    /// # Errors
    /// `checkpoint/write`.
    pub(super) fn save(&self, session: &Session<'_>, learner: &impl Pupil, evals: &Evals) -> Result<()> {
        let evals = evals.iter().map(|(step, loss)| (*step, format!("{loss:?}"))).collect();
        let place = Place { position: session.position, identity: self.identity.clone(), evals };
        let place = serde_json::to_vec_pretty(&place).map_err(|e| Error::io("json", e.to_string()))?;
        let files = state::files(&session.boundary)?;
        let mut parts = learner.parts(self.base);
        parts.push(Part::bytes(LOOP, place));
        parts.extend(files.iter().map(|(name, bytes)| Part::bytes(name, bytes.clone())));
        let (global_step, max_steps) = (session.steps, self.max_steps);
        let state = State { global_step, max_steps, ..learner.state(self.seed) };
        checkpoint::write_folder(self.out, &parts, &state)?;
        self.keep.map_or(Ok(()), |keep| checkpoint::rotate(self.out, keep, None))
    }

    /// Go on from the newest whole checkpoint, where there is one: its step and the losses found before it.
    ///
    /// # Errors
    /// `checkpoint/other-plan` saying what differs, `checkpoint/broken`, `state/*`.
    pub(super) fn resume(&self, session: &mut Session<'_>, learner: &mut impl Pupil) -> Result<Option<(u64, Evals)>> {
        let Some((folder, found)) = checkpoint::newest(self.out)? else { return Ok(None) };
        let path = folder.join(LOOP);
        let broken = |what: String| {
            Error::data("checkpoint/broken", what)
                .hint("the folder holds checkpoints of a run without --online; take another folder")
                .at(Location::file(path.display().to_string()))
        };
        let text = std::fs::read(&path).map_err(|e| broken(e.to_string()))?;
        let place: Place = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        self.same(&place.identity, &folder)?;
        learner.restore(&folder, &found)?;
        session.go_to(found.global_step, place.position, state::read(&folder)?)?;
        session.updates = learner.updates();
        let loss = |(step, text): (u64, String)| Some((step, text.parse().ok()?));
        Ok(Some((found.global_step, place.evals.into_iter().filter_map(loss).collect())))
    }

    fn same(&self, found: &Identity, folder: &Path) -> Result<()> {
        let Some((part, _)) = self.identity.iter().find(|part| !found.contains(part)) else { return Ok(()) };
        Err(Error::usage("checkpoint/other-plan", format!("the checkpoint belongs to another run: {part} differs"))
            .hint("give the run another output folder, or repeat it with the settings it was started with")
            .at(Location::file(folder.display().to_string())))
    }
}
