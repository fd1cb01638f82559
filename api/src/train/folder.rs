//! The folder of a run: nothing in it is replaced unless the plan says so, and then nothing but what a run left there.

use super::plan::TrainPlan;
use crate::plan::Plan;
use curate_core::{Error, Location, Result};
use curate_trainer::checkpoint::steps;
use std::fs;
use std::path::{Path, PathBuf};

/// What a run leaves beside its checkpoints: a name, and for a folder the file by which it is known.
const OURS: [(&str, Option<&str>); 9] = [
    ("curate.json", None),
    ("log.jsonl", None),
    ("online.jsonl", None),
    ("mask.safetensors", None),
    ("delta.safetensors", None),
    ("model", Some("config.json")),
    ("adapter", Some("adapter_config.json")),
    ("start", Some("config.json")),
    ("phase-1", Some("log.jsonl")),
];

/// How the names of folders begin in which a run keeps runs of its own.
const BELOW: [&str; 2] = ["lr-", "round-"];

/// Whether a run may begin here, and whether something must go before it.
///
/// # Errors
/// `output/exists` where a run, finished or not, would be replaced, or picks would.
pub(super) fn claim(plan: &Plan, wanted: &TrainPlan) -> Result<()> {
    let out = Path::new(&wanted.out);
    let exists = |what: String, hint: &str| {
        Err(Error::usage("output/exists", what).hint(hint).at(Location::file(wanted.out.clone())))
    };
    if out.is_file() {
        return exists("a file has the name of the output folder".to_owned(), "name another folder with -o");
    }
    if wanted.resume || plan.output.overwrite {
        return Ok(());
    }
    if out.join("curate.json").is_file() {
        let hint = "name another folder with -o, or add --overwrite to replace the run";
        return exists("the folder holds a finished run".to_owned(), hint);
    }
    if let Some(name) = begun(out)? {
        let hint = "add --resume to go on, or --overwrite to begin again";
        return exists(format!("the folder holds a run that is not finished ({name})"), hint);
    }
    if plan.select.is_some() && out.join("picks.parquet").exists() {
        let hint = "name another folder with -o, or add --overwrite to replace it";
        return exists("the folder holds a picks.parquet already".to_owned(), hint);
    }
    Ok(())
}

/// What says that a run was begun in a folder; a log without a line says nothing.
pub(super) fn begun(out: &Path) -> Result<Option<String>> {
    if let Some(step) = steps(out)?.last() {
        return Ok(Some(format!("checkpoint-{step}")));
    }
    let filled = |name: &str| fs::metadata(out.join(name)).is_ok_and(|meta| meta.is_file() && meta.len() > 0);
    let trained = |name: &str, known: &str| out.join(name).join(known).is_file();
    let found = ["log.jsonl", "online.jsonl"].into_iter().find(|name| filled(name));
    let found = found.or_else(|| trained("model", "config.json").then_some("model"));
    let found = found.or_else(|| trained("adapter", "adapter_config.json").then_some("adapter")).map(str::to_owned);
    Ok(found.or(below(out)?.first().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned())))
}

/// Runs of a run: one for each learning rate tried, or for each round.
fn below(out: &Path) -> Result<Vec<PathBuf>> {
    if !out.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if BELOW.iter().any(|start| name.starts_with(start)) && path.join("log.jsonl").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Remove what an earlier run left; never what this one reads, nor what no run wrote.
///
/// # Errors
/// `io`.
pub(super) fn clear(plan: &Plan, wanted: &TrainPlan) -> Result<()> {
    let out = Path::new(&wanted.out);
    let read = read_by(plan, wanted);
    let known = OURS.into_iter().map(|(name, known)| (out.join(name), known.map(str::to_owned)));
    let saved = steps(out)?.into_iter().map(|step| out.join(format!("checkpoint-{step}")));
    let saved = saved.map(|path| (path, Some("trainer_state.json".to_owned())));
    let lower = below(out)?.into_iter().map(|path| (path, Some("log.jsonl".to_owned())));
    for (path, known) in known.chain(saved).chain(lower) {
        let ours = known.map_or_else(|| path.is_file(), |known| path.join(known).is_file());
        let needed = fs::canonicalize(&path).is_ok_and(|path| read.iter().any(|read| read.starts_with(&path)));
        if ours && !needed {
            if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
    }
    Ok(())
}

/// Files and folders that a run reads.
fn read_by(plan: &Plan, wanted: &TrainPlan) -> Vec<PathBuf> {
    let reference = plan.online.as_ref().and_then(|online| online.reference.as_ref());
    let named = plan.input.paths.iter().chain(&plan.target).chain(&wanted.eval).chain([&wanted.model]);
    let named = named.chain(&wanted.adapter).chain(reference).chain(&plan.model);
    named.filter_map(|path| fs::canonicalize(path).ok()).collect()
}

/// A stop, with the way on: training goes on from its last checkpoint, all that is before it from the cache.
pub(super) fn way_on(error: Error, wanted: &TrainPlan) -> Error {
    let begun = begun(Path::new(&wanted.out)).ok().flatten();
    match error.code() {
        "cancelled" if begun.is_some() => error.hint("the last checkpoint is kept; add --resume to go on from it"),
        "cancelled" => error.hint("nothing was trained yet; run the same command again"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::OutputPlan;

    fn plans(out: &Path, overwrite: bool) -> (Plan, TrainPlan) {
        let train = TrainPlan { out: out.to_string_lossy().into_owned(), ..TrainPlan::default() };
        (Plan { output: OutputPlan { overwrite, ..OutputPlan::default() }, ..Plan::default() }, train)
    }

    fn hint_of(plan: &Plan, train: &TrainPlan) -> String {
        let error = claim(plan, train).unwrap_err();
        assert_eq!((error.code(), error.exit_code()), ("output/exists", 2));
        error.hint_text().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_run_is_neither_replaced_nor_begun_twice() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let (plan, train) = plans(&out, false);
        claim(&plan, &train).unwrap();
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("log.jsonl"), "").unwrap();
        claim(&plan, &train).unwrap();
        fs::write(out.join("log.jsonl"), "a log of somebody else").unwrap();
        assert!(hint_of(&plan, &train).contains("--resume"));
        fs::write(out.join("curate.json"), "{}").unwrap();
        assert!(!hint_of(&plan, &train).contains("--resume"));
        claim(&plan, &TrainPlan { resume: true, ..train }).unwrap();
        claim(&plans(&out, true).0, &plans(&out, true).1).unwrap();
    }

    #[test]
    fn only_what_a_run_left_goes_and_not_what_is_read() {
        let out = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = out.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        };
        let ours = ["log.jsonl", "curate.json", "checkpoint-2/trainer_state.json", "lr-1e-4/log.jsonl"];
        let kept = ["notes.txt", "checkpoint-3/mine.txt", "adapter/mine.txt", "model/config.json", "lr-photos/a.png"];
        ours.iter().chain(&kept).for_each(|name| put(name));
        let (plan, train) = plans(out.path(), true);
        let model = out.path().join("model").to_string_lossy().into_owned();
        clear(&plan, &TrainPlan { model, ..train }).unwrap();
        for name in ours {
            assert!(!out.path().join(name).exists(), "{name} is still there");
        }
        for name in kept {
            assert!(out.path().join(name).exists(), "{name} is gone");
        }
    }
}
