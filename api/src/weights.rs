//! Arithmetic on two states of one model, without training: `curate weights`. Reads model folders, hub ids or adapters, writes
//! model folders that are whole or not there.

use crate::host::Host;
use crate::select::pretty;
use crate::train::folder_of;
use curate_core::{Ctx, Error, Location, Result};
use curate_trainer::checkpoint::{copy_companions, place_folder};
use curate_trainer::lora::{LoraConfig, load_adapter, merge, save_adapter};
use curate_trainer::mask::Mask;
use curate_trainer::mask::delta::{SparseDelta, compose};
use curate_trainer::mask::movement::{Masks, changed};
use curate_trainer::model::{Dtype, Model};
use curate_trainer::posthoc::{LinesConfig, SparsityReport, graft, lines, lines_on_adapters, update_sparsity};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const ADAPTER: &str = "adapter_config.json";

/// Two states of one model.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Where it began: folder or hub id.
    pub base: String,
    /// What training made of it: folder, hub id, or the folder of an adapter on the base.
    pub tuned: String,
}

/// Where a result goes.
#[derive(Clone, Debug)]
pub struct Place {
    /// Folder or file.
    pub path: String,
    /// Whether what is there may be replaced.
    pub overwrite: bool,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct WeightsDone {
    /// Version of `curate` that wrote it.
    pub curate: String,
    /// Which tool, of what, with which parameters.
    pub done: Value,
    /// Folder or file.
    pub wrote: String,
    /// Entries of the model.
    pub entries: u64,
    /// Entries of the result that differ from the base.
    pub changed: u64,
}

/// How much an update changed.
#[derive(Clone, Debug, Serialize)]
pub struct UpdateReport {
    /// The two states.
    pub pair: Pair,
    /// Format of the weights of both; the share of unchanged entries depends on it.
    pub dtypes: [String; 2],
    /// The figures.
    pub report: SparsityReport,
}

/// A model, the folder it came from, and the adapter that was on it.
struct State {
    model: Model,
    folder: PathBuf,
    adapter: Option<LoraConfig>,
}

/// Keep less of the change in lower blocks (`LiNeS`). Of an adapter the result is an adapter.
///
/// # Errors
/// `weights/alpha`, `model/*`, `output/*`, `lora/*`.
pub fn scale(pair: &Pair, config: &LinesConfig, place: &Place, host: &Host) -> Result<WeightsDone> {
    if ![Some(config.alpha), config.beta].into_iter().flatten().all(|x| (0.0..=1.0).contains(&x)) {
        return Err(Error::usage("weights/alpha", "alpha and beta are shares of the change")
            .hint("give numbers from 0 (base) to 1 (tuned)"));
    }
    free_folder(place)?;
    host.install(|| {
        let ctx = host.ctx(0)?;
        let base = open(&pair.base, host, &ctx)?;
        let done = json!({"tool": "lines", "pair": pair, "config": config});
        let mut tuned = open_tuned(pair, host, &ctx)?;
        if let Some(lora) = &tuned.adapter {
            lines_on_adapters(&mut tuned.model.params, config)?;
            let done = made(done, place, (&base, &merged_copy(&tuned)))?;
            put_folder(place, &done, |folder| save_adapter(&tuned.model, lora, &pair.base, folder))?;
            return Ok(done);
        }
        lines(&base.model.params, &mut tuned.model.params, config)?;
        write_model(done, place, (&base, &tuned))
    })
}

/// Give the base the entries that moved most.
///
/// # Errors
/// `graft/share`, `model/*`, `output/*`.
pub fn graft_onto(pair: &Pair, (share, everything): (f64, bool), place: &Place, host: &Host) -> Result<WeightsDone> {
    free_folder(place)?;
    host.install(|| {
        let ctx = host.ctx(0)?;
        let (base, mut grafted) = both(pair, host, &ctx)?;
        grafted.model.params = graft(&base.model.params, &grafted.model.params, share, everything)?.0;
        let done = json!({"tool": "graft", "pair": pair, "share": share, "everything": everything});
        write_model(done, place, (&base, &grafted))
    })
}

/// Say how much changed between the two states.
///
/// # Errors
/// `model/*`; `cancelled`.
pub fn update_report(pair: &Pair, (atol, ranks): (f32, bool), host: &Host) -> Result<UpdateReport> {
    host.install(|| {
        let ctx = host.ctx(0)?;
        let (base, tuned) = both(pair, host, &ctx)?;
        let ctx = ctx.child("compare");
        ctx.progress().set_total(base.model.params.len() as u64);
        let report = update_sparsity(&base.model.params, &tuned.model.params, atol, ranks, &ctx)?;
        ctx.progress().finish();
        let dtypes = [&base, &tuned].map(|state| state.model.config.dtype.name().to_owned());
        Ok(UpdateReport { pair: pair.clone(), dtypes, report })
    })
}

/// Write the entries that changed, or the share of all entries that moved most, as a sparse change of the base.
///
/// # Errors
/// `graft/share`, `model/*`, `output/exists`.
pub fn export_delta(pair: &Pair, share: Option<f64>, target: &Place, host: &Host) -> Result<WeightsDone> {
    let path = Path::new(&target.path);
    if path.is_dir() {
        return Err(Error::usage("output/folder", "a sparse change is one file, and the output is a folder")
            .hint("add a file name, such as change.safetensors")
            .at(Location::file(&target.path)));
    }
    if path.exists() && !target.overwrite {
        return Err(exists(target));
    }
    host.install(|| {
        let ctx = host.ctx(0)?;
        let (base, tuned) = both(pair, host, &ctx)?;
        let (before, after) = (&base.model.params, &tuned.model.params);
        let delta = match share {
            None => SparseDelta::between(before, after)?,
            Some(share) => SparseDelta::of(before, after, &graft(before, after, share, true)?.1)?,
        };
        delta.save(path)?;
        let done = json!({"tool": "delta", "pair": pair, "share": share});
        Ok(WeightsDone { changed: delta.entries() as u64, ..described(done, target, &base) })
    })
}

/// Put one sparse change, or the sum of several, on their base. Where the base's format cannot hold the new values the result is
/// in 32 bits.
///
/// # Errors
/// `delta/*`, `model/*`, `output/*`.
pub fn apply_deltas(base: &str, deltas: &[String], place: &Place, host: &Host) -> Result<WeightsDone> {
    free_folder(place)?;
    host.install(|| {
        let ctx = host.ctx(0)?;
        let before = open(base, host, &ctx)?;
        let read = |path: &String| SparseDelta::load(Path::new(path));
        let loaded = deltas.iter().map(read).collect::<Result<Vec<_>>>()?;
        let mut model = before.model.clone();
        compose(&mut model.params, &loaded)?;
        let values = loaded.iter().flat_map(|delta| &delta.parts).flat_map(|part| &part.new);
        if !values.copied().all(|x| model.config.dtype.holds(x)) {
            model.config = model.config.with_dtype(Dtype::F32);
        }
        let after = State { model, folder: before.folder.clone(), adapter: None };
        write_model(json!({"tool": "apply", "base": base, "deltas": deltas}), place, (&before, &after))
    })
}

fn open(name: &str, host: &Host, ctx: &Ctx) -> Result<State> {
    let folder = folder_of(name, host, ctx)?;
    let ctx = ctx.child(format!("load {name}"));
    let model = Model::load(&folder)?;
    ctx.progress().finish();
    Ok(State { model, folder, adapter: None })
}

/// The tuned state; an adapter sits on the base.
fn open_tuned(pair: &Pair, host: &Host, ctx: &Ctx) -> Result<State> {
    let folder = PathBuf::from(&pair.tuned);
    if folder.join("config.json").is_file() || !folder.join(ADAPTER).is_file() {
        return open(&pair.tuned, host, ctx);
    }
    let mut base = open(&pair.base, host, ctx)?;
    let config = load_adapter(&mut base.model, &folder, false)?;
    Ok(State { adapter: Some(config), ..base })
}

/// Both states, an adapter added to the weights.
fn both(pair: &Pair, host: &Host, ctx: &Ctx) -> Result<(State, State)> {
    let (base, mut tuned) = (open(&pair.base, host, ctx)?, open_tuned(pair, host, ctx)?);
    merge(&mut tuned.model);
    Ok((base, tuned))
}

/// The state with its adapter added to the weights.
fn merged_copy(state: &State) -> State {
    let mut model = state.model.clone();
    merge(&mut model);
    State { model, folder: state.folder.clone(), adapter: None }
}

fn described(done: Value, place: &Place, base: &State) -> WeightsDone {
    let entries = base.model.params.iter().map(|(_, t)| t.entries() as u64).sum();
    let curate = env!("CARGO_PKG_VERSION").to_owned();
    WeightsDone { curate, done, wrote: place.path.clone(), entries, changed: 0 }
}

fn made(done: Value, place: &Place, (base, result): (&State, &State)) -> Result<WeightsDone> {
    let masks: Masks = changed(&base.model.params, &result.model.params, 0.0)?;
    let changed = masks.values().map(Mask::len).sum::<usize>() as u64;
    Ok(WeightsDone { changed, ..described(done, place, base) })
}

/// Write a result as a model folder, with the tokenizer of the state it came from.
fn write_model(done: Value, place: &Place, (base, result): (&State, &State)) -> Result<WeightsDone> {
    let done = made(done, place, (base, result))?;
    put_folder(place, &done, |folder| {
        result.model.save(folder)?;
        copy_companions(&base.folder, folder)?;
        copy_companions(&result.folder, folder)
    })?;
    Ok(done)
}

fn put_folder(place: &Place, done: &WeightsDone, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    free_folder(place)?;
    place_folder(Path::new(&place.path), |folder| {
        fill(folder)?;
        curate_ingest::write_atomic(&folder.join("curate.json"), &pretty(done)?)
    })
}

/// Refuse a folder that is there, and what is no model even when it may be replaced.
fn free_folder(place: &Place) -> Result<()> {
    let path = Path::new(&place.path);
    if !path.exists() {
        return Ok(());
    }
    if !place.overwrite {
        return Err(exists(place));
    }
    let model = ["config.json", ADAPTER].iter().any(|name| path.join(name).is_file());
    if model || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(());
    }
    Err(Error::usage("output/not-a-model", "what is there is no model folder, and stays")
        .hint("choose another name, or remove it yourself")
        .at(Location::file(&place.path)))
}

fn exists(place: &Place) -> Error {
    Error::usage("output/exists", "the output exists already")
        .hint("use --overwrite, or choose another name")
        .at(Location::file(&place.path))
}
