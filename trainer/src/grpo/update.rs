//! From judged answers to updates.

use super::GrpoLearner;
use super::objective::{Objective, TokenTerm};
use super::report::Learned;
use super::rollout::{Answer, Group};
use crate::Batch;
use crate::model::{LoraRef, Losses, Policy, StepOptions};
use curate_core::{Ctx, Error, Result};

/// What a token needs besides its likelihood now.
#[derive(Clone, Copy)]
struct Place {
    old: f64,
    reference: Option<f64>,
    advantage: f64,
    share: f64,
}

impl GrpoLearner {
    /// The groups to learn from: all, or with dynamic sampling the first ones that teach something.
    fn chosen(&self, groups: &[Group]) -> Vec<usize> {
        let all = 0..groups.len();
        match self.config.dynamic_groups {
            Some(wanted) => all.filter(|group| groups[*group].informative()).take(wanted).collect(),
            None => all.collect(),
        }
    }

    /// All updates of a step; the summed losses of the groups, when first seen.
    pub(super) fn learn(&mut self, groups: &[Group], losses: &mut [f64], ctx: &Ctx) -> Result<Learned> {
        let chosen = self.chosen(groups);
        let size = chosen.len().div_ceil(self.config.steps_per_generation).max(1);
        let mut parts = Vec::new();
        for part in chosen.chunks(size) {
            let mut answers: Vec<Answer> = part.iter().flat_map(|group| groups[*group].answers(*group)).collect();
            self.remember_reference(&mut answers, ctx)?;
            parts.push(answers);
        }
        let (mut learned, mut unseen) = (Learned::default(), vec![0.0; groups.len()]);
        for round in 0..self.config.num_iterations {
            let seen = if round == 0 { &mut *losses } else { &mut unseen[..] };
            for part in &parts {
                self.update(part, (&mut learned, &mut *seen), ctx)?;
            }
        }
        Ok(learned)
    }

    /// One update, unless no answer has a gradient.
    fn update(&mut self, answers: &[Answer], (learned, losses): (&mut Learned, &mut [f64]), ctx: &Ctx) -> Result<()> {
        let lengths: Vec<usize> = answers.iter().map(|answer| answer.old.len()).collect();
        let shares = self.config.loss_type.shares(&lengths, self.config.max_completion_length);
        let taught = |answer: &Answer| answer.advantage != 0.0 || self.config.beta > 0.0;
        let taught: Vec<_> = answers.iter().zip(shares).filter(|(answer, _)| taught(answer)).collect();
        if taught.is_empty() {
            return Ok(());
        }
        self.grads.clear();
        for pass in taught.chunks(self.config.train.batch_size) {
            ctx.tick(0)?;
            self.pass(pass, (&mut *learned, &mut *losses), ctx)?;
        }
        let lr = self.schedule.lr(self.config.train.one_rate()?, self.steps);
        let report = self.optimizer.step(&mut self.model.params, &self.grads, lr);
        if let Some(tensor) = report.skipped {
            let step = self.steps + 1;
            return Err(Error::data(
                "train/not-finite",
                format!("step {step}: the gradient of '{tensor}' is no number"),
            )
            .hint("lower train.learning_rate; the update was not made"));
        }
        learned.updates += 1;
        learned.grad_norm += report.grad_norm;
        Ok(())
    }

    /// Forward and back over some answers.
    fn pass(
        &mut self,
        answers: &[(&Answer, f64)],
        (learned, losses): (&mut Learned, &mut [f64]),
        ctx: &Ctx,
    ) -> Result<()> {
        let batch = Batch::of(answers.iter().map(|(answer, _)| &answer.sequence));
        let (places, objective) = (places(answers), Objective::new(&self.config));
        let term = |at: usize, nll: f32| {
            let place = places[at]?;
            let term = objective.token(-f64::from(nll), place.old, place.reference, place.advantage);
            Some((term, place.share))
        };
        #[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
        let weight = |at: usize, nll: f32| term(at, nll).map_or(0.0, |(term, share)| (-term.slope * share) as f32);
        let policy = Policy { temperature: self.temperature(), weight: &weight };
        let options = StepOptions { gradient_checkpointing: self.config.train.gradient_checkpointing };
        let found = self.model.policy_gradients(&batch, &policy, options, &mut self.grads, ctx)?;
        for ((answer, _), segment) in answers.iter().zip(&batch.segments) {
            let terms = segment.clone().filter_map(|at| term(at, found.token_nll[at]));
            losses[answer.group] += count(learned, terms);
        }
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "the model computes in f32")]
    const fn temperature(&self) -> f32 {
        self.config.temperature as f32
    }

    /// Write down how likely the reference finds every token, where there is a pull to it.
    fn remember_reference(&mut self, answers: &mut [Answer], ctx: &Ctx) -> Result<()> {
        if self.config.beta <= 0.0 {
            return Ok(());
        }
        for part in answers.chunks_mut(self.config.train.batch_size) {
            let batch = Batch::of(part.iter().map(|answer| &answer.sequence));
            let losses = self.reference_losses(&batch, ctx)?;
            for (answer, segment) in part.iter_mut().zip(&batch.segments) {
                let nll = &losses.token_nll[segment.start + answer.start..segment.end];
                answer.reference = Some(nll.iter().map(|nll| -nll).collect());
            }
        }
        Ok(())
    }

    /// Of the first weights, or of the model with its adapters taken off for the moment.
    fn reference_losses(&mut self, batch: &Batch, ctx: &Ctx) -> Result<Losses> {
        let temperature = self.temperature();
        if let Some(reference) = &self.reference {
            return reference.policy_losses(batch, temperature, ctx);
        }
        let kept: Vec<Option<LoraRef>> = self.model.linears_mut().map(|(_, linear)| linear.lora.take()).collect();
        let losses = self.model.policy_losses(batch, temperature, ctx);
        self.model.linears_mut().zip(kept).for_each(|((_, linear), lora)| linear.lora = lora);
        losses
    }
}

/// What every token of a batch needs; nothing for those of a prompt.
fn places(answers: &[(&Answer, f64)]) -> Vec<Option<Place>> {
    let one = |(answer, share): &(&Answer, f64)| {
        let (advantage, share) = (answer.advantage, *share);
        let reference = |at: usize| answer.reference.as_ref().map(|reference| f64::from(reference[at]));
        let place =
            |(at, old): (usize, &f32)| Some(Place { old: f64::from(*old), reference: reference(at), advantage, share });
        let tokens: Vec<Option<Place>> = answer.old.iter().enumerate().map(place).collect();
        std::iter::repeat_n(None, answer.start).chain(tokens)
    };
    answers.iter().flat_map(one).collect()
}

/// Add up the terms of an answer; the sum of its losses, not weighed.
fn count(learned: &mut Learned, terms: impl Iterator<Item = (TokenTerm, f64)>) -> f64 {
    let mut sum = 0.0;
    for (term, share) in terms {
        learned.tokens += 1;
        learned.clipped += u64::from(term.clipped);
        learned.kl += term.kl;
        learned.loss += share * term.loss;
        sum += term.loss;
    }
    sum
}
