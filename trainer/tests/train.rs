//! The training loop: on a model of closed forms, and on small transformers.

mod adapters;
mod learner;
mod learning;
mod resuming;
mod sparse;
mod toy;
mod transformer;
