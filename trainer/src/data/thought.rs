//! Masked thought: hides part of the answer from the model's eyes, while every token of it is still to be predicted.
//!
//! Each input token of the answer, end included, is replaced independently with probability
//! `p(step) = p * min(1, step / (2/3 * steps))`; labels and prompt stay as they are.
//! Source: Chen et al. 2024, Masked Thought (arXiv 2403.02178); ChangyuChen347/MaskedThought. The released GSM8K script
//! draws a random token of the vocabulary (`random`), the MATH script puts a mask token (`mask`).
//! Deviation: the draw is keyed by (step, row), so that batching and threads cannot change it. Cost: O(tokens).

use crate::{Batch, IGNORE};
use curate_core::{Ctx, Error, Result};

/// What stands in for a hidden token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// This token: a mask token, or padding.
    Mask(u32),
    /// A token drawn from a vocabulary of this size.
    Random(u32),
}

/// The collator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskedThought {
    p: f64,
    replace: Replace,
    steps: u64,
}

impl MaskedThought {
    /// Hide a share `p` of the answers' tokens, reached after two thirds of `steps`.
    ///
    /// # Errors
    /// `data/mft` when `p` is no probability, or the vocabulary is empty.
    pub fn new(p: f64, replace: Replace, steps: u64) -> Result<Self> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::usage("data/mft", format!("mft_p is {p}, not a probability"))
                .hint("0.4 was used for GSM8K, 0.2 for MATH; 0 switches it off"));
        }
        if replace == Replace::Random(0) {
            return Err(Error::usage("data/mft", "the vocabulary to draw from is empty").hint("give its size"));
        }
        Ok(Self { p, replace, steps })
    }

    /// The share hidden at a step, counted from 0.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "steps stay far below 2^52")]
    pub fn share(&self, step: u64) -> f64 {
        let warm = 2.0 / 3.0 * self.steps as f64;
        if step as f64 >= warm { self.p } else { self.p * (step as f64 / warm) }
    }

    /// Hide tokens of a batch.
    pub fn apply(&self, batch: &mut Batch, step: u64, ctx: &Ctx) {
        let share = self.share(step);
        if share <= 0.0 {
            return;
        }
        let stream = ctx.labelled(&format!("masked thought {step}")).stream("token");
        for (segment, row) in batch.segments.iter().zip(&batch.rows) {
            let mut rng = stream(*row);
            for at in segment.clone().filter(|&at| batch.labels[at] != IGNORE) {
                if rng.uniform() < share {
                    batch.tokens[at] = match self.replace {
                        Replace::Mask(id) => id,
                        Replace::Random(vocab) => u32::try_from(rng.below(u64::from(vocab))).unwrap_or(0),
                    };
                }
            }
        }
    }
}
