//! LT-SFT: train everything, see what moved most, go back, and train only that; once or in several rounds.
//!
//! A round: phase 1 from `theta` with all entries; the mask gains the `k / rounds` entries outside it of largest `|theta1 - theta0|`;
//! phase 2 from `theta` with the mask, new moments and a new schedule, whose end is the `theta` of the next round. Source: Ansell
//! et al., Composable Sparse Fine-Tuning (section 3.1); the rounds as in its published code. Deviations: vectors (norms,
//! biases) are frozen; the update is masked, where the published code masks the gradient and weight decay still moves the
//! rest. Cost: two runs a round, and a copy of the model, with several rounds two.

use super::session::Extra;
use super::{LtSftConfig, SftConfig, TrainReport, Trainable, Trainer, Tuning};
use crate::Params;
use crate::mask::delta::{SparseDelta, digest};
use crate::mask::movement::{Masks, top_movement};
use crate::optim::groups::Freeze;
use curate_core::{Ctx, Error, Result};

/// What the rounds share.
struct Rounds<'a> {
    trainer: &'a Trainer<'a>,
    config: &'a LtSftConfig,
    start: &'a Params,
    freeze: Freeze,
}

/// All rounds. The mask is kept in `out/mask.safetensors`, the finished change in `out/delta.safetensors`; what rounds before the
/// last leave is in `out/round-<i>`.
pub(super) fn run<M: Trainable>(
    trainer: &Trainer<'_>,
    config: &LtSftConfig,
    model: &mut M,
    ctx: &Ctx,
) -> Result<TrainReport> {
    let start = model.params().clone();
    let freeze = Freeze { vectors: true, ..trainer.config.freeze.clone() };
    let rounds = Rounds { trainer, config, start: &start, freeze };
    let (mut masks, mut report) = (Masks::new(), TrainReport::default());
    for round in 0..config.n_ft_iterations.max(1) {
        (masks, report) = rounds.round(model, round, &masks, ctx)?;
    }
    if let Some(out) = &trainer.out {
        SparseDelta::of(&start, model.params(), &masks)?.save(&out.join("delta.safetensors"))?;
    }
    Ok(report)
}

impl Rounds<'_> {
    fn round<M: Trainable>(
        &self,
        model: &mut M,
        round: usize,
        taken: &Masks,
        ctx: &Ctx,
    ) -> Result<(Masks, TrainReport)> {
        let before = if round == 0 { None } else { Some(model.params().clone()) };
        let name = |phase: &str| if round == 0 { phase.to_owned() } else { format!("round {} {phase}", round + 1) };
        let last = round + 1 >= self.config.n_ft_iterations;
        let full = SftConfig { freeze: self.freeze.clone(), ..self.trainer.config.clone() };
        let here = if last {
            Trainer { config: full, ..self.trainer.clone() }
        } else {
            self.trainer.below(full, &format!("round-{}", round + 1))
        };
        let masks = match self.kept_mask(&here)? {
            Some(masks) => masks,
            None => self.first_phase(&here, model, (round, taken), &ctx.labelled(&name("phase 1")))?,
        };
        *model.params_mut() = before.unwrap_or_else(|| self.start.clone());
        let extra = Extra { masks: Some(masks.clone()), anchor: Some((self.config.l1, self.start)) };
        let report = here.run_with(model, extra, &ctx.labelled(&name("phase 2")))?;
        Ok((masks, report))
    }

    fn first_phase<M: Trainable>(
        &self,
        here: &Trainer<'_>,
        model: &mut M,
        (round, taken): (usize, &Masks),
        ctx: &Ctx,
    ) -> Result<Masks> {
        let epochs = self.config.full_epochs.unwrap_or(here.config.num_train_epochs);
        let full = SftConfig {
            tuning: Tuning::Full,
            num_train_epochs: epochs,
            early_stopping_patience: None,
            ..here.config.clone()
        };
        let extra = Extra { masks: None, anchor: Some((self.config.l1, self.start)) };
        here.below(full, "phase-1").run_with(model, extra, ctx)?;
        let masks = self.choose(model.params(), round, taken)?;
        if let Some(out) = &here.out {
            SparseDelta::of(self.start, model.params(), &masks)?.save(&out.join("mask.safetensors"))?;
        }
        Ok(masks)
    }

    /// The mask of a run that is to go on.
    fn kept_mask(&self, here: &Trainer<'_>) -> Result<Option<Masks>> {
        let path = here.out.as_ref().filter(|_| here.resume).map(|out| out.join("mask.safetensors"));
        let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
        let delta = SparseDelta::load(&path)?;
        if delta.base != digest(self.start) {
            return Err(Error::usage(
                "checkpoint/other-plan",
                format!("{} belongs to another base model", path.display()),
            )
            .hint("give the run another output folder"));
        }
        delta.masks(self.start).map(Some)
    }

    /// The mask so far and this round's share of what moved most outside it.
    fn choose(&self, trained: &Params, round: usize, taken: &Masks) -> Result<Masks> {
        let maskable = |name: &str| trained.find(name).is_some_and(|id| trained.get(id).trained);
        let entries: usize = trained.iter().filter(|(_, t)| t.trained).map(|(_, t)| t.data.len()).sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "share"
        )]
        let by_share = (self.config.ft_params_proportion * entries as f64).round() as usize;
        let (k, rounds) = (self.config.ft_params_num.unwrap_or(by_share), self.config.n_ft_iterations.max(1));
        let mine = k * (round + 1) / rounds - k * round / rounds;
        if mine == 0 {
            return Err(Error::usage("train/config", "no entry is left to train in the second phase")
                .hint("raise ft_params_proportion or ft_params_num, or take fewer rounds"));
        }
        let mut masks = top_movement(self.start, trained, mine, maskable, taken)?;
        for (id, old) in taken {
            let mask = masks.entry(*id).or_default();
            *mask = mask.union(old);
        }
        Ok(masks)
    }
}
