//! Cross-entropy of rows of logits, and its gradient in their place.
//!
//! Formula: nll = ln(sum exp(z - max)) + max - z[label]; dz = scale (softmax(z) - `onehot(label)`). Source: the definitions.
//! Cost: two reads of a row, or three and two writes with the gradient; nothing of the size of the logits is allocated.

use super::math::{exp_in_place, exp_sum, largest, scale as multiply};
use super::wide;
use rayon::prelude::*;

/// What one label costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenLoss {
    /// Negative log-likelihood.
    pub nll: f32,
    /// Whether the label has the largest logit (the first of equals).
    pub hit: bool,
}

wide! {
    fn one(row: &mut [f32], label: usize, scale: Option<f32>) -> TokenLoss {
        let (wanted, max) = (row[label], largest(row));
        let hit = wanted == max && !row[..label].contains(&max);
        let sum = if let Some(scale) = scale {
            let sum = exp_in_place(row, 1.0, max);
            multiply(row, scale / sum);
            row[label] -= scale;
            sum
        } else {
            exp_sum(row, max)
        };
        TokenLoss { nll: (f64::from(sum).ln() + f64::from(max) - f64::from(wanted)) as f32, hit }
    }
}

/// The loss of every row of `logits`, one row a label. With a `scale` the row becomes `scale` times its gradient.
///
/// # Panics
/// When lengths do not fit or a label lies outside its row.
pub fn cross_entropy(logits: &mut [f32], labels: &[u32], scale: Option<f32>, losses: &mut [TokenLoss]) {
    let width = logits.len() / labels.len().max(1);
    assert!(logits.len() == labels.len() * width && losses.len() == labels.len());
    let rows = logits.par_chunks_exact_mut(width.max(1)).zip(labels).zip(losses);
    rows.for_each(|((row, label), loss)| *loss = one(row, *label as usize, scale));
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers};
    use super::*;

    #[test]
    fn losses_and_gradients_by_f64() {
        for width in [3, 16, 97] {
            let logits: Vec<f32> = numbers(2 * width, 1).iter().map(|x| 20.0 * x).collect();
            let labels = [0, width as u32 - 1];
            let (mut plain, mut grad) = (logits.clone(), logits.clone());
            let mut losses = [[TokenLoss::default(); 2]; 2];
            cross_entropy(&mut plain, &labels, None, &mut losses[0]);
            cross_entropy(&mut grad, &labels, Some(0.25), &mut losses[1]);
            assert_eq!(plain, logits);
            for (i, row) in logits.chunks(width).enumerate() {
                let sum: f64 = row.iter().map(|z| f64::from(*z).exp()).sum();
                let label = labels[i] as usize;
                let nll = sum.ln() - f64::from(row[label]);
                assert!(
                    (f64::from(losses[0][i].nll) - nll).abs() < 1e-5
                        && (losses[1][i].nll - losses[0][i].nll).abs() < 1e-6
                );
                let share = |j: usize| f64::from(row[j]).exp() / sum - f64::from(u8::from(j == label));
                close(&grad[i * width..][..width], &(0..width).map(|j| 0.25 * share(j)).collect::<Vec<_>>(), 1e-5);
            }
        }
    }

    #[test]
    fn the_first_of_equals_is_hit_and_nan_is_seen() {
        let mut losses = [TokenLoss::default(); 3];
        cross_entropy(&mut [1.0, 1.0, 1.0, 1.0, 1.0, f32::NAN], &[0, 1, 0], None, &mut losses);
        assert!(losses[0].hit && !losses[1].hit);
        assert!((losses[0].nll - std::f32::consts::LN_2).abs() < 1e-6);
        assert!(losses[2].nll.is_nan());
    }
}
