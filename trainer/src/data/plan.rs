//! Which sequences form which batch, epoch after epoch, and where a stopped run goes on.

use super::{Packing, pack};
use crate::{Batch, Sequence};
use curate_core::{Ctx, Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// A place in the plan: the next group to be given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Groups given out in this epoch.
    pub offset: u64,
}

/// Groups of sequences that stay together, and how many groups form a micro-batch. The order of an epoch is a permutation
/// drawn from (seed, epoch) alone, so a cursor is all that a checkpoint must hold.
#[derive(Clone)]
pub struct Plan {
    groups: Vec<Vec<usize>>,
    batch_size: usize,
    ctx: Ctx,
    last: Arc<Mutex<Option<Order>>>,
}

/// The order of an epoch, kept until another is asked for.
type Order = (u64, Arc<[usize]>);

impl Plan {
    /// A plan over sequences of these lengths: `batch_size` rows a batch, or bins of `max_length` tokens.
    ///
    /// # Errors
    /// `data/batch-size` when it is 0, `data/too-long`.
    pub fn new(lengths: &[usize], packing: (Packing, usize), batch_size: usize, ctx: &Ctx) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::usage("data/batch-size", "batch_size is 0").hint("set batch_size to 1 or more"));
        }
        let groups = match packing {
            (Packing::None, _) => (0..lengths.len()).map(|at| vec![at]).collect(),
            (Packing::Bfd, max_length) => pack(lengths, max_length)?,
        };
        Ok(Self { groups, batch_size, ctx: ctx.labelled("batches"), last: Arc::default() })
    }

    /// Groups: rows, or bins.
    #[must_use]
    pub const fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Micro-batches of an epoch; the last may be smaller.
    #[must_use]
    pub const fn batches_per_epoch(&self) -> usize {
        self.groups.len().div_ceil(self.batch_size)
    }

    /// The groups in the order of an epoch (Fisher-Yates).
    #[must_use]
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut rng = self.ctx.rng("order", epoch);
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        for last in (1..order.len()).rev() {
            let other = usize::try_from(rng.below(last as u64 + 1)).unwrap_or(last);
            order.swap(last, other);
        }
        order
    }

    /// The order of an epoch, drawn once however often the plan is fed.
    fn kept_order(&self, epoch: u64) -> Arc<[usize]> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, order) = match last.take() {
            Some(kept) if kept.0 == epoch => last.insert(kept),
            _ => last.insert((epoch, self.order(epoch).into())),
        };
        order.clone()
    }

    /// Give out batches from `cursor` on.
    ///
    /// # Errors
    /// `data/cursor` when the plan has no such place.
    pub fn feed(&self, cursor: Cursor) -> Result<Feed<'_>> {
        if self.groups.is_empty() || cursor.offset >= self.groups.len() as u64 {
            let (offset, groups) = (cursor.offset, self.groups.len());
            return Err(Error::data("data/cursor", format!("place {offset} of an epoch with {groups} groups"))
                .hint("the checkpoint belongs to other data; start again without it"));
        }
        Ok(Feed { plan: self, cursor })
    }
}

/// Batches without end, epoch after epoch.
pub struct Feed<'a> {
    plan: &'a Plan,
    cursor: Cursor,
}

impl Feed<'_> {
    /// Where the next batch begins.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Indices of the sequences of the next batch. A batch never reaches into the next epoch.
    pub fn next_indices(&mut self) -> Vec<usize> {
        let order = self.plan.kept_order(self.cursor.epoch);
        let first = usize::try_from(self.cursor.offset).unwrap_or(usize::MAX).min(order.len());
        let last = order.len().min(first + self.plan.batch_size);
        let groups = order[first..last].iter().map(|&group| &self.plan.groups[group]);
        let indices = groups.flatten().copied().collect();
        let (epoch, ended) = (self.cursor.epoch, last == order.len());
        self.cursor =
            if ended { Cursor { epoch: epoch + 1, offset: 0 } } else { Cursor { epoch, offset: last as u64 } };
        indices
    }

    /// The next batch. An index beyond `sequences` is left out: the plan must have been made for them.
    pub fn next_batch(&mut self, sequences: &[Sequence]) -> Batch {
        let indices = self.next_indices();
        Batch::of(indices.iter().filter_map(|&at| sequences.get(at)))
    }
}
