//! `curate train`: choose, render, tokenise, train, write the model.

use super::model::{Loaded, folder_of, for_training};
use super::plan::TrainPlan;
use super::rows::{Renderer, Rows, pool_of, weights_of};
use super::{folder, pace, verify};
use crate::choose::open;
use crate::host::{Host, peak_rss_bytes};
use crate::manifest::OutputRecord;
use crate::online::{OnlineForecast, OnlineReport};
use crate::plan::{OutputPlan, Plan};
use crate::select::pretty;
use curate_core::{Ctx, Error, Result};
use curate_ingest::{InputSpec, Source};
use curate_trainer::Sequence;
use curate_trainer::checkpoint::{copy_companions, sweep};
use curate_trainer::data::{DatasetReport, Sample, SequenceOptions, preview};
use curate_trainer::lora::{merge, save_adapter};
use curate_trainer::model::{Config, Model};
use curate_trainer::sft::{Forecast, SftConfig, TrainReport, Trainer, Tuning};
use curate_trainer::tokenizer::{BpeRecipe, train_bpe};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Texts from which a tokenizer is learned, bytes.
const TOKENIZER_BYTES: usize = 64 << 20;

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct TrainDone {
    /// Version of `curate` that trained.
    pub curate: String,
    /// The plan as it was run.
    pub plan: Plan,
    /// What became of the rows.
    pub data: DatasetReport,
    /// Rows held out to judge by.
    pub eval_rows: usize,
    /// The training itself.
    pub report: TrainReport,
    /// What was chosen while the model learned, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<OnlineReport>,
    /// Folder of the trained model or adapter.
    pub model: String,
    /// Its files as they were written.
    pub files: Vec<OutputRecord>,
    /// Wall seconds of the run.
    pub seconds: f64,
    /// Those of them spent on steps, evaluations and checkpoints.
    pub training_seconds: f64,
    /// Seconds of all its steps alone, those before a resumption included.
    pub step_seconds: f64,
    /// Largest resident size of the process.
    pub peak_rss_bytes: u64,
}

/// What `--dry-run` says.
#[derive(Clone, Debug, Serialize)]
pub struct TrainForecast {
    /// What became of the rows.
    pub data: DatasetReport,
    /// Rows held out to judge by.
    pub eval_rows: usize,
    /// Steps the run would make.
    pub steps: u64,
    /// The loop, where batches are chosen while the model learns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<OnlineForecast>,
    /// Memory by purpose.
    pub memory: Forecast,
    /// All of it.
    pub total_bytes: u64,
    /// Three rows as the model would see them.
    pub samples: Vec<Sample>,
}

/// All that a run needs, ready.
struct Ready {
    loaded: Loaded,
    config: SftConfig,
    train: Vec<Sequence>,
    eval: Vec<Sequence>,
    data: DatasetReport,
    samples: Vec<Sample>,
}

fn train_plan(plan: &Plan) -> Result<&TrainPlan> {
    let train = plan.train.as_ref();
    let train =
        train.ok_or_else(|| Error::usage("train/model", "the plan does not train").hint("add a [train] table"))?;
    train.check()?;
    Ok(train)
}

/// Train by a plan; choose the rows first where the plan says so.
///
/// # Errors
/// Usage errors before any work, `output/exists` among them; what the stages give; `cancelled` after a checkpoint was saved.
pub fn train(plan: &Plan, host: &Host) -> Result<TrainDone> {
    let started = Instant::now();
    let wanted = train_plan(plan)?;
    wanted.sft()?;
    folder::claim(plan, wanted)?;
    let picked = picked(plan, wanted, host)?;
    let done = host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        if plan.output.overwrite && !wanted.resume {
            // a run is worth more than a command that cannot be done
            open(&picked, host, &ctx)?;
            folder_of(&wanted.model, host, &ctx)?;
            folder::clear(plan, wanted)?;
        }
        let trained = match (&plan.online, &wanted.grpo) {
            (Some(online), None) => crate::online::train(&picked, online, wanted, host, &ctx)?,
            (Some(online), Some(_)) => crate::online::train_grpo(&picked, online, wanted, host, &ctx)?,
            (None, Some(_)) => return Err(no_method()),
            (None, None) => over_fixed_rows(&picked, wanted, host, &ctx)?,
        };
        finish(plan, wanted, trained, started)
    });
    done.map_err(|error| folder::way_on(error, wanted))
}

/// Write what was trained, and what it came to.
fn finish(plan: &Plan, wanted: &TrainPlan, trained: Trained, started: Instant) -> Result<TrainDone> {
    let Trained { mut loaded, config, data, eval_rows, report, online, training_seconds } = trained;
    let out = Path::new(&wanted.out);
    let model = save(wanted, &config, &mut loaded)?;
    let best = report.sweep.as_ref().map(|sweep| out.join(format!("lr-{:e}", sweep.best)));
    let of_log = || pace::pace(best.as_deref().unwrap_or(out));
    let step_seconds = online.as_ref().map_or_else(of_log, |online| online.train_s);
    let done = TrainDone {
        curate: env!("CARGO_PKG_VERSION").to_owned(),
        plan: plan.clone(),
        data,
        eval_rows,
        report,
        online,
        files: verify::record(Path::new(&model))?,
        model,
        seconds: started.elapsed().as_secs_f64(),
        training_seconds,
        step_seconds,
        peak_rss_bytes: peak_rss_bytes(),
    };
    curate_ingest::write_atomic(&out.join("curate.json"), &pretty(&done)?)?;
    Ok(done)
}

fn no_method() -> Error {
    Error::usage("grpo/method", "nobody is named who chooses the prompts")
        .hint("add --online mopps, or --online random-k")
}

/// A trained model and how it came about.
pub(crate) struct Trained {
    pub(crate) loaded: Loaded,
    pub(crate) config: SftConfig,
    pub(crate) data: DatasetReport,
    pub(crate) eval_rows: usize,
    pub(crate) report: TrainReport,
    pub(crate) online: Option<OnlineReport>,
    /// Seconds of steps, evaluations and checkpoints.
    pub(crate) training_seconds: f64,
}

/// Train on all rows, in shuffled epochs.
fn over_fixed_rows(plan: &Plan, wanted: &TrainPlan, host: &Host, ctx: &Ctx) -> Result<Trained> {
    let Ready { mut loaded, config, train, eval, data, .. } = ready(plan, wanted, host, ctx)?;
    let trainer = Trainer {
        config: config.clone(),
        train: &train,
        eval: &eval,
        out: Some(PathBuf::from(&wanted.out)),
        base: Some(loaded.folder.clone()),
        resume: wanted.resume,
        plan: String::new(),
    };
    let started = Instant::now();
    let report = trainer.run(&mut loaded.model, ctx)?;
    let training_seconds = started.elapsed().as_secs_f64();
    Ok(Trained { loaded, config, data, eval_rows: eval.len(), report, online: None, training_seconds })
}

/// Look at the rows and the memory a run would take; nothing is trained or written.
///
/// # Errors
/// As [`train`].
pub fn forecast(plan: &Plan, host: &Host) -> Result<TrainForecast> {
    let wanted = train_plan(plan)?;
    wanted.sft()?;
    let scratch = Plan {
        train: Some(TrainPlan { out: host.scratch.to_string_lossy().into_owned(), ..wanted.clone() }),
        ..plan.clone()
    };
    let wanted = train_plan(&scratch)?;
    let picked = picked(&scratch, wanted, host)?;
    host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        if let Some(online) = &picked.online {
            return crate::online::forecast(&picked, online, wanted, host, &ctx);
        }
        if wanted.grpo.is_some() {
            return Err(no_method());
        }
        let Ready { loaded, config, train, eval, data, samples } = ready(&picked, wanted, host, &ctx)?;
        let memory = Trainer::new(config.clone(), &train).forecast(&loaded.model);
        let per_step = (config.batch_size * config.gradient_accumulation_steps) as u64;
        let steps = config.total_steps((train.len() as u64).div_ceil(per_step));
        let (total_bytes, eval_rows) = (memory.total_bytes(), eval.len());
        Ok(TrainForecast { data, eval_rows, steps, online: None, memory, total_bytes, samples })
    })
}

/// The input to train on: the plan's own, or what its selection leaves in `OUT/picks.parquet`.
fn picked(plan: &Plan, wanted: &TrainPlan, host: &Host) -> Result<Plan> {
    if plan.select.is_none() {
        return Ok(plan.clone());
    }
    let path = Path::new(&wanted.out).join("picks.parquet").to_string_lossy().into_owned();
    let output = OutputPlan { path, overwrite: true, report: plan.output.report.clone(), ..OutputPlan::default() };
    crate::select::select(&Plan { output, train: None, ..plan.clone() }, host)?;
    Ok(picked_already(plan, Path::new(&wanted.out)))
}

/// The same plan over the rows that its selection left in a folder.
pub(crate) fn picked_already(plan: &Plan, out: &Path) -> Plan {
    if plan.select.is_none() {
        return plan.clone();
    }
    let path = out.join("picks.parquet").to_string_lossy().into_owned();
    let input = InputSpec { paths: vec![path], where_: None, ..plan.input.clone() };
    Plan { input, ..plan.clone() }
}

fn ready(plan: &Plan, wanted: &TrainPlan, host: &Host, ctx: &Ctx) -> Result<Ready> {
    let config = wanted.sft()?;
    let source = open(plan, host, ctx)?;
    let loaded = for_training(wanted, host, ctx, |model| learn_tokenizer(&source, model, ctx))?;
    let longest = wanted.longest(&config, loaded.model.config.max_position_embeddings)?;
    let options = SequenceOptions { loss_on: config.loss_on, ..SequenceOptions::new(longest) };
    let renderer = Renderer::choose(&source, &loaded.folder)?;
    let weights = weights_of(&source, &config.row_weights)?;
    let rows = Rows { source: &source, renderer: &renderer, tokenizer: &loaded.tokenizer, options, weights };
    let (mut train, data) = rows.read(ctx)?;
    let samples = samples(&rows)?;
    let eval = match (&wanted.eval[..], wanted.eval_share) {
        ([], None) => Vec::new(),
        ([], Some(share)) => hold_out(&mut train, share, ctx)?,
        (paths, _) => {
            let input = InputSpec { paths: paths.to_vec(), where_: None, ..plan.input.clone() };
            let source = open(&Plan { input, ..plan.clone() }, host, &ctx.child("eval rows"))?;
            Rows { source: &source, weights: None, ..rows }.read(&ctx.child("eval rows"))?.0
        }
    };
    Ok(Ready { loaded, config, train, eval, data, samples })
}

/// Take a share of the rows away, by lot; the same rows for the same seed.
fn hold_out(train: &mut Vec<Sequence>, share: f64, ctx: &Ctx) -> Result<Vec<Sequence>> {
    let lot = ctx.stream("held out");
    let (held, kept): (Vec<_>, Vec<_>) = std::mem::take(train).into_iter().partition(|s| lot(s.row).uniform() < share);
    if held.is_empty() || kept.is_empty() {
        return Err(empty_side(share));
    }
    *train = kept;
    Ok(held)
}

pub(crate) fn empty_side(share: f64) -> Error {
    Error::usage("train/eval-share", format!("a share of {share} leaves one side without rows"))
        .hint("name rows to judge by with --eval, or take another share")
}

pub(crate) fn samples(rows: &Rows<'_>) -> Result<Vec<Sample>> {
    let Some(unit) = rows.source.units().iter().find(|unit| unit.rows > 0) else { return Ok(Vec::new()) };
    let pool = pool_of(rows.source, &rows.source.read(unit, None)?, rows.renderer)?;
    preview(&pool, rows.tokenizer, &rows.options, 3)
}

/// A byte-level BPE vocabulary of the size the configuration asks for, from the first rows.
pub(crate) fn learn_tokenizer(source: &Source, model: &Config, ctx: &Ctx) -> Result<Vec<u8>> {
    let ctx = ctx.child("learn tokenizer");
    let (mut texts, mut bytes) = (Vec::new(), 0);
    for unit in source.units() {
        let data = source.read(unit, None)?;
        for row in source.texts(&data)? {
            bytes += row.full.len();
            texts.push(row.full);
        }
        if bytes > TOKENIZER_BYTES {
            break;
        }
    }
    let recipe = BpeRecipe { vocab_size: model.vocab_size, ..BpeRecipe::default() };
    let learned = train_bpe(&texts, &recipe, &ctx)?;
    ctx.progress().finish();
    Ok(learned)
}

/// Write what was trained: an adapter, a merged model, or the model.
fn save(wanted: &TrainPlan, config: &SftConfig, loaded: &mut Loaded) -> Result<String> {
    let out = Path::new(&wanted.out);
    let base = loaded.folder.to_string_lossy().into_owned();
    let folder = match &config.tuning {
        Tuning::Lora(lora) if !wanted.merge => {
            let folder = out.join("adapter");
            sweep(&folder)?;
            save_adapter(&loaded.model, lora, &base, &folder)?;
            folder
        }
        _ => {
            let folder = out.join("model");
            sweep(&folder)?;
            merge(&mut loaded.model);
            save_model(&loaded.model, &loaded.folder, &folder)?;
            folder
        }
    };
    Ok(folder.to_string_lossy().into_owned())
}

fn save_model(model: &Model, base: &Path, folder: &Path) -> Result<()> {
    model.save(folder)?;
    copy_companions(base, folder)
}
