//! What all arms share: the rows to choose from, the rows to judge by, the model, and what a token of it costs.

use super::plan::ComparePlan;
use crate::choose::open;
use crate::gather::{output_schema, write_picks};
use crate::host::Host;
use crate::online::lot;
use crate::plan::Plan;
use crate::select::input_digest;
use crate::train::{Renderer, Rows, TrainPlan, empty_side, folder_of, for_training, learn_tokenizer};
use curate_core::{Ctx, Error, Pick, Result, Selection};
use curate_ingest::{InputSpec, OutputSpec, Source};
use curate_trainer::data::SequenceOptions;
use curate_trainer::model::Model;
use curate_trainer::sft::{SftConfig, Tuning};
use std::path::Path;

/// Points of the loss curve of an arm, unless the plan says how often to evaluate.
const CURVE_POINTS: u64 = 10;

/// The common ground of all arms.
pub(super) struct Base {
    /// The plan of an arm without its method: input, rows to judge by, model.
    pub(super) plan: Plan,
    /// Its training part.
    pub(super) train: TrainPlan,
    /// Digest of rows, rows to judge by and model.
    pub(super) digest: String,
    /// Digest of the reference model, where one is named.
    pub(super) reference: Option<String>,
    /// Rows to choose from.
    pub(super) rows: u64,
    /// Their tokens.
    pub(super) tokens: u64,
    /// Floating-point operations of a token, forward.
    pub(super) forward_flop: f64,
    /// Floating-point operations of a token, forward and backward.
    pub(super) train_flop: f64,
}

/// Make the common ground in the folder of the comparison.
///
/// # Errors
/// Usage errors before any work; what reading gives.
pub(super) fn base(plan: &Plan, wanted: &ComparePlan, host: &Host, ctx: &Ctx) -> Result<Base> {
    let mut train = plan.train.clone().unwrap_or_default();
    let config = check(&mut train)?;
    let out = Path::new(&train.out).to_owned();
    let source = open(plan, host, ctx)?;
    let loaded = for_training(&train, host, ctx, |model| learn_tokenizer(&source, model, ctx))?;
    let (forward_flop, train_flop) = flop(&loaded.model, &config);
    train.model = loaded.folder.to_string_lossy().into_owned();
    let mut plan = Plan { select: None, online: None, train: None, ..plan.clone() };
    let whole = input_digest(&source);
    if let (true, Some(share)) = (train.eval.is_empty(), train.eval_share.take()) {
        let (rows, held) = split(&source, share, &out, host, ctx)?;
        plan.input = InputSpec { paths: vec![rows], where_: None, ..plan.input };
        train.eval = vec![held];
    }
    if train.eval.is_empty() {
        return Err(Error::usage("compare/eval", "there is nothing to judge by")
            .hint("name rows with --eval, or hold some back with --eval-share 0.1"));
    }
    let source = open(&plan, host, ctx)?;
    let renderer = Renderer::choose(&source, &loaded.folder)?;
    let longest = train.longest(&config, loaded.model.config.max_position_embeddings)?;
    let options = SequenceOptions { loss_on: config.loss_on, ..SequenceOptions::new(longest) };
    let rows = Rows { source: &source, renderer: &renderer, tokenizer: &loaded.tokenizer, options, weights: None };
    let data = rows.each(ctx, |_| ())?;
    let judged = InputSpec { paths: train.eval.clone(), where_: None, ..plan.input.clone() };
    let judged = input_digest(&open(&Plan { input: judged, ..plan.clone() }, host, &ctx.child("eval rows"))?);
    let model = curate_trainer::mask::delta::digest(&loaded.model.params);
    let judge = serde_json::to_string(&(wanted.judge, wanted.max_new_tokens)).unwrap_or_default();
    let digest = [&whole, &input_digest(&source), &judged, &model, &judge].map(String::as_str).join(" ");
    let named = wanted.reference.as_ref();
    let reference = named.map(|name| crate::signals::digest(&folder_of(name, host, ctx)?)).transpose()?;
    Ok(Base { plan, train, digest, reference, rows: data.kept_rows, tokens: data.tokens, forward_flop, train_flop })
}

impl Base {
    /// The same ground as it would lie in the folder that a plan names.
    pub(super) fn at_home(mut self, plan: &Plan) -> Self {
        let from = self.train.out.clone();
        let to = plan.train.as_ref().map_or_else(String::new, |train| train.out.clone());
        let moved = |path: &mut String| {
            if let Ok(rest) = Path::new(path.as_str()).strip_prefix(&from) {
                *path = Path::new(&to).join(rest).to_string_lossy().into_owned();
            }
        };
        self.plan.input.paths.iter_mut().chain(&mut self.train.eval).chain([&mut self.train.model]).for_each(moved);
        self.train.out = to;
        self
    }
}

/// What every arm needs of the training options; evaluations are added for the curve.
fn check(train: &mut TrainPlan) -> Result<SftConfig> {
    train.check()?;
    let config = train.sft()?;
    config.one_rate()?;
    let Some(steps) = config.max_steps.filter(|steps| *steps > 0) else {
        return Err(Error::usage("compare/steps", "arms must make the same number of steps, and none is given")
            .hint("add --max-steps, such as 500"));
    };
    if !config.lr_sweep.is_empty() || config.early_stopping_patience.is_some() {
        return Err(Error::usage("compare/equal", "a sweep or early stopping would give arms unequal training")
            .hint("leave out lr_sweep and early_stopping_patience"));
    }
    if config.eval_steps.is_none() {
        train.params.insert("eval_steps".into(), (steps / CURVE_POINTS).max(1).into());
    }
    Ok(config)
}

/// Matrix multiplications of a token: two operations a weight forward; backward twice as many, or as many where the weights
/// rest. Attention scores, norms and lookups are left out.
fn flop(model: &Model, config: &SftConfig) -> (f64, f64) {
    let weights: usize = model.params.iter().filter(|(_, t)| t.shape.len() > 1).map(|(_, t)| t.data.len()).sum();
    let looked_up = if model.head.weight == model.embed { 0 } else { model.params.get(model.embed).data.len() };
    let forward = 2.0 * (weights - looked_up) as f64;
    let passes = if matches!(config.tuning, Tuning::Lora(_)) { 2.0 } else { 3.0 };
    (forward, passes * forward)
}

/// Hold back a share once for all arms: `rows.parquet` to choose from, `held-out.parquet` to judge by.
fn split(source: &Source, share: f64, out: &Path, host: &Host, ctx: &Ctx) -> Result<(String, String)> {
    let holds = lot(Some(share), ctx);
    let (mut rows, mut held) = (Selection::default(), Selection::default());
    for unit in source.units() {
        for row in source.read(unit, None)?.rows {
            let side = if holds(row) { &mut held } else { &mut rows };
            side.picks.push(Pick { row, score: 0.0, weight: 1.0, group: None, reason: String::new() });
        }
        ctx.tick(0)?;
    }
    if rows.picks.is_empty() || held.picks.is_empty() {
        return Err(empty_side(share));
    }
    let write = |name: &str, selection: &Selection| {
        let path = out.join(name).to_string_lossy().into_owned();
        let spec = OutputSpec { path: path.clone(), overwrite: true, shard_rows: None };
        let mut sink = curate_ingest::create(&spec, output_schema(source.schema(), true)?)?;
        write_picks(source, selection, true, sink.as_mut(), &host.scratch, ctx)?;
        sink.finish().map(|_| path)
    };
    Ok((write("rows.parquet", &rows)?, write("held-out.parquet", &held)?))
}
