//! Rules that tell a right answer from a wrong one: rewards for a model that learns from its own answers, and the judges of
//! an evaluation. A rule reads an answer once or twice and computes with numbers of limited size, so that no answer,
//! however hostile, takes long.

mod countdown;
mod expression;

pub(crate) use countdown::judge;
pub use countdown::{Puzzle, countdown, extract};
pub use expression::{Refusal, check, evaluate};

use crate::eval::{Judge, Verdict};

/// Longest answer a rule looks at, bytes; a longer one is wrong.
const MAX_BYTES: usize = 1 << 20;

/// A rule that judges answers.
pub trait Verifier: Send + Sync {
    /// Name in reports.
    fn name(&self) -> &'static str;

    /// Judge what a model wrote by the label of its question. It must come to an end soon, whatever the text is.
    fn verify(&self, completion: &str, label: &str) -> Verdict;
}

/// The rules with a name: `curate eval --judge NAME`, and `judge` in the configuration of GRPO.
impl Verifier for Judge {
    fn name(&self) -> &'static str {
        Self::name(*self)
    }

    fn verify(&self, completion: &str, label: &str) -> Verdict {
        if completion.len() > MAX_BYTES {
            return Verdict::default();
        }
        self.judge(completion, label)
    }
}
