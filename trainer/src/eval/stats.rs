//! How sure a score is, and whether two models differ on the same items.
//!
//! Interval of a share: Wilson's score at 95%, `(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)` (Wilson 1927).
//! Two models: the exact test of `McNemar`, the two-sided binomial over the items that only one of them gets right (`McNemar` 1947),
//! and the percentile bootstrap over items (Efron 1979), which also serves scores that are not 0 or 1.
//! Cost: O(1); O(discordant items); O(resamples * items).

use curate_core::{Ctx, Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The 97.5% point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A 95% interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Wilson's interval for `successes` of `n`; 0 to 1 when nothing was tried.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
pub fn wilson(successes: u64, n: u64) -> Interval {
    if n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (count, total) = (successes.min(n) as f64, n as f64);
    let p = count / total;
    let scale = 1.0 + Z * Z / total;
    let centre = (p + Z * Z / (2.0 * total)) / scale;
    let half = Z * (p * (1.0 - p) / total + Z * Z / (4.0 * total * total)).sqrt() / scale;
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes >= n { 1.0 } else { (centre + half).min(1.0) };
    Interval { low, high }
}

/// Exact p-value of `McNemar`'s test, from the items that only the first and only the second model gets right.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
pub fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    let (n, fewer) = (only_first + only_second, only_first.min(only_second));
    // ln C(n, k) - n ln 2, one k after the other
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += log_term.exp();
        log_term += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// Two models on the same items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Items.
    pub n: u64,
    /// Mean score of the second minus that of the first.
    pub difference: f64,
    /// Bootstrap interval of the difference, 95%.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Two-sided p-value of the bootstrap: twice the smaller share of resamples on either side of 0.
    pub p: f64,
}

/// Bootstrap the difference `second - first` over items.
///
/// # Errors
/// `eval/pairs` when there is not one score of each an item, or none; `cancelled`.
pub fn paired_bootstrap(first: &[f64], second: &[f64], resamples: u64, ctx: &Ctx) -> Result<Comparison> {
    if first.len() != second.len() || first.is_empty() || resamples == 0 {
        let (a, b) = (first.len(), second.len());
        return Err(Error::usage(
            "eval/pairs",
            format!("{a} and {b} scores cannot be paired in {resamples} resamples"),
        )
        .hint("judge both models on the same items"));
    }
    let gains: Vec<f64> = first.iter().zip(second).map(|(a, b)| b - a).collect();
    let stream = ctx.stream("bootstrap");
    let mut means: Vec<f64> = (0..resamples).into_par_iter().map(|at| resampled(&gains, &mut stream(at))).collect();
    ctx.tick(resamples)?;
    means.sort_unstable_by(f64::total_cmp);
    let (low, high) = (quantile(&means, 0.025), quantile(&means, 0.975));
    let below = means.partition_point(|mean| *mean < 0.0);
    let above = means.len() - means.partition_point(|mean| *mean <= 0.0);
    // resamples at 0 count for both sides
    let smaller = (means.len() - below).min(means.len() - above);
    let p = (2.0 * ratio(smaller, means.len())).min(1.0);
    Ok(Comparison { n: gains.len() as u64, difference: mean(&gains), low, high, p })
}

fn resampled(gains: &[f64], rng: &mut curate_core::Rng) -> f64 {
    let n = gains.len() as u64;
    let draw = |_| gains[usize::try_from(rng.below(n)).unwrap_or(0)];
    (0..n).map(draw).sum::<f64>() / ratio(gains.len(), 1)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / ratio(values.len(), 1)
}

/// The quantile of sorted values, linear between neighbours.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the values")]
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * ratio(sorted.len() - 1, 1);
    let (below, part) = (place.floor() as usize, place.fract());
    let above = sorted[(below + 1).min(sorted.len() - 1)];
    sorted[below] + part * (above - sorted[below])
}

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
