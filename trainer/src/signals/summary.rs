//! The log-likelihoods of a row's labels in five numbers.

/// Mean, deviation and quantiles of log-likelihoods.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LogProbs {
    pub(crate) mean: f64,
    pub(crate) std: f64,
    pub(crate) min: f64,
    pub(crate) p05: f64,
    pub(crate) p50: f64,
}

impl LogProbs {
    /// From negative log-likelihoods.
    #[expect(clippy::cast_precision_loss, reason = "a row has few labels")]
    pub(crate) fn of(nll: impl Iterator<Item = f32>) -> Self {
        let mut values: Vec<f64> = nll.map(|nll| -f64::from(nll)).collect();
        values.sort_unstable_by(f64::total_cmp);
        let Some(&min) = values.first() else { return Self::default() };
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        Self { mean, std: square.sqrt(), min, p05: quantile(&values, 0.05), p50: quantile(&values, 0.5) }
    }
}

/// Between the two nearest of sorted values, by distance.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a row"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, part) = (place as usize, place.fract());
    let high = sorted[(low + 1).min(sorted.len() - 1)];
    part.mul_add(high - sorted[low], sorted[low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_labels_by_hand() {
        let found = LogProbs::of([1.0, 0.0, 4.0, 2.0, 3.0].into_iter());
        let expected = LogProbs { mean: -2.0, std: 2f64.sqrt(), min: -4.0, p05: -3.8, p50: -2.0 };
        assert!((found.p05 - expected.p05).abs() < 1e-12);
        assert_eq!(LogProbs { p05: -3.8, ..found }, expected);
        assert_eq!(LogProbs::of(std::iter::empty()), LogProbs::default());
        assert!((LogProbs::of([0.5].into_iter()).p05 + 0.5).abs() < 1e-12);
    }
}
