//! Rates and freezing by depth, and fresh top blocks.
//!
//! Layer-wise decay: block `l` of `L` learns at `lr xi^(L - 1 - l)`, embeddings at `lr xi^L`, head and final norm at `lr`.
//! Source: Howard and Ruder, `ULMFiT` (section 3.2); Zhang et al., Revisiting Few-sample BERT Fine-tuning (re-initialisation).
//! Deviation: a tied head counts as embeddings. Re-initialised top blocks destroy a language model and suit
//! classifiers. Cost: none.

use super::Optimizer;
use crate::Params;
use curate_core::{Ctx, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of the block that a tensor belongs to: the number after `layers`, `h` or `blocks` in its name.
#[must_use]
pub fn layer_of(name: &str) -> Option<usize> {
    let parts: Vec<&str> = name.split('.').collect();
    parts.windows(2).find_map(|pair| match pair[0] {
        "layers" | "h" | "blocks" => pair[1].parse().ok(),
        _ => None,
    })
}

/// Number of blocks of a model.
#[must_use]
pub fn layers(params: &Params) -> usize {
    params.iter().filter_map(|(_, t)| layer_of(&t.name)).max().map_or(0, |top| top + 1)
}

/// Whether a tensor is the table of token or position vectors.
#[must_use]
pub fn is_embedding(name: &str) -> bool {
    ["embed", "wte", "wpe"].iter().any(|word| name.contains(word))
}

/// Whether a tensor is a head of its own, not tied to the embeddings.
#[must_use]
pub fn is_head(name: &str) -> bool {
    name.split('.').any(|part| part == "lm_head" || part == "score")
}

/// Factor on the learning rate of a tensor under layer-wise decay `xi`.
#[must_use]
pub fn layer_factor(name: &str, layers: usize, xi: f64) -> f64 {
    let power = match layer_of(name) {
        Some(layer) => layers.saturating_sub(layer + 1),
        None if is_embedding(name) => layers,
        None => 0,
    };
    xi.powi(i32::try_from(power).unwrap_or(i32::MAX))
}

/// Lower the rates of lower blocks.
pub fn decay_by_layer(optimizer: &mut Optimizer, params: &Params, xi: f64) {
    let layers = layers(params);
    for (id, tensor) in params.iter() {
        optimizer.scale_lr(id, layer_factor(&tensor.name, layers, xi));
    }
}

/// Multiply the rate of every B matrix of an adapter. Source: Hayou et al., `LoRA`+ (section 4).
pub fn lora_plus(optimizer: &mut Optimizer, params: &Params, ratio: f64) {
    for (id, tensor) in params.iter() {
        if tensor.name.ends_with(".lora_B.weight") {
            optimizer.scale_lr(id, ratio);
        }
    }
}

/// What is not trained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Freeze {
    /// Blocks below this one, counted from 0.
    pub layers_below: usize,
    /// The table of token vectors (with it a tied head).
    pub embeddings: bool,
    /// All norms and biases: every tensor that is not a matrix.
    pub vectors: bool,
    /// A head of its own.
    pub head: bool,
}

impl Freeze {
    /// Whether a tensor is frozen.
    #[must_use]
    pub fn holds(&self, name: &str, shape: &[usize]) -> bool {
        layer_of(name).is_some_and(|layer| layer < self.layers_below)
            || (self.embeddings && is_embedding(name))
            || (self.vectors && shape.len() < 2)
            || (self.head && is_head(name))
    }

    /// Mark the tensors.
    ///
    /// # Errors
    /// `freeze/all` when nothing is left to train.
    pub fn apply(&self, params: &mut Params) -> Result<()> {
        for id in crate::sft::ids(params) {
            let tensor = params.get_mut(id);
            tensor.trained &= !self.holds(&tensor.name, &tensor.shape);
        }
        if params.iter().any(|(_, tensor)| tensor.trained) {
            return Ok(());
        }
        Err(Error::usage("freeze/all", "every tensor is frozen").hint("freeze fewer layers"))
    }
}

/// Give the top `n` blocks new values: matrices from N(0, `std`^2), norms 1, biases 0.
pub fn reinit_top(params: &mut Params, n: usize, std: f64, ctx: &Ctx) {
    let layers = layers(params);
    for id in crate::sft::ids(params) {
        if layer_of(&params.get(id).name).is_none_or(|layer| layer + n < layers) {
            continue;
        }
        params.widen(id);
        let tensor = params.get_mut(id);
        if tensor.shape.len() < 2 {
            tensor.data.fill(if tensor.name.ends_with("bias") { 0.0 } else { 1.0 });
            continue;
        }
        let width = tensor.shape.last().copied().unwrap_or(1).max(1);
        let stream = ctx.stream(&format!("reinit/{}", tensor.name));
        for (row, values) in tensor.data.chunks_mut(width).enumerate() {
            crate::lora::fill_normal(&mut stream(row as u64), values, std);
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // reason: powers of two
mod tests {
    use super::*;

    #[test]
    fn numbers_come_from_the_name() {
        assert_eq!(layer_of("model.layers.11.mlp.up_proj.weight"), Some(11));
        assert_eq!(layer_of("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"), Some(1));
        assert_eq!(layer_of("model.embed_tokens.weight"), None);
    }

    #[test]
    fn factors_by_hand() {
        let at = |name: &str| layer_factor(name, 3, 0.5);
        let factors =
            ["model.embed_tokens.weight", "model.layers.0.a", "model.layers.2.a", "model.norm.weight"].map(at);
        assert_eq!(factors, [0.125, 0.25, 1.0, 1.0]);
        assert!((layer_factor("model.layers.0.a", 3, 1.0) - 1.0).abs() < 1e-12);
    }
}
