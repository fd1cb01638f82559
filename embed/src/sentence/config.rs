//! `config.json` of a transformer: which family it is of, and its sizes.

use super::math::Activation;
use curate_core::{Error, Result};
use serde::Deserialize;

/// Encoder families that differ in parameter names and positions, not in the arithmetic of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    /// `RoBERTa`, XLM-`RoBERTa`, `CamemBERT`: positions start after the padding id.
    Roberta,
    DistilBert,
    /// Positions start after the padding id; attention has a relative bias.
    MpNet,
}

/// Sizes and settings.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) family: Family,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) activation: Activation,
    pub(super) eps: f32,
    /// Position of the first token.
    pub(super) first_position: usize,
    /// Longest text the position table allows, in tokens with specials.
    pub(super) max_positions: usize,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(alias = "dim")]
    hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "activation")]
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    max_position_embeddings: usize,
    pad_token_id: Option<usize>,
    position_embedding_type: Option<String>,
}

impl Config {
    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        // Reading the family first gives the better message: other families have other fields.
        let any: serde_json::Value = super::folder::parse(json, "config.json")?;
        let family = family(&any)?;
        let raw: Raw = super::folder::parse(json, "config.json")?;
        if raw.num_attention_heads == 0
            || raw.hidden_size == 0
            || !raw.hidden_size.is_multiple_of(raw.num_attention_heads)
        {
            return Err(Error::data("model/json", "config.json: hidden_size is not a multiple of num_attention_heads"));
        }
        if raw.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
            return Err(unsupported("position embeddings other than absolute ones"));
        }
        let first_position = match family {
            Family::Bert | Family::DistilBert => 0,
            Family::Roberta | Family::MpNet => raw.pad_token_id.unwrap_or(1) + 1,
        };
        #[expect(clippy::cast_possible_truncation, reason = "an epsilon")]
        Ok(Self {
            family,
            hidden: raw.hidden_size,
            layers: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            activation: activation(raw.hidden_act.as_deref().unwrap_or("gelu"))?,
            eps: raw.layer_norm_eps.unwrap_or(1e-12) as f32,
            first_position,
            max_positions: raw.max_position_embeddings.saturating_sub(first_position),
        })
    }
}

fn family(config: &serde_json::Value) -> Result<Family> {
    let raw = Names::of(config);
    match raw.kind.as_str() {
        "bert" => Ok(Family::Bert),
        "roberta" | "xlm-roberta" | "camembert" => Ok(Family::Roberta),
        "distilbert" => Ok(Family::DistilBert),
        "mpnet" => Ok(Family::MpNet),
        _ => Err(unsupported(&format!("the architecture '{}'", raw.shown))),
    }
}

struct Names {
    kind: String,
    shown: String,
}

impl Names {
    fn of(config: &serde_json::Value) -> Self {
        let text = |value: Option<&serde_json::Value>| value.and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let class = text(config.get("architectures").and_then(|list| list.get(0)));
        let kind = text(config.get("model_type"));
        Self { shown: if class.is_empty() { kind.clone() } else { class }, kind }
    }
}

fn activation(name: &str) -> Result<Activation> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => Err(unsupported(&format!("the activation '{other}'"))),
    }
}

pub(super) fn unsupported(what: &str) -> Error {
    Error::device("model/architecture", format!("{what} cannot be run here"))
        .hint("use a sentence encoder of the BERT, RoBERTa, XLM-RoBERTa, DistilBERT or MPNet family, --embedder static, or bring your own vectors with --embedder column:NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_families_and_names_what_it_cannot_run() {
        let json = |kind: &str| {
            format!(
                r#"{{"model_type":"{kind}","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,
                "max_position_embeddings":514,"pad_token_id":1,"architectures":["FancyModel"]}}"#
            )
        };
        let config = Config::parse(json("xlm-roberta").as_bytes()).unwrap();
        assert_eq!((config.family, config.first_position, config.max_positions), (Family::Roberta, 2, 512));
        let error = Config::parse(json("fancy").as_bytes()).unwrap_err();
        assert_eq!((error.code(), error.exit_code()), ("model/architecture", 4));
        assert!(error.to_string().contains("FancyModel"));
    }
}
