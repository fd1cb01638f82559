//! The workshop's model: a causal language model that is loaded, probed, trained and judged. Forward and backward are
//! written by hand on the kernels' `nn` operations: no graph, no gradient that nobody asked for, no padding.

mod batch;
pub mod builtin;
pub mod checkpoint;
pub mod data;
pub mod eval;
pub mod grpo;
pub mod lora;
pub mod mask;
pub mod model;
pub mod optim;
mod params;
pub mod posthoc;
pub mod schedule;
pub mod sft;
pub mod signals;
pub mod tokenizer;
pub mod verify;

pub use batch::{Batch, IGNORE, Sequence};
pub use params::{Grads, ParamId, Params, Tensor};
