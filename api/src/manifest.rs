//! The manifest beside every output: the resolved plan, versions, digests of inputs, models and outputs, counts and cost.
//! `curate run` repeats it, `curate verify` checks it.

use crate::plan::Plan;
use curate_core::{Error, Group, Result, Selection};
use serde::{Deserialize, Serialize};

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// File or URL as given.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// File name, relative to the manifest.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// blake3 of its bytes.
    pub blake3: String,
}

/// How many rows went which way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows of the input.
    pub input_rows: u64,
    /// Left out by `--where`.
    pub filtered_rows: u64,
    /// Left out as unreadable.
    pub skipped_rows: u64,
    /// Left out because a model was to say something of them and cannot: the prompt alone fills its window, or there is no answer.
    #[serde(default)]
    pub unsaid_rows: u64,
    /// Left out by filters such as semantic-dedup.
    pub dropped_rows: u64,
    /// Rows the selector chose from.
    pub pool_rows: u64,
    /// Rows chosen.
    pub selected_rows: u64,
}

/// What it cost; the only part that differs between two equal runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Wall seconds of the run.
    pub seconds: f64,
    /// Wall seconds of each stage, in order.
    pub stages: Vec<(String, f64)>,
    /// Largest resident size of the process.
    pub peak_rss_bytes: u64,
    /// Worker threads.
    pub threads: usize,
    /// Device that did the arithmetic.
    pub backend: String,
    /// Units of work found in the cache.
    pub cached_units: usize,
    /// Units of work computed.
    pub computed_units: usize,
}

/// The manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of `curate` that wrote it.
    pub curate: String,
    /// Version of the cached stages' code.
    pub code_version: u32,
    /// The resolved plan.
    pub plan: Plan,
    /// The chosen reading of the input, in words.
    pub layout: String,
    /// Digest over all input units, in order.
    pub input_digest: String,
    /// The same of the target, where the method takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_digest: Option<String>,
    /// The input files.
    pub inputs: Vec<InputRecord>,
    /// Digest of the embedding model, if one was used.
    pub model: Option<String>,
    /// Row counts.
    pub counts: Counts,
    /// Digest of the choice: rows, order, scores, weights, groups, reasons.
    pub selection_digest: String,
    /// The method's own figures.
    pub report: serde_json::Map<String, serde_json::Value>,
    /// Groups and what became of them.
    pub groups: Vec<Group>,
    /// The output files.
    pub outputs: Vec<OutputRecord>,
    /// What it cost.
    pub cost: Cost,
}

/// Where the manifest of an output lies: `OUT.curate.json`, or `OUT/curate.json` for a folder of shards; a device has none.
#[must_use]
pub fn manifest_path(output: &str) -> Option<String> {
    let kind = std::fs::metadata(output).map(|meta| meta.file_type());
    if output.ends_with('/') || kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
        return Some(format!("{}/curate.json", output.trim_end_matches('/')));
    }
    kind.map_or(true, |kind| kind.is_file()).then(|| format!("{output}.curate.json"))
}

/// Read the manifest of an output.
///
/// # Errors
/// `manifest/missing`, `manifest/invalid`, `manifest/training` for the folder of a training run.
pub fn read_manifest(output: &str) -> Result<Manifest> {
    let path = manifest_path(output).unwrap_or_default();
    let text = curate_ingest::read_whole(&path).map_err(|e| {
        Error::io("manifest/missing", format!("cannot read {path}: {e}"))
            .hint("give the output of 'curate select'; its manifest must lie beside it")
    })?;
    serde_json::from_slice(&text).map_err(|e| {
        of_training(output, &text).unwrap_or_else(|| {
            Error::data("manifest/invalid", format!("{path}: {e}"))
                .hint("the file was changed or written by another version")
        })
    })
}

/// The error for the manifest of a training run, where it is one.
fn of_training(output: &str, manifest: &[u8]) -> Option<Error> {
    let found: serde_json::Value = serde_json::from_slice(manifest).ok()?;
    found["plan"].get("train").filter(|train| train.is_object())?;
    let picks = format!("{}/picks.parquet", output.trim_end_matches('/'));
    let hint = if std::path::Path::new(&picks).is_file() {
        format!("name the rows that it chose: {picks}")
    } else {
        "the rows were not chosen by this run; name the output of the 'curate select' that chose them".to_owned()
    };
    let what = format!("{output} is the folder of a training run, not a selection");
    Some(Error::usage("manifest/training", what).hint(hint))
}

/// Digest of all that a selection says.
#[must_use]
pub fn selection_digest(selection: &Selection) -> String {
    let mut hasher = blake3::Hasher::new();
    for pick in &selection.picks {
        hasher.update(&pick.row.to_le_bytes());
        hasher.update(&pick.score.to_bits().to_le_bytes());
        hasher.update(&pick.weight.to_bits().to_le_bytes());
        hasher.update(&pick.group.map_or(u64::MAX, u64::from).to_le_bytes());
        hasher.update(&(pick.reason.len() as u64).to_le_bytes());
        hasher.update(pick.reason.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
