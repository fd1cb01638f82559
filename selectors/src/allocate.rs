//! Shares a budget out over groups: proportional to weights, never more than a group holds, whole rows only.
//!
//! `target_j = r w_j / sum w` over the groups still open; a group whose target reaches its cap gets the cap and leaves,
//! and the rest is shared again; when no group reaches its cap: floor, then one row each by largest remainder.
//! Source: own definition for Diversify and Conquer (section 2.1 gives the proportional form only); largest remainder is
//! Hamilton's apportionment. Deviation: groups of weight 0 get what nobody else can hold, in proportion to their caps,
//! so that a budget which fits is always met. Cost: K^2 in the worst case, K log K as a rule.

/// Rows given to each group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Rows of each group.
    pub rows: Vec<u64>,
    /// Part of the budget that no group could hold.
    pub shortfall: u64,
}

/// Share `budget` rows out in proportion to `weights` under `caps`. A weight that is not above 0 counts as 0.
///
/// # Panics
/// When there are more weights than caps, like slice indexing.
#[must_use]
pub fn allocate(weights: &[f64], caps: &[u64], budget: u64) -> Allocation {
    let open = budget.min(caps.iter().sum());
    let mut rows = vec![0; caps.len()];
    let weighted = |j: &usize| weights[*j] > 0.0 && caps[*j] > 0;
    let left = fill(&mut rows, (0..caps.len()).filter(weighted).collect(), weights, caps, open);
    let by_cap: Vec<f64> = caps.iter().map(|&cap| float(cap)).collect();
    let others = (0..caps.len()).filter(|j| !weighted(j) && caps[*j] > 0).collect();
    fill(&mut rows, others, &by_cap, caps, left);
    Allocation { shortfall: budget - open, rows }
}

/// Every group the same number of rows, `budget div K`, as far as it has them: the published code. The rest is lost.
#[must_use]
pub fn reference_floor(sizes: &[u64], budget: u64) -> Allocation {
    let each = budget.checked_div(sizes.len() as u64).unwrap_or(0);
    let rows: Vec<u64> = sizes.iter().map(|&size| size.min(each)).collect();
    Allocation { shortfall: budget - rows.iter().sum::<u64>(), rows }
}

/// Give out `open` rows among the `active` groups; returns what they could not hold.
fn fill(rows: &mut [u64], mut active: Vec<usize>, weights: &[f64], caps: &[u64], mut open: u64) -> u64 {
    while open > 0 && !active.is_empty() {
        let sum: f64 = active.iter().map(|&j| weights[j]).sum();
        let share = float(open);
        let target = |j: usize| share * weights[j] / sum;
        let (full, rest): (Vec<usize>, Vec<usize>) = active.iter().partition(|&&j| target(j) >= float(caps[j]));
        if full.is_empty() {
            largest_remainder(rows, &rest, target, open);
            return 0;
        }
        for j in full {
            rows[j] = caps[j].min(open);
            open -= rows[j];
        }
        active = rest;
    }
    open
}

/// Whole parts of the targets, then one row each to the largest fractions (rounded to 1e-9; ties: lowest index).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= target < cap")]
fn largest_remainder(rows: &mut [u64], active: &[usize], target: impl Fn(usize) -> f64, mut open: u64) {
    let mut fractions = Vec::with_capacity(active.len());
    for &j in active {
        let whole = target(j).floor();
        rows[j] = (whole as u64).min(open);
        open -= rows[j];
        fractions.push((((target(j) - whole) * 1e9).round() as u64, j));
    }
    fractions.sort_by_key(|&(fraction, j)| (std::cmp::Reverse(fraction), j));
    for &(_, j) in fractions.iter().take(usize::try_from(open).unwrap_or(usize::MAX)) {
        rows[j] += 1;
    }
}

#[expect(clippy::cast_precision_loss, reason = "row counts stay far below 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_rows_for_two_groups_of_two_and_eight() {
        assert_eq!(allocate(&[2.0, 8.0], &[2, 8], 5).rows, [1, 4]);
        assert_eq!(allocate(&[1.0, 1.0], &[2, 8], 5).rows, [2, 3], "the cap of 2 is no loss: the rest goes on");
        assert_eq!(reference_floor(&[1, 8], 5), Allocation { rows: vec![1, 2], shortfall: 2 });
    }

    #[test]
    fn weightless_groups_take_only_what_is_left() {
        assert_eq!(allocate(&[0.0, 1.0, 0.0], &[4, 3, 2], 6), Allocation { rows: vec![2, 3, 1], shortfall: 0 });
        assert_eq!(allocate(&[0.0, f64::NAN], &[1, 1], 3), Allocation { rows: vec![1, 1], shortfall: 1 });
        assert_eq!(allocate(&[], &[], 3), Allocation { rows: vec![], shortfall: 3 });
        assert_eq!(reference_floor(&[], 3).shortfall, 3);
    }
}
