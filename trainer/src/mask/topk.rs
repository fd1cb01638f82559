//! The k largest values of one tensor or of many; ties go to the lower place, so that the choice is the same everywhere.

use super::{Mask, fits};
use curate_core::Result;
use std::cmp::Ordering;

/// The `k` largest of `values`.
///
/// # Errors
/// `mask/too-large` for a tensor of more than 2^32 entries.
#[expect(clippy::cast_possible_truncation, reason = "checked by fits")]
pub fn top_k_of(values: &[f32], k: usize) -> Result<Mask> {
    fits(values.len())?;
    let mut places: Vec<u32> = (0..values.len() as u32).collect();
    let order = |a: &u32, b: &u32| falling(values[*a as usize], values[*b as usize]).then(a.cmp(b));
    keep_first(&mut places, k, order);
    Ok(Mask::new(places))
}

/// The `k` largest over all tensors together, as one mask a tensor.
///
/// # Errors
/// `mask/too-large` for a tensor of more than 2^32 entries.
#[expect(clippy::cast_possible_truncation, reason = "checked by fits; tensors are few")]
pub fn top_k_global(tensors: &[&[f32]], k: usize) -> Result<Vec<Mask>> {
    let mut places = Vec::with_capacity(tensors.iter().map(|t| t.len()).sum());
    for (tensor, values) in tensors.iter().enumerate() {
        fits(values.len())?;
        places.extend((0..values.len() as u32).map(|i| (tensor as u32, i)));
    }
    let value = |p: &(u32, u32)| tensors[p.0 as usize][p.1 as usize];
    keep_first(&mut places, k, |a, b| falling(value(a), value(b)).then(a.cmp(b)));
    let mut chosen = vec![Vec::new(); tensors.len()];
    for (tensor, place) in places {
        chosen[tensor as usize].push(place);
    }
    Ok(chosen.into_iter().map(Mask::new).collect())
}

/// Larger first, NaN last.
fn falling(a: f32, b: f32) -> Ordering {
    let sortable = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
    sortable(b).total_cmp(&sortable(a))
}

fn keep_first<T>(places: &mut Vec<T>, k: usize, order: impl Fn(&T, &T) -> Ordering) {
    if k < places.len() {
        if k > 0 {
            places.select_nth_unstable_by(k - 1, order);
        }
        places.truncate(k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_place() {
        assert_eq!(top_k_of(&[1.0, 3.0, f32::NAN, 3.0, 3.0], 2).unwrap().indices(), [1, 3]);
        assert_eq!(top_k_of(&[1.0], 5).unwrap().len(), 1);
        assert!(top_k_of(&[1.0], 0).unwrap().is_empty());
    }

    #[test]
    fn counts_over_all_tensors() {
        let masks = top_k_global(&[&[1.0, 9.0], &[5.0, 9.0, 0.0]], 3).unwrap();
        assert_eq!((masks[0].indices(), masks[1].indices()), (&[1][..], &[0, 1][..]));
    }
}
