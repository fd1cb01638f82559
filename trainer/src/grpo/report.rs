//! What a step was like: one line of the log.

use serde::Serialize;

/// One step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct GrpoReport {
    /// Steps made, this one included.
    pub step: u64,
    /// Prompts that were answered.
    pub prompts: usize,
    /// Answers drawn.
    pub rollouts: usize,
    /// Tokens drawn.
    pub tokens: u64,
    /// Mean reward.
    pub reward: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// Share of prompts whose answers have unequal rewards; the others teach nothing.
    pub informative: f64,
    /// Share of answers that came to an end of their own.
    pub finished: f64,
    /// Mean negative log-likelihood of the tokens drawn: an estimate of the entropy of the policy.
    pub entropy: f64,
    /// Updates made.
    pub updates: u64,
    /// Mean loss of the updates.
    pub loss: f64,
    /// Share of the tokens learned from whose gradient a limit cut.
    pub clip_share: f64,
    /// Mean distance from the reference, where there is one.
    pub kl: Option<f64>,
    /// Mean norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
}

/// Sums over the tokens that were learned from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Learned {
    pub(super) updates: u64,
    pub(super) loss: f64,
    pub(super) tokens: u64,
    pub(super) clipped: u64,
    pub(super) kl: f64,
    pub(super) grad_norm: f64,
}

impl Learned {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(super) fn enter(&self, report: &mut GrpoReport, reference: bool) {
        let (updates, tokens) = (self.updates.max(1) as f64, self.tokens.max(1) as f64);
        report.updates = self.updates;
        report.loss = self.loss / updates;
        report.grad_norm = self.grad_norm / updates;
        report.clip_share = self.clipped as f64 / tokens;
        report.kl = reference.then_some(self.kl / tokens);
    }
}
