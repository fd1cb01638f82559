//! `LoRA`: a low-rank addition to linear maps, trained while the model rests.
//!
//! `W' = W + s B A`, A `r x in`, B `out x r`, `s = alpha / r` or `alpha / sqrt(r)`; A uniform in `±1 / sqrt(in)`, B zero. Source: Hu et
//! al., `LoRA` (section 4.1); Kalajdzievski, rsLoRA; layout of files as in PEFT. Deviations: no dropout; draws are named by tensor and
//! row. Cost: `r (in + out)` numbers a map.

mod attach;
mod merge;
mod peft;

pub use attach::{Attached, attach, attached};
pub use merge::merge;
pub(crate) use peft::{adapter_entries, adapter_json};
pub use peft::{keys, load_adapter, save_adapter};

use crate::model::LoraRef;
use crate::{ParamId, Params};
use curate_core::{Error, Result, Rng};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What PEFT puts before the base model's module path.
pub const PREFIX: &str = "base_model.model.";

/// How A starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Uniform in `±1 / sqrt(in)`.
    #[default]
    Kaiming,
    /// N(0, 1 / r).
    Gaussian,
}

/// Parameters of `LoRA`, under the names of PEFT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank.
    #[schemars(range(min = 1))]
    pub r: usize,
    /// Numerator of the scale.
    pub lora_alpha: f64,
    /// Divide by the root of the rank instead of the rank.
    pub use_rslora: bool,
    /// Ends of the paths of the maps that get an adapter.
    pub target_modules: Vec<String>,
    /// Blocks that get adapters, counted from 0; all when left out.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Rank of maps whose path ends so, in place of `r`.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Numerator of maps whose path ends so, in place of `lora_alpha`.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// How A starts.
    pub init: Init,
}

/// Ends of the paths of the seven linear maps of a block.
const SEVEN: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 16.0,
            use_rslora: false,
            target_modules: SEVEN.map(str::to_owned).to_vec(),
            layers_to_transform: None,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            init: Init::Kaiming,
        }
    }
}

/// Whether `pattern` names the module at `path`: the whole path or its last parts.
#[must_use]
pub fn names(pattern: &str, path: &str) -> bool {
    let whole = pattern.trim_start_matches('^').trim_end_matches('$');
    path == whole || path.strip_suffix(whole).is_some_and(|rest| rest.ends_with('.'))
}

fn by_pattern<T: Copy>(patterns: &BTreeMap<String, T>, path: &str) -> Option<T> {
    patterns.iter().find(|(pattern, _)| names(pattern, path)).map(|(_, value)| *value)
}

impl LoraConfig {
    /// Rank of the adapter on the module at `path`.
    #[must_use]
    pub fn rank(&self, path: &str) -> usize {
        by_pattern(&self.rank_pattern, path).unwrap_or(self.r)
    }

    /// Scale of the adapter on the module at `path`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "ranks are small; used in f32")]
    pub fn scale(&self, path: &str) -> f32 {
        let alpha = by_pattern(&self.alpha_pattern, path).unwrap_or(self.lora_alpha);
        let rank = self.rank(path) as f64;
        (if self.use_rslora { alpha / rank.sqrt() } else { alpha / rank }) as f32
    }

    /// Whether the module at `path` gets an adapter.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        let layer = crate::optim::groups::layer_of(path);
        let wanted = |layers: &Vec<usize>| layer.is_some_and(|layer| layers.contains(&layer));
        self.target_modules.iter().any(|module| names(module, path))
            && self.layers_to_transform.as_ref().is_none_or(wanted)
    }

    /// Check what ranges cannot express.
    ///
    /// # Errors
    /// `lora/config`.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| {
            Err(Error::usage("lora/config", what).hint("see the parameters of LoRA in the documentation"))
        };
        if self.r == 0 || self.rank_pattern.values().any(|r| *r == 0) {
            return wrong("a LoRA rank of 0 adapts nothing".to_owned());
        }
        if self.target_modules.is_empty() {
            return wrong("target_modules is empty".to_owned());
        }
        let patterns = self.rank_pattern.keys().chain(self.alpha_pattern.keys());
        for pattern in patterns {
            if pattern.contains(['*', '+', '?', '|', '(', '[', '{', '\\']) {
                return wrong(format!(
                    "pattern '{pattern}' is a regular expression; only paths and ends of paths are read"
                ));
            }
        }
        Ok(())
    }
}

/// A model whose linear maps can carry adapters.
pub trait Adaptable {
    /// The weights of all linear maps, in order, each with its adapter.
    fn linears(&self) -> Vec<(ParamId, Option<LoraRef>)>;

    /// Set or remove the adapter on the linear map of this weight.
    fn set_adapter(&mut self, weight: ParamId, adapter: Option<LoraRef>);
}

/// Module path of a weight: its name without `.weight`.
#[must_use]
pub fn module_path(weight: &str) -> &str {
    weight.strip_suffix(".weight").unwrap_or(weight)
}

/// Whether a tensor belongs to an adapter.
#[must_use]
pub fn is_adapter(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Whether a model has adapters with values.
#[must_use]
pub fn has_adapters(params: &Params) -> bool {
    params.iter().any(|(_, tensor)| is_adapter(&tensor.name) && !tensor.data.is_empty())
}

/// Fill with draws from N(0, `std`^2), by the Box-Muller transform.
#[expect(clippy::cast_possible_truncation, reason = "drawn in f64, kept in f32")]
pub fn fill_normal(rng: &mut Rng, values: &mut [f32], std: f64) {
    for pair in values.chunks_mut(2) {
        let (radius, turn) = ((-2.0 * rng.uniform().ln()).sqrt(), std::f64::consts::TAU * rng.uniform());
        let draws = [radius * turn.cos() * std, radius * turn.sin() * std];
        for (value, draw) in pair.iter_mut().zip(draws) {
            *value = draw as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_scales_and_layers() {
        let path = "model.layers.3.self_attn.q_proj";
        assert!(names("q_proj", path) && names("self_attn.q_proj", path) && names(path, path));
        assert!(!names("proj", path) && !names("k_proj", path));
        let mut config = LoraConfig { r: 4, lora_alpha: 8.0, ..LoraConfig::default() };
        assert!((config.scale(path) - 2.0).abs() < 1e-6);
        config.use_rslora = true;
        assert!((config.scale(path) - 4.0).abs() < 1e-6);
        config.rank_pattern.insert("layers.3.self_attn.q_proj".into(), 16);
        assert_eq!((config.rank(path), config.rank("model.layers.2.self_attn.q_proj")), (16, 4));
        config.layers_to_transform = Some(vec![2]);
        assert!(!config.takes(path) && config.takes("model.layers.2.mlp.up_proj"));
        assert!(config.check().is_ok());
        config.rank_pattern.insert("layers.(1|2).q_proj".into(), 2);
        assert_eq!(config.check().unwrap_err().code(), "lora/config");
    }

    #[test]
    fn normal_draws_have_the_asked_spread() {
        let mut values = vec![0.0; 20_001];
        fill_normal(&mut curate_core::Ctx::new(1).rng("n", 0), &mut values, 2.0);
        let mean = values.iter().sum::<f32>() / 20_001.0;
        let var = values.iter().map(|x| x * x).sum::<f32>() / 20_001.0;
        assert!(mean.abs() < 0.06 && (var - 4.0).abs() < 0.16, "{mean} {var}");
    }
}
