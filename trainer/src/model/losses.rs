//! What a pass over a batch says of its sequences.

use crate::{Batch, IGNORE};
use std::ops::Range;

/// Options of a training pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepOptions {
    /// Keep only the input of every block and compute the block again on the way back: less memory, more time, the
    /// same bits.
    pub gradient_checkpointing: bool,
}

/// Losses of a batch: sums, so that the caller divides by the labels of whatever it counts as one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// Summed negative log-likelihood of each sequence's labels.
    pub nll: Vec<f64>,
    /// Labels of each sequence.
    pub labelled: Vec<usize>,
    /// Negative log-likelihood of each token of the batch; 0 where there is no label.
    pub token_nll: Vec<f32>,
    /// Whether the label is the most likely token (the first of equals); false where there is no label.
    pub token_hit: Vec<bool>,
}

impl Losses {
    /// Zeros for a batch whose likelihoods nobody wants; only the labels are counted.
    #[must_use]
    pub(crate) fn unasked(batch: &Batch) -> Self {
        let tokens = batch.tokens.len();
        let count = |segment: &Range<usize>| {
            batch.labels[segment.clone()].iter().skip(1).filter(|label| **label != IGNORE).count()
        };
        Self {
            nll: vec![0.0; batch.segments.len()],
            labelled: batch.segments.iter().map(count).collect(),
            token_nll: vec![0.0; tokens],
            token_hit: vec![false; tokens],
        }
    }

    /// Those of the sequences behind.
    pub(super) fn append(&mut self, more: Self) {
        self.nll.extend(more.nll);
        self.labelled.extend(more.labelled);
        self.token_nll.extend(more.token_nll);
        self.token_hit.extend(more.token_hit);
    }

    /// Summed negative log-likelihood of all sequences.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.nll.iter().sum()
    }

    /// The same, each sequence times its weight in the batch.
    #[must_use]
    pub fn weighted_total(&self, batch: &Batch) -> f64 {
        self.nll.iter().zip(&batch.weights).map(|(nll, weight)| f64::from(*weight) * nll).sum()
    }

    /// Labels of all sequences.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.labelled.iter().sum()
    }

    /// Mean negative log-likelihood a label; 0 without labels.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.total() / self.labels().max(1) as f64
    }
}
