//! `curate train --online`: the loop from a plan to a trained model.

use super::checkpoint::{Evals, Saved};
use super::log::{self, Log};
use super::plan::OnlinePlan;
use super::pupil::Pupil;
use super::ready::{Ready, ready};
use super::report::OnlineReport;
use super::rounds::{RoundLearner, Rounds};
use super::session::Session;
use crate::host::Host;
use crate::plan::Plan;
use crate::train::{Loaded, TrainPlan, Trained};
use curate_core::{Ctx, Result};
use curate_trainer::eval::LossTotal;
use curate_trainer::model::Model;
use curate_trainer::sft::{SftConfig, SftLearner, TrainReport};
use std::path::Path;
use std::time::Instant;

/// Train by a plan whose input is settled.
///
/// # Errors
/// Usage errors before any work; what the stages give; `cancelled` after a checkpoint was saved.
pub(crate) fn train(plan: &Plan, online: &OnlinePlan, wanted: &TrainPlan, host: &Host, ctx: &Ctx) -> Result<Trained> {
    let (ready, model) = ready(plan, wanted, host, ctx)?;
    let (session, steps) = ready.session(plan, online, host, ctx)?;
    let updates = session.rounds.map_or(steps, |rounds| updates(&ready.config, rounds));
    let learner = SftLearner::new(model, ready.tokenizer.clone(), ready.config.clone(), updates, ctx)?;
    let mut learner = learner.with_signals(online.signals);
    learner.validate_with(ready.examples(plan, &session.probed, host, ctx)?);
    let task = Task { ready: &ready, plan, online, wanted };
    let started = Instant::now();
    let done = match session.rounds {
        Some(rounds) => task.run(session, RoundLearner::new(learner, ready.config.clone(), rounds), steps, ctx),
        None => task.run(session, learner, steps, ctx),
    };
    let (model, report, online) = done?;
    let training_seconds = started.elapsed().as_secs_f64();
    let Ready { config, data, eval, tokenizer, folder, .. } = ready;
    let loaded = Loaded { model, tokenizer, folder };
    Ok(Trained { loaded, config, data, eval_rows: eval.len(), report, online: Some(online), training_seconds })
}

/// What is to be done, by what plan.
pub(super) struct Task<'a> {
    pub(super) ready: &'a Ready,
    pub(super) plan: &'a Plan,
    pub(super) online: &'a OnlinePlan,
    pub(super) wanted: &'a TrainPlan,
}

impl Task<'_> {
    /// Run the loop with this learner, from the beginning or from the newest checkpoint.
    ///
    /// # Errors
    /// As [`train`].
    pub(super) fn run<P: Pupil>(
        &self,
        mut session: Session<'_>,
        mut learner: P,
        max_steps: u64,
        ctx: &Ctx,
    ) -> Result<(Model, TrainReport, OnlineReport)> {
        let (out, keep) = (Path::new(&self.wanted.out), self.ready.config.save_total_limit);
        let columns = session.provided.as_ref().map_or("", |provided| &provided.digest);
        let identity = self.ready.identity(self.plan, columns, &learner)?;
        let saved = Saved { out, base: &self.ready.folder, identity, keep, max_steps, seed: self.plan.seed };
        let found = if self.wanted.resume { saved.resume(&mut session, &mut learner)? } else { None };
        let (resumed_from, evals) = found.map_or((None, Vec::new()), |(step, evals)| (Some(step), evals));
        if resumed_from.is_some() && session.rounds.is_some_and(|rounds| rounds.restart) {
            let made = log::read(out)?.into_iter().filter(|line| line.step <= session.steps);
            session.drawn = made.flat_map(|line| line.rows).collect();
        }
        let log = Log::open(Some(out), session.steps)?;
        let mut run = Run { ready: self.ready, saved, log, evals, last_saved: resumed_from };
        let eval = run.go(&mut session, &mut learner, &ctx.child("train"))?;
        let lines = log::read(out)?;
        let online = OnlineReport::of(&self.online.name, session.sizes, &lines, run.evals);
        let losses = lines.iter().filter_map(|line| line.loss).collect();
        let (steps, tokens) = (session.steps, online.trained_tokens);
        let report = TrainReport { steps, resumed_from, tokens, losses, eval, ..TrainReport::default() };
        Ok((learner.into_trained(), report, online))
    }
}

/// Updates of all rounds, where the model goes on from one to the next.
fn updates(config: &SftConfig, rounds: Rounds) -> u64 {
    let size = config.batch_size * config.gradient_accumulation_steps;
    (0..rounds.count as u64).map(|round| config.total_steps(rounds.share(round).div_ceil(size) as u64)).sum()
}

/// The loop with its clock of evaluations and checkpoints.
struct Run<'a> {
    ready: &'a Ready,
    saved: Saved<'a>,
    log: Log,
    evals: Evals,
    last_saved: Option<u64>,
}

impl Run<'_> {
    fn go(&mut self, session: &mut Session<'_>, learner: &mut impl Pupil, ctx: &Ctx) -> Result<Option<LossTotal>> {
        ctx.progress().set_total(self.saved.max_steps);
        ctx.progress().add(session.steps);
        let worked = self.work(session, learner, ctx);
        let whole = learner.updates() == session.updates;
        match worked {
            Err(error) if error.code() == "cancelled" && whole => self.save(session, learner).and(Err(error)),
            Err(error) => Err(error),
            Ok(total) => {
                self.save(session, learner)?;
                ctx.progress().finish();
                Ok(total)
            }
        }
    }

    fn work(&mut self, session: &mut Session<'_>, learner: &mut impl Pupil, ctx: &Ctx) -> Result<Option<LossTotal>> {
        let config = &self.ready.config;
        let save_steps = config.save_steps.or(session.rounds.map(|_| 1));
        while session.steps < self.saved.max_steps {
            ctx.tick(0)?;
            if due(session.steps, save_steps) {
                self.save(session, learner)?;
            }
            let last = session.steps + 1 == self.saved.max_steps;
            let says = learner.says();
            let line = session.step(learner, says, last, &mut self.log)?;
            session.updates = learner.updates();
            ctx.progress().add(1);
            ctx.progress().note(line.loss.map_or_else(String::new, |loss| format!("loss {loss:.4}")));
            if due(session.steps, config.eval_steps) && !last {
                self.evaluate(session.steps, learner, ctx)?;
            }
        }
        self.evaluate(session.steps, learner, ctx)
    }

    /// Judge by the rows held back.
    fn evaluate(&mut self, step: u64, learner: &impl Pupil, ctx: &Ctx) -> Result<Option<LossTotal>> {
        let Some(judged) = learner.judge(&self.ready.eval, self.ready.config.batch_size, ctx)? else { return Ok(None) };
        if judged.value.is_finite() && self.evals.last().is_none_or(|last| last.0 < step) {
            self.evals.push((step, judged.value));
        }
        Ok(judged.loss)
    }

    /// Write a checkpoint, unless this step has one.
    fn save(&mut self, session: &Session<'_>, learner: &impl Pupil) -> Result<()> {
        if self.last_saved == Some(session.steps) {
            return Ok(());
        }
        self.last_saved = Some(session.steps);
        self.saved.save(session, learner, &self.evals)
    }
}

fn due(step: u64, every: Option<u64>) -> bool {
    step > 0 && every.is_some_and(|every| step.is_multiple_of(every.max(1)))
}
