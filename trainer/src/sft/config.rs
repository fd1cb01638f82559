//! The configuration of a training run, under the names that users of other trainers know.

use super::Tuning;
use crate::data::{LossOn, Packing};
use crate::optim::groups::Freeze;
use crate::optim::{Allora, OptimConfig, Rule};
use crate::schedule::{Curve, Schedule};
use curate_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How weights that rest are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestingDtype {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, widened when used: half of the memory, exact for weights that were published in bf16.
    Bf16,
}

/// What stands in for a hidden token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MftReplace {
    /// A token drawn from the vocabulary.
    #[default]
    Random,
    /// The token `mask_token`.
    Mask,
}

/// Parameters of masked thought.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MftConfig {
    /// Share of the answer's tokens that are hidden, reached after two thirds of the steps.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// What stands in for a hidden token.
    pub replace: MftReplace,
    /// Id of the mask token.
    pub mask_token: Option<u32>,
}

impl Default for MftConfig {
    fn default() -> Self {
        Self { p: 0.4, replace: MftReplace::Random, mask_token: None }
    }
}

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Largest learning rate. There is no default: give one, or several to try in `lr_sweep`.
    pub learning_rate: Option<f64>,
    /// Learning rates to try; the one of lowest loss stays.
    pub lr_sweep: Vec<f64>,
    /// Rows a pass, or bins of `max_length` tokens with packing.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Passes an update. The loss is the mean over all labelled tokens of all of them.
    #[schemars(range(min = 1))]
    pub gradient_accumulation_steps: usize,
    /// Longest sequence, tokens; what is beyond is cut off.
    #[schemars(range(min = 2))]
    pub max_length: usize,
    /// Which rows share a pass.
    pub packing: Packing,
    /// Which tokens carry a loss.
    pub loss_on: LossOn,
    /// Column of the input with a weight for every row: the loss is the mean over labelled tokens, each with the weight of
    /// its row. `auto` takes `curate_weight`, which a selection writes, where it is there; `none` takes no weights. Rows that
    /// are chosen while the model learns have none.
    pub row_weights: String,
    /// Shape of the learning rate after warm-up.
    pub lr_scheduler_type: Curve,
    /// Share of the steps that warm up.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_ratio: f64,
    /// Steps that warm up, in place of the share.
    pub warmup_steps: Option<u64>,
    /// Learning rate at the end as a share of the largest.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_lr_ratio: f64,
    /// How a gradient becomes an update.
    pub optimizer: Rule,
    /// Decay of the first moment.
    #[schemars(range(min = 0.0, max = 0.9999))]
    pub adam_beta1: f64,
    /// Decay of the second moment.
    #[schemars(range(min = 0.0, max = 0.999_999))]
    pub adam_beta2: f64,
    /// Added to the root of the second moment.
    #[schemars(range(min = 0.0))]
    pub adam_epsilon: f64,
    /// Momentum of plain gradient descent.
    #[schemars(range(min = 0.0, max = 0.9999))]
    pub momentum: f64,
    /// Share of a matrix that decays a step, times the learning rate.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 for no clipping.
    #[schemars(range(min = 0.0))]
    pub max_grad_norm: f64,
    /// Passes over the rows.
    #[schemars(range(min = 0.0))]
    pub num_train_epochs: f64,
    /// Steps, in place of epochs.
    pub max_steps: Option<u64>,
    /// Less memory for more time.
    pub gradient_checkpointing: bool,
    /// How the linear maps of the blocks are kept while adapters are trained on them. All arithmetic is in 32 bits.
    pub dtype: RestingDtype,
    /// Steps between checkpoints; at the end only when left out.
    pub save_steps: Option<u64>,
    /// Checkpoints kept; all when left out.
    pub save_total_limit: Option<usize>,
    /// Steps between evaluations; at the end only when left out.
    pub eval_steps: Option<u64>,
    /// Evaluations without a lower loss after which the run stops.
    pub early_stopping_patience: Option<u32>,
    /// Which entries of the model are trained: `full`, or one of `lora`, `lift`, `lt_sft` and `sparse` with its own
    /// options, such as `tuning.lora.r=16` or `tuning.lift.lora_rank=32`.
    pub tuning: Tuning,
    /// What is not trained.
    pub freeze: Freeze,
    /// Factor on the learning rate from one block to the one below it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub layerwise_lr_decay: f64,
    /// Top blocks that start from new values.
    pub reinit_top_layers: usize,
    /// Factor on the learning rate of the B matrices of adapters.
    #[schemars(range(min = 0.0))]
    pub loraplus_lr_ratio: f64,
    /// Row factors on the B matrices of adapters.
    pub allora: Option<Allora>,
    /// Hide part of the answers from the model's eyes.
    pub mft: Option<MftConfig>,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            learning_rate: None,
            lr_sweep: Vec::new(),
            batch_size: 8,
            gradient_accumulation_steps: 1,
            max_length: 1024,
            packing: Packing::None,
            loss_on: LossOn::Completion,
            row_weights: "auto".to_owned(),
            lr_scheduler_type: Curve::Cosine,
            warmup_ratio: 0.03,
            warmup_steps: None,
            min_lr_ratio: 0.0,
            optimizer: Rule::Adamw,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            num_train_epochs: 3.0,
            max_steps: None,
            gradient_checkpointing: false,
            dtype: RestingDtype::F32,
            save_steps: None,
            save_total_limit: Some(2),
            eval_steps: None,
            early_stopping_patience: None,
            tuning: Tuning::Full,
            freeze: Freeze::default(),
            layerwise_lr_decay: 1.0,
            reinit_top_layers: 0,
            loraplus_lr_ratio: 1.0,
            allora: None,
            mft: None,
        }
    }
}

impl SftConfig {
    /// Check what ranges cannot express.
    ///
    /// # Errors
    /// `train/config`, `lora/config`.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str, hint: &str| Err(Error::usage("train/config", what).hint(hint));
        let positive = |lr: &f64| *lr > 0.0 && lr.is_finite();
        if !self.learning_rate.iter().chain(&self.lr_sweep).all(positive) {
            return wrong("a learning rate must be above 0", "1e-5 for all weights and 2e-4 for LoRA are common");
        }
        if self.batch_size == 0 || self.gradient_accumulation_steps == 0 {
            return wrong("batch_size and gradient_accumulation_steps must be at least 1", "8 and 1 are the defaults");
        }
        let not_a_number = |x: f64| !x.is_finite() || x < 0.0;
        if not_a_number(self.num_train_epochs) || not_a_number(self.max_grad_norm) || not_a_number(self.weight_decay) {
            return wrong("epochs, clipping and decay must be numbers from 0", "leave them out for the defaults");
        }
        if [self.save_steps, self.eval_steps].contains(&Some(0)) {
            return wrong(
                "save_steps and eval_steps count from 1",
                "leave them out to save and evaluate at the end only",
            );
        }
        if self.mft.is_some_and(|mft| mft.replace == MftReplace::Mask && mft.mask_token.is_none()) {
            return wrong(
                "mft.replace is mask but mft.mask_token is not given",
                "give the id of the mask or padding token",
            );
        }
        match &self.tuning {
            Tuning::Lora(lora) => lora.check(),
            _ if self.dtype == RestingDtype::Bf16 => wrong(
                "dtype=bf16 is for weights that rest, and these are trained",
                "train adapters (--lora), or leave dtype out: an update is too small for 16 bits",
            ),
            _ => Ok(()),
        }
    }

    /// The one learning rate of a run.
    ///
    /// # Errors
    /// `train/learning-rate` when there is none, or several.
    pub fn one_rate(&self) -> Result<f64> {
        self.learning_rate.ok_or_else(|| {
            Error::usage("train/learning-rate", "no learning rate is given")
                .hint("add --lr (learning_rate in a plan): 1e-5 for all weights, 2e-4 for LoRA; -O lr_sweep=[..] tries several")
        })
    }

    /// Steps of a run whose epochs have so many.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    pub fn total_steps(&self, steps_per_epoch: u64) -> u64 {
        self.max_steps.unwrap_or_else(|| (self.num_train_epochs * steps_per_epoch as f64).ceil() as u64)
    }

    /// The learning rate over so many steps.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a ratio")]
    pub fn schedule(&self, total_steps: u64) -> Schedule {
        let by_ratio = (self.warmup_ratio * total_steps as f64).ceil() as u64;
        Schedule {
            curve: self.lr_scheduler_type,
            warmup_steps: self.warmup_steps.unwrap_or(by_ratio),
            total_steps,
            min_lr_ratio: self.min_lr_ratio,
        }
    }

    /// The optimizer's part.
    #[must_use]
    pub fn optim(&self) -> OptimConfig {
        OptimConfig {
            rule: self.optimizer,
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            epsilon: self.adam_epsilon,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            max_grad_norm: self.max_grad_norm,
            allora: self.allora,
        }
    }
}
