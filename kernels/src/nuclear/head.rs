//! A head that does not change: nuclear norms of logits that are never formed.

use super::gram::{self, Gram, View};
use super::{careful, certified, check_finite, eigen, product};
use crate::backend::{Tick, check_len};
use crate::nn::{Mat, MatMut, gemm};
use crate::{KernelError, MatRef};

/// Rows of a head between two ticks.
const SLAB_ROWS: usize = 1 << 14;

/// A head that does not change: norms of logits from hidden states alone. Valid while the head and what follows the hidden states are frozen,
/// and the logits have neither bias nor soft cap.
#[derive(Clone, Debug)]
pub struct FrozenHead {
    dim: usize,
    /// `R^T`, `[dim, rank]`, and the same in single precision.
    root: Vec<f64>,
    single: Vec<f32>,
    /// Length of the longest row of `R`.
    longest: f64,
}

impl FrozenHead {
    /// Prepare a head, `[words, hidden]`; `tick` is told the rows done.
    ///
    /// # Errors
    /// [`KernelError::NotFinite`] with the first such row; [`KernelError::Stopped`].
    pub fn new(head: MatRef<'_>, tick: Tick<'_>) -> Result<Self, KernelError> {
        check_finite(head, "frozen head")?;
        let dim = head.dim();
        let mut sum = Gram::zero(dim);
        for start in (0..head.rows()).step_by(SLAB_ROWS) {
            let slab = head.slice(start..(start + SLAB_ROWS).min(head.rows()));
            sum.add(&gram::exact(&View { data: slab.data(), rows: dim, depth: slab.rows(), by_depth: true }));
            if !tick(slab.rows() as u64) {
                return Err(KernelError::Stopped);
            }
        }
        let rows = eigen::root(&sum);
        let root: Vec<f64> = (0..dim).flat_map(|t| rows.iter().skip(t).step_by(dim).copied()).collect();
        let longest =
            rows.chunks_exact(dim).map(|row| row.iter().map(|v| v * v).sum::<f64>()).fold(0.0, f64::max).sqrt();
        Ok(Self { dim, single: root.iter().map(|&v| v as f32).collect(), root, longest })
    }

    /// Length of a hidden state.
    #[must_use]
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// Rank of the head, within rounding.
    #[must_use]
    pub const fn rank(&self) -> usize {
        self.root.len() / self.dim
    }

    /// Nuclear norm of the logits of these hidden states, `[tokens, hidden]`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for another width; [`KernelError::NotFinite`] with the first such row.
    pub fn nuclear_norm(&self, hidden: MatRef<'_>) -> Result<f64, KernelError> {
        self.check(hidden)?;
        let (tokens, rank) = (hidden.rows(), self.rank());
        if tokens.min(rank) == 0 {
            return Ok(0.0);
        }
        if let Some(norm) = self.quick(hidden)? {
            return Ok(norm);
        }
        careful(&oriented(&product::times(hidden, &self.root, rank), tokens, rank))
    }

    /// Whether these hidden states can be taken.
    pub(crate) fn check(&self, hidden: MatRef<'_>) -> Result<(), KernelError> {
        check_len("nuclear_norm", "columns", self.dim, hidden.dim())?;
        check_finite(hidden, "nuclear_norm")
    }

    /// `R^T`, `[dim, rank]`.
    pub(crate) fn root(&self) -> &[f64] {
        &self.root
    }

    /// Products in f32 of the hidden states less one near their mean, whose own image is put back: its rounding is of rank one.
    fn quick(&self, hidden: MatRef<'_>) -> Result<Option<f64>, KernelError> {
        let (tokens, rank, dim) = (hidden.rows(), self.rank(), self.dim);
        let mean = near_mean(hidden);
        let mut rows: Vec<f32> = Vec::with_capacity((tokens + 1) * dim);
        hidden.data().chunks_exact(dim).for_each(|row| rows.extend(row.iter().zip(&mean).map(|(x, m)| x - m)));
        let length = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        let longest = rows.chunks_exact(dim).map(length).fold(0.0, f64::max).sqrt();
        rows.extend(&mean);
        let mut images = vec![0f32; (tokens + 1) * rank];
        let (a, b) = (Mat::new(&rows, tokens + 1, dim), Mat::new(&self.single, dim, rank));
        gemm(MatMut::new(&mut images, tokens + 1, rank), 0.0, 1.0, a, b);
        let (images, own) = images.split_at(tokens * rank);
        let put_back =
            images.chunks_exact(rank).flat_map(|row| row.iter().zip(own).map(|(&v, &m)| f64::from(v) + f64::from(m)));
        let gram = gram::exact(&oriented(&put_back.collect::<Vec<f64>>(), tokens, rank));
        if !gram.is_finite() {
            return Ok(None);
        }
        let entry = f64::from(f32::EPSILON) / 2.0 * longest * self.longest;
        let bulk = entry * ((tokens as f64).sqrt() + (rank as f64).sqrt());
        let error = |value: f64| {
            let singular = value.sqrt();
            if singular > 8.0 * bulk { 2.0 * singular * entry } else { (2.0 * singular + bulk) * bulk }
        };
        Ok(certified(&eigen::values(&gram)?, error))
    }
}

/// The smaller side first.
fn oriented(x: &[f64], rows: usize, columns: usize) -> View<'_, f64> {
    View { data: x, rows: rows.min(columns), depth: rows.max(columns), by_depth: rows > columns }
}

/// Mean of some of the rows.
fn near_mean(x: MatRef<'_>) -> Vec<f32> {
    let apart = x.rows().div_ceil(gram::MEAN_ROWS);
    let mut sums = vec![0.0; x.dim()];
    for row in x.data().chunks_exact(x.dim()).step_by(apart) {
        sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    sums.iter().map(|sum| (sum / x.rows().div_ceil(apart) as f64) as f32).collect()
}
