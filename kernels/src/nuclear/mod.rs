//! Nuclear norms: the sum of the singular values of logits, from the logits or without ever forming them.
//!
//! `|X|_* = sum sqrt(eig(X X^T))`, on the smaller side. From a frozen head: logits are `H W^T`, `W^T W = R^T R`, so the norm is
//! that of `H R^T` (tokens by hidden). Source: own algebra; Golub and Van Loan, sections 8.3 (eigenvalues), 4.2 (pivoted Cholesky). A Gram matrix squares
//! its errors, so each attempt is followed by an estimate of what its rounding may have done to the sum, and by a better one where
//! that is above 2e-7 of it: products in f32 of rows less their mean (a direction shared by all tokens is split off exactly);
//! products in f64; the small singular values again, on rows projected away from the large ones. The same bits for any number of threads.
//! Cost, t tokens, v words, width d: t^2 v + t^3 from logits; v d^2 + d^3 once for a head, then t d^2 + t^2 d + t^3.

mod eigen;
mod gram;
mod head;
mod product;
mod sketch;

use crate::{KernelError, MatRef};
use gram::{Gram, View};
pub use head::FrozenHead;
pub use sketch::{HeadSketch, Side, Sketch};

/// Estimated error, as a share of the norm, that is good enough.
const GOOD: f64 = 2e-7;
/// Eigenvalues below this share of the largest are computed again when the estimate is not good enough.
const SMALL: f64 = 1e-6;
/// Sum of the singular values of `x`, such as the logits of a text: `[tokens, words]`.
///
/// # Errors
/// [`KernelError::NotFinite`] with the first row that holds NaN or infinity.
pub fn nuclear_norm(x: MatRef<'_>) -> Result<f64, KernelError> {
    let view = View {
        data: x.data(),
        rows: x.rows().min(x.dim()),
        depth: x.rows().max(x.dim()),
        by_depth: x.rows() > x.dim(),
    };
    if view.rows == 0 {
        return Ok(0.0);
    }
    if !view.by_depth && view.rows <= gram::FEW_ROWS {
        let gram = gram::centred(&view);
        if gram.is_finite()
            && let Some(norm) = certified(&eigen::values(&gram)?, |value| gram.error(value))
        {
            return Ok(norm);
        }
    }
    check_finite(x, "nuclear_norm")?;
    careful(&view)
}

/// Rows up to which a device may find the eigenvalues.
pub(crate) const FEW_ROWS: usize = gram::FEW_ROWS;
/// Every so-manieth row makes the mean that a device splits off, of so many rows.
pub(crate) const fn mean_step(rows: usize) -> usize {
    rows.div_ceil(gram::MEAN_ROWS)
}

/// The norm of `x` from the eigenvalues of its Gram matrix as a device found them, products in f32 of rows less their mean, whose largest
/// square is `own`; computed here where their rounding may have done too much.
///
/// # Errors
/// As [`nuclear_norm`].
pub(crate) fn from_values(x: MatRef<'_>, values: &[f64], own: f64) -> Result<f64, KernelError> {
    let gram = Gram::rounded(own);
    if own.is_finite()
        && values.iter().all(|v| v.is_finite())
        && let Some(norm) = certified(values, |value| gram.error(value))
    {
        return Ok(norm);
    }
    check_finite(x, "nuclear_norm")?;
    careful(&View { data: x.data(), rows: x.rows(), depth: x.dim(), by_depth: false })
}

/// In double precision; the small singular values twice where that is not enough.
fn careful<T: Copy + Into<f64> + Sync>(view: &View<'_, T>) -> Result<f64, KernelError> {
    let gram = gram::exact(view);
    let values = eigen::values(&gram)?;
    if let Some(norm) = certified(&values, |_| 0.0) {
        return Ok(norm);
    }
    let pairs = eigen::vectors(&gram)?;
    let edge = SMALL * pairs.values.iter().copied().fold(0.0, f64::max);
    let large: f64 = pairs.values.iter().filter(|&&v| v > edge).map(|v| v.sqrt()).sum();
    let rows: Vec<f64> = pairs.rows_where(|v| v <= edge);
    if rows.is_empty() {
        return Ok(large);
    }
    let tail = gram::projected(view, &rows);
    Ok(large + eigen::values(&tail)?.iter().map(|v| v.max(0.0).sqrt()).sum::<f64>())
}

/// The norm, if rounding is not likely to have changed it by more than [`GOOD`]; `error` is what rounding in f32 may have done to an eigenvalue.
pub(crate) fn certified(values: &[f64], error: impl Fn(f64) -> f64) -> Option<f64> {
    let largest = values.iter().copied().fold(0.0, f64::max);
    let double = 8.0 * f64::EPSILON * largest;
    let (mut norm, mut doubt) = (0.0, 0.0);
    for &value in values {
        let singular = value.max(0.0).sqrt();
        let error = double + error(value.max(0.0));
        norm += singular;
        doubt += if value > error { error / (2.0 * singular) } else { error.sqrt() };
    }
    (doubt <= GOOD * norm || largest == 0.0).then_some(norm)
}

fn check_finite(x: MatRef<'_>, op: &'static str) -> Result<(), KernelError> {
    match x.data().iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(KernelError::NotFinite { op, row: at / x.dim() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagonal_by_hand() {
        let data = [3.0, 0.0, 0.0, 0.0, -4.0, 0.0];
        let norm = |data: &[f32], dim| nuclear_norm(MatRef::new(data, dim).unwrap()).unwrap();
        assert!((norm(&data, 3) - 7.0).abs() < 1e-6);
        assert!((norm(&[3.0, 4.0], 1) - 5.0).abs() < 1e-12);
        assert_eq!(norm(&[0.0; 6], 2), 0.0);
        assert_eq!(norm(&[], 4), 0.0);
    }

    #[test]
    fn a_head_by_hand() {
        let head = FrozenHead::new(MatRef::new(&[2.0, 0.0, 0.0, 1.0, 0.0, 0.0], 2).unwrap(), &|_| true).unwrap();
        assert_eq!((head.dim(), head.rank()), (2, 2));
        let norm = head.nuclear_norm(MatRef::new(&[1.0, 0.0, 0.0, 3.0], 2).unwrap()).unwrap();
        assert!((norm - 5.0).abs() < 1e-12);
        assert!(head.nuclear_norm(MatRef::new(&[1.0], 1).unwrap()).is_err());
    }
}
