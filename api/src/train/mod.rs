//! From a plan to a trained model, and from a model to figures: rows are rendered here, everything else is the trainer's.

mod judge;
mod model;
mod plan;
mod rows;
mod run;

pub(crate) use model::{folder_of, load as load_model};
pub(crate) use rows::{Renderer, pool_of};

pub use judge::{EvalDone, judge};
pub use plan::{EvalPlan, TrainPlan, train_options};
pub use run::{TrainDone, TrainForecast, forecast, train};
