//! The options of a run.

use crate::eval::Judge;
use crate::sft::{SftConfig, Tuning};
use curate_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Over what the losses of tokens are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Over the tokens of an answer, then over answers: a token of a short answer weighs more.
    Grpo,
    /// Over all tokens of an update: every token weighs the same.
    #[default]
    Dapo,
    /// The sum divided by answers times `max_completion_length`, the same for every batch.
    DrGrpo,
}

impl LossType {
    /// The weight of a token of every answer, from the lengths of the answers of one update.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub fn shares(self, lengths: &[usize], longest: usize) -> Vec<f64> {
        let answers = lengths.len() as f64;
        let tokens = lengths.iter().sum::<usize>().max(1) as f64;
        let share = |length: &usize| match self {
            Self::Grpo => 1.0 / (answers * (*length).max(1) as f64),
            Self::Dapo => 1.0 / tokens,
            Self::DrGrpo => 1.0 / (answers * longest.max(1) as f64),
        };
        lengths.iter().map(share).collect()
    }
}

/// By what the distance of a reward from the mean of its group is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// By the deviation within the group.
    #[default]
    Group,
    /// By nothing.
    None,
}

/// Group relative policy optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoConfig {
    /// How weights are updated. Here `batch_size` is the answers a pass holds, all passes of an update are accumulated, a step
    /// of the schedule is a batch of prompts, and `max_length` counts prompt and answer. Tuning is `full` or `lora`.
    pub train: SftConfig,
    /// Answers to a prompt.
    #[schemars(range(min = 2))]
    pub num_generations: usize,
    /// Longest answer, tokens.
    #[schemars(range(min = 1))]
    pub max_completion_length: usize,
    /// Temperature at which answers are drawn, and at which likelihoods are read.
    #[schemars(range(min = 0.01))]
    pub temperature: f64,
    /// Times that the answers are learned from.
    #[schemars(range(min = 1))]
    pub num_iterations: usize,
    /// Updates into which the prompts of a step are shared out, each time.
    #[schemars(range(min = 1))]
    pub steps_per_generation: usize,
    /// How far a likelihood may fall, as a share, before its gradient is cut.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub epsilon: f64,
    /// How far it may rise; `epsilon` when left out, 0.28 in DAPO.
    #[schemars(range(min = 0.0))]
    pub epsilon_high: Option<f64>,
    /// Largest ratio that counts for an answer worse than its neighbours (dual clip); without limit when left out.
    #[schemars(range(min = 1.0))]
    pub delta: Option<f64>,
    /// Weight of the distance from the reference: the weights the run began with, or the model without its adapter. 0
    /// needs no reference.
    #[schemars(range(min = 0.0))]
    pub beta: f64,
    /// Over what losses are averaged.
    pub loss_type: LossType,
    /// By what rewards are divided.
    pub scale_rewards: ScaleRewards,
    /// Dynamic sampling: go through the prompts of a step, so many at a time, until so many groups have unequal rewards, and learn
    /// from those alone. Hand in several times as many prompts; when they are used up, the step learns from what it has.
    #[schemars(range(min = 1))]
    pub dynamic_groups: Option<usize>,
    /// The rule that tells right answers.
    pub judge: Judge,
    /// Reward of a wrong answer with all digits in place, in proportion to those that are; for the rule `number`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub partial_credit: f64,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        Self {
            train: SftConfig::default(),
            num_generations: 8,
            max_completion_length: 256,
            temperature: 1.0,
            num_iterations: 1,
            steps_per_generation: 1,
            epsilon: 0.2,
            epsilon_high: None,
            delta: None,
            beta: 0.0,
            loss_type: LossType::Dapo,
            scale_rewards: ScaleRewards::Group,
            dynamic_groups: None,
            judge: Judge::Exact,
            partial_credit: 0.0,
        }
    }
}

fn refuse(what: &str, hint: &str) -> Result<()> {
    Err(Error::usage("train/config", what).hint(hint))
}

impl GrpoConfig {
    /// Check what ranges cannot express, and the ranges where the configuration was made in code.
    ///
    /// # Errors
    /// `train/config`, `train/learning-rate`, `lora/config`.
    pub fn check(&self) -> Result<()> {
        self.train.check()?;
        self.train.one_rate()?;
        if !matches!(self.train.tuning, Tuning::Full | Tuning::Lora(_)) {
            return refuse("answers are learned from with tuning full or lora", "take train.tuning full or lora");
        }
        if self.num_generations < 2 {
            return refuse("an answer is compared with others to its prompt", "num_generations is 2 or more");
        }
        let counts = [self.max_completion_length, self.num_iterations, self.steps_per_generation];
        if counts.contains(&0) || self.dynamic_groups == Some(0) {
            return refuse("counts must be at least 1", "leave them out for the defaults");
        }
        let numbers = [self.epsilon, self.epsilon_high.unwrap_or(0.0), self.beta, self.partial_credit];
        if !numbers.iter().all(|x| x.is_finite() && *x >= 0.0)
            || self.delta.is_some_and(|delta| delta.is_nan() || delta < 1.0)
        {
            return refuse(
                "epsilon, beta and partial_credit are numbers from 0, delta from 1",
                "0.2, 0 and 0 are usual",
            );
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.01) {
            return refuse("a temperature is a number from 0.01", "1 draws from the model as it is");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_weighs_as_the_loss_says() {
        let shares = |loss: LossType| loss.shares(&[1, 3], 10);
        assert_eq!(shares(LossType::Grpo), [0.5, 1.0 / 6.0]);
        assert_eq!(shares(LossType::Dapo), [0.25, 0.25]);
        assert_eq!(shares(LossType::DrGrpo), [0.05, 0.05]);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let good = || GrpoConfig {
            train: SftConfig { learning_rate: Some(1e-4), ..SftConfig::default() },
            ..GrpoConfig::default()
        };
        let code = |config: GrpoConfig| config.check().err().map(|e| (e.code(), e.hint_text().is_some()));
        assert_eq!(code(good()), None);
        assert_eq!(code(GrpoConfig::default()), Some(("train/learning-rate", true)));
        let bad = Some(("train/config", true));
        assert_eq!(code(GrpoConfig { num_generations: 1, ..good() }), bad);
        assert_eq!(code(GrpoConfig { temperature: 0.0, ..good() }), bad);
        assert_eq!(code(GrpoConfig { beta: f64::NAN, ..good() }), bad);
        assert_eq!(code(GrpoConfig { delta: Some(f64::NAN), ..good() }), bad);
        assert_eq!(code(GrpoConfig { dynamic_groups: Some(0), ..good() }), bad);
    }
}
