//! Which entries of a model a run trains.

use crate::lora::LoraConfig;
use crate::mask::lift::LiftConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which entries of the model are trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tuning {
    /// All that `freeze` does not hold.
    #[default]
    Full,
    /// Low-rank additions; the model rests.
    Lora(LoraConfig),
    /// The largest entries of the low-rank part of each matrix.
    Lift(LiftConfig),
    /// Train all, keep the entries that moved most, start again with those alone.
    LtSft(LtSftConfig),
    /// The entries of a given sparse change, for one those that another run moved.
    Sparse(SparseConfig),
}

/// Parameters of two-phase sparse fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LtSftConfig {
    /// Entries trained in the second phase; `ft_params_proportion` of all when left out.
    pub ft_params_num: Option<usize>,
    /// Share of entries trained in the second phase.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ft_params_proportion: f64,
    /// Epochs of the first phase; `num_train_epochs` when left out.
    pub full_epochs: Option<f64>,
    /// Rounds of both phases. Each adds its share of the entries to those of the rounds before, and begins where the round
    /// before ended.
    #[schemars(range(min = 1))]
    pub n_ft_iterations: usize,
    /// Weight of the mean distance from the base, in both phases.
    #[schemars(range(min = 0.0))]
    pub l1: f64,
}

impl Default for LtSftConfig {
    fn default() -> Self {
        Self { ft_params_num: None, ft_params_proportion: 0.01, full_epochs: None, n_ft_iterations: 1, l1: 0.0 }
    }
}

/// Where the entries to train are read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SparseConfig {
    /// A sparse change, as other runs write it.
    pub mask: PathBuf,
}
