//! Answers to prompts, drawn and judged.

use super::{GrpoConfig, GrpoReport, advantages};
use crate::IGNORE;
use crate::Sequence;
use crate::eval::{EvalItem, prompt_ids};
use crate::model::{Draws, Generator, Model, Sample};
use crate::tokenizer::TextTokenizer;
use crate::verify::Verifier;
use curate_core::{Ctx, Error, Location, Result};
use rayon::prelude::*;

/// A prompt and its answers.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) row: u64,
    prompt: Vec<u32>,
    samples: Vec<Sample>,
    pub(super) rewards: Vec<f64>,
    pub(super) advantages: Vec<f64>,
    /// Right answers.
    pub(super) successes: usize,
}

/// One answer to learn from.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Place of its group.
    pub(super) group: usize,
    pub(super) sequence: Sequence,
    /// Where the answer begins.
    pub(super) start: usize,
    pub(super) old: Vec<f32>,
    pub(super) reference: Option<Vec<f32>>,
    pub(super) advantage: f64,
}

impl Group {
    pub(super) fn informative(&self) -> bool {
        self.advantages.iter().any(|advantage| *advantage != 0.0)
    }

    pub(super) fn tokens(&self) -> usize {
        self.samples.iter().map(|sample| sample.tokens.len()).sum()
    }

    pub(super) fn answers(&self, group: usize) -> impl Iterator<Item = Answer> {
        self.samples.iter().zip(&self.advantages).map(move |(sample, advantage)| {
            let tokens: Vec<u32> = self.prompt.iter().chain(&sample.tokens).copied().collect();
            let hidden = self.prompt.iter().map(|_| IGNORE);
            let labels = hidden.chain(sample.tokens.iter().copied()).collect();
            let sequence = Sequence { row: self.row, tokens, labels, weight: 1.0 };
            let (start, old) = (self.prompt.len(), sample.log_probs.clone());
            Answer { group, sequence, start, old, reference: None, advantage: *advantage }
        })
    }
}

/// Who answers and who judges.
pub(super) struct Asking<'a> {
    pub(super) model: &'a Model,
    pub(super) tokenizer: &'a TextTokenizer,
    pub(super) verifier: &'a dyn Verifier,
    pub(super) config: &'a GrpoConfig,
}

impl Asking<'_> {
    /// Answers to every prompt. A draw is named by seed, step (in the context), row and number of the answer.
    pub(super) fn groups(&self, items: &[EvalItem], ctx: &Ctx) -> Result<Vec<Group>> {
        let prompts = items.iter().map(|item| self.prompt(item)).collect::<Result<Vec<_>>>()?;
        let (copies, max_new) = (self.config.num_generations, self.config.max_completion_length);
        let streams: Vec<_> = (0..copies).map(|copy| ctx.stream(&format!("answer {copy}"))).collect();
        let rng = |prompt: usize, copy: usize| streams[copy](items[prompt].row);
        let draws = Draws { copies, max_new, stop: self.tokenizer.stops(), rng: &rng };
        #[expect(clippy::cast_possible_truncation, reason = "the model computes in f32")]
        let generator = Generator::new(self.model).temperature(self.config.temperature as f32);
        let samples = generator.sample(&prompts, &draws, ctx)?;
        let each = items.par_iter().zip(prompts).zip(samples.par_chunks(copies));
        each.map(|((item, prompt), samples)| self.judged(item, prompt, samples.to_vec())).collect()
    }

    fn prompt(&self, item: &EvalItem) -> Result<Vec<u32>> {
        let ids = prompt_ids(item, self.tokenizer)?;
        let context = self.config.train.max_length.min(self.model.config.max_position_embeddings);
        let longest = context.saturating_sub(self.config.max_completion_length);
        if ids.len() <= longest {
            return Ok(ids);
        }
        let (length, answer) = (ids.len(), self.config.max_completion_length);
        Err(Error::data(
            "grpo/prompt-length",
            format!("a prompt of {length} tokens and an answer of {answer} do not fit into {context}"),
        )
        .hint("raise train.max_length up to the model's context, lower max_completion_length, or drop the row")
        .at(Location::default().row(item.row).column("prompt")))
    }

    fn judged(&self, item: &EvalItem, prompt: Vec<u32>, samples: Vec<Sample>) -> Result<Group> {
        let (mut rewards, mut successes) = (Vec::with_capacity(samples.len()), 0);
        for sample in &samples {
            if !sample.log_probs.iter().all(|log_prob| log_prob.is_finite()) {
                return Err(Error::data("train/not-finite", "the probability of a token is no number")
                    .hint("the model has diverged; lower train.learning_rate")
                    .at(Location::default().row(item.row)));
            }
            let verdict = self.verifier.verify(&self.tokenizer.decode(sample.answer())?, &item.label);
            successes += usize::from(verdict.correct);
            let partial = verdict.digits.map_or(0.0, |digits| self.config.partial_credit * digits.digit_match);
            rewards.push(if verdict.correct { 1.0 } else { partial });
        }
        let advantages = advantages(&rewards, self.config.scale_rewards);
        Ok(Group { row: item.row, prompt, samples, rewards, advantages, successes })
    }
}

/// The report on all groups that were drawn.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(super) fn report(groups: &[Group]) -> GrpoReport {
    let samples: Vec<&Sample> = groups.iter().flat_map(|group| &group.samples).collect();
    let (prompts, rollouts) = (groups.len(), samples.len());
    let tokens: usize = groups.iter().map(Group::tokens).sum();
    let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
    let reward: f64 = groups.iter().flat_map(|group| &group.rewards).sum();
    let entropy: f64 = samples.iter().flat_map(|sample| &sample.log_probs).map(|log_prob| -f64::from(*log_prob)).sum();
    GrpoReport {
        prompts,
        rollouts,
        tokens: tokens as u64,
        reward: reward / rollouts.max(1) as f64,
        accuracy: share(groups.iter().map(|group| group.successes).sum(), rollouts),
        informative: share(groups.iter().filter(|group| group.informative()).count(), prompts),
        finished: share(samples.iter().filter(|sample| sample.finished).count(), rollouts),
        entropy: entropy / tokens.max(1) as f64,
        ..GrpoReport::default()
    }
}
