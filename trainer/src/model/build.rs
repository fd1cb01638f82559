//! The tensors a configuration asks for, under the names of `transformers`, filled by whoever builds the model.

use super::{Config, Layer, Linear, Model};
use crate::{ParamId, Params, Tensor};
use curate_core::Result;

/// What a tensor is, which decides its fresh values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Matrix,
    Gain,
    Bias,
}

/// Gives the values of a tensor: name, shape, role.
pub(super) trait Fill: FnMut(&str, &[usize], Role) -> Result<Vec<f32>> {}
impl<F: FnMut(&str, &[usize], Role) -> Result<Vec<f32>>> Fill for F {}

struct Builder<F> {
    params: Params,
    fill: F,
    /// Keep the linear maps of blocks in 16 bits.
    compact: bool,
}

impl<F: Fill> Builder<F> {
    fn tensor(&mut self, name: &str, shape: &[usize], role: Role) -> Result<ParamId> {
        let data = (self.fill)(name, shape, role)?;
        Ok(self.params.push(Tensor { name: name.to_owned(), shape: shape.to_vec(), data, trained: true }))
    }

    fn gain(&mut self, name: &str, width: usize) -> Result<ParamId> {
        self.tensor(&format!("{name}.weight"), &[width], Role::Gain)
    }

    fn linear(&mut self, name: &str, (out, input): (usize, usize), bias: bool) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[out, input], Role::Matrix)?;
        if self.compact {
            self.params.shrink(weight);
        }
        let bias = if bias { Some(self.tensor(&format!("{name}.bias"), &[out], Role::Bias)?) } else { None };
        Ok(Linear { weight, bias, lora: None })
    }

    fn layer(&mut self, config: &Config, index: usize) -> Result<Layer> {
        let at = |name: &str| format!("model.layers.{index}.{name}");
        let (d, ff, q, kv) = (config.hidden_size, config.intermediate_size, config.q_width(), config.kv_width());
        let biases = config.biases;
        Ok(Layer {
            input_norm: self.gain(&at("input_layernorm"), d)?,
            q: self.linear(&at("self_attn.q_proj"), (q, d), biases.qkv)?,
            k: self.linear(&at("self_attn.k_proj"), (kv, d), biases.qkv)?,
            v: self.linear(&at("self_attn.v_proj"), (kv, d), biases.qkv)?,
            o: self.linear(&at("self_attn.o_proj"), (d, q), biases.o)?,
            qk_norm: if config.qk_norm() {
                let width = config.head_dim;
                Some((self.gain(&at("self_attn.q_norm"), width)?, self.gain(&at("self_attn.k_norm"), width)?))
            } else {
                None
            },
            post_norm: self.gain(&at("post_attention_layernorm"), d)?,
            gate: self.linear(&at("mlp.gate_proj"), (ff, d), biases.mlp)?,
            up: self.linear(&at("mlp.up_proj"), (ff, d), biases.mlp)?,
            down: self.linear(&at("mlp.down_proj"), (d, ff), biases.mlp)?,
            window: config.windows[index],
        })
    }
}

/// Build a model, asking `fill` for every tensor in order. All tensors are marked as trained but those kept in 16 bits, which
/// `compact` asks for.
pub(super) fn build(config: Config, compact: bool, fill: impl Fill) -> Result<Model> {
    let mut builder = Builder { params: Params::default(), fill, compact };
    let table = [config.vocab_size, config.hidden_size];
    let embed = builder.tensor("model.embed_tokens.weight", &table, Role::Matrix)?;
    let layers = (0..config.layers()).map(|index| builder.layer(&config, index)).collect::<Result<Vec<_>>>()?;
    let final_norm = builder.gain("model.norm", config.hidden_size)?;
    let weight =
        if config.tie_word_embeddings { embed } else { builder.tensor("lm_head.weight", &table, Role::Matrix)? };
    let head = Linear { weight, bias: None, lora: None };
    let (arena, accelerator) = (super::arena::Arena::default(), super::accelerator::Accelerator::default());
    Ok(Model { config, params: builder.params, embed, layers, final_norm, head, arena, accelerator })
}
