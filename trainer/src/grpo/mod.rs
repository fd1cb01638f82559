//! Learning from one's own answers: several answers to every prompt, judged by a rule, the better ones made likelier.
//!
//! Group relative policy optimisation. Source: Shao et al. 2024, `DeepSeekMath` (arXiv 2402.03300, section 4.1); Yu et al. 2025, DAPO (2503.14476:
//! higher upper clip, mean over tokens, dynamic sampling); Liu et al. 2025, Dr. GRPO (2503.20783: no division by deviation or
//! length). Names of options as in TRL. Deviations: an answer whose advantage is 0 is not passed through the model unless there is a
//! pull to a reference, since its gradient is 0; a step in which no answer has a gradient makes no update.
//! Cost of a step with n answers a prompt: n answers generated, with a cache, and `num_iterations` training passes over those that
//! carry a gradient; a pull to a reference adds a forward pass.

mod advantage;
mod config;
mod feedback;
mod learner;
mod objective;
mod report;
mod rollout;
mod save;
mod update;

pub use advantage::advantages;
pub use config::{GrpoConfig, LossType, ScaleRewards};
pub use feedback::GRPO_SIGNALS;
pub use learner::GrpoLearner;
pub use objective::{Objective, TokenTerm};
pub use report::GrpoReport;
