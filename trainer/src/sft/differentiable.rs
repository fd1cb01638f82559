//! What the loop needs of a model: tensors, losses and gradients.

use crate::lora::Adaptable;
use crate::model::{Layer, LoraRef, Losses, Model, StepOptions};
use crate::{Batch, Grads, ParamId, Params};
use curate_core::{Ctx, Result};

/// A model with a loss and its gradient.
pub trait Differentiable {
    /// Its tensors.
    fn params(&self) -> &Params;

    /// The same, to change.
    fn params_mut(&mut self) -> &mut Params;

    /// Tokens it knows.
    fn vocab_size(&self) -> usize;

    /// Spread of fresh weights.
    fn initializer_range(&self) -> f64 {
        0.02
    }

    /// The weights that can be kept in 16 bits while they rest.
    fn compactable(&self) -> Vec<ParamId> {
        Vec::new()
    }

    /// Losses of a batch, forward only.
    ///
    /// # Errors
    /// What the model gives; `cancelled`.
    fn losses(&self, batch: &Batch, ctx: &Ctx) -> Result<Losses>;

    /// Add `scale` times the gradient of the summed loss, each row times its weight, to `grads`; the losses given back are
    /// not weighed.
    ///
    /// # Errors
    /// What the model gives; `cancelled`.
    fn gradients(
        &self,
        batch: &Batch,
        scale: f32,
        options: StepOptions,
        grads: &mut Grads,
        ctx: &Ctx,
    ) -> Result<Losses>;

    /// The transformer it is, where it is one: what must see hidden states and single maps asks for it.
    fn transformer(&self) -> Option<&Model> {
        None
    }

    /// Bytes that a training pass over so many tokens keeps besides weights and gradients; an estimate.
    fn activation_bytes(&self, tokens: usize, options: StepOptions) -> u64 {
        let _ = (tokens, options);
        0
    }
}

/// A model that every tuning method can train.
pub trait Trainable: Differentiable + Adaptable {}

impl<M: Differentiable + Adaptable> Trainable for M {}

/// Ids of all tensors.
#[must_use]
pub fn ids(params: &Params) -> Vec<ParamId> {
    params.iter().map(|(id, _)| id).collect()
}

impl Differentiable for Model {
    fn params(&self) -> &Params {
        &self.params
    }

    fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn initializer_range(&self) -> f64 {
        f64::from(self.config.initializer_range)
    }

    fn compactable(&self) -> Vec<ParamId> {
        self.layers.iter().flat_map(Layer::linears).map(|linear| linear.weight).collect()
    }

    fn losses(&self, batch: &Batch, ctx: &Ctx) -> Result<Losses> {
        Self::losses(self, batch, ctx)
    }

    fn gradients(
        &self,
        batch: &Batch,
        scale: f32,
        options: StepOptions,
        grads: &mut Grads,
        ctx: &Ctx,
    ) -> Result<Losses> {
        Self::gradients(self, batch, scale, options, grads, ctx)
    }

    fn transformer(&self) -> Option<&Model> {
        Some(self)
    }

    /// Per token and block: the input, what attention and the feed-forward part keep; and one block at work.
    fn activation_bytes(&self, tokens: usize, options: StepOptions) -> u64 {
        let config = &self.config;
        let heads = (config.heads + 2 * config.kv_heads) * config.head_dim;
        let block = 4 * config.hidden_size + 2 * heads + 3 * config.intermediate_size;
        let kept = if options.gradient_checkpointing { config.hidden_size } else { block };
        let numbers = tokens * (self.layers.len() * kept + 2 * block);
        4 * numbers as u64
    }
}

impl Adaptable for Model {
    fn linears(&self) -> Vec<(ParamId, Option<LoraRef>)> {
        let blocks = self.layers.iter().flat_map(Layer::linears);
        let head = (self.head.weight != self.embed).then_some(&self.head);
        blocks.chain(head).map(|linear| (linear.weight, linear.lora)).collect()
    }

    fn set_adapter(&mut self, weight: ParamId, adapter: Option<LoraRef>) {
        let blocks = self.layers.iter_mut().flat_map(Layer::linears_mut);
        if let Some(linear) = blocks.chain([&mut self.head]).find(|linear| linear.weight == weight) {
            linear.lora = adapter;
        }
    }
}
