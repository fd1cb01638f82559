//! From a plan to a trained model, and from a model to figures: rows are rendered here, everything else is the trainer's.

mod folder;
mod judge;
mod model;
mod pace;
mod plan;
mod rows;
mod run;
mod verify;

pub(crate) use judge::items;
pub(crate) use model::{Loaded, folder_of, for_training, load as load_model};
pub(crate) use rows::{Renderer, Rows, pool_of};
pub(crate) use run::{Trained, empty_side, learn_tokenizer, picked_already, samples};
pub(crate) use verify::{is_run, verify};

pub use judge::{EvalDone, judge};
pub use plan::{EvalPlan, TrainPlan, train_options};
pub use run::{TrainDone, TrainForecast, forecast, train};
