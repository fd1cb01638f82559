//! The loop itself: batches in, updates out, and a look at the clock of evaluations and checkpoints after every step.

use super::log::{Log, Record};
use super::{Stopped, TrainReport, Trainable, Trainer, Tuning, alarm, anchor, eval_loss, prepare, save};
use crate::checkpoint::State;
use crate::data::{Cursor, MaskedThought, Plan, Replace};
use crate::eval::LossTotal;
use crate::mask::movement::Masks;
use crate::model::StepOptions;
use crate::optim::Optimizer;
use crate::schedule::Schedule;
use crate::{Batch, Grads, Params};
use curate_core::{Ctx, Result};
use serde_json::json;
use std::time::Instant;

/// What a phase has beyond its configuration.
#[derive(Default)]
pub(super) struct Extra<'a> {
    /// The entries to train.
    pub(super) masks: Option<Masks>,
    /// Pull towards these weights: weight of the mean distance.
    pub(super) anchor: Option<(f64, &'a Params)>,
}

/// A run under way.
pub(super) struct Session<'a, M> {
    pub(super) trainer: &'a Trainer<'a>,
    pub(super) model: &'a mut M,
    pub(super) optimizer: Optimizer,
    pub(super) state: State,
    extra: Extra<'a>,
    schedule: Schedule,
    plan: Plan,
    hidden: Option<MaskedThought>,
    grads: Grads,
    log: Log,
    report: TrainReport,
    saved: Option<u64>,
    lr: f64,
    ctx: Ctx,
}

impl<'a, M: Trainable> Session<'a, M> {
    /// Mark, plan, and go back to the newest checkpoint where that is asked for.
    pub(super) fn open(trainer: &'a Trainer<'a>, model: &'a mut M, extra: Extra<'a>, ctx: &Ctx) -> Result<Self> {
        let config = &trainer.config;
        let (lr, ctx) = (config.one_rate()?, ctx.child("train"));
        prepare::mark(model, config, extra.masks.as_ref(), &ctx)?;
        let mut optimizer = prepare::optimizer(model, config, extra.masks.as_ref())?;
        let lengths: Vec<usize> = trainer.train.iter().map(|s| s.tokens.len()).collect();
        let plan = Plan::new(&lengths, (config.packing, config.max_length), config.batch_size, &ctx)?;
        let steps_per_epoch = plan.batches_per_epoch().div_ceil(config.gradient_accumulation_steps) as u64;
        let max_steps = config.total_steps(steps_per_epoch);
        let mut state = State { max_steps, seed: ctx.seed(), ..State::default() };
        state.plan = save::plan_parts(trainer, model.params(), ctx.seed());
        state.plan_digest = save::digest_of(&state.plan);
        let mut report = TrainReport::default();
        if let Some(found) = save::resume(trainer, (model, &mut optimizer), &state)? {
            report.resumed_from = Some(found.global_step);
            state = found;
        }
        let (log, losses) = Log::open(trainer.out.as_deref(), &state)?;
        report.losses = losses;
        ctx.progress().set_total(max_steps);
        ctx.progress().add(state.global_step);
        Ok(Self {
            grads: Grads::zeros(model.params()),
            hidden: hidden(trainer, model.vocab_size(), max_steps)?,
            log,
            schedule: config.schedule(max_steps),
            saved: report.resumed_from,
            trainer,
            model,
            optimizer,
            state,
            extra,
            plan,
            report,
            lr,
            ctx,
        })
    }

    /// Train to the end.
    pub(super) fn go(mut self) -> Result<TrainReport> {
        match self.work() {
            Ok(stopped) => self.report.stopped = stopped,
            Err(error) if error.code() == "cancelled" => {
                self.save()?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        self.save()?;
        let State { global_step, tokens, skipped, best_eval_loss, best_step, .. } = self.state;
        self.ctx.progress().finish();
        let best_eval = best_eval_loss.zip(best_step);
        Ok(TrainReport { steps: global_step, tokens, skipped, best_eval, ..self.report })
    }

    fn work(&mut self) -> Result<Stopped> {
        loop {
            if self.eval_due() {
                self.evaluate()?;
            }
            let patience = self.trainer.config.early_stopping_patience;
            if patience.is_some_and(|patience| self.state.evals_without_gain >= patience.max(1)) {
                return Ok(Stopped::Early);
            }
            if self.state.global_step >= self.state.max_steps {
                return Ok(Stopped::Finished);
            }
            if due(self.state.global_step, self.trainer.config.save_steps) {
                self.save()?;
            }
            self.step()?;
        }
    }

    fn eval_due(&self) -> bool {
        let step = self.state.global_step;
        let now = due(step, self.trainer.config.eval_steps) || step >= self.state.max_steps;
        let known = self.state.evaluated_step == step && (step > 0 || self.report.eval.is_some());
        let needed = !known || (step >= self.state.max_steps && self.report.eval.is_none());
        !self.trainer.eval.is_empty() && now && needed
    }

    /// One update.
    fn step(&mut self) -> Result<()> {
        let started = Instant::now();
        let step = self.state.global_step;
        self.refresh_masks(step)?;
        let (batches, cursor) = self.next_batches(step)?;
        let mass = divisor(batches.iter().map(Batch::mass).sum());
        let tokens: u64 = batches.iter().map(|batch| batch.tokens.len() as u64).sum();
        let nll = self.accumulate(&batches, mass)?;
        if let Some((weight, anchor)) = self.extra.anchor.filter(|(weight, _)| *weight > 0.0) {
            anchor::pull(weight, anchor, self.model.params(), &mut self.grads);
        }
        let lr = self.schedule.lr(self.lr, step);
        let done = self.optimizer.step(self.model.params_mut(), &self.grads, lr);
        self.count(cursor, tokens, done.skipped.is_some());
        let loss = nll / mass;
        self.report.losses.push(loss);
        let record = Record {
            step: step + 1,
            epoch: self.epoch(),
            loss,
            lr,
            grad_norm: done.grad_norm,
            tokens: self.state.tokens,
            tok_s: tokens_per_second(tokens, started),
            skipped: done.skipped,
        };
        self.ctx.progress().add(1);
        self.ctx.progress().note(format!("loss {loss:.4}, {:.0} tokens/s", record.tok_s));
        self.log.write(&record.json())?;
        alarm::too_many_skipped(self.state.skipped_in_a_row, record.skipped.as_deref())
    }

    fn refresh_masks(&mut self, step: u64) -> Result<()> {
        let Tuning::Lift(lift) = &self.trainer.config.tuning else { return Ok(()) };
        if step.is_multiple_of(lift.update_interval.max(1)) {
            for (id, mask) in lift.masks(self.model.params(), step, &self.ctx)? {
                self.optimizer.set_mask(self.model.params(), id, mask)?;
            }
        }
        Ok(())
    }

    /// The batches of one update, and where the next update begins. They never reach into the next epoch.
    fn next_batches(&self, step: u64) -> Result<(Vec<Batch>, Cursor)> {
        let mut feed = self.plan.feed(self.state.cursor)?;
        let mut batches = Vec::new();
        for _ in 0..self.trainer.config.gradient_accumulation_steps {
            let mut batch = feed.next_batch(self.trainer.train);
            if let Some(hidden) = &self.hidden {
                hidden.apply(&mut batch, step, &self.ctx);
            }
            batches.push(batch);
            if feed.cursor().epoch != self.state.cursor.epoch {
                break;
            }
        }
        Ok((batches, feed.cursor()))
    }

    /// Gradient of the mean loss over the labels of all batches together, each with the weight of its row; the sum.
    fn accumulate(&mut self, batches: &[Batch], mass: f64) -> Result<f64> {
        self.grads.clear();
        #[expect(clippy::cast_possible_truncation, reason = "weights are bounded on both sides")]
        let scale = (1.0 / mass) as f32;
        let options = StepOptions { gradient_checkpointing: self.trainer.config.gradient_checkpointing };
        let mut nll = 0.0;
        for batch in batches {
            self.ctx.tick(0)?;
            let losses = self.model.gradients(batch, scale, options, &mut self.grads, &self.ctx)?;
            alarm::finite(self.state.global_step + 1, self.saved, batch, &losses)?;
            nll += losses.weighted_total(batch);
        }
        Ok(nll)
    }

    fn count(&mut self, cursor: Cursor, tokens: u64, skipped: bool) {
        self.state.global_step += 1;
        self.state.cursor = cursor;
        self.state.tokens += tokens;
        self.state.updates = self.optimizer.steps();
        self.state.skipped += u64::from(skipped);
        self.state.skipped_in_a_row = if skipped { self.state.skipped_in_a_row + 1 } else { 0 };
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn epoch(&self) -> f64 {
        self.state.cursor.epoch as f64 + self.state.cursor.offset as f64 / self.plan.groups().max(1) as f64
    }

    fn evaluate(&mut self) -> Result<()> {
        let total = eval_loss(self.model, self.trainer.eval, self.trainer.config.batch_size, &self.ctx)?;
        let step = self.state.global_step;
        let known = self.state.evaluated_step == step && step > 0;
        self.report.eval = Some(total);
        if known {
            return Ok(());
        }
        self.state.evaluated_step = step;
        let loss = total.mean().unwrap_or(f64::NAN);
        let better = self.state.best_eval_loss.is_none_or(|best| loss < best);
        self.state.evals_without_gain = if better { 0 } else { self.state.evals_without_gain + 1 };
        if better {
            (self.state.best_eval_loss, self.state.best_step) = (Some(loss), Some(step));
        }
        self.log.write(&eval_line(step, self.epoch(), &total))?;
        if better && self.trainer.config.early_stopping_patience.is_some() {
            self.save()?;
        }
        Ok(())
    }

    /// Write a checkpoint, unless this step has one.
    fn save(&mut self) -> Result<()> {
        if self.saved != Some(self.state.global_step) {
            save::save(self)?;
            self.saved = Some(self.state.global_step);
        }
        Ok(())
    }
}

fn eval_line(step: u64, epoch: f64, total: &LossTotal) -> serde_json::Value {
    json!({
        "step": step,
        "epoch": epoch,
        "eval_loss": total.mean(),
        "eval_accuracy": total.accuracy(),
        "eval_tokens": total.tokens,
    })
}

fn due(step: u64, every: Option<u64>) -> bool {
    step > 0 && every.is_some_and(|every| step.is_multiple_of(every.max(1)))
}

/// What to divide by where labels weigh so much together; without any, by 1.
pub(super) fn divisor(mass: f64) -> f64 {
    if mass > 0.0 { mass } else { 1.0 }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn tokens_per_second(tokens: u64, since: Instant) -> f64 {
    tokens as f64 / since.elapsed().as_secs_f64().max(1e-9)
}

fn hidden(trainer: &Trainer<'_>, vocab: usize, steps: u64) -> Result<Option<MaskedThought>> {
    let Some(mft) = trainer.config.mft else { return Ok(None) };
    let replace = match mft.mask_token {
        Some(id) if mft.replace == super::MftReplace::Mask => Replace::Mask(id),
        _ => Replace::Random(u32::try_from(vocab).unwrap_or(u32::MAX)),
    };
    MaskedThought::new(mft.p, replace, steps).map(Some)
}
