//! Distributions of the numbers of kept rows and of the rest: the same bins for both, and quantiles.

use super::data::Distribution;
use super::table::{State, Table};

/// Bins of a histogram.
const BINS: usize = 40;

/// Quantiles that are told.
const LEVELS: [f64; 7] = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0];

/// Share of the values that may lie beyond the first and beyond the last bin.
const TAIL: f64 = 0.005;

/// Every number that is known of the rows, and their length.
pub(super) fn distributions(table: &Table) -> Vec<Distribution> {
    let known = table.numbers.iter().map(|number| distribution(&number.name, false, table, |at| number.values[at]));
    let (lengths, unit) = table.lengths();
    let length = distribution(&format!("length in {unit}"), true, table, |at| lengths[at].max(1) as f32);
    known.chain([length]).collect()
}

fn distribution(name: &str, log: bool, table: &Table, value: impl Fn(usize) -> f32) -> Distribution {
    let side = |picked: bool| {
        let wanted = if picked { State::Picked } else { State::Left };
        let own = (0..table.rows()).filter(|&at| table.state[at] == wanted).map(&value);
        sorted(own.filter(|value| value.is_finite()).map(f64::from).collect())
    };
    let (kept, rest) = (side(true), side(false));
    let all = sorted(kept.iter().chain(&rest).copied().collect());
    let edges = edges(quantile(&all, TAIL), quantile(&all, 1.0 - TAIL), log);
    Distribution {
        name: name.to_owned(),
        log,
        kept: counts(&kept, &edges),
        rest: counts(&rest, &edges),
        edges,
        levels: LEVELS.to_vec(),
        kept_quantiles: quantiles(&kept),
        rest_quantiles: quantiles(&rest),
        kept_mean: mean(&kept),
        rest_mean: mean(&rest),
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// Values of kept rows and of the rest in bins of their own: borders, kept, rest.
pub(crate) fn histogram(kept: Vec<f64>, rest: Vec<f64>) -> (Vec<f64>, Vec<u64>, Vec<u64>) {
    let (kept, rest) = (sorted(kept), sorted(rest));
    let all = sorted(kept.iter().chain(&rest).copied().collect());
    let edges = edges(quantile(&all, TAIL), quantile(&all, 1.0 - TAIL), false);
    let (kept, rest) = (counts(&kept, &edges), counts(&rest, &edges));
    (edges, kept, rest)
}

/// Borders of equal bins from `low` to `high`.
fn edges(low: f64, high: f64, log: bool) -> Vec<f64> {
    let high = if high > low { high } else { low + 1.0 };
    let share = |bin: usize| bin as f64 / BINS as f64;
    let at = |bin| if log { low * (high / low).powf(share(bin)) } else { low + (high - low) * share(bin) };
    (0..=BINS).map(at).collect()
}

/// Values in each bin, those beyond the borders in the first and the last.
fn counts(sorted: &[f64], edges: &[f64]) -> Vec<u64> {
    let below = |edge: f64| sorted.partition_point(|value| *value < edge);
    let inner = edges[1..edges.len() - 1].iter().map(|&edge| below(edge));
    let cuts: Vec<usize> = std::iter::once(0).chain(inner).chain([sorted.len()]).collect();
    cuts.windows(2).map(|pair| (pair[1] - pair[0]) as u64).collect()
}

/// The value below which this share of the values lies, by linear interpolation; 0 of none.
pub(crate) fn quantile(sorted: &[f64], level: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = level.clamp(0.0, 1.0) * last as f64;
    let (low, rest) = (place.floor() as usize, place.fract());
    let high = (low + 1).min(last);
    if rest == 0.0 { sorted[low] } else { sorted[low].mul_add(1.0 - rest, sorted[high] * rest) }
}

fn quantiles(sorted: &[f64]) -> Vec<f64> {
    if sorted.is_empty() { Vec::new() } else { LEVELS.iter().map(|&level| quantile(sorted, level)).collect() }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_five() {
        let five = [1.0, 2.0, 3.0, 4.0, 10.0];
        assert_eq!(quantile(&five, 0.5).to_bits(), 3f64.to_bits());
        assert_eq!(quantile(&five, 0.875).to_bits(), 7f64.to_bits());
        assert_eq!(quantile(&[], 0.5).to_bits(), 0f64.to_bits());
    }

    #[test]
    fn every_value_falls_into_one_bin() {
        let values = [-100.0, 0.0, 0.1, 0.5, 1.0, 100.0];
        let found = counts(&values, &edges(0.0, 1.0, false));
        assert_eq!((found.len(), found.iter().sum::<u64>()), (BINS, 6));
        assert_eq!((found[0], found[4], found[20], found[BINS - 1]), (2, 1, 1, 2));
        let same = counts(&[7.0; 3], &edges(7.0, 7.0, false));
        assert_eq!((same[0], same.iter().sum::<u64>()), (3, 3));
    }
}
