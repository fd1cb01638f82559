//! `curate train --grpo`: the loop with a learner that answers the chosen prompts itself and learns from what a rule says of its
//! answers.

use super::plan::OnlinePlan;
use super::pupil::{Judged, Pupil};
use super::ready::ready;
use super::run::Task;
use crate::choose::open;
use crate::host::Host;
use crate::plan::Plan;
use crate::train::{Loaded, TrainPlan, Trained, items};
use arrow::array::RecordBatch;
use curate_core::{Column, Ctx, Error, Feedback, Learner, Pool, Result};
use curate_ingest::InputSpec;
use curate_trainer::Sequence;
use curate_trainer::checkpoint::{Part, State};
use curate_trainer::eval::{EvalItem, EvalOptions, evaluate};
use curate_trainer::grpo::{GrpoConfig, GrpoLearner};
use curate_trainer::model::{Generator, Model};
use curate_trainer::sft::SftConfig;
use curate_trainer::tokenizer::TextTokenizer;
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Instant;

/// The learner with the questions it is judged by.
struct Answerer {
    inner: GrpoLearner,
    tokenizer: TextTokenizer,
    questions: Vec<EvalItem>,
    options: EvalOptions,
}

/// The options of a run: those of training, and those of GRPO over them.
///
/// # Errors
/// `train/config` naming what is unknown or out of range.
pub(super) fn config(train: &SftConfig, options: &Map<String, Value>) -> Result<GrpoConfig> {
    let own: GrpoConfig = serde_json::from_value(Value::Object(options.clone())).map_err(|e| {
        Error::usage("train/config", format!("grpo: {e}")).hint("-O grpo.num_generations=8 and the like")
    })?;
    let config = GrpoConfig { train: train.clone(), ..own };
    config.check()?;
    Ok(config)
}

/// Train by a plan whose input is settled.
///
/// # Errors
/// Usage errors before any work; what the stages give; `cancelled` after a checkpoint was saved.
pub(crate) fn train(plan: &Plan, online: &OnlinePlan, wanted: &TrainPlan, host: &Host, ctx: &Ctx) -> Result<Trained> {
    if wanted.eval_share.is_some() || online.rounds.is_some() {
        return Err(Error::usage("grpo/option", "neither rounds nor a share held back go with answers of the model")
            .hint("name questions to judge by with --eval FILE"));
    }
    let own = TrainPlan { eval: Vec::new(), ..wanted.clone() };
    let (ready, model) = ready(plan, &own, host, ctx)?;
    let config = config(&ready.config, wanted.grpo.as_ref().unwrap_or(&Map::new()))?;
    let (session, steps) = ready.session(plan, online, host, ctx)?;
    let max_new_tokens = config.max_completion_length;
    let options = EvalOptions { max_new_tokens, batch_size: config.train.batch_size.max(8), judge: config.judge };
    let questions = if wanted.eval.is_empty() {
        Vec::new()
    } else {
        let input = InputSpec { paths: wanted.eval.clone(), where_: None, ..plan.input.clone() };
        let source = open(&Plan { input, ..plan.clone() }, host, &ctx.child("eval rows"))?;
        items(&source, &ready.renderer, None)?
    };
    let eval_rows = questions.len();
    let inner = GrpoLearner::new(model, ready.tokenizer.clone(), config, steps, ctx)?;
    let learner = Answerer { inner, tokenizer: ready.tokenizer.clone(), questions, options };
    let started = Instant::now();
    let (model, report, online) = Task { ready: &ready, plan, online, wanted }.run(session, learner, steps, ctx)?;
    let training_seconds = started.elapsed().as_secs_f64();
    let loaded = Loaded { model, tokenizer: ready.tokenizer, folder: ready.folder };
    let (config, data, online) = (ready.config, ready.data, Some(online));
    Ok(Trained { loaded, config, data, eval_rows, report, online, training_seconds })
}

impl Learner for Answerer {
    fn probe(&mut self, batch: &Pool, want: &[Column], ctx: &Ctx) -> Result<RecordBatch> {
        self.inner.probe(batch, want, ctx)
    }

    fn step(&mut self, batch: &Pool, want: &[Column], ctx: &Ctx) -> Result<Feedback> {
        self.inner.step(batch, want, ctx)
    }
}

impl Pupil for Answerer {
    fn says(&self) -> &'static [&'static str] {
        &["loss", "tokens", "successes", "trials", "reward"]
    }

    fn updates(&self) -> u64 {
        self.inner.steps()
    }

    fn digest(&self) -> String {
        self.inner.digest()
    }

    fn parts<'a>(&'a self, base: &'a Path) -> Vec<Part<'a>> {
        self.inner.parts(Some(base))
    }

    fn state(&self, seed: u64) -> State {
        self.inner.state(seed)
    }

    fn restore(&mut self, folder: &Path, state: &State) -> Result<()> {
        self.inner.restore(folder, state)
    }

    /// The share of right answers, always the most likely one.
    fn judge(&self, _rows: &[Sequence], _batch_size: usize, ctx: &Ctx) -> Result<Option<Judged>> {
        if self.questions.is_empty() {
            return Ok(None);
        }
        let model = Generator::new(self.inner.model());
        let judged = evaluate(&model, &self.tokenizer, &self.questions, &self.options, ctx)?;
        let right = judged.iter().filter(|one| one.verdict.correct).count();
        Ok(Some(Judged { value: right as f64 / judged.len().max(1) as f64, loss: None }))
    }

    fn into_trained(self) -> Model {
        self.inner.into_model()
    }
}
