//! Giving every row a number, higher = rather keep: one file a scorer, one line here for each. A scorer reads columns of the
//! pool (texts, vectors, what a model said of the rows), never a model. [`Expression`] combines scores, [`fit_rule`] fits a
//! linear rule to runs of one's own.

#![allow(clippy::needless_for_each)] // reason: as in the kernels
#![cfg_attr(test, allow(clippy::float_cmp))] // reason: same bits is the promise

pub mod expression;
mod fit;
mod linear;
mod reading;
mod rule;
mod sasrec;
mod vectors;
pub mod words;

pub use expression::Expression;
pub use fit::{Fit, fit_rule};
pub use influence::{Damping, inverse_hessian};
pub use reading::text_column;
pub use rule::{Rule, Term};

use curate_core::{Scorer, register};

register! {
    /// The scorers.
    dyn Scorer, SCORERS:
    length::Length,
    mtld::Mtld,
    knn_distance::KnnDistance,
    perplexity::Perplexity,
    ifd::Ifd,
    instructmining::InstructMining,
    effort::Effort,
    influence::Influence,
}

/// Names of all scorers, for [`Expression::parse`].
#[must_use]
pub fn names() -> Vec<&'static str> {
    SCORERS.iter().map(|entry| entry.info.name).collect()
}
