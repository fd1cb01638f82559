//! The loss on rows that are not trained on.

use super::Differentiable;
use crate::eval::LossTotal;
use crate::{Batch, IGNORE, Sequence};
use curate_core::{Ctx, Result};

/// Summed loss over all sequences, `batch_size` at a time, in their order.
///
/// # Errors
/// What the model gives; `cancelled`.
pub fn eval_loss<M: Differentiable>(
    model: &M,
    sequences: &[Sequence],
    batch_size: usize,
    ctx: &Ctx,
) -> Result<LossTotal> {
    let mut total = LossTotal::default();
    for group in sequences.chunks(batch_size.max(1)) {
        ctx.tick(0)?;
        let batch = Batch::of(group);
        let losses = model.losses(&batch, ctx)?;
        let labels = batch.labels.iter().zip(&losses.token_hit).filter(|(label, _)| **label != IGNORE);
        let correct = labels.filter(|(_, hit)| **hit).count() as u64;
        total.add(&LossTotal { nll: losses.total(), tokens: losses.labels() as u64, correct });
    }
    Ok(total)
}
