//! Packs sequences into bins of a fixed length, so that every batch has about the same number of tokens.
//!
//! Best fit decreasing: longest first, each into the fullest bin that still has room, else into a new one; ties go to the
//! lower index. Bins are groups only: attention never crosses from one sequence to another, so no loss changes.
//! Source: Johnson 1974 (at most 11/9 of the best number of bins plus 4); TRL's `bfd`. Cost: O(n log n) time, O(n) memory.

use curate_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Which sequences share a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// Each row for itself: `batch_size` counts rows.
    #[default]
    None,
    /// Best fit decreasing: `batch_size` counts bins of `max_length` tokens.
    Bfd,
}

/// Indices of sequences by bin; every bin holds at most `max_length` tokens.
///
/// # Errors
/// `data/too-long` for a sequence that fits into no bin.
pub fn pack(lengths: &[usize], max_length: usize) -> Result<Vec<Vec<usize>>> {
    if let Some(at) = lengths.iter().position(|length| *length > max_length) {
        let length = lengths[at];
        return Err(Error::data("data/too-long", format!("sequence {at} has {length} tokens, a bin {max_length}"))
            .hint("cut sequences to max_length first"));
    }
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&at| (Reverse(lengths[at]), at));
    let mut bins: Vec<Vec<usize>> = Vec::new();
    let mut room: BTreeSet<(usize, usize)> = BTreeSet::new();
    for at in order {
        let fit = room.range((lengths[at], 0)..).next().copied();
        let (free, bin) = fit.unwrap_or((max_length, bins.len()));
        room.remove(&(free, bin));
        if bin == bins.len() {
            bins.push(Vec::new());
        }
        bins[bin].push(at);
        room.insert((free - lengths[at], bin));
    }
    Ok(bins)
}
