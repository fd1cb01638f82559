//! LIFT: train only the entries of a weight matrix that are largest in its best low-rank approximation.
//!
//! `k = min((m + n) lora_rank, m n)` entries of the largest `|W_r|`, `W_r` of rank `filter_rank`, anew every `update_interval` steps;
//! moments of entries that stay are carried over. Source: Liu et al., LIFT the Veil for the Truth: Principal Weights
//! Emerge after Rank Reduction (section 3). Deviations: the published code takes the smallest entries unless a setting's
//! name says otherwise (`select: smallest` for comparison); the approximation is found in a random subspace of
//! `2 filter_rank` directions. Cost: one decomposition of every matrix a refresh, 12 bytes a chosen entry.

use super::linalg::Svd;
use super::{Mask, top_k_of};
use crate::optim::groups::{is_embedding, is_head};
use crate::{ParamId, Params, Tensor};
use curate_core::{Ctx, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which entries of `|W_r|` are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The largest, as in the paper.
    #[default]
    Largest,
    /// The smallest, for comparison with the published code.
    Smallest,
}

/// Parameters of LIFT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LiftConfig {
    /// As many entries are trained as a `LoRA` of this rank has.
    #[schemars(range(min = 1))]
    pub lora_rank: usize,
    /// Rank of the approximation.
    #[schemars(range(min = 1))]
    pub filter_rank: usize,
    /// Steps between two choices of entries.
    #[schemars(range(min = 1))]
    pub update_interval: u64,
    /// Which entries are trained.
    pub select: Select,
}

impl Default for LiftConfig {
    fn default() -> Self {
        Self { lora_rank: 128, filter_rank: 64, update_interval: 400, select: Select::Largest }
    }
}

impl LiftConfig {
    /// Whether LIFT trains a tensor: matrices, but neither embeddings nor the head.
    #[must_use]
    pub fn trains(name: &str, shape: &[usize]) -> bool {
        shape.len() == 2 && !is_embedding(name) && !is_head(name)
    }

    /// Entries trained of a matrix.
    #[must_use]
    pub const fn entries(&self, rows: usize, columns: usize) -> usize {
        let (lora, all) = ((rows + columns) * self.lora_rank, rows * columns);
        if lora < all { lora } else { all }
    }

    /// The entries of one matrix.
    ///
    /// # Errors
    /// `mask/too-large`; when asked to stop.
    pub fn mask(&self, tensor: &Tensor, ctx: &Ctx) -> Result<Mask> {
        let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
        let ctx = ctx.labelled(&tensor.name);
        let mut weight: Vec<f32> = if self.filter_rank >= rows.min(columns) {
            tensor.data.clone()
        } else {
            Svd::leading(&tensor.data, columns, self.filter_rank, 2 * self.filter_rank, &ctx)?.matrix()
        };
        let sign = if self.select == Select::Largest { 1.0 } else { -1.0 };
        for x in &mut weight {
            *x = sign * x.abs();
        }
        top_k_of(&weight, self.entries(rows, columns))
    }

    /// The entries of every trained matrix, as the weights stand before step `step`.
    ///
    /// # Errors
    /// As [`LiftConfig::mask`].
    pub fn masks(&self, params: &Params, step: u64, ctx: &Ctx) -> Result<Vec<(ParamId, Mask)>> {
        let ctx = ctx.labelled("lift").labelled(&step.to_string());
        let trained = params.iter().filter(|(_, tensor)| tensor.trained);
        trained.map(|(id, tensor)| Ok((id, self.mask(tensor, &ctx)?))).collect()
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)] // reason: small sizes
mod tests {
    use super::*;
    use crate::lora::fill_normal;

    /// Low rank plus noise.
    fn tensor() -> Tensor {
        let (rows, columns, rank) = (64, 96, 4);
        let ctx = Ctx::new(5);
        let draw = |label: &str, n: usize, std: f64| {
            let mut values = vec![0.0f32; n];
            fill_normal(&mut ctx.rng(label, 0), &mut values, std);
            values
        };
        let (u, v) = (draw("u", rows * rank, 0.5), draw("v", rank * columns, 0.5));
        let mut data = draw("noise", rows * columns, 0.5);
        for (at, x) in data.iter_mut().enumerate() {
            *x += (0..rank).map(|c| u[at / columns * rank + c] * v[c * columns + at % columns]).sum::<f32>();
        }
        Tensor { name: "model.layers.0.mlp.up_proj.weight".into(), shape: vec![rows, columns], data, trained: true }
    }

    #[test]
    fn counts_and_directions() {
        let tensor = tensor();
        let config = LiftConfig { lora_rank: 4, filter_rank: 4, ..LiftConfig::default() };
        let mask = config.mask(&tensor, &Ctx::new(1)).unwrap();
        assert_eq!(mask.len(), (64 + 96) * 4);
        assert_eq!(mask, config.mask(&tensor, &Ctx::new(1)).unwrap());
        let smallest = LiftConfig { select: Select::Smallest, ..config }.mask(&tensor, &Ctx::new(1)).unwrap();
        assert_eq!(mask.overlap(&smallest), 0);
        let plain = LiftConfig { filter_rank: 64, ..config }.mask(&tensor, &Ctx::new(1)).unwrap();
        assert_eq!(plain, {
            let size: Vec<f32> = tensor.data.iter().map(|x| x.abs()).collect();
            top_k_of(&size, mask.len()).unwrap()
        });
        let share = mask.overlap(&plain) as f64 / mask.len() as f64;
        assert!((0.1..0.9).contains(&share), "{share}");
    }

    #[test]
    fn small_matrices_are_trained_whole() {
        assert_eq!(LiftConfig::default().entries(16, 16), 256);
        assert!(LiftConfig::trains("model.layers.0.mlp.up_proj.weight", &[4, 4]));
        assert!(!LiftConfig::trains("lm_head.weight", &[4, 4]) && !LiftConfig::trains("model.norm.weight", &[4]));
    }
}
