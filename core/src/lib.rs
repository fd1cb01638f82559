//! The vocabulary of the house: what walks from room to room ([`Pool`], [`Column`], [`Selection`]), what accompanies it
//! ([`Ctx`], [`Error`]), what a room can be asked to do (the five traits) and how algorithms are entered in the tables
//! ([`register!`]). No algorithm, no input or output, no async lives here.

mod budget;
mod column;
mod ctx;
mod error;
mod feedback;
mod guard;
mod memo;
mod memory;
mod pool;
mod progress;
mod registry;
mod rng;
mod selection;
mod traits;

pub use budget::Budget;
pub use column::Column;
pub use ctx::{Cancel, Ctx};
pub use curate_kernels as kernels;
pub use error::{Error, Location, Result, Room};
pub use feedback::{Feedback, Needs, State};
pub use guard::{guarded, report_panics};
pub use memo::Memo;
pub use memory::{Memory, format_bytes, parse_bytes};
pub use pool::{ChunkSource, MatrixBlock, Pool};
pub use progress::{Progress, Snapshot};
pub use registry::{Algorithm, Entry, Info, ParamDoc, find, params_table};
#[doc(hidden)]
pub use registry::{default_params, make};
pub use rng::Rng;
pub use selection::{Assessment, Group, Pick, Selection, assessment_schema};
pub use traits::{Embedder, Filter, Learner, Once, OnlineSelector, Scorer, Selector, Verdict};

/// Re-exported so that algorithm files need only this crate in scope for the `register!` macro.
#[doc(hidden)]
pub use schemars;
