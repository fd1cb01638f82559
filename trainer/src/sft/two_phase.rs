//! LT-SFT: train everything, see what moved most, go back, and train only that.
//!
//! Phase 1 from `theta0`; mask = the k entries of largest `|theta1 - theta0|`; phase 2 from `theta0` with the mask, new moments and
//! a new schedule. Source: Ansell et al., Composable Sparse Fine-Tuning (section 3.1). Deviations: one iteration of the two
//! phases; vectors (norms, biases) are frozen; the update is masked, where the published code masks the gradient and weight
//! decay still moves the rest. Cost: two runs, and a copy of the model.

use super::session::Extra;
use super::{LtSftConfig, SftConfig, TrainReport, Trainable, Trainer, Tuning};
use crate::Params;
use crate::mask::delta::SparseDelta;
use crate::mask::movement::{Masks, top_movement};
use crate::optim::groups::Freeze;
use curate_core::{Ctx, Error, Result};

/// Both phases. The mask is kept in `out/mask.safetensors`, the finished change in `out/delta.safetensors`.
pub(super) fn run<M: Trainable>(
    trainer: &Trainer<'_>,
    config: &LtSftConfig,
    model: &mut M,
    ctx: &Ctx,
) -> Result<TrainReport> {
    let start = model.params().clone();
    let freeze = Freeze { vectors: true, ..trainer.config.freeze.clone() };
    let masks = match kept_mask(trainer, &start)? {
        Some(masks) => masks,
        None => first_phase(trainer, config, (model, &start), &freeze, ctx)?,
    };
    *model.params_mut() = start.clone();
    let second = Trainer { config: SftConfig { freeze, ..trainer.config.clone() }, ..trainer.clone() };
    let extra = Extra { masks: Some(masks.clone()), anchor: Some((config.l1, &start)) };
    let report = second.run_with(model, extra, &ctx.labelled("phase 2"))?;
    if let Some(out) = &trainer.out {
        SparseDelta::of(&start, model.params(), &masks)?.save(&out.join("delta.safetensors"))?;
    }
    Ok(report)
}

fn first_phase<M: Trainable>(
    trainer: &Trainer<'_>,
    config: &LtSftConfig,
    model: (&mut M, &Params),
    freeze: &Freeze,
    ctx: &Ctx,
) -> Result<Masks> {
    let (model, start) = model;
    let epochs = config.full_epochs.unwrap_or(trainer.config.num_train_epochs);
    let full = SftConfig {
        tuning: Tuning::Full,
        num_train_epochs: epochs,
        freeze: freeze.clone(),
        early_stopping_patience: None,
        ..trainer.config.clone()
    };
    let extra = Extra { masks: None, anchor: Some((config.l1, start)) };
    trainer.below(full, "phase-1").run_with(model, extra, &ctx.labelled("phase 1"))?;
    let masks = choose(config, start, model.params())?;
    if let Some(out) = &trainer.out {
        SparseDelta::of(start, model.params(), &masks)?.save(&out.join("mask.safetensors"))?;
    }
    Ok(masks)
}

/// The mask of a run that is to go on.
fn kept_mask(trainer: &Trainer<'_>, start: &Params) -> Result<Option<Masks>> {
    let path = trainer.out.as_ref().filter(|_| trainer.resume).map(|out| out.join("mask.safetensors"));
    let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
    let delta = SparseDelta::load(&path)?;
    if delta.base != crate::mask::delta::digest(start) {
        return Err(Error::usage("checkpoint/other-plan", format!("{} belongs to another base model", path.display()))
            .hint("give the run another output folder"));
    }
    delta.masks(start).map(Some)
}

fn choose(config: &LtSftConfig, start: &Params, trained: &Params) -> Result<Masks> {
    let maskable = |name: &str| trained.find(name).is_some_and(|id| trained.get(id).trained);
    let entries: usize = trained.iter().filter(|(_, t)| t.trained).map(|(_, t)| t.data.len()).sum();
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
    let by_share = (config.ft_params_proportion * entries as f64).round() as usize;
    let k = config.ft_params_num.unwrap_or(by_share);
    if k == 0 {
        return Err(Error::usage("train/config", "no entry is left to train in the second phase")
            .hint("raise ft_params_proportion or ft_params_num"));
    }
    top_movement(start, trained, k, maskable)
}
