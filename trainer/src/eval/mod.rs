//! Judging a model: what it answers, how surprised it is, and whether two models really differ.

mod answer;
mod digits;
mod items;
mod judge;
mod loss;
mod rational;
mod report;
mod run;
mod stats;
mod vote;

pub use answer::{gsm8k_first, gsm8k_flexible, gsm8k_last, last_number, numeric};
pub use digits::{DigitScore, digit_score};
pub use items::EvalItem;
pub use judge::{Judge, Verdict};
pub use loss::LossTotal;
pub use rational::Rational;
pub use report::{EvalReport, Measure};
pub(crate) use run::prompt_ids;
pub use run::{EvalOptions, Generate, Judged, evaluate};
pub use stats::{Comparison, Interval, mcnemar, paired_bootstrap, wilson};
pub use vote::{majority, majority_correct, pass_at};
