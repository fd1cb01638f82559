//! What can be done and said with two states of one model, without training: scale the change by depth, keep only what
//! moved most, report how much changed.

mod graft;
mod lines;
mod sparsity;

pub use graft::graft;
pub use lines::{LinesConfig, Outer, lines, lines_on_adapters};
pub use sparsity::{SparsityReport, TensorChange, update_sparsity};
