//! Iterative refinement: a step of the loop is a round. The whole corpus is offered, the method draws the round's share of
//! the budget, the model is trained on it for some passes, and the method hears what the model then thinks of the rows.
//!
//! With `restart` a round begins with the base model and trains on everything drawn so far, as the published code of
//! "Diversify and Conquer" does; without, the model goes on with the new rows alone. Options of training count a round:
//! passes, `max_steps`, the schedule. A round that is stopped is begun again.

use super::plan::OnlinePlan;
use super::pupil::{Judged, Pupil};
use super::session::with;
use super::stream::shuffled;
use arrow::array::RecordBatch;
use curate_core::{Budget, Column, Ctx, Error, Feedback, Learner, Pool, Result};
use curate_trainer::checkpoint::{Part, State};
use curate_trainer::model::Model;
use curate_trainer::sft::{SftConfig, SftLearner};
use curate_trainer::{Params, Sequence};
use std::path::Path;

/// What the losses before a round are called.
const BEFORE: &str = "signal.loss_before";

/// How many rounds, and how many rows in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    /// Rounds.
    pub(super) count: usize,
    /// Rows drawn over all rounds.
    pub(super) budget: usize,
    /// Begin every round with the base model.
    pub(super) restart: bool,
}

impl Rounds {
    /// The rounds of a plan over so many rows.
    ///
    /// # Errors
    /// `online/rounds` without a budget, or with one that is no row count or share; `budget/*`.
    pub(super) fn of(plan: &OnlinePlan, rows: u64) -> Result<Option<Self>> {
        let Some(count) = plan.rounds else { return Ok(None) };
        let wrong = |what: &str| Err(Error::usage("online/rounds", what).hint("such as --rounds 3 --budget 5%"));
        let budget = match plan.budget {
            _ if count == 0 => return wrong("there must be at least one round"),
            None => return wrong("rounds draw from a budget, and none is given"),
            Some(Budget::Tokens(_)) => return wrong("the budget of rounds is counted in rows"),
            Some(budget) => budget.rows_of(usize::try_from(rows).unwrap_or(usize::MAX))?,
        };
        if budget < count {
            return wrong(&format!("{budget} rows cannot be shared out over {count} rounds"));
        }
        Ok(Some(Self { count, budget, restart: plan.restart }))
    }

    /// Rows of a round, from 0.
    pub(super) fn share(&self, round: u64) -> usize {
        curate_selectors::online::share_of_round(self.budget, self.count, round as usize + 1)
    }
}

/// The learner of rounds: a step is a training run.
pub(super) struct RoundLearner {
    inner: SftLearner<Model>,
    config: SftConfig,
    /// The base model, where rounds begin with it.
    start: Option<Params>,
    under_way: bool,
}

impl RoundLearner {
    /// Rounds of this learner, which has made no update yet.
    pub(super) fn new(inner: SftLearner<Model>, config: SftConfig, rounds: Rounds) -> Self {
        let start = rounds.restart.then(|| inner.model().params.clone());
        Self { inner, config, start, under_way: false }
    }

    fn train(&mut self, batch: &Pool, ctx: &Ctx) -> Result<()> {
        let size = self.config.batch_size * self.config.gradient_accumulation_steps;
        let updates = self.config.total_steps(batch.rows().div_ceil(size) as u64);
        if let Some(start) = &self.start {
            self.inner.restart(start, updates)?;
        }
        let (mut order, mut pass) = (Vec::new(), 0);
        let ctx = ctx.child("round");
        ctx.progress().set_total(updates);
        for _ in 0..updates {
            if order.is_empty() {
                order = shuffled(batch.rows(), &mut ctx.rng("pass", pass));
                pass += 1;
            }
            let mut places: Vec<usize> = order.drain(..size.min(order.len())).collect();
            places.sort_unstable();
            self.inner.step(&batch.filter(&places)?, &[], &ctx)?;
            ctx.tick(1)?;
        }
        ctx.progress().finish();
        Ok(())
    }
}

impl Learner for RoundLearner {
    fn probe(&mut self, batch: &Pool, want: &[Column], ctx: &Ctx) -> Result<RecordBatch> {
        self.inner.probe(batch, want, ctx)
    }

    fn step(&mut self, batch: &Pool, want: &[Column], ctx: &Ctx) -> Result<Feedback> {
        let (earlier, later): (Vec<Column>, Vec<Column>) = want.iter().cloned().partition(|c| c.as_str() == BEFORE);
        let loss = [Column::signal("loss")];
        self.under_way = true;
        let before = if earlier.is_empty() { None } else { Some(self.inner.probe(batch, &loss, ctx)?) };
        self.train(batch, ctx)?;
        let mut signals = self.inner.probe(batch, &later, ctx)?;
        if let Some(before) = before {
            signals = with(&signals, &Column::named(BEFORE), before.column(0).clone())?;
        }
        self.under_way = false;
        Ok(Feedback { step: self.inner.steps(), rows: batch.ids()?, signals })
    }
}

impl Pupil for RoundLearner {
    fn updates(&self) -> u64 {
        if self.under_way { u64::MAX } else { self.inner.steps() }
    }

    fn digest(&self) -> String {
        self.inner.digest()
    }

    fn parts<'a>(&'a self, base: &'a Path) -> Vec<Part<'a>> {
        self.inner.parts(Some(base))
    }

    fn restore(&mut self, folder: &Path, state: &State) -> Result<()> {
        self.inner.restore(folder, state)
    }

    fn judge(&self, rows: &[Sequence], batch_size: usize, ctx: &Ctx) -> Result<Option<Judged>> {
        self.inner.judge(rows, batch_size, ctx)
    }

    fn into_trained(self) -> Model {
        self.inner.into_model()
    }
}
