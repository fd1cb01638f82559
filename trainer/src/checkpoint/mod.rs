//! What a run leaves on the disk, and how it goes on from there: folders `checkpoint-<step>` that are whole or not there.

mod folder;
mod state;
mod tensors;

pub use folder::{Part, newest, read, rotate, steps, write_folder};
pub use state::{FileDigest, State};
pub(crate) use tensors::bytes;
pub use tensors::{Entry, Precision, TensorFile, Values, place, write, write_plain};
