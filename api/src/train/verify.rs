//! `curate verify RUN` for a run over fixed rows: its picks, its files, its log. Training itself is not repeated.

use crate::host::Host;
use crate::manifest::OutputRecord;
use crate::verify::Check;
use curate_core::{Error, Location, Result};
use curate_ingest::digest_whole;
use curate_trainer::checkpoint::{TensorFile, newest, steps};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// What is read again of a finished run.
#[derive(Deserialize)]
struct Finished {
    report: Steps,
    model: String,
    #[serde(default)]
    files: Vec<OutputRecord>,
    plan: Value,
}

#[derive(Deserialize)]
struct Steps {
    steps: u64,
    #[serde(default)]
    sweep: Option<Value>,
}

/// Whether a folder holds a run over fixed rows, finished or not.
pub(crate) fn is_run(output: &str) -> bool {
    let folder = Path::new(output);
    let manifest = std::fs::read(folder.join("curate.json")).ok();
    match manifest.and_then(|text| serde_json::from_slice::<Value>(&text).ok()) {
        Some(manifest) => {
            manifest["plan"].get("train").is_some_and(Value::is_object) && manifest["report"]["steps"].is_u64()
        }
        None => folder.join("log.jsonl").is_file(),
    }
}

/// The files of a trained model with their digests.
///
/// # Errors
/// `io`.
pub(super) fn record(model: &Path) -> Result<Vec<OutputRecord>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(model)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let path = entry.file_name().to_string_lossy().into_owned();
            let blake3 = digest_whole(&entry.path().to_string_lossy())?;
            found.push(OutputRecord { path, rows: 0, bytes: entry.metadata()?.len(), blake3 });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Check a finished run.
///
/// # Errors
/// `manifest/invalid` for a run that is not finished; what replaying its picks gives.
pub(crate) fn verify(output: &str, host: &Host) -> Result<Vec<Check>> {
    let folder = Path::new(output);
    let done = finished(folder)?;
    let mut checks = Vec::new();
    if done.plan.get("select").is_some_and(Value::is_object) {
        let picks = folder.join("picks.parquet").to_string_lossy().into_owned();
        let found = crate::verify::verify(&picks, host)?;
        checks.extend(found.into_iter().map(|check| Check { what: format!("picks: {}", check.what), ..check }));
    }
    let name = Path::new(&done.model).file_name().unwrap_or_default();
    checks.extend(files(&folder.join(name), &done.files));
    checks.push(log(folder, &done.report));
    if !steps(folder)?.is_empty() {
        let damage = newest(folder).err().map(|error| error.to_string());
        checks.push(Check::new("checkpoint", damage.is_none(), damage.unwrap_or_default()));
    }
    Ok(checks)
}

fn finished(folder: &Path) -> Result<Finished> {
    let path = folder.join("curate.json");
    let wrong = |what: String, hint: &str| {
        Error::data("manifest/invalid", what).hint(hint).at(Location::file(path.display().to_string()))
    };
    let text = std::fs::read(&path)
        .map_err(|e| wrong(e.to_string(), "only a finished run can be checked; go on with it by --resume first"))?;
    serde_json::from_slice(&text)
        .map_err(|e| wrong(e.to_string(), "the file was changed or written by another version"))
}

/// The files of the model: those that were written, and the tensors whole.
fn files(folder: &Path, written: &[OutputRecord]) -> Vec<Check> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let same = |file: &OutputRecord| {
        let what = format!("file {name}/{}", file.path);
        match digest_whole(&folder.join(&file.path).to_string_lossy()) {
            Ok(found) => Check::new(what, found == file.blake3, "its bytes are not those that were written"),
            Err(e) => Check::new(what, false, format!("it cannot be read: {e}")),
        }
    };
    let mut checks: Vec<Check> = written.iter().map(same).collect();
    if checks.is_empty() {
        checks.push(tensors(folder, &name));
    }
    checks
}

/// Of a run whose files have no digests: whether their tensors are whole.
fn tensors(folder: &Path, name: &str) -> Check {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    let broken = files.iter().find_map(|path| TensorFile::open(path).err()).map(|error| error.to_string());
    let detail = if files.is_empty() { Some("there are no tensors".to_owned()) } else { broken };
    Check::new(format!("tensors of {name}"), detail.is_none(), detail.unwrap_or_default())
}

/// Whether the log has every step once, in order.
fn log(folder: &Path, done: &Steps) -> Check {
    let best = done.sweep.as_ref().and_then(|sweep| sweep["best"].as_f64()).map(|rate| format!("lr-{rate:e}"));
    let path = best.map_or_else(|| folder.to_owned(), |best| folder.join(best)).join("log.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found: Vec<u64> = lines.filter(|line| line["loss"].is_number()).filter_map(|l| l["step"].as_u64()).collect();
    let whole = found.iter().copied().eq(1..=done.steps);
    Check::new(
        format!("log of {} steps (they are not made again)", done.steps),
        whole,
        format!("{} steps are in {}", found.len(), path.display()),
    )
}
