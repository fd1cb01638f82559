//! What travels: bodies and answers as `docs/http.md` tells them. The schemas of the contract are made from these structs.

use crate::problem::Problem;
use curate_api::Plan;
use curate_api::serving::Rendering;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a session is to be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSpec {
    /// Name in paths; drawn when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,64}$"))]
    pub id: Option<String>,
    /// Input, seed, and `select` (chosen once, then streamed) or `online` (chosen step by step). Without input the trainer brings the candidates.
    pub plan: Plan,
    /// Rows a rank and step.
    #[serde(default = "batch")]
    #[schemars(range(min = 1, max = 65536))]
    pub batch: usize,
    /// Trainers that share every step.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 4096))]
    pub ranks: u32,
    /// Candidates a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub candidates: Option<usize>,
    /// Passes over the rows; without end when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub epochs: Option<u64>,
    /// Order of a streamed choice.
    #[serde(default)]
    pub order: Order,
    /// Steps of feedback that may be outstanding when the next batch is chosen.
    #[serde(default)]
    #[schemars(range(max = 1024))]
    pub lag: u64,
    /// Shape of a row.
    #[serde(default)]
    pub render: Rendering,
    /// Original columns wanted; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Model folder or hub id whose tokenizer and chat template render rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Longest sequence, tokens.
    #[serde(default = "max_length")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_length: usize,
}

const fn batch() -> usize {
    8
}

const fn one() -> u32 {
    1
}

const fn max_length() -> usize {
    1024
}

/// Order of a streamed choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Shuffled anew every epoch, by the seed.
    #[default]
    Shuffled,
    /// Best first.
    Rank,
}

/// A session as people and trainers see it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SessionInfo {
    /// Its name.
    pub id: String,
    /// `preparing`, `ready`, `ended` or `failed`.
    pub status: &'static str,
    /// Seconds since 1970.
    pub created: f64,
    /// The method.
    pub method: String,
    /// `stream` or `online`.
    pub kind: &'static str,
    /// Seed of every draw.
    pub seed: u64,
    /// Rows a rank and step.
    pub batch: usize,
    /// Trainers that share every step.
    pub ranks: u32,
    /// Steps of feedback that may be outstanding.
    pub lag: u64,
    /// Rows that can be drawn; 0 where the trainer brings them.
    pub rows: u64,
    /// Last step proposed.
    pub step: u64,
    /// Last step whose feedback was taken in.
    pub observed: u64,
    /// Epoch of the last step.
    pub epoch: u64,
    /// Epochs in all.
    pub epochs: Option<u64>,
    /// Whether it is paused.
    pub paused: bool,
    /// Shape of a row.
    pub render: Rendering,
    /// Signals of candidates (`before`) and of trained rows (`after`) that the method wants.
    pub needs: NeedsInfo,
    /// Whether the trainer brings the candidates.
    pub brings_candidates: bool,
    /// Where the session stands.
    pub cursor: String,
    /// How far the preparation is.
    pub progress: Option<ProgressInfo>,
    /// Why it failed.
    pub error: Option<Problem>,
    /// What was asked for.
    pub spec: Value,
}

/// Columns a method wants.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct NeedsInfo {
    /// Of candidates.
    pub before: Vec<String>,
    /// Of trained rows.
    pub after: Vec<String>,
}

/// A node of the progress tree.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ProgressInfo {
    /// What is done.
    pub label: String,
    /// Units done.
    pub done: u64,
    /// Units in all; 0 when not known.
    pub total: u64,
    /// Seconds since it began.
    pub seconds: f64,
    /// A word on the present state.
    pub note: String,
    /// Whether it is finished.
    pub finished: bool,
    /// Parts.
    pub children: Vec<ProgressInfo>,
}

impl From<&curate_api::Snapshot> for ProgressInfo {
    fn from(node: &curate_api::Snapshot) -> Self {
        Self {
            label: node.label.clone(),
            done: node.done,
            total: node.total,
            seconds: node.elapsed_secs,
            note: node.note.clone(),
            finished: node.finished,
            children: node.children.iter().map(Self::from).collect(),
        }
    }
}

/// Rows with signals, by name without `signal.`; a vector a row is a list of numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signals {
    /// Row numbers.
    pub rows: Vec<u64>,
    /// One number, or one list of numbers, a row.
    #[serde(default)]
    pub signals: BTreeMap<String, Vec<Value>>,
}

/// Ask for a batch.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposeBody {
    /// The next step, or an earlier one once more.
    #[schemars(range(min = 1))]
    pub step: u64,
    /// Which trainer asks.
    #[serde(default)]
    pub rank: u32,
    /// Seconds to wait for a batch that is not ready; 20 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 60.0))]
    pub wait_s: Option<f64>,
    /// Signals of candidates, where the method wants them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Signals>,
}

/// A batch.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Batch {
    /// Session.
    pub session: String,
    /// Step.
    pub step: u64,
    /// Rank.
    pub rank: u32,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Whether the stream has ended; then there are no rows.
    pub end: bool,
    /// Where the session stands behind this step.
    pub cursor: String,
    /// The method.
    pub method: String,
    /// The rows.
    pub rows: Vec<BatchRow>,
}

/// A row of a batch.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BatchRow {
    /// Number of the row in the input.
    pub row: u64,
    /// Weight in the loss.
    pub weight: f32,
    /// The number the choice was made by.
    pub score: f32,
    /// Cluster or stratum.
    pub group: Option<u32>,
    /// The row as asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Map<String, Value>>,
}

/// Say what a trainer saw of the rows of a step.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedbackBody {
    /// Step of the batch.
    #[schemars(range(min = 1))]
    pub step: u64,
    /// Which trainer speaks.
    #[serde(default)]
    pub rank: u32,
    /// Rows of the batch, some or all, each once.
    #[serde(default)]
    pub rows: Vec<u64>,
    /// One number a row, by name without `signal.`.
    #[serde(default)]
    pub signals: BTreeMap<String, Vec<Value>>,
    /// Nothing will come for this step.
    #[serde(default)]
    pub skip: bool,
}

/// Signals were taken.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FeedbackDone {
    /// Session.
    pub session: String,
    /// Step.
    pub step: u64,
    /// Rank.
    pub rank: u32,
    /// Last step whose feedback the method took in.
    pub observed: u64,
    /// Whether the same was said before.
    pub replayed: bool,
    /// Where the session stands behind this step.
    pub cursor: String,
}

/// Go back to a step.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeekBody {
    /// Cursor of the step.
    #[serde(default)]
    pub cursor: Option<String>,
    /// The step; 0 is the beginning.
    #[serde(default)]
    pub step: Option<u64>,
}

/// Change the weight of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SteerBody {
    /// The cluster.
    pub group: u32,
    /// What its weight is multiplied by.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub factor: f64,
    /// Name of the change: the same name again changes nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Run a plan.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobBody {
    /// Name in paths; drawn when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,64}$"))]
    pub id: Option<String>,
    /// The plan; `output.path` is a plain file name or left out.
    pub plan: Plan,
}

/// A job as people see it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct JobInfo {
    /// Its name.
    pub id: String,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    pub status: String,
    /// Seconds since 1970.
    pub created: f64,
    /// When it began.
    pub started: Option<f64>,
    /// When it ended.
    pub finished: Option<f64>,
    /// How far it is.
    pub progress: Option<ProgressInfo>,
    /// Why it failed.
    pub error: Option<Value>,
    /// What it gave: `rows`, `path`, `bytes`, `manifest`.
    pub result: Option<Value>,
    /// The plan.
    pub plan: Value,
}
