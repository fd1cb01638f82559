//! The optimizer: `AdamW` or gradient descent on f32 master weights, with a rate and a decay of its own for every tensor.
//!
//! Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (algorithm 2); clipping as `clip_grad_norm_` of `PyTorch`.
//! Deviations: decay falls on matrices only; a masked tensor has moments, norm and decay of its masked entries only.
//! Cost: 8 bytes a trained entry for moments, one pass over weights, gradients and moments a step.

pub mod groups;
mod norm;
mod rule;
mod state;

use crate::mask::Mask;
use crate::{Grads, ParamId, Params};
use curate_core::{Error, Result};
use rule::Update;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use norm::sum_of_squares;

/// How a gradient becomes an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Adam with decoupled weight decay.
    #[default]
    Adamw,
    /// Gradient descent, with momentum where one is given.
    Sgd,
}

/// Where the row factors of `ALLoRA` act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlloraOn {
    /// On the finished update: the factor acts in full.
    #[default]
    Update,
    /// On the gradient, as published: under Adam a slowly changing factor nearly cancels.
    Gradient,
}

/// `ALLoRA`: each row `p` of a `LoRA` matrix B moves by a factor `1 / sqrt(|p| + 1 / eta^2)`, so that B leaves zero fast. It is meant
/// for adapters without scale: set `lora_alpha` to `r`.
///
/// Source: Huang et al., `ALLoRA` (abstract), and third-party code for the formula: the paper's own text was not at hand. Deviations: rows
/// of B only, norms renewed every step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Allora {
    /// Factor of a row that is zero.
    pub eta: f32,
    /// Where the factor acts.
    pub allora_on: AlloraOn,
}

impl Default for Allora {
    fn default() -> Self {
        Self { eta: 2.0, allora_on: AlloraOn::Update }
    }
}

impl Allora {
    /// The factor of one row.
    #[must_use]
    pub fn factor(&self, row: &[f32]) -> f32 {
        let norm = sum_of_squares(row).sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "computed in f64, used in f32")]
        let factor = (1.0 / (norm + 1.0 / f64::from(self.eta).powi(2)).sqrt()) as f32;
        factor
    }
}

/// Everything that decides an update besides the learning rate.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimConfig {
    /// How a gradient becomes an update.
    pub rule: Rule,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Momentum of gradient descent.
    pub momentum: f64,
    /// Share of a matrix that decays a step, times the learning rate.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0 for no clipping.
    pub max_grad_norm: f64,
    /// Row factors on the B matrices of adapters.
    pub allora: Option<Allora>,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            rule: Rule::Adamw,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            allora: None,
        }
    }
}

/// What is kept for one trained tensor.
#[derive(Clone, Debug, Default, PartialEq)]
struct Slot {
    lr_scale: f64,
    decays: bool,
    mask: Option<Mask>,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Whether the gradients were scaled down.
    pub clipped: bool,
    /// The first tensor with a gradient that is no number; nothing was changed then.
    pub skipped: Option<String>,
}

/// Moments and settings of all trained tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    config: OptimConfig,
    slots: Vec<Option<Slot>>,
    steps: u64,
}

impl Optimizer {
    /// Fresh moments for every trained tensor.
    #[must_use]
    pub fn new(params: &Params, config: OptimConfig) -> Self {
        let slots = params.iter().map(|(_, t)| t.trained.then(|| config.slot(&t.shape, t.data.len()))).collect();
        Self { config, slots, steps: 0 }
    }

    /// Updates made so far.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Multiply the learning rate of one tensor.
    pub fn scale_lr(&mut self, id: ParamId, factor: f64) {
        if let Some(Some(slot)) = self.slots.get_mut(id.0) {
            slot.lr_scale *= factor;
        }
    }

    /// The learning-rate factor of one tensor, where it is trained.
    #[must_use]
    pub fn lr_scale(&self, id: ParamId) -> Option<f64> {
        self.slots.get(id.0)?.as_ref().map(|slot| slot.lr_scale)
    }

    /// The mask of one tensor, where it has one.
    #[must_use]
    pub fn mask(&self, id: ParamId) -> Option<&Mask> {
        self.slots.get(id.0)?.as_ref()?.mask.as_ref()
    }

    /// Let updates change only these entries. Moments of entries that were and stay allowed are carried over, new ones start
    /// at zero, and the step count of the bias correction goes on.
    ///
    /// # Errors
    /// `mask/range` when the mask does not fit the tensor; `mask/frozen` when the tensor is not trained.
    pub fn set_mask(&mut self, params: &Params, id: ParamId, mask: Mask) -> Result<()> {
        let tensor = params.get(id);
        mask.check(&tensor.name, tensor.data.len())?;
        let Some(Some(slot)) = self.slots.get_mut(id.0) else {
            return Err(Error::usage("mask/frozen", format!("'{}' has a mask but is not trained", tensor.name))
                .hint("leave the tensor out of the mask, or do not freeze it"));
        };
        slot.take_mask(mask, &self.config);
        Ok(())
    }

    /// Bytes of moments and masks.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let slot = |s: &Slot| 4 * (s.first.len() + s.second.len() + s.mask.as_ref().map_or(0, Mask::len)) as u64;
        self.slots.iter().flatten().map(slot).sum()
    }

    /// One update of every trained tensor. A gradient that is no number changes nothing and is reported.
    pub fn step(&mut self, params: &mut Params, grads: &Grads, lr: f64) -> StepReport {
        let norm = self.grad_norm(grads);
        if !norm.is_finite() {
            let name = norm::first_not_finite(params, grads);
            return StepReport { grad_norm: norm, clipped: false, skipped: Some(name) };
        }
        let limit = self.config.max_grad_norm;
        let clipped = limit > 0.0 && norm > limit;
        let clip = if clipped { limit / (norm + 1e-6) } else { 1.0 };
        self.steps += 1;
        for (id, slot) in self.slots.iter_mut().enumerate() {
            let id = ParamId(id);
            let (Some(slot), Some(grad)) = (slot, grads.get(id)) else { continue };
            let update = Update::new(&self.config, slot.lr_scale * lr, slot.decays, (clip, self.steps));
            slot.apply(&update, params.get_mut(id), grad, &self.config);
        }
        StepReport { grad_norm: norm, clipped, skipped: None }
    }

    /// Norm over every entry that an update may change, in f64 and in a fixed order.
    #[must_use]
    pub fn grad_norm(&self, grads: &Grads) -> f64 {
        let slots = self.slots.iter().enumerate();
        let squares = slots.filter_map(|(id, slot)| Some((slot.as_ref()?, grads.get(ParamId(id))?)));
        squares.map(|(slot, grad)| norm::masked_sum(grad, slot.mask.as_ref())).sum::<f64>().sqrt()
    }
}

impl OptimConfig {
    fn keeps_first(&self) -> bool {
        self.rule == Rule::Adamw || self.momentum != 0.0
    }

    fn keeps_second(&self) -> bool {
        self.rule == Rule::Adamw
    }

    fn slot(&self, shape: &[usize], len: usize) -> Slot {
        let first = if self.keeps_first() { len } else { 0 };
        let second = if self.keeps_second() { len } else { 0 };
        Slot { lr_scale: 1.0, decays: shape.len() > 1, mask: None, first: vec![0.0; first], second: vec![0.0; second] }
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::float_cmp)]
// reason: small exact numbers
mod tests;
