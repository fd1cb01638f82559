//! From a configuration to marked tensors and an optimizer.

use super::{Differentiable, RestingDtype, SftConfig, Trainable, Tuning, ids};
use crate::lora;
use crate::mask::lift::LiftConfig;
use crate::mask::movement::Masks;
use crate::optim::{Optimizer, groups};
use curate_core::{Ctx, Error, Result};

/// Mark what is trained, and put fresh adapters on where they are asked for and missing.
pub(crate) fn mark<M: Trainable>(model: &mut M, config: &SftConfig, masks: Option<&Masks>, ctx: &Ctx) -> Result<()> {
    let range = model.initializer_range();
    groups::reinit_top(model.params_mut(), config.reinit_top_layers, range, ctx);
    if let Tuning::Lora(lora) = &config.tuning {
        if lora::attached(model).is_empty() {
            lora::attach(model, lora, ctx)?;
        }
        mark_each(model, |name, _| lora::is_adapter(name));
        if config.dtype == RestingDtype::Bf16 {
            model.compactable().into_iter().for_each(|id| model.params_mut().shrink(id));
        }
    } else {
        without_adapters(model)?;
        model.params_mut().widen_all();
        let lift = matches!(config.tuning, Tuning::Lift(_));
        mark_each(model, |name, shape| !lora::is_adapter(name) && (!lift || LiftConfig::trains(name, shape)));
        if let Some(masks) = masks {
            for id in ids(model.params()) {
                model.params_mut().get_mut(id).trained &= masks.get(&id).is_some_and(|mask| !mask.is_empty());
            }
        }
    }
    config.freeze.apply(model.params_mut())
}

fn mark_each<M: Differentiable>(model: &mut M, trained: impl Fn(&str, &[usize]) -> bool) {
    for id in ids(model.params()) {
        let tensor = model.params_mut().get_mut(id);
        tensor.trained = !tensor.data.is_empty() && trained(&tensor.name, &tensor.shape);
    }
}

fn without_adapters<M: Trainable>(model: &M) -> Result<()> {
    if lora::attached(model).is_empty() {
        return Ok(());
    }
    Err(Error::usage("train/adapter", "the model carries an adapter, but the weights below it are to be trained")
        .hint("merge the adapter first, or train with tuning = lora"))
}

/// Fresh moments, rates by depth, masks.
pub(crate) fn optimizer<M: Differentiable>(model: &M, config: &SftConfig, masks: Option<&Masks>) -> Result<Optimizer> {
    let params = model.params();
    let mut optimizer = Optimizer::new(params, config.optim());
    if (config.layerwise_lr_decay - 1.0).abs() > f64::EPSILON {
        groups::decay_by_layer(&mut optimizer, params, config.layerwise_lr_decay);
    }
    if (config.loraplus_lr_ratio - 1.0).abs() > f64::EPSILON {
        groups::lora_plus(&mut optimizer, params, config.loraplus_lr_ratio);
    }
    for (id, mask) in masks.into_iter().flatten().filter(|(id, _)| params.get(**id).trained) {
        optimizer.set_mask(params, *id, mask.clone())?;
    }
    Ok(optimizer)
}
