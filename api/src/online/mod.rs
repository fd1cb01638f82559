//! Online selection: every batch is chosen while the model learns. Candidates come from the input in seeded order, the method
//! chooses, the learner learns, the method hears what came of it; all is logged, and a stopped run goes on to the bit.

mod checkpoint;
pub(crate) mod columns;
mod examples;
mod forecast;
mod grpo;
mod log;
pub(crate) mod method;
mod plan;
mod pupil;
mod ready;
mod report;
mod rounds;
mod run;
mod session;
pub(crate) mod state;
mod stream;
mod verify;

pub use forecast::OnlineForecast;
pub(crate) use forecast::forecast;
pub(crate) use grpo::train as train_grpo;
pub use plan::OnlinePlan;
pub(crate) use ready::possible;
pub use report::OnlineReport;
pub(crate) use run::train;
pub(crate) use stream::lot;
pub(crate) use verify::{is_run, verify};
