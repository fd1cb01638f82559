//! Grafting: give the base model only those entries of the tuned one that moved most.
//!
//! `theta = theta0 + gamma (theta1 - theta0)`, gamma 1 on the `s n` entries of largest `|theta1 - theta0|`. Source: Panigrahi et al.,
//! Task-Specific Skill Localization in Fine-tuned Language Models (section 3, base patch). Deviations: the mask is not refined by
//! gradients; values are copied, so that s = 0 and s = 1 give base and tuned model to the bit. Cost: 12 bytes an entry.

use crate::mask::movement::{Masks, top_movement};
use crate::optim::groups::{is_embedding, is_head};
use crate::{ParamId, Params};
use curate_core::{Error, Result};

/// The base model with the share `sparsity` of all maskable entries taken from the tuned one, and which they are. Embeddings and
/// head are left as in the base, unless `everything`.
///
/// # Errors
/// `graft/share` outside 0 to 1; `model/pair`.
pub fn graft(base: &Params, tuned: &Params, sparsity: f64, everything: bool) -> Result<(Params, Masks)> {
    if !(0.0..=1.0).contains(&sparsity) {
        return Err(Error::usage("graft/share", format!("a share of {sparsity} entries"))
            .hint("give a number from 0 (base) to 1 (tuned)"));
    }
    let maskable = |name: &str| everything || !(is_embedding(name) || is_head(name));
    let n: usize = base.iter().filter(|(_, t)| maskable(&t.name)).map(|(_, t)| t.data.len()).sum();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in 0..=n"
    )]
    let k = (sparsity * n as f64).round() as usize;
    let masks = top_movement(base, tuned, k, maskable, &Masks::new())?;
    let mut model = base.clone();
    for (id, mask) in &masks {
        let from = tuned.find(&base.get(*id).name).map_or(&[][..], |id: ParamId| tuned.get(id).data.as_slice());
        let to = &mut model.get_mut(*id).data;
        for i in mask.indices() {
            to[*i as usize] = from[*i as usize];
        }
    }
    Ok((model, masks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::mask::movement::jaccard;

    fn params(step: f32) -> Params {
        let mut params = Params::default();
        for name in ["model.layers.0.w", "model.norm.weight", "lm_head.weight"] {
            let data = (0..10u8).map(|i| 0.1 + step * f32::from(i)).collect();
            params.push(Tensor { name: name.into(), shape: vec![10], data, trained: true });
        }
        params
    }

    #[test]
    fn ends_and_count() {
        let (base, tuned) = (params(0.0), params(0.37));
        let at = |s: f64| graft(&base, &tuned, s, true).unwrap();
        assert!(at(0.0).0.iter().zip(base.iter()).all(|(a, b)| a == b));
        assert!(at(1.0).0.iter().zip(tuned.iter()).all(|(a, b)| a == b));
        let (model, masks) = graft(&base, &tuned, 0.25, false).unwrap();
        assert_eq!(masks.values().map(crate::mask::Mask::len).sum::<usize>(), 5);
        assert_eq!(model.get(ParamId(2)), base.get(ParamId(2)));
        assert!((jaccard(&masks, &masks) - 1.0).abs() < 1e-12);
        assert_eq!(graft(&base, &tuned, 1.5, true).unwrap_err().code(), "graft/share");
    }
}
