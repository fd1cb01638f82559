//! Named random streams and Beta draws: those of the kernels, which a device computes too.

pub(crate) use curate_core::kernels::chance::{Beta, Chance};
