//! Checkpoints of a run: what goes in, and how a run goes on from one.

use super::session::Session;
use super::{SftConfig, Trainable, Trainer, Tuning};
use crate::checkpoint::{self, COMPANIONS, Entry, Part, State, TensorFile};
use crate::lora;
use crate::mask::delta::digest;
use crate::optim::Optimizer;
use crate::{Params, Sequence};
use curate_core::{Error, Location, Result};
use std::collections::BTreeMap;
use std::path::Path;

const MODEL: &str = "model.safetensors";
const ADAPTER: &str = "adapter_model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Everything that decides the run, part by part: every option as text, rows and base model by their digests. How often it saves does not.
pub(super) fn plan_parts(trainer: &Trainer<'_>, params: &Params, seed: u64) -> BTreeMap<String, String> {
    let config = SftConfig { save_steps: None, save_total_limit: None, ..trainer.config.clone() };
    let options = serde_json::to_value(&config).unwrap_or_default();
    let options = options.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.to_string()));
    let rows = |rows: &[Sequence]| {
        let mut hasher = blake3::Hasher::new();
        for row in rows {
            hash_sequence(&mut hasher, row);
        }
        hasher.finalize().to_hex().to_string()
    };
    let others = [
        ("the seed", seed.to_string()),
        ("the rows", rows(trainer.train)),
        ("the rows to judge by", rows(trainer.eval)),
        ("the base model", digest(params)),
        ("the plan", trainer.plan.clone()),
    ];
    options.chain(others.map(|(part, value)| (part.to_owned(), value))).collect()
}

/// Digest of all parts.
pub(super) fn digest_of(parts: &BTreeMap<String, String>) -> String {
    blake3::hash(serde_json::to_string(parts).unwrap_or_default().as_bytes()).to_hex().to_string()
}

/// The refusal of a checkpoint of another run: what differs, and for how long a run was meant to last.
fn other_plan(found: &State, wanted: &BTreeMap<String, String>, folder: &Path) -> Error {
    let differs = |(part, value): (&String, &String)| {
        let was = found.plan.get(part)?;
        let digest = part.starts_with("the ") && part != "the seed";
        let how = if digest { String::new() } else { format!(" ({was} there, {value} here)") };
        (was != value).then(|| format!("{part}{how}"))
    };
    let parts: Vec<String> = wanted.iter().filter_map(differs).collect();
    let what = if parts.is_empty() { "configuration, rows, seed or base model".to_owned() } else { parts.join(", ") };
    let longer = parts.iter().any(|part| part.starts_with("max_steps") || part.starts_with("num_train_epochs"));
    let hint = if longer {
        "the learning rate is planned for all steps from the first, so a run cannot be made longer: repeat it with the \
         settings it was started with, or begin a new run with --model RUN/model and another -o"
    } else {
        "give the run another output folder, or repeat it with the settings it was started with"
    };
    Error::usage("checkpoint/other-plan", format!("the checkpoint belongs to another run; what differs: {what}"))
        .hint(hint)
        .at(Location::file(folder.display().to_string()))
}

fn hash_sequence(hasher: &mut blake3::Hasher, sequence: &Sequence) {
    let numbers = sequence.tokens.iter().chain(&sequence.labels);
    let bytes: Vec<u8> = numbers.flat_map(|x| x.to_le_bytes()).collect();
    hasher.update(&sequence.row.to_le_bytes()).update(&sequence.weight.to_le_bytes());
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
}

/// Write a checkpoint of the session and remove surplus ones.
pub(super) fn save<M: Trainable>(session: &Session<'_, M>) -> Result<()> {
    let trainer = session.trainer;
    let Some(out) = &trainer.out else { return Ok(()) };
    let parts = parts(&trainer.config.tuning, trainer.base.as_deref(), session.model.params(), &session.optimizer);
    checkpoint::write_folder(out, &parts, &session.state)?;
    let spare = session.state.best_step.filter(|_| trainer.config.early_stopping_patience.is_some());
    trainer.config.save_total_limit.map_or(Ok(()), |keep| checkpoint::rotate(out, keep, spare))
}

/// The files of a checkpoint: what is trained, the optimizer, and what of the base model goes along.
pub(crate) fn parts<'a>(
    tuning: &Tuning,
    base: Option<&'a Path>,
    params: &'a Params,
    optimizer: &'a Optimizer,
) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    if let Tuning::Lora(config) = tuning {
        let base = base.map(|base| base.display().to_string()).unwrap_or_default();
        let json = serde_json::to_vec_pretty(&lora::adapter_json(config, &base)).unwrap_or_default();
        parts.push(Part::bytes("adapter_config.json", json));
        parts.push(Part::new(ADAPTER, |path| checkpoint::write_plain(path, &lora::adapter_entries(params), None)));
    } else {
        parts.push(Part::new(MODEL, |path| checkpoint::write_plain(path, &model_entries(params), None)));
    }
    parts.push(Part::new(OPTIMIZER, |path| checkpoint::write_plain(path, &optimizer.entries(params), None)));
    if let Some(base) = base {
        for name in ["config.json"].into_iter().chain(COMPANIONS).filter(|name| base.join(name).is_file()) {
            parts
                .push(Part::new(name, move |path| std::fs::copy(base.join(name), path).map(drop).map_err(Error::from)));
        }
    }
    parts
}

/// All tensors of the base model, in 32 bits: a checkpoint loses nothing.
fn model_entries(params: &Params) -> Vec<Entry<'_>> {
    let base = params.iter().filter(|(_, t)| !lora::is_adapter(&t.name));
    base.map(|(_, t)| Entry::floats(t.name.clone(), &t.shape, &t.data)).collect()
}

/// Take over the newest whole checkpoint, where one is there and asked for.
pub(super) fn resume<M: Trainable>(
    trainer: &Trainer<'_>,
    run: (&mut M, &mut Optimizer),
    wanted: &State,
) -> Result<Option<State>> {
    let Some(out) = trainer.out.as_ref().filter(|_| trainer.resume) else { return Ok(None) };
    checkpoint::sweep(out)?;
    let Some((folder, state)) = checkpoint::newest(out)? else { return Ok(None) };
    if state.plan_digest != wanted.plan_digest {
        return Err(other_plan(&state, &wanted.plan, &folder));
    }
    let (model, optimizer) = run;
    restore(&folder, &trainer.config.tuning, (model.params_mut(), optimizer), state.updates)?;
    Ok(Some(state))
}

/// Take over what [`parts`] wrote, after so many updates.
pub(crate) fn restore(
    folder: &Path,
    tuning: &Tuning,
    (params, optimizer): (&mut Params, &mut Optimizer),
    updates: u64,
) -> Result<()> {
    let lora = matches!(tuning, Tuning::Lora(_));
    load_tensors(params, &folder.join(if lora { ADAPTER } else { MODEL }), lora)?;
    let mut file = TensorFile::open(&folder.join(OPTIMIZER))?;
    optimizer.restore(params, &mut file, updates)
}

/// Read the tensors of the adapter, or those of the base.
fn load_tensors(params: &mut Params, path: &Path, adapter: bool) -> Result<()> {
    let mut file = TensorFile::open(path)?;
    for id in super::ids(params) {
        let tensor = params.get_mut(id);
        if lora::is_adapter(&tensor.name) != adapter || tensor.data.is_empty() {
            continue;
        }
        let values = file.floats(&tensor.name)?;
        if values.len() != tensor.data.len() {
            return Err(Error::data(
                "checkpoint/shape",
                format!("tensor '{}' has {} entries, not {}", tensor.name, values.len(), tensor.data.len()),
            )
            .hint("the checkpoint belongs to another model")
            .at(Location::file(path.display().to_string())));
        }
        tensor.data = values;
    }
    Ok(())
}
