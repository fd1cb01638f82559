//! Supervised fine-tuning: from sequences and a configuration to a trained model, step by step, stopped and resumed at will.

mod alarm;
mod anchor;
mod config;
mod differentiable;
mod evaluate;
mod forecast;
mod generated;
mod learner;
mod log;
mod look;
mod prepare;
mod resume;
mod run;
mod save;
mod session;
mod shelf;
mod sweep;
mod tuning;
mod two_phase;

pub use config::{MftConfig, MftReplace, RestingDtype, SftConfig};
pub use differentiable::{Differentiable, Trainable, ids};
pub use evaluate::eval_loss;
pub use forecast::{Forecast, forecast};
pub use learner::SftLearner;
pub use run::{Stopped, TrainReport, Trainer};
pub use sweep::{Arm, Sweep};
pub use tuning::{LtSftConfig, SparseConfig, Tuning};

pub(crate) use log::Log;
pub(crate) use prepare::{mark, optimizer};
pub(crate) use save::{parts, restore};
