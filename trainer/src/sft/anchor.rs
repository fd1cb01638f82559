//! A pull towards the weights a run began with.

use crate::{Grads, Params};

/// Add the gradient of `weight` times the mean of `|theta - theta0|` over all trained entries.
pub(super) fn pull(weight: f64, anchor: &Params, params: &Params, grads: &mut Grads) {
    let entries: usize = params.iter().filter(|(_, t)| t.trained).map(|(_, t)| t.data.len()).sum();
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a small factor")]
    let pull = (weight / entries.max(1) as f64) as f32;
    for (id, tensor) in params.iter() {
        let Some(grad) = grads.get_mut(id) else { continue };
        for (g, (now, then)) in grad.iter_mut().zip(tensor.data.iter().zip(&anchor.get(id).data)) {
            let away = now - then;
            *g += if away == 0.0 { 0.0 } else { pull * away.signum() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParamId, Tensor};

    #[test]
    fn pulls_by_the_sign_of_the_distance() {
        let params = |data: &[f32]| {
            let mut params = Params::default();
            params.push(Tensor { name: "w".into(), shape: vec![data.len()], data: data.to_vec(), trained: true });
            params
        };
        let (now, then) = (params(&[1.0, 2.0, 3.0, 4.0]), params(&[1.0, 5.0, 2.0, 4.0]));
        let mut grads = Grads::zeros(&now);
        pull(0.8, &then, &now, &mut grads);
        assert_eq!(grads.get(ParamId(0)).unwrap(), [0.0, -0.2, 0.2, 0.0]);
    }
}
