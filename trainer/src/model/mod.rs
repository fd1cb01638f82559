//! A decoder-only transformer (Llama, Mistral, Qwen2, Qwen3), its loss and its gradients, written out by hand.
#![allow(
    clippy::cast_possible_truncation, // reason: the model computes in f32; token numbers are u32 by contract
    clippy::cast_precision_loss       // reason: sizes of a model fit an f64
)]

mod config;
mod losses;
mod rope;

pub use config::{Biases, Config, Dtype, Family};
pub use losses::{Losses, StepOptions};
pub use rope::{Rope, RopeKind};

use crate::{Batch, Grads, ParamId, Params};
use curate_core::{Ctx, Error, Result};
use std::path::Path;

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
}

impl Model {
    /// Read a model folder.
    ///
    /// # Errors
    /// When a file is missing or broken, or the architecture is not supported.
    pub fn load(_folder: &Path) -> Result<Self> {
        Err(Error::device("model/unfinished", "not written yet"))
    }

    /// A model of random weights: N(0, `initializer_range`), norms 1, biases 0.
    ///
    /// # Errors
    /// When asked to stop.
    pub fn init(_config: Config, _ctx: &Ctx) -> Result<Self> {
        Err(Error::device("model/unfinished", "not written yet"))
    }

    /// Write `config.json` and `model.safetensors` (base tensors, no adapters) into `folder`, in the dtype the model was
    /// read in.
    ///
    /// # Errors
    /// When writing fails.
    pub fn save(&self, _folder: &Path) -> Result<()> {
        Err(Error::device("model/unfinished", "not written yet"))
    }

    /// The negative log-likelihood of every sequence; forward only.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or asked to stop.
    pub fn losses(&self, _batch: &Batch, _ctx: &Ctx) -> Result<Losses> {
        Err(Error::device("model/unfinished", "not written yet"))
    }

    /// Add `scale` times the gradient of the summed negative log-likelihood to `grads`.
    ///
    /// # Errors
    /// As [`Model::losses`].
    pub fn gradients(
        &self,
        _batch: &Batch,
        _scale: f32,
        _options: StepOptions,
        _grads: &mut Grads,
        _ctx: &Ctx,
    ) -> Result<Losses> {
        Err(Error::device("model/unfinished", "not written yet"))
    }
}
