//! What moved between two states of a model: the entries of largest `|after - before|`, and all that changed at all.
//!
//! Source: Ansell et al., Composable Sparse Fine-Tuning (section 3.1, the mask of LT-SFT); Panigrahi et al., Task-Specific Skill
//! Localization (section 3, the base patch of grafting); Mukherjee et al., Reinforcement Learning Finetunes Small Subnetworks
//! (section 3). Deviation: exactly k entries, ties to the lower place, where the sources compare with a threshold.
//! Cost: 4 bytes an entry for differences, 8 for the choice.

use super::{Mask, top_k_global};
use crate::lora::is_adapter;
use crate::{ParamId, Params, Tensor};
use curate_core::{Error, Result};
use std::collections::BTreeMap;

/// Masks of some tensors.
pub type Masks = BTreeMap<ParamId, Mask>;

/// Tensors of `before` and `after`, by name, in the order of `before`.
///
/// # Errors
/// `model/pair` when a tensor is missing or has another shape.
pub fn pairs<'a>(before: &'a Params, after: &'a Params) -> Result<Vec<(ParamId, &'a Tensor, &'a Tensor)>> {
    let pair = |(id, old): (ParamId, &'a Tensor)| match after.find(&old.name).map(|id| after.get(id)) {
        Some(new) if new.shape == old.shape => Ok((id, old, new)),
        Some(new) => {
            Err(apart(&format!("tensor '{}' is {:?} in one and {:?} in the other", old.name, old.shape, new.shape)))
        }
        None => Err(apart(&format!("tensor '{}' is in one of the models only", old.name))),
    };
    let stranger = |(_, new): &(ParamId, &Tensor)| !is_adapter(&new.name) && before.find(&new.name).is_none();
    if let Some((_, new)) = after.iter().find(stranger) {
        return Err(apart(&format!("tensor '{}' is in one of the models only", new.name)));
    }
    before.iter().map(pair).collect()
}

fn apart(what: &str) -> Error {
    Error::data("model/pair", what).hint("compare two states of the same model: a base and what was trained from it")
}

/// The `k` entries that moved most, over all tensors whose name `maskable` admits, but for those `taken` already.
///
/// # Errors
/// `model/pair`, `mask/too-large`.
pub fn top_movement(
    before: &Params,
    after: &Params,
    k: usize,
    maskable: impl Fn(&str) -> bool,
    taken: &Masks,
) -> Result<Masks> {
    let pairs: Vec<_> = pairs(before, after)?.into_iter().filter(|(_, old, _)| maskable(&old.name)).collect();
    let free = |(id, old, new): &(ParamId, &Tensor, &Tensor)| {
        let mut moved = movement(old, new);
        taken.get(id).into_iter().flat_map(Mask::indices).for_each(|i| moved[*i as usize] = f32::NAN);
        moved
    };
    let moved: Vec<Vec<f32>> = pairs.iter().map(free).collect();
    let left = moved.iter().flatten().filter(|x| !x.is_nan()).count();
    let masks = top_k_global(&moved.iter().map(Vec::as_slice).collect::<Vec<_>>(), k.min(left))?;
    Ok(pairs.into_iter().map(|(id, _, _)| id).zip(masks).collect())
}

fn movement(old: &Tensor, new: &Tensor) -> Vec<f32> {
    old.data.iter().zip(&new.data).map(|(a, b)| (b - a).abs()).collect()
}

/// The entries that differ by more than `atol`; with 0 all whose bits differ.
///
/// # Errors
/// `model/pair`, `mask/too-large`.
pub fn changed(before: &Params, after: &Params, atol: f32) -> Result<Masks> {
    let differs = |a: f32, b: f32| if atol > 0.0 { (a - b).abs() > atol } else { a.to_bits() != b.to_bits() };
    let mask = |(id, old, new): (ParamId, &Tensor, &Tensor)| {
        Ok((id, Mask::of(old.data.len(), |i| differs(old.data[i], new.data[i]))?))
    };
    pairs(before, after)?.into_iter().map(mask).collect()
}

/// Shared entries of two sets of masks as a share of all entries of both: a report of how alike two tasks are. For random masks of
/// density s it is s / (2 - s).
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub fn jaccard(a: &Masks, b: &Masks) -> f64 {
    let empty = Mask::default();
    let both: usize = a.iter().map(|(id, mask)| mask.overlap(b.get(id).unwrap_or(&empty))).sum();
    let all = a.values().chain(b.values()).map(Mask::len).sum::<usize>() - both;
    if all == 0 { 1.0 } else { both as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(values: &[&[f32]]) -> Params {
        let mut params = Params::default();
        for (i, data) in values.iter().enumerate() {
            params.push(Tensor { name: format!("t{i}"), shape: vec![data.len()], data: data.to_vec(), trained: true });
        }
        params
    }

    #[test]
    fn picks_what_moved_most() {
        let (before, after) = (params(&[&[0.0, 1.0], &[2.0, 3.0]]), params(&[&[0.5, 1.0], &[2.0, 1.0]]));
        let masks = top_movement(&before, &after, 1, |_| true, &Masks::new()).unwrap();
        let next = top_movement(&before, &after, 9, |_| true, &masks).unwrap();
        assert_eq!((next[&ParamId(0)].indices(), next[&ParamId(1)].indices()), (&[0, 1][..], &[0][..]));
        assert_eq!((masks[&ParamId(0)].len(), masks[&ParamId(1)].indices()), (0, &[1][..]));
        let all = changed(&before, &after, 0.0).unwrap();
        assert_eq!((all[&ParamId(0)].indices(), all[&ParamId(1)].indices()), (&[0][..], &[1][..]));
        assert_eq!(changed(&before, &after, 1.0).unwrap()[&ParamId(0)].len(), 0);
        assert!((jaccard(&masks, &all) - 0.5).abs() < 1e-12);
        assert_eq!(pairs(&before, &params(&[&[1.0]])).unwrap_err().code(), "model/pair");
        assert_eq!(pairs(&params(&[&[1.0, 0.0]]), &after).unwrap_err().code(), "model/pair");
    }
}
