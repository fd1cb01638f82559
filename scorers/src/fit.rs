//! Fitting a linear rule to runs of one's own: ordinary least squares with a constant.
//!
//! `y = c0 + X c`: Householder QR of `[1 X]`, every column first scaled to length 1; `s^2 = sse / (n - p)`, standard errors
//! `s |row of R^-1|`, variance inflation `|row of R^-1|^2 |x_j - mean|^2`, `R^2 = 1 - sse / sst`, two-sided p-values of Student's t by the incomplete beta function. Source: `InstructMining` (Cao et al. 2023)
//! for the use; Golub and Van Loan for the method. Cost: n p^2 time.

#![expect(clippy::many_single_char_names, reason = "as in the books")]

use crate::linear::{dot, usize_f64};
use crate::rule::{Rule, Term};
use curate_core::{Column, Error, Result};

/// A fitted rule and how far to trust it. The first entry of every list belongs to the constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Coefficients.
    pub coefficients: Vec<f64>,
    /// Their standard errors.
    pub standard_errors: Vec<f64>,
    /// Coefficients by standard errors.
    pub t: Vec<f64>,
    /// Two-sided p-values.
    pub p: Vec<f64>,
    /// How many times larger the other columns make the variance of each coefficient (1 for the constant); above 10 it says little.
    pub inflation: Vec<f64>,
    /// Share of the variance explained.
    pub r2: f64,
    /// The same, corrected for the number of columns.
    pub adjusted_r2: f64,
    /// Sum of squared residuals.
    pub sse: f64,
    /// Rows less coefficients.
    pub degrees_of_freedom: usize,
}

impl Fit {
    /// The fitted rule over these columns.
    #[must_use]
    pub fn rule(&self, columns: &[Column]) -> Rule {
        let mut terms: Vec<Term> = columns
            .iter()
            .zip(&self.coefficients[1..])
            .map(|(column, &coefficient)| Term { column: column.clone(), coefficient })
            .collect();
        terms.sort_by(|a, b| a.column.cmp(&b.column));
        Rule { constant: self.coefficients[0], terms }
    }
}

/// Fit `y` to the rows of `x` (row-major, one number a name), with a constant.
///
/// # Errors
/// `fit/shape` when the sizes do not fit or there are not more rows than coefficients, `fit/not-finite` with the row, `fit/collinear`
/// with the first column that others before it explain, and these.
pub fn fit_rule(names: &[&str], x: &[f64], y: &[f64]) -> Result<Fit> {
    let (n, p) = (y.len(), names.len() + 1);
    check(names.len(), x, y)?;
    let column =
        |j: usize| (0..n).map(move |i| if j == 0 { 1.0 } else { x[i * (p - 1) + j - 1] }).collect::<Vec<f64>>();
    let mut columns: Vec<Vec<f64>> = (0..p).map(column).collect();
    let lengths: Vec<f64> = columns.iter_mut().map(|c| shorten(c)).collect();
    let spread_of: Vec<f64> = columns.iter().map(|c| squares_about_mean(c)).collect();
    let mut rest = y.to_vec();
    let r = triangle(&mut columns, &mut rest).map_err(|(j, parts)| collinear(names, j, &parts))?;
    let inverse = inverse(&r, p);
    let sse = dot(&rest[p..], &rest[p..]);
    let dof = n - p;
    let spread = (sse / usize_f64(dof)).sqrt();
    let rows: Vec<&[f64]> = inverse.chunks_exact(p).collect();
    let coefficients: Vec<f64> = (0..p).map(|i| dot(rows[i], &rest[..p]) / lengths[i]).collect();
    let standard_errors: Vec<f64> = (0..p).map(|i| spread * dot(rows[i], rows[i]).sqrt() / lengths[i]).collect();
    let inflation = (0..p).map(|i| if i == 0 { 1.0 } else { dot(rows[i], rows[i]) * spread_of[i] }).collect();
    Ok(Fit { inflation, ..Fit::new(coefficients, standard_errors, sse, y) })
}

/// Sum of squared distances from the mean.
fn squares_about_mean(column: &[f64]) -> f64 {
    let mean = column.iter().sum::<f64>() / usize_f64(column.len());
    column.iter().map(|v| (v - mean).powi(2)).sum()
}

/// The error for column `j`, which is the sum of `parts` of the columns before it.
fn collinear(names: &[&str], j: usize, parts: &[f64]) -> Error {
    let name = |j: usize| if j == 0 { "the constant".to_owned() } else { format!("'{}'", names[j - 1]) };
    let largest = parts.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let of: Vec<String> = (0..j).filter(|&i| parts[i].abs() > 1e-6 * largest).map(name).collect();
    let what = if of.is_empty() { "is 0 in every row".to_owned() } else { format!("is fixed by {}", of.join(", ")) };
    Error::data("fit/collinear", format!("{} {what}: no fit can tell them apart", name(j)))
        .hint("leave one of them out")
}

impl Fit {
    fn new(coefficients: Vec<f64>, standard_errors: Vec<f64>, sse: f64, y: &[f64]) -> Self {
        let (n, dof) = (usize_f64(y.len()), y.len() - coefficients.len());
        let mean = y.iter().sum::<f64>() / n;
        let sst: f64 = y.iter().map(|v| (v - mean).powi(2)).sum();
        let r2 = if sst > 0.0 { 1.0 - sse / sst } else { 0.0 };
        let t: Vec<f64> = coefficients.iter().zip(&standard_errors).map(|(c, e)| c / e).collect();
        let p = t.iter().map(|t| two_sided(*t, usize_f64(dof))).collect();
        let adjusted_r2 = 1.0 - (1.0 - r2) * (n - 1.0) / usize_f64(dof);
        Self {
            coefficients,
            standard_errors,
            t,
            p,
            inflation: Vec::new(),
            r2,
            adjusted_r2,
            sse,
            degrees_of_freedom: dof,
        }
    }
}

fn check(columns: usize, x: &[f64], y: &[f64]) -> Result<()> {
    let n = y.len();
    if x.len() != n * columns || n <= columns + 1 {
        return Err(Error::usage("fit/shape", format!("{n} values and {} numbers for {columns} columns", x.len()))
            .hint(
                "give one value a row, a number for every name in every row, and at least two rows more than names",
            ));
    }
    let bad = (0..n).find(|&i| !y[i].is_finite() || x[i * columns..(i + 1) * columns].iter().any(|v| !v.is_finite()));
    bad.map_or(Ok(()), |row| {
        Err(Error::data("fit/not-finite", "a number to fit is NaN or infinite")
            .at(curate_core::Location::default().row(row as u64)))
    })
}

/// Scale to length 1; the length (1 for a zero column).
fn shorten(column: &mut [f64]) -> f64 {
    let largest = column.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if largest == 0.0 {
        return 1.0;
    }
    let length = largest * column.iter().map(|v| (v / largest).powi(2)).sum::<f64>().sqrt();
    column.iter_mut().for_each(|v| *v /= length);
    length
}

/// Upper triangle of the QR decomposition, row-major; `rest` becomes `Q^T rest`. A column that vanishes is the error, with what it has
/// of each column before it.
fn triangle(columns: &mut [Vec<f64>], rest: &mut [f64]) -> Result<Vec<f64>, (usize, Vec<f64>)> {
    let p = columns.len();
    let mut r = vec![0.0; p * p];
    for j in 0..p {
        let (done, ahead) = columns.split_at_mut(j + 1);
        let v = &mut done[j];
        (0..j).for_each(|i| r[i * p + j] = v[i]);
        let length = dot(&v[j..], &v[j..]).sqrt();
        if length <= 1e-12 {
            let inverse = inverse(&leading(&r, p, j), j);
            let parts = (0..j).map(|i| (0..j).map(|k| inverse[i * j + k] * r[k * p + j]).sum()).collect();
            return Err((j, parts));
        }
        let diagonal = if v[j] > 0.0 { -length } else { length };
        r[j * p + j] = diagonal;
        v[j] -= diagonal;
        let square = dot(&v[j..], &v[j..]);
        for other in ahead.iter_mut().map(Vec::as_mut_slice).chain([&mut *rest]) {
            let along = 2.0 * dot(&v[j..], &other[j..]) / square;
            other[j..].iter_mut().zip(&v[j..]).for_each(|(o, v)| *o -= along * v);
        }
    }
    Ok(r)
}

/// The first `j` rows and columns.
fn leading(r: &[f64], p: usize, j: usize) -> Vec<f64> {
    (0..j).flat_map(|i| r[i * p..i * p + j].to_vec()).collect()
}

/// Inverse of an upper triangle, row-major.
fn inverse(r: &[f64], p: usize) -> Vec<f64> {
    let mut out = vec![0.0; p * p];
    for j in 0..p {
        for i in (0..=j).rev() {
            let unit = f64::from(u8::from(i == j));
            let sum: f64 = (i + 1..=j).map(|k| r[i * p + k] * out[k * p + j]).sum();
            out[i * p + j] = (unit - sum) / r[i * p + i];
        }
    }
    out
}

/// Chance of a value at least as far from 0 under Student's t.
fn two_sided(t: f64, dof: f64) -> f64 {
    if t.is_nan() {
        return 1.0;
    }
    incomplete_beta(dof / 2.0, 0.5, dof / (dof + t * t))
}

/// Regularised incomplete beta function.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

/// Its continued fraction, by Lentz's method.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let guard = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, guard(1.0 - (a + b) * x / (a + 1.0)).recip());
    let mut h = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = h;
        for term in [even, odd] {
            (c, d) = (guard(1.0 + term / c), guard(1.0 + term * d).recip());
            h *= c * d;
        }
        if (h - before).abs() <= 1e-16 * h.abs() {
            break;
        }
    }
    h
}

/// Logarithm of the gamma function of a positive number (Lanczos, g = 7).
fn ln_gamma(x: f64) -> f64 {
    const SERIES: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let sum = SERIES.iter().zip(1..).fold(0.999_999_999_999_809_9, |sum, (c, i)| sum + c / (x + f64::from(i)));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_three_points() {
        let fit = fit_rule(&["x"], &[0.0, 1.0, 2.0], &[1.0, 2.0, 4.0]).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(fit.coefficients[0], 5.0 / 6.0) && near(fit.coefficients[1], 1.5), "{fit:?}");
        assert!(near(fit.sse, 1.0 / 6.0) && near(fit.r2, 27.0 / 28.0));
        assert_eq!(fit.rule(&[Column::TOKENS]).columns(), [Column::TOKENS]);
        assert!(near(fit.inflation[0], 1.0) && near(fit.inflation[1], 1.0), "{:?}", fit.inflation);
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let code = |names: &[&str], x: &[f64], y: &[f64]| fit_rule(names, x, y).unwrap_err().code();
        assert_eq!(code(&["x"], &[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), "fit/collinear");
        let error = fit_rule(&["a", "b", "c"], &THREE, &[1.0, 2.0, 3.0, 4.0, 6.0]).unwrap_err();
        assert_eq!(error.to_string(), "'c' is fixed by 'a', 'b': no fit can tell them apart");
        assert_eq!(code(&["x"], &[1.0, f64::NAN, 1.0], &[1.0, 2.0, 3.0]), "fit/not-finite");
        assert_eq!(code(&["x"], &[1.0, 2.0], &[1.0, 2.0]), "fit/shape");
    }

    /// Columns a, b and 2 a - b.
    const THREE: [f64; 15] = [1.0, 5.0, -3.0, 2.0, 1.0, 3.0, 3.0, 4.0, 2.0, 4.0, 0.0, 8.0, 7.0, 2.0, 12.0];

    #[test]
    fn two_columns_inflate_each_other() {
        // Correlation r of the two columns: 1 / (1 - r^2).
        let x = [0.0, 0.0, 1.0, 1.0, 2.0, 1.0, 3.0, 2.0];
        let fit = fit_rule(&["a", "b"], &x, &[1.0, 2.0, 2.5, 4.0]).unwrap();
        let r2: f64 = 9.0 / 10.0;
        assert!((fit.inflation[1] - 1.0 / (1.0 - r2)).abs() < 1e-9, "{:?}", fit.inflation);
        assert!((fit.inflation[1] - fit.inflation[2]).abs() < 1e-9);
    }

    #[test]
    fn student_by_table() {
        assert!((two_sided(12.706_204_736_174_7, 1.0) - 0.05).abs() < 1e-12);
        assert!((two_sided(1.0, 1.0) - 0.5).abs() < 1e-13);
        assert!((two_sided(2.228_138_851_986_274, 10.0) - 0.05).abs() < 1e-12);
    }
}
