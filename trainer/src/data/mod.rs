//! Rows for the model: texts with marked ranges become labelled token sequences, sequences become batches.

mod columns;
mod mark;
mod pack;
mod plan;
mod preview;
mod sequences;
mod thought;

pub use columns::{TEXT, TRAINED, WEIGHT, trained_column};
pub use pack::{Packing, pack};
pub use plan::{Cursor, Feed, Plan};
pub use preview::{Sample, preview};
pub use sequences::{Dataset, DatasetReport, sequences, tokenised, weightless};
pub use thought::{MaskedThought, Replace};

use curate_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which tokens carry a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LossOn {
    /// Answers only: the ranges marked in the column `text.trained`.
    #[default]
    Completion,
    /// Every token.
    All,
}

/// How a text becomes a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceOptions {
    /// Longest sequence, tokens.
    pub max_length: usize,
    /// Which tokens carry a loss.
    pub loss_on: LossOn,
    /// Whether an answer without an end of its own gets the end token, with a label.
    pub append_eos: bool,
}

impl SequenceOptions {
    /// At most `max_length` tokens, loss on the answers, ends learned.
    #[must_use]
    pub const fn new(max_length: usize) -> Self {
        Self { max_length, loss_on: LossOn::Completion, append_eos: true }
    }

    /// Check against the context of a model, where there is one.
    ///
    /// # Errors
    /// `data/max-length` when nothing could be learned, or when it is longer than the model's context.
    pub fn check(&self, context: Option<usize>) -> Result<()> {
        let refuse = |why: String, hint: String| Err(Error::usage("data/max-length", why).hint(hint));
        let max = self.max_length;
        match context {
            _ if max < 2 => {
                refuse(format!("max_length {max} leaves no token to predict"), "set max_length to 2 or more".into())
            }
            Some(context) if max > context => refuse(
                format!("max_length {max} is longer than the model's context of {context} tokens"),
                format!("set max_length to {context} or less"),
            ),
            _ => Ok(()),
        }
    }
}
