//! `LiNeS`: keep less of the change in lower blocks, so that fine-tuning forgets less.
//!
//! `theta = theta0 + f (theta1 - theta0)`, in block `l` of `L` with `f = alpha + beta l / (L - 1)`; outside blocks `f = alpha`. Source: Wang et al.,
//! `LiNeS` (section 4). Deviation: outside blocks `f = 1` on request, since the paper's models have no language head; the
//! block is read from the tensor's name as a number. Cost: one pass over the weights.

use crate::mask::movement::pairs;
use crate::optim::groups::{layer_of, layers};
use crate::{ParamId, Params};
use curate_core::{Error, Result};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What embeddings, final norm and head are scaled by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outer {
    /// By alpha, as in the paper.
    #[default]
    Alpha,
    /// Not at all.
    One,
}

/// Parameters of `LiNeS`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinesConfig {
    /// Share of the change that the lowest block keeps.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub alpha: f32,
    /// What the top block keeps more; 1 - alpha when left out.
    pub beta: Option<f32>,
    /// What is outside blocks.
    pub outer: Outer,
}

impl Default for LinesConfig {
    fn default() -> Self {
        Self { alpha: 0.5, beta: None, outer: Outer::Alpha }
    }
}

impl LinesConfig {
    /// Factor on the change of a tensor in a model of `layers` blocks.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "blocks are few")]
    pub fn factor(&self, name: &str, layers: usize) -> f32 {
        let beta = self.beta.unwrap_or(1.0 - self.alpha);
        match layer_of(name) {
            // the top block is exact: alpha + (1 - alpha) is not 1 for every float
            Some(layer) if layer + 1 == layers && self.beta.is_none() => 1.0,
            Some(layer) => self.alpha + beta * layer as f32 / (layers.max(2) - 1) as f32,
            None if self.outer == Outer::One => 1.0,
            None => self.alpha,
        }
    }
}

/// Scale the change from `base` in place.
///
/// # Errors
/// `model/pair` when the two are not states of one model.
pub fn lines(base: &Params, tuned: &mut Params, config: &LinesConfig) -> Result<()> {
    let layers = layers(base);
    let ids: Vec<(ParamId, ParamId, f32)> = pairs(base, tuned)?
        .into_iter()
        .filter_map(|(id, old, _)| Some((id, tuned.find(&old.name)?, config.factor(&old.name, layers))))
        .collect();
    for (old, new, factor) in ids {
        blend(&base.get(old).data, &mut tuned.get_mut(new).data, factor);
    }
    Ok(())
}

/// Scale the B matrices of adapters instead: the same change in the form of `LoRA`. Alpha outside blocks has nothing to
/// scale there, unless the head is adapted.
///
/// # Errors
/// `lora/none` when there is no adapter.
pub fn lines_on_adapters(params: &mut Params, config: &LinesConfig) -> Result<()> {
    let layers = layers(params);
    let ids: Vec<ParamId> = params
        .iter()
        .filter(|(_, t)| t.name.ends_with(".lora_B.weight") && !t.data.is_empty())
        .map(|(id, _)| id)
        .collect();
    if ids.is_empty() {
        return Err(Error::usage("lora/none", "the model carries no adapter").hint("scale the whole weights instead"));
    }
    for id in ids {
        let tensor = params.get_mut(id);
        let factor = config.factor(&tensor.name, layers);
        tensor.data.par_iter_mut().for_each(|x| *x *= factor);
    }
    Ok(())
}

/// `old + factor (new - old)`, exact at both ends.
fn blend(old: &[f32], new: &mut [f32], factor: f32) {
    if factor.to_bits() == 1.0f32.to_bits() {
        return;
    }
    if factor == 0.0 {
        new.copy_from_slice(old);
        return;
    }
    new.par_iter_mut().zip(old).for_each(|(new, old)| *new = old + factor * (*new - old));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn params(fill: f32) -> Params {
        let mut params = Params::default();
        let names = (0..4).map(|l| format!("model.layers.{l}.w")).chain(["model.embed_tokens.weight".to_owned()]);
        for name in names {
            params.push(Tensor { name, shape: vec![2], data: vec![fill, 0.1], trained: true });
        }
        params
    }

    #[test]
    fn table_of_factors() {
        let config = LinesConfig { alpha: 0.2, ..LinesConfig::default() };
        let found: Vec<f32> = params(0.0).iter().map(|(_, t)| config.factor(&t.name, 4)).collect();
        let expected = [0.2, 0.466_666_7, 0.733_333_3, 1.0, 0.2];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        let outer = LinesConfig { outer: Outer::One, ..config };
        assert_eq!(outer.factor("model.norm.weight", 4).to_bits(), 1.0f32.to_bits());
    }

    #[test]
    fn identities() {
        let (base, tuned) = (params(1.0), params(3.3));
        for (alpha, first) in [(1.0, 3.3f32), (0.0, 1.0)] {
            let mut model = tuned.clone();
            lines(&base, &mut model, &LinesConfig { alpha, ..LinesConfig::default() }).unwrap();
            let at = |i: usize| model.get(ParamId(i)).data[0].to_bits();
            assert_eq!((at(0), at(3)), (first.to_bits(), 3.3f32.to_bits()));
            assert_eq!(model.get(ParamId(2)).data[1].to_bits(), 0.1f32.to_bits());
        }
        let mut stranger = Params::default();
        assert_eq!(lines(&base, &mut stranger, &LinesConfig::default()).unwrap_err().code(), "model/pair");
        assert_eq!(lines_on_adapters(&mut stranger, &LinesConfig::default()).unwrap_err().code(), "lora/none");
    }
}
