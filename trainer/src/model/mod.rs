//! A decoder-only transformer (Llama, Mistral, Qwen2, Qwen3), its loss and its gradients, written out by hand.
#![allow(
    clippy::cast_possible_truncation, // reason: the model computes in f32; token numbers are u32 by contract
    clippy::cast_precision_loss       // reason: sizes of a model fit an f64
)]

mod accelerator;
mod arena;
mod backward;
mod build;
mod config;
mod forward;
mod generate;
mod head;
mod load;
mod losses;
mod policy;
mod rope;
mod save;
mod trace;
mod watch;

pub use crate::checkpoint::Dtype;
pub use config::{Biases, Config, Family};
pub use generate::{Draws, Generator, Sample};
pub use losses::{Losses, StepOptions};
pub use policy::Policy;
pub use rope::{Rope, RopeKind};
pub use trace::{Part, Trace};

use crate::{ParamId, Params};
use accelerator::Accelerator;
use arena::Arena;

/// A low-rank addition to a linear map: `y += scale (x A^T) B^T`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraRef {
    /// `[r, in]`.
    pub a: ParamId,
    /// `[out, r]`.
    pub b: ParamId,
    /// `alpha / r`, or `alpha / sqrt(r)` with rsLoRA.
    pub scale: f32,
}

/// A linear map `y = x W^T + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: ParamId,
    /// `[out]`.
    pub bias: Option<ParamId>,
    /// The adapter on it.
    pub lora: Option<LoraRef>,
}

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Gain of the norm before attention.
    pub input_norm: ParamId,
    /// `self_attn.q_proj`.
    pub q: Linear,
    /// `self_attn.k_proj`.
    pub k: Linear,
    /// `self_attn.v_proj`.
    pub v: Linear,
    /// `self_attn.o_proj`.
    pub o: Linear,
    /// Gains of the norms of every query and key head (Qwen3).
    pub qk_norm: Option<(ParamId, ParamId)>,
    /// Gain of the norm before the feed-forward part.
    pub post_norm: ParamId,
    /// `mlp.gate_proj`.
    pub gate: Linear,
    /// `mlp.up_proj`.
    pub up: Linear,
    /// `mlp.down_proj`.
    pub down: Linear,
    /// How many tokens back a query sees, itself included; `None` for all.
    pub window: Option<usize>,
}

/// Module paths of the linear maps of a block, in the order of [`Layer::linears`].
pub const LINEAR_NAMES: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

impl Layer {
    /// The seven linear maps, in the order of [`LINEAR_NAMES`].
    #[must_use]
    pub const fn linears(&self) -> [&Linear; 7] {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down]
    }

    /// The same, to change.
    pub const fn linears_mut(&mut self) -> [&mut Linear; 7] {
        [&mut self.q, &mut self.k, &mut self.v, &mut self.o, &mut self.gate, &mut self.up, &mut self.down]
    }
}

/// A causal language model.
#[derive(Clone, Debug)]
pub struct Model {
    /// What it is made of.
    pub config: Config,
    /// All its tensors, adapters included.
    pub params: Params,
    /// `model.embed_tokens.weight`, `[vocab, hidden]`.
    pub embed: ParamId,
    /// The blocks, lowest first.
    pub layers: Vec<Layer>,
    /// `model.norm.weight`.
    pub final_norm: ParamId,
    /// `lm_head`; with tied embeddings its weight is `embed`.
    pub head: Linear,
    arena: Arena,
    accelerator: Accelerator,
}

impl Model {
    /// Module path and map of every linear map that an adapter may sit on, blocks first, then `lm_head`.
    pub fn linears(&self) -> impl Iterator<Item = (String, &Linear)> {
        let blocks = self.layers.iter().enumerate().flat_map(|(index, layer)| {
            let paths = LINEAR_NAMES.map(|name| format!("model.layers.{index}.{name}"));
            paths.into_iter().zip(layer.linears())
        });
        blocks.chain([("lm_head".to_owned(), &self.head)])
    }

    /// The same, to change.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut Linear)> {
        let blocks = self.layers.iter_mut().enumerate().flat_map(|(index, layer)| {
            let paths = LINEAR_NAMES.map(|name| format!("model.layers.{index}.{name}"));
            paths.into_iter().zip(layer.linears_mut())
        });
        blocks.chain([("lm_head".to_owned(), &mut self.head)])
    }

    /// Give the memory that passes keep for the next one back to the system.
    pub fn release_buffers(&self) {
        self.arena.clear();
    }

    /// Whether a gradient of this tensor is wanted.
    fn trained(&self, id: ParamId) -> bool {
        self.params.get(id).trained
    }

    fn trained_linear(&self, linear: &Linear) -> bool {
        let lora = linear.lora.is_some_and(|lora| self.trained(lora.a) || self.trained(lora.b));
        lora || self.trained(linear.weight) || linear.bias.is_some_and(|bias| self.trained(bias))
    }

    /// The numbers of a tensor.
    fn data(&self, id: ParamId) -> &[f32] {
        &self.params.get(id).data
    }
}
