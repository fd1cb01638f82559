//! `trainer_state.json`: where the run stands, and what the other files of the folder must be.

use crate::data::Cursor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Size and content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Length.
    pub bytes: u64,
    /// Digest of the content.
    pub blake3: String,
}

/// Where a run stands after a whole step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Format of this file.
    pub version: u32,
    /// Steps done.
    pub global_step: u64,
    /// Steps of the whole run.
    pub max_steps: u64,
    /// The next batch.
    pub cursor: Cursor,
    /// Updates made; fewer than steps when some were skipped.
    pub updates: u64,
    /// Steps skipped in a row.
    pub skipped_in_a_row: u64,
    /// Steps skipped in all.
    pub skipped: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Lowest loss on the evaluation rows.
    #[serde(with = "exact")]
    pub best_eval_loss: Option<f64>,
    /// The step at which it was found.
    pub best_step: Option<u64>,
    /// The last step after which the run was evaluated.
    pub evaluated_step: u64,
    /// Evaluations since the best one.
    pub evals_without_gain: u32,
    /// Seed of the run.
    pub seed: u64,
    /// Digest of configuration, data and base model: a run goes on only under the same.
    pub plan_digest: String,
    /// The parts of that digest, so that a refusal can say which one differs: options by their values, all else by a digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plan: BTreeMap<String, String>,
    /// The other files of the folder.
    pub files: BTreeMap<String, FileDigest>,
}

/// Floats as text: parsed back to the same bits.
mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|x| format!("{x:?}")).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
    }
}
