//! Adapters put on a model.

use super::{Adaptable, Init, LoraConfig, PREFIX, fill_normal, module_path};
use crate::model::LoraRef;
use crate::sft::{Differentiable, ids};
use crate::{ParamId, Tensor};
use curate_core::{Ctx, Error, Result};

/// A linear map that carries an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    /// Path of the module in the base model.
    pub path: String,
    /// Weight of the linear map.
    pub weight: ParamId,
    /// Its adapter.
    pub adapter: LoraRef,
}

/// The adapters of a model, in the order of its linear maps.
#[must_use]
pub fn attached<M: Adaptable + Differentiable>(model: &M) -> Vec<Attached> {
    let path = |weight: ParamId| module_path(&model.params().get(weight).name).to_owned();
    let one = |(weight, adapter): (ParamId, Option<LoraRef>)| {
        adapter.map(|adapter| Attached { path: path(weight), weight, adapter })
    };
    model.linears().into_iter().filter_map(one).collect()
}

/// Freeze the model and put fresh adapters on the maps that the configuration names.
///
/// # Errors
/// `lora/config`, `lora/target` naming the modules there are.
pub fn attach<M: Adaptable + Differentiable>(model: &mut M, config: &LoraConfig, ctx: &Ctx) -> Result<()> {
    config.check()?;
    let linears: Vec<(ParamId, String)> = paths(model);
    known_targets(config, &linears)?;
    freeze(model);
    for (weight, path) in linears.into_iter().filter(|(_, path)| config.takes(path)) {
        let (out, input) = dimensions(model, weight);
        let rank = config.rank(&path);
        let a = Tensor {
            name: format!("{PREFIX}{path}.lora_A.weight"),
            shape: vec![rank, input],
            data: draw_a(config.init, &path, (rank, input), ctx),
            trained: true,
        };
        let b = Tensor {
            name: format!("{PREFIX}{path}.lora_B.weight"),
            shape: vec![out, rank],
            data: vec![0.0; out * rank],
            trained: true,
        };
        put(model, weight, (a, b), config.scale(&path));
    }
    Ok(())
}

/// Paths of all linear maps.
pub(super) fn paths<M: Adaptable + Differentiable>(model: &M) -> Vec<(ParamId, String)> {
    let path = |id: ParamId| module_path(&model.params().get(id).name).to_owned();
    model.linears().into_iter().map(|(id, _)| (id, path(id))).collect()
}

/// Nothing of the model is trained any more.
pub(super) fn freeze<M: Differentiable>(model: &mut M) {
    for id in ids(model.params()) {
        model.params_mut().get_mut(id).trained = false;
    }
}

/// Rows and columns of a weight.
pub(super) fn dimensions<M: Differentiable>(model: &M, weight: ParamId) -> (usize, usize) {
    let shape = &model.params().get(weight).shape;
    (shape.first().copied().unwrap_or(0), shape.last().copied().unwrap_or(0))
}

/// Push both matrices and tell the model. Tensors of the same name and shape from an earlier adapter are used again.
pub(super) fn put<M: Adaptable + Differentiable>(model: &mut M, weight: ParamId, pair: (Tensor, Tensor), scale: f32) {
    let mut push = |tensor: Tensor| match model.params().find(&tensor.name) {
        Some(id) => {
            *model.params_mut().get_mut(id) = tensor;
            id
        }
        None => model.params_mut().push(tensor),
    };
    let (a, b) = (push(pair.0), push(pair.1));
    model.set_adapter(weight, Some(LoraRef { a, b, scale }));
}

fn known_targets(config: &LoraConfig, linears: &[(ParamId, String)]) -> Result<()> {
    let mut ends: Vec<&str> = linears.iter().filter_map(|(_, path)| path.rsplit('.').next()).collect();
    ends.sort_unstable();
    ends.dedup();
    let hint = || format!("this model has: {}", ends.join(", "));
    let unknown = |target: &&String| !linears.iter().any(|(_, path)| super::names(target, path));
    if let Some(target) = config.target_modules.iter().find(unknown) {
        return Err(Error::usage("lora/target", format!("no linear map is called '{target}'")).hint(hint()));
    }
    if !linears.iter().any(|(_, path)| config.takes(path)) {
        return Err(Error::usage("lora/target", "layers_to_transform names no layer of this model").hint(hint()));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "sizes are small; kept in f32")]
fn draw_a(init: Init, path: &str, shape: (usize, usize), ctx: &Ctx) -> Vec<f32> {
    let (rank, input) = shape;
    let stream = ctx.stream(&format!("lora-init/{path}"));
    let mut values = vec![0.0; rank * input];
    let bound = 1.0 / (input as f64).sqrt();
    for (row, values) in values.chunks_mut(input.max(1)).enumerate() {
        let mut rng = stream(row as u64);
        match init {
            Init::Kaiming => values.iter_mut().for_each(|x| *x = ((2.0 * rng.uniform() - 1.0) * bound) as f32),
            Init::Gaussian => fill_normal(&mut rng, values, 1.0 / rank as f64),
        }
    }
    values
}
