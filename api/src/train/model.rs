//! Opening the model of a plan: folder or hub id, fresh or trained, with or without an adapter.

use super::plan::TrainPlan;
use crate::host::Host;
use curate_core::{Ctx, Error, Location, Result};
use curate_embed::Hub;
use curate_trainer::builtin;
use curate_trainer::checkpoint::copy_companions;
use curate_trainer::lora::load_adapter;
use curate_trainer::model::{Config, Model};
use curate_trainer::sft::{RestingDtype, Tuning};
use curate_trainer::tokenizer::TextTokenizer;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The file by which the folder of an adapter is known.
const ADAPTER: &str = "adapter_config.json";

/// A model with its tokenizer and the folder both came from.
pub(crate) struct Loaded {
    pub(crate) model: Model,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) folder: PathBuf,
}

/// The folder that a name means: itself, or a snapshot fetched from the hub.
pub(crate) fn folder_of(name: &str, host: &Host, ctx: &Ctx) -> Result<PathBuf> {
    if name == builtin::NAME {
        return unpacked(host.cache.root());
    }
    let path = Path::new(name);
    if path.is_dir() {
        return not_a_run(name, path).map_or_else(|| Ok(path.to_owned()), Err);
    }
    let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
    let like_an_id = id.split('/').count() == 2 && !name.starts_with(['.', '/', '~']) && !name.contains('\\');
    if !like_an_id {
        return Err(Error::usage("model/missing", format!("there is no model folder '{name}'")).hint(
            "name a folder with config.json, tokenizer.json and safetensors, a hub id such as owner/name, or builtin",
        ));
    }
    Hub::new(&host.hub)?.fetch_language_model(id, revision, |config| Config::read(config).map(drop), ctx)
}

/// The error for the folder of a run, where it is one: the model lies below it.
fn not_a_run(name: &str, folder: &Path) -> Option<Error> {
    let holds = |file: &&str| folder.join(file).is_file();
    if holds(&"config.json") || holds(&ADAPTER) {
        return None;
    }
    let trained = [("model", "model/config.json"), ("adapter", "adapter/adapter_config.json")];
    let (below, _) = trained.into_iter().find(|(_, file)| holds(file))?;
    let hint = format!("name what was trained in it: {}/{below}", name.trim_end_matches('/'));
    Some(Error::usage("model/run", format!("{name} is the folder of a run, not of a model")).hint(hint))
}

/// The model that an adapter was trained on, where a folder holds an adapter and no model.
///
/// # Errors
/// `model/adapter` when the adapter does not say it, or it is not there.
fn base_of(folder: &Path) -> Result<Option<String>> {
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    if !folder.join(ADAPTER).is_file() || weights.iter().any(|file| folder.join(file).is_file()) {
        return Ok(None);
    }
    let said = std::fs::read(folder.join(ADAPTER)).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let base = said.and_then(|said| said["base_model_name_or_path"].as_str().map(str::to_owned)).unwrap_or_default();
    let name = folder.display();
    if base.is_empty() || (Path::new(&base).is_absolute() && !Path::new(&base).is_dir()) {
        let what = format!("{name} is an adapter, and its base model '{base}' is not there");
        return Err(Error::usage("model/adapter", what)
            .hint(format!("name its base and it: --model BASE --adapter {name}; or train with --merge")));
    }
    Ok(Some(base))
}

/// The built-in model as a folder like any other, laid out in the cache.
fn unpacked(cache: &Path) -> Result<PathBuf> {
    let (files, mut hasher) = (builtin::files()?, blake3::Hasher::new());
    for (_, bytes) in &files {
        hasher.update(bytes);
    }
    let folder = cache.join("models").join(format!("builtin-{}", &hasher.finalize().to_hex()[..16]));
    for (name, bytes) in &files {
        let path = folder.join(name);
        if !std::fs::read(&path).is_ok_and(|found| found == **bytes) {
            curate_ingest::write_atomic(&path, bytes)?;
        }
    }
    Ok(folder)
}

/// A trained model, with its adapter where one is named; of an adapter alone the base is found.
pub(crate) fn load(name: &str, adapter: Option<&str>, host: &Host, ctx: &Ctx) -> Result<Loaded> {
    if let (None, Some(base)) = (adapter, base_of(Path::new(name))?) {
        return load_as(&base, Some(name), RestingDtype::F32, host, ctx);
    }
    load_as(name, adapter, RestingDtype::F32, host, ctx)
}

/// The same, its linear maps kept in this format.
fn load_as(name: &str, adapter: Option<&str>, dtype: RestingDtype, host: &Host, ctx: &Ctx) -> Result<Loaded> {
    let folder = folder_of(name, host, ctx)?;
    let ctx = ctx.child("load");
    let tokenizer = TextTokenizer::load(&folder)?;
    let compact = dtype == RestingDtype::Bf16;
    let mut model = if compact { Model::load_compact(&folder)? } else { Model::load(&folder)? };
    tokenizer.fits(model.config.vocab_size)?;
    if let Some(adapter) = adapter {
        load_adapter(&mut model, Path::new(adapter), true)?;
    }
    model.set_device(host.device_for_models()?)?;
    ctx.progress().finish();
    Ok(Loaded { model, tokenizer, folder })
}

/// A model of random weights, as the folder's `config.json` describes it.
pub(super) fn fresh(folder: PathBuf, host: &Host, ctx: &Ctx) -> Result<Loaded> {
    let config = Config::read(&folder.join("config.json"))?;
    let tokenizer = TextTokenizer::load(&folder)?;
    tokenizer.fits(config.vocab_size)?;
    let mut model = Model::init(config, &ctx.labelled("fresh weights"))?;
    model.set_device(host.device_for_models()?)?;
    Ok(Loaded { model, tokenizer, folder })
}

/// The model a training plan begins with. A fresh one needs a tokenizer: `learn` makes one where there is none.
pub(crate) fn for_training(
    plan: &TrainPlan,
    host: &Host,
    ctx: &Ctx,
    learn: impl FnOnce(&Config) -> Result<Vec<u8>>,
) -> Result<Loaded> {
    if !plan.from_scratch {
        if let Some(base) = base_of(Path::new(&plan.model))? {
            return Err(Error::usage("model/adapter", format!("{} is an adapter, not a model", plan.model))
                .hint(format!("go on with it on its base: --model {base} --adapter {}", plan.model)));
        }
        return load_as(&plan.model, plan.adapter.as_deref(), plan.sft()?.dtype, host, ctx);
    }
    if plan.adapter.is_some() {
        return Err(Error::usage("train/adapter", "an adapter belongs to trained weights, and these are fresh")
            .hint("leave out --adapter or --from-scratch"));
    }
    let folder = PathBuf::from(&plan.model);
    let start = PathBuf::from(&plan.out).join("start");
    if folder.join("tokenizer.json").is_file() {
        return kept(fresh(folder, host, ctx)?, plan, start);
    }
    let config = folder.join("config.json");
    if !start.join("tokenizer.json").is_file() {
        let text = std::fs::read(&config).map_err(|e| {
            Error::io("model/missing", format!("cannot read the configuration of the model: {e}"))
                .hint("--from-scratch needs a folder with config.json; tokenizer.json is made when it is missing")
                .at(Location::file(config.to_string_lossy()))
        })?;
        let tokenizer = learn(&Config::read(&config)?)?;
        curate_ingest::write_atomic(&start.join("config.json"), &text)?;
        curate_ingest::write_atomic(&start.join("tokenizer_config.json"), TOKENIZER_CONFIG)?;
        curate_ingest::write_atomic(&start.join("generation_config.json"), GENERATION_CONFIG)?;
        // last: the folder is taken for whole once this file is there
        curate_ingest::write_atomic(&start.join("tokenizer.json"), &tokenizer)?;
    }
    kept(fresh(start.clone(), host, ctx)?, plan, start)
}

/// Fresh weights are written down where adapters are trained on them: an adapter is worth nothing without its base.
fn kept(loaded: Loaded, plan: &TrainPlan, start: PathBuf) -> Result<Loaded> {
    if !matches!(plan.sft()?.tuning, Tuning::Lora(_)) {
        return Ok(loaded);
    }
    loaded.model.save(&start)?;
    if loaded.folder != start {
        copy_companions(&loaded.folder, &start)?;
    }
    Ok(Loaded { folder: start, ..loaded })
}

/// What the tokenizers we learn call the ends of a text.
const TOKENIZER_CONFIG: &[u8] =
    br#"{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
"#;

/// Generation stops at the end of a text and at the end of a turn: the first and the third special token we learn.
const GENERATION_CONFIG: &[u8] = br#"{"eos_token_id": [0, 2]}
"#;
