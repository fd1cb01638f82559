//! `config.json` of the supported architectures, read strictly: what would change the numbers and is not supported is
//! refused by name.

use super::rope::Rope;
use curate_core::{Error, Location, Result};
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

/// Number format of weights on disk. In memory they are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

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

/// The keys that are read. Unknown keys are left alone, as `transformers` does.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    model_type: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    max_position_embeddings: Option<usize>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default = "usual_window")]
    sliding_window: Value,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    initializer_range: Option<f32>,
    #[serde(alias = "torch_dtype")]
    dtype: Option<String>,
    quantization_config: Option<Value>,
}

/// What `transformers` takes where the key is missing.
fn usual_window() -> Value {
    Value::from(4096)
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
        let file = File::deserialize(&raw).map_err(|e| wrong(format!("{e}")))?;
        let family = file.family()?;
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

impl File {
    fn family(&self) -> Result<Family> {
        let named = self.architectures.as_ref().and_then(|names| names.first());
        let found = match (named, &self.model_type) {
            (Some(name), _) => FAMILIES.iter().find(|family| family.0 == name),
            (None, Some(kind)) => FAMILIES.iter().find(|family| family.1 == kind),
            (None, None) => return Err(wrong("neither 'architectures' nor 'model_type' is given")),
        };
        let name = named.or(self.model_type.as_ref()).map_or("", String::as_str);
        found.map(|family| family.2).ok_or_else(|| unsupported(format!("architecture '{name}' is not supported")))
    }

    fn refuse_the_rest(&self) -> Result<()> {
        if let Some(act) = self.hidden_act.as_deref().filter(|act| *act != "silu") {
            return Err(unsupported(format!("hidden_act '{act}' is not supported, only 'silu'")));
        }
        if self.quantization_config.as_ref().is_some_and(|q| !q.is_null()) {
            return Err(unsupported("quantised weights ('quantization_config') are not supported")
                .hint("use the model's f32, f16 or bf16 weights"));
        }
        Ok(())
    }

    const fn biases(&self, family: Family) -> Biases {
        match family {
            Family::Llama => Biases { qkv: self.attention_bias, o: self.attention_bias, mlp: self.mlp_bias },
            Family::Mistral => Biases { qkv: false, o: false, mlp: false },
            Family::Qwen2 => Biases { qkv: true, o: false, mlp: false },
            Family::Qwen3 => Biases { qkv: self.attention_bias, o: self.attention_bias, mlp: false },
        }
    }

    /// The window of every block: Mistral in all of them, Qwen only where switched on and from `max_window_layers` up.
    fn windows(&self, family: Family) -> Result<Vec<Option<usize>>> {
        let given = match &self.sliding_window {
            Value::Null => None,
            value => {
                let size = value.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
                Some(size.ok_or_else(|| wrong(format!("sliding_window {value} is no positive number")))?)
            }
        };
        let from = match family {
            Family::Llama => usize::MAX,
            Family::Mistral => 0,
            _ if self.use_sliding_window => self.max_window_layers.unwrap_or(28),
            _ => usize::MAX,
        };
        let plain = (0..self.num_hidden_layers).map(|layer| given.filter(|_| layer >= from)).collect();
        match &self.layer_types {
            Some(types) if family != Family::Mistral && family != Family::Llama => self.typed(types, given),
            _ => Ok(plain),
        }
    }

    fn typed(&self, types: &[String], given: Option<usize>) -> Result<Vec<Option<usize>>> {
        if types.len() != self.num_hidden_layers {
            let (types, layers) = (types.len(), self.num_hidden_layers);
            return Err(wrong(format!("layer_types names {types} layers, num_hidden_layers says {layers}")));
        }
        let window = |kind: &String| match (kind.as_str(), given) {
            ("full_attention", _) => Ok(None),
            ("sliding_attention", Some(size)) => Ok(Some(size)),
            ("sliding_attention", None) => Err(wrong("layer_types asks for a window, sliding_window gives none")),
            _ => Err(unsupported(format!("layer type '{kind}' is not supported"))),
        };
        types.iter().map(window).collect()
    }

    fn dtype(&self) -> Result<Dtype> {
        match self.dtype.as_deref().map(|name| name.trim_start_matches("torch.")) {
            None | Some("float32") => Ok(Dtype::F32),
            Some("float16") => Ok(Dtype::F16),
            Some("bfloat16") => Ok(Dtype::Bf16),
            Some(other) => {
                Err(unsupported(format!("dtype '{other}' is not supported"))
                    .hint("supported: float32, float16, bfloat16"))
            }
        }
    }
}
