//! Takes the prompts whose success rate is probably near a target, from what earlier rollouts said: no rollout is spent on
//! finding out.
//!
//! Every prompt has a Beta posterior of its success rate, the prior `(a0, b0)` at first. After `s` successes in `n` trials
//! `alpha <- lambda alpha + (1 - lambda) a0 + s`, `beta <- lambda beta + (1 - lambda) b0 + n - s`. For each candidate one
//! `g ~ Beta(alpha, beta)` is drawn (or its mean taken). `top-k`: smallest `(g - target)^2`; `threshold`: any with
//! `lower <= g <= upper`, drawn at random if there are more than wanted, else the nearest to the interval; `uniform`: any.
//! Ties go to the lower position. Source: `MoPPS`, "Model Predictive Prompt Selection" (2025) and its released code.
//! Deviations: one trial counts like any other (the code then sets alpha = beta); a prompt never offered starts at the
//! prior; warm start reads the columns `signal.successes` and `signal.trials` of candidates; with `clock_decay` below 1 each
//! proposal that passes draws a posterior towards the prior (own work); draws are named by (seed, proposal, row).
//! Replay: `report.draws` holds the draws of the picks in double precision; candidates that carry a column `signal.draw` are
//! judged by it instead of a draw. May not be proposed ahead: the last feedback changes the draws.
//! Cost: m time for m candidates, 8 m bytes; 90 to 130 bytes for every prompt heard of.

mod outcomes;
mod posteriors;
mod slots;

use super::batch::{Batch, Seen};
use super::running::Method;
use super::smallest::{BLOCK, smallest};
use super::stored::Stored;
use curate_core::kernels::chance::{Beta, Chance};
use curate_core::{Algorithm, Column, Ctx, Error, Info, Location, Needs, Result, Selection, State};
use outcomes::{outcomes, successes, trials};
use posteriors::{Posteriors, Rule};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Laws looked up before their draws are made together.
const LAWS: usize = 1 << 10;

/// Which prompts to take, given a success rate for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Those nearest to the target.
    #[default]
    TopK,
    /// Any between lower and upper; the nearest to that interval where there are too few.
    Threshold,
    /// Any: the baseline, with posteriors kept all the same.
    Uniform,
}

/// What stands for the success rate of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Estimate {
    /// A draw from the posterior (Thompson sampling), which also tries what is not known well.
    #[default]
    Sample,
    /// The posterior's mean.
    Mean,
}

/// Parameters of `MoPPS`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mopps {
    /// Which prompts to take, given a success rate for each.
    pub strategy: Strategy,
    /// What stands for the success rate of a prompt.
    pub estimate: Estimate,
    /// Success rate to aim at, for top-k.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub target: f64,
    /// Least success rate, for threshold.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lower: f64,
    /// Greatest success rate, for threshold.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub upper: f64,
    /// Share of what is known about a prompt that a new observation leaves: 1 never forgets, 0 keeps the last one only.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub decay: f64,
    /// Share of what is known that every passing proposal leaves, observed or not; 1 is off.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub clock_decay: f64,
    /// Alpha of the prior.
    #[schemars(range(min = 0.001, max = 1_000_000.0))]
    pub prior_alpha: f64,
    /// Beta of the prior.
    #[schemars(range(min = 0.001, max = 1_000_000.0))]
    pub prior_beta: f64,
    /// Start prompts from outcomes known beforehand: columns `signal.successes` and `signal.trials` on the candidates, 0 trials for none.
    pub warm_start: bool,
    /// How often an outcome known beforehand counts.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub warm_weight: f64,
}

impl Default for Mopps {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            estimate: Estimate::default(),
            target: 0.5,
            lower: 0.3,
            upper: 0.7,
            decay: 1.0,
            clock_decay: 1.0,
            prior_alpha: 1.0,
            prior_beta: 1.0,
            warm_start: false,
            warm_weight: 3.0,
        }
    }
}

impl Algorithm for Mopps {
    const INFO: Info = Info {
        name: "mopps",
        summary: "Takes prompts whose success rate is probably near a target, from what earlier rollouts said.",
        source: "MoPPS, Model Predictive Prompt Selection (2025), and its released code",
        cost: "m time for m candidates; 90 to 130 bytes for every prompt heard of",
    };

    fn check(&self) -> Result<()> {
        if self.lower <= self.upper {
            return Ok(());
        }
        let message = format!("lower = {} lies above upper = {}", self.lower, self.upper);
        Err(Error::usage("params/conflict", message).hint("give an interval such as lower = 0.3, upper = 0.7"))
    }
}

/// What a run of `MoPPS` remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    posteriors: Posteriors,
    proposals: u64,
}

impl Method for Mopps {
    type Memory = Memory;

    fn needs(&self) -> Needs {
        let outcome = vec![successes(), trials()];
        Needs { before: if self.warm_start { outcome.clone() } else { Vec::new() }, after: outcome }
    }

    fn choose(&self, memory: &mut Memory, batch: &Batch<'_>, k: usize, ctx: &Ctx) -> Result<Selection> {
        let warm = self.warm(memory, batch)?;
        let given = batch.signal_if(&Column::signal("draw"))?;
        ctx.memory().reserve(8 * batch.len() as u64, "a draw for every candidate")?;
        for &(row, outcome) in &warm {
            memory.posteriors.update(row, outcome, &self.rule(), memory.proposals);
        }
        let draws = given.unwrap_or_else(|| self.draws(memory, batch.ids(), ctx));
        let order = self.order(&draws, k, batch.ids(), ctx);
        let reason = |p: usize| self.reason(memory, batch.ids()[p], draws[p]);
        let mut chosen = batch.select(&order, |p| -self.distance(draws[p]), reason);
        let of_picks: Vec<f64> = order.iter().map(|&p| draws[p]).collect();
        chosen.report.insert("draws".into(), json!(of_picks));
        chosen.report.insert("prompts_known".into(), json!(memory.posteriors.len()));
        memory.proposals += 1;
        Ok(chosen)
    }

    fn learn(&self, memory: &mut Memory, seen: &Seen<'_>) -> Result<()> {
        let outcomes = outcomes(seen.rows(), &seen.signal(&successes())?, &seen.signal(&trials())?)?;
        if let Some(at) = outcomes.iter().position(|o| o[0] + o[1] <= 0.0) {
            return Err(Error::data("feedback/no-trials", "a prompt was tried no times")
                .at(Location::default().row(seen.rows()[at]).column(trials().as_str()))
                .hint("leave prompts out of the feedback that were not rolled out"));
        }
        for (&row, outcome) in seen.rows().iter().zip(outcomes) {
            memory.posteriors.update(row, outcome, &self.rule(), memory.proposals);
        }
        Ok(())
    }

    fn save(&self, memory: &Memory, state: &mut State) {
        memory.posteriors.save(state);
    }

    fn load(&self, stored: &Stored<'_>) -> Result<Memory> {
        Ok(Memory { posteriors: Posteriors::load(stored)?, proposals: stored.whole("proposals")? })
    }
}

impl Mopps {
    fn rule(&self) -> Rule {
        let prior = Beta::new([self.prior_alpha, self.prior_beta]);
        Rule { prior, decay: self.decay, clock_decay: self.clock_decay }
    }

    /// Weighted outcomes of candidates never heard of, where they come with some.
    fn warm(&self, memory: &Memory, batch: &Batch<'_>) -> Result<Vec<(u64, [f64; 2])>> {
        if !self.warm_start {
            return Ok(Vec::new());
        }
        let outcomes = outcomes(batch.ids(), &batch.signal(&successes())?, &batch.signal(&trials())?)?;
        let rows = batch.ids().iter().zip(outcomes);
        let new = rows.filter(|(row, o)| o[0] + o[1] > 0.0 && !memory.posteriors.knows(**row));
        Ok(new.map(|(&row, o)| (row, o.map(|count| self.warm_weight * count))).collect())
    }

    /// The success rate that stands for every candidate.
    fn draws(&self, memory: &Memory, ids: &[u64], ctx: &Ctx) -> Vec<f64> {
        let (chance, rule) = (Chance::new(ctx.derived_seed("posterior")), self.rule());
        let mut draws = vec![0.0; ids.len()];
        let parts = draws.par_chunks_mut(LAWS).zip(ids.par_chunks(LAWS)).with_min_len(BLOCK / LAWS);
        parts.for_each_init(Vec::new, |laws, (draws, ids)| {
            memory.posteriors.of_all(ids, &rule, memory.proposals, laws);
            match self.estimate {
                Estimate::Sample => chance.betas(ids, laws, draws),
                Estimate::Mean => draws.iter_mut().zip(laws).for_each(|(draw, law)| *draw = law.mean()),
            }
        });
        draws
    }

    /// How far a success rate is from what is wanted: the smaller, the sooner taken.
    fn distance(&self, g: f64) -> f64 {
        match self.strategy {
            Strategy::TopK => (g - self.target).powi(2),
            Strategy::Threshold => (self.lower - g).max(g - self.upper).max(0.0),
            Strategy::Uniform => 0.0,
        }
    }

    /// Positions of the `k` candidates to take.
    fn order(&self, draws: &[f64], k: usize, ids: &[u64], ctx: &Ctx) -> Vec<usize> {
        let chance = Chance::new(ctx.derived_seed("any"));
        let inside = |p: usize| self.distance(draws[p]) <= 0.0;
        let any = match self.strategy {
            Strategy::TopK => false,
            Strategy::Threshold => (0..draws.len()).filter(|&p| inside(p)).count() >= k,
            Strategy::Uniform => true,
        };
        if any {
            let lot = |p: usize| if inside(p) { chance.of(ids[p]).bits() >> 1 } else { u64::MAX };
            return smallest(draws.len(), k, lot);
        }
        smallest(draws.len(), k, |p| self.distance(draws[p]).to_bits())
    }

    fn reason(&self, memory: &Memory, row: u64, draw: f64) -> String {
        let [alpha, beta] = memory.posteriors.of(row, &self.rule(), memory.proposals).shape;
        let aim = match self.strategy {
            Strategy::TopK => format!("target {}", self.target),
            Strategy::Threshold => format!("wanted {} to {}", self.lower, self.upper),
            Strategy::Uniform => "taken at random".to_owned(),
        };
        format!("success rate {draw:.4} of Beta({alpha:.2}, {beta:.2}), {aim}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::running::Running;
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, RecordBatch};
    use curate_core::{Feedback, OnlineSelector, Pool};
    use std::sync::Arc;

    fn table<const N: usize>(columns: [(&str, Vec<f64>); N]) -> RecordBatch {
        let array = |values| Arc::new(Float64Array::from(values)) as ArrayRef;
        RecordBatch::try_from_iter(columns.map(|(name, values)| (name, array(values)))).unwrap()
    }

    /// Means after feedback: 5/10, 1/10 and the prior's 1/2; the tie goes to the lower position.
    #[test]
    fn prompts_near_one_half_are_taken() {
        let pool = Pool::from_batch(table([("x", vec![0.0; 3])]));
        let mut run = Running::new(Mopps { estimate: Estimate::Mean, ..Mopps::default() });
        let signals = table([("signal.successes", vec![0.0, 4.0]), ("signal.trials", vec![8.0, 8.0])]);
        run.observe(&Feedback { step: 0, rows: vec![1, 2], signals }, &Ctx::new(0)).unwrap();
        let chosen = run.propose(&pool, 2, &Ctx::new(0)).unwrap();
        assert_eq!(chosen.rows(), [0, 2]);
        assert_eq!(chosen.picks[1].reason, "success rate 0.5000 of Beta(5.00, 5.00), target 0.5");
        assert_eq!(chosen.report["draws"], json!([0.5, 0.5]));
    }

    #[test]
    fn too_few_inside_take_the_nearest() {
        let method = Mopps { strategy: Strategy::Threshold, ..Mopps::default() };
        let order = |k| method.order(&[0.9, 0.31, 0.25, 0.7], k, &[0, 1, 2, 3], &Ctx::new(1));
        assert_eq!(order(3), [1, 3, 2], "0.25 is nearer to 0.3 than 0.9 to 0.7");
        let mut two = order(2);
        two.sort_unstable();
        assert_eq!(two, [1, 3], "both lie inside");
    }
}
