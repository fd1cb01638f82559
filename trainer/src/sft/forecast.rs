//! The memory a run will take, told before it starts.

use super::{RestingDtype, SftConfig, Trainable, Tuning};
use crate::data::Packing;
use crate::lora::module_path;
use crate::mask::lift::LiftConfig;
use crate::model::StepOptions;
use crate::optim::Rule;
use crate::{ParamId, Sequence, Tensor};
use serde::Serialize;

/// Bytes by purpose; an estimate, without the program itself and the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// Model and adapters.
    pub weights_bytes: u64,
    /// Gradients of what is trained.
    pub gradients_bytes: u64,
    /// Moments and masks.
    pub optimizer_bytes: u64,
    /// What a pass over the largest batch keeps.
    pub activations_bytes: u64,
    /// Entries that are trained.
    pub trained: u64,
    /// Tokens of the largest batch.
    pub batch_tokens: usize,
}

impl Forecast {
    /// All of it.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        self.weights_bytes + self.gradients_bytes + self.optimizer_bytes + self.activations_bytes
    }
}

/// What training `model` on these sequences will take.
#[must_use]
pub fn forecast<M: Trainable>(model: &M, config: &SftConfig, sequences: &[Sequence]) -> Forecast {
    let tensors: Vec<&Tensor> = model.params().iter().map(|(_, tensor)| tensor).collect();
    let entries = |keep: &dyn Fn(&Tensor) -> bool| -> u64 {
        tensors.iter().filter(|t| keep(t) && !config.freeze.holds(&t.name, &t.shape)).map(|t| t.entries() as u64).sum()
    };
    let all: u64 = tensors.iter().map(|t| t.entries() as u64).sum();
    let moments = if config.optimizer == Rule::Adamw { 8 } else { 4 * u64::from(config.momentum != 0.0) };
    let full = entries(&|_| true);
    // entries held, entries with a gradient, entries trained, bytes of one trained entry's moments and place
    let (weights, graded, trained, each) = match &config.tuning {
        Tuning::Full | Tuning::Sparse(_) => (all, full, full, moments),
        Tuning::Lora(_) => {
            let adapters = adapter_entries(model, config);
            (all + adapters, adapters, adapters, moments)
        }
        Tuning::Lift(lift) => {
            let trains = |t: &Tensor| LiftConfig::trains(&t.name, &t.shape);
            let chosen =
                tensors.iter().filter(|t| trains(t)).map(|t| lift.entries(t.shape[0], t.shape[1]) as u64).sum();
            (all, entries(&trains), chosen, moments + 4)
        }
        Tuning::LtSft(sparse) => (if sparse.n_ft_iterations > 1 { 3 } else { 2 } * all, full, full, moments),
    };
    let batch_tokens = largest_batch(config, sequences);
    let options = StepOptions { gradient_checkpointing: config.gradient_checkpointing };
    Forecast {
        weights_bytes: 4 * weights - saved_bytes(model, config),
        gradients_bytes: 4 * graded,
        optimizer_bytes: each * trained,
        activations_bytes: model.activation_bytes(batch_tokens, options),
        trained,
        batch_tokens,
    }
}

/// What keeping weights in 16 bits saves; one of them at a time is widened.
fn saved_bytes<M: Trainable>(model: &M, config: &SftConfig) -> u64 {
    if config.dtype == RestingDtype::F32 {
        return 0;
    }
    let sizes: Vec<u64> = model.compactable().into_iter().map(|id| model.params().get(id).entries() as u64).collect();
    (2 * sizes.iter().sum::<u64>()).saturating_sub(4 * sizes.iter().max().copied().unwrap_or(0))
}

fn adapter_entries<M: Trainable>(model: &M, config: &SftConfig) -> u64 {
    let Tuning::Lora(lora) = &config.tuning else { return 0 };
    let one = |id: ParamId| {
        let tensor = model.params().get(id);
        let path = module_path(&tensor.name);
        let sides: usize = tensor.shape.iter().sum();
        if lora.takes(path) { lora.rank(path) * sides } else { 0 }
    };
    model.linears().into_iter().map(|(id, _)| one(id) as u64).sum()
}

fn largest_batch(config: &SftConfig, sequences: &[Sequence]) -> usize {
    let mut lengths: Vec<usize> = sequences.iter().map(|s| s.tokens.len()).collect();
    let all = lengths.iter().sum();
    if config.packing == Packing::Bfd {
        return (config.batch_size * config.max_length).min(all);
    }
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths.iter().take(config.batch_size).sum()
}
