//! The `k` smallest of many keys, in order, found over fixed blocks in parallel.
//!
//! A block keeps at most `2 k` entries and throws away what cannot be among its `k` smallest; the blocks' answers are
//! merged. Entries are ordered by (key, position), so that blocks and threads cannot matter.
//! Cost: about n + b k ln(n / k) steps for b blocks.

use rayon::prelude::*;

/// Positions of a block.
pub(crate) const BLOCK: usize = 1 << 14;

/// Positions of the `k` smallest keys among `0..n`, smallest first, ties to the lower position.
pub(crate) fn smallest(n: usize, k: usize, key: impl Fn(usize) -> u64 + Sync) -> Vec<usize> {
    let starts: Vec<usize> = (0..n).step_by(BLOCK).collect();
    let of_block = |&start: &usize| block(start..n.min(start + BLOCK), k, &key);
    let mut found: Vec<(u64, usize)> = starts.par_iter().flat_map_iter(of_block).collect();
    keep(&mut found, k);
    found.sort_unstable();
    found.into_iter().map(|(_, position)| position).collect()
}

fn block(positions: std::ops::Range<usize>, k: usize, key: impl Fn(usize) -> u64) -> Vec<(u64, usize)> {
    let (mut kept, mut bound) = (Vec::new(), None);
    for position in positions {
        let key = key(position);
        if bound.is_none_or(|bound| key < bound) {
            kept.push((key, position));
            if kept.len() >= 2 * k {
                bound = keep(&mut kept, k);
            }
        }
    }
    keep(&mut kept, k);
    kept
}

/// Keep the `k` smallest; their largest key if any were dropped.
fn keep(entries: &mut Vec<(u64, usize)>, k: usize) -> Option<u64> {
    if entries.len() <= k {
        return None;
    }
    let (_, &mut (bound, _), _) = entries.select_nth_unstable(k.checked_sub(1)?);
    entries.truncate(k);
    Some(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_sorting() {
        let n = 3 * BLOCK + 17;
        let key = |p: usize| (p as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50;
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&p| (key(p), p));
        for k in [1, 2, 255, BLOCK, n - 1, n] {
            assert_eq!(smallest(n, k, key), order[..k], "{k}");
        }
    }
}
