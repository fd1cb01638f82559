//! Activations of the rows just probed, so that a step on some of them needs no forward pass of its own.
//!
//! They are good for as long as the weights stand; how many bytes may lie here is the caller's word. What does not fit is not kept
//! and is computed again. Source: own work. Cost: one copy of the chosen rows' activations.

use crate::model::{Model, Part, Trace};
use crate::{Batch, Sequence};

/// Passes of one probe.
#[derive(Default)]
pub(super) struct Shelf {
    passes: Vec<(Vec<Sequence>, Batch, Trace)>,
    bytes: u64,
}

impl Shelf {
    /// Give everything back.
    pub(super) fn clear(&mut self, model: &Model) {
        self.bytes = 0;
        self.passes.drain(..).for_each(|(_, _, trace)| model.release(trace));
    }

    /// Keep a pass if it fits; where it does not it is given back.
    pub(super) fn put(&mut self, model: &Model, rows: &[Sequence], (batch, trace): (Batch, Trace), limit_bytes: u64) {
        let bytes = self.bytes + trace.bytes();
        if bytes > limit_bytes {
            return model.release(trace);
        }
        self.bytes = bytes;
        self.passes.push((rows.to_vec(), batch, trace));
    }

    /// A pass over these rows put together from what is kept; none unless all are there and have the bits of a pass of their own.
    pub(super) fn take(&self, model: &Model, rows: &[Sequence]) -> Option<Trace> {
        let parts = rows.iter().map(|row| self.find(row)).collect::<Option<Vec<_>>>()?;
        let fewest =
            parts.iter().map(|(trace, _)| trace.tokens()).chain([rows.iter().map(|r| r.tokens.len()).sum()]).min();
        fewest.is_some_and(|tokens| model.stands_apart(tokens)).then(|| model.gather(&parts))
    }

    fn find(&self, row: &Sequence) -> Option<Part<'_>> {
        self.passes.iter().find_map(|(rows, batch, trace)| {
            let at = rows.iter().position(|kept| kept == row)?;
            Some((trace, batch.segments[at].clone()))
        })
    }
}
