//! The keys of `config.json` that matter here, and what they mean for each architecture.

use super::{Biases, Dtype, FAMILIES, Family, unsupported, wrong};
use curate_core::Result;
use serde::Deserialize;
use serde_json::Value;

/// The keys that are read. Unknown keys are left alone, as `transformers` does.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "keys of the file")]
pub(super) struct File {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) num_key_value_heads: Option<usize>,
    pub(super) head_dim: Option<usize>,
    pub(super) rms_norm_eps: Option<f64>,
    pub(super) max_position_embeddings: Option<usize>,
    #[serde(default)]
    pub(super) tie_word_embeddings: bool,
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
    pub(super) initializer_range: Option<f32>,
    #[serde(alias = "torch_dtype")]
    dtype: Option<String>,
    quantization_config: Option<Value>,
}

/// What `transformers` takes where the key is missing.
fn usual_window() -> Value {
    Value::from(4096)
}

/// The architecture a configuration names. Asked before its other keys, which other architectures call otherwise.
pub(super) fn family(raw: &Value) -> Result<Family> {
    let named = raw.pointer("/architectures/0").and_then(Value::as_str);
    let kind = raw.get("model_type").and_then(Value::as_str);
    let found = match (named, kind) {
        (Some(name), _) => FAMILIES.iter().find(|family| family.0 == name),
        (None, Some(kind)) => FAMILIES.iter().find(|family| family.1 == kind),
        (None, None) => return Err(wrong("neither 'architectures' nor 'model_type' is given")),
    };
    let name = named.or(kind).unwrap_or_default();
    found.map(|family| family.2).ok_or_else(|| unsupported(format!("architecture '{name}' is not supported")))
}

impl File {
    pub(super) fn refuse_the_rest(&self) -> Result<()> {
        if let Some(act) = self.hidden_act.as_deref().filter(|act| *act != "silu") {
            return Err(unsupported(format!("hidden_act '{act}' is not supported, only 'silu'")));
        }
        if self.quantization_config.as_ref().is_some_and(|q| !q.is_null()) {
            return Err(unsupported("quantised weights ('quantization_config') are not supported")
                .hint("use the model's f32, f16 or bf16 weights"));
        }
        Ok(())
    }

    pub(super) const fn biases(&self, family: Family) -> Biases {
        match family {
            Family::Llama => Biases { qkv: self.attention_bias, o: self.attention_bias, mlp: self.mlp_bias },
            Family::Mistral => Biases { qkv: false, o: false, mlp: false },
            Family::Qwen2 => Biases { qkv: true, o: false, mlp: false },
            Family::Qwen3 => Biases { qkv: self.attention_bias, o: self.attention_bias, mlp: false },
        }
    }

    /// The window of every block: Mistral in all of them, Qwen only where switched on and from `max_window_layers` up.
    pub(super) fn windows(&self, family: Family) -> Result<Vec<Option<usize>>> {
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

    pub(super) fn dtype(&self) -> Result<Dtype> {
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
