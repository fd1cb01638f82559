//! `config.json` of the supported architectures, read strictly: what would change the numbers and is not supported is
//! refused by name.

mod file;

use super::rope::Rope;
use crate::checkpoint::Dtype;
use curate_core::{Error, Location, Result};
use file::{File, family};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// A supported architecture. They differ in biases, in the norm of queries and keys, and in which layers see a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `LlamaForCausalLM`.
    Llama,
    /// `MistralForCausalLM`.
    Mistral,
    /// `Qwen2ForCausalLM`.
    Qwen2,
    /// `Qwen3ForCausalLM`.
    Qwen3,
}

const FAMILIES: [(&str, &str, Family); 4] = [
    ("LlamaForCausalLM", "llama", Family::Llama),
    ("MistralForCausalLM", "mistral", Family::Mistral),
    ("Qwen2ForCausalLM", "qwen2", Family::Qwen2),
    ("Qwen3ForCausalLM", "qwen3", Family::Qwen3),
];

/// Which linear maps carry a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// The output of attention.
    pub o: bool,
    /// The feed-forward part.
    pub mlp: bool,
}

/// What a model is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Architecture.
    pub family: Family,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Added to the mean square in norms.
    pub rms_norm_eps: f32,
    /// Rotation of queries and keys.
    pub rope: Rope,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// Whether the head shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// Which linear maps carry a bias.
    pub biases: Biases,
    /// Window of each block: how many tokens back a query sees, itself included.
    pub windows: Vec<Option<usize>>,
    /// Standard deviation of fresh weights.
    pub initializer_range: f32,
    /// Number format the file asks for.
    pub dtype: Dtype,
    /// The file as read, to be written back unchanged.
    pub raw: Value,
}

fn wrong(message: impl Into<String>) -> Error {
    Error::data("model/config", message).hint("check config.json against the weights beside it")
}

fn unsupported(message: impl Into<String>) -> Error {
    let names: Vec<&str> = FAMILIES.iter().map(|family| family.0).collect();
    Error::device("model/unsupported", message).hint(format!("supported architectures: {}", names.join(", ")))
}

impl Config {
    /// Read `config.json` of a model folder.
    ///
    /// # Errors
    /// When the file is missing or broken, or asks for what is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let at = || Location::file(path.display().to_string());
        let text = std::fs::read_to_string(path).map_err(|e| Error::from(e).at(at()))?;
        let raw: Value = serde_json::from_str(&text).map_err(|e| {
            wrong(format!("not JSON: {e}")).at(Location::file(path.display().to_string()).line(e.line() as u64))
        })?;
        Self::from_json(raw).map_err(|e| e.at(at()))
    }

    /// The configuration a JSON object describes.
    ///
    /// # Errors
    /// When a key is missing or asks for what is not supported.
    pub fn from_json(raw: Value) -> Result<Self> {
        let family = family(&raw)?;
        let file = File::deserialize(&raw).map_err(|e| wrong(format!("{e}")))?;
        file.refuse_the_rest()?;
        let head_dim = file.head_dim.unwrap_or(match family {
            Family::Qwen3 => 128,
            _ => file.hidden_size / file.num_attention_heads.max(1),
        });
        let max_position_embeddings = file.max_position_embeddings.unwrap_or(2048);
        let config = Self {
            family,
            vocab_size: file.vocab_size,
            hidden_size: file.hidden_size,
            intermediate_size: file.intermediate_size,
            heads: file.num_attention_heads,
            kv_heads: file.num_key_value_heads.unwrap_or(file.num_attention_heads),
            head_dim,
            rms_norm_eps: file.rms_norm_eps.unwrap_or(1e-6) as f32,
            rope: Rope::from_json(&raw, head_dim, max_position_embeddings)?,
            max_position_embeddings,
            tie_word_embeddings: file.tie_word_embeddings,
            biases: file.biases(family),
            windows: file.windows(family)?,
            initializer_range: file.initializer_range.unwrap_or(0.02),
            dtype: file.dtype()?,
            raw,
        };
        config.check()?;
        Ok(config)
    }

    /// The same model with weights in another format on disk.
    #[must_use]
    pub fn with_dtype(&self, dtype: Dtype) -> Self {
        let mut config = Self { dtype, ..self.clone() };
        let key = if config.raw.get("torch_dtype").is_some() { "torch_dtype" } else { "dtype" };
        config.raw[key] = dtype.name().into();
        config
    }

    /// Whether queries and keys are normed head by head.
    #[must_use]
    pub const fn qk_norm(&self) -> bool {
        matches!(self.family, Family::Qwen3)
    }

    /// Number of blocks.
    #[must_use]
    pub const fn layers(&self) -> usize {
        self.windows.len()
    }

    /// Width of all query heads together.
    #[must_use]
    pub const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads together.
    #[must_use]
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn check(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers()),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(wrong(format!("{name} is 0")));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (q, kv) = (self.heads, self.kv_heads);
            return Err(wrong(format!("num_attention_heads {q} is no multiple of num_key_value_heads {kv}")));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(wrong(format!("head_dim {} is odd, so it cannot be rotated", self.head_dim)));
        }
        Ok(())
    }
}
