//! Weighted draws without replacement, in double precision.
//!
//! `p_softmax = exp(q/T) / sum exp(q/T)`; `p_linear = max(q, 0) / sum max(q, 0)`, uniform if the sum is 0. The draw takes
//! the largest keys `ln p - ln(-ln u)`, `u` uniform in (0, 1): the same as drawing one row after another without
//! replacement. Source: Diversify and Conquer, section 2.1; Efraimidis and Spirakis 2006 and Vieira 2014 for the keys.
//! Deviations: the softmax subtracts its maximum first and stays in logarithms, so that scores above 709 are no trouble;
//! the paper draws with replacement. Cost: n log n.

/// `ln p` under the softmax of `quality / temperature`.
#[must_use]
pub fn ln_softmax(quality: &[f64], temperature: f64) -> Vec<f64> {
    let top = quality.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let scaled: Vec<f64> = quality.iter().map(|q| (q - top) / temperature).collect();
    let ln_sum = scaled.iter().map(|s| s.exp()).sum::<f64>().ln();
    scaled.into_iter().map(|s| s - ln_sum).collect()
}

/// `ln p` under weights proportional to the positive part of the quality; minus infinity where that is 0.
#[must_use]
pub fn ln_linear(quality: &[f64]) -> Vec<f64> {
    let weight = |all_zero: bool, q: f64| if all_zero { 1.0 } else { q.max(0.0) };
    let all_zero = quality.iter().all(|&q| q <= 0.0);
    let sum: f64 = quality.iter().map(|&q| weight(all_zero, q)).sum();
    quality.iter().map(|&q| (weight(all_zero, q) / sum).ln()).collect()
}

/// The key of a row: largest keys are drawn first, minus infinity never.
#[must_use]
pub fn gumbel_key(ln_p: f64, uniform: f64) -> f64 {
    ln_p - (-uniform.ln()).ln()
}

/// Indices of the `count` largest keys, largest first, ties to the lowest index; minus infinity is never taken.
#[must_use]
pub fn largest_keys(keys: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..keys.len()).filter(|&i| keys[i] > f64::NEG_INFINITY).collect();
    order.sort_by(|&a, &b| keys[b].total_cmp(&keys[a]).then(a.cmp(&b)));
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_one_logit_apart() {
        let p = ln_softmax(&[1.0, 0.0], 1.0);
        assert!((p[0].exp() - 0.731_058_578_630_004_9).abs() < 1e-15);
        assert!(ln_softmax(&[2000.0, 0.0], 1.0).iter().all(|p| p.is_finite()), "no overflow, no zero");
    }

    #[test]
    fn rows_without_weight_are_never_drawn() {
        let ln_p = ln_linear(&[3.0, -1.0, 1.0]);
        assert_eq!((ln_p[0].exp(), ln_p[1]), (0.75, f64::NEG_INFINITY));
        let keys: Vec<f64> = ln_p.iter().map(|&p| gumbel_key(p, 0.5)).collect();
        assert_eq!(largest_keys(&keys, 3), [0, 2]);
        assert_eq!(ln_linear(&[-1.0, 0.0]), [0.5f64.ln(); 2]);
    }
}
