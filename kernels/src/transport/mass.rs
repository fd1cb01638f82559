//! Weights as whole numbers, so that flows are exact and no basis is ever degenerate.
//!
//! Equal weights become `m / g` and `n / g`; any others are rounded cumulatively to at most 2^52 parts of the whole, an error
//! of that part per row. Then every row gets one unit more at a scale above `2 n` and the last column takes them all: no
//! part of a spanning tree can be balanced, so every pivot moves mass and no rule against cycling is needed.
//! Source: Orden 1956 (perturbation); the scale is chosen so that rounding gives the true flow back. Cost: n + m.

use crate::KernelError;

/// Whole weights of rows and columns.
#[derive(Clone, Debug)]
pub(super) struct Mass {
    /// Of every row, not perturbed.
    pub(super) rows: Vec<i64>,
    /// Of every column.
    pub(super) cols: Vec<i64>,
    /// What one unit stands for.
    pub(super) unit: f64,
}

impl Mass {
    /// Check and convert.
    pub(super) fn new(a: &[f64], b: &[f64]) -> Result<Self, KernelError> {
        let total = check(a, "row")?;
        let other = check(b, "column")?;
        if (total - other).abs() > 1e-6 * total.max(other) {
            return Err(shape("equal mass on both sides", &format!("{total} and {other}")));
        }
        if equal(a) && equal(b) {
            return Ok(Self::uniform(a.len(), b.len(), total));
        }
        let parts = (1i64 << 52).min((1i64 << 61) / scale(a.len()));
        Ok(Self { rows: rounded(a, total, parts), cols: rounded(b, other, parts), unit: total / parts as f64 })
    }

    /// Equal weights.
    pub(super) fn uniform(n: usize, m: usize, total: f64) -> Self {
        let g = gcd(n, m);
        let (row, col) = (whole(m / g), whole(n / g));
        Self { rows: vec![row; n], cols: vec![col; m], unit: total / (n as f64 * row as f64) }
    }
}

/// Factor of the perturbed weights.
pub(super) const fn scale(n: usize) -> i64 {
    2 * whole(n) + 2
}

/// A number of rows as a whole number with a sign.
pub(super) const fn whole(n: usize) -> i64 {
    (n as u64).cast_signed()
}

fn shape(expected: &str, got: &str) -> KernelError {
    KernelError::Shape { op: "transport", expected: expected.to_owned(), got: got.to_owned() }
}

fn check(weights: &[f64], what: &str) -> Result<f64, KernelError> {
    if let Some(bad) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
        return Err(shape("weights of at least 0", &format!("{} at {what} {bad}", weights[bad])));
    }
    let total: f64 = weights.iter().sum();
    if total > 0.0 && total.is_finite() {
        Ok(total)
    } else {
        Err(shape("some mass", &format!("{what} weights of {total} in all")))
    }
}

fn equal(weights: &[f64]) -> bool {
    weights.iter().all(|w| w.to_bits() == weights[0].to_bits())
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `parts` parts shared out so that every running total is rounded to the nearest.
fn rounded(weights: &[f64], total: f64, parts: i64) -> Vec<i64> {
    let (mut sum, mut before) = (0.0, 0);
    let last = weights.iter().rposition(|&w| w > 0.0).unwrap_or(0);
    let mut share = |i: usize, w: f64| {
        sum += w;
        let upto = if i >= last { parts } else { ((sum / total * parts as f64).round() as i64).min(parts) };
        let got = upto - before;
        before = upto;
        got
    };
    weights.iter().enumerate().map(|(i, &w)| share(i, w)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_weights_sum_up_and_zero_stays_zero() {
        let mass = Mass::new(&[0.1, 0.0, 0.7, 0.2, 0.0], &[0.5, 0.5]).unwrap();
        assert_eq!(mass.rows.iter().sum::<i64>(), mass.cols.iter().sum::<i64>());
        assert_eq!((mass.rows[1], mass.rows[4]), (0, 0));
        assert_eq!(Mass::uniform(4, 6, 1.0).rows, [3; 4]);
        assert!(Mass::new(&[1.0], &[0.5]).is_err());
        assert!(Mass::new(&[f64::NAN], &[1.0]).is_err());
        assert!(Mass::new(&[], &[]).is_err());
    }
}
