//! Sums of squares in f64, over fixed blocks in a fixed order: the same bits for any number of threads.

use crate::mask::Mask;
use crate::{Grads, Params};
use rayon::prelude::*;

const BLOCK: usize = 8192;
const LANES: usize = 8;

/// Sum of squares of a slice.
#[must_use]
pub fn sum_of_squares(values: &[f32]) -> f64 {
    if values.len() <= BLOCK {
        return block(values);
    }
    let sums: Vec<f64> = values.par_chunks(BLOCK).map(block).collect();
    sums.iter().sum()
}

fn block(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*x) * f64::from(*x);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// Sum of squares of the entries in the mask, or of all.
pub(super) fn masked_sum(grad: &[f32], mask: Option<&Mask>) -> f64 {
    mask.map_or_else(
        || sum_of_squares(grad),
        |mask| mask.indices().iter().map(|i| f64::from(grad[*i as usize]).powi(2)).sum(),
    )
}

/// Name of the first trained tensor with a gradient that is no number.
pub(super) fn first_not_finite(params: &Params, grads: &Grads) -> String {
    let broken = |grad: &[f32]| grad.iter().any(|x| !x.is_finite());
    params
        .iter()
        .find(|(id, _)| grads.get(*id).is_some_and(broken))
        .map_or_else(|| "all tensors together".to_owned(), |(_, tensor)| tensor.name.clone())
}
