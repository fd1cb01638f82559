//! One order of preference over the whole pool: what methods without groups share.

use crate::limit::Limit;
use curate_core::{Assessment, Pick, Result, Selection};

/// All positions, best first.
pub(crate) struct Ranking<'a> {
    ids: &'a [u64],
    order: Vec<usize>,
}

impl<'a> Ranking<'a> {
    /// Order positions by falling `preference`, ties by row id.
    pub(crate) fn by<K: Ord>(ids: &'a [u64], preference: impl Fn(usize) -> K) -> Self {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_cached_key(|&p| (std::cmp::Reverse(preference(p)), ids[p]));
        Self { ids, order }
    }

    /// The beginning of the order that meets the limit; `score` is one number a position, `reason` is told position and rank (from 1).
    pub(crate) fn select(
        &self,
        limit: &Limit,
        score: &[f32],
        reason: impl Fn(usize, usize) -> String,
    ) -> Result<Selection> {
        let count = limit.prefix(&self.order)?;
        let pick = |(&position, rank): (&usize, usize)| Pick {
            row: self.ids[position],
            score: score[position],
            weight: 1.0,
            group: None,
            reason: reason(position, rank),
        };
        Ok(Selection {
            picks: self.order[..count].iter().zip(1..).map(pick).collect(),
            assessment: Some(self.assessment(score)),
            ..Selection::default()
        })
    }

    fn assessment(&self, score: &[f32]) -> Assessment {
        let mut place = vec![0; self.ids.len()];
        for (&position, at) in self.order.iter().zip(1..) {
            place[position] = at;
        }
        Assessment { row: self.ids.to_vec(), score: score.to_vec(), place, ..Assessment::default() }
    }
}

/// A finite number as a key that sorts like it (as `total_cmp` does).
pub(crate) const fn sortable(value: f32) -> i32 {
    let bits = value.to_bits().cast_signed();
    bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_like_numbers() {
        let numbers = [f32::NEG_INFINITY, -2.0, -0.0, 0.0, 1e-40, 3.0, f32::INFINITY];
        assert!(numbers.windows(2).all(|w| sortable(w[0]) < sortable(w[1])));
    }

    #[test]
    fn ties_go_to_the_lower_id() {
        let ids = [9, 4, 6];
        let selection = Ranking::by(&ids, |p| [1, 1, 2][p]).select(&Limit::Rows(2), &[0.0; 3], |_, _| String::new());
        assert_eq!(selection.unwrap().rows(), [6, 4]);
    }
}
