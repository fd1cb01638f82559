//! The training loop: on a model of closed forms, and on small transformers.
#![allow(
    clippy::cast_precision_loss,      // reason: small sizes
    clippy::cast_possible_truncation  // reason: the toy computes in f64 and keeps f32
)]

mod adapters;
mod learner;
mod learning;
mod resuming;
mod signals;
mod sparse;
mod toy;
mod transformer;
mod weights;
