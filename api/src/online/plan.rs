//! What `curate train --online` is told: `[online]` of a plan.

use crate::plan::Use;
use curate_core::{Budget, Error, Result};
use curate_trainer::data::Packing;
use curate_trainer::sft::SftConfig;
use curate_trainer::signals::SignalOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Candidates offered for each row that is trained on, unless the plan says how many.
const CANDIDATES_A_ROW: usize = 8;

/// A method that chooses every batch while the model learns.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct OnlinePlan {
    /// Method; any selector will do, too: it chooses from each batch of candidates by itself.
    #[serde(rename = "use")]
    pub name: String,
    /// Candidates a step; eight for each row of a step when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<usize>,
    /// Rounds of drawing, training and scoring, in place of a batch a step; every row is then a candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
    /// Rows drawn over all rounds: `500`, `5%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub budget: Option<Budget>,
    /// Begin every round with the base model, and train it on all rows drawn so far.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
    /// Model whose losses `signal.loss_reference` are, folder or hub id: trained on other rows, with the same tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Rows that are shuffled together and held in memory; larger corpora pass in windows of so many.
    #[serde(default = "window_rows")]
    pub window_rows: usize,
    /// How the learner takes signals for the method: whose tokens count, the sketch, bytes of activations shared with the step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub signals: SignalOptions,
    /// Parameters of the method.
    #[serde(flatten)]
    pub params: Map<String, Value>,
}

fn is_default(signals: &SignalOptions) -> bool {
    *signals == SignalOptions::default()
}

const fn window_rows() -> usize {
    65_536
}

impl OnlinePlan {
    /// The loop of a method; parameters that are the loop's own are taken for such.
    ///
    /// # Errors
    /// `plan/invalid`.
    pub(crate) fn of(method: &Use) -> Result<Self> {
        let value = serde_json::to_value(method).map_err(|e| Error::usage("plan/invalid", e.to_string()))?;
        serde_json::from_value(value)
            .map_err(|e| Error::usage("plan/invalid", format!("{}: {e}", method.name)).hint("parameters are key=value"))
    }

    /// Candidates and rows of a step.
    ///
    /// # Errors
    /// `online/candidates` when there are fewer candidates than rows; `online/option` for what the loop cannot do.
    pub(super) fn sizes(&self, sft: &SftConfig) -> Result<(usize, usize)> {
        refuse(sft)?;
        let rows = sft.batch_size.saturating_mul(sft.gradient_accumulation_steps);
        let candidates = self.candidates.unwrap_or_else(|| rows.saturating_mul(CANDIDATES_A_ROW));
        if self.rounds.is_some() && self.candidates.is_some() {
            return Err(
                Error::usage("online/candidates", "in rounds every row is a candidate").hint("leave out --candidates")
            );
        }
        if self.rounds.is_none() && (self.budget.is_some() || self.restart) {
            return Err(Error::usage("online/rounds", "a budget and a restart belong to rounds").hint("add rounds"));
        }
        if candidates < rows {
            let what = format!("{rows} rows a step cannot be chosen from {candidates} candidates");
            return Err(Error::usage("online/candidates", what)
                .hint("raise --candidates, or lower --batch-size (times gradient_accumulation_steps)"));
        }
        if self.window_rows == 0 {
            return Err(Error::usage("online/window", "window_rows is 0").hint("leave it out, or give 1 or more"));
        }
        Ok((candidates, rows))
    }
}

/// Options of a run over fixed rows that have no meaning where each batch is chosen.
fn refuse(sft: &SftConfig) -> Result<()> {
    let wrong = |option: &str, hint: &str| {
        Err(Error::usage("online/option", format!("{option} does not go with --online")).hint(hint))
    };
    if !sft.lr_sweep.is_empty() {
        return wrong("lr_sweep", "find the rate without --online first, then give --learning-rate");
    }
    if sft.packing != Packing::None {
        return wrong("packing", "batches are chosen rows, not bins of tokens; leave it out");
    }
    if sft.mft.is_some() {
        return wrong("mft", "leave it out");
    }
    if sft.early_stopping_patience.is_some() {
        return wrong("early_stopping_patience", "give --max-steps instead");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(candidates: Option<usize>, sft: &SftConfig) -> Result<(usize, usize)> {
        let (name, params) = ("random".to_owned(), Map::new());
        OnlinePlan { name, candidates, window_rows: window_rows(), params, ..OnlinePlan::default() }.sizes(sft)
    }

    #[test]
    fn rows_are_what_an_update_takes() {
        let sft = SftConfig { batch_size: 4, gradient_accumulation_steps: 2, ..SftConfig::default() };
        assert_eq!(sizes(None, &sft).unwrap(), (64, 8));
        assert_eq!(sizes(Some(8), &sft).unwrap(), (8, 8));
        assert_eq!(sizes(Some(7), &sft).unwrap_err().code(), "online/candidates");
        assert_eq!(sizes(Some(0), &sft).unwrap_err().code(), "online/candidates");
        let packed = SftConfig { packing: Packing::Bfd, ..sft };
        assert_eq!(sizes(None, &packed).unwrap_err().code(), "online/option");
    }
}
