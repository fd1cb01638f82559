//! Gradients with a weight for every token, as policy gradients need them.
//!
//! Formula: with `nll_t = -ln softmax(z_t / T)[token]`, the gradient is `sum_t w_t(nll_t) d nll_t / d weights`, where the weight may
//! depend on the likelihood the token has now. Source: the policy gradient theorem (Williams 1992); the chain rule. Deviation: weights
//! are asked for between forward and backward, so that one pass serves both. Cost: one read and write of the logits more.

use super::forward::Pass;
use super::head::HeadRun;
use super::{Losses, Model, StepOptions};
use crate::{Batch, Grads};
use curate_core::kernels::nn::TokenLoss;
use curate_core::{Ctx, Result};
use rayon::prelude::*;

/// How the likelihood of tokens is read and weighed.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    /// Logits are divided by this.
    pub temperature: f32,
    /// The weight of the token at a place of the batch, which has this negative log-likelihood now.
    pub weight: &'a (dyn Fn(usize, f32) -> f32 + Sync),
}

impl Policy<'_> {
    /// Divide the logits by the temperature.
    #[expect(clippy::float_cmp, reason = "a temperature of 1 changes nothing")]
    pub(super) fn heat(&self, logits: &mut [f32]) {
        if self.temperature != 1.0 {
            logits.par_iter_mut().for_each(|logit| *logit /= self.temperature);
        }
    }

    /// Multiply the gradient of every row of logits by the weight of its token.
    pub(super) fn weigh(&self, gradients: &mut [f32], at: &[usize], found: &[TokenLoss]) {
        let width = gradients.len() / found.len().max(1);
        let rows = gradients.par_chunks_exact_mut(width.max(1)).zip(at).zip(found);
        rows.for_each(|((row, at), loss)| {
            let weight = (self.weight)(*at, loss.nll) / self.temperature;
            for gradient in row.iter_mut() {
                *gradient *= weight;
            }
        });
    }
}

impl Model {
    /// Negative log-likelihoods at a temperature, forward only.
    ///
    /// # Errors
    /// As [`Model::losses`].
    pub fn policy_losses(&self, batch: &Batch, temperature: f32, ctx: &Ctx) -> Result<Losses> {
        let pass = Pass::new(self, batch)?;
        let x = pass.blocks(ctx, |_, saved| saved.free(self))?;
        let policy = Policy { temperature, weight: &|_, _| 1.0 };
        let losses = HeadRun { model: self, batch, below: false, policy: Some(&policy) }.losses(&x, ctx);
        self.arena.give([x]);
        losses
    }

    /// Add the weighted gradient of the negative log-likelihoods to `grads`; the losses given back are not weighed.
    ///
    /// # Errors
    /// As [`Model::losses`].
    pub fn policy_gradients(
        &self,
        batch: &Batch,
        policy: &Policy,
        options: StepOptions,
        grads: &mut Grads,
        ctx: &Ctx,
    ) -> Result<Losses> {
        self.learn(batch, (1.0, Some(policy)), options, grads, ctx)
    }
}
