//! From the scores of rows to the weights of clusters.

use super::Mode;
use crate::online::batch::float;
use curate_core::{Error, Result};

/// Scored rows of one cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scored {
    pub(crate) rows: usize,
    pub(crate) sum: f64,
}

/// One score a cluster: the mean of its rows, drawn towards the mean of all rows as if `shrinkage` rows had that; the mean
/// of the other clusters' scores where no row is scored. None if no row is.
pub(crate) fn scores(clusters: &[Scored], shrinkage: f64) -> Option<Vec<f64>> {
    let rows: usize = clusters.iter().map(|c| c.rows).sum();
    if rows == 0 {
        return None;
    }
    let overall = clusters.iter().map(|c| c.sum).sum::<f64>() / float(rows);
    let own = |c: &Scored| (c.rows > 0).then(|| (c.sum + shrinkage * overall) / (float(c.rows) + shrinkage));
    let known: Vec<f64> = clusters.iter().filter_map(own).collect();
    let neutral = known.iter().sum::<f64>() / float(known.len());
    Some(clusters.iter().map(|c| own(c).unwrap_or(neutral)).collect())
}

/// The weights of the next round from the scores and the weights of this one; they sum to 1.
pub(crate) fn reweigh(mode: Mode, scores: &[f64], weights: &[f64]) -> Result<Vec<f64>> {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raw: Vec<f64> = match mode {
        Mode::Softmax => scores.iter().map(|s| (s - top).exp()).collect(),
        Mode::Hedge => scores.iter().zip(weights).map(|(s, w)| (s - top).exp() * w).collect(),
        Mode::Ratio => scores.iter().zip(weights).map(|(s, w)| s.max(0.0) / top.max(f64::MIN_POSITIVE) * w).collect(),
    };
    let sum: f64 = raw.iter().sum();
    if !sum.is_finite() {
        return Err(Error::data(
            "signal/too-large",
            "the scores of the clusters cannot be told apart in double precision",
        )
        .hint("scale the signal, for example a reward to about -10 to 10"));
    }
    Ok(if sum > 0.0 { raw.iter().map(|w| w / sum).collect() } else { weights.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(got: &[f64], told: &[f64]) {
        assert!(got.len() == told.len() && got.iter().zip(told).all(|(g, t)| (g - t).abs() < 1e-12), "{got:?}");
    }

    #[test]
    fn the_modes_on_two_clusters() {
        let (scores, weights) = ([3f64.ln(), 0.0], [0.25, 0.75]);
        assert_close(&reweigh(Mode::Softmax, &scores, &weights).unwrap(), &[0.75, 0.25]);
        assert_close(&reweigh(Mode::Hedge, &scores, &weights).unwrap(), &[0.5, 0.5]);
        assert_close(&reweigh(Mode::Ratio, &[3.0, 1.0], &weights).unwrap(), &[0.5, 0.5]);
        assert_close(&reweigh(Mode::Ratio, &[-3.0, 0.0], &weights).unwrap(), &weights);
        assert_eq!(reweigh(Mode::Softmax, &[f64::INFINITY, 0.0], &weights).unwrap_err().code(), "signal/too-large");
    }

    #[test]
    fn few_rows_are_drawn_towards_the_mean() {
        let clusters = [Scored { rows: 1, sum: 4.0 }, Scored { rows: 3, sum: 0.0 }, Scored::default()];
        assert_close(&scores(&clusters, 0.0).unwrap(), &[4.0, 0.0, 2.0]);
        assert_close(&scores(&clusters, 1.0).unwrap(), &[2.5, 0.25, 1.375]);
        assert!(scores(&clusters[2..], 1.0).is_none());
    }
}
