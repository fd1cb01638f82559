//! Adapters added into the weights they sit on.

use super::{Adaptable, Attached, attached, is_adapter};
use crate::sft::{Differentiable, ids};
use crate::{Params, Tensor};
use rayon::prelude::*;

/// `W += s B A` in f32 for every adapter, which is then removed with its tensors. Weights kept in 16 bits are widened first. Gives the number of maps changed.
pub fn merge<M: Adaptable + Differentiable>(model: &mut M) -> usize {
    let adapters = attached(model);
    model.params_mut().widen_all();
    for one in &adapters {
        add(model.params_mut(), one);
        model.set_adapter(one.weight, None);
    }
    remove_tensors(model.params_mut());
    adapters.len()
}

/// Remove the tensors of adapters. They were pushed last, so that no other tensor changes its place.
fn remove_tensors(params: &mut Params) {
    let base = params.iter().take_while(|(_, tensor)| !is_adapter(&tensor.name)).count();
    if params.iter().skip(base).any(|(_, tensor)| !is_adapter(&tensor.name)) {
        return;
    }
    let mut kept = Params::default();
    for id in ids(params).into_iter().take(base) {
        let tensor = params.get_mut(id);
        let data = std::mem::take(&mut tensor.data);
        kept.push(Tensor { name: tensor.name.clone(), shape: tensor.shape.clone(), data, trained: tensor.trained });
    }
    *params = kept;
}

fn add(params: &mut Params, one: &Attached) {
    let (a, b) = (params.get(one.adapter.a), params.get(one.adapter.b));
    let (rank, input) = (a.shape[0], a.shape[1].max(1));
    let (a, b, scale) = (a.data.clone(), b.data.clone(), one.adapter.scale);
    let weight = &mut params.get_mut(one.weight).data;
    weight.par_chunks_mut(input).zip(b.par_chunks(rank.max(1))).for_each(|(row, b)| {
        for (b, a) in b.iter().zip(a.chunks(input)) {
            let factor = scale * b;
            row.iter_mut().zip(a).for_each(|(w, a)| *w += factor * a);
        }
    });
}
