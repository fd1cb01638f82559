//! What a run leaves on the disk, and how it goes on from there: folders `checkpoint-<step>` that are whole or not there.

mod folder;
mod read;
mod state;
mod tensors;

pub use folder::{COMPANIONS, Part, copy_companions, newest, place_folder, read, rotate, steps, sweep, write_folder};
pub use read::TensorFile;
pub use state::{FileDigest, State};
pub(crate) use tensors::bytes;
pub use tensors::{Dtype, Entry, Values, place, write, write_plain};
