//! Which entries of a tensor an update may change: one mechanism for freezing, LIFT, sparse fine-tuning and subnetworks
//! found by reinforcement learning. The update is masked, not the gradient, so that weight decay cannot move an entry
//! outside the mask; optimizer moments are kept for masked entries only.

pub mod delta;
pub mod lift;
mod linalg;
pub mod movement;
mod topk;

pub use linalg::{Svd, singular_values};
pub use topk::{top_k_global, top_k_of};

use curate_core::{Error, Result};

/// Flat indices of a tensor, ascending, no index twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(Vec<u32>);

impl Mask {
    /// A mask from indices in any order.
    #[must_use]
    pub fn new(mut indices: Vec<u32>) -> Self {
        indices.sort_unstable();
        indices.dedup();
        Self(indices)
    }

    /// The places where `chosen` says yes.
    ///
    /// # Errors
    /// `mask/too-large` when the tensor has more than 2^32 entries.
    pub fn of(len: usize, chosen: impl Fn(usize) -> bool) -> Result<Self> {
        fits(len)?;
        #[expect(clippy::cast_possible_truncation, reason = "checked by fits")]
        Ok(Self((0..len).filter(|i| chosen(*i)).map(|i| i as u32).collect()))
    }

    /// The indices, ascending.
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        &self.0
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing may change.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Check that every index lies in a tensor of `len` entries.
    ///
    /// # Errors
    /// `mask/range` naming the tensor.
    pub fn check(&self, name: &str, len: usize) -> Result<()> {
        match self.0.last() {
            Some(last) if *last as usize >= len => {
                Err(Error::data("mask/range", format!("the mask of '{name}' names entry {last} of {len}"))
                    .hint("the mask belongs to a model of another shape"))
            }
            _ => Ok(()),
        }
    }

    /// Number of entries in both.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> usize {
        let (mut i, mut j, mut both) = (0, 0, 0);
        while let (Some(a), Some(b)) = (self.0.get(i), other.0.get(j)) {
            both += usize::from(a == b);
            i += usize::from(a <= b);
            j += usize::from(b <= a);
        }
        both
    }

    /// Entries in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::new(self.0.iter().chain(&other.0).copied().collect())
    }

    /// Shared entries as a share of all entries of both; 1 for two empty masks.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn jaccard(&self, other: &Self) -> f64 {
        let both = self.overlap(other);
        match self.len() + other.len() - both {
            0 => 1.0,
            either => both as f64 / either as f64,
        }
    }
}

/// A tensor whose entries a `u32` can name.
fn fits(len: usize) -> Result<()> {
    if u32::try_from(len).is_ok() {
        return Ok(());
    }
    Err(Error::usage("mask/too-large", format!("a mask over a tensor of {len} entries"))
        .hint("masks reach 2^32 entries a tensor; leave this tensor out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_by_hand() {
        let (a, b) = (Mask::new(vec![5, 1, 3, 3]), Mask::new(vec![3, 4, 5]));
        assert_eq!(a.indices(), [1, 3, 5]);
        assert_eq!((a.overlap(&b), a.union(&b).indices()), (2, &[1, 3, 4, 5][..]));
        assert!((a.jaccard(&b) - 0.5).abs() < 1e-12);
        assert!((Mask::default().jaccard(&Mask::default()) - 1.0).abs() < 1e-12);
        assert_eq!(a.check("w", 5).unwrap_err().code(), "mask/range");
        assert!(a.check("w", 6).is_ok());
        assert_eq!(Mask::of(4, |i| i % 2 == 0).unwrap().indices(), [0, 2]);
    }
}
