//! `online.jsonl`: one object a step, with what was offered and chosen, what the learner said of it, and a digest of the
//! selector's state. Only the seconds depend on the machine; all else is what a repetition must give.

use arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use curate_core::{Error, Location, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the log in the folder of a run.
pub(super) const LOG: &str = "online.jsonl";

/// One step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Line {
    /// Step, from 1.
    pub(super) step: u64,
    /// Epoch of the candidates, from 0.
    pub(super) epoch: u64,
    /// Candidates offered.
    pub(super) candidates: usize,
    /// Digest of their row ids.
    pub(super) offered: String,
    /// Row ids chosen, best first.
    pub(super) rows: Vec<u64>,
    /// The number each was chosen by.
    pub(super) scores: Vec<f32>,
    /// Digest of the selector's state after the step.
    pub(super) state: String,
    /// Mean loss of the step, a labelled token.
    pub(super) loss: Option<f64>,
    /// Tokens trained on.
    pub(super) tokens: u64,
    /// Tokens that were probed only; null where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) probed_tokens: Option<u64>,
    /// What the learner said afterwards, in order of row id.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) signals: Map<String, Value>,
    /// Seconds of asking the learner about candidates.
    pub(super) probe_s: f64,
    /// Seconds of choosing and of learning from the feedback.
    pub(super) choose_s: f64,
    /// Seconds of training.
    pub(super) train_s: f64,
}

impl Line {
    /// The line as a repetition must give it: without seconds.
    pub(super) fn lasting(&self) -> Value {
        let still = Self { probe_s: 0.0, choose_s: 0.0, train_s: 0.0, ..self.clone() };
        serde_json::to_value(still).unwrap_or_default()
    }
}

/// The open log.
pub(super) struct Log {
    file: Option<File>,
}

impl Log {
    /// Begin a log, or go on behind the lines of the steps that the checkpoint holds.
    ///
    /// # Errors
    /// What reading and writing give.
    pub(super) fn open(out: Option<&Path>, steps: u64) -> Result<Self> {
        let Some(out) = out else { return Ok(Self { file: None }) };
        std::fs::create_dir_all(out)?;
        let path = out.join(LOG);
        let kept = if steps > 0 { read(out)? } else { Vec::new() };
        let lines = kept.iter().filter(|line| line.step <= steps).map(text).collect::<Result<String>>()?;
        curate_ingest::write_atomic(&path, lines.as_bytes())?;
        Ok(Self { file: Some(OpenOptions::new().append(true).open(path)?) })
    }

    /// Add a line.
    ///
    /// # Errors
    /// What writing gives.
    pub(super) fn write(&mut self, line: &Line) -> Result<()> {
        let text = text(line)?;
        self.file.as_mut().map_or(Ok(()), |file| Ok(file.write_all(text.as_bytes())?))
    }
}

fn text(line: &Line) -> Result<String> {
    serde_json::to_string(line).map(|text| text + "\n").map_err(|e| Error::io("json", e.to_string()))
}

/// All whole lines of a log; the last may be cut off where a run was killed.
///
/// # Errors
/// `online/log` when there is none, or when a line before the last is damaged.
pub(super) fn read(out: &Path) -> Result<Vec<Line>> {
    let path: PathBuf = out.join(LOG);
    let wrong = |what: String| {
        Error::data("online/log", what)
            .hint("name the folder of a finished 'curate train --online' run")
            .at(Location::file(path.display().to_string()))
    };
    let text = std::fs::read_to_string(&path).map_err(|e| wrong(e.to_string()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).map_err(|e| wrong(e.to_string()))).collect()
}

/// Columns of signals as lists of numbers, without those the log has anyway.
///
/// # Errors
/// What Arrow gives.
pub(super) fn signals(batch: &RecordBatch, wanted: &[curate_core::Column]) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for column in wanted {
        let Some(array) = batch.column_by_name(column.as_str()).filter(|a| a.data_type().is_numeric()) else {
            continue;
        };
        let numbers = cast(array, &DataType::Float64)?;
        let numbers: Vec<Option<f64>> = numbers.as_primitive::<Float64Type>().iter().collect();
        map.insert(column.as_str().to_owned(), serde_json::to_value(numbers).unwrap_or_default());
    }
    Ok(map)
}

/// One column of signals; empty where it is absent.
pub(super) fn column(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    let found = batch.column_by_name(name).and_then(|array| cast(array, &DataType::Float64).ok());
    let numbers: Option<Float64Array> = found.map(|array| array.as_primitive::<Float64Type>().clone());
    numbers.map(|n| (0..n.len()).map(|i| n.is_valid(i).then(|| n.value(i))).collect()).unwrap_or_default()
}
